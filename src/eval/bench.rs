//! Pairs on which many circuits are run: the clean and the ablated runs, done once or, where memory is short, at each circuit.

use super::division::{self, Division, Keep};
use crate::circuit::EdgeMask;
use crate::graph::{Graph, Level};
use crate::measure::batch::batches;
use crate::measure::circuit::{Kept, Setting};
use crate::measure::constants::{Constants, ablated, prefix_under};
use crate::measure::memory::{MemoryError, Sizes, halving};
use crate::measure::sources::Activations;
use crate::measure::{Batch, metric};
use crate::metric::MetricKind;
use crate::model::spec::Layer;
use crate::model::{Model, Past};
use crate::score::Problem;
use std::cell::{Cell, RefCell};
use tch::{Kind, Tensor};

/// Pairs prepared for running many circuits.
pub struct Bench<'a> {
    model: &'a Model,
    graph: &'a Graph,
    metric: MetricKind,
    constants: Option<&'a Constants>,
    division: Division,
    clean: Outcome,
    ablated: Outcome,
    /// Divided further when a device runs out of memory.
    prepared: RefCell<Vec<Prepared>>,
    /// Pairs at once after that, if it happened.
    smaller: Cell<Option<usize>>,
}

struct Prepared {
    batch: Batch,
    /// None if it is recorded at each circuit.
    recorded: Option<Recorded>,
    reference: Tensor, // clean log-probabilities [batch, vocab]
}

/// The ablated run of a batch.
struct Recorded {
    past: Option<Past>,
    ablated: Activations,
    /// What the sources wrote, `[source, batch · pos · d_model]`, where there is room for it.
    written: Option<Tensor>,
}

/// What one way of running the model scored on every pair, in the order of the pairs (on a batch: in its order).
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Outcome {
    /// The task's metric.
    pub metric: Vec<f64>,
    /// 1 where the right answer wins.
    pub accuracy: Vec<f64>,
    /// KL from the clean model's distribution, nats.
    pub kl: Vec<f64>,
}

impl Outcome {
    pub(crate) fn of(pairs: usize) -> Outcome {
        let zeros = vec![0.0; pairs];
        Outcome { metric: zeros.clone(), accuracy: zeros.clone(), kl: zeros }
    }

    pub fn mean_metric(&self) -> f64 {
        mean(&self.metric)
    }

    /// Puts the numbers of a batch where its pairs stand in the data set.
    pub(crate) fn fill(&mut self, batch: &Batch, measured: &Outcome) {
        for (values, numbers) in [
            (&mut self.metric, &measured.metric),
            (&mut self.accuracy, &measured.accuracy),
            (&mut self.kl, &measured.kl),
        ] {
            for (&index, &number) in batch.indices.iter().zip(numbers) {
                values[index] = number;
            }
        }
    }
}

/// The arithmetic mean, 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

