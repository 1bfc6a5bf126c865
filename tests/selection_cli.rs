//! `penjing discover` with the rankings and filters of edges, as a user calls it.

#![cfg(feature = "torch")]

mod command;

use command::{answers, refuses};
use serde_json::Value;
use std::path::Path;
use tempfile::tempdir;

const FEW: [&str; 10] =
    ["discover", "ioi", "--model", "toy-2l", "--pairs", "16", "--evidence-pairs", "8", "--random-circuits", "1"];

/// The circuit that a command finds, and its stderr.
fn found(folder: &Path, more: &[&str]) -> (Value, String) {
    let (_, talk) = answers(folder, &[&FEW[..], more, &["--out", "run"]].concat());
    (serde_json::from_str(&std::fs::read_to_string(folder.join("run/circuit.json")).unwrap()).unwrap(), talk)
}

fn edges(circuit: &Value) -> Vec<(&str, f64)> {
    let edges = circuit["edges"].as_array().unwrap().iter();
    edges.map(|edge| (edge["name"].as_str().unwrap(), edge["score"].as_f64().unwrap())).collect()
}

#[test]
fn net_value_gives_the_size_asked_for_and_says_what_a_node_cost() {
    let folder = tempdir().unwrap();
    let (circuit, _) = found(folder.path(), &["--rank", "net-value", "--edges", "20"]);
    assert_eq!(edges(&circuit).len(), 20);
    let options = &circuit["provenance"]["selection"]["options"];
    assert_eq!((&options["rank"], &options["node_price"]), (&"net-value".into(), &2.0.into()), "{options}");
    let nodes = |circuit: &Value| circuit["nodes"].as_array().unwrap().len();
    let (dear, _) = found(folder.path(), &["--rank", "net-value", "--edges", "20", "--node-price", "20"]);
    assert_eq!(edges(&dear).len(), 20);
    assert!(nodes(&dear) < nodes(&circuit));
    // The smallest faithful circuit, found along this ranking.
    let (circuit, _) = found(folder.path(), &["--rank", "net-value", "--faithfulness", "0.8"]);
    assert_eq!(circuit["provenance"]["selection"]["rule"], "faithfulness");
    assert!(edges(&circuit).len() < 40);
}

#[test]
fn consistent_edges_and_shares_of_helpful_ones_are_recorded() {
    let folder = tempdir().unwrap();
    let (circuit, talk) = found(folder.path(), &["--consistent", "--edges", "110", "--no-refine"]);
    let record = &circuit["provenance"]["selection"]["options"]["consistent"];
    let kept = record["edges"].as_u64().unwrap() as usize;
    assert_eq!((&record["level"], &record["resamples"]), (&0.95.into(), &200.into()));
    assert!(talk.contains(&format!("{kept} of 110 edges have scores of one sign")), "{talk}");
    // All edges were asked for: what has no sign of its own is not among them, nor what led only there.
    assert!(edges(&circuit).len() <= kept && kept < 110, "{kept}");
    assert!(edges(&circuit).iter().all(|(_, score)| *score != 0.0));

    let (circuit, _) = found(folder.path(), &["--positive-share", "0.25", "--edges", "20", "--no-refine"]);
    let options = &circuit["provenance"]["selection"]["options"];
    assert_eq!((&options["rank"], options["ranked"].as_u64()), (&"absolute".into(), Some(20)));
    assert_eq!(options["positive_share"], 0.25);
    let helpful = edges(&circuit).iter().filter(|(_, score)| *score > 0.0).count();
    assert!((1..=5).contains(&helpful) && edges(&circuit).len() > helpful, "{helpful}");
}

#[test]
fn choices_that_make_no_sense_are_refused() {
    let folder = tempdir().unwrap();
    let check = |more: &[&str], parts: &[&str]| refuses(&folder, &[&FEW[..], more].concat(), parts);
    check(&["--rank", "net-value", "--node-price", "-1"], &["--node-price -1", "hint: "]);
    check(&["--rank", "net-value", "--node-price", "NaN"], &["--node-price NaN", "hint: "]);
    check(&["--node-price", "2"], &["--rank net-value alone", "hint: add --rank net-value"]);
    check(&["--rank", "net-value", "--threshold", "1"], &["takes no --threshold", "hint: "]);
    check(&["--rank", "net-value", "--level", "node"], &["ranks no nodes", "hint: take --rank absolute"]);
    check(&["--rank", "net-value", "--level", "feature"], &["among edges", "hint: "]);
    check(&["--consistent", "--level", "node"], &["--consistent chooses among edges", "hint: leave --level out"]);
    check(&["--consistent", "--method", "acdc"], &["`acdc` scores all pairs together", "hint: "]);
    check(&["--positive-share", "-0.5"], &["--positive-share -0.5", "hint: "]);
    check(&["--positive-share", "1.5"], &["--positive-share 1.5", "hint: "]);
    check(&["--positive-share", "0.7", "--rank", "greedy"], &["a ranking of its own", "hint: leave --rank out"]);
    check(&["--positive-share", "0.7", "--threshold", "1"], &["share of a number of edges", "hint: "]);
    let one_pair = ["discover", "ioi", "--model", "toy-2l", "--pairs", "1", "--consistent"];
    refuses(&folder, &one_pair, &["no edge has a score of one sign on 1 pairs", "hint: take more --pairs"]);
}
