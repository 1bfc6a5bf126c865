//! Tests on counts: how likely so many successes are, if each has a given chance.

use statrs::distribution::{Binomial, DiscreteCDF};

/// The chance of at least `count` successes in `trials`, each with chance `share`. 1 without trials.
pub fn at_least(count: usize, trials: usize, share: f64) -> f64 {
    match (count.checked_sub(1), Binomial::new(share, trials as u64)) {
        (Some(below), Ok(binomial)) => binomial.sf(below as u64),
        _ => 1.0,
    }
}

/// The chance of at most `count` successes in `trials`, each with chance `share`. 1 without trials.
pub fn at_most(count: usize, trials: usize, share: f64) -> f64 {
    Binomial::new(share, trials as u64).map_or(1.0, |binomial| binomial.cdf(count as u64))
}

/// Wilson's interval of a share, from so many successes (Wilson, 1927); `z`: the normal quantile, 1.96 for 95 %.
pub fn wilson(count: usize, trials: usize, z: f64) -> [f64; 2] {
    if trials == 0 {
        return [0.0, 1.0];
    }
    let (trials, share) = (trials as f64, count as f64 / trials as f64);
    let centre = share + z * z / (2.0 * trials);
    let half = z * (share * (1.0 - share) / trials + z * z / (4.0 * trials * trials)).sqrt();
    [(centre - half) / (1.0 + z * z / trials), (centre + half) / (1.0 + z * z / trials)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_sums_of_binomial_terms() {
        // Of 5 tosses: 1, 5, 10, 10, 5, 1 of 32.
        assert!((at_least(4, 5, 0.5) - 6.0 / 32.0).abs() < 1e-12);
        assert!((at_most(1, 5, 0.5) - 6.0 / 32.0).abs() < 1e-12);
        assert!((at_least(50, 50, 0.9) - 0.9f64.powi(50)).abs() < 1e-12);
        assert_eq!((at_least(0, 5, 0.5), at_most(5, 5, 0.5), at_least(0, 0, 0.9)), (1.0, 1.0, 1.0));
    }

    #[test]
    fn the_interval_of_a_share_is_wilson_s() {
        // 10 of 20: centre 0.5, half width 1.96 √(0.25/20 + 0.0024) / 1.192.
        let [low, high] = wilson(10, 20, 1.96);
        assert!((low - 0.299_3).abs() < 1e-3 && (high - 0.700_7).abs() < 1e-3, "[{low}, {high}]");
        assert_eq!(wilson(0, 0, 1.96), [0.0, 1.0]);
    }
}
