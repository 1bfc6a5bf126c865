//! Where heads look: shares of attention on one prompt, from patterns `[head, query, key]`.

use ndarray::{Array3, ArrayView1, s};

/// The mean attention of each head to where `wanted` says, over the queries that have such a place.
pub(super) fn mean_to(pattern: &Array3<f32>, wanted: impl Fn(usize) -> Option<usize>) -> Vec<f64> {
    let (heads, length, _) = pattern.dim();
    let places: Vec<(usize, usize)> = (0..length).filter_map(|query| Some((query, wanted(query)?))).collect();
    let of_head = |head: usize| {
        let sum: f64 = places.iter().map(|&(query, key)| f64::from(pattern[[head, query, key]])).sum();
        if places.is_empty() { 0.0 } else { sum / places.len() as f64 }
    };
    (0..heads).map(of_head).collect()
}

/// The attention of each head from the last position to some places together.
pub(super) fn from_last(pattern: &Array3<f32>, places: impl Iterator<Item = usize> + Clone) -> Vec<f64> {
    let (heads, length, _) = pattern.dim();
    let row = |head: usize| -> ArrayView1<f32> { pattern.slice(s![head, length - 1, ..]) };
    (0..heads).map(|head| places.clone().map(|key| f64::from(row(head)[key])).sum()).collect()
}
