//! Every family, on tiny random models with odd sizes: numbers of transformers (`tests/data/families`) and of
//! TransformerLens (`tests/data/research`), gradients against finite differences, identities of circuits, and batches of
//! mixed lengths against single runs.

#![cfg(feature = "torch")]

mod fixtures;

use fixtures::{Case, Leaf, with_each, with_each_in};
use penjing::circuit::EdgeMask;
use penjing::dataset::TokenPair;
use penjing::eval::Bench;
use penjing::eval::division::Keep;
use penjing::graph::scores::Scores;
use penjing::graph::{Destination, Dimensions, Edge, Graph, KvSlots, Slot};
use penjing::measure::batch::{Prefix, batches};
use penjing::measure::circuit::{Kept, Setting};
use penjing::measure::memory::MemoryError;
use penjing::measure::metric::per_pair;
use penjing::measure::sources::Activations;
use penjing::metric::MetricKind;
use penjing::model::site::Site;
use penjing::model::spec::{Head, Layer};
use penjing::model::tap::{NoTap, Tap};
use penjing::model::{Dtype, Pass, Rules, Start};
use penjing::parity;
use penjing::score::{Method, Problem, eap_ig, eap_ig_activations, gates, relp, score};
use tch::{Kind, Tensor};

const METRIC: MetricKind = MetricKind::LogitDifference;

fn graph(case: &Case, kv: KvSlots) -> Graph {
    Graph::new(Dimensions::of(&case.loaded.model.spec, kv))
}

fn scores(case: &Case, graph: &Graph, pairs: &[TokenPair], method: &Method) -> Scores {
    score(&Problem::new(&case.loaded.model, graph, pairs, METRIC), method, &mut |_| ())
        .unwrap_or_else(|error| panic!("{}: {error}", case.name))
}

fn bench<'a>(case: &'a Case, graph: &'a Graph, pairs: &'a [TokenPair]) -> Bench<'a> {
    Bench::new(&Problem::new(&case.loaded.model, graph, pairs, METRIC))
        .unwrap_or_else(|error| panic!("{}: {error}", case.name))
}

fn ig() -> Method {
    Method::EapIg(eap_ig::Options::default())
}

/// The methods whose scores are linear in a gradient.
fn linear() -> [Method; 5] {
    [
        Method::Eap,
        ig(),
        Method::EapIgActivations(eap_ig_activations::Options { steps: 2 }),
        Method::CleanCorrupted,
        Method::Relp(relp::Options::default()),
    ]
}

#[test]
fn numbers_are_those_of_the_original_implementations() {
    with_each(|case| {
        let rows = parity::check(&case.folder, &case.loaded).unwrap();
        assert_eq!(rows.len(), 3 + case.loaded.model.spec.layers, "{}: {rows:?}", case.name);
        for row in rows {
            assert!(row.difference <= 1e-4, "{}: {row:?}", case.name);
        }
    });
}

#[test]
fn all_edges_are_the_clean_run_and_none_the_ablated_one() {
    with_each(|case| {
        for kv in [KvSlots::PerQueryHead, KvSlots::Native] {
            let graph = graph(case, kv);
            let bench = bench(case, &graph, &case.pairs);
            for (mask, expected) in
                [(EdgeMask::full(&graph), bench.clean()), (EdgeMask::empty(&graph), bench.ablated())]
            {
                for (found, expected) in bench.circuit(&mask).metric.iter().zip(&expected.metric) {
                    assert!((found - expected).abs() < 2e-5, "{}, {kv:?}: {found}, {expected}", case.name);
                }
            }
        }
    });
}

