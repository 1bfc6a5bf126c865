//! Horizontal places: every item as near as possible to where its edges want it, in the order given and without overlap.
//!
//! One row at a time the best places under a fixed order are a weighted isotonic regression, solved exactly by pooling adjacent
//! violators; sweeps over the rows let the wishes travel. At last each lane is made as straight as its neighbours allow.

use super::layout::Draft;
use super::route::Bundle;
use super::sizes;

const SWEEPS: usize = 40;

/// An item wants to be `shift` to the right of another.
struct Wish {
    other: usize,
    shift: f64,
    weight: f64,
    upwards: bool,
}

/// The place of every item, the leftmost reaching to 0; no wider than `room`, if the items allow that.
pub(super) fn place(draft: &Draft, bundles: &[Bundle], room: Option<f64>) -> Vec<f64> {
    let room = room.unwrap_or(f64::INFINITY);
    let extents: Vec<(f64, f64)> = (0..draft.items.len()).map(|item| extent(draft, bundles, item)).collect();
    let wishes = wishes(draft, bundles);
    let mut x = vec![0.0; draft.items.len()];
    for sweep in 0..SWEEPS {
        let (from_below, from_above) = match sweep {
            sweep if sweep + 10 >= SWEEPS => (true, true),
            sweep if sweep % 2 == 0 => (true, false),
            _ => (false, true),
        };
        let count = draft.rows.len();
        for step in 0..count {
            let row = if sweep % 2 == 0 { step } else { count - 1 - step };
            let items = &draft.rows[row];
            let wanted: Vec<(f64, f64)> = items
                .iter()
                .map(|item| {
                    let used = wishes[*item].iter().filter(|wish| if wish.upwards { from_above } else { from_below });
                    // A faint wish for the middle keeps loose items near.
                    let (mut sum, mut weight) = (0.0, 0.02);
                    for wish in used {
                        sum += wish.weight * (x[wish.other] + wish.shift);
                        weight += wish.weight;
                    }
                    (sum / weight, weight)
                })
                .collect();
            for (item, place) in items.iter().zip(isotonic(draft, &extents, items, &wanted, room)) {
                x[*item] = place;
            }
        }
    }
    for _ in 0..3 {
        straighten(draft, &extents, &mut x, room);
    }
    let left = (0..x.len()).map(|item| x[item] - extents[item].0).fold(f64::INFINITY, f64::min);
    x.iter().map(|place| place - left).collect()
}

/// How far an item reaches to the left and to the right of its place.
fn extent(draft: &Draft, bundles: &[Bundle], item: usize) -> (f64, f64) {
    let drawn = draft.items[item];
    if !drawn.lane {
        let half = draft.nodes[drawn.node].width / 2.0;
        return (half, half);
    }
    let strands = bundles[drawn.node].strands.iter().filter(|strand| {
        let link = &draft.picture.links[strand.link];
        draft.nodes[link.to].row > drawn.row
    });
    strands.fold((f64::NEG_INFINITY, f64::NEG_INFINITY), |(left, right), strand| {
        let half = draft.widths[strand.link] / 2.0;
        (left.max(half - strand.offset), right.max(half + strand.offset))
    })
}

/// The least distance between the places of two neighbours.
fn separation(draft: &Draft, extents: &[(f64, f64)], left: usize, right: usize) -> f64 {
    let gap = match (draft.items[left].lane, draft.items[right].lane) {
        (false, false) => sizes::NODE_GAP,
        (true, true) => sizes::LANE_GAP,
        _ => sizes::NODE_LANE_GAP,
    };
    extents[left].1 + extents[right].0 + gap
}

