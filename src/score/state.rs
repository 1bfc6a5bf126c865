//! How far a run has come: enough for another process to go on and end in the same bytes.
//!
//! Sums are f64 and are added up batch by batch, within a batch step by step, always in the same order. Between two steps,
//! and between two batches, everything that the rest of the run depends on is in the [`State`].

use super::{Method, Problem, Progress, ScoreError, check_finite};
use crate::graph::Table;
use crate::graph::scores::Scores;
use crate::measure::batch::Rows;
use crate::measure::memory::Division;
use ndarray::{Array2, ArrayView2, s};
use std::collections::VecDeque;
use std::ops::ControlFlow;

/// A run between two steps.
#[derive(Clone, PartialEq, Debug)]
pub struct State {
    /// How the run was divided when it started; free memory may have changed since.
    pub division: Division,
    /// All pairs, done or not.
    pub pairs: usize,
    /// The batches to do, in order.
    pub left: VecDeque<Rows>,
    /// Whether all of them are looked at together, not one after another.
    pub together: bool,
    /// Over the pairs of all batches that are done: `[source, destination]`.
    pub sums: Array2<f64>,
    /// What is done of the first batch to do.
    pub begun: Option<Begun>,
    /// The scores of every pair, zero where it is not done: `[pair, edge or unit]`.
    pub per_pair: Option<Array2<f32>>,
}

/// A batch in the middle.
#[derive(Clone, PartialEq, Debug)]
pub struct Begun {
    /// Steps that are done, and all.
    pub done: usize,
    pub steps: usize,
    /// What the steps that are done added: `[source, destination]`.
    pub sums: Array2<f64>,
}

/// Follows a run and may end it.
pub trait Watch {
    /// Called at every safe point: the run can go on from this state. `Break` ends it here.
    fn safe_point(&mut self, state: &State) -> ControlFlow<()>;

    /// The device ran out of memory; the run goes on with so many pairs at once.
    fn smaller_batch(&mut self, pairs: usize);
}

impl<F: FnMut(Progress) + ?Sized> Watch for &mut F {
    fn safe_point(&mut self, state: &State) -> ControlFlow<()> {
        self(Progress::Done(state.share()));
        ControlFlow::Continue(())
    }

    fn smaller_batch(&mut self, pairs: usize) {
        self(Progress::SmallerBatch(pairs));
    }
}

/// The run was ended at a safe point.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the run was stopped before its end")]
pub struct Stopped;

impl State {
    /// A run with everything before it.
    ///
    /// # Errors
    /// [`ScoreError`] when the method cannot work with the metric, there is nothing to score on, or memory is short.
    pub fn start(problem: &Problem, method: &Method) -> Result<State, ScoreError> {
        problem.check(method)?;
        let division = problem.division(method)?;
        let pairs = problem.pairs.len();
        Ok(State {
            division,
            pairs,
            left: problem.batches(method, division.pairs).into(),
            together: !method.adds_up(),
            sums: Array2::zeros(problem.shape(method)),
            begun: None,
            per_pair: problem.per_pair.then(|| Array2::zeros((pairs, problem.table().count()))),
        })
    }

    /// How many parts the sums of the first batch to do have beside each other.
    pub(super) fn parts_of_first(&self, problem: &Problem) -> usize {
        self.left.front().map_or(1, |rows| problem.parts_of(rows))
    }

    /// Whether it can be a state of this problem: a state that comes from a file may be anything.
    pub fn fits(&self, problem: &Problem, method: &Method) -> bool {
        let shape = problem.shape(method);
        let fits = |rows: &Rows| {
            let pair = |index: &usize| problem.pairs.get(*index);
            let length = rows.indices.first().and_then(pair).map(|pair| pair.clean.len());
            let fits = |index| {
                let pair = pair(index)?;
                Some(Some(pair.clean.len()) == length && rows.shared <= pair.first_difference)
            };
            length.is_some() && rows.indices.iter().all(|index| fits(index) == Some(true))
        };
        let per_pair = problem.per_pair.then_some((problem.pairs.len(), problem.table().count()));
        let shape_of_begun = (shape.0, shape.1 * self.parts_of_first(problem));
        self.pairs == problem.pairs.len()
            && self.sums.dim() == shape
            && self.begun.as_ref().is_none_or(|begun| begun.sums.dim() == shape_of_begun)
            && self.per_pair.as_ref().map(Array2::dim) == per_pair
            && self.left.iter().all(fits)
    }

    /// How much of the work is done, from 0 to 1.
    pub fn share(&self) -> f64 {
        let left: usize = self.left.iter().map(|rows| rows.indices.len()).sum();
        let begun = self.begun.as_ref().map_or(0.0, |begun| begun.done as f64 / begun.steps.max(1) as f64);
        let first = if self.together { left } else { self.left.front().map_or(0, |rows| rows.indices.len()) };
        (self.pairs.saturating_sub(left) as f64 + begun * first as f64) / self.pairs.max(1) as f64
    }

