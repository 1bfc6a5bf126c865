//! Resampling pairs: the means of all scores in each resample, from the scores of every pair.
//!
//! A resample draws as many pairs as there are, with replacement (Efron and Tibshirani, 1993, chapter 6). How often each pair
//! was drawn is a row of weights, so the means of all resamples are one matrix product: `[resample, pair] · [pair, score]`.
//! Cost: 2 · resamples · pairs · scores operations, and no pass of a model.

use ndarray::{Array2, ArrayView2};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How often pairs are resampled for scores.
pub const RESAMPLES: usize = 200;

/// How often each pair is drawn in each resample: `[resample, pair]`. Every row sums to the number of pairs.
pub fn draws(pairs: usize, resamples: usize, seed: u64) -> Array2<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut counts = Array2::zeros((resamples, pairs));
    for mut row in counts.rows_mut() {
        for _ in 0..pairs {
            row[(random.next_u64() % pairs as u64) as usize] += 1.0;
        }
    }
    counts
}

/// The mean over pairs of every score in each resample, `[resample, score]`, from the scores of every pair, `[pair, score]`.
pub fn resampled_means(per_pair: ArrayView2<f32>, resamples: usize, seed: u64) -> Array2<f32> {
    let pairs = per_pair.nrows();
    draws(pairs, resamples, seed).dot(&per_pair) / pairs.max(1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array, Axis};

    #[test]
    fn every_resample_draws_as_many_pairs_as_there_are() {
        let counts = draws(7, 50, 3);
        assert!(counts.rows().into_iter().all(|row| row.sum() == 7.0));
        assert!(counts.iter().any(|&count| count == 0.0) && counts.iter().any(|&count| count > 1.0));
        assert_eq!(counts, draws(7, 50, 3));
        assert_ne!(counts, draws(7, 50, 4));
    }

    #[test]
    fn means_scatter_as_the_standard_error_says() {
        // 64 pairs with scores 0, 1, .. 63, and a second score that is the same on every pair.
        let per_pair = Array::from_shape_fn((64, 2), |(pair, score)| if score == 0 { pair as f32 } else { 0.5 });
        let means = resampled_means(per_pair.view(), 2000, 0);
        let mean = means.mean_axis(Axis(0)).unwrap();
        let error = means.std_axis(Axis(0), 1.0);
        let expected = per_pair.column(0).std(0.0) / 8.0;
        assert!((mean[0] - 31.5).abs() < 0.2, "{mean}");
        assert!((error[0] / expected - 1.0).abs() < 0.05, "{error} and {expected}");
        assert!((mean[1] - 0.5).abs() < 1e-6 && error[1] < 1e-6);
    }
}
