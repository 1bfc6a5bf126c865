//! Scores by position: they add up to the scores over all positions, and each is what its definition says.

#![cfg(feature = "torch")]

mod fixtures;

use fixtures::{Case, Leaf, alone, with_each_in};
use penjing::dataset::TokenPair;
use penjing::error::Hint;
use penjing::graph::scores::Scores;
use penjing::graph::{Dimensions, Edge, Graph, KvSlots, Level, Node, Slot};
use penjing::measure::batch::Prefix;
use penjing::measure::metric::per_pair;
use penjing::measure::sources::Activations;
use penjing::metric::MetricKind;
use penjing::model::site::Site;
use penjing::model::tap::{NoTap, Tap};
use penjing::model::{Dtype, Pass, Start};
use penjing::score::{Method, Problem, ScoreError, Settings, State, advance, score};
use penjing::spans::Spans;
use tch::{Kind, Tensor};

const METRIC: MetricKind = MetricKind::LogitDifference;

fn graph(case: &Case) -> Graph {
    Graph::new(Dimensions::of(&case.loaded.model.spec, KvSlots::PerQueryHead))
}

fn apart(problem: &Problem, method: &Method) -> Vec<Scores> {
    let mut state = State::start(problem, method).unwrap();
    advance(problem, method, &mut state, &mut &mut |_: penjing::score::Progress| ()).unwrap();
    state.scores_of_spans(&problem.table())
}

fn largest(scores: &Scores) -> f32 {
    scores.values.iter().fold(0f32, |largest, score| largest.max(score.abs()))
}

#[test]
fn scores_of_positions_add_up() {
    with_each_in(Dtype::F64, |case| {
        let graph = graph(case);
        let spans = Spans::each(&case.pairs);
        for prefix in [Prefix::Shared, Prefix::Recomputed] {
            let problem = Problem { prefix, ..Problem::new(&case.loaded.model, &graph, &case.pairs, METRIC) };
            for method in Method::all(&Settings { steps: 2, ..Settings::default() }) {
                if method == Method::Exact || !method.levels().contains(&Level::Edge) {
                    continue; // effects of positions do not add up
                }
                let found = match score(&Problem { spans: Some(&spans), ..problem }, &method, &mut |_| ()) {
                    Ok(_) => apart(&Problem { spans: Some(&spans), ..problem }, &method),
                    Err(ScoreError::Positions { .. }) => continue,
                    Err(error) => panic!("{}: {error}", case.name),
                };
                let whole = score(&problem, &method, &mut |_| ()).unwrap();
                assert_eq!(found.len(), spans.names.len());
                let zeros = Scores::zeros(&graph);
                let sum = found.iter().fold(zeros.values, |sum, span| sum + &span.values);
                let off = largest(&Scores { values: sum - &whole.values });
                assert!(off < 1e-5 * largest(&whole).max(0.1), "{}, {}: {off}", case.name, method.name());
                let used = found.iter().filter(|span| largest(span) > 0.0).count();
                assert!(used > 1, "{}, {}: only {used} positions matter", case.name, method.name());
            }
        }
    });
}

/// Of the heads of a layer, of an MLP and of the input, at each position.
#[test]
fn the_score_of_a_position_is_the_derivative_along_its_difference() {
    with_each_in(Dtype::F64, |case| {
        let (graph, model, pair) = (graph(case), &case.loaded.model, &case.pairs[..1]);
        let spans = Spans::each(pair);
        let problem = Problem { spans: Some(&spans), ..Problem::new(model, &graph, pair, METRIC) };
        let found = apart(&problem, &Method::Eap);
        let batch = alone(case, &pair[0]);
        let [clean, corrupt] = [&batch.clean, &batch.corrupt].map(|tokens| Activations::record(model, tokens, None));
        let mut sites = vec![(Site::TokenEmbedding, &clean.embedding - &corrupt.embedding)];
        let layer = penjing::model::spec::Layer(0);
        sites.push((Site::Z(layer), &clean.z[0] - &corrupt.z[0]));
        if let (Some(clean), Some(corrupt)) = (clean.mlp.first(), corrupt.mlp.first()) {
            sites.push((Site::MlpOut(layer), clean - corrupt));
        }
        for (site, difference) in sites {
            let mut leaf = Leaf { site, leaf: Tensor::new(), before: &mut NoTap };
            let logits = model.forward(Start::Tokens(&batch.clean), &Pass::LAST, &mut leaf).squeeze_dim(1); // [1, vocab]
            let metric = per_pair(METRIC, &logits, &batch, None).sum(Kind::Double);
            let gradient = Tensor::run_backward(&[metric], &[&leaf.leaf], false, false).remove(0);
            let product = gradient * difference; // [1, pos, ..]
            for (position, scores) in found.iter().enumerate() {
                let expected = product.select(1, position as i64).sum(Kind::Double).double_value(&[]);
                let writes = |edge: &&Edge| match (graph.node(edge.source), site) {
                    (Node::Input, Site::TokenEmbedding) => true,
                    (Node::Head(of, _), Site::Z(at)) | (Node::Mlp(of), Site::MlpOut(at)) => of == at,
                    _ => false,
                };
                let sum: f64 = graph.edges().iter().filter(writes).map(|&edge| f64::from(scores.get(edge))).sum();
                let what = format!("{}, {site:?}, {position}: {sum}, {expected}", case.name);
                assert!((sum - expected).abs() < 1e-5 * expected.abs().max(0.1), "{what}");
            }
        }
    });
}

