//! Scores of nodes and neurons on every family: against finite differences, against runs in which one unit is replaced, against
//! the scores of the edges that leave a node, and AtP* against its definition written out.

#![cfg(feature = "torch")]

mod fixtures;

use fixtures::{Case, with_each_in};
use penjing::ablation::Ablation;
use penjing::circuit::EdgeMask;
use penjing::dataset::TokenPair;
use penjing::eval::Bench;
use penjing::graph::scores::Scores;
use penjing::graph::{Dimensions, Edge, Graph, KvSlots, Level, Node, Slot, Unit, Units};
use penjing::measure::Constants;
use penjing::measure::batch::{Batch, Prefix, batches};
use penjing::measure::metric::per_pair;
use penjing::metric::MetricKind;
use penjing::model::site::Site;
use penjing::model::spec::{Activation, Branch, Layer};
use penjing::model::tap::{NoTap, Tap};
use penjing::model::{Dtype, LoadOptions, Loaded, Model, Pass, Start, load_with};
use penjing::parity;
use penjing::score::{Method, Problem, State, Watch, advance, atp_star, eap_ig, eap_ig_activations, relp, score};
use penjing::spans::Spans;
use serde_json::Value;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use tch::{Kind, Tensor};

const METRIC: MetricKind = MetricKind::LogitDifference;

fn graph(case: &Case, kv: KvSlots) -> Graph {
    Graph::new(Dimensions::of(&case.loaded.model.spec, kv))
}

fn bench<'a>(case: &'a Case, graph: &'a Graph, pairs: &'a [TokenPair]) -> Bench<'a> {
    Bench::new(&Problem::new(&case.loaded.model, graph, pairs, METRIC)).unwrap()
}

fn scores(case: &Case, graph: &Graph, pairs: &[TokenPair], method: &Method) -> Scores {
    at_level(case, graph, Level::Edge, pairs, method)
}

fn at_level(case: &Case, graph: &Graph, level: Level, pairs: &[TokenPair], method: &Method) -> Scores {
    let problem = Problem { level, ..Problem::new(&case.loaded.model, graph, pairs, METRIC) };
    score(&problem, method, &mut |_| ()).unwrap_or_else(|error| panic!("{}: {error}", case.folder.display()))
}

fn units(case: &Case, graph: &Graph, level: Level) -> Units {
    Units::new(level, graph.dimensions, case.loaded.model.spec.d_mlp)
}

/// All of them with their rows.
fn all(units: Units) -> impl Iterator<Item = (usize, Unit)> {
    (0..units.len()).map(move |row| (row, units.get(row)))
}

fn layer_of(unit: Unit) -> Option<Layer> {
    match unit {
        Unit::Node(Node::Head(layer, _) | Node::Mlp(layer)) | Unit::Neuron(layer, _) => Some(layer),
        Unit::Node(_) => None,
        Unit::Projection(slot) => slot.layer(),
    }
}

/// With every neuron the tests would take minutes and say no more.
fn some_units(units: Units) -> impl Iterator<Item = (usize, Unit)> {
    all(units).filter(|(_, unit)| !matches!(unit, Unit::Neuron(_, neuron) if neuron % 9 != 4))
}

/// Where a unit is, and which part along the site's third axis.
fn place(model: &Model, unit: Unit) -> (Site, Option<usize>) {
    match unit {
        Unit::Node(Node::Head(layer, head)) => (Site::Z(layer), Some(head.0)),
        Unit::Node(Node::Mlp(layer)) => (Site::MlpOut(layer), None),
        Unit::Node(_) => (Site::TokenEmbedding, None),
        Unit::Neuron(layer, neuron) => (Site::MlpPost(layer), Some(neuron)),
        Unit::Projection(Slot::Head(layer, head, branch)) if branch != Branch::Query && model.spec.group() > 1 => {
            (Site::PerQueryHead(layer, branch), Some(head.0))
        }
        Unit::Projection(slot) => {
            (Site::Projection(slot.layer().unwrap(), slot.branch().unwrap()), slot.head().map(|head| head.0))
        }
    }
}

