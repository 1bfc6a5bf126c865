//! Searches that take short cuts, against the same searches written out: every step a whole run of the circuit.

#![cfg(feature = "torch")]

use penjing::circuit::EdgeMask;
use penjing::eval::Bench;
use penjing::graph::{Destination, Dimensions, Edge, Graph, KvSlots, Slot, Source};
use penjing::measure::batch::Prefix;
use penjing::metric::MetricKind;
use penjing::model::spec::Layer;
use penjing::model::{Dtype, LoadOptions, Loaded, load_with};
use penjing::parity;
use penjing::score::{Method, Problem, acdc, score};
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

/// The destinations from the logits down.
fn columns(graph: &Graph, order: acdc::Order) -> Vec<Destination> {
    let mut columns: Vec<Destination> = (0..graph.destinations()).rev().map(Destination).collect();
    if order == acdc::Order::FirstFirst {
        columns.sort_by_key(|&column| match graph.slot(column) {
            Slot::Logits => (0, 0, 0),
            Slot::Mlp(Layer(layer)) => (1, usize::MAX - layer, 0),
            slot => (1, usize::MAX - slot.layer().unwrap().0, 1 + column.0),
        });
    }
    columns
}

/// Algorithm 1 of the paper, one edge at a time.
fn plain_acdc(bench: &Bench, graph: &Graph, options: &acdc::Options) -> EdgeMask {
    let loss = |mask: &EdgeMask| {
        let outcome = bench.circuit(mask);
        match options.loss {
            acdc::Loss::Kl => outcome.kl.iter().sum::<f64>() / outcome.kl.len() as f64,
            acdc::Loss::Metric => -outcome.mean_metric(),
        }
    };
    let mut kept = EdgeMask::full(graph);
    let mut now = loss(&kept);
    for column in columns(graph, options.order) {
        let read = graph
            .readers(graph.slot(column))
            .into_iter()
            .any(|node| graph.source(node).is_none_or(|source| kept.0.row(source.0).iter().any(|&kept| kept)));
        let mut sources: Vec<usize> = (0..graph.sources_before(column)).collect();
        if options.order == acdc::Order::LastFirst {
            sources.reverse();
        }
        for source in sources {
            let mut without = kept.clone();
            without.remove(Edge { source: Source(source), destination: column });
            if !read {
                kept = without;
                continue;
            }
            let then = loss(&without);
            if then - now < options.tau {
                (kept, now) = (without, then);
            }
        }
    }
    kept
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
        let mut partial = 0;
        for (loss, order, tau) in [
            (acdc::Loss::Kl, acdc::Order::LastFirst, 1e-5),
            (acdc::Loss::Kl, acdc::Order::FirstFirst, 1e-4),
            (acdc::Loss::Metric, acdc::Order::LastFirst, 1e-3),
            (acdc::Loss::Metric, acdc::Order::FirstFirst, 4e-3),
        ] {
            let tau = scale * tau;
            let options = acdc::Options { tau, loss, order };
            let problem = Problem::new(&loaded.model, &graph, &pairs, METRIC);
            let scores = score(&problem, &Method::Acdc(options.clone()), &mut |_| ()).unwrap();
            let kept = graph.edges().iter().copied().filter(|&edge| f64::from(scores.get(edge)) >= tau);
            let (ours, plain) = (EdgeMask::of(&graph, kept), plain_acdc(&bench, &graph, &options));
            let names = |mask: &EdgeMask| mask.edges(&graph).into_iter().map(|e| graph.name(e)).collect::<Vec<_>>();
            assert_eq!(names(&ours), names(&plain), "{name}, {options:?}");
            partial += usize::from((2..graph.edge_count() * 9 / 10).contains(&plain.count()));
        }
        assert!(partial >= 3, "{name}: the thresholds keep nearly all edges or none");
    }
}