impl<'a> Bench<'a> {
    /// Runs the model on the clean prompts of all pairs, whole and with everything ablated, in no more than the memory of the
    /// problem. How a method divides the problem has no say here.
    ///
    /// # Errors
    /// [`MemoryError`] when that is not enough for one pair at a time, or the device has less.
    pub fn new(problem: &Problem<'a>) -> Result<Bench<'a>, MemoryError> {
        let _no_grad = tch::no_grad_guard();
        let &Problem { model, graph, metric, pairs, constants, .. } = problem;
        let prefix = prefix_under(constants, problem.prefix);
        let division = Bench::division_of(problem)?;
        let (mut clean, mut nothing) = (Outcome::of(pairs.len()), Outcome::of(pairs.len()));
        let mut prepared = Vec::new();
        let smaller = Cell::new(None);
        halving(
            batches(model, pairs, division.pairs, prefix),
            model.device,
            |batch| {
                let halves = (batch.len() > 1).then(|| batch.halves());
                halves.inspect(|halves| smaller.set(Some(halves[0].len())))
            },
            |batch| {
                let past = batch.past(model);
                let clean = Activations::record(model, &batch.clean, past.as_ref()).logits; // [batch, vocab]
                let ablated = ablated(Level::Edge, model, batch, past.as_ref(), constants);
                let reference = clean.log_softmax(-1, None::<Kind>); // [batch, vocab]
                let outcomes = [&clean, &ablated.logits].map(|logits| measure(metric, logits, batch, &reference));
                let written = (division.keep == Keep::Written).then(|| ablated.written(model, graph.dimensions));
                let recorded = (division.keep != Keep::Nothing).then_some(Recorded { past, ablated, written });
                (outcomes, recorded, reference)
            },
            |batch, ([of_clean, of_ablated], recorded, reference)| {
                clean.fill(&batch, &of_clean);
                nothing.fill(&batch, &of_ablated);
                prepared.push(Prepared { batch, recorded, reference });
            },
        )?;
        Ok(Bench {
            model,
            graph,
            metric,
            constants,
            division,
            clean,
            ablated: nothing,
            prepared: RefCell::new(prepared),
            smaller,
        })
    }

    /// How the pairs of a problem would be divided.
    ///
    /// # Errors
    /// [`MemoryError`] when the problem's memory is not enough for one pair at a time.
    pub fn division_of(problem: &Problem) -> Result<Division, MemoryError> {
        let Problem { model, graph, pairs, memory, .. } = *problem;
        let sizes = Sizes::new(model, graph.dimensions, pairs, prefix_under(problem.constants, problem.prefix));
        division::divide(&sizes, pairs.len(), memory, model.device)
    }

    /// How the pairs are divided.
    pub fn division(&self) -> Division {
        self.division
    }

    /// How many pairs run at once since the device ran out of memory, if it did.
    pub fn smaller_batch(&self) -> Option<usize> {
        self.smaller.get()
    }

    /// The model on the clean prompts.
    pub fn clean(&self) -> &Outcome {
        &self.clean
    }

    /// The model with everything ablated: under `counterfactual` the model on the corrupt prompts.
    pub fn ablated(&self) -> &Outcome {
        &self.ablated
    }

    /// The circuit on the clean prompts.
    ///
    /// # Panics
    /// With libtorch's message when the device has not enough memory for a single pair.
    pub fn circuit(&self, mask: &EdgeMask) -> Outcome {
        let _no_grad = tch::no_grad_guard();
        let kept = Kept::new(self.graph, mask, self.model, Layer(0));
        let mut outcome = Outcome::of(self.clean.metric.len());
        let mut prepared = self.prepared.borrow_mut();
        let mut after = Vec::with_capacity(prepared.len());
        let halved = halving(
            std::mem::take(&mut *prepared),
            self.model.device,
            |prepared| {
                let halves = (prepared.batch.len() > 1).then(|| prepared.halves());
                halves.inspect(|halves| self.smaller.set(Some(halves[0].batch.len())))
            },
            |prepared| self.run(prepared, &kept),
            |prepared, measured| {
                outcome.fill(&prepared.batch, &measured);
                after.push(prepared);
            },
        );
        *prepared = after;
        if let Err(error) = halved {
            panic!("out of memory: {error}");
        }
        outcome
    }

    fn run(&self, prepared: &Prepared, kept: &Kept) -> Outcome {
        let (model, batch) = (self.model, &prepared.batch);
        let anew;
        let recorded = match &prepared.recorded {
            Some(recorded) => recorded,
            None => {
                let past = batch.past(model);
                let ablated = ablated(Level::Edge, model, batch, past.as_ref(), self.constants);
                anew = Recorded { past, ablated, written: None };
                &anew
            }
        };
        let setting = Setting {
            model,
            dimensions: self.graph.dimensions,
            batch,
            past: recorded.past.as_ref(),
            corrupt: &recorded.ablated,
            written: recorded.written.as_ref(),
        };
        let logits = setting.logits(kept); // [batch, vocab]
        measure(self.metric, &logits, batch, &prepared.reference)
    }
}

/// The numbers of every row of a batch, from its logits and the clean log-probabilities, both `[batch, vocab]`.
pub(crate) fn measure(kind: MetricKind, logits: &Tensor, batch: &Batch, reference: &Tensor) -> Outcome {
    let numbers = |tensor: Tensor| {
        let mut flat = vec![0f64; batch.len()];
        tensor.to_kind(Kind::Double).contiguous().copy_data(&mut flat, batch.len());
        flat
    };
    Outcome {
        metric: numbers(metric::per_pair(kind, logits, batch, Some(reference))),
        accuracy: numbers(metric::per_pair(MetricKind::Accuracy, logits, batch, None)),
        kl: numbers(metric::divergence(reference, &logits.log_softmax(-1, None::<Kind>))),
    }
}

impl Prepared {
    fn halves(&self) -> [Prepared; 2] {
        let mut first = 0;
        self.batch.halves().map(|batch| {
            let count = batch.len() as i64;
            let rows = |tensor: &Tensor| tensor.narrow(0, first, count);
            let reference = rows(&self.reference);
            let recorded = self.recorded.as_ref().map(|recorded| Recorded {
                past: recorded.past.as_ref().map(|past| Past {
                    keys: past.keys.iter().map(rows).collect(),
                    values: past.values.iter().map(rows).collect(),
                }),
                ablated: recorded.ablated.rows(first, count),
                // There is no room for it any more; each circuit computes it.
                written: None,
            });
            first += count;
            Prepared { batch, recorded, reference }
        })
    }
}
