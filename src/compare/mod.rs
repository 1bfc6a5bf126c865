//! How alike circuits are: what they share edge by edge where they are of one model, and which node is which where they are
//! not.
//!
//! [`Summary`] says what one circuit is like, [`Pair`] what two have in common ([`overlap`], [`matching`] of [`profile`]s);
//! [`mod@reference`] measures a circuit against a published one.

pub mod figure;
pub mod grid;
pub mod matching;
pub mod overlap;
pub mod page;
pub mod profile;
pub mod reference;
pub mod several;

use crate::circuit::import::Imported;
use crate::graph::{Edge, Node};
use crate::render::picture::Content;
use matching::{Candidate, Matching};
use overlap::{Overlap, spearman};
use profile::{Profile, depth};

/// Depth is told apart by so many parts of a model.
pub const PARTS: usize = 4;

/// A circuit to be compared, with the name that tables give it.
#[derive(Clone, Debug)]
pub struct Compared {
    pub name: String,
    pub circuit: Imported,
}

impl Compared {
    pub fn content(&self) -> Content<'_> {
        let of = &self.circuit;
        Content { graph: of.graph(), mask: of.mask(), scores: of.scores(), roles: of.roles() }
    }

    /// Task and model, if the file says.
    pub fn subject(&self) -> Option<(&str, &str)> {
        match &self.circuit {
            Imported::Own(circuit) => Some((&circuit.provenance.task.name, &circuit.provenance.model.id)),
            Imported::Eap(..) => None,
        }
    }

    /// Whether edges of both mean the same: they are of one model as far as the files say.
    pub fn shares_edges_with(&self, other: &Compared) -> bool {
        let model = |of: &Compared| match &of.circuit {
            Imported::Own(circuit) => Some(circuit.provenance.model.config_hash.clone()),
            Imported::Eap(..) => None,
        };
        let same = match (model(self), model(other)) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        same && self.circuit.graph().dimensions == other.circuit.graph().dimensions
    }

    /// Heads and MLPs of the circuit.
    pub fn candidates(&self) -> Vec<Candidate> {
        let role = |node: Node| self.circuit.roles().iter().find(|found| found.node == node);
        let candidate =
            |(node, profile)| Candidate { node, profile, role: role(node).map(|found| found.role.to_string()) };
        Profile::all(&self.content()).into_iter().map(candidate).collect()
    }
}

/// What one circuit is like.
#[derive(Clone, PartialEq, Debug)]
pub struct Summary {
    pub layers: usize,
    pub heads_of_model: usize,
    /// Of the circuit.
    pub heads: usize,
    pub mlps: usize,
    pub edges: usize,
    /// Of all edges of the model.
    pub share_of_edges: f64,
    /// Of all |score| of the circuit, what edges that leave the input, heads and MLPs have.
    pub written_by: [f64; 3],
    /// Of all |score| that heads and MLPs write, the share of each quarter of the model's depth.
    pub by_depth: [f64; PARTS],
    /// With its interval.
    pub faithfulness: Option<(f64, [f64; 2])>,
}

impl Summary {
    pub fn new(compared: &Compared) -> Summary {
        let content = compared.content();
        let Content { graph, mask, scores, .. } = content;
        let nodes = mask.nodes(graph);
        let count = |kind: fn(&Node) -> bool| nodes.iter().filter(|node| kind(node)).count();
        let (mut written_by, mut by_depth) = ([0.0; 3], [0.0; PARTS]);
        for edge in mask.edges(graph) {
            let size = f64::from(scores.get(edge).abs());
            let size = if size.is_finite() { size } else { 0.0 };
            let source = graph.node(edge.source);
            let writer = match source {
                Node::Input => 0,
                Node::Head(..) => 1,
                Node::Mlp(_) | Node::Logits => 2,
            };
            written_by[writer] += size;
            if writer > 0 {
                let part = (depth(source, graph.dimensions.layers) * PARTS as f64) as usize;
                by_depth[part.min(PARTS - 1)] += size;
            }
        }
        let report = match &compared.circuit {
            Imported::Own(circuit) => circuit.report.as_ref(),
            Imported::Eap(..) => None,
        };
        Summary {
            layers: graph.dimensions.layers,
            heads_of_model: graph.dimensions.heads,
            heads: count(|node| matches!(node, Node::Head(..))),
            mlps: count(|node| matches!(node, Node::Mlp(_))),
            edges: mask.count(),
            share_of_edges: mask.count() as f64 / graph.edge_count().max(1) as f64,
            written_by: shares(written_by),
            by_depth: shares(by_depth),
            faithfulness: report.map(|report| (report.faithfulness, report.faithfulness_interval)),
        }
    }
}

/// Parts of their sum; zeros of nothing.
fn shares<const N: usize>(parts: [f64; N]) -> [f64; N] {
    let sum: f64 = parts.iter().sum();
    if sum > 0.0 { parts.map(|part| part / sum) } else { parts }
}

/// What two circuits have in common.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Their places among all that are compared.
    pub places: [usize; 2],
    /// Where edges of both mean the same.
    pub same_graph: Option<SameGraph>,
    pub matching: Matching,
}

#[derive(Clone, Debug)]
pub struct SameGraph {
    pub edges: Overlap,
    /// Heads and MLPs.
    pub nodes: Overlap,
    /// Spearman's correlation of the scores of the common edges, and how many there are.
    pub rank_correlation: (Option<f64>, usize),
    pub only_a: Vec<Edge>,
    pub only_b: Vec<Edge>,
}

impl Pair {
    /// Every two of some circuits.
    pub fn all(circuits: &[Compared]) -> Vec<Pair> {
        let places =
            (0..circuits.len()).flat_map(|first| (first + 1..circuits.len()).map(move |second| [first, second]));
        places
            .map(|[first, second]| Pair { places: [first, second], ..Pair::new(&circuits[first], &circuits[second]) })
            .collect()
    }

    pub fn new(a: &Compared, b: &Compared) -> Pair {
        let same_graph = a.shares_edges_with(b).then(|| SameGraph::new(&a.content(), &b.content()));
        Pair { places: [0, 1], same_graph, matching: Matching::new(&a.candidates(), &b.candidates()) }
    }
}

impl SameGraph {
    fn new(a: &Content, b: &Content) -> SameGraph {
        let graph = a.graph;
        let both = a.mask.intersection(b.mask).edges(graph);
        let nodes = [a, b].map(|content| {
            let mut nodes = content.mask.nodes(graph);
            nodes.retain(|node| matches!(node, Node::Head(..) | Node::Mlp(_)));
            nodes
        });
        let common_nodes = nodes[0].iter().filter(|node| nodes[1].contains(node)).count();
        let scores = [a, b]
            .map(|content| -> Vec<f64> { both.iter().map(|edge| f64::from(content.scores.get(*edge))).collect() });
        SameGraph {
            edges: Overlap::new(a.mask.count(), b.mask.count(), both.len(), graph.edge_count()),
            nodes: Overlap::new(nodes[0].len(), nodes[1].len(), common_nodes, graph.sources() - 1),
            rank_correlation: (spearman(&scores[0], &scores[1]), both.len()),
            only_a: a.mask.difference(b.mask).edges(graph),
            only_b: b.mask.difference(a.mask).edges(graph),
        }
    }
}
