//! Automatic circuit discovery: edges are removed one after another, from the logits down, as long as the loss hardly grows.
//!
//! All edges are there at first. For each destination from the logits down and each of its sources: the edge goes for good
//! if loss(without it) − loss(with it) < τ, both on the circuit as it is by then; the loss is KL(clean model ‖ circuit) or minus
//! the task's metric. A node whose outgoing edges all went loses its incoming ones untested.
//! The score of an edge is that difference when it was tested (0 if it was not), so the circuit is every edge with a score
//! of at least τ.
//!
//! Paper: Conmy et al., "Towards Automated Circuit Discovery", arXiv:2304.14997, algorithm 1. The order of heads changes the
//! result and is recorded.
//! Cost: about one circuit run for each edge, from the edge's layer upwards only. Many candidates run side by side, on the
//! guess that they all fare as the last one did; where one does not, those after it are tried again, so decisions are those
//! of the plain search.
//! Not for: large models, or many pairs: every decision looks at all of them.

use super::Problem;
use super::method::{Listing, Scorer, Search, Work};
use super::state::{Ledger, Stopped};
use crate::graph::mask::EdgeMask;
use crate::graph::{Destination, Edge, Graph, Slot, Source};
use crate::measure::batch::Batch;
use crate::measure::circuit::{Kept, Setting, Variants};
use crate::measure::memory::{Needs, Sizes, circuit_rows_side_by_side};
use crate::measure::metric::{self, divergence};
use crate::measure::sources::Activations;
use crate::metric::MetricKind;
use crate::model::Past;
use crate::model::spec::Layer;
use ndarray::Array2;
use tch::{Kind, Tensor};

pub const LISTING: Listing = Listing {
    name: "acdc",
    about: "edges removed one by one from the logits down while the loss grows by less than tau",
    passes: "2 forward, and about 1 from the edge's layer upwards for each edge",
    memory: "outputs of all sources for all pairs, twice, and 256 MB of circuits side by side",
};

#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    /// The growth of the loss (nats, or units of the metric) at which an edge stays.
    pub tau: f64,
    pub loss: Loss,
    pub order: Order,
}

impl Default for Options {
    fn default() -> Self {
        Options { tau: 0.0575, loss: Loss::Kl, order: Order::LastFirst }
    }
}

/// What must not grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// The divergence of the circuit's distribution from the clean model's, summed over the vocabulary.
    Kl,
    /// Minus the task's metric.
    Metric,
}

impl Loss {
    pub fn name(self) -> &'static str {
        match self {
            Loss::Kl => "kl",
            Loss::Metric => "metric",
        }
    }

    /// Of each pair, from logits and the clean log-probabilities, both `[batch, vocab]`: `[batch]`.
    pub(super) fn per_pair(self, kind: MetricKind, logits: &Tensor, batch: &Batch, reference: &Tensor) -> Tensor {
        match self {
            Loss::Kl => divergence(reference, &logits.log_softmax(-1, None::<Kind>)),
            Loss::Metric => -metric::per_pair(kind, logits, batch, Some(reference)),
        }
    }
}

/// In which order the slots of a layer, and the sources of a slot, are visited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Against the order of the graph: values before keys before queries, the last head first, the nearest source first.
    LastFirst,
    /// Within a layer and among sources in the order of the graph.
    FirstFirst,
}

impl Order {
    pub fn name(self) -> &'static str {
        match self {
            Order::LastFirst => "last-first",
            Order::FirstFirst => "first-first",
        }
    }

    fn sort<T>(self, items: &mut [T]) {
        if self == Order::LastFirst {
            items.reverse();
        }
    }
}

/// The most candidates that run side by side.
const SIDE_BY_SIDE: usize = 64;

