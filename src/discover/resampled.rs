//! What a selection would have been on other pairs, from the scores of every pair: no run of the model.
//!
//! A resample draws as many pairs as there are, with replacement; the same rule selects from its mean scores. The overlap of
//! those selections says how much of a circuit is an accident of its pairs. Paper: Méloux et al. (2025), who ask for a
//! Jaccard index of 0.8 over a hundred resamples.
//! Cost: a selection a resample; 2 · resamples · pairs · edges operations for the means.

use super::parts;
use crate::circuit::EdgeMask;
use crate::circuit::evidence::{EdgeStability, Stability};
use crate::circuit::select::SelectError;
use crate::graph::scores::Scores;
use crate::graph::{Edge, Graph, Level, Table};
use crate::statistics::interval::{LEVEL, interval, quantile};
use crate::statistics::resample::resampled_means;
use ndarray::{ArrayView1, ArrayView2};
use rayon::prelude::*;

/// Scores of every pair, and how a circuit is selected from their means.
pub struct OfPairs<'a, S> {
    pub table: Table<'a>,
    /// `[pair, edge or unit]`, in the order of the table.
    pub per_pair: ArrayView2<'a, f32>,
    /// A circuit from scores of all edges, without runs of the model.
    pub select: S,
}

impl<S: Fn(&Scores) -> Result<EdgeMask, SelectError> + Sync> OfPairs<'_, S> {
    /// The selection from means `[edge or unit]`.
    ///
    /// # Errors
    /// [`SelectError`] of the rule.
    pub fn selected(&self, means: ArrayView1<f32>) -> Result<EdgeMask, SelectError> {
        let Table { graph, .. } = self.table;
        let (rows, columns) = self.table.shape();
        let mut scores = Scores { values: ndarray::Array2::zeros((rows, columns)) };
        for (&mean, cell) in means.iter().zip(self.table.cells()) {
            scores.values[cell] = mean;
        }
        (self.select)(&if self.table.level() == Level::Edge { scores } else { parts::at_edges(graph, &scores) })
    }

    /// How the selection changes when pairs are resampled. `circuit`: the edges to report on; `all`: the selection from all
    /// pairs.
    ///
    /// # Errors
    /// [`SelectError`] of the rule.
    pub fn stability(
        &self,
        circuit: &EdgeMask,
        all: &EdgeMask,
        resamples: usize,
        seed: u64,
    ) -> Result<Stability, SelectError> {
        let Table { graph, .. } = self.table;
        let pairs = self.per_pair.nrows();
        let means = resampled_means(self.per_pair, resamples, seed); // [resample, edge or unit]
        let rows: Vec<ArrayView1<f32>> = means.rows().into_iter().collect();
        let selections =
            rows.par_iter().map(|row| self.selected(row.view())).collect::<Result<Vec<EdgeMask>, SelectError>>()?;
        let intervals: Vec<[f64; 2]> = (0..means.ncols())
            .into_par_iter()
            .map(|column| interval(means.column(column).iter().map(|&mean| f64::from(mean)).collect(), pairs, LEVEL))
            .collect();
        let one_sign = intervals.iter().filter(|[low, high]| *low > 0.0 || *high < 0.0).count();

        let sets: Vec<Vec<u64>> = selections.iter().map(|mask| bits(graph, mask)).collect();
        let of_all = bits(graph, all);
        let mut between: Vec<f64> = (1..sets.len())
            .into_par_iter()
            .flat_map_iter(|last| sets[..last].iter().map(|other| jaccard(&sets[last], other)).collect::<Vec<f64>>())
            .collect();
        between.sort_by(f64::total_cmp);
        let with_all: Vec<f64> = sets.iter().map(|of| jaccard(of, &of_all)).collect();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;

        let columns = std::collections::HashMap::<[usize; 2], usize>::from_iter(
            self.table.cells().into_iter().enumerate().map(|(column, cell)| (cell, column)),
        );
        let of_edge = |edge: Edge| {
            // An edge of a circuit of nodes has the score of the node that it leaves.
            let cell = match self.table.level() {
                Level::Edge => [edge.source.0, edge.destination.0],
                Level::Node | Level::Neuron => [edge.source.0, 0],
            };
            let interval = columns.get(&cell).map_or([f64::NAN; 2], |&column| intervals[column]);
            let selected = selections.iter().filter(|mask| mask.contains(edge)).count() as f64;
            EdgeStability { edge, interval, selected: selected / selections.len() as f64 }
        };
        Ok(Stability {
            resamples,
            jaccard: mean(&between),
            jaccard_range: [0.025, 0.975].map(|share| quantile(&between, share)),
            jaccard_with_all: mean(&with_all),
            one_sign,
            scored: means.ncols(),
            edges: circuit.edges(graph).into_iter().map(of_edge).collect(),
        })
    }
}