    /// The means over all pairs of a run that is done, summed over positions.
    ///
    /// # Errors
    /// [`ScoreError::NotFinite`].
    pub fn scores(&self, problem: &Problem) -> Result<Scores, ScoreError> {
        let values = over_spans(&self.sums, &problem.table()).mapv(|sum| (sum / self.pairs as f64) as f32);
        check_finite(problem.model, problem.pairs, "scores", values.iter().map(|&score| f64::from(score)))?;
        Ok(Scores { values })
    }

    /// The means over all pairs of each group of positions; a single one of all where they are not kept apart.
    pub fn scores_of_spans(&self, table: &Table) -> Vec<Scores> {
        let mean = |sum: f64| (sum / self.pairs as f64) as f32;
        parts(&self.sums, table).map(|sums| Scores { values: sums.mapv(mean) }).collect()
    }

    /// Adds what the first batch came to, `[source, destination]` of each group of positions or of each of its pairs in
    /// turn, and takes it off the list.
    pub(super) fn finish(&mut self, problem: &Problem, sums: &Array2<f64>) {
        self.begun = None;
        let Some(rows) = self.left.pop_front() else { return };
        let table = problem.table();
        let of_pairs: Vec<Array2<f64>> = match problem.parts_of(&rows) {
            1 => vec![over_spans(sums, &table)],
            _ => parts(sums, &table).map(|sums| sums.to_owned()).collect(),
        };
        match of_pairs.as_slice() {
            [_] => self.sums += sums,
            several => several.iter().for_each(|of_pair| self.sums += of_pair),
        }
        if let Some(per_pair) = &mut self.per_pair {
            let cells = table.cells();
            for (index, of_pair) in rows.indices.into_iter().zip(of_pairs) {
                for (score, &cell) in per_pair.row_mut(index).iter_mut().zip(&cells) {
                    *score = of_pair[cell] as f32;
                }
            }
        }
    }

    /// Adds what all pairs together came to, `[source, destination]`.
    pub(super) fn finish_all(&mut self, sums: &Array2<f64>) {
        self.begun = None;
        self.sums += sums;
        self.left.clear();
    }

    /// Cuts the first batch in two, to be done from its start, and says how many pairs then run at once; nothing where it
    /// is a single pair.
    pub(super) fn halve(&mut self) -> Option<usize> {
        self.begun = None;
        let [first, second] = self.left.front()?.halves()?;
        let pairs = first.indices.len();
        self.left.pop_front();
        self.left.push_front(second);
        self.left.push_front(first);
        Some(pairs)
    }
}

/// The sums `[source, destination]` or `[unit, 1]` of each group of positions.
fn parts<'a>(sums: &'a Array2<f64>, table: &Table) -> impl Iterator<Item = ArrayView2<'a, f64>> + use<'a> {
    let (rows, columns) = table.shape();
    (0..sums.ncols() / columns).map(move |span| sums.slice(s![..rows, span * columns..(span + 1) * columns]))
}

/// The sums over all groups of positions: `[source, destination]` or `[unit, 1]`.
fn over_spans(sums: &Array2<f64>, table: &Table) -> Array2<f64> {
    let zeros = Array2::zeros(table.shape());
    parts(sums, table).fold(zeros, |all, part| all + part)
}

/// The book that a method keeps while it works on a batch.
pub(super) struct Ledger<'a> {
    pub state: &'a mut State,
    pub watch: &'a mut dyn Watch,
    /// How many parts the sums of the batch have beside each other, each as wide as those of the run.
    pub parts: usize,
}

impl Ledger<'_> {
    /// Does the steps `0..steps`, each of which adds to sums `[source, destination]` that start as zeros, from where an
    /// earlier run left them. Between two steps the run can be written down and ended, so nothing but the sums may pass
    /// from one step to the next.
    ///
    /// # Errors
    /// [`Stopped`] when the run is to end here.
    pub fn steps(
        &mut self,
        steps: usize,
        mut step: impl FnMut(usize, &mut Array2<f64>),
    ) -> Result<Array2<f64>, Stopped> {
        let (rows, columns) = self.state.sums.dim();
        let shape = (rows, columns * self.parts);
        let nothing = || Begun { done: 0, steps, sums: Array2::zeros(shape) };
        let begun = self.state.begun.take().filter(|begun| begun.steps == steps);
        self.state.begun = Some(begun.unwrap_or_else(nothing));
        while let Some(begun) = self.state.begun.as_mut().filter(|begun| begun.done < steps) {
            step(begun.done, &mut begun.sums);
            begun.done += 1;
            self.safe_point()?;
        }
        Ok(self.state.begun.take().unwrap_or_else(nothing).sums)
    }

    /// # Errors
    /// [`Stopped`] when the run is to end here.
    pub fn safe_point(&mut self) -> Result<(), Stopped> {
        match self.watch.safe_point(self.state) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Stopped),
        }
    }
}