/// Keeps what a site holds, without gradients or, to ask for them, with.
#[derive(Default)]
struct See {
    sites: Vec<Site>,
    seen: HashMap<Site, Tensor>,
}

impl Tap for See {
    fn wants(&self, site: Site) -> bool {
        self.sites.contains(&site)
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        self.seen.insert(site, value.shallow_clone());
        value
    }
}

fn see(model: &Model, tokens: &Tensor, sites: Vec<Site>) -> HashMap<Site, Tensor> {
    let mut see = See { sites, ..See::default() };
    let _ = tch::no_grad(|| model.forward(Start::Tokens(tokens), &Pass::LAST, &mut see));
    see.seen
}

/// Moves one unit by `share` of the way to what it is in another run.
struct Move<'a> {
    site: Site,
    part: Option<usize>,
    share: f64,
    to: &'a Tensor, // as the site
}

impl Tap for Move<'_> {
    fn wants(&self, site: Site) -> bool {
        site == self.site
    }

    fn at(&mut self, _: Site, value: Tensor) -> Tensor {
        let moved = &value + (self.to - &value) * self.share;
        match self.part {
            None => moved,
            Some(part) => {
                let all = value.copy();
                all.select(2, part as i64).copy_(&moved.select(2, part as i64));
                all
            }
        }
    }
}

/// The metric of every pair on the clean prompts with a tap, `[batch]`, whole prompts.
fn metric_with(model: &Model, batch: &Batch, tap: &mut impl Tap) -> Tensor {
    let logits = tch::no_grad(|| model.forward(Start::Tokens(&batch.clean), &Pass::LAST, tap)).squeeze_dim(1); // [batch, vocab]
    per_pair(METRIC, &logits, batch, None)
}

/// The metric with each of some units moved by a share of the way to the corrupt run, each pair by itself: `[unit][pair]`.
fn moved(case: &Case, units: &[Unit], share: f64) -> Vec<Vec<f64>> {
    let model = &case.loaded.model;
    let mut all = vec![Vec::new(); units.len()];
    for pair in &case.pairs {
        let batch = batches(model, std::slice::from_ref(pair), 1, Prefix::Recomputed).remove(0);
        let sites = units.iter().map(|&unit| place(model, unit).0).collect();
        let corrupt = see(model, &batch.corrupt, sites);
        for (index, &unit) in units.iter().enumerate() {
            let (site, part) = place(model, unit);
            let metric = metric_with(model, &batch, &mut Move { site, part, share, to: &corrupt[&site] });
            all[index].push(metric.double_value(&[0]));
        }
    }
    all
}

fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

fn largest(scores: &Scores) -> f64 {
    scores.values.iter().fold(0.0, |largest, &score| f64::max(largest, f64::from(score.abs())))
}

const ABOVE_EDGES: [Level; 2] = [Level::Node, Level::Neuron];

/// The score of a unit is the slope of the metric on the way to its corrupt activation.
#[test]
fn attribution_patching_agrees_with_finite_differences() {
    const STEP: f64 = 1e-4;
    with_each_in(Dtype::F64, |case| {
        for kv in [KvSlots::PerQueryHead, KvSlots::Native] {
            let graph = graph(case, kv);
            for level in ABOVE_EDGES {
                let found = at_level(case, &graph, level, &case.pairs, &Method::AttributionPatching);
                let (rows, some): (Vec<usize>, Vec<Unit>) = some_units(units(case, &graph, level)).unzip();
                let [before, after] = [-STEP, STEP].map(|share| moved(case, &some, share));
                for (index, row) in rows.into_iter().enumerate() {
                    let measured = (mean(&before[index]) - mean(&after[index])) / (2.0 * STEP);
                    let slope = f64::from(found.values[[row, 0]]);
                    assert!(
                        (measured - slope).abs() < 1e-6 * largest(&found).max(1.0),
                        "{}, {kv:?}, {}: {slope}, measured {measured}",
                        case.name,
                        some[index]
                    );
                }
            }
        }
    });
}

