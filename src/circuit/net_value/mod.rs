//! Choosing the connected circuit that is worth most after its parts are paid for, by minimum cuts.
//!
//! An edge is worth its |score| (or its score) s and costs λ; a head or an MLP costs κ·λ, as much as κ edges; `input` and
//! `logits` are free. At the price λ the circuit is the one that maximises
//!
//! Σ over edges (s − λ) − Σ over nodes κ·λ,
//!
//! where an edge needs both its nodes, and a node needs its best incoming and its best outgoing edge. As the graph has no
//! cycles, every edge then lies on a path from `input` to `logits`. All constraints say "this needs that", which makes the
//! circuit a closure of largest weight, and one minimum cut finds it (Picard, Management Science 22, 1976). That a node needs
//! *some* incoming and *some* outgoing edge (Nikankin et al., arXiv:2510.25786) is no such constraint, and takes an integer
//! program: its optimum is at least as large.
//!
//! As λ falls every weight grows, so the nodes of the smallest optimum only get more (Gallo, Grigoriadis and Tarjan, SIAM
//! Journal on Computing 18, 1989). For a circuit of n edges λ is bisected down to the largest optimum of at most n edges. Where
//! that has fewer, nodes are added one by one ([`growth`]); then the edges are those that the nodes need and the best others
//! between them, until there are n.
//!
//! What a cut sees are the undecided nodes only. A node's needed edges are part of it. The other edges between two nodes u
//! and v, of net value p together, are worth p·u·v = p·v − p·v·(1 − u), which is p more for v and an arc of capacity p from
//! v to u; so edges are no vertices of the network, and those of no net value are not in it at all.
//!
//! Values are rounded to multiples of 2⁻³² of the largest (exactly where a score is at least 2⁻⁸ of it), so that cuts are
//! computed in whole numbers and are exact. Edges whose score is no number are left out. Of heads that share keys or values
//! the one with the best outgoing edge is taken to be their reader. Cost: a sort of the edges and at most 34 cuts of as
//! many vertices as there are nodes.

mod growth;

use super::EdgeMask;
use super::select::{Rank, SelectError, check_size};
use crate::graph::scores::Scores;
use crate::graph::{Destination, Edge, Graph, Source};
use growth::Growth;
use petgraph::algo::dinics;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;
use std::cmp::Reverse;
use std::collections::HashMap;

/// The largest value in units.
const LARGEST: i64 = 1 << 32;
/// No sum of values and prices gets here: graphs have fewer than 2²⁷ edges.
const BEYOND: i64 = 1 << 61;

/// An edge that can lie on a path from `input` to `logits`.
#[derive(Clone, Copy)]
struct Offer {
    edge: Edge,
    /// In units.
    value: i64,
    /// Vertices: sources, and behind them `logits`.
    from: usize,
    to: usize,
}

/// All offers of a graph and what its nodes need of them.
struct Market {
    /// Best first; equals in the graph's order.
    offers: Vec<Offer>,
    /// Of each vertex the place of its best incoming and outgoing offer; none at the ends and where no path leads through.
    best_in: Vec<Option<usize>>,
    best_out: Vec<Option<usize>>,
    /// Units for 1.
    scale: f64,
    /// What a node costs in edges.
    node_price: f64,
}

/// Where a vertex stands in a cut.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Inside,
    Outside,
    Undecided(usize),
}

/// The connected circuit of `n` edges that is worth most, or near it between two optima; a node costs as much as `node_price`
/// edges (0 if that is not a positive number). It has fewer edges only where scores are missing.
///
/// # Errors
/// [`SelectError`] when the graph cannot give `n` edges.
pub fn net_value(
    graph: &Graph,
    scores: &Scores,
    n: usize,
    rank: Rank,
    node_price: f64,
) -> Result<EdgeMask, SelectError> {
    check_size(graph, n)?;
    let market = Market::new(graph, scores, rank, node_price);
    let (core, price) = market.nodes_for(n);
    let grown = Growth::new(&market, &core, price).until(n);
    let (needed, others): (Vec<_>, Vec<_>) = market.between(&grown.inside).partition(|(place, _)| grown.needs(*place));
    Ok(EdgeMask::of(graph, needed.into_iter().chain(others).take(n).map(|(_, offer)| offer.edge)))
}

/// The circuit that is worth most where an edge costs `price`, in units of the scores: of several the smallest. May be empty.
pub fn at_price(graph: &Graph, scores: &Scores, price: f64, rank: Rank, node_price: f64) -> EdgeMask {
    let market = Market::new(graph, scores, rank, node_price);
    let price = ((price * market.scale).round() as i64).clamp(-LARGEST - 1, LARGEST);
    let nodes = market.optimum(price, &market.terminals(), &market.everything());
    let others = market.others(&nodes).take_while(|offer| offer.value > price);
    EdgeMask::of(graph, market.needed(&nodes).chain(others).map(|offer| offer.edge))
}

