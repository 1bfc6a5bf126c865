//! Means over prompts with 95 % intervals: prompts are drawn anew with replacement, 2,000 times, and the statistic computed of
//! each draw; its 2.5 % and 97.5 % quantiles are the interval (percentile bootstrap; Efron and Tibshirani, 1993).
//!
//! Cost: 2,000 evaluations of the statistic. Of a single prompt the interval is a point and says nothing of others.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const RESAMPLES: usize = 2000;

/// A mean, or a statistic like one, with its interval.
pub type Mean = (f64, [f64; 2]);

/// 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// The interval of a mean.
pub fn interval(values: &[f64], seed: u64) -> [f64; 2] {
    interval_of(values.len(), seed, |drawn| drawn.iter().map(|&index| values[index]).sum::<f64>() / drawn.len() as f64)
}

/// The interval of any statistic of `count` prompts, given as the prompts drawn; draws where it is no number are left out.
pub fn interval_of(count: usize, seed: u64, statistic: impl Fn(&[usize]) -> f64) -> [f64; 2] {
    if count == 0 {
        return [f64::NAN; 2];
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut drawn = vec![0; count];
    let mut found = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        drawn.fill_with(|| (random.next_u64() % count as u64) as usize);
        found.extend(Some(statistic(&drawn)).filter(|value| value.is_finite()));
    }
    found.sort_by(f64::total_cmp);
    let last = found.len().saturating_sub(1) as f64;
    [0.025, 0.975].map(|share| found.get((share * last).round() as usize).copied().unwrap_or(f64::NAN))
}

/// Of sorted values, between the two nearest; `share` is between 0 and 1.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len().max(1) - 1) as f64;
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    let (low, high) = (at(place.floor() as usize), at(place.ceil() as usize));
    low + (high - low) * place.fract()
}