impl Scorer for Options {
    fn listing(&self) -> &'static Listing {
        &LISTING
    }

    fn needs(&self) -> Needs {
        Needs { passes: 0, differences_last: true }
    }

    fn work(&self, graph: &Graph) -> Work {
        super::exact::Exact.work(graph)
    }

    fn uses_gradients(&self) -> bool {
        false
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        vec![
            ("tau", self.tau.to_string()),
            ("loss", self.loss.name().to_owned()),
            ("order", self.order.name().to_owned()),
        ]
    }

    fn search(&self) -> Option<&dyn Search> {
        Some(self)
    }
}

impl Search for Options {
    fn search(&self, problem: &Problem, batches: Vec<Batch>, ledger: &mut Ledger) -> Result<Array2<f64>, Stopped> {
        let _no_grad = tch::no_grad_guard();
        let slots = slots(problem.graph, self.order);
        let prepared = batches.into_iter().map(|batch| Prepared::new(problem, batch)).collect();
        let mut state = State { problem, options: self, prepared, kept: EdgeMask::full(problem.graph) };
        ledger.steps(slots.len(), |index, effects| {
            // What earlier steps decided, in this process or in one before it, is what they wrote down.
            state.remember(&slots[..index], effects);
            state.visit(slots[index], effects);
        })
    }

    fn peak(&self, sizes: &Sizes, pairs: usize, at_once: usize) -> usize {
        sizes.peak_of_search(pairs, at_once)
    }
}

/// A batch with its clean and its corrupt run.
struct Prepared {
    batch: Batch,
    past: Option<Past>,
    corrupt: Activations,
    written: Tensor,     // what sources wrote in the corrupt run, [source, batch · pos · d_model]
    differences: Tensor, // clean less corrupt, [source, batch · pos · d_model]
    reference: Tensor,   // clean log-probabilities, [batch, vocab]
}

impl Prepared {
    fn new(problem: &Problem, batch: Batch) -> Prepared {
        let (model, dimensions) = (problem.model, problem.graph.dimensions);
        let past = batch.past(model);
        let clean = Activations::record(model, &batch.clean, past.as_ref());
        let corrupt = Activations::record(model, &batch.corrupt, past.as_ref());
        Prepared {
            written: corrupt.written(model, dimensions),
            differences: clean.written_minus(&corrupt, model, dimensions),
            reference: clean.logits.log_softmax(-1, None::<Kind>),
            corrupt,
            past,
            batch,
        }
    }
}

/// The search as it goes.
struct State<'a> {
    problem: &'a Problem<'a>,
    options: &'a Options,
    prepared: Vec<Prepared>,
    kept: EdgeMask,
}

