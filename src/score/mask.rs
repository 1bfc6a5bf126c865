//! Edge masks that are learned: every edge gets a gate, and gates are pushed shut until as many are as was asked for.
//!
//! Slot v reads Σ_u z_uv a_now\[u\] + (1 − z_uv) a_corrupt\[u\], each z_uv drawn anew at each step from a hard-concrete
//! distribution with a parameter log α_uv. Descended in log α, and ascended in λ₁ and λ₂, is
//!
//! loss + λ₁ (t − s) + λ₂ (t − s)²
//!
//! where the loss is KL(clean model ‖ circuit), or minus the task's metric as a share of what corrupt prompts take from it; s
//! is the expected share of shut gates, and t the wanted share, which grows with the steps and is reached after half of them.
//! The score of an edge is −ln P(z_uv = 0) at the end; the circuit is the (1 − t) E edges with the largest.
//!
//! Paper: Bhaskar et al., "Finding Transformer Circuits with Edge Pruning", arXiv:2406.16778. Gates of whole nodes, which the
//! paper has besides, are left out.
//! Cost: a forward and a backward with split heads over one batch for each step, whatever the number of edges. Memory for
//! each token and layer is some 8 · heads · d_model numbers, since all split inputs are alive at the backward.
//! Not for: a quick look (hundreds of steps), or more than one size of circuit: the gates are learned for one sparsity, and
//! edges far from its cut are in no particular order. Where t leaves too few edges for the task, the circuit varies much with
//! the seed.

use super::Problem;
use super::acdc::Loss;
use super::gates::Prepared;
use super::hard_concrete::{Gate, open, openness};
use super::method::{Listing, Scorer, Search, Work};
use super::state::{Ledger, Stopped};
use crate::graph::Graph;
use crate::measure::batch::Batch;
use crate::measure::memory::{Needs, Sizes};
use ndarray::{Array2, ArrayViewMut2, s};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Instant;

pub const LISTING: Listing = Listing {
    name: "mask",
    about: "edge pruning: gates on all edges, learned until as many are shut as was asked for",
    passes: "1 forward and 1 backward with split heads for each step, on one batch",
    memory: "split inputs of all layers of a batch",
};

#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    /// t: the share of edges that goes, between 0 and 1.
    pub sparsity: f64,
    pub steps: usize,
    /// The step size of Adam for log α.
    pub rate: f64,
    pub loss: Loss,
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options { sparsity: 0.95, steps: 500, rate: 0.1, loss: Loss::Kl, seed: 0 }
    }
}

/// What every log α is drawn around at the start, and the standard deviation.
const START: [f64; 2] = [10.0, 0.01];

/// The step size of Adam for λ₁ and λ₂.
const MULTIPLIER_RATE: f64 = 0.8;

/// The share of the steps after which t is what was asked for. In the paper it is 5/6, of six times as many steps.
const WARM_UP: f64 = 0.5;

/// What random numbers are drawn for: a stream of its own for each.
#[derive(Clone, Copy)]
enum Draw {
    Start,
    Gates { step: usize },
    Order { epoch: usize },
}

impl Options {
    /// t at a step.
    fn target(&self, step: usize) -> f64 {
        let warm_up = (self.steps as f64 * WARM_UP).max(1.0);
        self.sparsity * ((step + 1) as f64 / warm_up).min(1.0)
    }

    /// Depends on nothing that happened before, so that a run can go on at any step.
    fn random(&self, draw: Draw) -> ChaCha8Rng {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(match draw {
            Draw::Start => 0,
            Draw::Gates { step } => 1 + 2 * step as u64,
            Draw::Order { epoch } => 2 + 2 * epoch as u64,
        });
        random
    }

    /// Which of the batches a step works on: all of them once in every epoch, in a random order.
    fn batch(&self, step: usize, batches: usize) -> usize {
        let mut random = self.random(Draw::Order { epoch: step / batches });
        let mut order: Vec<(u64, usize)> = (0..batches).map(|batch| (random.next_u64(), batch)).collect();
        order.sort_unstable();
        order[step % batches].1
    }
}

