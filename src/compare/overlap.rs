//! How much two sets of one graph have in common, and how much they would by chance.
//!
//! Jaccard index J = |A ∩ B| / |A ∪ B|. Its interval is Wilson's (1927) for a share of the |A ∪ B| members, which takes them for
//! independent; edges that share a node are not, so it is the least uncertainty that there is. By chance: |A| and |B| members
//! drawn from all, so that |A ∩ B| is hypergeometric.

/// The normal quantile of 95 % intervals.
const Z: f64 = 1.959_963_984_540_054;

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Overlap {
    pub a: usize,
    pub b: usize,
    pub both: usize,
    /// Members of the graph.
    pub of: usize,
    /// 1 of two empty sets.
    pub jaccard: f64,
    pub interval: [f64; 2],
    /// What J would be by chance on average, and within which limits in 95 of 100 cases.
    pub chance: f64,
    pub chance_interval: [f64; 2],
    /// The probability that chance gives so many in common or more.
    pub p: f64,
}

impl Overlap {
    pub fn new(a: usize, b: usize, both: usize, of: usize) -> Overlap {
        let jaccard = |both: usize| match a + b - both {
            0 => 1.0,
            union => both as f64 / union as f64,
        };
        let least = (a + b).saturating_sub(of);
        let chances = hypergeometric(a, b, of);
        let quantile = |share: f64| {
            let mut below = 0.0;
            let found = chances.iter().position(|chance| {
                below += chance;
                below >= share
            });
            jaccard(least + found.unwrap_or(chances.len().saturating_sub(1)))
        };
        let with_both = || chances.iter().zip(least..);
        Overlap {
            a,
            b,
            both,
            of,
            jaccard: jaccard(both),
            interval: wilson(both, a + b - both),
            chance: with_both().map(|(chance, both)| chance * jaccard(both)).sum(),
            chance_interval: [quantile(0.025), quantile(0.975)],
            p: with_both().filter(|(_, count)| *count >= both).map(|(chance, _)| chance).sum::<f64>().min(1.0),
        }
    }
}

/// The probabilities that sets of `a` and `b` of `of` members share `max(0, a + b - of)` members, one more, and so on.
fn hypergeometric(a: usize, b: usize, of: usize) -> Vec<f64> {
    let least = (a + b).saturating_sub(of);
    let mut logs = vec![0.0];
    for both in least..a.min(b) {
        let ratio = (a - both) as f64 * (b - both) as f64 / ((both + 1) as f64 * (of + both + 1 - a - b) as f64);
        logs.push(logs.last().copied().unwrap_or(0.0) + ratio.ln());
    }
    let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logs.into_iter().map(|log| (log - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// Wilson's 95 % interval of a share.
pub fn wilson(count: usize, of: usize) -> [f64; 2] {
    if of == 0 {
        return [0.0, 1.0];
    }
    let (count, of) = (count as f64, of as f64);
    let (share, square) = (count / of, Z * Z);
    let middle = (share + square / (2.0 * of)) / (1.0 + square / of);
    let half = Z / (1.0 + square / of) * (share * (1.0 - share) / of + square / (4.0 * of * of)).sqrt();
    [(middle - half).max(0.0), (middle + half).min(1.0)]
}

/// Spearman's rank correlation; nothing of fewer than two values, or where one side is all equal.
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    let [a, b] = [a, b].map(ranks);
    let mean = (a.len() as f64 + 1.0) / 2.0;
    let sum = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    let spread = (sum(&a, &a) * sum(&b, &b)).sqrt();
    (spread > 0.0).then(|| sum(&a, &b) / spread)
}

/// Ranks from 1, equal values with their mean rank.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for equal in order.chunk_by(|&a, &b| values[a] == values[b]) {
        for &index in equal {
            ranks[index] = first as f64 + (equal.len() as f64 + 1.0) / 2.0;
        }
        first += equal.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against all subsets of a small set, one by one.
    #[test]
    fn chance_is_that_of_random_sets() {
        for (a, b, of) in [(2, 3, 5), (3, 3, 6), (4, 5, 6), (0, 2, 4), (6, 6, 6)] {
            let sets = |size: u32| (0u32..1 << of).filter(move |set| set.count_ones() == size);
            let mut all = Vec::new();
            for one in sets(a) {
                for other in sets(b) {
                    all.push([(one & other).count_ones(), (one | other).count_ones()]);
                }
            }
            let count = all.len() as f64;
            let mean: f64 =
                all.iter().map(|[and, or]| if *or == 0 { 1.0 } else { f64::from(*and) / f64::from(*or) }).sum();
            for both in (a + b).saturating_sub(of)..=a.min(b) {
                let found = Overlap::new(a as usize, b as usize, both as usize, of as usize);
                let p = all.iter().filter(|[and, _]| *and >= both).count() as f64 / count;
                assert!((found.chance - mean / count).abs() < 1e-12, "{found:?}: {}", mean / count);
                assert!((found.p - p).abs() < 1e-12, "{found:?}: {p}");
            }
        }
    }

    #[test]
    fn large_graphs_are_no_trouble() {
        let found = Overlap::new(1000, 1000, 31, 1_000_000);
        assert!((found.chance - 0.0005).abs() < 1e-5, "{found:?}");
        assert!(found.p < 1e-30 && found.jaccard > found.chance_interval[1], "{found:?}");
        assert_eq!(Overlap::new(0, 0, 0, 10).jaccard, 1.0);
    }

    #[test]
    fn wilson_is_the_published_interval() {
        // Newcombe (1998), Statistics in Medicine 17, table I: 81 of 263, 15 of 148, 0 of 20.
        for (count, of, expected) in [(81, 263, [0.2553, 0.3662]), (15, 148, [0.0624, 0.1605]), (0, 20, [0.0, 0.1611])]
        {
            for (found, expected) in wilson(count, of).into_iter().zip(expected) {
                assert!((found - expected).abs() < 5e-5, "{count} of {of}: {found}");
            }
        }
    }

    #[test]
    fn spearman_of_ties_and_orders() {
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[10.0, 20.0, 30.0]), Some(1.0));
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[3.0, 2.0, -1.0]), Some(-1.0));
        // By hand: ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4; covariance 4.5, variances 4.5 and 5.
        let found = spearman(&[0.0, 5.0, 5.0, 9.0], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert!((found - 4.5 / (4.5f64 * 5.0).sqrt()).abs() < 1e-12, "{found}");
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None);
        assert_eq!(spearman(&[], &[]), None);
    }
}
