//! Searches that take short cuts, against the same searches written out: every step a whole run of the circuit.

#![cfg(feature = "torch")]

use penjing::circuit::EdgeMask;
use penjing::circuit::prune::prune;
use penjing::circuit::select::{Rank, edges_left, greedy, top_n};
use penjing::dataset::{self, TokenPair};
use penjing::eval::Bench;
use penjing::eval::baseline::random_circuit;
use penjing::eval::bench::mean;
use penjing::graph::{Destination, Dimensions, Edge, Graph, KvSlots, Slot, Source};
use penjing::measure::batch::Prefix;
use penjing::measure::memory::MemoryError;
use penjing::metric::MetricKind;
use penjing::model::spec::{Branch, Head, Layer, Spec};
use penjing::model::{Dtype, LoadOptions, Loaded, Model, load_with};
use penjing::parity;
use penjing::score::hard_concrete::{Gate, open, openness};
use penjing::score::{Method, Problem, Progress, ScoreError, State, acdc, advance, eap_ig, mask, score};
use penjing::task::{self, Expansion, Split};
use std::collections::BTreeSet;
use std::path::Path;

#[path = "../benches/methods/pairs.rs"]
mod timed;

const METRIC: MetricKind = MetricKind::LogitDifference;

struct Case {
    loaded: Loaded,
    pairs: Vec<TokenPair>,
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
/// Beside what is left, how near to the threshold the nearest of its decisions was.
fn plain_acdc(bench: &Bench, graph: &Graph, options: &acdc::Options) -> (Left, f64) {
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
    let mut nearest = f64::INFINITY;
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
            nearest = nearest.min((then - now - options.tau).abs());
            if then - now < options.tau {
                (left, now) = (without, then);
            }
        }
    }
    (left, nearest)
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
            let (ours, (plain, _)) = (acdc(&problem, &options), plain_acdc(&bench, &graph, &options));
            assert_eq!(names(&ours), names(&plain), "{name}, {options:?}");
            partial += usize::from((2..graph.edge_count() * 9 / 10).contains(&plain.edges.count()));
            let gone = graph.destinations() - plain.direct.len();
            direct += usize::from((1..graph.dimensions.direct_edges()).contains(&gone));
        }
        assert!(partial >= 5 && direct >= 2, "{name}: the thresholds keep nearly all edges or none");
    }
}

/// The same on the middle shape of the benchmarks, in f32 as they run it.
#[test]
fn acdc_keeps_what_the_plain_search_keeps_on_the_shape_that_is_timed() {
    tch::set_num_threads(1);
    let model = Model::random(Spec::gpt2(4, 4, 256, 2048, 64), 0);
    let pairs = timed::pairs(32, model.spec.vocab);
    let graph = Graph::new(Dimensions::of(&model.spec, KvSlots::PerQueryHead));
    let problem = Problem::new(&model, &graph, &pairs, METRIC);
    let bench = Bench::new(&problem).unwrap();
    let mut kept = Vec::new();
    for tau in [1e-2, 1e-5] {
        // What lies within the rounding of f32 of the threshold is decided by the order of a machine's sums.
        let with = |step: u32| acdc::Options { tau: tau * (1.0 + 0.1 * f64::from(step)), ..acdc::Options::default() };
        let clear = (0..10).map(with).find_map(|options| match plain_acdc(&bench, &graph, &options) {
            (plain, nearest) if nearest > 1e-7 => Some((options, plain)),
            _ => None,
        });
        let (options, plain) = clear.expect("a threshold that no effect is near");
        let ours = acdc(&problem, &options);
        let tau = options.tau;
        assert!(ours == plain, "at {tau} {} and {} edges are kept", ours.edges.count(), plain.edges.count());
        kept.push(ours.edges.count());
    }
    assert!(kept[1] > 10, "{kept:?}");
}

/// The distribution in closed form: P(z ≤ x) = σ(T · logit(x̂) − log α), x̂ the place of x on the stretch from −0.1 to 1.1.
#[test]
fn gates_have_the_hard_concrete_distribution() {
    const DRAWS: usize = 20_000;
    for log_alpha in [-4.0, -1.0, 0.0, 0.7, 3.0] {
        let gate = |index: usize| Gate::at(log_alpha, (index as f64 + 0.5) / DRAWS as f64);
        let gates: Vec<f64> = (0..DRAWS).map(|index| gate(index).value).collect();
        let share = |of: &dyn Fn(f64) -> bool| gates.iter().filter(|&&z| of(z)).count() as f64 / DRAWS as f64;
        let below = |x: f64| {
            let place = (x + 0.1) / 1.2;
            let odds = (place / (1.0 - place)).powf(2.0 / 3.0) * f64::exp(-log_alpha);
            odds / (1.0 + odds)
        };
        for x in [0.0, 0.25, 0.5, 0.9] {
            let found = share(&|z| z <= x);
            assert!((found - below(x)).abs() < 2.0 / DRAWS as f64, "log alpha {log_alpha}, {x}: {found}, {}", below(x));
        }
        let found = share(&|z| z < 1.0);
        assert!((found - below(1.0)).abs() < 2.0 / DRAWS as f64, "log alpha {log_alpha}: {found}, {}", below(1.0));
        assert!((open(log_alpha).value - (1.0 - below(0.0))).abs() < 1e-12, "{log_alpha}");
        assert!((openness(log_alpha) + below(0.0).ln()).abs() < 1e-12, "{log_alpha}");
        const STEP: f64 = 1e-6;
        let slope = |of: &dyn Fn(f64) -> f64| (of(log_alpha + STEP) - of(log_alpha - STEP)) / (2.0 * STEP);
        let measured = slope(&|x| open(x).value);
        assert!((open(log_alpha).slope - measured).abs() < 1e-8, "{log_alpha}: {measured}");
        for uniform in [0.03, 0.2, 0.5, 0.77, 0.98] {
            let (found, measured) = (Gate::at(log_alpha, uniform), slope(&|x| Gate::at(x, uniform).value));
            assert!((found.slope - measured).abs() < 1e-8, "{log_alpha}, {uniform}: {found:?}, {measured}");
        }
    }
    // Also far out every log alpha has a place of its own, and draws are numbers.
    let far: Vec<f64> = (-30..=30).map(|log_alpha| openness(f64::from(log_alpha))).collect();
    assert!(far.windows(2).all(|two| two[0] < two[1]), "{far:?}");
    for (uniform, value) in [(0.0, 0.0), (1.0, 1.0)] {
        assert_eq!(Gate::at(0.0, uniform), Gate { value, slope: 0.0 });
    }
}