#[test]
fn activation_patching_is_a_run_with_the_unit_replaced() {
    with_each_in(Dtype::F64, |case| {
        let model = &case.loaded.model;
        let whole: Vec<f64> = case
            .pairs
            .iter()
            .map(|pair| batches(model, std::slice::from_ref(pair), 1, Prefix::Recomputed).remove(0))
            .map(|batch| metric_with(model, &batch, &mut NoTap).double_value(&[0]))
            .collect();
        for kv in [KvSlots::PerQueryHead, KvSlots::Native] {
            let graph = graph(case, kv);
            for level in ABOVE_EDGES {
                let found = at_level(case, &graph, level, &case.pairs, &Method::ActivationPatching);
                let (rows, some): (Vec<usize>, Vec<Unit>) = some_units(units(case, &graph, level)).unzip();
                for ((row, unit), patched) in rows.into_iter().zip(&some).zip(moved(case, &some, 1.0)) {
                    let (effect, found) = (mean(&whole) - mean(&patched), f64::from(found.values[[row, 0]]));
                    assert!((effect - found).abs() < 1e-6, "{}, {kv:?}, {unit}: {found}, {effect}", case.name);
                }
            }
        }
    });
}

/// Replacing what a node writes is replacing it in everything that reads it.
#[test]
fn activation_patching_of_a_node_is_the_circuit_without_the_edges_that_leave_it() {
    with_each_in(Dtype::F64, |case| {
        let graph = graph(case, KvSlots::PerQueryHead);
        let found = at_level(case, &graph, Level::Node, &case.pairs, &Method::ActivationPatching);
        let bench = bench(case, &graph, &case.pairs);
        let whole = bench.clean().mean_metric();
        for node in graph.nodes().filter(|node| *node != Node::Logits) {
            let source = graph.source(node).unwrap();
            let kept = graph.edges().iter().copied().filter(|edge: &Edge| edge.source != source);
            let effect = whole - bench.circuit(&EdgeMask::of(&graph, kept)).mean_metric();
            let found = f64::from(found.values[[source.0, 0]]);
            assert!((effect - found).abs() < 1e-6, "{}, {node}: {found}, {effect}", case.name);
        }
    });
}

/// What reads a node reads the whole of it, so its gradient is the sum of theirs.
#[test]
fn a_node_scores_the_sum_of_the_edges_that_leave_it() {
    let relp = Method::Relp(relp::Options::default());
    let activations = Method::EapIgActivations(eap_ig_activations::Options { steps: 2 });
    with_each_in(Dtype::F64, |case| {
        for kv in [KvSlots::PerQueryHead, KvSlots::Native] {
            let graph = graph(case, kv);
            for (of_edges, of_nodes) in [
                (&Method::Eap, &Method::AttributionPatching),
                (&Method::EapIg(eap_ig::Options::default()), &Method::EapIg(eap_ig::Options::default())),
                (&Method::CleanCorrupted, &Method::CleanCorrupted),
                (&relp, &relp),
                (&activations, &activations),
            ] {
                let edges = scores(case, &graph, &case.pairs, of_edges);
                let nodes = at_level(case, &graph, Level::Node, &case.pairs, of_nodes);
                for (source, edges) in edges.values.rows().into_iter().enumerate() {
                    let sum: f64 = edges.iter().map(|&score| f64::from(score)).sum();
                    let size: f64 = edges.iter().map(|&score| f64::from(score).abs()).sum();
                    let found = f64::from(nodes.values[[source, 0]]);
                    let name = of_nodes.name();
                    assert!(
                        (found - sum).abs() < 1e-6 * size.max(1.0),
                        "{}, {name}, {source}: {found}, {sum}",
                        case.name
                    );
                }
                // Heads and the input have the same scores beside neurons, in other rows.
                let neurons = at_level(case, &graph, Level::Neuron, &case.pairs, of_nodes);
                if of_nodes == &activations {
                    continue; // where an MLP's neurons are constants, its norm is not
                }
                let (by_node, by_neuron) = (units(case, &graph, Level::Node), units(case, &graph, Level::Neuron));
                for node in graph.nodes().filter(|node| matches!(node, Node::Input | Node::Head(..))) {
                    let [one, other] = [(by_node, &nodes), (by_neuron, &neurons)]
                        .map(|(units, scores)| scores.values[[units.row(Unit::Node(node)).unwrap(), 0]]);
                    assert!((one - other).abs() < 1e-6, "{}, {}, {node}: {one}, {other}", case.name, of_nodes.name());
                }
            }
        }
    });
}

