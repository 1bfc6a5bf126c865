//! Models whose circuit is known because it was put there: ground truth for methods that find circuits.
//!
//! Each is a [`program::Program`] (variables of the residual stream, heads and MLPs that read and write them), compiled into
//! the weights of an ordinary model, with distractors in all other places, a generator of prompt pairs, and the true edges,
//! which follow from what is read and written. Corruptions are such that every true edge, patched by itself, changes the
//! metric.
//!
//! In the style of Tracr (Lindner et al., arXiv:2301.05062) and InterpBench (Gupta et al., arXiv:2407.14494).
//! Cost: models of 2 or 3 layers with 4 heads and at most 262 edges; a millisecond to compile.

mod compile;
mod distract;
mod greater_than;
mod induction;
mod ioi;
pub mod marks;
pub mod program;
mod proportion;
pub mod rates;
mod reverse;

use crate::dataset::TokenPair;
use crate::error::{Hint, nearest};
use crate::graph::mask::EdgeMask;
use crate::graph::{Dimensions, Graph, KvSlots};
use crate::metric::MetricKind;
use crate::model::Model;
use crate::task::PromptPair;
use indexmap::IndexMap;
use program::Program;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The compiled models.
pub const NAMES: [&str; 5] = ["induction", "ioi", "greater-than", "reverse", "proportion"];

/// A compiled model with what is known of it.
pub struct Known {
    pub name: &'static str,
    pub model: Model,
    pub graph: Graph,
    /// The edges that carry what the logits depend on; those of `noise` are not among them.
    pub truth: EdgeMask,
    pub metric: MetricKind,
    /// What the model does, in a sentence.
    pub about: &'static str,
    draw: Draw,
}

/// How a model is compiled.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Choice {
    /// With LayerNorms, else without any norm.
    pub norm: bool,
    /// How much the logits see of the distractors: about the standard deviation of what they add to a logit, whose values for
    /// the right answer are near 6. None of it is in the truth.
    pub noise: f64,
    /// Of the weights of distractors.
    pub seed: u64,
}

#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum TruthError {
    #[error("no compiled model is called `{0}`")]
    UnknownModel(String),
    #[error("noise of {0} is not a number from 0 up")]
    Noise(f64),
}

impl Hint for TruthError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            TruthError::UnknownModel(name) => match nearest(name, NAMES) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the compiled models are {}", NAMES.join(", ")),
            },
            TruthError::Noise(_) => "take 0 for none, or a number below 1 for a little".into(),
        })
    }
}

/// Draws a pair.
type Draw = fn(&mut ChaCha8Rng) -> Drawn;

/// A pair as tokens: prompts of one length, right and wrong answers.
struct Drawn {
    clean: Vec<u32>,
    corrupt: Vec<u32>,
    right: Vec<u32>,
    wrong: Vec<u32>,
}

/// What a file of this folder knows of its model.
struct Task {
    program: Program,
    metric: MetricKind,
    about: &'static str,
    draw: Draw,
}

/// Compiles the model of that name.
///
/// # Errors
/// [`TruthError`] for a name that none has and for a negative noise.
pub fn known(name: &str, choice: &Choice) -> Result<Known, TruthError> {
    let index = NAMES.iter().position(|known| *known == name);
    let index = index.ok_or_else(|| TruthError::UnknownModel(name.to_owned()))?;
    if !(choice.noise >= 0.0 && choice.noise.is_finite()) {
        return Err(TruthError::Noise(choice.noise));
    }
    let tasks = [induction::task, ioi::task, greater_than::task, reverse::task, proportion::task];
    let Task { mut program, metric, about, draw } = tasks[index]();
    let mut random = ChaCha8Rng::seed_from_u64(choice.seed);
    let junk = distract::distract(&mut program, &mut random);
    let (layers, heads) = (program.layers.len(), program.layers[0].heads.len());
    let dimensions = Dimensions::new(layers, heads);
    let graph = Graph::new(dimensions);
    let truth = program.edges(&graph);
    // After the truth is known: what the logits see of distractors is no part of the program.
    let answers = program.logits.outputs();
    program.logits.parts.push(distract::noise(junk, answers, choice.noise, &mut random));
    let model = compile::compile(&program, choice.norm);
    debug_assert_eq!(Dimensions::of(&model.spec, KvSlots::default()), dimensions);
    Ok(Known { name: NAMES[index], model, graph, truth, metric, about, draw })
}

impl Known {
    /// So many pairs; the same seed gives the same ones, and fewer are the first of more.
    pub fn pairs(&self, count: usize, seed: u64) -> Vec<TokenPair> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        (0..count).map(|_| (self.draw)(&mut random).pair(self.name)).collect()
    }
}

impl Drawn {
    /// The text of a prompt is its tokens' numbers.
    fn pair(self, name: &str) -> TokenPair {
        let Drawn { clean, corrupt, right, wrong } = self;
        let last = clean.len() - 1;
        let first_difference = clean.iter().zip(&corrupt).position(|(clean, corrupt)| clean != corrupt).unwrap_or(last);
        let words = |tokens: &[u32]| tokens.iter().map(u32::to_string).collect::<Vec<_>>();
        let prompt = PromptPair {
            clean: words(&clean).join(" "),
            corrupt: words(&corrupt).join(" "),
            right: words(&right),
            wrong: words(&wrong),
            frame: name.into(),
            corruption: name.into(),
            positions: IndexMap::new(),
        };
        let positions = IndexMap::from([("end".to_owned(), last..last + 1)]);
        TokenPair { clean, corrupt, right, wrong, first_difference, positions, prompt }
    }
}

/// Different numbers from 0 to `below` in random order.
fn some(count: usize, below: u32, random: &mut ChaCha8Rng) -> Vec<u32> {
    let mut all: Vec<u32> = (0..below).collect();
    all.shuffle(random);
    all.truncate(count);
    all
}

/// A number from `least` to `most`.
fn between(least: usize, most: usize, random: &mut ChaCha8Rng) -> usize {
    random.random_range(least as u64..=most as u64) as usize
}
