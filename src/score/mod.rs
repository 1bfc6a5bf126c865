//! Methods that give every edge of the graph, or every node or neuron, a number: positive where it helps the task.
//!
//! A method maps (model, graph, pairs, options) to [`Scores`] and nothing else. Scores are means over pairs.
//!
//! A run is a [`State`] that [`advance`] takes from one safe point to the next; at each it can be written down
//! ([`checkpoint`]), left, and taken up again by another process, which ends in the same bytes.

pub mod acdc;
pub mod activation_patching;
pub mod atp_star;
pub mod attribution_patching;
pub mod checkpoint;
pub mod clean_corrupted;
mod contract;
pub mod cost;
pub mod eap;
pub mod eap_ig;
pub mod eap_ig_activations;
mod error;
pub mod exact;
pub mod gates;
mod gradient;
pub mod hard_concrete;
pub mod ifr;
pub mod mask;
pub mod method;
pub mod random;
pub mod relp;
mod state;
mod units;

use crate::ablation::Ablation;
use crate::dataset::TokenPair;
use crate::graph::scores::Scores;
use crate::graph::{Graph, Level, Table, Units};
use crate::measure::batch::{Prefix, Rows, group};
use crate::measure::constants::{Constants, ablated, prefix_under};
use crate::measure::memory::{self, Division, MemoryError, Sizes, out_of_memory};
use crate::measure::sources::Activations;
use crate::measure::{Batch, metric, origin};
use crate::metric::MetricKind;
use crate::model::spec::QueryKeyNorm;
use crate::model::{Model, Pass, Past, Rules};
use crate::spans::Spans;
use crate::statistics::resample::RESAMPLES;
pub use error::ScoreError;
pub use method::{METHODS, Method, Settings};
use ndarray::Array2;
pub use state::{Begun, State, Watch};
use state::{Ledger, Stopped};
use tch::{Kind, Tensor};

/// What a method works on, and what circuits are run on.
#[derive(Clone, Copy)]
pub struct Problem<'a> {
    pub model: &'a Model,
    pub graph: &'a Graph,
    pub pairs: &'a [TokenPair],
    pub metric: MetricKind,
    /// What gets a score.
    pub level: Level,
    /// Pairs run at once; `None`: as many as are fast and fit.
    pub batch_size: Option<usize>,
    pub prefix: Prefix,
    /// The most that the run may use, weights included, in bytes.
    pub memory: usize,
    /// Layers that run backwards together; `None`: as many as are fast and fit.
    pub stretch: Option<usize>,
    /// Whether the scores of every pair are kept too. Where those of positions are kept apart, batches are then single pairs.
    pub per_pair: bool,
    /// What ablated sources write; without it, what they write on the corrupt prompts.
    pub constants: Option<&'a Constants>,
    /// Groups of positions whose scores are kept apart; none: sums over all positions.
    pub spans: Option<&'a Spans>,
}

