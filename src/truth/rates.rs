//! How often the tests of a circuit are right, where it is known what is true: on compiled models, over fresh pairs.
//!
//! The true circuit should fail a test no more often than the level says (the size of the test); a circuit that lacks an edge,
//! or a whole way, or has an edge too many should fail one (its power). No test sees everything: a missing edge leaves nothing
//! superfluous, so minimality cannot see it, and what is left of a chain that lost one link says nothing, so independence sees
//! only whole ways that are missing.

use super::Known;
use crate::circuit::EdgeMask;
use crate::circuit::evidence::Hypothesis;
use crate::circuit::prune::prune;
use crate::eval::needless::with_one_more;
use crate::eval::{Bench, Evidence, evidence};
use crate::graph::{Destination, Graph, Level, Source};
use crate::measure::memory::MemoryError;
use crate::score::Problem;
use rand::SeedableRng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// A circuit of which it is known what is wrong with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Variant {
    True,
    /// Without one of its edges, each in turn.
    WithoutAnEdge,
    /// Without one of several ways from the input to the logits, where there are several.
    WithoutAWay,
    /// With an edge between its nodes that does nothing for the task.
    WithAnEdgeMore,
}

impl Variant {
    pub const ALL: [Variant; 4] =
        [Variant::True, Variant::WithoutAnEdge, Variant::WithoutAWay, Variant::WithAnEdgeMore];

    pub fn name(self) -> &'static str {
        match self {
            Variant::True => "true circuit",
            Variant::WithoutAnEdge => "without an edge",
            Variant::WithoutAWay => "without a way",
            Variant::WithAnEdgeMore => "with an edge more",
        }
    }

    /// The circuit of a repetition; none where the model has none of this kind.
    fn circuit(self, known: &Known, repetition: usize) -> Option<EdgeMask> {
        let Known { graph, truth, .. } = known;
        match self {
            Variant::True => Some(truth.clone()),
            Variant::WithoutAnEdge => {
                let edges = truth.edges(graph);
                let mut without = truth.clone();
                without.remove(*edges.get(repetition % edges.len().max(1))?);
                Some(without)
            }
            Variant::WithoutAWay => without_a_way(graph, truth, repetition as u64),
            Variant::WithAnEdgeMore => with_one_more(graph, Level::Edge, truth, 1, repetition as u64).pop(),
        }
    }
}

/// What is left of a circuit without one of the ways that lead through it, if another one is. A way takes one source for
/// every slot, from the logits down; which one, the seed says.
fn without_a_way(graph: &Graph, circuit: &EdgeMask, seed: u64) -> Option<EdgeMask> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut left = circuit.clone();
    let mut slots = vec![graph.destinations() - 1]; // the logits
    while let Some(slot) = slots.pop() {
        let column = circuit.0.column(slot);
        let sources: Vec<usize> = (1..graph.sources()).filter(|&source| column[source]).collect();
        let Some(&source) = sources.choose(&mut random) else { continue };
        left.0.row_mut(source).fill(false);
        let reads = |&slot: &usize| graph.readers(graph.slot(Destination(slot))) == [graph.node(Source(source))];
        slots.extend((0..graph.destinations()).filter(reads));
    }
    Some(prune(graph, &left)).filter(|left| left.count() > 0)
}

/// How the rates are measured.
#[derive(Clone, Copy, Debug)]
pub struct Repetitions {
    pub repetitions: usize,
    /// Fresh pairs of each.
    pub pairs: usize,
    pub random_circuits: usize,
    pub seed: u64,
}

/// How often a circuit failed each test.
#[derive(Clone, Debug)]
pub struct Rates {
    pub variant: Variant,
    pub repetitions: usize,
    /// In the order of [`Hypothesis::ALL`].
    pub failed: [usize; 5],
    /// At least one of them.
    pub failed_any: usize,
}

/// The rates of every variant that the model has. `progress` is told how much of the work is done, from 0 to 1.
///
/// # Errors
/// [`MemoryError`].
pub fn rates(known: &Known, how: &Repetitions, progress: &mut dyn FnMut(f64)) -> Result<Vec<Rates>, MemoryError> {
    let empty = |variant| Rates { variant, repetitions: 0, failed: [0; 5], failed_any: 0 };
    let mut found = Variant::ALL.map(empty);
    let steps = (how.repetitions * found.len()).max(1) as f64;
    for repetition in 0..how.repetitions {
        let seed = how.seed.wrapping_add(repetition as u64);
        let pairs = known.pairs(how.pairs, seed);
        let bench = Bench::new(&Problem::new(&known.model, &known.graph, &pairs, known.metric))?;
        let question = Evidence {
            bench: &bench,
            graph: &known.graph,
            level: Level::Edge,
            metric: known.metric.name(),
            seed,
            random_circuits: how.random_circuits,
        };
        for (index, of) in found.iter_mut().enumerate() {
            progress((repetition * Variant::ALL.len() + index) as f64 / steps);
            let Some(circuit) = of.variant.circuit(known, repetition) else { continue };
            let tests = evidence(&question, &circuit, &mut |_| ()).tests;
            let failed = |hypothesis| tests.iter().any(|test| test.hypothesis == hypothesis && !test.holds());
            let failed = Hypothesis::ALL.map(failed);
            of.repetitions += 1;
            of.failed_any += usize::from(failed.contains(&true));
            for (count, failed) in of.failed.iter_mut().zip(failed) {
                *count += usize::from(failed);
            }
        }
    }
    Ok(found.into_iter().filter(|of| of.repetitions > 0).collect())
}
