//! Bootstrap intervals for numbers that are ratios of means over pairs.
//!
//! Method: percentile bootstrap (Efron and Tibshirani, 1993, chapter 13), widened for few pairs ([`crate::statistics::interval`]):
//! resample pairs with replacement, recompute the ratio, take quantiles. Pairs are resampled whole, so the three runs of a
//! pair stay together.

use super::bench::mean;
use crate::statistics::interval::{LEVEL, interval};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How often pairs are resampled.
pub const RESAMPLES: usize = 2000;

/// Normalised faithfulness, a ratio of means: (m(C) − m(∅)) / (m(M) − m(∅)).
pub fn faithfulness(circuit: f64, ablated: f64, model: f64) -> f64 {
    (circuit - ablated) / (model - ablated)
}

/// [`faithfulness`] and its standard error over pairs, from each pair's metric in the three runs (equal lengths): the delta
/// method for a ratio of means.
pub fn faithfulness_with_error(circuit: &[f64], ablated: &[f64], model: &[f64]) -> [f64; 2] {
    let ratio = faithfulness(mean(circuit), mean(ablated), mean(model));
    let pairs = circuit.len() as f64;
    let squares: f64 = circuit
        .iter()
        .zip(ablated)
        .zip(model)
        .map(|((circuit, ablated), model)| ((circuit - ablated) - ratio * (model - ablated)).powi(2))
        .sum();
    [ratio, (squares / (pairs * (pairs - 1.0).max(1.0))).sqrt() / (mean(model) - mean(ablated)).abs()]
}

/// The 95 % interval of [`faithfulness`] over pairs, from each pair's metric in the three runs (equal lengths). Not a number
/// for fewer than two pairs.
pub fn faithfulness_interval(circuit: &[f64], ablated: &[f64], model: &[f64], seed: u64) -> [f64; 2] {
    let pairs = circuit.len();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let ratios = (0..RESAMPLES)
        .map(|_| {
            let mut sums = [0.0; 3];
            for _ in 0..pairs {
                let pair = (random.next_u64() % pairs as u64) as usize;
                for (sum, run) in sums.iter_mut().zip([circuit, ablated, model]) {
                    *sum += run[pair];
                }
            }
            faithfulness(sums[0], sums[1], sums[2])
        })
        .collect();
    interval(ratios, pairs, LEVEL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_shrinks_to_the_value_when_pairs_agree() {
        let interval = faithfulness_interval(&[0.9; 20], &[0.0; 20], &[1.0; 20], 0);
        assert!(interval.iter().all(|bound| (bound - 0.9).abs() < 1e-12));
    }

    #[test]
    fn interval_holds_the_ratio_of_means_and_repeats_with_its_seed() {
        let circuit: Vec<f64> = (0..50).map(|i| 0.5 + 0.01 * f64::from(i)).collect();
        let (ablated, model) = (vec![0.0; 50], vec![1.0; 50]);
        let [low, high] = faithfulness_interval(&circuit, &ablated, &model, 7);
        assert!(low < 0.745 && 0.745 < high, "[{low}, {high}]");
        assert!(high - low < 0.1, "[{low}, {high}]");
        assert_eq!([low, high], faithfulness_interval(&circuit, &ablated, &model, 7));
    }
}