fn toy(split: Split, pairs: usize) -> Case {
    tch::set_num_threads(1);
    let loaded = load_with("toy-4l", &LoadOptions::default()).unwrap();
    let expansion = Expansion { split, pairs, seed: 0, corruption: None };
    let prompts = task::expand(&task::built_in("ioi").unwrap(), &expansion).unwrap();
    let pairs = dataset::tokenize(&prompts, &loaded.tokenizer, None).unwrap().pairs;
    Case { loaded, pairs }
}

#[test]
fn learned_gates_reach_the_sparsity_and_leave_a_circuit_that_works() {
    let Case { loaded, pairs } = toy(Split::Train, 64);
    let graph = Graph::new(Dimensions::of(&loaded.model.spec, KvSlots::default()));
    let problem = Problem::new(&loaded.model, &graph, &pairs, METRIC);
    let fresh = toy(Split::Test, 50).pairs;
    let bench = Bench::new(&Problem::new(&loaded.model, &graph, &fresh, METRIC)).unwrap();
    let [clean, ablated] = [bench.clean(), bench.ablated()].map(|outcome| outcome.mean_metric());
    let measured = |circuit: &EdgeMask| {
        let outcome = bench.circuit(circuit);
        (mean(&outcome.kl), (outcome.mean_metric() - ablated) / (clean - ablated))
    };
    let ig = score(&problem, &Method::EapIg(eap_ig::Options::default()), &mut |_| ()).unwrap();
    for (loss, sparsity) in [(acdc::Loss::Kl, 0.95), (acdc::Loss::Kl, 0.9), (acdc::Loss::Metric, 0.95)] {
        let options = mask::Options { sparsity, loss, ..mask::Options::default() };
        let scores = score(&problem, &Method::Mask(options), &mut |_| ()).unwrap();
        // A score is −ln P(z = 0).
        let left: f64 = graph.edges().iter().map(|&edge| 1.0 - (-f64::from(scores.get(edge))).exp()).sum();
        let reached = 1.0 - left / graph.edge_count() as f64;
        assert!((reached - sparsity).abs() < 0.02, "{loss:?}: {reached} instead of {sparsity}");
        let edges = edges_left(&graph, sparsity);
        let ours = prune(&graph, &top_n(&graph, &scores, edges, Rank::Signed).unwrap());
        let theirs = greedy(&graph, &ig, edges).unwrap();
        let (kl, faithfulness) = measured(&ours);
        let (kl_of_ig, faithfulness_of_ig) = measured(&theirs);
        assert!(kl < 1.25 * kl_of_ig, "{loss:?}, {sparsity}: {kl} nats, eap-ig's {kl_of_ig}");
        let off = (1.0 - faithfulness).abs() - (1.0 - faithfulness_of_ig).abs();
        assert!(off < 0.02, "{loss:?}, {sparsity}: {faithfulness}, eap-ig's {faithfulness_of_ig}");
        for seed in 0..10 {
            let (kl_of_random, faithfulness_of_random) = measured(&random_circuit(&graph, edges, seed).unwrap());
            assert!(kl < 0.01 * kl_of_random, "{loss:?}, {sparsity}: {kl} nats, a random circuit's {kl_of_random}");
            assert!(faithfulness_of_random < 0.1 && faithfulness > 0.8, "{faithfulness}, {faithfulness_of_random}");
        }
    }
}

/// Gates need the memory of the batch that runs, and little for each of the other pairs.
#[test]
fn gates_are_learned_within_the_memory_that_may_be_used() {
    let Case { loaded, pairs } = toy(Split::Train, 64);
    let graph = Graph::new(Dimensions::of(&loaded.model.spec, KvSlots::default()));
    let method = Method::Mask(mask::Options { steps: 2, ..mask::Options::default() });
    let roomy = Problem::new(&loaded.model, &graph, &pairs, METRIC);
    let all = roomy.division(&method).unwrap();
    assert_eq!(all.pairs, 32);
    let tight = Problem { memory: all.bytes - 1, ..roomy };
    let division = tight.division(&method).unwrap();
    assert!(division.pairs < 32 && division.bytes < all.bytes, "{division:?}");
    score(&tight, &method, &mut |_| ()).unwrap();
    let none = Problem { memory: 1 << 20, ..roomy }.division(&method);
    assert!(matches!(none, Err(ScoreError::Memory(MemoryError::Limit { .. }))), "{none:?}");
}
