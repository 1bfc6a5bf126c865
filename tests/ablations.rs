//! Every ablation against its definition written out: constants from prompts one at a time, ablated runs by a tap that puts
//! them in place.

#![cfg(feature = "torch")]

mod fixtures;

use fixtures::{Case, Leaf, alone, with_each_in};
use penjing::ablation::Ablation;
use penjing::circuit::EdgeMask;
use penjing::dataset::TokenPair;
use penjing::error::Hint;
use penjing::eval::Bench;
use penjing::graph::{Dimensions, Edge, Graph, KvSlots, Level, Node, Source};
use penjing::measure::Constants;
use penjing::measure::batch::Batch;
use penjing::measure::metric::{divergence, per_pair};
use penjing::metric::MetricKind;
use penjing::model::site::Site;
use penjing::model::spec::{Head, Layer};
use penjing::model::tap::Tap;
use penjing::model::{Dtype, Model, Pass, Start};
use penjing::score::{Method, Problem, ScoreError, eap_ig, eap_ig_activations, score};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

const METRIC: MetricKind = MetricKind::LogitDifference;

const CONSTANT: [Ablation; 3] = [Ablation::Zero, Ablation::Mean, Ablation::MeanPositional];

fn problem<'a>(case: &'a Case, graph: &'a Graph, constants: &'a Constants) -> Problem<'a> {
    let problem = Problem::new(&case.loaded.model, graph, &case.pairs, METRIC);
    Problem { constants: Some(constants), ..problem }
}

fn constants(case: &Case, graph: &Graph, pairs: &[TokenPair], ablation: Ablation) -> Constants {
    Constants::of(ablation, Level::Edge, &case.loaded.model, graph.dimensions, pairs, usize::MAX).unwrap().unwrap()
}

/// Where sources write.
fn is_written(site: Site) -> bool {
    matches!(site, Site::TokenEmbedding | Site::Z(_) | Site::MlpOut(_))
}

/// Keeps what the sources write: `[1, pos, ..]`.
#[derive(Default)]
struct Seen(BTreeMap<Site, Tensor>);

impl Tap for Seen {
    fn wants(&self, site: Site) -> bool {
        is_written(site)
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        self.0.insert(site, value.shallow_clone());
        value
    }
}

/// Puts values in the place of what is written, `[1, pos, ..]`, of all heads of a layer or of one.
struct Put<'a> {
    values: &'a BTreeMap<Site, Tensor>,
    only: Option<Node>,
}

impl Tap for Put<'_> {
    fn wants(&self, site: Site) -> bool {
        is_written(site)
            && match (self.only, site) {
                (None, _) | (Some(Node::Input), Site::TokenEmbedding) => true,
                (Some(Node::Head(layer, _)), Site::Z(at)) | (Some(Node::Mlp(layer)), Site::MlpOut(at)) => layer == at,
                _ => false,
            }
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        match self.only {
            Some(Node::Head(_, Head(head))) => {
                let changed = value.copy();
                changed.select(2, head as i64).copy_(&self.values[&site].select(2, head as i64));
                changed
            }
            _ => self.values[&site].shallow_clone(),
        }
    }
}

fn run(model: &Model, batch: &Batch, tap: &mut impl Tap) -> Tensor {
    model.forward(Start::Tokens(&batch.clean), &Pass::LAST, tap).squeeze_dim(1) // [1, vocab]
}

fn metric(logits: &Tensor, batch: &Batch) -> f64 {
    per_pair(METRIC, logits, batch, None).double_value(&[0])
}

/// What every source writes on each of the prompts, one at a time.
fn written(case: &Case, pairs: &[TokenPair]) -> Vec<BTreeMap<Site, Tensor>> {
    let of_pair = |pair| {
        let mut seen = Seen::default();
        let _ = tch::no_grad(|| run(&case.loaded.model, &alone(case, pair), &mut seen));
        seen.0
    };
    pairs.iter().map(of_pair).collect()
}

