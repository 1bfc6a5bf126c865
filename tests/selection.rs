//! Selection by net value against exhaustive search, and how near selections come to the best connected circuit.

use penjing::circuit::EdgeMask;
use penjing::circuit::net_value::{at_price, net_value};
use penjing::circuit::prune::prune;
use penjing::circuit::select::{Rank, greedy, top_n};
use penjing::graph::scores::Scores;
use penjing::graph::{Dimensions, Edge, Graph, Node};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A graph whose edges but a few, drawn at random, have no score; the scores are multiples of 1/16, so that sums are exact.
fn few_edges(seed: u64, most: usize) -> (Graph, Scores) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let dimensions = [Dimensions::new(1, 2), Dimensions::new(2, 1), Dimensions::new(3, 1)][seed as usize % 3];
    let graph = Graph::new(dimensions);
    let mut scores = Scores::zeros(&graph);
    scores.values.fill(f32::NAN);
    let mut left = most;
    // Selection sampling: every edge is as likely as any other.
    for (index, &edge) in graph.edges().iter().enumerate() {
        if random.next_u64() % ((graph.edge_count() - index) as u64) < left as u64 {
            left -= 1;
            scores.set(edge, (random.next_u64() % 65) as f32 / 16.0 - 2.0);
        }
    }
    (graph, scores)
}

fn worth(score: f32, rank: Rank) -> f64 {
    f64::from(match rank {
        Rank::Absolute => score.abs(),
        Rank::Signed => score,
    })
}

/// A set of edges as bits, over the edges that have a score.
struct Small<'a> {
    graph: &'a Graph,
    edges: Vec<Edge>,
    worth: Vec<f64>,
    /// The vertices of each edge, the ends being 0 and the last.
    ends: Vec<(usize, usize)>,
}

