//! A GPT-2 with random weights, against numbers computed by other implementations: logits by transformers 4.57, scores and
//! pruned circuits by the EAP-IG package through TransformerLens, single edges by brute force there. All in float32; the
//! metric is the answer's logit minus the wrong one's, averaged over pairs; 5 steps of integrated gradients.

#![cfg(feature = "torch")]

use indexmap::IndexMap;
use penjing::circuit::EdgeMask;
use penjing::circuit::prune::prune;
use penjing::circuit::select::{Rank, top_n};
use penjing::dataset::{self, Dataset};
use penjing::eval::Bench;
use penjing::graph::scores::Scores;
use penjing::graph::{Dimensions, Graph};
use penjing::measure::batch::Prefix;
use penjing::metric::MetricKind;
use penjing::model::site::Site;
use penjing::model::tap::{NoTap, Tap};
use penjing::model::{Loaded, Pass, Start, load};
use penjing::score::{Method, Problem, eap_ig, score};
use penjing::task::PromptPair;
use serde_json::Value;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/reference/gpt2");

struct Reference {
    loaded: Loaded,
    graph: Graph,
    dataset: Dataset,
    expected: Value,
}

fn reference() -> Reference {
    with_model(load(FOLDER).unwrap())
}

/// The reference's pairs on a model that has its tokenizer and sizes.
fn with_model(loaded: Loaded) -> Reference {
    let read = |name: &str| std::fs::read_to_string(format!("{FOLDER}/{name}")).unwrap();
    let pairs: Vec<PromptPair> = read("pairs.jsonl")
        .lines()
        .map(|line| {
            let pair: IndexMap<String, String> = serde_json::from_str(line).unwrap();
            PromptPair {
                clean: pair["clean"].clone(),
                corrupt: pair["corrupt"].clone(),
                right: vec![pair["answer"].clone()],
                wrong: vec![pair["wrong"].clone()],
                frame: String::new(),
                corruption: String::new(),
                positions: IndexMap::new(),
            }
        })
        .collect();
    let dataset = dataset::tokenize(&pairs, &loaded.tokenizer, None).unwrap();
    let spec = &loaded.model.spec;
    let graph = Graph::new(Dimensions { layers: spec.layers, heads: spec.heads, parallel: false });
    Reference { graph, dataset, expected: serde_json::from_str(&read("expected.json")).unwrap(), loaded }
}

fn scores(reference: &Reference, method: &Method, batch_size: usize, prefix: Prefix) -> Scores {
    let problem = Problem {
        model: &reference.loaded.model,
        graph: &reference.graph,
        pairs: &reference.dataset.pairs,
        metric: MetricKind::LogitDifference,
        batch_size: Some(batch_size),
        prefix,
    };
    score(&problem, method, &mut |_| ()).unwrap()
}

/// Every edge within `tolerance` of the largest expected score.
#[track_caller]
fn check_scores(reference: &Reference, name: &str, found: &Scores, tolerance: f64) {
    let expected = reference.expected["scores"][name].as_object().unwrap();
    let names: Vec<String> = reference.graph.edges().iter().map(|&edge| reference.graph.name(edge)).collect();
    assert!(names.iter().eq(expected.keys()), "edges or their order differ");
    let largest = expected.values().map(|score| score.as_f64().unwrap().abs()).fold(0.0, f64::max);
    for (&edge, name) in reference.graph.edges().iter().zip(&names) {
        let (found, expected) = (f64::from(found.get(edge)), expected[name].as_f64().unwrap());
        let allowed = tolerance * expected.abs().max(largest * 0.01);
        assert!((found - expected).abs() <= allowed, "{name}: {found} instead of {expected}");
    }
}

#[test]
fn logits_equal_transformers() {
    let reference = reference();
    for (key, corrupt) in [("logits", false), ("corrupt_logits", true)] {
        for (pair, expected) in reference.dataset.pairs.iter().zip(reference.expected[key].as_array().unwrap()) {
            let tokens = if corrupt { &pair.corrupt } else { &pair.clean };
            let tokens: Vec<i64> = tokens.iter().map(|&id| i64::from(id)).collect();
            let tokens = tch::Tensor::from_slice(&tokens).unsqueeze(0); // [1, pos]
            let logits = reference.loaded.model.forward(Start::Tokens(&tokens), &Pass::LAST, &mut NoTap);
            let found: Vec<f64> = Vec::try_from(logits.flatten(0, -1).to_kind(tch::Kind::Double)).unwrap();
            let expected: Vec<f64> = serde_json::from_value(expected.clone()).unwrap();
            assert_eq!(found.len(), expected.len());
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-4, "{key}: {worst}");
        }
    }
}

#[test]
fn eap_equals_the_reference() {
    let reference = reference();
    check_scores(&reference, "EAP", &scores(&reference, &Method::Eap, 6, Prefix::Shared), 1e-4);
}

#[test]
fn eap_ig_equals_the_reference() {
    let reference = reference();
    let method = Method::EapIg(eap_ig::Options { steps: 5, endpoints: eap_ig::Endpoints::Corrupt });
    check_scores(&reference, "EAP-IG-inputs", &scores(&reference, &method, 6, Prefix::Shared), 1e-4);
}

#[test]
fn exact_equals_brute_force() {
    let reference = reference();
    let expected = reference.expected["scores"]["exact"].as_object().unwrap();
    let found = scores(&reference, &Method::Exact, 6, Prefix::Shared);
    for &edge in reference.graph.edges() {
        let expected = expected[&reference.graph.name(edge)].as_f64().unwrap();
        let found = f64::from(found.get(edge));
        assert!((found - expected).abs() < 1e-4, "{}: {found} instead of {expected}", reference.graph.name(edge));
    }
}

#[test]
fn pruned_circuits_keep_the_same_edges_and_score_the_same() {
    let reference = reference();
    let bench = bench(&reference, Prefix::Shared);
    for (name, method) in [("EAP", Method::Eap), ("EAP-IG-inputs", Method::EapIg(eap_ig::Options::default()))] {
        let scores = scores(&reference, &method, 6, Prefix::Shared);
        for (size, expected) in reference.expected["faithfulness"][name].as_object().unwrap() {
            let mask = prune(
                &reference.graph,
                &top_n(&reference.graph, &scores, size.parse().unwrap(), Rank::Absolute).unwrap(),
            );
            assert_eq!(mask.count() as u64, expected[0].as_u64().unwrap(), "{name}, {size} edges");
            let (found, expected) = (bench.circuit(&mask).mean_metric(), expected[1].as_f64().unwrap());
            assert!((found - expected).abs() < 1e-4, "{name}, {size} edges: {found} instead of {expected}");
        }
    }
}

fn bench(reference: &Reference, prefix: Prefix) -> Bench<'_> {
    let Reference { loaded, graph, dataset, .. } = reference;
    Bench::new(&loaded.model, graph, MetricKind::LogitDifference, &dataset.pairs, prefix)
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
        check(&EdgeMask::full(&reference.graph), bench.clean().metric);
        check(&EdgeMask::empty(&reference.graph), bench.ablated().metric);
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
    let mut tensors = tch::Tensor::read_safetensors(format!("{FOLDER}/model.safetensors")).unwrap();
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
    let mut config: Value = serde_json::from_slice(&std::fs::read(format!("{FOLDER}/config.json")).unwrap()).unwrap();
    config["activation_function"] = "relu".into();
    config["layer_norm_epsilon"] = 1e12.into();
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    std::fs::copy(format!("{FOLDER}/tokenizer.json"), folder.join("tokenizer.json")).unwrap();
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
