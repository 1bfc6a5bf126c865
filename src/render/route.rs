//! Paths: which strand of a lane goes where, how high the gaps between rows are, and the curves.
//!
//! The edges of one source start side by side and stay so until each turns off to its destination. Those that turn off first are
//! outermost, to the left or to the right, so edges of one source never cross each other. Curves bend only between rows and
//! are vertical where they meet a row.

use super::figure::{Figure, FigureEdge, FigureNode, LayerLabel, Point, Step};
use super::layout::{Draft, Rows};
use super::sizes;
use crate::graph::Node;
use crate::model::spec::{Branch, Layer};

/// The edges that leave one node, from left to right.
pub(super) struct Bundle {
    pub strands: Vec<Strand>,
}

#[derive(Clone, Copy)]
pub(super) struct Strand {
    pub link: usize,
    /// From the middle of the whole bundle; the same at every height.
    pub offset: f64,
}

/// The bundle of every node.
pub(super) fn bundles(draft: &Draft) -> Vec<Bundle> {
    let mut place = vec![0; draft.items.len()];
    for row in &draft.rows {
        for (index, item) in row.iter().enumerate() {
            place[*item] = index;
        }
    }
    (0..draft.nodes.len()).map(|node| bundle(draft, &place, node)).collect()
}

fn bundle(draft: &Draft, place: &[usize], node: usize) -> Bundle {
    let drawn = &draft.nodes[node];
    // From the farthest destination down to the nearest, each row's exits go around those that travel on.
    let mut links: Vec<usize> = Vec::new();
    for row in (drawn.row + 1..draft.rows.len()).rev() {
        let mut exits: Vec<usize> =
            drawn.out.iter().copied().filter(|link| draft.nodes[draft.picture.links[*link].to].row == row).collect();
        exits.sort_by_key(|link| {
            let link = &draft.picture.links[*link];
            (place[link.to], link.branch)
        });
        let lane = drawn.lanes.get(row - drawn.row - 1).map_or(0, |lane| place[*lane]);
        let turn = exits.iter().take_while(|link| place[draft.picture.links[**link].to] < lane).count();
        let right = exits.split_off(turn);
        links = exits.into_iter().chain(links).chain(right).collect();
    }
    let total: f64 = links.iter().map(|link| draft.widths[*link] + sizes::STRAND_GAP).sum();
    let mut left = -total / 2.0;
    let strands = links.into_iter().map(|link| {
        let room = draft.widths[link] + sizes::STRAND_GAP;
        left += room;
        Strand { link, offset: left - room / 2.0 }
    });
    Bundle { strands: strands.collect() }
}

/// The room that the names of layers take.
pub(super) fn left_margin(layers: usize) -> f64 {
    let labels = (0..layers).map(|layer| format!("layer {layer}"));
    sizes::MARGIN + labels.map(|label| sizes::text_width(&label, sizes::SMALL_SIZE)).fold(0.0, f64::max) + 8.0
}

