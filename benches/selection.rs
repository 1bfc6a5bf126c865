//! Choosing circuits by net value in the graph of GPT-2 XL (2,235,025 edges), with seeded scores: of edges that have nothing to
//! do with each other, and of edges whose nodes are strong or weak, as in a model. Heavy tails in both.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use penjing::circuit::net_value::net_value;
use penjing::circuit::select::{Rank, greedy};
use penjing::graph::scores::Scores;
use penjing::graph::{Dimensions, Graph};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::hint::black_box;
use std::time::Duration;

/// Scores over ten decades or so, half of them negative.
fn scores(graph: &Graph, by_nodes: bool) -> Scores {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut draw = || (random.next_u32() as f32 / u32::MAX as f32).max(1e-9);
    let of_source: Vec<f32> = (0..graph.sources()).map(|_| draw().powi(6)).collect();
    let of_slot: Vec<f32> = (0..graph.destinations()).map(|_| draw().powi(6)).collect();
    let mut scores = Scores::zeros(graph);
    for &edge in graph.edges() {
        let strength = if by_nodes { of_source[edge.source.0] * of_slot[edge.destination.0] } else { 1.0 };
        let sign = if draw() < 0.5 { -1.0 } else { 1.0 };
        scores.set(edge, sign * strength * draw().powi(4));
    }
    scores
}

fn selection(criterion: &mut Criterion) {
    let graph = Graph::new(Dimensions::new(48, 25));
    for (name, by_nodes) in [("independent", false), ("by nodes", true)] {
        let scores = scores(&graph, by_nodes);
        let mut group = criterion.benchmark_group(format!("GPT-2 XL, {name}"));
        group.sample_size(10).warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(1));
        for edges in [1_000, 20_000, 200_000] {
            group.bench_with_input(BenchmarkId::new("greedy", edges), &edges, |bencher, &edges| {
                bencher.iter(|| black_box(greedy(&graph, &scores, edges)));
            });
            for price in [0.0, 2.0] {
                let id = BenchmarkId::new(format!("net-value, node price {price}"), edges);
                group.bench_with_input(id, &edges, |bencher, &edges| {
                    bencher.iter(|| black_box(net_value(&graph, &scores, edges, Rank::Absolute, price)));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, selection);
criterion_main!(benches);