fn wishes(draft: &Draft, bundles: &[Bundle]) -> Vec<Vec<Wish>> {
    let mut wishes: Vec<Vec<Wish>> = draft.items.iter().map(|_| Vec::new()).collect();
    let mut want = |low: usize, high: usize, shift: f64, weight: f64| {
        wishes[high].push(Wish { other: low, shift, weight, upwards: false });
        wishes[low].push(Wish { other: high, shift: -shift, weight, upwards: true });
    };
    for (node, bundle) in bundles.iter().enumerate() {
        let drawn = &draft.nodes[node];
        for (above, lane) in drawn.lanes.iter().enumerate() {
            // Bends in a lane hurt more than bends where an edge leaves it.
            let weight = if above == 0 { 3.0 } else { 8.0 };
            want(draft.item_at(node, drawn.row + above), *lane, 0.0, weight);
        }
        for strand in &bundle.strands {
            let link = &draft.picture.links[strand.link];
            let low = draft.item_at(node, draft.nodes[link.to].row - 1);
            want(low, link.to, strand.offset - draft.port_offset(link), 0.4 + link.strength);
        }
    }
    wishes
}

/// The places of a row's items that are nearest to the wanted ones, in order and apart, between -`room` / 2 and `room` / 2 if
/// they fit: the solution with bounds is the one without, bounded.
fn isotonic(draft: &Draft, extents: &[(f64, f64)], items: &[usize], wanted: &[(f64, f64)], room: f64) -> Vec<f64> {
    let mut shift = 0.0;
    let mut shifts = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            shift += separation(draft, extents, items[index - 1], *item);
        }
        shifts.push(shift);
    }
    // Blocks of items pressed together: mean wanted place, weight, number of items.
    let mut blocks: Vec<(f64, f64, usize)> = Vec::new();
    for ((place, weight), shift) in wanted.iter().zip(&shifts) {
        let mut block = (place - shift, *weight, 1);
        while let Some(last) = blocks.pop_if(|last| last.0 >= block.0) {
            let weight = last.1 + block.1;
            block = ((last.0 * last.1 + block.0 * block.1) / weight, weight, last.2 + block.2);
        }
        blocks.push(block);
    }
    let reach = |item: Option<&usize>, side: fn(&(f64, f64)) -> f64| item.map_or(0.0, |item| side(&extents[*item]));
    let low = reach(items.first(), |extent| extent.0) - room / 2.0;
    let high = (room / 2.0 - shift - reach(items.last(), |extent| extent.1)).max(low);
    let places = blocks.iter().flat_map(|(place, _, count)| std::iter::repeat_n(*place, *count));
    places.zip(shifts).map(|(place, shift)| place.clamp(low, high) + shift).collect()
}

/// Splits each box with its lane into the longest pieces that fit on one vertical line, and puts them there.
fn straighten(draft: &Draft, extents: &[(f64, f64)], x: &mut [f64], room: f64) {
    let mut place_of = vec![0; draft.items.len()];
    for item in draft.rows.iter().flat_map(|row| row.iter().enumerate()) {
        place_of[*item.1] = item.0;
    }
    let mut order: Vec<usize> = (0..draft.nodes.len()).collect();
    order.sort_by_key(|node| std::cmp::Reverse(draft.nodes[*node].lanes.len()));
    for node in order {
        let chain: Vec<usize> = std::iter::once(node).chain(draft.nodes[node].lanes.iter().copied()).collect();
        let mut start = 0;
        while start < chain.len() {
            let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
            let mut end = start;
            while end < chain.len() {
                let item = chain[end];
                let (row, place) = (&draft.rows[draft.items[item].row], place_of[item]);
                let least = match place.checked_sub(1) {
                    Some(left) => x[row[left]] + separation(draft, extents, row[left], item),
                    None => extents[item].0 - room / 2.0,
                };
                let most = match row.get(place + 1) {
                    Some(right) => x[*right] - separation(draft, extents, item, *right),
                    None => room / 2.0 - extents[item].1,
                };
                if low.max(least) > high.min(most) {
                    break;
                }
                (low, high) = (low.max(least), high.min(most));
                end += 1;
            }
            // Rounding can leave an item no room at all; it then stays where it is.
            end = end.max(start + 1);
            let mean = chain[start..end].iter().map(|item| x[*item]).sum::<f64>() / (end - start) as f64;
            if low <= high {
                for item in &chain[start..end] {
                    x[*item] = mean.clamp(low, high);
                }
            }
            start = end;
        }
    }
}
