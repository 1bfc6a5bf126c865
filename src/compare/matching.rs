//! Which node of one circuit is which of another, where they cannot be told by their numbers: models of different sizes, or of
//! the same size with heads in another order.
//!
//! A pair costs the difference of relative depth, the distance of the profiles, and 1 where both have roles that differ. A node
//! without a partner costs [`ALONE`]. The matching has the least sum (Kuhn 1955, Munkres 1957); heads match heads and MLPs
//! match MLPs.

use super::profile::Profile;
use crate::graph::Node;
use pathfinding::matrix::Matrix;
use pathfinding::prelude::kuhn_munkres_min;

/// What a node without a partner costs: two that would cost more than twice this together stay alone.
pub const ALONE: f64 = 0.5;

/// Costs are integers in units of this.
const UNIT: f64 = 1e-9;

/// A node to be matched.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub node: Node,
    pub profile: Profile,
    pub role: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct Matching {
    /// In the order of the first circuit's nodes.
    pub pairs: Vec<Match>,
    pub only_a: Vec<Node>,
    pub only_b: Vec<Node>,
    /// The sum over pairs and over nodes without a partner.
    pub cost: f64,
}

/// Two nodes that do the same.
#[derive(Clone, Copy, Debug)]
pub struct Match {
    pub a: Node,
    pub b: Node,
    pub cost: Cost,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cost {
    pub depth: f64,
    pub profile: f64,
    pub role: f64,
}

impl Cost {
    fn of(a: &Candidate, b: &Candidate) -> Cost {
        let differ = matches!((&a.role, &b.role), (Some(a), Some(b)) if a != b);
        Cost {
            depth: (a.profile.depth - b.profile.depth).abs(),
            profile: a.profile.distance(&b.profile),
            role: f64::from(u8::from(differ)),
        }
    }

    pub fn sum(self) -> f64 {
        self.depth + self.profile + self.role
    }
}

impl Matching {
    pub fn new(a: &[Candidate], b: &[Candidate]) -> Matching {
        let mut matching = Matching::default();
        for head in [true, false] {
            let of_kind = |candidates: &'_ [Candidate]| -> Vec<Candidate> {
                let kind = |candidate: &&Candidate| matches!(candidate.node, Node::Head(..)) == head;
                candidates.iter().filter(kind).cloned().collect()
            };
            matching.add(&of_kind(a), &of_kind(b));
        }
        for nodes in [&mut matching.only_a, &mut matching.only_b] {
            nodes.sort_by_key(|node| order(*node));
        }
        matching.pairs.sort_by_key(|pair| order(pair.a));
        matching
    }

    fn add(&mut self, a: &[Candidate], b: &[Candidate]) {
        // Each node can also be matched with nothing: rows and columns to spare.
        let size = a.len() + b.len();
        if size == 0 {
            return;
        }
        let costs = Matrix::from_fn(size, size, |(row, column)| match (a.get(row), b.get(column)) {
            (Some(a), Some(b)) => {
                // Where costs are equal, numbers that are near decide.
                (Cost::of(a, b).sum() / UNIT).round() as i64 + number(a.node).abs_diff(number(b.node)) as i64
            }
            (None, None) => 0,
            _ => (ALONE / UNIT) as i64,
        });
        let (_, columns) = kuhn_munkres_min(&costs);
        let mut taken = vec![false; b.len()];
        for (row, &column) in a.iter().zip(&columns) {
            match b.get(column) {
                Some(other) => {
                    taken[column] = true;
                    let cost = Cost::of(row, other);
                    self.cost += cost.sum();
                    self.pairs.push(Match { a: row.node, b: other.node, cost });
                }
                None => {
                    self.cost += ALONE;
                    self.only_a.push(row.node);
                }
            }
        }
        for (other, taken) in b.iter().zip(taken) {
            if !taken {
                self.cost += ALONE;
                self.only_b.push(other.node);
            }
        }
    }
}

fn number(node: Node) -> usize {
    match node {
        Node::Head(_, head) => head.0,
        _ => 0,
    }
}

/// The order of the residual stream.
fn order(node: Node) -> (usize, usize) {
    match node {
        Node::Input => (0, 0),
        Node::Head(layer, head) => (2 * layer.0 + 1, head.0),
        Node::Mlp(layer) => (2 * layer.0 + 2, 0),
        Node::Logits => (usize::MAX, 0),
    }
}