impl<'a> Problem<'a> {
    /// With batches of the default size, the shared prefix computed once, and no limit of memory.
    pub fn new(model: &'a Model, graph: &'a Graph, pairs: &'a [TokenPair], metric: MetricKind) -> Problem<'a> {
        Problem {
            model,
            graph,
            pairs,
            metric,
            level: Level::Edge,
            batch_size: None,
            prefix: Prefix::Shared,
            memory: usize::MAX,
            stretch: None,
            per_pair: false,
            constants: None,
            spans: None,
        }
    }

    /// How the run is divided to stay within [`Problem::memory`].
    ///
    /// # Errors
    /// [`ScoreError::Memory`] when even the smallest division does not.
    pub fn division(&self, method: &Method) -> Result<Division, ScoreError> {
        let sizes = Sizes::new(self.model, self.graph.dimensions, self.pairs, self.prefix_for(method));
        let sizes = Sizes { level: self.level, patterns: self.changes_of_patterns(method), ..sizes };
        let batch_size = if self.per_pair && self.spans.is_some() { Some(1) } else { self.batch_size };
        if let Some(search) = method.scorer().search() {
            let pairs = self.pairs.len();
            let most = batch_size.unwrap_or_else(|| sizes.most_pairs(self.model.device).min(search.most_pairs()));
            let peak = |at_once| search.peak(&sizes, pairs, at_once);
            return Ok(memory::halve_until_it_fits(most.min(pairs).max(1), batch_size.is_some(), self.memory, peak)?);
        }
        let memory = if self.per_pair { self.memory.saturating_sub(self.pair_bytes()) } else { self.memory };
        let division = sizes.divide(method.needs(), self.pairs.len(), batch_size, memory, self.model.device)?;
        let bytes = division.bytes + (self.memory - memory);
        let division = Division { bytes, ..division };
        Ok(Division { stretch: self.stretch.unwrap_or(division.stretch), ..division })
    }

    /// What the scores of every pair take in memory, in bytes.
    pub fn pair_bytes(&self) -> usize {
        self.pairs.len() * self.table().count() * size_of::<f32>()
    }

    /// Whether there is room to keep the scores of every pair by the way, and those of resamples: an eighth of the memory,
    /// and no more than 256 MiB for the pairs, which go into each checkpoint too.
    pub fn has_room_for_pairs(&self) -> bool {
        let of_resamples = RESAMPLES * self.table().count() * size_of::<f32>();
        self.pair_bytes() <= 256 << 20 && self.pair_bytes() + of_resamples <= self.memory / 8
    }

    /// How many changes of every layer's pattern a method keeps: one for queries and one for keys, or for each head's, and
    /// each group of positions.
    fn changes_of_patterns(&self, method: &Method) -> usize {
        if !method.scorer().patterns() || self.level != Level::Node {
            return 0;
        }
        let spec = &self.model.spec;
        let together = spec.attention.query_key_norm == QueryKeyNorm::Whole;
        2 * if together { spec.heads } else { 1 } * self.spans.map_or(1, |spans| spans.names.len())
    }

    /// What gets a score.
    pub fn table(&self) -> Table<'a> {
        Table { graph: self.graph, units: self.units() }
    }

    /// The units of the level.
    pub fn units(&self) -> Units {
        Units::new(self.level, self.graph.dimensions, self.model.spec.d_mlp)
    }

    /// Rows and columns of a method's sums: the columns of an edge's destinations, or a single one of units, for each group
    /// of positions in turn.
    fn shape(&self, method: &Method) -> (usize, usize) {
        let (rows, columns) = match self.level {
            Level::Edge => method.scorer().shape(self.graph),
            Level::Node | Level::Neuron => (self.units().len(), 1),
        };
        (rows, columns * self.spans.map_or(1, |spans| spans.names.len()))
    }

    /// How many parts the sums of a batch have beside each other: one for each pair where they are kept apart.
    fn parts_of(&self, rows: &Rows) -> usize {
        if self.per_pair && self.spans.is_none() { rows.indices.len() } else { 1 }
    }

    /// How the common start of prompts is run for a method.
    fn prefix_for(&self, method: &Method) -> Prefix {
        let prefix = prefix_under(self.constants, self.prefix);
        if method.scorer().every_position() { Prefix::Recomputed } else { prefix }
    }

    /// The pairs in batches of at most `largest`.
    fn batches(&self, method: &Method, largest: usize) -> Vec<Rows> {
        group(self.model, self.pairs, largest, self.prefix_for(method))
    }

    /// # Errors
    /// [`ScoreError`] when the method cannot work with the metric or there is nothing to score on.
    fn check(&self, method: &Method) -> Result<(), ScoreError> {
        if self.pairs.is_empty() {
            return Err(ScoreError::NoPairs);
        }
        if method.scorer().uses_gradients() && !self.metric.differentiable() {
            return Err(ScoreError::NoGradient { method: method.name(), metric: self.metric });
        }
        if let Some(steps) = method.scorer().steps().filter(|steps| !(1..=error::MOST_STEPS).contains(steps)) {
            return Err(ScoreError::Steps { method: method.name(), steps });
        }
        let ablation = self.constants.map_or(Ablation::Counterfactual, |constants| constants.ablation);
        method.check_level(self.level, ablation)?;
        if self.spans.is_some() {
            method.check_positions()?;
        }
        if self.per_pair && !method.adds_up() {
            return Err(ScoreError::NotOfPairs { method: method.name() });
        }
        Ok(())
    }
}

