//! Tiny models with random weights, against numbers computed by other implementations: logits by transformers 4.57, scores
//! and pruned circuits by the EAP-IG package through TransformerLens, single edges by brute force there. All in float32; the
//! metric is the answer's logit minus the wrong one's, averaged over pairs; 5 steps of integrated gradients.

#![cfg(feature = "torch")]

use penjing::circuit::EdgeMask;
use penjing::circuit::prune::prune;
use penjing::circuit::select::{Rank, top_n};
use penjing::dataset::Dataset;
use penjing::eval::Bench;
use penjing::graph::scores::Scores;
use penjing::graph::{Dimensions, Graph, KvSlots, Node};
use penjing::measure::batch::Prefix;
use penjing::metric::MetricKind;
use penjing::model::site::Site;
use penjing::model::tap::Tap;
use penjing::model::{Loaded, Pass, Start, load};
use penjing::parity;
use penjing::score::{Method, Problem, eap_ig, eap_ig_activations, score};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/reference").join(name)
}

struct Reference {
    loaded: Loaded,
    graph: Graph,
    dataset: Dataset,
}

fn reference() -> Reference {
    with_model(load(folder("gpt2").to_str().unwrap()).unwrap())
}

/// The pairs of the reference GPT-2 on a model that has its tokenizer and sizes.
fn with_model(loaded: Loaded) -> Reference {
    // Tests run side by side: libtorch's operations must not each open a pool of threads as well.
    tch::set_num_threads(1);
    let dataset = parity::pairs(&folder("gpt2"), &loaded).unwrap();
    let graph = Graph::new(Dimensions::of(&loaded.model.spec, KvSlots::default()));
    Reference { graph, dataset, loaded }
}

/// Every tensor of a folder's parity file within `1e-4`, logits absolutely, scores relatively; of `methods` that the package
/// gets wrong, see below, only the circuits that its own scores choose.
#[track_caller]
fn check(name: &str, rows: usize, wrong: &[&str]) {
    tch::set_num_threads(1);
    let loaded = load(folder(name).to_str().unwrap()).unwrap();
    let found = parity::check(&folder(name), &loaded).unwrap();
    assert_eq!(found.len(), rows, "{found:?}");
    for row in found.iter().filter(|row| !wrong.iter().any(|method| row.name.starts_with(method))) {
        let error = if row.of_scores { row.relative } else { row.difference };
        assert!(error <= 1e-4, "{name}: {row:?}");
    }
}

#[test]
fn gpt2() {
    check("gpt2", 18, &[]);
}

#[test]
fn gpt_neo() {
    check("gpt_neo", 18, &[]);
}

#[test]
fn gpt_neox() {
    check("gpt_neox", 18, &["EAP-IG-activations"]);
}

#[test]
fn llama() {
    check("llama", 18, &["EAP-IG-activations"]);
}

#[test]
fn qwen2() {
    check("qwen2", 18, &["EAP-IG-activations"]);
}

/// The package's numbers of one kind, as a table.
fn expected_scores(name: &str, method: &str, graph: &Graph) -> Scores {
    let expected: Value = serde_json::from_slice(&std::fs::read(folder(name).join("expected.json")).unwrap()).unwrap();
    let mut table = Scores::zeros(graph);
    for &edge in graph.edges() {
        // Where the package has no number, that is 0 here.
        let score = expected["scores"][method][graph.name(edge)].as_f64().unwrap_or(0.0);
        table.set(edge, score as f32);
    }
    table
}

#[track_caller]
fn nearly_equal(ours: f32, theirs: f32, largest: f32, edge: &str) {
    let allowed = 1e-4 * theirs.abs().max(largest * parity::FLOOR as f32);
    assert!((ours - theirs).abs() <= allowed, "{edge}: {ours}, {theirs}");
}

fn largest(scores: &Scores) -> f32 {
    scores.values.iter().fold(0f32, |largest, score| largest.max(score.abs()))
}