impl State<'_> {
    /// Whether an edge whose removal had this effect, as it is written down, is gone.
    fn gone(&self, effect: f64) -> bool {
        effect / (self.problem.pairs.len() as f64) < self.options.tau
    }

    /// Removes the edges into slots that were visited by what is written down of them, `[source, destination]`.
    fn remember(&mut self, visited: &[Destination], effects: &Array2<f64>) {
        for &destination in visited {
            for source in 0..self.problem.graph.sources_before(destination) {
                if self.gone(effects[[source, destination.0]]) {
                    self.kept.remove(Edge { source: Source(source), destination });
                }
            }
        }
    }

    /// Whether an edge leaves any of the nodes that read a slot.
    fn is_read(&self, slot: Slot) -> bool {
        let graph = self.problem.graph;
        graph.readers(slot).into_iter().any(|node| match graph.source(node) {
            Some(source) => self.kept.0.row(source.0).iter().any(|&kept| kept),
            None => true, // the logits
        })
    }

    /// Tries to remove each edge into one slot, and writes down what that did to the loss, summed over pairs. Edges into a
    /// slot that nothing reads are left at 0, which removes them.
    fn visit(&self, destination: Destination, effects: &mut Array2<f64>) {
        let slot = self.problem.graph.slot(destination);
        if !self.is_read(slot) {
            return;
        }
        let mut reads = vec![true; self.problem.graph.sources_before(destination)];
        let mut sources: Vec<usize> = (0..reads.len()).collect();
        self.options.order.sort(&mut sources);
        let mut loss = None;
        let (mut next, mut guess, mut goes) = (0, 8, true);
        while next < sources.len() {
            // On the guess that all candidates fare as the last one did, each is run on the circuit that it will then meet.
            let candidates = &sources[next..(next + guess).min(sources.len())];
            let mut met = reads.clone();
            let mut variants = Vec::with_capacity(candidates.len() + 1);
            for &source in candidates {
                met[source] = false;
                variants.push(met.clone());
                met[source] = !goes;
            }
            if loss.is_none() {
                variants.push(reads.clone());
            }
            let mut losses = self.losses(slot, &variants);
            let mut now = loss.or_else(|| losses.pop()).unwrap_or_default();
            let mut decided = 0;
            for (&source, without) in candidates.iter().zip(losses) {
                let effect = (without - now) * self.problem.pairs.len() as f64;
                effects[[source, destination.0]] = effect;
                decided += 1;
                let gone = self.gone(effect);
                if gone {
                    reads[source] = false;
                    now = without;
                }
                if gone != goes {
                    goes = gone;
                    break; // the candidates after it were run on another circuit
                }
            }
            loss = Some(now);
            next += decided;
            guess = if decided == candidates.len() { (2 * guess).min(SIDE_BY_SIDE) } else { decided.max(2) };
        }
    }

    /// The mean loss of circuits that differ in which sources `slot` reads.
    fn losses(&self, slot: Slot, variants: &[Vec<bool>]) -> Vec<f64> {
        let Problem { model, graph, metric, .. } = *self.problem;
        let kept = Kept::new(graph, &self.kept, model, slot.layer().unwrap_or(Layer(model.spec.layers)));
        let mut sums = vec![0.0; variants.len()];
        for prepared in &self.prepared {
            let rows = prepared.batch.clean.numel();
            let at_once = (circuit_rows_side_by_side(&model.spec, graph.dimensions) / rows).max(1);
            for (first, chunk) in variants.chunks(at_once).enumerate().map(|(index, chunk)| (index * at_once, chunk)) {
                let flat: Vec<f32> = chunk.iter().flatten().map(|&reads| f32::from(u8::from(reads))).collect();
                let reads = Tensor::from_slice(&flat).view([chunk.len() as i64, -1]); // [variant, source]
                let reads = reads.to_kind(model.kind()).to_device(model.device);
                let setting = Setting {
                    model,
                    dimensions: graph.dimensions,
                    batch: &prepared.batch,
                    past: prepared.past.as_ref(),
                    corrupt: &prepared.corrupt,
                    written: Some(&prepared.written),
                };
                let variants = Variants { slot, reads: &reads, differences: &prepared.differences };
                let logits = setting.logits_of_variants(&kept, &variants); // [variant, batch, vocab]
                for index in 0..chunk.len() {
                    let logits = logits.get(index as i64); // [batch, vocab]
                    let losses = self.options.loss.per_pair(metric, &logits, &prepared.batch, &prepared.reference); // [batch]
                    sums[first + index] += losses.sum(Kind::Double).double_value(&[]);
                }
            }
        }
        sums.into_iter().map(|sum| sum / self.problem.pairs.len() as f64).collect()
    }
}

/// The slots from the logits down, those of a layer in the given order.
fn slots(graph: &Graph, order: Order) -> Vec<Destination> {
    let mut all = vec![Destination(graph.destinations() - 1)];
    for layer in (0..graph.dimensions.layers).rev() {
        let first = graph.dimensions.first_slot(Layer(layer));
        let mlps = usize::from(graph.dimensions.mlps);
        let heads = graph.dimensions.readers() - mlps;
        // In sequential blocks the MLP reads the heads, so it comes before them.
        all.extend((first + heads..first + heads + mlps).map(Destination));
        let mut of_heads: Vec<Destination> = (first..first + heads).map(Destination).collect();
        order.sort(&mut of_heads);
        all.extend(of_heads);
    }
    all
}
