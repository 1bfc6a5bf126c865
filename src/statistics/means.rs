//! The intervals of all scores at once, from the scores of every pair: percentiles of their means in resamples of the pairs,
//! widened for few pairs ([`super::interval`]).
//!
//! Cost: 2 · resamples · pairs · scores operations, and for each score the order of its means. Scores go by in blocks, so the
//! memory is that of resamples · [`AT_ONCE`] numbers for each thread.

use super::interval::{LEVEL, interval};
use super::resample::draws;
use ndarray::{ArrayView2, Axis};
use rayon::prelude::*;

/// Scores whose means are resampled at once.
const AT_ONCE: usize = 1024;

/// The interval at [`LEVEL`] of the mean of every score, from `per_pair`, `[pair, score]`; not numbers for fewer than two
/// pairs. The same seed draws the same pairs as [`super::resample::resampled_means`].
pub fn intervals_of_means(per_pair: ArrayView2<f32>, resamples: usize, seed: u64) -> Vec<[f64; 2]> {
    let pairs = per_pair.nrows();
    if pairs < 2 {
        return vec![[f64::NAN; 2]; per_pair.ncols()];
    }
    let counts = draws(pairs, resamples, seed); // [resample, pair]
    let blocks: Vec<ArrayView2<f32>> = per_pair.axis_chunks_iter(Axis(1), AT_ONCE).collect();
    let of_block = |block: &ArrayView2<f32>| {
        let means = counts.dot(block) / pairs as f32; // [resample, score]
        let column =
            |column| interval(means.column(column).iter().map(|&mean| f64::from(mean)).collect(), pairs, LEVEL);
        (0..means.ncols()).map(column).collect::<Vec<_>>()
    };
    blocks.par_iter().map(of_block).collect::<Vec<_>>().concat()
}

/// How many intervals lie on one side of 0.
pub fn of_one_sign(intervals: &[[f64; 2]]) -> usize {
    intervals.iter().filter(|[low, high]| *low > 0.0 || *high < 0.0).count()
}

#[cfg(test)]
mod tests {
    use super::super::resample::resampled_means;
    use super::*;
    use ndarray::Array2;

    #[test]
    fn blocks_give_what_all_scores_together_give() {
        let of = |pair: usize, score: usize| ((pair * 37 + score * 11) % 101) as f32 - 50.0 + score as f32 / 40.0;
        let per_pair = Array2::from_shape_fn((12, 2 * AT_ONCE + 5), |(pair, score)| of(pair, score));
        let found = intervals_of_means(per_pair.view(), 60, 3);
        let means = resampled_means(per_pair.view(), 60, 3);
        assert_eq!(found.len(), per_pair.ncols());
        for (column, found) in means.columns().into_iter().zip(&found) {
            let expected = interval(column.iter().map(|&mean| f64::from(mean)).collect(), 12, LEVEL);
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-4, "{found} and {expected}");
            }
        }
    }

    #[test]
    fn signs_are_counted_and_one_pair_says_nothing() {
        let per_pair = Array2::from_shape_fn((8, 3), |(pair, score)| match score {
            0 => 1.0 + pair as f32,
            1 => -2.0,
            _ => {
                if pair % 2 == 0 {
                    1.0
                } else {
                    -1.0
                }
            }
        });
        assert_eq!(of_one_sign(&intervals_of_means(per_pair.view(), 200, 0)), 2);
        let one = intervals_of_means(per_pair.slice(ndarray::s![..1, ..]), 200, 0);
        assert!(one.len() == 3 && one.iter().flatten().all(|end| end.is_nan()));
        assert_eq!(of_one_sign(&one), 0);
    }
}
