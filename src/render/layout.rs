//! A layered layout for circuits: input at the bottom, for each layer a row of heads and a row for its MLP, logits on top.
//!
//! The edges of one source travel upwards side by side in a *lane*, which is an item of every row it passes, like a box, so that
//! no edge runs through a box. Four steps, each deterministic:
//!
//! 1. rows, boxes and lanes ([`Draft::new`]); rows without a node of the circuit are left out;
//! 2. the order inside each row, with few crossings ([`super::order`], after Sugiyama et al. 1981);
//! 3. horizontal places that keep the order and make lanes straight ([`super::place`]);
//! 4. heights, ports and paths ([`super::route`]).

use super::figure::Figure;
use super::{order, place, route, theme};
use crate::circuit::EdgeMask;
use crate::graph::scores::Scores;
use crate::graph::{Edge, Graph, Node};
use crate::model::spec::Branch;

/// Places everything.
pub fn layout(graph: &Graph, mask: &EdgeMask, scores: &Scores) -> Figure {
    let mut draft = Draft::new(graph, mask, scores);
    order::order(&mut draft);
    let bundles = route::bundles(&draft);
    let x = place::place(&draft, &bundles);
    route::figure(graph, &draft, &bundles, x)
}

/// The circuit with rows and sizes but no places yet.
pub(super) struct Draft {
    pub nodes: Vec<DraftNode>,
    pub links: Vec<Link>,
    /// Boxes first, with the index of their node; then lanes.
    pub items: Vec<Item>,
    /// The items of each row from left to right.
    pub rows: Vec<Vec<usize>>,
    /// The largest |score|.
    pub largest: f64,
}

pub(super) struct DraftNode {
    pub node: Node,
    pub row: usize,
    pub width: f64,
    pub height: f64,
    /// Links that leave and arrive.
    pub out: Vec<usize>,
    pub into: Vec<usize>,
    /// The lane items in the rows above, up to but not including the row of the farthest destination.
    pub lanes: Vec<usize>,
}

pub(super) struct Link {
    pub edge: Edge,
    pub from: usize,
    pub to: usize,
    pub branch: Option<Branch>,
    pub score: f32,
    pub strength: f64,
    pub width: f64,
}

/// Something that takes room in a row.
#[derive(Clone, Copy)]
pub(super) struct Item {
    pub row: usize,
    /// The node whose box or lane it is.
    pub node: usize,
    pub lane: bool,
}

impl Draft {
    fn new(graph: &Graph, mask: &EdgeMask, scores: &Scores) -> Draft {
        let mut shown = mask.nodes(graph);
        if shown.first() != Some(&Node::Input) {
            shown.insert(0, Node::Input);
        }
        if shown.last() != Some(&Node::Logits) {
            shown.push(Node::Logits);
        }
        let mut ranks: Vec<usize> = shown.iter().map(|node| rank(*node, graph.dimensions.layers)).collect();
        ranks.dedup();

        let mut nodes: Vec<DraftNode> = shown
            .iter()
            .map(|&node| DraftNode {
                node,
                row: ranks.binary_search(&rank(node, graph.dimensions.layers)).unwrap_or(0),
                width: 0.0,
                height: height(node),
                out: Vec::new(),
                into: Vec::new(),
                lanes: Vec::new(),
            })
            .collect();

        let edges = mask.edges(graph);
        let size = |edge: &Edge| match f64::from(scores.get(*edge)).abs() {
            size if size.is_finite() => size,
            _ => 0.0,
        };
        let largest = edges.iter().map(size).fold(0.0, f64::max);
        let index = |node: Node| shown.iter().position(|known| *known == node).unwrap_or(0);
        let links: Vec<Link> = edges
            .iter()
            .flat_map(|edge| {
                mask.readers(graph, graph.slot(edge.destination)).into_iter().map(move |reader| (edge, reader))
            })
            .map(|(edge, reader)| {
                let slot = graph.slot(edge.destination);
                let strength = if largest > 0.0 { size(edge) / largest } else { 1.0 };
                Link {
                    edge: *edge,
                    from: index(graph.node(edge.source)),
                    to: index(reader),
                    branch: slot.branch(),
                    score: scores.get(*edge),
                    strength,
                    // Without scores all edges are alike, and none is strong.
                    width: if largest > 0.0 { theme::stroke(strength) } else { 1.0 },
                }
            })
            .collect();
        for (link, Link { from, to, .. }) in links.iter().enumerate() {
            nodes[*from].out.push(link);
            nodes[*to].into.push(link);
        }

        let mut items: Vec<Item> =
            (0..nodes.len()).map(|node| Item { row: nodes[node].row, node, lane: false }).collect();
        for node in 0..nodes.len() {
            nodes[node].width = width(&nodes[node], &links);
            let top = nodes[node].out.iter().map(|link| nodes[links[*link].to].row).max().unwrap_or(0);
            for row in nodes[node].row + 1..top {
                nodes[node].lanes.push(items.len());
                items.push(Item { row, node, lane: true });
            }
        }
        let mut rows = vec![Vec::new(); ranks.len()];
        for (index, item) in items.iter().enumerate() {
            rows[item.row].push(index);
        }
        Draft { nodes, links, items, rows, largest }
    }

    /// The box or lane of a node in a row that its edges pass.
    pub fn item_at(&self, node: usize, row: usize) -> usize {
        match row - self.nodes[node].row {
            0 => node,
            above => self.nodes[node].lanes[above - 1],
        }
    }

    /// Where a link enters its destination's box, relative to the box's centre, before the tips in one port are spread.
    pub fn port_offset(&self, link: &Link) -> f64 {
        let Some(branch) = link.branch else { return 0.0 };
        let widths = port_widths(&self.nodes[link.to], &self.links);
        let before: f64 = widths[..branch.index()].iter().sum();
        let total: f64 = widths.iter().sum();
        before + widths[branch.index()] / 2.0 - total / 2.0
    }
}

fn rank(node: Node, layers: usize) -> usize {
    match node {
        Node::Input => 0,
        Node::Head(layer, _) => 1 + 2 * layer.0,
        Node::Mlp(layer) => 2 + 2 * layer.0,
        Node::Logits => 2 * layers + 1,
    }
}

fn height(node: Node) -> f64 {
    match node {
        Node::Head(..) => theme::HEAD_HEIGHT,
        Node::Mlp(_) => theme::MLP_HEIGHT,
        Node::Input | Node::Logits => theme::END_HEIGHT,
    }
}

/// Wide enough for the label, for every edge that leaves and for every edge that arrives.
fn width(node: &DraftNode, links: &[Link]) -> f64 {
    let label = theme::text_width(&node.node.to_string(), theme::LABEL_SIZE) + 8.0;
    let leaving: f64 = node.out.iter().map(|link| links[*link].width + theme::STRAND_GAP).sum();
    let arriving = match node.node {
        Node::Head(..) => port_widths(node, links).iter().sum(),
        _ => node.into.len() as f64 * theme::TIP_SPACING,
    };
    label.max(leaving + 4.0).max(arriving + 3.0)
}

/// The widths of a head's q, k and v ports.
fn port_widths(node: &DraftNode, links: &[Link]) -> [f64; 3] {
    Branch::ALL.map(|branch| {
        let tips = node.into.iter().filter(|link| links[**link].branch == Some(branch)).count();
        (tips as f64 * theme::TIP_SPACING + 1.0).max(theme::PORT_WIDTH)
    })
}
