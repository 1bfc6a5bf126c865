//! A circuit and its scores against a published circuit: precision and recall of the edges chosen, and how well the scores
//! alone tell edges of the published circuit from the others (area under the ROC curve, average precision), at edges and at
//! nodes.

use crate::circuit::EdgeMask;
use crate::graph::scores::Scores;
use crate::graph::{Graph, Node};

/// How well a set and a ranking find what is wanted.
#[derive(Clone, PartialEq, Debug)]
pub struct Agreement {
    /// Members of the circuit, of the published one, of both, and of the graph.
    pub chosen: usize,
    pub wanted: usize,
    pub both: usize,
    pub of: usize,
    pub precision: f64,
    pub recall: f64,
    /// Of the ranking by |score|; nothing where it ranks nothing.
    pub ranking: Option<Ranking>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Ranking {
    /// The probability that a wanted member ranks above another one, equal ranks counting half.
    pub auroc: f64,
    /// The mean precision at each wanted member.
    pub average_precision: f64,
    /// Precision, and so recall, of the best-ranked members when as many are taken as are wanted; of equal ranks at the border
    /// each is taken to the same degree.
    pub precision_at_wanted: f64,
    /// False and true positive rates, a point for every distinct score, from (0, 0) to (1, 1).
    pub curve: Vec<[f64; 2]>,
}

/// Agreement at edges and at nodes (heads and MLPs). `ranked`: scores of all edges, if they are known.
pub fn agreement(graph: &Graph, mask: &EdgeMask, ranked: Option<&Scores>, published: &EdgeMask) -> [Agreement; 2] {
    let edges: Vec<Member> = graph
        .edges()
        .iter()
        .map(|&edge| Member {
            chosen: mask.contains(edge),
            wanted: published.contains(edge),
            size: ranked.map(|scores| size(scores.get(edge))),
        })
        .collect();
    let [chosen, wanted] = [mask, published].map(|mask| mask.nodes(graph));
    let nodes: Vec<Member> = graph
        .nodes()
        .filter(|node| matches!(node, Node::Head(..) | Node::Mlp(_)))
        .map(|node| {
            // A node's rank is that of its best edge: it is in every circuit by scores that has it.
            let at_node = |scores: &Scores| {
                let touches = |edge: &&crate::graph::Edge| {
                    graph.node(edge.source) == node || graph.readers(graph.slot(edge.destination)).contains(&node)
                };
                graph.edges().iter().filter(touches).map(|edge| size(scores.get(*edge))).fold(0.0, f64::max)
            };
            Member { chosen: chosen.contains(&node), wanted: wanted.contains(&node), size: ranked.map(at_node) }
        })
        .collect();
    [Agreement::of(&edges), Agreement::of(&nodes)]
}

fn size(score: f32) -> f64 {
    let size = f64::from(score.abs());
    if size.is_nan() { 0.0 } else { size }
}

struct Member {
    chosen: bool,
    wanted: bool,
    size: Option<f64>,
}

impl Agreement {
    fn of(members: &[Member]) -> Agreement {
        let count = |kind: fn(&&Member) -> bool| members.iter().filter(kind).count();
        let (chosen, wanted) = (count(|member| member.chosen), count(|member| member.wanted));
        let both = count(|member| member.chosen && member.wanted);
        let share = |of: usize| if of == 0 { 0.0 } else { both as f64 / of as f64 };
        let ranked: Option<Vec<(f64, bool)>> =
            members.iter().map(|member| member.size.map(|size| (size, member.wanted))).collect();
        Agreement {
            chosen,
            wanted,
            both,
            of: members.len(),
            precision: share(chosen),
            recall: share(wanted),
            ranking: ranked.and_then(Ranking::of),
        }
    }
}

impl Ranking {
    /// Of members with their size and whether they are wanted.
    fn of(mut ranked: Vec<(f64, bool)>) -> Option<Ranking> {
        let wanted = ranked.iter().filter(|(_, wanted)| *wanted).count();
        let others = ranked.len() - wanted;
        if wanted == 0 || others == 0 {
            return None;
        }
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (mut hits, mut misses, mut area, mut precision, mut taken) = (0, 0, 0.0, 0.0, 0.0);
        let mut curve = vec![[0.0, 0.0]];
        for equal in ranked.chunk_by(|a, b| a.0 == b.0) {
            let new_hits = equal.iter().filter(|(_, wanted)| *wanted).count();
            let new_misses = equal.len() - new_hits;
            // A step along both axes at once is the diagonal: equal ranks count half.
            area += new_misses as f64 * (hits as f64 + new_hits as f64 / 2.0);
            let room = wanted.saturating_sub(hits + misses).min(equal.len());
            taken += (new_hits * room) as f64 / equal.len() as f64;
            (hits, misses) = (hits + new_hits, misses + new_misses);
            precision += new_hits as f64 * hits as f64 / (hits + misses) as f64;
            curve.push([misses as f64 / others as f64, hits as f64 / wanted as f64]);
        }
        Some(Ranking {
            auroc: area / (wanted as f64 * others as f64),
            average_precision: precision / wanted as f64,
            precision_at_wanted: taken / wanted as f64,
            curve,
        })
    }
}

/// The probability that a number of the first kind is above one of the second, equal ones counting half; ½ of nothing.
pub fn auroc(above: &[f64], below: &[f64]) -> f64 {
    let kinds = [(above, true), (below, false)];
    let ranked = kinds.into_iter().flat_map(|(numbers, wanted)| numbers.iter().map(move |number| (*number, wanted)));
    Ranking::of(ranked.collect()).map_or(0.5, |ranking| ranking.auroc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rankings_by_hand() {
        let ranking = |sizes: &[(f64, bool)]| Ranking::of(sizes.to_vec());
        let perfect = ranking(&[(0.1, false), (0.9, true), (0.8, true), (0.0, false)]).unwrap();
        assert_eq!((perfect.auroc, perfect.average_precision, perfect.precision_at_wanted), (1.0, 1.0, 1.0));
        let none = ranking(&[(0.5, true), (0.5, false), (0.5, false), (0.5, true)]).unwrap();
        assert_eq!((none.auroc, none.average_precision, none.precision_at_wanted), (0.5, 0.5, 0.5));
        // Wanted at ranks 1 and 4 of 5: 3 + 1 of the 6 pairs in order.
        let mixed = ranking(&[(5.0, true), (4.0, false), (3.0, false), (2.0, true), (1.0, false)]).unwrap();
        assert_eq!((mixed.auroc, mixed.average_precision), (4.0 / 6.0, (1.0 + 0.5) / 2.0));
        assert_eq!(mixed.precision_at_wanted, 0.5);
        // Two are wanted: the first, and one of three equal ones of which one is wanted.
        let tied = ranking(&[(5.0, true), (2.0, false), (2.0, true), (2.0, false), (0.0, false)]).unwrap();
        assert!((tied.precision_at_wanted - (1.0 + 1.0 / 3.0) / 2.0).abs() < 1e-12, "{tied:?}");
        assert_eq!(mixed.curve.first().zip(mixed.curve.last()), Some((&[0.0, 0.0], &[1.0, 1.0])));
        assert_eq!(ranking(&[(1.0, true)]), None);
    }
}