/// The vertex that reads each slot.
fn readers(graph: &Graph, scores: &Scores, rank: Rank) -> Vec<usize> {
    let best_out = |vertex: usize| {
        let leaving =
            (0..graph.destinations()).map(|slot| Edge { source: Source(vertex), destination: Destination(slot) });
        leaving.filter(|edge| graph.contains(*edge)).map(|edge| rank.key(scores.get(edge))).max()
    };
    let reader = |slot| {
        let all = graph.readers(graph.slot(Destination(slot)));
        let mut vertices = all.iter().map(|&node| graph.vertex(node).index());
        match vertices.len() {
            1 => vertices.next(),
            // The first of equals.
            _ => vertices.rev().max_by_key(|&vertex| best_out(vertex)),
        }
    };
    (0..graph.destinations()).map(|slot| reader(slot).unwrap_or(graph.sources())).collect()
}

impl Market {
    fn new(graph: &Graph, scores: &Scores, rank: Rank, node_price: f64) -> Market {
        let readers = readers(graph, scores, rank);
        let vertices = graph.sources() + 1;
        let number = |edge: &&Edge| !scores.get(**edge).is_nan();
        let numbers = || graph.edges().iter().filter(number);
        // Edges are in the order of the residual stream: those into a node come before those out of it.
        let (mut reached, mut leads) = (vec![false; vertices], vec![false; vertices]);
        reached[0] = true;
        leads[vertices - 1] = true;
        for edge in numbers() {
            reached[readers[edge.destination.0]] |= reached[edge.source.0];
        }
        for edge in numbers().rev() {
            leads[edge.source.0] |= leads[readers[edge.destination.0]];
        }

        let worth = |edge: Edge| rank.key(scores.get(edge)).number().clamp(-f32::MAX, f32::MAX);
        let largest = numbers().map(|&edge| worth(edge).abs()).fold(0f32, f32::max);
        // A power of two, so that rounding is all that changes.
        let scale = LARGEST as f64 / f64::from(largest.max(f32::MIN_POSITIVE)).log2().ceil().exp2();
        let mut offers: Vec<Offer> = numbers()
            .map(|&edge| Offer {
                edge,
                value: (f64::from(worth(edge)) * scale).round() as i64,
                from: edge.source.0,
                to: readers[edge.destination.0],
            })
            .filter(|offer| reached[offer.from] && leads[offer.to])
            .collect();
        // A stable sort keeps the insertion order among equals.
        offers.sort_by_key(|offer| Reverse(rank.key(scores.get(offer.edge))));

        let (mut best_in, mut best_out) = (vec![None; vertices], vec![None; vertices]);
        for (place, offer) in offers.iter().enumerate() {
            best_in[offer.to].get_or_insert(place);
            best_out[offer.from].get_or_insert(place);
        }
        // The ends need nothing.
        (best_in[vertices - 1], best_out[0]) = (None, None);
        Market { offers, best_in, best_out, scale, node_price }
    }

    /// A set of vertices with the two ends, and one with all that a path leads through.
    fn terminals(&self) -> Vec<bool> {
        let last = self.best_in.len() - 1;
        (0..=last).map(|vertex| vertex == 0 || vertex == last).collect()
    }

    fn everything(&self) -> Vec<bool> {
        self.terminals().into_iter().zip(&self.best_in).map(|(end, best)| end || best.is_some()).collect()
    }

    /// Whether the offer at this place is the best of the node that it enters, or else of the one that it leaves.
    fn needed_by(&self, place: usize) -> Option<usize> {
        let Offer { from, to, .. } = self.offers[place];
        let by = |best: &[Option<usize>], vertex: usize| (best[vertex] == Some(place)).then_some(vertex);
        by(&self.best_in, to).or_else(|| by(&self.best_out, from))
    }

