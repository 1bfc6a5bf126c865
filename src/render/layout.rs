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
use super::picture::{Link, Picture};
use super::{order, place, route, sizes};
use crate::graph::Node;
use crate::model::spec::Branch;

/// The heights of rows.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Rows {
    /// With as much room between them as their edges want, less where the figure would be higher than this.
    Near(Option<f64>),
    /// By relative depth, in a figure of this height: rows of models with different numbers of layers stand side by side.
    ByDepth(f64),
}

/// Places everything, in no more than `width` points if that is possible.
pub fn layout(picture: &Picture, rows: Rows, width: Option<f64>) -> Figure {
    let mut draft = Draft::new(picture);
    order::order(&mut draft);
    let bundles = route::bundles(&draft);
    let room = width.map(|width| width - route::left_margin(picture.layers) - sizes::MARGIN);
    let x = place::place(&draft, &bundles, room);
    route::figure(&draft, &bundles, x, rows)
}

/// The least height in which rows by depth do not run into each other, in points.
pub fn least_height_by_depth(picture: &Picture) -> f64 {
    let draft = Draft::new(picture);
    let height =
        |row: usize| draft.nodes.iter().filter(|node| node.row == row).map(|node| node.height).fold(0.0, f64::max);
    let depths = draft.depths();
    let needed = (1..depths.len()).map(|row| {
        let between = (height(row - 1) + height(row)) / 2.0 + 2.0 * sizes::LEAST_GAP;
        between / (depths[row] - depths[row - 1])
    });
    needed.fold(0.0, f64::max) + 2.0 * sizes::MARGIN + sizes::HEAD_HEIGHT
}

/// A width that no layout of the picture is below, in points.
pub fn least_width(picture: &Picture) -> f64 {
    let draft = Draft::new(picture);
    let width = |item: &usize| {
        let item = &draft.items[*item];
        let node = &draft.nodes[item.node];
        if !item.lane {
            return node.width;
        }
        let passing = node.out.iter().filter(|&&link| draft.nodes[draft.picture.links[link].to].row > item.row);
        passing.map(|&link| draft.widths[link] + sizes::STRAND_GAP).sum::<f64>()
    };
    let of_row =
        |row: &Vec<usize>| row.iter().map(width).sum::<f64>() + sizes::LANE_GAP * row.len().saturating_sub(1) as f64;
    draft.rows.iter().map(of_row).fold(0.0, f64::max) + route::left_margin(picture.layers) + sizes::MARGIN
}

/// The circuit with rows and sizes but no places yet.
pub(super) struct Draft<'a> {
    pub picture: &'a Picture,
    pub nodes: Vec<DraftNode>,
    /// The stroke of each link.
    pub widths: Vec<f64>,
    /// Boxes first, with the index of their node; then lanes.
    pub items: Vec<Item>,
    /// The items of each row from left to right.
    pub rows: Vec<Vec<usize>>,
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

/// Something that takes room in a row.
#[derive(Clone, Copy)]
pub(super) struct Item {
    pub row: usize,
    /// The node whose box or lane it is.
    pub node: usize,
    pub lane: bool,
}

impl<'a> Draft<'a> {
    fn new(picture: &'a Picture) -> Draft<'a> {
        let rank = |node: Node| rank(node, picture.layers);
        let first = |nodes: &[Node]| nodes.first().copied().unwrap_or(Node::Input);
        let mut ranks: Vec<usize> = picture.boxes.iter().map(|shown| rank(first(&shown.nodes))).collect();
        ranks.dedup();
        let mut nodes: Vec<DraftNode> = picture
            .boxes
            .iter()
            .map(|shown| {
                let node = first(&shown.nodes);
                DraftNode {
                    node,
                    row: ranks.binary_search(&rank(node)).unwrap_or(0),
                    width: 0.0,
                    height: height(node, picture.merged_branches)
                        + if shown.role.is_some() { sizes::ROLE_HEIGHT } else { 0.0 },
                    out: Vec::new(),
                    into: Vec::new(),
                    lanes: Vec::new(),
                }
            })
            .collect();
        for (link, of) in picture.links.iter().enumerate() {
            nodes[of.from].out.push(link);
            nodes[of.to].into.push(link);
        }
        // Without scores all edges are alike, and none is strong.
        let width = |strength: f64| if picture.largest > 0.0 { sizes::stroke(strength) } else { 1.0 };
        let widths = picture.links.iter().map(|link| width(link.strength)).collect();
        let items = (0..nodes.len()).map(|node| Item { row: nodes[node].row, node, lane: false }).collect();
        let mut draft = Draft { picture, nodes, widths, items, rows: vec![Vec::new(); ranks.len()] };
        for node in 0..draft.nodes.len() {
            draft.nodes[node].width = draft.width(node);
            let rows = draft.nodes[node].out.iter().map(|link| draft.nodes[picture.links[*link].to].row);
            for row in draft.nodes[node].row + 1..rows.max().unwrap_or(0) {
                let lane = draft.items.len();
                draft.nodes[node].lanes.push(lane);
                draft.items.push(Item { row, node, lane: true });
            }
        }
        for (index, item) in draft.items.iter().enumerate() {
            draft.rows[item.row].push(index);
        }
        draft
    }

    /// The relative depth of each row, 0 for the input and 1 for the logits.
    pub fn depths(&self) -> Vec<f64> {
        let last = rank(Node::Logits, self.picture.layers);
        let mut depths = vec![0.0; self.rows.len()];
        for node in &self.nodes {
            depths[node.row] = rank(node.node, self.picture.layers) as f64 / last as f64;
        }
        depths
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
        let widths = self.port_widths(link.to);
        let before: f64 = widths[..branch.index()].iter().sum();
        let total: f64 = widths.iter().sum();
        before + widths[branch.index()] / 2.0 - total / 2.0
    }

    /// Wide enough for the label, for every edge that leaves and for every edge that arrives.
    fn width(&self, node: usize) -> f64 {
        let drawn = &self.nodes[node];
        let shown = &self.picture.boxes[node];
        let role = shown.role.as_ref().map_or(0.0, |role| sizes::text_width(role, sizes::SMALL_SIZE));
        let label = sizes::text_width(&shown.label, sizes::LABEL_SIZE).max(role) + 8.0;
        let leaving: f64 = drawn.out.iter().map(|link| self.widths[*link] + sizes::STRAND_GAP).sum();
        let arriving = match drawn.node {
            Node::Head(..) if !self.picture.merged_branches => self.port_widths(node).iter().sum(),
            _ => drawn.into.len() as f64 * sizes::TIP_SPACING,
        };
        label.max(leaving + 4.0).max(arriving + 3.0)
    }

    /// The widths of a head's q, k and v ports.
    fn port_widths(&self, node: usize) -> [f64; 3] {
        let into = &self.nodes[node].into;
        Branch::ALL.map(|branch| {
            let tips = into.iter().filter(|link| self.picture.links[**link].branch == Some(branch)).count();
            (tips as f64 * sizes::TIP_SPACING + 1.0).max(sizes::PORT_WIDTH)
        })
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

fn height(node: Node, merged_branches: bool) -> f64 {
    match node {
        Node::Head(..) if merged_branches => sizes::LOW_HEAD_HEIGHT,
        Node::Head(..) => sizes::HEAD_HEIGHT,
        Node::Mlp(_) => sizes::MLP_HEIGHT,
        Node::Input | Node::Logits => sizes::END_HEIGHT,
    }
}