/// In models without position embeddings, the package loses the gradients of the runs in which the input is moved at all
/// slots that read the input alone: what enters them is then a constant, and its hooks do not fire. Our scores less those of
/// that group, which are those of `eap-ig`, are the package's.
#[test]
fn activation_gradients_of_slots_that_read_the_input_alone() {
    for name in ["gpt_neox", "llama", "qwen2"] {
        let loaded = load(folder(name).to_str().unwrap()).unwrap();
        let dataset = parity::pairs(&folder(name), &loaded).unwrap();
        let graph = Graph::new(Dimensions::of(&loaded.model.spec, KvSlots::default()));
        let theirs = expected_scores(name, "EAP-IG-activations", &graph);
        let groups = (1 + 2 * loaded.model.spec.layers) as f32;
        let reference = Reference { graph, dataset, loaded };
        let graph = &reference.graph;
        let ours =
            scores(&reference, &Method::EapIgActivations(eap_ig_activations::Options::default()), 6, Prefix::Shared);
        let of_input = Method::EapIg(eap_ig::Options { steps: 5, endpoints: eap_ig::Endpoints::Clean });
        let of_input = scores(&reference, &of_input, 6, Prefix::Shared);
        let mut lost = 0;
        for &edge in graph.edges() {
            let input_alone = graph.sources_before(edge.destination) == 1;
            lost += usize::from(input_alone);
            let less = if input_alone { of_input.get(edge) / groups } else { 0.0 };
            nearly_equal(ours.get(edge) - less, theirs.get(edge), largest(&theirs), &graph.name(edge));
        }
        assert_eq!(lost, 3 * graph.dimensions.heads + usize::from(graph.dimensions.parallel), "{name}");
    }
}

