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
    for seed in 0..60 {
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