impl<'a> Small<'a> {
    /// Of the edges on a path from the input to the logits.
    fn new(graph: &'a Graph, scores: &Scores, rank: Rank) -> Small<'a> {
        let with_score = EdgeMask::of(graph, graph.edges().iter().copied().filter(|edge| !scores.get(*edge).is_nan()));
        let edges = prune(graph, &with_score).edges(graph);
        let worth = edges.iter().map(|edge| worth(scores.get(*edge), rank)).collect();
        let vertex = |node: Node| graph.vertex(node).index();
        let ends = edges.iter().map(|e| (e.source.0, vertex(graph.readers(graph.slot(e.destination))[0]))).collect();
        Small { graph, edges, worth, ends }
    }

    fn best(&self, touches: impl Fn((usize, usize)) -> bool) -> Option<usize> {
        let all = (0..self.edges.len()).filter(|&edge| touches(self.ends[edge]));
        // The first of equals.
        all.rev().max_by(|&a, &b| self.worth[a].total_cmp(&self.worth[b]))
    }

    fn inner(&self) -> std::ops::Range<usize> {
        1..self.graph.sources()
    }

    fn touched(&self, set: u32) -> Vec<usize> {
        let touches = |vertex: usize| (0..self.edges.len()).any(|e| has(set, e) && self.joins(e, vertex));
        self.inner().filter(|&vertex| touches(vertex)).collect()
    }

    fn joins(&self, edge: usize, vertex: usize) -> bool {
        self.ends[edge].0 == vertex || self.ends[edge].1 == vertex
    }

    /// Whether every node that it touches has edges of the set on both sides.
    fn is_connected(&self, set: u32) -> bool {
        self.touched(set).into_iter().all(|vertex| {
            let any = |side: &dyn Fn(usize) -> bool| (0..self.edges.len()).any(|e| has(set, e) && side(e));
            any(&|e| self.ends[e].1 == vertex) && any(&|e| self.ends[e].0 == vertex)
        })
    }

    /// Whether every node that it touches has its best edge on both sides.
    fn is_closure(&self, set: u32) -> bool {
        self.touched(set).into_iter().all(|vertex| {
            let into = self.best(|(_, to)| to == vertex);
            let out = self.best(|(from, _)| from == vertex);
            into.is_some_and(|e| has(set, e)) && out.is_some_and(|e| has(set, e))
        })
    }

    fn total(&self, set: u32) -> f64 {
        (0..self.edges.len()).filter(|&e| has(set, e)).map(|e| self.worth[e]).sum()
    }

    fn net(&self, set: u32, price: f64, node_price: f64) -> f64 {
        let nodes = self.touched(set).len() as f64;
        self.total(set) - price * f64::from(set.count_ones()) - node_price * price * nodes
    }

    fn bits(&self, mask: &EdgeMask) -> u32 {
        (0..self.edges.len()).filter(|&e| mask.contains(self.edges[e])).map(|e| 1 << e).sum()
    }

    fn sets(&self) -> std::ops::Range<u32> {
        0..1 << self.edges.len()
    }
}

fn has(set: u32, edge: usize) -> bool {
    set >> edge & 1 == 1
}

/// The cut finds what trying every set of edges finds, of equals the smallest, and no more than what asks less of nodes.
#[test]
fn a_cut_is_the_best_of_all_closures() {
    let (mut below, mut tried) = (0, 0);
    for seed in 0..30 {
        let (graph, scores) = few_edges(seed, 12);
        for rank in [Rank::Absolute, Rank::Signed] {
            let small = Small::new(&graph, &scores, rank);
            for (price, node_price) in [(0.125, 0.0), (0.25, 1.0), (0.5, 2.0), (1.0, 0.5)] {
                let mask = at_price(&graph, &scores, price, rank, node_price);
                let found = small.bits(&mask);
                assert_eq!(mask.count(), found.count_ones() as usize, "edges that are on no path");
                assert!(small.is_closure(found) && small.is_connected(found), "seed {seed}");
                let net = |set: u32| small.net(set, price, node_price);
                let best = small.sets().filter(|&set| small.is_closure(set)).map(net).fold(0.0, f64::max);
                assert_eq!(net(found), best, "seed {seed}, {rank:?}, price {price}, node price {node_price}");
                let smaller = |set: &u32| set.count_ones() < found.count_ones() && net(*set) == best;
                assert!(!small.sets().any(|set| smaller(&set) && small.is_closure(set)), "seed {seed}");
                let exact = small.sets().filter(|&set| small.is_connected(set)).map(net).fold(0.0, f64::max);
                assert!(best <= exact, "seed {seed}");
                below += usize::from(best < exact);
                tried += 1;
            }
        }
    }
    // Needing the best edge costs something now and then, and seldom.
    assert!(below > 0 && below < tried / 4, "{below} of {tried}");
}

/// The most that a connected circuit of at most `n` edges is worth: the optimum of the integer program.
fn best_connected(small: &Small, connected: &[(u32, f64)], n: u32) -> f64 {
    assert!(small.edges.len() < 32);
    connected.iter().filter(|(set, _)| set.count_ones() <= n).map(|(_, total)| *total).fold(0.0, f64::max)
}

/// How much of the best connected circuit's worth each rule keeps after pruning, at the same number of edges, in the mean over
/// random graphs. `--nocapture` prints it.
#[test]
fn net_value_comes_nearest_to_the_best_connected_circuit() {
    let names = ["absolute", "signed", "greedy", "net-value, node price 0", "net-value, node price 1"];
    let mut kept = [0.0; 5];
    let mut circuits = 0;
    for seed in 0..30 {
        let (graph, scores) = few_edges(seed, 14);
        let small = Small::new(&graph, &scores, Rank::Absolute);
        let connected: Vec<(u32, f64)> =
            small.sets().filter(|&set| small.is_connected(set)).map(|set| (set, small.total(set))).collect();
        for n in [3, 5, 7] {
            let best = best_connected(&small, &connected, n);
            if best == 0.0 {
                continue;
            }
            let size = n as usize;
            let masks = [
                top_n(&graph, &scores, size, Rank::Absolute),
                top_n(&graph, &scores, size, Rank::Signed),
                greedy(&graph, &scores, size),
                net_value(&graph, &scores, size, Rank::Absolute, 0.0),
                net_value(&graph, &scores, size, Rank::Absolute, 1.0),
            ];
            for (index, mask) in masks.into_iter().enumerate() {
                let mask = mask.unwrap();
                let found = small.bits(&prune(&graph, &mask));
                assert!(small.is_connected(found) && small.total(found) <= best, "seed {seed}, {}", names[index]);
                if index >= 3 {
                    assert!(mask.count() <= size, "seed {seed}");
                    assert_eq!(mask.count(), found.count_ones() as usize, "seed {seed} has dead ends");
                }
                kept[index] += small.total(found) / best;
            }
            circuits += 1;
        }
    }
    let kept = kept.map(|sum| sum / f64::from(circuits));
    for (name, kept) in names.iter().zip(kept) {
        println!("{name}: {kept:.3} of the best connected circuit's worth, {circuits} circuits");
    }
    assert!(circuits > 60 && kept[3] > kept[0] && kept[3] > kept[1] && kept[3] > kept[2], "{kept:?}");
}

fn scored() -> impl Strategy<Value = (Graph, Scores, Rank, f64)> {
    let sizes = (1..5usize, 1..5usize, any::<[bool; 4]>(), 0..4usize, any::<u64>());
    sizes.prop_map(|(layers, heads, [parallel, native, mlps, signed], price, seed)| {
        let kv_slots = if native && heads % 2 == 0 { heads / 2 } else { heads };
        let graph = Graph::new(Dimensions { parallel, kv_slots, mlps, ..Dimensions::new(layers, heads) });
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut scores = Scores::zeros(&graph);
        for &edge in graph.edges() {
            // Few have large scores, some are equal and some none.
            let share = (random.next_u64() % 1000) as f32 / 1000.0 - 0.3;
            scores.set(edge, share.powi(5));
        }
        let rank = if signed { Rank::Signed } else { Rank::Absolute };
        (graph, scores, rank, [0.0, 0.5, 2.0, 7.0][price])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn circuits_have_no_dead_ends_and_the_size_asked_for((graph, scores, rank, price) in scored()) {
        let all = graph.edge_count();
        for n in [1, 2, 3, all / 20, all / 8, all / 3, all - 1, all].into_iter().filter(|&n| n > 0 && n <= all) {
            let mask = net_value(&graph, &scores, n, rank, price).unwrap();
            prop_assert_eq!(mask.count(), n);
            prop_assert_eq!(&prune(&graph, &mask), &mask);
            prop_assert_eq!(net_value(&graph, &scores, n, rank, price).unwrap(), mask);
        }
    }

    #[test]
    fn circuits_grow_as_edges_get_cheaper((graph, scores, rank, price) in scored(), prices in (0.0..1.0f64, 0.0..1.0f64)) {
        let (cheap, dear) = (prices.0.min(prices.1).powi(5), prices.0.max(prices.1).powi(5));
        let more = at_price(&graph, &scores, cheap, rank, price);
        let less = at_price(&graph, &scores, dear, rank, price);
        prop_assert!(less.is_subset(&more));
        prop_assert_eq!(&prune(&graph, &more), &more);
        prop_assert_eq!(at_price(&graph, &scores, 2.0, rank, price).count(), 0);
        // What is worth more than it costs is worth as much as a circuit of that many edges by size.
        if more.count() > 0 {
            prop_assert_eq!(net_value(&graph, &scores, more.count(), rank, price).unwrap(), more);
        }
    }

    #[test]
    fn edges_without_scores_are_left_out((graph, scores, rank, price) in scored(), every in 2..5usize) {
        let mut scores = scores;
        for &edge in graph.edges().iter().step_by(every) {
            scores.set(edge, f32::NAN);
        }
        for n in [graph.edge_count() / 4 + 1, graph.edge_count()] {
            let mask = net_value(&graph, &scores, n, rank, price).unwrap();
            prop_assert!(mask.edges(&graph).iter().all(|edge| !scores.get(*edge).is_nan()));
            prop_assert_eq!(&prune(&graph, &mask), &mask);
        }
    }
}

#[test]
fn scores_of_any_size_are_compared() {
    let graph = Graph::new(Dimensions::new(2, 2));
    let names = |scale: f32| {
        let mut scores = Scores::zeros(&graph);
        for (place, &edge) in graph.edges().iter().enumerate() {
            scores.set(edge, scale * (1.0 + (place * 7 % 11) as f32).powi(4));
        }
        net_value(&graph, &scores, 30, Rank::Absolute, 1.0).unwrap()
    };
    assert_eq!(names(1.0).count(), 30);
    for scale in [1e-36, 1e-10, 1e10, 1e34] {
        assert_eq!(names(scale), names(1.0), "{scale}");
    }
    // No score tells edges apart: the first ones that make a circuit.
    assert_eq!(net_value(&graph, &Scores::zeros(&graph), 1, Rank::Absolute, 1.0).unwrap().count(), 1);
    let mut one = Scores::zeros(&graph);
    one.values.fill(f32::INFINITY);
    assert_eq!(
        net_value(&graph, &one, graph.edge_count(), Rank::Absolute, f64::NAN).unwrap().count(),
        graph.edge_count()
    );
    assert!(net_value(&graph, &one, 0, Rank::Absolute, 1.0).is_err());
}