/// Every circuit of the package, chosen by its own scores: as many edges are left, and they do as well.
#[test]
fn circuits_chosen_by_the_package_s_scores() {
    let mut compared = 0;
    for name in ["gpt2", "gpt_neo", "gpt_neox", "llama", "qwen2", "gemma2"] {
        let loaded = load(folder(name).to_str().unwrap()).unwrap();
        let dataset = parity::pairs(&folder(name), &loaded).unwrap();
        let graph = Graph::new(Dimensions::of(&loaded.model.spec, KvSlots::default()));
        let reference = Reference { graph, dataset, loaded };
        let (graph, bench) = (&reference.graph, bench(&reference, Prefix::Shared));
        let expected: Value =
            serde_json::from_slice(&std::fs::read(folder(name).join("expected.json")).unwrap()).unwrap();
        for method in ["EAP", "EAP-IG-inputs", "EAP-IG-activations", "clean-corrupted"] {
            let theirs = expected_scores(name, method, graph);
            for (size, kept) in expected["faithfulness"][method].as_object().unwrap() {
                let circuit = prune(graph, &top_n(graph, &theirs, size.parse().unwrap(), Rank::Absolute).unwrap());
                assert_eq!(circuit.count() as u64, kept[0].as_u64().unwrap(), "{name}, {method}, {size} edges");
                let difference = bench.circuit(&circuit).mean_metric() - kept[1].as_f64().unwrap();
                assert!(difference.abs() < 1e-4, "{name}, {method}, {size} edges: {difference}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 6 * 4 * 5);
}

/// Gemma 2 norms the sum of a layer's heads before it reaches the residual stream. The EAP-IG package multiplies the
/// gradient at an edge's end with what the head wrote *before* that norm, so its scores of edges that leave heads are not
/// those of the edge. Here the norm's Jacobian stands between. All other edges are equal; of the edges that leave heads,
/// brute force tells who is right.
#[test]
fn gemma2() {
    tch::set_num_threads(1);
    let loaded = load(folder("gemma2").to_str().unwrap()).unwrap();
    for row in parity::check(&folder("gemma2"), &loaded).unwrap() {
        assert!(
            !["logits", "corrupt_logits", "exact"].contains(&row.name.as_str()) || row.difference < 1e-4,
            "{row:?}"
        );
    }
    let dataset = parity::pairs(&folder("gemma2"), &loaded).unwrap();
    let graph = Graph::new(Dimensions::of(&loaded.model.spec, KvSlots::default()));
    let reference = Reference { graph, dataset, loaded };
    let graph = &reference.graph;
    let exact = expected_scores("gemma2", "exact", graph);
    for (name, method) in [
        ("EAP", Method::Eap),
        ("EAP-IG-inputs", Method::EapIg(eap_ig::Options::default())),
        ("clean-corrupted", Method::CleanCorrupted),
    ] {
        let (ours, theirs) = (scores(&reference, &method, 6, Prefix::Shared), expected_scores("gemma2", name, graph));
        let [mut our_error, mut their_error] = [0.0; 2];
        for &edge in graph.edges() {
            if matches!(graph.node(edge.source), Node::Head(..)) {
                our_error += (ours.get(edge) - exact.get(edge)).abs();
                their_error += (theirs.get(edge) - exact.get(edge)).abs();
            } else {
                nearly_equal(ours.get(edge), theirs.get(edge), largest(&theirs), &graph.name(edge));
            }
        }
        assert!(our_error < 0.4 * their_error, "{name}: {our_error} against {their_error}");
    }
}

#[test]
fn mistral() {
    check("mistral", 2, &[]);
}

#[test]
fn qwen3() {
    check("qwen3", 2, &[]);
}

fn scores(reference: &Reference, method: &Method, batch_size: usize, prefix: Prefix) -> Scores {
    let problem = Problem {
        batch_size: Some(batch_size),
        prefix,
        ..Problem::new(&reference.loaded.model, &reference.graph, &reference.dataset.pairs, MetricKind::LogitDifference)
    };
    score(&problem, method, &mut |_| ()).unwrap()
}

fn bench(reference: &Reference, prefix: Prefix) -> Bench<'_> {
    let Reference { loaded, graph, dataset, .. } = reference;
    let problem = Problem::new(&loaded.model, graph, &dataset.pairs, MetricKind::LogitDifference);
    Bench::new(&Problem { prefix, ..problem }).unwrap()
}

#[test]
fn all_edges_are_the_clean_run_and_none_the_ablated_one() {
    let reference = reference();
    for prefix in [Prefix::Shared, Prefix::Recomputed] {
        let bench = bench(&reference, prefix);
        let check = |mask: &EdgeMask, expected: Vec<f64>| {
            for (found, expected) in bench.circuit(mask).metric.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-5, "{found} instead of {expected}");
            }
        };
        check(&EdgeMask::full(&reference.graph), bench.clean().metric.clone());
        check(&EdgeMask::empty(&reference.graph), bench.ablated().metric.clone());
    }
}

#[test]
fn batch_size_threads_and_shared_prefix_change_nothing() {
    let reference = reference();
    for method in [Method::Eap, Method::EapIg(eap_ig::Options::default()), Method::Exact] {
        let whole = scores(&reference, &method, 6, Prefix::Shared);
        for (threads, batch, prefix) in
            [(1, 1, Prefix::Shared), (2, 4, Prefix::Recomputed), (2, 6, Prefix::Shared), (1, 6, Prefix::Recomputed)]
        {
            tch::set_num_threads(threads);
            let other = scores(&reference, &method, batch, prefix);
            let worst = (&whole.values - &other.values).iter().fold(0f32, |worst, change| worst.max(change.abs()));
            assert!(worst < 1e-5, "{method:?}, {threads} threads, batches of {batch}, {prefix:?}: {worst}");
        }
    }
}

#[test]
fn edges_leaving_the_input_sum_to_the_metric_difference() {
    let reference = reference();
    let bench = bench(&reference, Prefix::Shared);
    let difference = bench.clean().mean_metric() - bench.ablated().mean_metric();
    let off = |steps| {
        let method = Method::EapIg(eap_ig::Options { steps, endpoints: eap_ig::Endpoints::Corrupt });
        let scores = scores(&reference, &method, 6, Prefix::Shared);
        (f64::from(scores.values.row(0).sum()) - difference).abs()
    };
    // A sum over points at one end of each step errs in proportion to the step.
    let (coarse, fine) = (off(10), off(160));
    assert!(fine < coarse / 8.0, "{fine} with 160 steps, {coarse} with 10");
    assert!(fine < 0.01 * difference.abs(), "{fine} off {difference}");
}

/// The reference made linear: norms whose ε swamps the variance (their gain makes up for it), patterns that do not depend
/// on the tokens, and ReLUs that are never cut off.
fn linear_model(folder: &std::path::Path) -> Loaded {
    let mut tensors = tch::Tensor::read_safetensors(self::folder("gpt2").join("model.safetensors")).unwrap();
    for (name, tensor) in &mut tensors {
        if name.contains("ln_") && name.ends_with("weight") {
            *tensor = &*tensor * 1e6;
        } else if name.contains("attn.c_attn") {
            let axis = tensor.dim() as i64 - 1;
            let width = tensor.size()[axis as usize] / 3;
            let _ = tensor.narrow(axis, 0, 2 * width).zero_(); // queries and keys
        } else if name.ends_with("mlp.c_fc.bias") {
            *tensor = &*tensor + 1.0;
        } else if name.ends_with("mlp.c_fc.weight") {
            // So that the shift by 1 is enough: a larger one would drown the differences in rounding.
            *tensor = &*tensor * 0.1;
        }
    }
    tch::Tensor::write_safetensors(&tensors, folder.join("model.safetensors")).unwrap();
    let mut config: Value =
        serde_json::from_slice(&std::fs::read(self::folder("gpt2").join("config.json")).unwrap()).unwrap();
    config["activation_function"] = "relu".into();
    config["layer_norm_epsilon"] = 1e12.into();
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    std::fs::copy(self::folder("gpt2").join("tokenizer.json"), folder.join("tokenizer.json")).unwrap();
    load(folder.to_str().unwrap()).unwrap()
}

/// The smallest neuron before its ReLU.
struct Smallest(f64);

impl Tap for Smallest {
    fn wants(&self, site: Site) -> bool {
        matches!(site, Site::MlpPre(_))
    }

    fn at(&mut self, _: Site, value: tch::Tensor) -> tch::Tensor {
        self.0 = self.0.min(value.min().double_value(&[]));
        value
    }
}

#[test]
fn on_a_linear_model_eap_is_exact() {
    let folder = tempfile::tempdir().unwrap();
    let reference = with_model(linear_model(folder.path()));
    let mut smallest = Smallest(f64::INFINITY);
    for pair in &reference.dataset.pairs {
        for tokens in [&pair.clean, &pair.corrupt] {
            let tokens: Vec<i64> = tokens.iter().map(|&id| i64::from(id)).collect();
            let tokens = tch::Tensor::from_slice(&tokens).unsqueeze(0); // [1, pos]
            let _ = reference.loaded.model.forward(Start::Tokens(&tokens), &Pass::LAST, &mut smallest);
        }
    }
    assert!(smallest.0 > 0.0, "a ReLU is cut off: {}", smallest.0);
    let guess = scores(&reference, &Method::Eap, 6, Prefix::Shared);
    let exact = scores(&reference, &Method::Exact, 6, Prefix::Shared);
    let largest = exact.values.iter().fold(0f32, |largest, score| largest.max(score.abs()));
    assert!(exact.values.iter().filter(|score| score.abs() > 1e-3 * largest).count() > 20, "too few edges matter");
    for &edge in reference.graph.edges() {
        let (guess, exact) = (guess.get(edge), exact.get(edge));
        assert!((guess - exact).abs() < 1e-4 * largest, "{}: {guess}, exactly {exact}", reference.graph.name(edge));
    }
}