/// What the ablated sources write at the first `length` positions, by the definition: `[1, pos, ..]`.
fn by_definition(ablation: Ablation, reference: &[BTreeMap<Site, Tensor>], length: i64) -> BTreeMap<Site, Tensor> {
    let of_site = |site: &Site| {
        let prompts: Vec<Tensor> = reference.iter().map(|prompt| prompt[site].squeeze_dim(0)).collect(); // [pos, ..]
        let mean = |vectors: Vec<Tensor>| {
            let count = vectors.len() as f64;
            vectors.into_iter().reduce(|a, b| a + b).unwrap() / count // [..]
        };
        let all = || prompts.iter().flat_map(|prompt| (0..prompt.size()[0]).map(|at| prompt.get(at))).collect();
        let at_position = |position: i64| match ablation {
            Ablation::Zero => prompts[0].get(0).zeros_like(),
            Ablation::Mean => mean(all()),
            _ => match prompts.iter().filter(|prompt| prompt.size()[0] > position).map(|p| p.get(position)).collect() {
                none if Vec::is_empty(&none) => mean(all()),
                some => mean(some),
            },
        };
        Tensor::stack(&(0..length).map(at_position).collect::<Vec<_>>(), 0).unsqueeze(0)
    };
    reference[0].keys().map(|site| (*site, of_site(site))).collect()
}

#[track_caller]
fn near(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() < 1e-8 * expected.abs().max(1.0), "{what}: {found} instead of {expected}");
}

/// The empty circuit is the model with everything ablated, and a circuit without the edges of one source is the model with
/// that source ablated, also on prompts that are longer than any of those the means come from.
#[test]
fn circuits_ablate_by_definition() {
    let beyond = std::cell::Cell::new(0);
    with_each_in(Dtype::F64, |case| {
        let _no_grad = tch::no_grad_guard();
        let model = &case.loaded.model;
        let graph = Graph::new(Dimensions::of(&model.spec, KvSlots::PerQueryHead));
        let longest = case.pairs.iter().map(TokenPair::len).max().unwrap();
        let shorter: Vec<TokenPair> = case.pairs.iter().filter(|pair| pair.len() < longest).cloned().collect();
        let reference = if shorter.is_empty() { case.pairs.clone() } else { shorter };
        beyond.set(beyond.get() + usize::from(reference.len() < case.pairs.len()));
        let seen = written(case, &reference);
        for ablation in CONSTANT {
            let constants = constants(case, &graph, &reference, ablation);
            let bench = Bench::new(&problem(case, &graph, &constants)).unwrap();
            let nothing = bench.circuit(&EdgeMask::empty(&graph));
            let all = bench.circuit(&EdgeMask::full(&graph));
            let sources: Vec<usize> = (0..graph.sources()).step_by(3).collect();
            let without: Vec<_> = sources
                .iter()
                .map(|&source| {
                    let kept = graph.edges().iter().copied().filter(|edge| edge.source != Source(source));
                    bench.circuit(&EdgeMask::of(&graph, kept)).metric
                })
                .collect();
            for (index, pair) in case.pairs.iter().enumerate() {
                let batch = alone(case, pair);
                let values = by_definition(ablation, &seen, pair.len() as i64);
                let with = |only| metric(&run(model, &batch, &mut Put { values: &values, only }), &batch);
                let what = format!("{}, {ablation}, pair {index}", case.name);
                near(bench.ablated().metric[index], with(None), &what);
                near(nothing.metric[index], with(None), &what);
                near(all.metric[index], bench.clean().metric[index], &what);
                for (&source, without) in sources.iter().zip(&without) {
                    let node = graph.node(Source(source));
                    near(without[index], with(Some(node)), &format!("{what}, {node}"));
                }
            }
        }
    });
    assert!(beyond.get() > 0, "no fixture has prompts of different length");
}

/// The derivative of the metric along `difference` `[1, pos, ..]` at what is written at a site, in a run with a tap.
fn slope(case: &Case, batch: &Batch, site: Site, difference: &Tensor, before: &mut impl Tap) -> f64 {
    let mut leaf = Leaf { site, leaf: Tensor::new(), before };
    let metric = per_pair(METRIC, &run(&case.loaded.model, batch, &mut leaf), batch, None).sum(Kind::Double);
    let gradient = Tensor::run_backward(&[metric], &[&leaf.leaf], false, false).remove(0);
    (gradient * difference).sum(Kind::Double).double_value(&[])
}

/// Lets a site carry a share of the way from its ablated to its clean value.
struct Between<'a> {
    site: Site,
    ablated: &'a Tensor,
    clean: &'a Tensor,
    share: f64,
}

impl Tap for Between<'_> {
    fn wants(&self, site: Site) -> bool {
        site == self.site
    }

    fn at(&mut self, _: Site, _: Tensor) -> Tensor {
        self.ablated + (self.clean - self.ablated) * self.share
    }
}

