//! Circuits at the sizes of the MIB benchmark, chosen by scores and run: the curve that its areas are of.
//!
//! CPR takes the edges with the largest scores, CMD those with the largest |score|; MIB takes top n, but for `ifr`, whose
//! circuits it grows greedily from the logits (Mueller et al., arXiv:2504.13151). Dead ends are pruned before a circuit is run,
//! so it may have fewer edges than its share. Cost: a circuit run of all pairs for each circuit that was not run before.

use super::areas::{Axis, Intervals, Runs, cmd, cpr, edge_counts};
use super::bench::{Bench, Outcome};
use crate::circuit::EdgeMask;
use crate::circuit::prune::prune;
use crate::circuit::select::{Rank, SelectError, greedy_by, top_n};
use crate::graph::Graph;
use crate::graph::scores::Scores;
use std::collections::HashMap;
use std::rc::Rc;

/// How edges are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Selection {
    /// The best of all edges.
    TopN,
    /// The best edges into what is reached, from the logits down.
    Greedy,
}

impl Selection {
    pub const ALL: [Selection; 2] = [Selection::TopN, Selection::Greedy];

    pub fn name(self) -> &'static str {
        match self {
            Selection::TopN => "top-n",
            Selection::Greedy => "greedy",
        }
    }

    /// What MIB takes for a method.
    pub fn of_method(name: &str) -> Selection {
        if name == "ifr" { Selection::Greedy } else { Selection::TopN }
    }
}

/// The circuit of `edges` edges by a rule, dead ends pruned; of 0 edges the empty one.
///
/// # Errors
/// [`SelectError`] when the graph has fewer edges.
pub fn circuit(
    graph: &Graph,
    scores: &Scores,
    edges: usize,
    rank: Rank,
    selection: Selection,
) -> Result<EdgeMask, SelectError> {
    let chosen = match (edges, selection) {
        (0, _) => EdgeMask::empty(graph),
        (_, Selection::TopN) => top_n(graph, scores, edges, rank)?,
        (_, Selection::Greedy) => greedy_by(graph, scores, edges, rank)?,
    };
    Ok(prune(graph, &chosen))
}

/// Runs circuits on the pairs of a bench, each once.
pub struct Runner<'a> {
    bench: &'a Bench<'a>,
    graph: &'a Graph,
    /// By a hash of the mask: masks of large models take megabytes.
    known: HashMap<blake3::Hash, Rc<Outcome>>,
}

/// A circuit of a curve.
#[derive(Clone, Debug)]
pub struct Point {
    /// How many edges the share asks for, and how many are left after pruning.
    pub asked: usize,
    pub edges: usize,
    pub outcome: Rc<Outcome>,
}

impl<'a> Runner<'a> {
    pub fn new(bench: &'a Bench<'a>, graph: &'a Graph) -> Runner<'a> {
        Runner { bench, graph, known: HashMap::new() }
    }

    /// What a circuit scores on every pair.
    pub fn run(&mut self, mask: &EdgeMask) -> Rc<Outcome> {
        let bytes: Vec<u8> = mask.0.iter().map(|&kept| u8::from(kept)).collect();
        let bench = self.bench;
        Rc::clone(self.known.entry(blake3::hash(&bytes)).or_insert_with(|| Rc::new(bench.circuit(mask))))
    }

    /// What the circuit of no edge scores.
    pub fn empty(&mut self) -> Rc<Outcome> {
        self.run(&EdgeMask::empty(self.graph))
    }

    /// The circuits of all shares. `progress` is told after each.
    ///
    /// # Errors
    /// None in practice: a share of the edges is never more than there are.
    pub fn curve(
        &mut self,
        scores: &Scores,
        rank: Rank,
        selection: Selection,
        progress: &mut dyn FnMut(),
    ) -> Result<Vec<Point>, SelectError> {
        let graph = self.graph;
        let point = |asked: usize| {
            let mask = circuit(graph, scores, asked, rank, selection)?;
            let point = Point { asked, edges: mask.count(), outcome: self.run(&mask) };
            progress();
            Ok(point)
        };
        edge_counts(graph.edge_count()).into_iter().map(point).collect()
    }
}

/// The metrics of a curve's runs beside those of the empty circuit and of the model.
pub fn runs<'a>(points: &'a [Point], empty: &'a Outcome, model: &'a Outcome) -> Runs<'a> {
    let circuits = points.iter().map(|point| &point.outcome.metric[..]).collect();
    Runs { circuits, empty: &empty.metric, model: &model.metric }
}

/// A curve with what is computed of it, in the order of the shares.
#[derive(Clone, Debug)]
pub struct Curve {
    pub points: Vec<Point>,
    /// f as a ratio of means over pairs, and as a mean of the ratios of pairs.
    pub faithfulness: Vec<f64>,
    pub of_ratios: Vec<f64>,
    pub intervals: Intervals,
}

impl Curve {
    /// `empty` and `model`: what the circuit of no edge and the whole model score on the same pairs.
    pub fn of(points: Vec<Point>, empty: &Outcome, model: &Outcome, seed: u64) -> Curve {
        let runs = runs(&points, empty, model);
        let (faithfulness, of_ratios, intervals) =
            (runs.ratios_of_means(), runs.means_of_ratios(), runs.intervals(seed));
        Curve { points, faithfulness, of_ratios, intervals }
    }
}

/// The areas of a method: CPR of the curve by score, CMD of that by |score|.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Areas {
    pub cpr: f64,
    pub cmd: f64,
    /// On the logarithmic axis.
    pub cpr_log: f64,
    pub cmd_log: f64,
    /// On the linear axis, of the curves of mean ratios.
    pub cpr_of_ratios: f64,
    pub cmd_of_ratios: f64,
}

impl Areas {
    pub fn of(signed: &Curve, absolute: &Curve) -> Areas {
        Areas {
            cpr: cpr(&signed.faithfulness, Axis::Linear),
            cmd: cmd(&absolute.faithfulness, Axis::Linear),
            cpr_log: cpr(&signed.faithfulness, Axis::Log),
            cmd_log: cmd(&absolute.faithfulness, Axis::Log),
            cpr_of_ratios: cpr(&signed.of_ratios, Axis::Linear),
            cmd_of_ratios: cmd(&absolute.of_ratios, Axis::Linear),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Dimensions;

    #[test]
    fn circuits_of_no_edge_are_empty_and_dead_ends_go() {
        let graph = Graph::new(Dimensions::new(2, 1));
        let mut scores = Scores::zeros(&graph);
        for (name, score) in [("input->a0.h0<v>", 0.9), ("a0.h0->m1", -0.8), ("m1->logits", 0.3), ("input->m0", 0.2)] {
            scores.set(graph.parse_edge(name).unwrap(), score);
        }
        let check = |edges, rank, selection, left: &[&str]| {
            let mask = circuit(&graph, &scores, edges, rank, selection).unwrap();
            let names: Vec<String> = mask.edges(&graph).into_iter().map(|edge| graph.name(edge)).collect();
            assert_eq!(names, left, "{edges} edges, {rank:?}, {selection:?}");
        };
        for selection in Selection::ALL {
            check(0, Rank::Signed, selection, &[]);
            check(3, Rank::Absolute, selection, &["input->a0.h0<v>", "a0.h0->m1", "m1->logits"]);
        }
        check(2, Rank::Absolute, Selection::TopN, &[]);
        check(3, Rank::Signed, Selection::TopN, &[]);
        assert!(circuit(&graph, &scores, graph.edge_count() + 1, Rank::Signed, Selection::TopN).is_err());
    }
}
