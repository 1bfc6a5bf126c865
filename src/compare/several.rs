//! How much several sets of edges of one graph have in common, two by two.
//!
//! J(A, B) = |A ∩ B| / |A ∪ B|, 1 of two empty sets. By chance: two random sets of their sizes ([`super::overlap`]).
//! Cost: sets² / 2 times the edges of the graph, 64 at a time.

use super::overlap::Overlap;
use crate::circuit::EdgeMask;
use crate::graph::{Edge, Graph};
use ndarray::Array2;
use std::collections::HashMap;

/// What two or more sets have in common.
#[derive(Clone, PartialEq, Debug)]
pub struct Several {
    /// The Jaccard index of every two: `[set, set]`, 1 on the diagonal.
    pub matrix: Array2<f64>,
    /// Of every two different sets once, upwards.
    pub sorted: Vec<f64>,
    pub mean: f64,
    /// The places of the two with the lowest index, the first of them where there are several.
    pub lowest: [usize; 2],
    /// What the mean would be of random sets of the same sizes.
    pub chance: f64,
    /// The edges in all of them.
    pub core: EdgeMask,
    /// How many are empty.
    pub empty: usize,
}

impl Several {
    /// Nothing for fewer than two sets.
    pub fn of(graph: &Graph, sets: &[EdgeMask]) -> Option<Several> {
        let (first, others) = sets.split_first().filter(|(_, others)| !others.is_empty())?;
        let words: Vec<Vec<u64>> = sets.iter().map(|set| bits(graph, set)).collect();
        let sizes: Vec<usize> = words.iter().map(|words| count(words.iter().copied())).collect();
        let mut matrix = Array2::from_elem((sets.len(), sets.len()), 1.0);
        let (mut sorted, mut lowest, mut chance) = (Vec::new(), [0, 1], 0.0);
        let mut chances = HashMap::<[usize; 2], f64>::new();
        for one in 0..sets.len() {
            for other in one + 1..sets.len() {
                let index = jaccard(&words[one], &words[other]);
                (matrix[[one, other]], matrix[[other, one]]) = (index, index);
                if index < matrix[lowest] {
                    lowest = [one, other];
                }
                sorted.push(index);
                let of = [sizes[one].min(sizes[other]), sizes[one].max(sizes[other])];
                chance +=
                    *chances.entry(of).or_insert_with(|| Overlap::new(of[0], of[1], 0, graph.edge_count()).chance);
            }
        }
        let mean = |sum: f64| sum / sorted.len() as f64;
        let (mean, chance) = (mean(sorted.iter().sum()), mean(chance));
        sorted.sort_by(f64::total_cmp);
        let core = others.iter().fold(first.clone(), |core, set| core.intersection(set));
        let empty = sizes.iter().filter(|&&size| size == 0).count();
        Some(Several { matrix, sorted, mean, lowest, chance, core, empty })
    }
}

/// The Jaccard index of a set with each of several.
pub fn with_each(graph: &Graph, one: &EdgeMask, sets: &[EdgeMask]) -> Vec<f64> {
    let one = bits(graph, one);
    sets.iter().map(|set| jaccard(&one, &bits(graph, set))).collect()
}

/// A set as one bit for each edge of the graph.
fn bits(graph: &Graph, mask: &EdgeMask) -> Vec<u64> {
    let word = |edges: &[Edge]| {
        edges.iter().enumerate().fold(0u64, |word, (bit, edge)| word | (u64::from(mask.contains(*edge)) << bit))
    };
    graph.edges().chunks(64).map(word).collect()
}

fn count(words: impl Iterator<Item = u64>) -> usize {
    words.map(|word| word.count_ones() as usize).sum()
}

fn jaccard(a: &[u64], b: &[u64]) -> f64 {
    let words = || a.iter().zip(b);
    match count(words().map(|(a, b)| a | b)) {
        0 => 1.0,
        either => count(words().map(|(a, b)| a & b)) as f64 / either as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Dimensions;

    #[test]
    fn every_two_sets_are_counted_once() {
        let graph = Graph::new(Dimensions::new(3, 4));
        let of = |range: std::ops::Range<usize>| EdgeMask::of(&graph, graph.edges()[range].iter().copied());
        let sets = [of(0..100), of(50..150), of(50..100), of(0..100)];
        let several = Several::of(&graph, &sets).unwrap();
        let expected = [
            [1.0, 1.0 / 3.0, 0.5, 1.0],
            [1.0 / 3.0, 1.0, 0.5, 1.0 / 3.0],
            [0.5, 0.5, 1.0, 0.5],
            [1.0, 1.0 / 3.0, 0.5, 1.0],
        ];
        assert_eq!(several.matrix, ndarray::arr2(&expected));
        assert!((several.mean - (2.0 / 3.0 + 1.5 + 1.0) / 6.0).abs() < 1e-15, "{}", several.mean);
        assert_eq!((several.lowest, several.core, several.empty), ([0, 1], of(50..100), 0));
        assert_eq!((several.sorted.first(), several.sorted.last()), (Some(&(1.0 / 3.0)), Some(&1.0)));
        let chance = |a, b| Overlap::new(a, b, 0, graph.edge_count()).chance;
        let expected = (3.0 * chance(100, 100) + 3.0 * chance(50, 100)) / 6.0;
        assert!((several.chance - expected).abs() < 1e-12, "{} and {expected}", several.chance);
        assert_eq!(with_each(&graph, &sets[2], &sets), [0.5, 0.5, 1.0, 0.5]);
    }

    #[test]
    fn empty_sets_are_told() {
        let graph = Graph::new(Dimensions::new(1, 1));
        let (none, all) = (EdgeMask::empty(&graph), EdgeMask::full(&graph));
        let several = Several::of(&graph, &[none.clone(), all.clone(), none.clone()]).unwrap();
        assert_eq!((several.mean, several.empty, several.lowest), (1.0 / 3.0, 2, [0, 1]));
        assert_eq!(several.core, none);
        assert_eq!((Several::of(&graph, &[all]), Several::of(&graph, &[])), (None, None));
    }
}