#[test]
fn a_batch_of_mixed_lengths_is_its_pairs_run_alone() {
    with_each_in(Dtype::F64, |case| {
        let graph = graph(case, KvSlots::PerQueryHead);
        for method in linear().into_iter().chain([Method::Ifr]) {
            let together = scores(case, &graph, &case.pairs, &method);
            let mut alone = Scores::zeros(&graph);
            for pair in &case.pairs {
                alone.values += &scores(case, &graph, std::slice::from_ref(pair), &method).values;
            }
            alone.values /= case.pairs.len() as f32;
            let worst = (&together.values - &alone.values).iter().fold(0f32, |worst, change| worst.max(change.abs()));
            assert!(worst < 1e-6, "{}, {}: {worst}", case.name, method.name());
        }
        let metrics = |pairs: &[TokenPair]| {
            let bench = bench(case, &graph, pairs);
            let half = EdgeMask::of(&graph, graph.edges().iter().copied().step_by(2));
            [bench.clean(), bench.ablated(), &bench.circuit(&half)].map(|outcome| outcome.metric.clone())
        };
        let together = metrics(&case.pairs);
        for (index, pair) in case.pairs.iter().enumerate() {
            for (together, alone) in together.iter().zip(metrics(std::slice::from_ref(pair))) {
                assert!((together[index] - alone[0]).abs() < 1e-9, "{}: {}, {}", case.name, together[index], alone[0]);
            }
        }
    });
}

#[test]
fn stretches_and_the_shared_prefix_change_nothing() {
    with_each(|case| {
        let graph = graph(case, KvSlots::PerQueryHead);
        for method in linear().into_iter().chain([Method::Ifr, Method::Exact]) {
            let whole = scores(case, &graph, &case.pairs, &method);
            let model = &case.loaded.model;
            // Just enough for one pass at a time.
            let least = penjing::measure::memory::Sizes::new(model, graph.dimensions, &case.pairs, Prefix::Recomputed);
            let problem = Problem {
                prefix: Prefix::Recomputed,
                batch_size: Some(2),
                memory: least.peak(method.needs(), 2, 1, 1),
                stretch: Some(1),
                ..Problem::new(model, &graph, &case.pairs, METRIC)
            };
            let division = problem.division(&method).unwrap();
            assert_eq!((division.stretch, division.passes), (1, 1), "{}", case.name);
            let divided = score(&problem, &method, &mut |_| ()).unwrap();
            let worst = (&whole.values - &divided.values).iter().fold(0f32, |worst, change| worst.max(change.abs()));
            assert!(worst < 1e-5, "{}, {}: {worst}", case.name, method.name());
        }
    });
}

#[test]
fn circuits_in_the_least_memory_are_the_same() {
    with_each(|case| {
        let graph = graph(case, KvSlots::PerQueryHead);
        let model = &case.loaded.model;
        let problem = Problem::new(model, &graph, &case.pairs, METRIC);
        let within = |memory| Bench::new(&Problem { memory, ..problem });
        let Err(MemoryError::Limit { least, limit: 1 }) = within(1) else {
            panic!("{}: one byte is enough", case.name)
        };
        let (roomy, tight) = (within(usize::MAX).unwrap(), within(least).unwrap());
        assert_eq!(roomy.division().keep, Keep::Written, "{}", case.name);
        assert_eq!((tight.division().keep, tight.division().pairs), (Keep::Nothing, 1), "{}", case.name);
        let half = EdgeMask::of(&graph, graph.edges().iter().copied().step_by(2));
        let runs = [roomy.clean(), roomy.ablated(), &roomy.circuit(&half)].map(|outcome| outcome.metric.clone());
        for (roomy, tight) in runs.iter().zip([tight.clean(), tight.ablated(), &tight.circuit(&half)]) {
            for (roomy, tight) in roomy.iter().zip(&tight.metric) {
                assert!((roomy - tight).abs() < 1e-5, "{}: {roomy}, {tight}", case.name);
            }
        }
    });
}

/// What exact patching says of an edge is what running the circuit of all others says; an edge into a native slot is all
/// the edges into the slots of its query heads.
#[test]
fn removing_an_edge_costs_what_exact_patching_says_and_native_slots_stand_for_their_query_heads() {
    with_each_in(Dtype::F64, |case| {
        let (each, native) = (graph(case, KvSlots::PerQueryHead), graph(case, KvSlots::Native));
        let whole = bench(case, &each, &case.pairs).clean().mean_metric();
        for graph in [&each, &native] {
            let exact = scores(case, graph, &case.pairs, &Method::Exact);
            let (of_graph, of_each) = (bench(case, graph, &case.pairs), bench(case, &each, &case.pairs));
            for &edge in graph.edges().iter().step_by(7) {
                let mut without = EdgeMask::full(graph);
                without.remove(edge);
                let mut spelled_out = EdgeMask::full(&each);
                for slot in query_head_slots(graph.slot(edge.destination), case.loaded.model.spec.group()) {
                    spelled_out.remove(Edge { source: edge.source, destination: each.destination(slot) });
                }
                for cost in [of_graph.circuit(&without), of_each.circuit(&spelled_out)] {
                    let (cost, exact) = (whole - cost.mean_metric(), f64::from(exact.get(edge)));
                    assert!((cost - exact).abs() < 1e-6, "{}, {}: {cost}, {exact}", case.name, graph.name(edge));
                }
            }
        }
    });
}

