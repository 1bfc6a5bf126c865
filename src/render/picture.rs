//! What of a circuit is drawn: boxes and the edges between them, before anything has a place. What is put together or left out
//! is counted, so that the legend can say so.

use super::style::{Branches, Heads};
use crate::circuit::EdgeMask;
use crate::circuit::roles::Found;
use crate::graph::scores::Scores;
use crate::graph::{Edge, Graph, Node};
use crate::model::spec::{Branch, Layer};
use indexmap::IndexMap;

/// A circuit with the scores of its edges.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    pub graph: &'a Graph,
    pub mask: &'a EdgeMask,
    pub scores: &'a Scores,
    /// What nodes were found to do, the most telling role of a node first.
    pub roles: &'a [Found],
}

impl Content<'_> {
    /// The first role of a node, in a word or two.
    pub fn role(&self, node: Node) -> Option<String> {
        self.roles.iter().find(|found| found.node == node).map(|found| found.role.short())
    }

    /// |score| of an edge; 0 for what is no number.
    fn size(&self, edge: Edge) -> f64 {
        match f64::from(self.scores.get(edge)).abs() {
            size if size.is_finite() => size,
            _ => 0.0,
        }
    }
}

/// How much of a circuit is drawn.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Detail {
    pub branches: Branches,
    pub heads: Heads,
    /// Whether roles are written under names.
    pub roles: bool,
    /// Links whose |score| is a smaller share of the largest are left out.
    pub least_share: f64,
    /// At most so many links, the strongest, or without scores those that stand for the most edges.
    pub most: usize,
}

impl Detail {
    pub const FULL: Detail =
        Detail { branches: Branches::Separate, heads: Heads::Each, roles: false, least_share: 0.0, most: usize::MAX };
}

#[derive(Clone, PartialEq, Debug)]
pub struct Picture {
    /// In the order of the residual stream.
    pub boxes: Vec<Shown>,
    /// In the order of the graph's edges.
    pub links: Vec<Link>,
    pub layers: usize,
    pub merged_branches: bool,
    pub left_out: LeftOut,
    /// The largest |score| of a link; 0 where nothing is scored.
    pub largest: f64,
}

/// A node, or several in one box.
#[derive(Clone, PartialEq, Debug)]
pub struct Shown {
    pub nodes: Vec<Node>,
    pub label: String,
    /// What all of them do, where that is shown.
    pub role: Option<String>,
}

/// An edge, or several in one line with their scores added.
#[derive(Clone, PartialEq, Debug)]
pub struct Link {
    /// The boxes.
    pub from: usize,
    pub to: usize,
    /// Which input of a head it enters; none for an MLP, the logits, and where they are drawn as one.
    pub branch: Option<Branch>,
    pub edges: Vec<Edge>,
    pub name: String,
    pub score: f32,
    /// |score| as a share of the largest; 1 where nothing is scored.
    pub strength: f64,
}

/// What is not drawn.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct LeftOut {
    pub edges: usize,
    /// Of all |scores| of the circuit, or of its edges if it has no scores.
    pub share: f64,
    pub nodes: usize,
}

impl LeftOut {
    /// What `drawn` leaves out of a circuit, in a figure of so many nodes. Of lines that share an edge (of heads that share
    /// keys and values) it counts once.
    pub(super) fn of(content: &Content, drawn: &[Edge], nodes: usize) -> LeftOut {
        let drawn = EdgeMask::of(content.graph, drawn.iter().copied());
        let size = |mask: &EdgeMask| mask.edges(content.graph).into_iter().map(|edge| content.size(edge)).sum::<f64>();
        let out = content.mask.difference(&drawn);
        let all = size(content.mask);
        let mut ends = content.mask.nodes(content.graph);
        for end in [Node::Input, Node::Logits] {
            if !ends.contains(&end) {
                ends.push(end);
            }
        }
        LeftOut {
            edges: out.count(),
            share: if all > 0.0 { size(&out) / all } else { out.count() as f64 / content.mask.count().max(1) as f64 },
            nodes: ends.len().saturating_sub(nodes),
        }
    }
}