    fn between<'a>(&'a self, inside: &'a [bool]) -> impl Iterator<Item = (usize, &'a Offer)> {
        self.offers.iter().enumerate().filter(|(_, offer)| inside[offer.from] && inside[offer.to])
    }

    /// The offers that nodes need, and the others between them, these best first.
    fn needed<'a>(&'a self, inside: &'a [bool]) -> impl Iterator<Item = &'a Offer> {
        let of = |vertex: usize| [self.best_in[vertex], self.best_out[vertex]].into_iter().flatten();
        (0..inside.len())
            .filter(|&vertex| inside[vertex])
            .flat_map(move |vertex| of(vertex).filter(move |&place| self.needed_by(place) == Some(vertex)))
            .map(|place| &self.offers[place])
    }

    fn others<'a>(&'a self, inside: &'a [bool]) -> impl Iterator<Item = &'a Offer> {
        self.between(inside).filter(|(place, _)| self.needed_by(*place).is_none()).map(|(_, offer)| offer)
    }

    /// What a node costs at an edge price.
    fn cost(&self, price: i64) -> i64 {
        (self.node_price.max(0.0) * price.max(0) as f64).round().min(BEYOND as f64) as i64
    }

    /// The nodes of the largest optimum of at most `n` edges, and the least edge price at which it is one.
    fn nodes_for(&self, n: usize) -> (Vec<bool>, i64) {
        let (mut few, mut many) = (self.terminals(), self.everything());
        if self.offers.len() <= n {
            return (many, -LARGEST - 1);
        }
        // Where edges cost more than any is worth nothing is bought, and where they cost less than any, everything is.
        let (mut high, mut low) = (LARGEST, -LARGEST - 1);
        while high - low > 1 {
            if few == many {
                break; // only edges are left to choose
            }
            let middle = low + (high - low) / 2;
            let nodes = self.optimum(middle, &few, &many);
            let others = self.others(&nodes).take_while(|offer| offer.value > middle).count();
            match self.needed(&nodes).count() + others {
                edges if edges <= n => (high, few) = (middle, nodes),
                _ => (low, many) = (middle, nodes),
            }
        }
        (few, high)
    }

    /// The smallest set of vertices that is worth most at an edge price, where `few` are in it and none but `many`.
    fn optimum(&self, price: i64, few: &[bool], many: &[bool]) -> Vec<bool> {
        let mut undecided = Vec::new();
        let standing: Vec<Standing> = (0..few.len())
            .map(|vertex| match (few[vertex], many[vertex]) {
                (true, _) => Standing::Inside,
                (_, false) => Standing::Outside,
                _ => {
                    undecided.push(vertex);
                    Standing::Undecided(undecided.len() - 1)
                }
            })
            .collect();
        let mut weights = vec![-self.cost(price); undecided.len()];
        let mut arcs: HashMap<(usize, usize), i64> = HashMap::new();
        for (node, &vertex) in undecided.iter().enumerate() {
            for place in [self.best_in[vertex], self.best_out[vertex]].into_iter().flatten() {
                let Offer { value, from, to, .. } = self.offers[place];
                if self.needed_by(place) == Some(vertex) {
                    weights[node] += value - price;
                }
                let other = if from == vertex { to } else { from };
                if let Standing::Undecided(other) = standing[other] {
                    arcs.insert((node, other), BEYOND);
                }
            }
        }
        let worth_it = self.offers.partition_point(|offer| offer.value > price);
        for (place, offer) in self.offers[..worth_it].iter().enumerate() {
            let net = offer.value - price;
            match (standing[offer.from], standing[offer.to]) {
                (Standing::Outside, _) | (_, Standing::Outside) | (Standing::Inside, Standing::Inside) => {}
                _ if self.needed_by(place).is_some() => {}
                (Standing::Inside, Standing::Undecided(node)) | (Standing::Undecided(node), Standing::Inside) => {
                    weights[node] += net;
                }
                (Standing::Undecided(from), Standing::Undecided(to)) => {
                    weights[to] += net;
                    let arc = arcs.entry((to, from)).or_default();
                    *arc = (*arc + net).min(BEYOND);
                }
            }
        }
        let inside = largest_closure(&weights, arcs);
        let chosen = |vertex: usize| match standing[vertex] {
            Standing::Inside => true,
            Standing::Outside => false,
            Standing::Undecided(node) => inside[node],
        };
        (0..few.len()).map(chosen).collect()
    }
}

/// The smallest set of nodes that maximises its weights less the arcs that leave it.
fn largest_closure(weights: &[i64], arcs: HashMap<(usize, usize), i64>) -> Vec<bool> {
    let mut arcs: Vec<((usize, usize), i64)> = arcs.into_iter().collect();
    arcs.sort_unstable(); // the order of a hash map changes from run to run
    let mut network: DiGraph<(), u64> = DiGraph::with_capacity(weights.len() + 2, weights.len() + arcs.len());
    for _ in 0..weights.len() + 2 {
        network.add_node(());
    }
    let node = |index: usize| NodeIndex::new(index);
    let (source, sink) = (node(weights.len()), node(weights.len() + 1));
    for (index, &weight) in weights.iter().enumerate() {
        match weight {
            0 => {}
            gain if gain > 0 => drop(network.add_edge(source, node(index), gain.unsigned_abs())),
            loss => drop(network.add_edge(node(index), sink, loss.unsigned_abs())),
        }
    }
    for ((from, to), capacity) in arcs {
        network.add_edge(node(from), node(to), capacity.unsigned_abs());
    }
    let (_, flows) = dinics(&network, source, sink);

    // What the source still reaches.
    let mut reached = vec![false; weights.len() + 2];
    reached[source.index()] = true;
    let mut stack = vec![source];
    while let Some(vertex) = stack.pop() {
        let onward =
            network.edges(vertex).filter(|arc| flows[arc.id().index()] < *arc.weight()).map(|arc| arc.target());
        let back = network.edges_directed(vertex, petgraph::Incoming).filter(|arc| flows[arc.id().index()] > 0);
        for next in onward.chain(back.map(|arc| arc.source())) {
            if !std::mem::replace(&mut reached[next.index()], true) {
                stack.push(next);
            }
        }
    }
    reached.truncate(weights.len());
    reached
}