/// Adds to what one slot reads at one position.
struct Shift {
    slot: Slot,
    heads: i64,
    position: i64,
    amount: Tensor, // [d_model]
}

impl Tap for Shift {
    fn wants(&self, site: Site) -> bool {
        match (self.slot, site) {
            (Slot::Head(layer, _, branch), Site::AttentionIn(at, of)) => (layer, branch) == (at, of),
            (Slot::Mlp(layer), Site::MlpIn(at)) => layer == at,
            _ => false,
        }
    }

    fn at(&mut self, _: Site, value: Tensor) -> Tensor {
        let value = match self.slot {
            Slot::Head(..) => value.repeat([1, 1, self.heads, 1]), // [1, pos, head, d_model]
            _ => value.copy(),
        };
        let mut place = value.select(1, self.position);
        if let Slot::Head(_, head, _) = self.slot {
            place = place.select(1, head.0 as i64);
        }
        let _ = place.g_add_(&self.amount);
        value
    }
}

#[test]
fn exact_scores_of_a_position_move_that_position_alone() {
    with_each_in(Dtype::F64, |case| {
        if !["gpt2", "gemma2", "llama", "gpt_neox"].contains(&case.name.as_str()) {
            return;
        }
        let (graph, model) = (graph(case), &case.loaded.model);
        let longest = case.pairs.iter().max_by_key(|pair| pair.len()).unwrap();
        let pair: &[TokenPair] = std::slice::from_ref(longest);
        let spans = Spans::each(pair);
        let problem = Problem { spans: Some(&spans), ..Problem::new(model, &graph, pair, METRIC) };
        let found = apart(&problem, &Method::Exact);
        let batch = alone(case, longest);
        let [clean, corrupt] = [&batch.clean, &batch.corrupt].map(|tokens| Activations::record(model, tokens, None));
        let change = clean.replaced_by(&corrupt, model, graph.dimensions);
        let change = change.view([graph.sources() as i64, longest.len() as i64, -1]); // [source, pos, d_model]
        let metric = |logits: &Tensor| per_pair(METRIC, logits, &batch, None).double_value(&[0]);
        for &edge in graph.edges().iter().step_by(11) {
            let slot = graph.slot(edge.destination);
            if slot == Slot::Logits {
                continue;
            }
            for (position, scores) in found.iter().enumerate() {
                let amount = change.get(edge.source.0 as i64).get(position as i64); // [d_model]
                let heads = model.spec.heads as i64;
                let mut shift = Shift { slot, heads, position: position as i64, amount };
                let logits = tch::no_grad(|| model.forward(Start::Tokens(&batch.clean), &Pass::LAST, &mut shift));
                let expected = metric(&clean.logits) - metric(&logits.squeeze_dim(1));
                let found = f64::from(scores.get(edge));
                let what = format!("{}, {}, {position}: {found}, {expected}", case.name, graph.name(edge));
                assert!((found - expected).abs() < 1e-6 * expected.abs().max(1.0), "{what}");
            }
        }
    });
}

#[test]
fn methods_say_whether_they_tell_positions_apart() {
    with_each_in(Dtype::F32, |case| {
        let graph = graph(case);
        let spans = Spans::each(&case.pairs);
        let problem = Problem::new(&case.loaded.model, &graph, &case.pairs, METRIC);
        let refused = score(&Problem { spans: Some(&spans), ..problem }, &Method::Ifr, &mut |_| ()).unwrap_err();
        let hint = refused.hint().unwrap();
        assert!(hint.contains("eap-ig") && !hint.contains("ifr"), "{hint}");
    });
}