/// A linear output matrix makes an MLP the sum of its neurons, to first order also where a norm follows.
#[test]
fn an_mlp_scores_the_sum_of_its_neurons() {
    with_each_in(Dtype::F64, |case| {
        let graph = graph(case, KvSlots::PerQueryHead);
        let (by_node, by_neuron) = (units(case, &graph, Level::Node), units(case, &graph, Level::Neuron));
        if case.loaded.model.spec.placement.after() {
            return; // the norm of the sum is not the sum of norms
        }
        let [nodes, neurons] = ABOVE_EDGES
            .map(|level| at_level(case, &graph, level, &case.pairs, &Method::EapIg(eap_ig::Options::default())));
        for node in graph.nodes().filter(|node| matches!(node, Node::Mlp(_))) {
            let unit = Unit::Node(node);
            let of = all(by_neuron)
                .filter(|(_, neuron)| matches!(neuron, Unit::Neuron(..)) && layer_of(*neuron) == layer_of(unit));
            let sum: f64 = of.map(|(row, _)| f64::from(neurons.values[[row, 0]])).sum();
            let found = f64::from(nodes.values[[by_node.row(unit).unwrap(), 0]]);
            assert!((sum - found).abs() < 1e-5 * largest(&nodes).max(1.0), "{}, {node}: {found}, {sum}", case.name);
        }
    });
}

/// The input is all in which clean and corrupt runs differ.
#[test]
fn the_input_s_integrated_gradient_is_the_whole_difference() {
    with_each_in(Dtype::F64, |case| {
        let graph = graph(case, KvSlots::PerQueryHead);
        let pair = &case.pairs[..1];
        let bench = bench(case, &graph, pair);
        let difference = bench.clean().mean_metric() - bench.ablated().mean_metric();
        // The mean of the sums that begin at either end is the trapezoid rule.
        let off = |steps| {
            let [one, other] = [eap_ig::Endpoints::Corrupt, eap_ig::Endpoints::Clean].map(|endpoints| {
                let method = Method::EapIg(eap_ig::Options { steps, endpoints });
                f64::from(at_level(case, &graph, Level::Node, pair, &method).values[[0, 0]])
            });
            ((one + other) / 2.0 - difference).abs()
        };
        let (coarse, fine) = (off(16), off(128));
        // Its error falls with the square of the step, but where a ReLU is cut off on the way with the step, in leaps.
        let kinks = case.loaded.model.spec.mlp.is_some_and(|mlp| mlp.activation == Activation::Relu);
        let small = if kinks { fine < 1e-3 } else { fine < 1e-5 || fine < coarse / 16.0 };
        assert!(small, "{}: {fine} after {coarse}", case.name);
    });
}

#[test]
fn stretches_and_the_shared_prefix_change_nothing() {
    let steps = eap_ig::Options { steps: 2, ..eap_ig::Options::default() };
    with_each_in(Dtype::F64, |case| {
        let graph = graph(case, KvSlots::PerQueryHead);
        let model = &case.loaded.model;
        for method in [
            Method::AttributionPatching,
            Method::EapIg(steps.clone()),
            Method::EapIgActivations(eap_ig_activations::Options { steps: 1 }),
            Method::CleanCorrupted,
            Method::AtpStar(atp_star::Options::default()),
            Method::ActivationPatching,
        ] {
            for &level in method.levels().iter().filter(|level| **level != Level::Edge) {
                let whole = at_level(case, &graph, level, &case.pairs, &method);
                let problem = Problem {
                    level,
                    prefix: Prefix::Recomputed,
                    batch_size: Some(2),
                    stretch: Some(1),
                    ..Problem::new(model, &graph, &case.pairs, METRIC)
                };
                let divided = score(&problem, &method, &mut |_| ()).unwrap();
                let worst = (&whole.values - &divided.values).iter().fold(0f32, |worst, off| worst.max(off.abs()));
                assert!(worst < 1e-6, "{}, {}, {level}: {worst}", case.name, method.name());
            }
        }
    });
}