impl Picture {
    pub fn new(content: &Content, detail: Detail) -> Picture {
        let Content { graph, mask, .. } = *content;
        let mut groups: IndexMap<Group, Vec<Node>> = IndexMap::from([(Group::One(Node::Input), vec![Node::Input])]);
        let nodes = mask.nodes(graph);
        for &node in &nodes {
            let members = groups.entry(Group::of(content, node, detail.heads)).or_default();
            if !members.contains(&node) {
                members.push(node);
            }
        }
        groups.entry(Group::One(Node::Logits)).or_insert_with(|| vec![Node::Logits]);

        // Which links there are, each with its edges.
        let mut links: IndexMap<(usize, usize, Option<Branch>), Vec<Edge>> = IndexMap::new();
        for edge in mask.edges(graph) {
            let slot = graph.slot(edge.destination);
            let branch = slot.branch().filter(|_| detail.branches == Branches::Separate);
            for reader in mask.readers(graph, slot) {
                let index = |node: Node| groups.get_index_of(&Group::of(content, node, detail.heads)).unwrap_or(0);
                let edges = links.entry((index(graph.node(edge.source)), index(reader), branch)).or_default();
                if !edges.contains(&edge) {
                    edges.push(edge);
                }
            }
        }
        let labels: Vec<String> = groups.iter().map(|(group, members)| group.label(members)).collect();
        let mut links: Vec<Link> = links
            .into_iter()
            .map(|((from, to, branch), edges)| {
                let score = edges.iter().map(|edge| content.scores.get(*edge)).filter(|score| score.is_finite()).sum();
                let name = match edges[..] {
                    [edge] => graph.name(edge),
                    _ => {
                        let branch = branch.map(|branch| format!("<{branch}>")).unwrap_or_default();
                        format!("{}->{}{branch}, {} edges", labels[from], labels[to], edges.len())
                    }
                };
                Link { from, to, branch, edges, name, score, strength: 1.0 }
            })
            .collect();

        let largest = links.iter().map(|link| f64::from(link.score.abs())).fold(0.0, f64::max);
        if largest > 0.0 {
            for link in &mut links {
                link.strength = f64::from(link.score.abs()) / largest;
            }
        }
        keep_strongest(&mut links, detail);
        // Boxes that no link is left of are left out too.
        let ends = [0, groups.len() - 1];
        let mut place = vec![None; groups.len()];
        let mut boxes = Vec::new();
        for (index, ((_, nodes), label)) in groups.into_iter().zip(labels).enumerate() {
            if ends.contains(&index) || links.iter().any(|link| link.from == index || link.to == index) {
                place[index] = Some(boxes.len());
                let role = content
                    .role(nodes[0])
                    .filter(|role| detail.roles && nodes.iter().all(|node| content.role(*node).as_ref() == Some(role)));
                boxes.push(Shown { nodes, label, role });
            }
        }
        for link in &mut links {
            (link.from, link.to) = (place[link.from].unwrap_or(0), place[link.to].unwrap_or(0));
        }
        let merged_branches = detail.branches == Branches::Merged
            && boxes.iter().any(|shown| matches!(shown.nodes[..], [Node::Head(..), ..]));
        let drawn: Vec<Edge> = links.iter().flat_map(|link| link.edges.iter().copied()).collect();
        let left_out = LeftOut::of(content, &drawn, boxes.iter().map(|shown| shown.nodes.len()).sum());
        Picture { boxes, links, layers: graph.dimensions.layers, merged_branches, left_out, largest }
    }

    /// Boxes that stand for several nodes, and links that stand for several edges.
    pub fn put_together(&self) -> [usize; 2] {
        [
            self.boxes.iter().filter(|shown| shown.nodes.len() > 1).count(),
            self.links.iter().filter(|link| link.edges.len() > 1).count(),
        ]
    }
}

fn keep_strongest(links: &mut Vec<Link>, detail: Detail) {
    links.retain(|link| link.strength >= detail.least_share);
    if links.len() > detail.most {
        let mut by_strength: Vec<usize> = (0..links.len()).collect();
        // Without scores those that stand for the most edges.
        let key = |link: &Link| (link.strength, link.edges.len() as f64);
        by_strength.sort_by(|&a, &b| {
            let ((one, few), (other, many)) = (key(&links[a]), key(&links[b]));
            other.total_cmp(&one).then(many.total_cmp(&few)).then(a.cmp(&b))
        });
        let mut kept = vec![false; links.len()];
        for &link in &by_strength[..detail.most] {
            kept[link] = true;
        }
        let mut kept = kept.into_iter();
        links.retain(|_| kept.next().unwrap_or(false));
    }
}

/// Nodes that share a box.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Group {
    One(Node),
    HeadsOf(Layer),
    HeadsWith(Layer, String),
}

impl Group {
    fn of(content: &Content, node: Node, heads: Heads) -> Group {
        match (node, heads) {
            (Node::Head(layer, _), Heads::ByLayer) => Group::HeadsOf(layer),
            (Node::Head(layer, _), Heads::ByRole) => {
                content.role(node).map_or(Group::One(node), |role| Group::HeadsWith(layer, role))
            }
            (node, _) => Group::One(node),
        }
    }

    fn label(&self, members: &[Node]) -> String {
        match (self, members) {
            (Group::HeadsOf(layer) | Group::HeadsWith(layer, _), [_, _, rest @ ..]) if rest.len() > 2 => {
                format!("a{}, {} heads", layer.0, members.len())
            }
            (Group::HeadsOf(_) | Group::HeadsWith(..), [first, rest @ ..]) => {
                rest.iter().fold(first.to_string(), |label, node| match node {
                    Node::Head(_, head) => format!("{label},{}", head.0),
                    _ => label,
                })
            }
            (_, [node, ..]) => node.to_string(),
            (_, []) => String::new(),
        }
    }
}