impl Scorer for Options {
    fn listing(&self) -> &'static Listing {
        &LISTING
    }

    fn needs(&self) -> Needs {
        Needs { passes: 1, differences_last: true }
    }

    fn work(&self, _: &Graph) -> Work {
        Work::with_backward(1)
    }

    fn shape(&self, graph: &Graph) -> (usize, usize) {
        (Learned::rows(graph), graph.destinations())
    }

    fn uses_gradients(&self) -> bool {
        self.loss == Loss::Metric // KL always has one
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        vec![
            ("sparsity", self.sparsity.to_string()),
            ("steps", self.steps.to_string()),
            ("rate", self.rate.to_string()),
            ("loss", self.loss.name().to_owned()),
            ("seed", self.seed.to_string()),
        ]
    }

    fn steps(&self) -> Option<usize> {
        Some(self.steps)
    }

    fn search(&self) -> Option<&dyn Search> {
        Some(self)
    }
}

impl Search for Options {
    fn search(&self, problem: &Problem, batches: Vec<Batch>, ledger: &mut Ledger) -> Result<Array2<f64>, Stopped> {
        let learning = Learning::new(self, problem, batches);
        ledger.steps(self.steps, |step, sums| learning.step(step, sums))
    }

    fn peak(&self, sizes: &Sizes, pairs: usize, at_once: usize) -> usize {
        sizes.peak_of_gates(pairs, at_once)
    }

    fn most_pairs(&self) -> usize {
        32 // as in the paper
    }

    /// From two steps on the first batch, the second of which is timed.
    fn seconds(&self, problem: &Problem, batches: Vec<Batch>) -> Option<f64> {
        let tokens = batches.iter().map(|batch| batch.clean.numel()).sum::<usize>() as f64 / batches.len() as f64;
        let first = batches.into_iter().next()?;
        let share = tokens / first.clean.numel() as f64;
        let learning = Learning::new(self, problem, vec![first]);
        let mut sums = Array2::zeros(self.shape(problem.graph));
        learning.step(0, &mut sums);
        let start = Instant::now();
        learning.step(1, &mut sums);
        Some(start.elapsed().as_secs_f64() * share * self.steps as f64)
    }
}

/// All that passes from one step to the next: rows of the sums.
struct Learned<'a> {
    scores: ArrayViewMut2<'a, f64>,    // [source, destination], only at the end
    log_alpha: ArrayViewMut2<'a, f64>, // [source, destination]
    /// Means of its gradients and of their squares: `[source, destination]`.
    moments: [ArrayViewMut2<'a, f64>; 2],
    /// λ₁ and λ₂ with the same moments in the first three columns: `[multiplier, destination]`.
    multipliers: ArrayViewMut2<'a, f64>,
}

impl Learned<'_> {
    /// Rows of the sums.
    fn rows(graph: &Graph) -> usize {
        4 * graph.sources() + 2
    }

    fn of<'a>(graph: &Graph, sums: &'a mut Array2<f64>) -> Learned<'a> {
        let n = graph.sources();
        let (scores, log_alpha, mean, square, multipliers) = sums.multi_slice_mut((
            s![..n, ..],
            s![n..2 * n, ..],
            s![2 * n..3 * n, ..],
            s![3 * n..4 * n, ..],
            s![4 * n.., ..],
        ));
        Learned { scores, log_alpha, moments: [mean, square], multipliers }
    }
}

/// What does not change from step to step.
struct Learning<'a> {
    options: &'a Options,
    problem: &'a Problem<'a>,
    prepared: Vec<Prepared>,
    /// What a loss of 1 is in nats, or in units of the metric.
    unit: f64,
}

