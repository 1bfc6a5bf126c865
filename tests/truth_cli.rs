//! `penjing bench truth` as a user calls it.

#![cfg(feature = "torch")]

mod command;

use command::{answers, json, penjing, refuses};
use penjing::ablation::Ablation;
use penjing::graph::Level;
use penjing::score::{Method, Settings};
use serde_json::Value;
use tempfile::tempdir;

const QUICK: [&str; 6] = ["bench", "truth", "--pairs", "8", "--model", "proportion"];

fn with(arguments: &[&'static str]) -> Vec<&'static str> {
    [&QUICK[..], arguments].concat()
}

#[test]
fn every_method_gets_a_row() {
    let folder = tempdir().unwrap();
    let (found, talk) = answers(&folder, &with(&["--norm", "without", "--ablation", "zero", "--ablation", "zero"]));
    let rows = found["rows"].as_array().unwrap();
    let methods: Vec<&str> = rows.iter().filter_map(|row| row["method"].as_str()).collect();
    let able = |method: &Method| method.check_level(Level::Edge, Ablation::Zero).is_ok();
    let all = Method::all(&Settings::default());
    assert_eq!(methods, all.iter().filter(|method| able(method)).map(Method::name).collect::<Vec<_>>());
    assert!(talk.contains("clean-corrupted does not work with ablation zero"), "{talk}");
    let of = |method: &str| rows.iter().find(|row| row["method"] == method).unwrap();
    assert_eq!((of("exact")["auroc"].as_f64(), of("exact")["missed"].to_string()), (Some(1.0), "[]".into()));
    assert!(of("random")["auroc"].as_f64().unwrap() < 0.9, "{found}");
    assert!(!of("random")["missed"].as_array().unwrap().is_empty(), "{found}");
    let edges = ["input->a0.h0<v>", "a0.h0->m1", "a0.h0->logits", "m1->logits"];
    let truth: Vec<&str> = found["models"][0]["truth"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(truth, edges);
}

#[test]
fn files_and_text_hold_the_same_rows_and_are_the_same_again() {
    let folder = tempdir().unwrap();
    let arguments = with(&["--method", "eap", "--method", "random", "--ablation", "counterfactual", "--out", "found"]);
    let run = || {
        let output = penjing(&folder).args(&arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let read = |name: &str| std::fs::read_to_string(folder.path().join("found").join(name)).unwrap();
        (String::from_utf8(output.stdout).unwrap(), read("truth.json"), read("truth.md"))
    };
    let (said, document, page) = run();
    assert_eq!(run(), (said.clone(), document.clone(), page.clone()));
    let document: Value = serde_json::from_str(&document).unwrap();
    let rows = document["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    for row in rows {
        let number = format!("{:.3}", row["auroc"].as_f64().unwrap());
        assert!(said.contains(&number) && page.contains(&number), "{number}");
    }
    assert!(said.contains("Medians over 1 models"), "{said}");
    assert!(page.contains("### Without norms, counterfactual") && page.contains("### With LayerNorm, counterfactual"));
    assert_eq!(json(&folder, &arguments), document);
}

#[test]
fn mistakes_are_refused_with_a_hint() {
    let folder = tempdir().unwrap();
    let refused = |arguments: &[&str], says: &[&str]| {
        refuses(&folder, &[&["bench", "truth"], arguments].concat(), says);
    };
    refused(&["--model", "inductoin"], &["no compiled model is called `inductoin`", "did you mean `induction`?"]);
    refused(&["--method", "eap-gi"], &["no method is called `eap-gi`", "did you mean `eap-ig`?"]);
    refused(&["--method", "activation-patching"], &["no scores at the level of edges"]);
    refused(&["--ablation", "none"], &["none"]);
    refused(&["--pairs", "0"], &["--pairs 0", "take 64"]);
    refused(&["--pairs", "10000000000"], &["--pairs 10000000000", "take 64"]);
    refused(&["--noise=-1"], &["noise of -1"]);
    refused(&["--noise", "inf"], &["noise of inf"]);
    refused(&["--method", "clean-corrupted", "--ablation", "mean"], &["no method of these", "counterfactual"]);
}