/// What [`score`] tells while it works.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Progress {
    /// How much of the work is done, from 0 to 1.
    Done(f64),
    /// The device ran out of memory; the run goes on with so many pairs at once.
    SmallerBatch(usize),
}

/// Scores every edge.
///
/// # Errors
/// [`ScoreError`] when the method cannot work with the metric, there is nothing to score on, or memory is short.
pub fn score(problem: &Problem, method: &Method, mut progress: &mut dyn FnMut(Progress)) -> Result<Scores, ScoreError> {
    let mut state = State::start(problem, method)?;
    advance(problem, method, &mut state, &mut progress)?;
    state.scores(problem)
}

/// Takes a run from where it stands to its end, or to where `watch` ends it.
///
/// # Errors
/// [`ScoreError::Stopped`], and those of [`score`].
pub fn advance(problem: &Problem, method: &Method, state: &mut State, watch: &mut dyn Watch) -> Result<(), ScoreError> {
    problem.check(method)?;
    if let Some(search) = method.scorer().search().filter(|_| !state.left.is_empty()) {
        let batches = state.left.iter().map(|rows| rows.batch(problem.pairs, problem.model.device)).collect();
        let mut ledger = Ledger { state, watch, parts: 1 };
        let sums = out_of_memory(|| search.search(problem, batches, &mut ledger));
        state.finish_all(&sums.ok_or(MemoryError::Device { device: problem.model.device })??);
    }
    while let Some(rows) = state.left.front() {
        let batch = rows.batch(problem.pairs, problem.model.device);
        let (division, parts) = (state.division, problem.parts_of(rows));
        let mut ledger = Ledger { state, watch, parts };
        match out_of_memory(|| score_batch(problem, method, &division, &batch, &mut ledger)) {
            Some(sums) => state.finish(problem, &sums?),
            None => {
                let pairs = state.halve().ok_or(MemoryError::Device { device: problem.model.device })?;
                watch.smaller_batch(pairs);
            }
        }
        Ledger { state, watch, parts: 1 }.safe_point()?;
    }
    Ok(())
}

/// Refuses numbers that are none, with where the runs of `pairs` first give such and the weights that are to blame, if there
/// are any; `what` they are, for the message.
///
/// # Errors
/// [`ScoreError::NotFinite`].
pub fn check_finite(
    model: &Model,
    pairs: &[TokenPair],
    what: &'static str,
    numbers: impl IntoIterator<Item = f64>,
) -> Result<(), ScoreError> {
    match numbers.into_iter().filter(|number| !number.is_finite()).count() {
        0 => Ok(()),
        count => {
            let origin = origin::of_not_finite(model, pairs).map(Box::new);
            Err(ScoreError::NotFinite { count, what, origin, weights: model.not_finite() })
        }
    }
}

/// Sums over the pairs of one batch: `[source, destination]`, of each pair in turn where they are kept apart.
fn score_batch(
    problem: &Problem,
    method: &Method,
    division: &Division,
    batch: &Batch,
    ledger: &mut Ledger,
) -> Result<Array2<f64>, Stopped> {
    let scorer = method.scorer();
    let past = if scorer.work(problem.graph).runs() { batch.past(problem.model) } else { None };
    let run = Run::new(problem, division, batch, past.as_ref(), scorer.rules());
    scorer.score_batch(&Run { patterns: scorer.patterns() && problem.level == Level::Node, ..run }, ledger)
}

/// One batch of a problem, with its prefix run.
struct Run<'a> {
    problem: &'a Problem<'a>,
    batch: &'a Batch,
    past: Option<&'a Past>,
    /// How many layers the backward runs over at a time.
    stretch: usize,
    /// How many passes' gradients are kept to be averaged before they are contracted.
    passes: usize,
    /// How gradients are taken.
    rules: Rules,
    /// Whether they are taken at attention patterns too, and at the residual stream that leaves each block.
    patterns: bool,
    residuals: bool,
}

