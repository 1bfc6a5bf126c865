//! The order of boxes and lanes inside each row: barycentre sweeps and swaps of neighbours, keeping the order with the fewest
//! crossings seen; then heads are put back in head order wherever that costs no crossing.

use super::layout::Draft;
use crate::graph::Node;

const SWEEPS: usize = 24;
/// Above this many segments, swaps of neighbours cost more time than the picture is worth: it is a hairball anyway.
const MOST_SEGMENTS_TO_SWAP: usize = 4000;

/// A piece of one or more edges between two neighbouring rows.
#[derive(Clone, Copy)]
struct Segment {
    low: usize,
    high: usize,
    /// Where it enters the upper item: 0, 1, 2 from left to right.
    port: usize,
    /// How many edges it carries.
    weight: usize,
}

struct Sweeper<'a> {
    draft: &'a Draft<'a>,
    rows: Vec<Vec<usize>>,
    /// Each item's place in its row.
    place: Vec<usize>,
    /// The segments between row `i` and row `i + 1`.
    gaps: Vec<Vec<Segment>>,
    below: Vec<Vec<Segment>>,
    above: Vec<Vec<Segment>>,
}

pub(super) fn order(draft: &mut Draft) {
    let mut sweeper = Sweeper::new(draft);
    let swaps = sweeper.gaps.iter().map(Vec::len).sum::<usize>() <= MOST_SEGMENTS_TO_SWAP;
    let mut best = (usize::MAX, sweeper.rows.clone());
    for sweep in 0..SWEEPS {
        sweeper.sweep(sweep % 2 == 0);
        if swaps {
            while sweeper.swap_neighbours() {}
        }
        let crossings = sweeper.crossings();
        if crossings < best.0 {
            best = (crossings, sweeper.rows.clone());
        }
    }
    sweeper.set_rows(best.1);
    sweeper.restore_head_order(best.0);
    draft.rows = sweeper.rows;
}

impl<'a> Sweeper<'a> {
    fn new(draft: &'a Draft) -> Sweeper<'a> {
        let mut gaps = vec![Vec::new(); draft.rows.len().saturating_sub(1)];
        for (node, drawn) in draft.nodes.iter().enumerate() {
            for (above, lane) in drawn.lanes.iter().enumerate() {
                let row = drawn.row + above;
                let weight =
                    drawn.out.iter().filter(|link| draft.nodes[draft.picture.links[**link].to].row > row + 1).count();
                gaps[row].push(Segment { low: draft.item_at(node, row), high: *lane, port: 1, weight });
            }
        }
        for link in &draft.picture.links {
            let row = draft.nodes[link.to].row - 1;
            let port = link.branch.map_or(1, |branch| branch.index());
            gaps[row].push(Segment { low: draft.item_at(link.from, row), high: link.to, port, weight: 1 });
        }
        let (mut below, mut above) = (vec![Vec::new(); draft.items.len()], vec![Vec::new(); draft.items.len()]);
        for segment in gaps.iter().flatten() {
            below[segment.high].push(*segment);
            above[segment.low].push(*segment);
        }
        let mut sweeper = Sweeper { draft, rows: Vec::new(), place: vec![0; draft.items.len()], gaps, below, above };
        sweeper.set_rows(draft.rows.clone());
        sweeper
    }

    fn set_rows(&mut self, rows: Vec<Vec<usize>>) {
        self.rows = rows;
        for row in 0..self.rows.len() {
            self.number(row);
        }
    }

    fn number(&mut self, row: usize) {
        for (place, item) in self.rows[row].iter().enumerate() {
            self.place[*item] = place;
        }
    }

    /// Where a segment enters its upper item, in quarters of a place.
    fn high_key(&self, segment: &Segment) -> usize {
        4 * self.place[segment.high] + segment.port
    }

    /// Sorts every row by the mean place of its neighbours in the row before.
    fn sweep(&mut self, upwards: bool) {
        let count = self.rows.len();
        for step in 1..count {
            let row = if upwards { step } else { count - 1 - step };
            let mean = |item: usize| -> f64 {
                let segments = if upwards { &self.below[item] } else { &self.above[item] };
                let weight: usize = segments.iter().map(|segment| segment.weight).sum();
                let sum: usize = segments
                    .iter()
                    .map(|segment| {
                        segment.weight * if upwards { 4 * self.place[segment.low] + 1 } else { self.high_key(segment) }
                    })
                    .sum();
                if weight == 0 { 4.0 * self.place[item] as f64 } else { sum as f64 / weight as f64 }
            };
            let mut keyed: Vec<(f64, usize)> = self.rows[row].iter().map(|item| (mean(*item), *item)).collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            self.rows[row] = keyed.into_iter().map(|(_, item)| item).collect();
            self.number(row);
        }
    }

    /// Swaps neighbours wherever that removes crossings; whether it did anything.
    fn swap_neighbours(&mut self) -> bool {
        let mut improved = false;
        for row in 0..self.rows.len() {
            for place in 1..self.rows[row].len() {
                let (left, right) = (self.rows[row][place - 1], self.rows[row][place]);
                if self.crossings_if(right, left) < self.crossings_if(left, right) {
                    self.rows[row].swap(place - 1, place);
                    self.number(row);
                    improved = true;
                }
            }
        }
        improved
    }

    /// The crossings between the segments of two items if one stands left of the other.
    fn crossings_if(&self, left: usize, right: usize) -> usize {
        let mut crossings = 0;
        for a in &self.below[left] {
            for b in &self.below[right] {
                crossings += usize::from(self.place[a.low] > self.place[b.low]) * a.weight * b.weight;
            }
        }
        for a in &self.above[left] {
            for b in &self.above[right] {
                crossings += usize::from(self.high_key(a) > self.high_key(b)) * a.weight * b.weight;
            }
        }
        crossings
    }

    /// All crossings, each counted by the edges involved. O(segments · log) by a Fenwick tree over the upper ends.
    fn crossings(&self) -> usize {
        let mut crossings = 0;
        for (row, segments) in self.gaps.iter().enumerate() {
            let mut ends: Vec<(usize, usize, usize)> = segments
                .iter()
                .map(|segment| (self.place[segment.low], self.high_key(segment), segment.weight))
                .collect();
            ends.sort_unstable();
            let mut tree = vec![0; 4 * self.rows[row + 1].len() + 1];
            let mut total = 0;
            for (_, high, weight) in ends {
                let mut not_beyond = 0;
                let mut index = high + 1;
                while index > 0 {
                    not_beyond += tree[index];
                    index &= index - 1;
                }
                crossings += weight * (total - not_beyond);
                total += weight;
                let mut index = high + 1;
                while index < tree.len() {
                    tree[index] += weight;
                    index += index & index.wrapping_neg();
                }
            }
        }
        crossings
    }

    /// Puts heads in head order, row by row, where the crossings do not rise above `most`.
    fn restore_head_order(&mut self, most: usize) {
        for row in 0..self.rows.len() {
            let is_head =
                |item: &usize| !self.draft.items[*item].lane && matches!(self.draft.nodes[*item].node, Node::Head(..));
            let before = self.rows[row].clone();
            let mut heads: Vec<usize> = before.iter().copied().filter(is_head).collect();
            // Node indices follow the residual stream, so they sort heads by number.
            heads.sort_unstable();
            let mut heads = heads.into_iter();
            let after = before.iter().map(|item| if is_head(item) { heads.next().unwrap_or(*item) } else { *item });
            self.rows[row] = after.collect();
            self.number(row);
            if self.crossings() > most {
                self.rows[row] = before;
                self.number(row);
            }
        }
    }
}