/// Everything placed. `x` is the place of every item, the leftmost reaching to 0.
pub(super) fn figure(draft: &Draft, bundles: &[Bundle], x: Vec<f64>, rows: Rows) -> Figure {
    let picture = draft.picture;
    let left = left_margin(picture.layers);
    let x: Vec<f64> = x.into_iter().map(|place| place + left).collect();

    let mut strand_offset = vec![0.0; draft.picture.links.len()];
    for strand in bundles.iter().flat_map(|bundle| &bundle.strands) {
        strand_offset[strand.link] = strand.offset;
    }
    // The x of a link where it leaves the row below its destination.
    let departure = |link: usize| {
        let drawn = &draft.picture.links[link];
        x[draft.item_at(drawn.from, draft.nodes[drawn.to].row - 1)] + strand_offset[link]
    };
    let tips = tips(draft, &x, &departure);
    let heights = heights(draft, &x, &departure, &tips, rows);

    let point = |x: f64, y: f64| Point { x, y };
    let mut edges: Vec<FigureEdge> = draft
        .picture
        .links
        .iter()
        .enumerate()
        .map(|(index, link)| {
            let (from, to) = (&draft.nodes[link.from], &draft.nodes[link.to]);
            let start = point(x[link.from] + strand_offset[index], heights.middle[from.row] - from.height / 2.0);
            let mut path = Path { start, steps: Vec::new() };
            path.line(point(start.x, heights.top(from.row)));
            for row in from.row + 1..to.row {
                let at = x[draft.item_at(link.from, row)] + strand_offset[index];
                path.curve(point(at, heights.bottom(row)));
                path.line(point(at, heights.top(row)));
            }
            let tip = point(tips[index], heights.middle[to.row] + to.height / 2.0);
            path.curve(point(tip.x, heights.bottom(to.row) + sizes::ARROW_LENGTH));
            path.line(tip);
            FigureEdge {
                edges: link.edges.clone(),
                from: link.from,
                to: link.to,
                place: index,
                name: link.name.clone(),
                score: link.score,
                branch: link.branch,
                strength: link.strength,
                width: draft.widths[index],
                start,
                steps: path.steps,
            }
        })
        .collect();
    edges.sort_by(|a, b| a.strength.total_cmp(&b.strength));

    let nodes = draft.nodes.iter().enumerate().map(|(index, node)| {
        let port = |branch: Branch| {
            let link =
                node.into.iter().map(|link| &draft.picture.links[*link]).find(|link| link.branch == Some(branch))?;
            Some((branch, x[index] + draft.port_offset(link)))
        };
        FigureNode {
            nodes: picture.boxes[index].nodes.clone(),
            row: node.row,
            x: x[index],
            y: heights.middle[node.row],
            width: node.width,
            height: node.height,
            label: picture.boxes[index].label.clone(),
            role: picture.boxes[index].role.clone(),
            ports: Branch::ALL.into_iter().filter_map(port).collect(),
        }
    });
    let nodes: Vec<FigureNode> = nodes.collect();
    let ends = nodes.iter().map(|node| node.x + node.width / 2.0);
    let paths = edges.iter().flat_map(|edge| edge.steps.iter().map(|step| step.end().x + edge.width / 2.0));
    let width = ends.chain(paths).fold(0.0, f64::max) + sizes::MARGIN;
    let layers = (0..picture.layers).filter_map(|layer| layer_label(draft, &heights, Layer(layer)));
    Figure {
        width,
        height: heights.total,
        layers: layers.collect(),
        nodes,
        edges,
        largest: picture.largest,
        merged_branches: picture.merged_branches,
        put_together: picture.put_together(),
        left_out: picture.left_out,
    }
}

/// A path under construction; straight pieces in line are joined.
struct Path {
    start: Point,
    steps: Vec<Step>,
}

impl Path {
    fn here(&self) -> Point {
        self.steps.last().map_or(self.start, |step| step.end())
    }

    fn line(&mut self, to: Point) {
        if let Some(Step::Line(last)) = self.steps.last_mut() {
            *last = to;
        } else if to.y < self.here().y {
            self.steps.push(Step::Line(to));
        }
    }

    fn curve(&mut self, to: Point) {
        if (to.x - self.here().x).abs() < 0.005 {
            self.line(Point { x: self.here().x, y: to.y });
        } else {
            self.steps.push(Step::Curve(to));
        }
    }
}

/// The x at which each link meets its box: side by side in the order in which the links come from below.
fn tips(draft: &Draft, x: &[f64], departure: &impl Fn(usize) -> f64) -> Vec<f64> {
    let mut tips = vec![0.0; draft.picture.links.len()];
    for (index, node) in draft.nodes.iter().enumerate() {
        for port in [None].into_iter().chain(Branch::ALL.map(Some)) {
            let mut links: Vec<usize> =
                node.into.iter().copied().filter(|link| draft.picture.links[*link].branch == port).collect();
            links.sort_by(|a, b| departure(*a).total_cmp(&departure(*b)));
            let middle = (links.len() as f64 - 1.0) / 2.0;
            for (place, link) in links.iter().enumerate() {
                let centre = x[index] + draft.port_offset(&draft.picture.links[*link]);
                tips[*link] = centre + (place as f64 - middle) * sizes::TIP_SPACING;
            }
        }
    }
    tips
}