/// The scores of the edges that leave a layer's heads, an MLP or the input add up to the derivative along the difference of
/// what they write, clean less ablated, at the points where the method takes gradients.
#[test]
fn gradient_methods_ablate_by_definition() {
    with_each_in(Dtype::F64, |case| {
        let graph = Graph::new(Dimensions::of(&case.loaded.model.spec, KvSlots::PerQueryHead));
        let pair = &case.pairs[..1];
        let batch = alone(case, &pair[0]);
        let clean = written(case, pair).remove(0);
        let reference = written(case, &case.pairs);
        for ablation in CONSTANT {
            let constants = constants(case, &graph, &case.pairs, ablation);
            let ablated = by_definition(ablation, &reference, pair[0].len() as i64);
            let difference = |site: &Site| &clean[site] - &ablated[site];
            let between = |site: Site, share| Between { site, ablated: &ablated[&site], clean: &clean[&site], share };
            let embedding = Site::TokenEmbedding;
            let (steps, endpoints) = (2, eap_ig::Endpoints::Clean);
            for method in [
                Method::Eap,
                Method::EapIg(eap_ig::Options { steps, endpoints }),
                Method::EapIgActivations(eap_ig_activations::Options { steps }),
            ] {
                let problem = Problem { pairs: pair, ..problem(case, &graph, &constants) };
                let scores = score(&problem, &method, &mut |_| ()).unwrap();
                for (index, site) in clean.keys().enumerate() {
                    // All sites of two layers are enough.
                    if index % 2 == 1 && clean.len() > 5 {
                        continue;
                    }
                    let points: Vec<(Site, f64)> = match method {
                        Method::Eap => vec![(embedding, 1.0)],
                        Method::EapIg(_) => vec![(embedding, 0.5), (embedding, 1.0)],
                        _ => clean.keys().flat_map(|&group| [(group, 0.5), (group, 1.0)]).collect(),
                    };
                    let slopes = points.iter().map(|&(group, share)| {
                        slope(case, &batch, *site, &difference(site), &mut between(group, share))
                    });
                    let expected = slopes.sum::<f64>() / points.len() as f64;
                    let writes = |edge: &&Edge| match (graph.node(edge.source), *site) {
                        (Node::Input, Site::TokenEmbedding) => true,
                        (Node::Head(layer, _), Site::Z(at)) | (Node::Mlp(layer), Site::MlpOut(at)) => layer == at,
                        _ => false,
                    };
                    let found: f64 = graph.edges().iter().filter(writes).map(|&edge| f64::from(scores.get(edge))).sum();
                    let what = format!("{}, {ablation}, {}, {site:?}: {found}, {expected}", case.name, method.name());
                    assert!((found - expected).abs() < 1e-5 * expected.abs().max(0.1), "{what}");
                }
            }
        }
    });
}

#[test]
fn exact_scores_ablate_as_circuits_do() {
    with_each_in(Dtype::F64, |case| {
        let graph = Graph::new(Dimensions::of(&case.loaded.model.spec, KvSlots::PerQueryHead));
        for ablation in [Ablation::Zero, Ablation::MeanPositional] {
            let constants = constants(case, &graph, &case.pairs, ablation);
            let problem = problem(case, &graph, &constants);
            let scores = score(&problem, &Method::Exact, &mut |_| ()).unwrap();
            let bench = Bench::new(&problem).unwrap();
            for &edge in graph.edges().iter().step_by(17) {
                let mut without = EdgeMask::full(&graph);
                without.remove(edge);
                let cost = bench.clean().mean_metric() - bench.circuit(&without).mean_metric();
                let found = f64::from(scores.get(edge));
                let what = format!("{}, {ablation}, {}: {found}, {cost}", case.name, graph.name(edge));
                assert!((found - cost).abs() < 1e-6 * cost.abs().max(1.0), "{what}");
            }
        }
    });
}

/// The loss that optimal constants make small, for one source that writes `constant`: its mean over pairs.
fn loss_of(case: &Case, node: Node, constant: &Tensor) -> Tensor {
    let model = &case.loaded.model;
    let losses: Vec<Tensor> = case
        .pairs
        .iter()
        .map(|pair| {
            let batch = alone(case, pair);
            let clean = tch::no_grad(|| run(model, &batch, &mut Seen::default())).log_softmax(-1, None::<Kind>);
            let logits = run(model, &batch, &mut Constant { node, constant });
            divergence(&clean, &logits.log_softmax(-1, None::<Kind>)).sum(None::<Kind>)
        })
        .collect();
    Tensor::stack(&losses, 0).mean(None::<Kind>) // []
}

/// Lets one source write `constant` `[size]` everywhere.
struct Constant<'a> {
    node: Node,
    constant: &'a Tensor,
}