/// Positions kept apart add up to all of them, where effects are linear in the difference.
#[test]
fn the_scores_of_positions_add_up() {
    let quick = [eap_ig::Options { steps: 2, ..eap_ig::Options::default() }];
    let quick = quick.map(Method::EapIg).into_iter();
    with_each_in(Dtype::F64, |case| {
        let graph = graph(case, KvSlots::PerQueryHead);
        let spans = Spans::each(&case.pairs);
        for method in quick.clone().chain([Method::AttributionPatching]) {
            for level in ABOVE_EDGES {
                let whole = at_level(case, &graph, level, &case.pairs, &method);
                let problem = Problem::new(&case.loaded.model, &graph, &case.pairs, METRIC);
                let problem = Problem { level, spans: Some(&spans), ..problem };
                let mut state = State::start(&problem, &method).unwrap();
                advance(&problem, &method, &mut state, &mut ToTheEnd).unwrap();
                let parts = state.scores_of_spans(&problem.table());
                assert_eq!(parts.len(), spans.names.len(), "{}", case.name);
                let summed = parts.iter().fold(whole.values.mapv(|_| 0.0), |sum, part| sum + &part.values);
                for sums in [&summed, &state.scores(&problem).unwrap().values] {
                    let worst = (&whole.values - sums).iter().fold(0f32, |worst, off| worst.max(off.abs()));
                    assert!(worst < 1e-5, "{}, {}, {level}: {worst}", case.name, method.name());
                }
            }
        }
    });
}

/// Under another ablation a unit is replaced by the constant.
#[test]
fn units_can_be_replaced_by_nothing() {
    with_each_in(Dtype::F64, |case| {
        let (model, pair) = (&case.loaded.model, &case.pairs[..1]);
        let graph = graph(case, KvSlots::Native);
        let batch = batches(model, pair, 1, Prefix::Recomputed).remove(0);
        let whole = metric_with(model, &batch, &mut NoTap).double_value(&[0]);
        for level in ABOVE_EDGES {
            let dimensions = graph.dimensions;
            let zero = Constants::of(Ablation::Zero, level, model, dimensions, pair, usize::MAX).unwrap();
            let problem = Problem { level, constants: zero.as_ref(), ..Problem::new(model, &graph, pair, METRIC) };
            let found = score(&problem, &Method::ActivationPatching, &mut |_| ()).unwrap();
            for (row, unit) in some_units(units(case, &graph, level)) {
                let (site, part) = place(model, unit);
                let nothing = see(model, &batch.clean, vec![site])[&site].zeros_like();
                let mut replace = Move { site, part, share: 1.0, to: &nothing };
                let effect = whole - metric_with(model, &batch, &mut replace).double_value(&[0]);
                let found = f64::from(found.values[[row, 0]]);
                assert!(
                    (effect - found).abs() < 1e-6 * effect.abs().max(1.0),
                    "{}, {unit}: {found}, {effect}",
                    case.name
                );
            }
        }
    });
}

/// Keeps what sites hold and lets no gradient through what one layer adds.
struct Detach {
    see: See,
    layer: Option<Layer>,
}

impl Tap for Detach {
    fn wants(&self, site: Site) -> bool {
        self.see.wants(site) || self.drops(site)
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        let value = if site == Site::TokenEmbedding { value.detach().set_requires_grad(true) } else { value };
        let value = if self.see.wants(site) { self.see.at(site, value) } else { value };
        if self.drops(site) { value.detach() } else { value }
    }
}

