//! Searches that take short cuts, against the same searches written out: every step a whole run of the circuit.

#![cfg(feature = "torch")]

use penjing::circuit::EdgeMask;
use penjing::eval::Bench;
use penjing::graph::{Destination, Dimensions, Edge, Graph, KvSlots, Slot, Source};
use penjing::measure::batch::Prefix;
use penjing::metric::MetricKind;
use penjing::model::spec::{Branch, Head, Layer};
use penjing::model::{Dtype, LoadOptions, Loaded, load_with};
use penjing::parity;
use penjing::score::{Method, Problem, Progress, State, acdc, advance};
use std::collections::BTreeSet;
use std::path::Path;

const METRIC: MetricKind = MetricKind::LogitDifference;

struct Case {
    loaded: Loaded,
    pairs: Vec<penjing::dataset::TokenPair>,
}

fn case(name: &str) -> Case {
    tch::set_num_threads(1);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    let options = LoadOptions { dtype: Dtype::F64, ..LoadOptions::default() };
    let loaded = load_with(folder.to_str().unwrap(), &options).unwrap();
    let pairs = parity::pairs(&folder, &loaded).unwrap().pairs;
    Case { loaded, pairs }
}

/// The slots of a layer's heads, head by head: q, k and v, or of shared keys and values the first of their heads.
fn of_heads(graph: &Graph, layer: Layer) -> Vec<Destination> {
    let group = graph.dimensions.group();
    let slots = (0..graph.dimensions.heads).map(Head).flat_map(|head| Branch::ALL.map(|branch| (head, branch)));
    let slots = slots.filter_map(|(head, branch)| match branch {
        Branch::Query => Some(Slot::Head(layer, head, branch)),
        _ if group == 1 => Some(Slot::Head(layer, head, branch)),
        _ => head.0.is_multiple_of(group).then_some(Slot::Shared(layer, Head(head.0 / group), branch)),
    });
    slots.map(|slot| graph.destination(slot)).collect()
}

/// What is visited from the logits down: slots, and slots whose direct edge to their head is tried (true).
fn visits(graph: &Graph, options: &acdc::Options) -> Vec<(Destination, bool)> {
    let forwards = options.order == acdc::Order::FirstFirst;
    let mut visits = vec![(graph.destination(Slot::Logits), false)];
    for layer in (0..graph.dimensions.layers).rev().map(Layer) {
        let mlp = Slot::Mlp(layer);
        visits.extend(graph.has_slot(mlp).then(|| (graph.destination(mlp), false)));
        let (mut direct, mut slots) = (of_heads(graph, layer), of_heads(graph, layer));
        slots.sort();
        if !forwards {
            direct.reverse();
            slots.reverse();
        }
        if options.nodes == acdc::Nodes::Acdc {
            visits.extend(direct.into_iter().map(|slot| (slot, true)));
        }
        visits.extend(slots.into_iter().map(|slot| (slot, false)));
    }
    visits
}

/// What a search left: edges, and slots with a direct edge to their head.
#[derive(PartialEq)]
struct Left {
    edges: EdgeMask,
    direct: BTreeSet<Destination>,
}

/// Algorithm 1 of the paper, one edge at a time.
fn plain_acdc(bench: &Bench, graph: &Graph, options: &acdc::Options) -> Left {
    // A slot without a direct edge reads nothing of the circuit.
    let reached = |left: &Left| {
        let reads = |edge: &Edge| left.direct.contains(&edge.destination);
        EdgeMask::of(graph, left.edges.edges(graph).into_iter().filter(reads))
    };
    let loss = |left: &Left| {
        let outcome = bench.circuit(&reached(left));
        match options.loss {
            acdc::Loss::Kl => outcome.kl.iter().sum::<f64>() / outcome.kl.len() as f64,
            acdc::Loss::Metric => -outcome.mean_metric(),
        }
    };
    let all = (0..graph.destinations()).map(Destination).collect();
    let mut left = Left { edges: EdgeMask::full(graph), direct: all };
    let mut now = loss(&left);
    for (column, direct) in visits(graph, options) {
        let mut candidates: Vec<Option<Source>> = match direct {
            true => vec![None],
            false => (0..graph.sources_before(column)).map(Source).map(Some).collect(),
        };
        if options.order == acdc::Order::LastFirst {
            candidates.reverse();
        }
        for candidate in candidates {
            let written = |source: Source| left.edges.0.row(source.0).iter().any(|&kept| kept);
            let readers = graph.readers(graph.slot(column));
            let read =
                readers.into_iter().any(|node| graph.source(node).is_none_or(written)) && left.direct.contains(&column);
            let mut without = Left { edges: left.edges.clone(), direct: left.direct.clone() };
            match candidate {
                Some(source) => without.edges.remove(Edge { source, destination: column }),
                None => _ = without.direct.remove(&column),
            }
            if !read {
                left = without;
                continue;
            }
            let then = loss(&without);
            if then - now < options.tau {
                (left, now) = (without, then);
            }
        }
    }
    left
}