impl<'a> Run<'a> {
    fn new(
        problem: &'a Problem,
        division: &Division,
        batch: &'a Batch,
        past: Option<&'a Past>,
        rules: Rules,
    ) -> Run<'a> {
        Run {
            problem,
            batch,
            past,
            stretch: division.stretch,
            passes: division.passes,
            rules,
            patterns: false,
            residuals: false,
        }
    }

    /// A pass over what follows the prefix.
    fn pass(&self) -> Pass<'_> {
        Pass { rules: self.rules, ..Pass::after(self.past) }
    }

    /// What the sources write, and the destinations read, when everything is ablated.
    fn ablated(&self) -> Activations {
        ablated(self.problem.level, self.problem.model, self.batch, self.past, self.problem.constants)
    }

    /// The clean run.
    fn clean(&self) -> Activations {
        Activations::record_for(self.problem.level, self.problem.model, &self.batch.clean, self.past)
    }

    /// Groups of positions that are kept apart; one where none are.
    fn spans(&self) -> usize {
        self.problem.spans.map_or(1, |spans| spans.names.len())
    }

    /// Whether the scores of the batch's pairs are kept apart: their sums then stand beside each other.
    fn pairs_apart(&self) -> bool {
        self.problem.per_pair && self.problem.spans.is_none()
    }

    /// Parts that sums have beside each other: groups of positions, or pairs.
    fn parts(&self) -> usize {
        if self.pairs_apart() { self.batch.len() } else { self.spans() }
    }

    /// Puts what a cell of the table came to on each pair, `[batch]`, at its place in sums: added up at the part `span`, or
    /// each at that of its pair. `columns`: those of a part.
    fn put(&self, sums: &mut Array2<f64>, [row, column]: [usize; 2], columns: usize, span: usize, of_pairs: &Tensor) {
        if !self.pairs_apart() {
            sums[[row, span * columns + column]] = of_pairs.sum(Kind::Double).double_value(&[]);
            return;
        }
        let mut flat = vec![0f64; self.batch.len()];
        of_pairs.to_kind(Kind::Double).contiguous().copy_data(&mut flat, self.batch.len());
        for (pair, number) in flat.into_iter().enumerate() {
            sums[[row, pair * columns + column]] = number;
        }
    }

    /// For each of them 1 at its positions and 0 elsewhere, `[batch, pos, 1]`; nothing where none are kept apart.
    fn masks(&self) -> Vec<Option<Tensor>> {
        let Some(spans) = self.problem.spans else { return vec![None] };
        let (model, rows) = (self.problem.model, self.batch.clean.size()[0]);
        let mask = |span| {
            let [tokens, _] =
                self.batch.tokens_of(spans, span).map(|of| Tensor::from_slice(&of).to_device(model.device));
            let zeros = Tensor::zeros([self.batch.clean.numel() as i64], (model.kind(), model.device));
            Some(zeros.index_fill(0, &tokens, 1.0).view([rows, -1, 1]))
        };
        (0..spans.names.len()).map(mask).collect()
    }

    /// What a tensor `[.., batch, pos, n]` has at one group of positions, 0 elsewhere, by a mask of [`Run::masks`].
    fn masked(of: &Tensor, mask: Option<&Tensor>) -> Tensor {
        mask.map_or_else(|| of.shallow_clone(), |mask| of * mask)
    }

    /// Sums of units with nothing added: `[unit, part]`.
    fn zeros(&self) -> Array2<f64> {
        Array2::zeros((self.problem.units().len(), self.parts()))
    }

    /// The metric of each row from last-position logits `[batch, vocab]`: `[batch]`.
    fn metric(&self, logits: &Tensor, reference: Option<&Tensor>) -> Tensor {
        metric::per_pair(self.problem.metric, logits, self.batch, reference)
    }
}