/// The Jaccard index of two sets of edges: those in both of those in either; 1 if both are empty.
pub fn overlap(graph: &Graph, a: &EdgeMask, b: &EdgeMask) -> f64 {
    jaccard(&bits(graph, a), &bits(graph, b))
}

/// A set as one bit for each edge of the graph.
fn bits(graph: &Graph, mask: &EdgeMask) -> Vec<u64> {
    let word = |edges: &[Edge]| {
        edges.iter().enumerate().fold(0u64, |word, (bit, edge)| word | u64::from(mask.contains(*edge)) << bit)
    };
    graph.edges().chunks(64).map(word).collect()
}

fn jaccard(a: &[u64], b: &[u64]) -> f64 {
    let count = |rule: fn(u64, u64) -> u64| a.iter().zip(b).map(|(&a, &b)| rule(a, b).count_ones()).sum::<u32>();
    match count(|a, b| a | b) {
        0 => 1.0,
        either => f64::from(count(|a, b| a & b)) / f64::from(either),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::circuit::select::{Rank, top_n};
    use crate::graph::Dimensions;
    use ndarray::Array2;

    fn stability_of(per_pair: &Array2<f32>, graph: &Graph, take: usize) -> (Stability, EdgeMask) {
        let select = |scores: &Scores| top_n(graph, scores, take, Rank::Absolute);
        let of = OfPairs { table: Table::new(graph, Level::Edge, 0), per_pair: per_pair.view(), select };
        let all = of.selected(per_pair.mean_axis(ndarray::Axis(0)).unwrap().view()).unwrap();
        (of.stability(&all, &all, 100, 0).unwrap(), all)
    }

    #[test]
    fn pairs_that_agree_give_one_selection_and_noise_gives_many() {
        let graph = Graph::new(Dimensions::new(2, 2));
        let edges = graph.edge_count();
        let agreeing = Array2::from_shape_fn((20, edges), |(_, edge)| edge as f32 + 1.0);
        let (same, all) = stability_of(&agreeing, &graph, 5);
        assert_eq!((same.jaccard, same.jaccard_range, same.jaccard_with_all), (1.0, [1.0; 2], 1.0));
        assert_eq!((same.one_sign, same.scored), (edges, edges));
        assert_eq!(all.edges(&graph), graph.edges()[edges - 5..]);
        assert!(same.edges.iter().all(|edge| edge.selected == 1.0 && edge.interval[0] == edge.interval[1]));

        // A score that is ±1 on half of the pairs each, differently for every edge.
        let noise = Array2::from_shape_fn(
            (20, edges),
            |(pair, edge)| if (pair * 7 + edge * 13) % 20 < 10 { 1.0 } else { -1.0 },
        );
        let (noisy, _) = stability_of(&noise, &graph, 5);
        assert!(noisy.jaccard < 0.3 && noisy.one_sign < edges / 5, "{} {}", noisy.jaccard, noisy.one_sign);
        assert!(noisy.edges.iter().all(|edge| edge.interval[0] < 0.0 && edge.interval[1] > 0.0));
    }

    #[test]
    fn overlap_counts_edges() {
        let graph = Graph::new(Dimensions::new(3, 4));
        let of = |range: std::ops::Range<usize>| EdgeMask::of(&graph, graph.edges()[range].iter().copied());
        assert_eq!(overlap(&graph, &of(0..100), &of(50..150)), 50.0 / 150.0);
        assert_eq!(overlap(&graph, &of(0..0), &of(0..0)), 1.0);
    }
}