/// The search under test.
fn acdc(problem: &Problem, options: &acdc::Options) -> Left {
    let (graph, method) = (problem.graph, Method::Acdc(options.clone()));
    let mut state = State::start(problem, &method).unwrap();
    let mut silent: &mut dyn FnMut(Progress) = &mut |_| ();
    advance(problem, &method, &mut state, &mut silent).unwrap();
    let scores = state.scores(problem).unwrap();
    let stays = |edge: &Edge| f64::from(scores.get(*edge)) >= options.tau;
    let edges = EdgeMask::of(graph, graph.edges().iter().copied().filter(stays));
    let direct = (0..graph.destinations()).map(Destination).filter(|&slot| {
        let effect = || state.sums[acdc::direct_edge(graph, slot)] / problem.pairs.len() as f64;
        let has_one = options.nodes == acdc::Nodes::Acdc && graph.slot(slot).branch().is_some();
        !has_one || effect() >= options.tau
    });
    Left { edges, direct: direct.collect() }
}

#[test]
fn acdc_decides_as_the_plain_search() {
    for (name, kv, scale) in [
        ("reference/gpt2", KvSlots::PerQueryHead, 1.0),
        ("reference/gpt_neox", KvSlots::PerQueryHead, 1.0),
        ("families/gemma2", KvSlots::Native, 10.0),
        ("families/olmo2", KvSlots::PerQueryHead, 10.0),
        ("research/attn_only_shortformer", KvSlots::PerQueryHead, 10.0),
    ] {
        let Case { loaded, pairs } = case(name);
        let graph = Graph::new(Dimensions::of(&loaded.model.spec, kv));
        let problem = Problem { prefix: Prefix::Recomputed, ..Problem::new(&loaded.model, &graph, &pairs, METRIC) };
        let bench = Bench::new(&problem).unwrap();
        let names = |left: &Left| {
            let direct = left.direct.iter().map(|&slot| graph.slot(slot).to_string());
            left.edges.edges(&graph).into_iter().map(|edge| graph.name(edge)).chain(direct).collect::<Vec<_>>()
        };
        let (mut partial, mut direct) = (0, 0);
        for (loss, order, nodes, tau) in [
            (acdc::Loss::Kl, acdc::Order::LastFirst, acdc::Nodes::Eap, 1e-5),
            (acdc::Loss::Kl, acdc::Order::FirstFirst, acdc::Nodes::Eap, 1e-4),
            (acdc::Loss::Metric, acdc::Order::LastFirst, acdc::Nodes::Eap, 1e-3),
            (acdc::Loss::Metric, acdc::Order::FirstFirst, acdc::Nodes::Eap, 4e-3),
            (acdc::Loss::Kl, acdc::Order::LastFirst, acdc::Nodes::Acdc, 2e-4),
            (acdc::Loss::Metric, acdc::Order::FirstFirst, acdc::Nodes::Acdc, 4e-3),
            (acdc::Loss::Metric, acdc::Order::LastFirst, acdc::Nodes::Acdc, 1e-3),
        ] {
            let tau = scale * tau;
            let options = acdc::Options { tau, loss, order, nodes };
            let problem = Problem::new(&loaded.model, &graph, &pairs, METRIC);
            let (ours, plain) = (acdc(&problem, &options), plain_acdc(&bench, &graph, &options));
            assert_eq!(names(&ours), names(&plain), "{name}, {options:?}");
            partial += usize::from((2..graph.edge_count() * 9 / 10).contains(&plain.edges.count()));
            let gone = graph.destinations() - plain.direct.len();
            direct += usize::from((1..graph.dimensions.direct_edges()).contains(&gone));
        }
        assert!(partial >= 5 && direct >= 2, "{name}: the thresholds keep nearly all edges or none");
    }
}