struct Heights {
    /// The middle of each row.
    middle: Vec<f64>,
    height: Vec<f64>,
    total: f64,
}

impl Heights {
    fn top(&self, row: usize) -> f64 {
        self.middle[row] - self.height[row] / 2.0
    }

    fn bottom(&self, row: usize) -> f64 {
        self.middle[row] + self.height[row] / 2.0
    }
}

/// Rows are as high as their boxes; a gap is the higher the more curves it has and the farther they go sideways.
fn heights(draft: &Draft, x: &[f64], departure: &impl Fn(usize) -> f64, tips: &[f64], how: Rows) -> Heights {
    let rows = draft.rows.len();
    let (mut farthest, mut bends) = (vec![0f64; rows], vec![0f64; rows]);
    for (node, drawn) in draft.nodes.iter().enumerate() {
        for (row, lane) in (drawn.row..).zip(&drawn.lanes) {
            farthest[row] = farthest[row].max((x[*lane] - x[draft.item_at(node, row)]).abs());
        }
    }
    for (index, link) in draft.picture.links.iter().enumerate() {
        let row = draft.nodes[link.to].row - 1;
        farthest[row] = farthest[row].max((tips[index] - departure(index)).abs());
        bends[row] += 1.0;
    }
    let mut height = vec![0f64; rows];
    for node in &draft.nodes {
        height[node.row] = height[node.row].max(node.height);
    }
    let mut middle = vec![0.0; rows];
    let most_high = match how {
        Rows::Near(most_high) => most_high,
        Rows::ByDepth(total) => {
            let (top, bottom) =
                [height.last(), height.first()].map(|end| sizes::MARGIN + end.unwrap_or(&0.0) / 2.0).into();
            for (middle, depth) in middle.iter_mut().zip(draft.depths()) {
                *middle = top + (total - top - bottom) * (1.0 - depth);
            }
            return Heights { middle, height, total };
        }
    };
    let gap = |row: usize| (14.0 + 0.1 * farthest[row] + 0.45 * bends[row]).clamp(17.0, 60.0);
    let gaps: Vec<f64> = (0..rows.saturating_sub(1)).map(gap).collect();
    // Every gap keeps its least height; what is above that shrinks.
    let least = height.iter().sum::<f64>() + 2.0 * sizes::MARGIN + sizes::LEAST_GAP * gaps.len() as f64;
    let above: f64 = gaps.iter().map(|gap| gap - sizes::LEAST_GAP).sum();
    let shrink = most_high.map_or(1.0, |most| ((most - least) / above).clamp(0.0, 1.0));
    let mut y = sizes::MARGIN;
    for row in (0..rows).rev() {
        middle[row] = y + height[row] / 2.0;
        y += height[row];
        if let Some(below) = row.checked_sub(1) {
            y += sizes::LEAST_GAP + shrink * (gaps[below] - sizes::LEAST_GAP);
        }
    }
    Heights { middle, height, total: y + sizes::MARGIN }
}

fn layer_label(draft: &Draft, heights: &Heights, layer: Layer) -> Option<LayerLabel> {
    let of_layer = |node: Node| match node {
        Node::Head(of, _) | Node::Mlp(of) => of == layer,
        Node::Input | Node::Logits => false,
    };
    let rows = draft.nodes.iter().filter(|node| of_layer(node.node)).map(|node| node.row);
    let (lowest, highest) = (rows.clone().min()?, rows.max()?);
    let span = (heights.top(highest), heights.bottom(lowest));
    Some(LayerLabel { text: format!("layer {}", layer.0), y: (span.0 + span.1) / 2.0, span })
}
