//! Several tests at once: p-values adjusted so that one false rejection among all is as rare as it would be in a single test.
//!
//! Holm's step-down method (Holm, 1979): the k-th smallest of n p-values times n − k + 1, never less than the one before. It
//! holds whatever the dependence between the tests, and rejects all that Bonferroni's rejects.

/// The adjusted p-values, in the order given.
pub fn adjusted(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![1.0; p_values.len()];
    let mut least = 0f64;
    for (rank, &index) in order.iter().enumerate() {
        least = least.max((p_values[index] * (p_values.len() - rank) as f64).min(1.0));
        adjusted[index] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smaller_ones_count_more() {
        // 0.01 · 4, 0.02 · 3, then 0.03 · 2 = 0.06 is not below 0.06, and 0.5.
        let found = adjusted(&[0.03, 0.01, 0.5, 0.02]);
        for (found, expected) in found.iter().zip([0.06, 0.04, 0.5, 0.06]) {
            assert!((found - expected).abs() < 1e-12, "{found}");
        }
        assert!(adjusted(&[]).is_empty());
        assert_eq!(adjusted(&[0.9, 0.8]), [1.0, 1.0]);
    }
}