/// The slots of its own that each query head has where a native graph has one.
fn query_head_slots(slot: Slot, group: usize) -> Vec<Slot> {
    match slot {
        Slot::Shared(layer, head, branch) => {
            (0..group).map(|member| Slot::Head(layer, Head(head.0 * group + member), branch)).collect()
        }
        slot => vec![slot],
    }
}

#[test]
fn a_native_slot_scores_the_sum_of_the_heads_that_share_it() {
    with_each(|case| {
        let spec = &case.loaded.model.spec;
        let (each, native) = (graph(case, KvSlots::PerQueryHead), graph(case, KvSlots::Native));
        for method in linear() {
            let (of_each, of_native) =
                (scores(case, &each, &case.pairs, &method), scores(case, &native, &case.pairs, &method));
            for &edge in native.edges() {
                let slots = query_head_slots(native.slot(edge.destination), spec.group());
                let sum: f32 =
                    slots.into_iter().map(|slot| of_each.values[[edge.source.0, each.destination(slot).0]]).sum();
                let found = of_native.get(edge);
                let off = (found - sum).abs();
                assert!(off < 1e-5, "{}, {}: {found} instead of {sum}", case.name, native.name(edge));
            }
        }
        if spec.group() == 1 {
            assert_eq!(each.edges(), native.edges(), "{}", case.name);
        }
    });
}

/// ∂m/∂z of an edge with gate z is Δa · ∂m/∂x_v: what the circuit of open gates says of every edge at once, through split
/// heads, is what `eap` says in closed form.
#[test]
fn the_slope_of_every_gate_is_the_score_of_eap() {
    with_each_in(Dtype::F64, |case| {
        for kv in [KvSlots::PerQueryHead, KvSlots::Native] {
            let graph = graph(case, kv);
            let eap = scores(case, &graph, &case.pairs, &Method::Eap);
            let largest = eap.values.iter().fold(0f32, |largest, score| largest.max(score.abs()));
            for prefix in [Prefix::Shared, Prefix::Recomputed] {
                let model = &case.loaded.model;
                let problem = Problem { prefix, ..Problem::new(model, &graph, &case.pairs, METRIC) };
                let slopes = gates::of_open_gates(&problem).unwrap();
                for ((place, slope), &score) in slopes.indexed_iter().zip(&eap.values) {
                    let off = (slope - f64::from(score)).abs();
                    // Scores are rounded to f32.
                    assert!(off <= 1e-7 * f64::from(largest), "{}, {kv:?}, {place:?}: {slope}, {score}", case.name);
                }
            }
        }
    });
}