impl Detach {
    fn drops(&self, site: Site) -> bool {
        self.layer.is_some_and(|layer| site == Site::AttentionOut(layer) || site == Site::MlpOut(layer))
    }
}

/// The gradient of a pair's metric at sites, nothing passing through what `layer` adds.
fn gradients_without(model: &Model, batch: &Batch, layer: Option<Layer>, sites: &[Site]) -> HashMap<Site, Tensor> {
    let see = See { sites: sites.to_vec(), ..See::default() };
    let mut tap = Detach { see, layer };
    let logits = model.forward(Start::Tokens(&batch.clean), &Pass::LAST, &mut tap).squeeze_dim(1); // [1, vocab]
    let metric = per_pair(METRIC, &logits, batch, None).sum(Kind::Double); // []
    let handles: Vec<&Tensor> = sites.iter().map(|site| &tap.see.seen[site]).collect();
    let found = Tensor::run_backward(&[metric], &handles, false, false);
    let found = found.into_iter().zip(&handles).map(|(found, handle)| match found.defined() {
        true => found,
        false => handle.zeros_like(),
    });
    sites.iter().copied().zip(found).collect()
}

/// The definition, written out: passes that each detach a layer, and patterns read off runs in which queries or keys alone
/// are replaced.
#[test]
fn atp_star_is_its_definition() {
    with_each_in(Dtype::F64, |case| {
        let model = &case.loaded.model;
        for (level, kv, qk_fix, grad_drop) in [
            (Level::Node, KvSlots::PerQueryHead, false, true),
            (Level::Node, KvSlots::PerQueryHead, true, false),
            (Level::Node, KvSlots::Native, true, true),
            (Level::Neuron, KvSlots::Native, true, true),
        ] {
            let graph = graph(case, kv);
            let method = Method::AtpStar(atp_star::Options { qk_fix, grad_drop });
            let found = at_level(case, &graph, level, &case.pairs, &method);
            let units: Vec<Unit> = all(units(case, &graph, level)).map(|(_, unit)| unit).collect();
            let layers = model.spec.layers;
            let dropped: Vec<Option<Layer>> =
                if grad_drop { (0..layers).map(|layer| Some(Layer(layer))).collect() } else { vec![None] };
            let divisor = if grad_drop { (layers - 1).max(1) } else { 1 } as f64 * case.pairs.len() as f64;
            let mut expected = vec![0.0; units.len()];
            for pair in &case.pairs {
                let batch = batches(model, std::slice::from_ref(pair), 1, Prefix::Recomputed).remove(0);
                let mut sites: Vec<Site> = units.iter().map(|&unit| place(model, unit).0).collect();
                sites.extend((0..layers).map(|layer| Site::Pattern(Layer(layer))));
                sites.sort();
                sites.dedup();
                let [clean, corrupt] = [&batch.clean, &batch.corrupt].map(|tokens| see(model, tokens, sites.clone()));
                let passes: Vec<_> =
                    dropped.iter().map(|&layer| gradients_without(model, &batch, layer, &sites)).collect();
                for (index, &unit) in units.iter().enumerate() {
                    let (site, part) = place(model, unit);
                    let fixed = match site {
                        Site::Projection(layer, branch) | Site::PerQueryHead(layer, branch)
                            if qk_fix && branch != Branch::Value =>
                        {
                            Some(Site::Pattern(layer))
                        }
                        _ => None,
                    };
                    let (at, change) = match fixed {
                        None => {
                            let change = &clean[&site] - &corrupt[&site];
                            let change = match part {
                                None => change,
                                Some(part) => {
                                    let alone = change.zeros_like();
                                    alone.select(2, part as i64).copy_(&change.select(2, part as i64));
                                    alone
                                }
                            };
                            (site, change)
                        }
                        Some(pattern) => {
                            let see = See { sites: vec![pattern], ..See::default() };
                            let replace = Move { site, part, share: 1.0, to: &corrupt[&site] };
                            let mut tap = (replace, see);
                            let _ = metric_with(model, &batch, &mut tap);
                            (pattern, &clean[&pattern] - &tap.1.seen[&pattern])
                        }
                    };
                    for pass in &passes {
                        let effect = (&change * &pass[&at]).sum(Kind::Double).double_value(&[]) / divisor;
                        expected[index] += if grad_drop { effect.abs() } else { effect };
                    }
                }
            }
            for (index, unit) in units.iter().enumerate() {
                let (found, expected) = (f64::from(found.values[[index, 0]]), expected[index]);
                assert!(
                    (found - expected).abs() < 1e-6 * expected.abs().max(1.0),
                    "{}, {level}, {kv:?}, qk_fix {qk_fix}, grad_drop {grad_drop}, {unit}: {found}, {expected}",
                    case.name
                );
            }
        }
    });
}

