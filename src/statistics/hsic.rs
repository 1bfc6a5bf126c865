//! Whether two numbers of every pair depend on each other, in whatever way: the Hilbert-Schmidt independence criterion.
//!
//! HSIC = trace(K H L H) / n², K and L Gaussian kernels of the two with the median distance as width, H centring; its
//! distribution under independence by permuting one of them. Gretton et al., "Measuring Statistical Dependence with
//! Hilbert-Schmidt Norms", 2005; for circuits: Shi et al., arXiv:2410.13032.
//! Cost: n² operations a permutation.

use ndarray::{Array2, Axis};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How often one of the two is permuted.
pub const PERMUTATIONS: usize = 1000;

/// What was found: the statistic, and how many of [`PERMUTATIONS`] reach it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Dependence {
    pub hsic: f64,
    pub reached: usize,
}

impl Dependence {
    /// The chance of a statistic at least as large under independence.
    pub fn p(self) -> f64 {
        (self.reached + 1) as f64 / (PERMUTATIONS + 1) as f64
    }
}

/// The dependence between `a` and `b`, of equal lengths. A constant depends on nothing.
pub fn dependence(a: &[f64], b: &[f64], seed: u64) -> Dependence {
    let (Some(of_a), Some(of_b)) = (kernel(a).map(centred), kernel(b)) else {
        return Dependence { hsic: 0.0, reached: PERMUTATIONS };
    };
    let pairs = a.len();
    // Plain rows: this is the innermost loop of a thousand permutations.
    let (of_a, of_b) = (of_a.into_raw_vec_and_offset().0, of_b.into_raw_vec_and_offset().0);
    let statistic = |order: &[usize]| {
        let mut sum = 0.0;
        for (row, &permuted) in of_a.chunks(pairs).zip(order) {
            let of_b = &of_b[permuted * pairs..(permuted + 1) * pairs];
            sum += row.iter().zip(order).map(|(a, &j)| a * of_b[j]).sum::<f64>();
        }
        sum / (pairs * pairs) as f64
    };
    let mut order: Vec<usize> = (0..pairs).collect();
    let hsic = statistic(&order);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut reached = 0;
    for _ in 0..PERMUTATIONS {
        for last in (1..pairs).rev() {
            order.swap(last, (random.next_u64() % (last as u64 + 1)) as usize);
        }
        reached += usize::from(statistic(&order) >= hsic - 1e-12);
    }
    Dependence { hsic, reached }
}

/// exp(−(x − y)² / 2σ²) of all two values, `[n, n]`, σ the median distance of different ones; none if all are the same or
/// some are no numbers.
fn kernel(values: &[f64]) -> Option<Array2<f64>> {
    let mut distances: Vec<f64> = Vec::new();
    for (index, value) in values.iter().enumerate() {
        distances.extend(values[..index].iter().map(|other| (value - other).abs()));
    }
    if distances.iter().any(|distance| !distance.is_finite()) {
        return None;
    }
    distances.retain(|&distance| distance > 0.0);
    distances.sort_by(f64::total_cmp);
    let width = *distances.get(distances.len() / 2)?;
    let pairs = values.len();
    Some(Array2::from_shape_fn((pairs, pairs), |(i, j)| (-((values[i] - values[j]) / width).powi(2) / 2.0).exp()))
}

/// H K H.
fn centred(mut kernel: Array2<f64>) -> Array2<f64> {
    for axis in [Axis(0), Axis(1)] {
        if let Some(mean) = kernel.mean_axis(axis) {
            kernel -= &mean.insert_axis(axis);
        }
    }
    kernel
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64, count: usize) -> Vec<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        (0..count).map(|_| f64::from(random.next_u32()) / f64::from(u32::MAX) - 0.5).collect()
    }

    #[test]
    fn a_dependence_without_correlation_is_seen() {
        let a = noise(1, 60);
        let square: Vec<f64> = a.iter().map(|x| x * x).collect();
        assert!(dependence(&a, &square, 0).p() < 0.01);
        assert_eq!(dependence(&a, &[0.3; 60], 0).p(), 1.0);
        assert_eq!(dependence(&a, &square, 5), dependence(&a, &square, 5));
    }

    #[test]
    fn independent_numbers_are_called_dependent_as_often_as_the_level_says() {
        let rejected = (0..100).filter(|&run| dependence(&noise(run, 30), &noise(1000 + run, 30), run).p() <= 0.05);
        let count = rejected.count();
        // Binomial(100, 0.05): more than 12 has a chance of 0.2 %.
        assert!(count <= 12, "{count} of 100");
    }

    #[test]
    fn the_statistic_is_the_trace() {
        let (a, b) = ([0.0, 1.0, 3.0], [1.0, 0.0, 2.0]);
        let (k, l) = (kernel(&a).unwrap(), kernel(&b).unwrap());
        let h = Array2::from_shape_fn((3, 3), |(i, j)| f64::from(u8::from(i == j)) - 1.0 / 3.0);
        let trace = k.dot(&h).dot(&l).dot(&h).diag().sum() / 9.0;
        assert!((dependence(&a, &b, 0).hsic - trace).abs() < 1e-12);
    }
}