/// Gates of 0 and 1 are the edges of a circuit, and half-open ones have the slopes that small steps measure.
#[test]
fn gates_of_0_and_1_are_a_circuit_and_slopes_between_agree_with_finite_differences() {
    const STEP: f64 = 1e-5;
    with_each_in(Dtype::F64, |case| {
        let model = &case.loaded.model;
        for kv in [KvSlots::PerQueryHead, KvSlots::Native] {
            let graph = graph(case, kv);
            let batch = batches(model, &case.pairs[..1], 1, Prefix::Shared).remove(0);
            let past = batch.past(model);
            let corrupt = Activations::record(model, &batch.corrupt, past.as_ref());
            let (dimensions, past) = (graph.dimensions, past.as_ref());
            let setting = Setting { model, dimensions, batch: &batch, past, corrupt: &corrupt, written: None };
            let shape = [graph.sources() as i64, graph.destinations() as i64];
            let circuit = EdgeMask::of(&graph, graph.edges().iter().copied().step_by(2));
            let expected = tch::no_grad(|| setting.logits(&Kept::new(&graph, &circuit, model, Layer(0)))); // [1, vocab]
            let flat: Vec<f64> = circuit.0.iter().map(|&kept| f64::from(u8::from(kept))).collect();
            for requires_grad in [false, true] {
                let gates = Tensor::from_slice(&flat).view(shape).set_requires_grad(requires_grad); // [source, destination]
                let off = setting.logits(&Kept::gated(&graph, &gates, model)) - &expected;
                let off = off.abs().max().double_value(&[]);
                assert!(off < 1e-9, "{}, {kv:?}: the logits are {off} off", case.name);
            }
            let metric = |gates: &Tensor| {
                let logits = setting.logits(&Kept::gated(&graph, gates, model)); // [1, vocab]
                per_pair(METRIC, &logits, &batch, None).sum(Kind::Double) // []
            };
            let uneven =
                |from: i64| Tensor::arange(shape[0] * shape[1], (Kind::Double, tch::Device::Cpu)) + from as f64;
            let gates = (uneven(1) * 0.7).sin().abs().view(shape).set_requires_grad(true); // [source, destination]
            let along = (uneven(2) * 1.3).cos().view(shape); // [source, destination]
            let slopes = Tensor::run_backward(&[metric(&gates)], &[&gates], false, false).remove(0); // [source, destination]
            let slope = (slopes * &along).sum(Kind::Double).double_value(&[]);
            let [after, before] =
                [STEP, -STEP].map(|step| tch::no_grad(|| metric(&(&gates + &along * step))).double_value(&[]));
            let measured = (after - before) / (2.0 * STEP);
            assert!((measured - slope).abs() < 1e-6 * slope.abs().max(1.0), "{}: {slope}, {measured}", case.name);
        }
    });
}

const ALL_RULES: Rules = Rules { norms: true, activations: true, products: true, patterns: true };

/// Every way from the input to the logits leaves it by one edge, so the scores of its edges add up to the derivative along
/// the difference of the embeddings; and rules change no value, only derivatives.
#[test]
fn relp_without_rules_is_eap_and_under_rules_the_edges_of_the_input_add_up_to_the_derivative() {
    with_each_in(Dtype::F64, |case| {
        let graph = graph(case, KvSlots::PerQueryHead);
        let (model, pair) = (&case.loaded.model, &case.pairs[..1]);
        let eap = scores(case, &graph, pair, &Method::Eap);
        let batch = batches(model, pair, 1, Prefix::Recomputed).remove(0);
        let true_logits = tch::no_grad(|| model.forward(Start::Tokens(&batch.clean), &Pass::LAST, &mut NoTap));
        for rules in [Rules::default(), relp::DEFAULT, ALL_RULES] {
            let ours = scores(case, &graph, pair, &Method::Relp(relp::Options { rules }));
            if rules == Rules::default() {
                assert_eq!(ours, eap, "{}", case.name);
            }
            let mut leaf = Leaf { site: Site::TokenEmbedding, leaf: Tensor::new(), before: &mut NoTap };
            let logits = model.forward(Start::Tokens(&batch.clean), &Pass { rules, ..Pass::LAST }, &mut leaf); // [1, 1, vocab]
            let off = (&logits - &true_logits).abs().max().double_value(&[]);
            assert!(off < 1e-9, "{}, {rules:?}: the logits are {off} off", case.name);
            let metric = per_pair(METRIC, &logits.squeeze_dim(1), &batch, None).sum(Kind::Double); // []
            let slope = Tensor::run_backward(&[metric], &[&leaf.leaf], false, false).remove(0); // [1, pos, d_model]
            let corrupt = Activations::record(model, &batch.corrupt, None).embedding;
            let along = ((leaf.leaf.detach() - corrupt) * slope).sum(Kind::Double).double_value(&[]);
            let sum: f64 = ours.values.row(0).iter().map(|&score| f64::from(score)).sum();
            let size: f64 = ours.values.row(0).iter().map(|&score| f64::from(score).abs()).sum();
            assert!((sum - along).abs() < 1e-6 * size.max(1.0), "{}, {rules:?}: {sum}, {along}", case.name);
        }
    });
}