impl<'a> Learning<'a> {
    fn new(options: &'a Options, problem: &'a Problem, batches: Vec<Batch>) -> Learning<'a> {
        let prepared: Vec<Prepared> = batches.into_iter().map(|batch| Prepared::new(problem, batch)).collect();
        let effect = prepared.iter().map(|prepared| prepared.effect).sum::<f64>() / problem.pairs.len() as f64;
        // The multipliers start from 0 and grow at a rate, so losses must be of one size whatever the metric.
        let unit = if options.loss == Loss::Metric && effect.abs() > 1e-6 { effect.abs() } else { 1.0 };
        Learning { options, problem, prepared, unit }
    }

    fn step(&self, step: usize, sums: &mut Array2<f64>) {
        let Learning { options, problem, ref prepared, unit } = *self;
        let (graph, edges) = (problem.graph, problem.graph.edge_count() as f64);
        let Learned { mut scores, mut log_alpha, moments: [mut mean, mut square], mut multipliers } =
            Learned::of(graph, sums);
        let places = || graph.edges().iter().map(|edge| [edge.source.0, edge.destination.0]);
        if step == 0 {
            let mut random = options.random(Draw::Start);
            places().for_each(|place| log_alpha[place] = START[0] + START[1] * normal(&mut random));
        }
        let mut random = options.random(Draw::Gates { step });
        let mut gates = Array2::zeros(scores.dim());
        let (mut slopes, mut left) = (gates.clone(), 0.0);
        for place in places() {
            let gate = Gate::at(log_alpha[place], uniform(&mut random));
            (gates[place], slopes[place]) = (gate.value, gate.slope);
            left += open(log_alpha[place]).value;
        }
        let gradient = prepared[options.batch(step, prepared.len())].gradient(problem, options.loss, &gates);
        // Batches differ in size, and every pair is to weigh the same.
        let weight = prepared.len() as f64 / problem.pairs.len() as f64 / unit;
        let missing = options.target(step) - (1.0 - left / edges);
        let pressure = (multipliers[[0, 0]] + 2.0 * multipliers[[1, 0]] * missing) / edges;
        let adam = Adam { rate: options.rate, step };
        for place in places() {
            let of_loss = weight * gradient[place] * slopes[place];
            let slope = of_loss + pressure * open(log_alpha[place]).slope;
            adam.descend(slope, &mut log_alpha[place], [&mut mean[place], &mut square[place]]);
        }
        let ascent = Adam { rate: MULTIPLIER_RATE, step };
        for (mut row, slope) in multipliers.rows_mut().into_iter().zip([missing, missing * missing]) {
            if let [value, mean, square, ..] = row.as_slice_mut().unwrap_or_default() {
                ascent.descend(-slope, value, [mean, square]);
            }
        }
        if step + 1 == options.steps {
            // Scores are divided by the number of pairs.
            let pairs = problem.pairs.len() as f64;
            places().for_each(|place| scores[place] = openness(log_alpha[place]) * pairs);
        }
    }
}

/// Kingma and Ba, arXiv:1412.6980.
struct Adam {
    rate: f64,
    /// Counted from 0.
    step: usize,
}

impl Adam {
    /// Moves a value against its slope; moments: means of its slopes and of their squares.
    fn descend(&self, slope: f64, value: &mut f64, [mean, square]: [&mut f64; 2]) {
        const KEPT: [f64; 2] = [0.9, 0.999];
        let power = (self.step + 1) as f64;
        *mean += (1.0 - KEPT[0]) * (slope - *mean);
        *square += (1.0 - KEPT[1]) * (slope * slope - *square);
        let [mean, square] = [*mean / (1.0 - KEPT[0].powf(power)), *square / (1.0 - KEPT[1].powf(power))];
        // Only against 0 / 0: the share of one edge of millions in s is far below the usual 1e-8.
        *value -= self.rate * mean / (square.sqrt() + 1e-16);
    }
}

/// Drawn uniformly from (0, 1).
fn uniform(random: &mut ChaCha8Rng) -> f64 {
    ((random.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// Drawn from the normal distribution of mean 0 and variance 1, by Box and Muller.
fn normal(random: &mut ChaCha8Rng) -> f64 {
    let (radius, turn) = (uniform(random), uniform(random));
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * turn).cos()
}
