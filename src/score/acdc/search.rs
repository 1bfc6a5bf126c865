//! The search: its circuits, and what it decides on them.

use super::order::{Visit, visits};
use super::{Options, direct_edge};
use crate::graph::mask::EdgeMask;
use crate::graph::{Destination, Edge, Slot, Source};
use crate::measure::batch::Batch;
use crate::measure::circuit::{Kept, Setting, Variants};
use crate::measure::constants::ablated;
use crate::measure::memory::circuit_rows_side_by_side;
use crate::measure::metric::{self, divergence};
use crate::measure::sources::Activations;
use crate::metric::MetricKind;
use crate::model::Past;
use crate::model::spec::Layer;
use crate::score::Problem;
use crate::score::state::{Ledger, Stopped};
use ndarray::Array2;
use tch::{Kind, Tensor};

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
    pub(in crate::score) fn per_pair(
        self,
        kind: MetricKind,
        logits: &Tensor,
        batch: &Batch,
        reference: &Tensor,
    ) -> Tensor {
        match self {
            Loss::Kl => divergence(reference, &logits.log_softmax(-1, None::<Kind>)),
            Loss::Metric => -metric::per_pair(kind, logits, batch, Some(reference)),
        }
    }
}

/// The most candidates that run side by side.
const SIDE_BY_SIDE: usize = 64;

/// How much the loss grew at each removal that was tried, summed over the pairs of all batches: `[source, destination]`, and
/// below it a row for direct edges, if they are tried.
pub(super) fn search(
    options: &Options,
    problem: &Problem,
    batches: Vec<Batch>,
    ledger: &mut Ledger,
) -> Result<Array2<f64>, Stopped> {
    let _no_grad = tch::no_grad_guard();
    let visits = visits(problem.graph, options.nodes, options.order);
    let prepared = batches.into_iter().map(|batch| Prepared::new(problem, batch)).collect();
    let mut state = State { problem, options, prepared, kept: EdgeMask::full(problem.graph) };
    ledger.steps(visits.len(), |index, effects| {
        // What earlier steps decided, in this process or in one before it, is what they wrote down.
        state.remember(&visits[..index], effects);
        match &visits[index] {
            Visit::Slot(slot) => state.visit(*slot, effects),
            Visit::Direct(slots) => state.visit_direct(slots, effects),
        }
    })
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
        let corrupt = ablated(problem.level, model, &batch, past.as_ref(), problem.constants);
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

    /// Removes what earlier steps removed, by what is written down of them.
    fn remember(&mut self, visited: &[Visit], effects: &Array2<f64>) {
        let graph = self.problem.graph;
        for visit in visited {
            match visit {
                Visit::Slot(slot) => {
                    for source in 0..graph.sources_before(*slot) {
                        if self.gone(effects[[source, slot.0]]) {
                            self.kept.remove(Edge { source: Source(source), destination: *slot });
                        }
                    }
                }
                Visit::Direct(slots) => {
                    for &slot in slots {
                        if self.gone(effects[direct_edge(graph, slot)]) {
                            self.kept.0.column_mut(slot.0).fill(false);
                        }
                    }
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

    /// Tries to remove the direct edges from some slots, and writes down what that did to the loss, summed over pairs. Those
    /// to a head that nothing reads are left at 0, which removes them.
    fn visit_direct(&mut self, slots: &[Destination], effects: &mut Array2<f64>) {
        let graph = self.problem.graph;
        let mut loss = None;
        for &destination in slots {
            let slot = graph.slot(destination);
            if !self.is_read(slot) {
                continue;
            }
            let sources = graph.sources_before(destination);
            let mut variants = vec![vec![false; sources]];
            if loss.is_none() {
                variants.push(vec![true; sources]);
            }
            let mut losses = self.losses(slot, &variants);
            let now = loss.or_else(|| losses.pop()).unwrap_or_default();
            let without = losses[0];
            let effect = (without - now) * self.problem.pairs.len() as f64;
            effects[direct_edge(graph, destination)] = effect;
            loss = Some(now);
            if self.gone(effect) {
                self.kept.0.column_mut(destination.0).fill(false);
                loss = Some(without);
            }
        }
    }

    /// Tries to remove each edge into one slot, and writes down what that did to the loss, summed over pairs. Edges into a
    /// slot that nothing reads, or that lost its direct edge, are left at 0, which removes them.
    fn visit(&self, destination: Destination, effects: &mut Array2<f64>) {
        let slot = self.problem.graph.slot(destination);
        let is_whole = self.kept.0.column(destination.0).iter().any(|&kept| kept);
        if !is_whole || !self.is_read(slot) {
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