impl Tap for Constant<'_> {
    fn wants(&self, site: Site) -> bool {
        Put { values: &BTreeMap::new(), only: Some(self.node) }.wants(site)
    }

    fn at(&mut self, _: Site, value: Tensor) -> Tensor {
        match self.node {
            Node::Head(_, Head(head)) => {
                let mut heads = value.unbind(2);
                heads[head] = self.constant.expand_as(&heads[head]);
                Tensor::stack(&heads, 2)
            }
            _ => self.constant.expand_as(&value),
        }
    }
}

/// What a source writes in [`Constants`] of a single row: `[size]`.
fn of_source(constants: &Constants, node: Node) -> Tensor {
    match node {
        Node::Head(Layer(layer), Head(head)) => constants.z[layer].get(0).get(head as i64),
        Node::Mlp(Layer(layer)) => constants.mlp[layer].get(0),
        _ => constants.embedding.get(0),
    }
}

/// Against a descent of each source by itself, with steps that lower the loss.
#[test]
fn optimal_constants_hurt_least() {
    tch::set_num_threads(1);
    with_each_in(Dtype::F64, |case| {
        if !["gpt2", "gemma2", "qwen3"].contains(&case.name.as_str()) {
            return;
        }
        let graph = Graph::new(Dimensions::of(&case.loaded.model.spec, KvSlots::PerQueryHead));
        let [mean, optimal] =
            [Ablation::Mean, Ablation::Optimal].map(|ablation| constants(case, &graph, &case.pairs, ablation));
        let mut gains = Vec::new();
        for source in (0..graph.sources()).step_by(3) {
            let node = graph.node(Source(source));
            let start = of_source(&mean, node);
            let loss = |constant: &Tensor| tch::no_grad(|| loss_of(case, node, constant)).double_value(&[]);
            let [of_mean, found] = [&start, &of_source(&optimal, node)].map(loss);
            let (mut at, mut least, mut rate) = (start, of_mean, 1.0);
            for _ in 0..150 {
                if rate < 1e-6 {
                    break;
                }
                let leaf = at.detach().set_requires_grad(true);
                let gradient = Tensor::run_backward(&[loss_of(case, node, &leaf)], &[&leaf], false, false).remove(0);
                let size = gradient.norm().double_value(&[]).max(1e-300);
                let next = &at - gradient * (rate / size);
                match loss(&next) {
                    lower if lower < least => (at, least, rate) = (next, lower, rate * 1.5),
                    _ => rate /= 3.0,
                }
            }
            let what = format!("{}, {node}: mean {of_mean}, found {found}, least {least}", case.name);
            assert!(found <= of_mean, "{what}");
            // The input's loss has more than one valley, and either descent may end in the better one.
            let share = if node == Node::Input { 0.15 } else { 0.01 };
            assert!(found - least <= share * (of_mean - least), "{what}");
            gains.push(least / of_mean);
        }
        assert!(gains.iter().any(|&gain| gain < 0.9), "{}: the mean is as good: {gains:?}", case.name);
    });
}

#[test]
fn methods_say_which_ablations_they_know() {
    with_each_in(Dtype::F32, |case| {
        let graph = Graph::new(Dimensions::of(&case.loaded.model.spec, KvSlots::PerQueryHead));
        let constants = constants(case, &graph, &case.pairs, Ablation::Zero);
        let refused = score(&problem(case, &graph, &constants), &Method::CleanCorrupted, &mut |_| ()).unwrap_err();
        assert!(matches!(refused, ScoreError::Ablation { .. }), "{refused}");
        let hint = refused.hint().unwrap();
        assert!(hint.contains("eap-ig") && !hint.contains("clean-corrupted"), "{hint}");
    });
}

/// Constants do not depend on how pairs meet in batches.
#[test]
fn means_are_over_real_tokens() {
    with_each_in(Dtype::F64, |case| {
        let graph = Graph::new(Dimensions::of(&case.loaded.model.spec, KvSlots::PerQueryHead));
        let seen = written(case, &case.pairs);
        let longest = case.pairs.iter().map(TokenPair::len).max().unwrap() as i64;
        for ablation in CONSTANT {
            let found = constants(case, &graph, &case.pairs, ablation);
            for (site, expected) in by_definition(ablation, &seen, longest) {
                let found = match site {
                    Site::Z(layer) => &found.z[layer.0],
                    Site::MlpOut(layer) => &found.mlp[layer.0],
                    _ => &found.embedding,
                };
                let rows = if found.size()[0] == 1 { found.shallow_clone() } else { found.narrow(0, 0, longest) };
                let worst = (rows.unsqueeze(0) - expected).abs().max().double_value(&[]);
                assert!(worst < 1e-12, "{}, {ablation}, {site:?}: {worst}", case.name);
            }
        }
    });
}
