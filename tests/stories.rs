//! A small trained model that is not ours: stories260K, a Llama of 260 thousand parameters (MIT licence), against numbers
//! computed from its weights in float64, and the circuit by which it goes on with "She" or "He".

#![cfg(feature = "torch")]

use penjing::dataset::tokenize;
use penjing::eval::Bench;
use penjing::graph::{Dimensions, Graph, KvSlots};
use penjing::metric::MetricKind;
use penjing::model::site::Site;
use penjing::model::spec::Layer;
use penjing::model::tap::Tap;
use penjing::model::{Loaded, Pass, Start, load};
use penjing::parity;
use penjing::score::Problem;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/stories260k")
}

fn loaded() -> Loaded {
    tch::set_num_threads(1);
    load(folder().to_str().unwrap()).unwrap()
}

/// The residual stream after each block.
struct Residuals(Vec<Tensor>);

impl Tap for Residuals {
    fn wants(&self, site: Site) -> bool {
        matches!(site, Site::BlockIn(Layer(_)) | Site::BlockOut(_))
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        if site == Site::BlockIn(Layer(0)) || matches!(site, Site::BlockOut(_)) {
            self.0.push(value.shallow_clone());
        }
        value
    }
}

#[track_caller]
fn close(found: &Tensor, expected: &Value) {
    let found: Vec<f64> = Vec::try_from(found.to_kind(Kind::Double).contiguous().view(-1)).unwrap();
    let expected: Vec<f64> = serde_json::from_value(expected.clone()).unwrap();
    assert_eq!(found.len(), expected.len());
    let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-4, "{worst}");
}

#[test]
fn logits_and_residuals_are_the_reference_s() {
    let loaded = loaded();
    let reference: Value = serde_json::from_slice(&std::fs::read(folder().join("reference.json")).unwrap()).unwrap();
    let ids: Vec<i64> = serde_json::from_value(reference["input_ids"].clone()).unwrap();
    let encoded = loaded.tokenizer.encode(reference["text"].as_str().unwrap()).unwrap().ids;
    assert!(ids.iter().zip(encoded).all(|(id, encoded)| *id == i64::from(encoded)));
    let mut residuals = Residuals(Vec::new());
    let tokens = Tensor::from_slice(&ids).unsqueeze(0); // [1, pos]
    let logits = loaded.model.forward(Start::Tokens(&tokens), &Pass::ALL, &mut residuals).squeeze_dim(0); // [pos, vocab]
    close(&logits.get(-1), &reference["logits_last"]);
    let best: Vec<i64> = Vec::try_from(logits.argmax(-1, false)).unwrap();
    assert_eq!(serde_json::to_value(best).unwrap(), reference["argmax_each_position"]);
    let expected = reference["resid_last_position_after_block"].as_array().unwrap();
    assert_eq!(residuals.0.len(), expected.len());
    for (found, expected) in residuals.0.iter().zip(expected) {
        close(&found.select(1, -1), expected);
    }
}

#[test]
fn logit_differences_of_the_pairs_are_the_reference_s() {
    let loaded = loaded();
    let dataset = parity::pairs(&folder(), &loaded).unwrap();
    let prompts: Vec<_> = dataset.pairs.iter().map(|pair| pair.prompt.clone()).collect();
    assert_eq!(tokenize(&prompts, &loaded.tokenizer, None).unwrap().pairs.len(), 64);
    let graph = Graph::new(Dimensions::of(&loaded.model.spec, KvSlots::PerQueryHead));
    let metric = MetricKind::LogitDifference;
    let bench = Bench::new(&Problem::new(&loaded.model, &graph, &dataset.pairs, metric)).unwrap();
    let text = std::fs::read_to_string(folder().join("pairs.jsonl")).unwrap();
    let runs = bench.clean().metric.iter().zip(&bench.ablated().metric);
    for (line, (clean, corrupt)) in text.lines().zip(runs) {
        let pair: Value = serde_json::from_str(line).unwrap();
        assert!((clean - pair["clean_logit_diff"].as_f64().unwrap()).abs() < 1e-4, "{clean}, {line}");
        assert!((corrupt - pair["corrupt_logit_diff"].as_f64().unwrap()).abs() < 1e-4, "{corrupt}, {line}");
    }
}

#[test]
fn its_pronoun_circuit_is_faithful_on_held_out_pairs() {
    let out = tempfile::tempdir().unwrap();
    let task = folder().join("pronouns.toml");
    let result = assert_cmd::Command::cargo_bin("penjing")
        .unwrap()
        .args(["--json", "discover", task.to_str().unwrap(), "--model", folder().to_str().unwrap()])
        .args(["--pairs", "27", "--evidence-pairs", "17", "--threads", "1", "--out", out.path().to_str().unwrap()])
        .assert()
        .success();
    let summary: Value = serde_json::from_slice(&result.get_output().stdout).unwrap();
    assert!(summary["faithfulness"].as_f64().unwrap() >= 0.9, "{summary}");
    assert!(summary["edges"].as_u64().unwrap() * 10 < summary["edges_total"].as_u64().unwrap(), "{summary}");
    assert!(summary["random_max"].as_f64().unwrap() < 0.2, "{summary}");
}