/// Looks at a run only.
struct ToTheEnd;

impl Watch for ToTheEnd {
    fn safe_point(&mut self, _: &State) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn smaller_batch(&mut self, _: usize) {}
}

/// The mean over pairs of each node's |score|.
fn magnitudes(model: &Model, graph: &Graph, pairs: &[TokenPair], method: &Method) -> Vec<f64> {
    let problem = Problem { level: Level::Node, per_pair: true, ..Problem::new(model, graph, pairs, METRIC) };
    let mut state = State::start(&problem, method).unwrap();
    advance(&problem, method, &mut state, &mut ToTheEnd).unwrap();
    let per_pair = state.per_pair.unwrap().mapv(|score| f64::from(score.abs())); // [pair, unit]
    per_pair.columns().into_iter().map(|unit| unit.sum() / unit.len() as f64).collect()
}

/// A copy of the reference GPT-2 with some weights changed, in f64.
fn changed(folder: &Path, config: &[(&str, Value)], change: impl Fn(&str, &mut Tensor)) -> (Loaded, Vec<TokenPair>) {
    tch::set_num_threads(1);
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/reference/gpt2");
    let mut tensors = Tensor::read_safetensors(original.join("model.safetensors")).unwrap();
    for (name, tensor) in &mut tensors {
        change(name, tensor);
    }
    Tensor::write_safetensors(&tensors, folder.join("model.safetensors")).unwrap();
    let mut text: Value = serde_json::from_slice(&std::fs::read(original.join("config.json")).unwrap()).unwrap();
    for (key, value) in config {
        text[*key] = value.clone();
    }
    std::fs::write(folder.join("config.json"), text.to_string()).unwrap();
    std::fs::copy(original.join("tokenizer.json"), folder.join("tokenizer.json")).unwrap();
    let options = LoadOptions { dtype: Dtype::F64, ..LoadOptions::default() };
    let loaded = load_with(folder.to_str().unwrap(), &options).unwrap();
    let pairs = parity::pairs(&original, &loaded).unwrap().pairs;
    (loaded, pairs)
}

/// Queries and keys side by side in GPT-2's weights, of which the last axis is cut in three.
fn queries_and_keys(tensor: &Tensor) -> Tensor {
    let axis = tensor.dim() as i64 - 1;
    tensor.narrow(axis, 0, tensor.size()[axis as usize] / 3 * 2)
}

fn rows_of_queries_and_keys(units: Units) -> Vec<usize> {
    let read = |unit: &Unit| matches!(unit, Unit::Projection(slot) if slot.branch() != Some(Branch::Value));
    all(units).filter(|(_, unit)| read(unit)).map(|(row, _)| row).collect()
}

/// The mean |guess − exact| and the correlation of the two, of queries and keys.
fn quality(guess: &[f64], exact: &[f64], rows: &[usize]) -> (f64, f64) {
    let of = |all: &[f64]| rows.iter().map(|&row| all[row]).collect::<Vec<f64>>();
    let (guess, exact) = (of(guess), of(exact));
    let error = mean(&guess.iter().zip(&exact).map(|(a, b)| (a - b).abs()).collect::<Vec<f64>>());
    let product = |a: &[f64], b: &[f64]| {
        mean(&a.iter().zip(b).map(|(one, other)| (one - mean(a)) * (other - mean(b))).collect::<Vec<f64>>())
    };
    (error, product(&guess, &exact) / (product(&guess, &guess) * product(&exact, &exact)).sqrt())
}