/// Moves what one slot reads.
struct Shift<'a> {
    slot: Slot,
    amount: &'a Tensor, // [1, pos, d_model]
    slots: i64,
}

impl Tap for Shift<'_> {
    fn wants(&self, site: Site) -> bool {
        match (self.slot, site) {
            (Slot::Head(layer, _, branch) | Slot::Shared(layer, _, branch), Site::AttentionIn(at, of)) => {
                layer == at && branch == of
            }
            (Slot::Mlp(layer), Site::MlpIn(at)) => layer == at,
            (Slot::Logits, Site::FinalIn) => true,
            _ => false,
        }
    }

    fn at(&mut self, _: Site, value: Tensor) -> Tensor {
        match self.slot {
            Slot::Head(_, head, _) | Slot::Shared(_, head, _) => {
                let apart = value.repeat([1, 1, self.slots, 1]); // [1, pos, slot, d_model]
                apart.select(2, head.0 as i64).copy_(&(value.squeeze_dim(2) + self.amount));
                apart
            }
            Slot::Mlp(_) => value + self.amount,
            Slot::Logits => value + self.amount.narrow(1, self.amount.size()[1] - 1, 1),
        }
    }
}

/// `of` with every activation moved by `share` of the way to `to`.
fn between(of: &Activations, to: &Activations, share: f64) -> Activations {
    let all = |of: &[Tensor], to: &[Tensor]| of.iter().zip(to).map(|(of, to)| of + (to - of) * share).collect();
    Activations {
        embedding: &of.embedding + (&to.embedding - &of.embedding) * share,
        z: all(&of.z, &to.z),
        mlp: all(&of.mlp, &to.mlp),
        ..Activations::default()
    }
}

/// An EAP score is the slope of the metric along an edge: take a small step on each side and measure.
#[test]
fn gradients_agree_with_finite_differences() {
    const STEP: f64 = 1e-4;
    with_each_in(Dtype::F64, |case| {
        let model = &case.loaded.model;
        let pair = &case.pairs[..1];
        for kv in [KvSlots::PerQueryHead, KvSlots::Native] {
            let graph = graph(case, kv);
            let slopes = scores(case, &graph, pair, &Method::Eap);
            let largest = slopes.values.iter().fold(0f32, |largest, score| largest.max(score.abs()));
            let batch = batches(model, pair, 1, Prefix::Recomputed).remove(0);
            let clean = Activations::record(model, &batch.clean, None);
            let corrupt = Activations::record(model, &batch.corrupt, None);
            let changes = [-STEP, STEP].map(|share| {
                let changed =
                    tch::no_grad(|| clean.replaced_by(&between(&clean, &corrupt, share), model, graph.dimensions)); // [source, pos · d_model]
                changed.view([graph.sources() as i64, 1, -1, model.spec.d_model as i64])
            });
            for column in (0..graph.destinations()).map(Destination) {
                let slot = graph.slot(column);
                let slots = slot.branch().map_or(1, |branch| graph.dimensions.slots(Layer(0), branch).1);
                for source in 0..graph.sources_before(column) {
                    let [before, after] = [0, 1].map(|side| {
                        let amount = changes[side].get(source as i64);
                        let mut shift = Shift { slot, amount: &amount, slots: slots as i64 };
                        let logits =
                            tch::no_grad(|| model.forward(Start::Tokens(&batch.clean), &Pass::LAST, &mut shift))
                                .squeeze_dim(1);
                        per_pair(METRIC, &logits, &batch, None).double_value(&[0])
                    });
                    // A step towards the corrupt activation lowers the metric where the edge helps.
                    let measured = (before - after) / (2.0 * STEP);
                    let slope = f64::from(slopes.values[[source, column.0]]);
                    assert!(
                        (measured - slope).abs() < 1e-6 * f64::from(largest).max(1.0),
                        "{}, {kv:?}, {source} -> {slot}: {slope}, measured {measured} (largest {largest})",
                        case.name
                    );
                }
            }
        }
    });
}