/// Where attention looks at one position alone its gradient is nearly none, and what another query or key would do is not
/// to be seen from there.
#[test]
fn where_attention_is_saturated_atp_star_sees_what_attribution_patching_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let (loaded, pairs) = changed(folder.path(), &[], |name, tensor| {
        if name.contains("attn.c_attn") {
            let _ = queries_and_keys(tensor).g_mul_scalar_(8.0);
        }
    });
    let model = &loaded.model;
    let graph = Graph::new(Dimensions::of(&model.spec, KvSlots::default()));
    let rows = rows_of_queries_and_keys(Units::new(Level::Node, graph.dimensions, 0));
    let exact = magnitudes(model, &graph, &pairs, &Method::ActivationPatching);
    let quality = |method: &Method| quality(&magnitudes(model, &graph, &pairs, method), &exact, &rows);
    let plain = quality(&Method::AttributionPatching);
    for grad_drop in [false, true] {
        let ours = quality(&Method::AtpStar(atp_star::Options { qk_fix: true, grad_drop }));
        let told = format!("errors and correlations, GradDrop {grad_drop}: {ours:?}, without the fix {plain:?}");
        assert!(ours.0 < plain.0 / 2.0 && ours.1 > 0.9 && ours.1 > plain.1, "{told}");
    }
}

/// In the last block of a model with norms that scale by a constant and ReLUs that are never cut off, nothing after the
/// pattern bends.
#[test]
fn the_fix_of_queries_and_keys_is_exact_where_all_that_follows_the_pattern_is_linear() {
    let folder = tempfile::tempdir().unwrap();
    let config = [("activation_function", "relu".into()), ("layer_norm_epsilon", 1e12.into())];
    let (loaded, pairs) = changed(folder.path(), &config, |name, tensor| {
        if name.contains("ln_") && name.ends_with("weight") {
            *tensor = &*tensor * 1e6;
        } else if name.contains("attn.c_attn") {
            let _ = queries_and_keys(tensor).g_mul_scalar_(8.0);
        } else if name.ends_with("mlp.c_fc.bias") {
            *tensor = &*tensor + 1.0;
        } else if name.ends_with("mlp.c_fc.weight") {
            *tensor = &*tensor * 0.05;
        }
    });
    let model = &loaded.model;
    for pair in &pairs {
        let batch = batches(model, std::slice::from_ref(pair), 1, Prefix::Recomputed).remove(0);
        for tokens in [&batch.clean, &batch.corrupt] {
            let sites: Vec<Site> = (0..model.spec.layers).map(|layer| Site::MlpPre(Layer(layer))).collect();
            let seen = see(model, tokens, sites);
            assert!(seen.values().all(|before| before.min().double_value(&[]) > 0.0), "a ReLU is cut off");
        }
    }
    let graph = Graph::new(Dimensions::of(&model.spec, KvSlots::default()));
    let units = Units::new(Level::Node, graph.dimensions, 0);
    let exact = magnitudes(model, &graph, &pairs, &Method::ActivationPatching);
    let fixed = Method::AtpStar(atp_star::Options { qk_fix: true, grad_drop: false });
    let [fixed, plain] = [&fixed, &Method::AttributionPatching].map(|method| magnitudes(model, &graph, &pairs, method));
    let last = Some(Layer(model.spec.layers - 1));
    let (mut matter, mut bent) = (0, 0.0f64);
    for row in rows_of_queries_and_keys(units).into_iter().filter(|&row| layer_of(units.get(row)) == last) {
        assert!((fixed[row] - exact[row]).abs() < 1e-6, "{}: {}, {}", units.get(row), fixed[row], exact[row]);
        matter += usize::from(exact[row] > 1e-3);
        bent = bent.max((plain[row] - exact[row]).abs());
    }
    assert!(matter > 2 && bent > 1e-3, "{matter} queries and keys matter, and without the fix they are {bent} off");
}
