//! The command line as a user meets it: what a run writes, and what bad input is told.

#![cfg(feature = "torch")]

use assert_cmd::Command;
use serde_json::Value;
use std::path::Path;
use tempfile::{TempDir, tempdir};

fn penjing(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penjing"));
    command.current_dir(folder);
    command
}

/// Exit code 2, what went wrong and a hint on stderr, nothing on stdout, no backtrace.
#[track_caller]
fn refuses(folder: &TempDir, arguments: &[&str], parts: &[&str]) {
    let output = penjing(folder.path()).args(arguments).output().unwrap();
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {talk}");
    assert!(output.stdout.is_empty(), "{arguments:?} wrote data");
    assert!(!talk.contains("Exception raised") && !talk.contains("panicked"), "{talk}");
    for part in parts {
        assert!(talk.contains(part), "{arguments:?} does not say `{part}`:\n{talk}");
    }
}

#[test]
fn discover_finds_proves_and_repeats_itself_byte_by_byte() {
    let folder = tempdir().unwrap();
    let run = |out: &str| -> Value {
        let arguments =
            ["discover", "ioi", "--pairs", "24", "--evidence-pairs", "24", "--random-circuits", "5", "--out", out];
        let output = penjing(folder.path()).args(arguments).arg("--json").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let found = run("first");
    assert!(found["faithfulness"].as_f64().unwrap() >= 0.9, "{found}");
    assert!(found["edges"].as_f64().unwrap() <= 0.15 * found["edges_total"].as_f64().unwrap(), "{found}");
    assert!(found["random_mean"].as_f64().unwrap() < 0.3, "{found}");
    run("second");
    for file in ["circuit.json", "scores.json", "circuit.dot", "circuit.svg"] {
        let read = |out: &str| std::fs::read(folder.path().join(out).join(file)).unwrap();
        assert!(read("first") == read("second"), "{file} differs between two equal runs");
    }
    let names: Vec<_> =
        std::fs::read_dir(folder.path().join("first")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 5, "{names:?}");
}

#[test]
fn an_exact_number_of_edges_is_pruned_and_nothing_else() {
    let folder = tempdir().unwrap();
    let arguments =
        ["discover", "ioi", "--edges", "40", "--no-refine", "--pairs", "8", "--evidence-pairs", "8", "--json"];
    let output = penjing(folder.path()).args(arguments).output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!((1..=40).contains(&found["edges"].as_u64().unwrap()), "{found}");
}

/// A circuit found without the beginning-of-text token is measured without it, unless somebody says otherwise.
#[test]
fn evaluation_takes_prompts_as_discovery_did() {
    let folder = tempdir().unwrap();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/stories260k");
    let task = format!("{model}/pronouns.toml");
    let run = |arguments: &[&str]| -> f64 {
        let output = penjing(folder.path()).args(arguments).args(["--model", model, "--json"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        found["metric_model"].as_f64().unwrap()
    };
    let discover = ["discover", &task, "--edges", "20", "--no-refine", "--pairs", "4", "--evidence-pairs", "6"];
    let found = run(&[&discover[..], &["--random-circuits", "1", "--bos", "never", "--out", "run"]].concat());
    let evaluate = ["evaluate", "run/circuit.json", "--task", &task, "--pairs", "6", "--seed", "0"];
    let evaluate = [&evaluate[..], &["--random-circuits", "1"]].concat();
    assert_eq!(run(&evaluate), found);
    let with_token = run(&[&evaluate[..], &["--bos", "always"]].concat());
    assert!((with_token - found).abs() > 0.01, "{with_token} with the token, {found} without");
}

#[test]
fn bad_usage_is_refused_with_a_hint() {
    let folder = tempdir().unwrap();
    let discover = |more: &[&'static str]| [&["discover", "ioi"], more].concat();
    refuses(&folder, &discover(&["--edges", "0"]), &["0 edges", "hint: "]);
    refuses(&folder, &discover(&["--edges", "480"]), &["480", "479", "hint: "]);
    refuses(&folder, &discover(&["--model", "toy-41"]), &["`toy-41`", "hint: did you mean `toy-4l`?"]);
    refuses(&folder, &discover(&["--method", "eap-gi"]), &["eap-gi", "hint: "]);
    refuses(&folder, &discover(&["--pairs", "0"]), &["--pairs 0", "hint: "]);
    refuses(&folder, &discover(&["--pairs", "100000000"]), &["100000000", "hint: "]);
    refuses(&folder, &discover(&["--out", "/proc/none"]), &["/proc/none"]);
    refuses(
        &folder,
        &discover(&["--memory", "1MB"]),
        &["even one pair at a time needs", "1.0 MB may be used", "hint: "],
    );
    refuses(&folder, &discover(&["--memory", "much"]), &["`much`", "hint: "]);
    refuses(&folder, &discover(&["--device", "gpu"]), &["`gpu`", "hint: "]);
    refuses(&folder, &["discover", "oi"], &["oi", "hint: "]);
    refuses(&folder, &["discover", "missing.toml"], &["missing.toml", "hint: "]);
    refuses(&folder, &["evaluate", "missing.json"], &["missing.json", "hint: "]);
}

#[test]
fn the_readme_s_task_works_on_the_default_model() {
    let readme = include_str!("../README.md");
    let task = readme.split("```toml").nth(1).unwrap().split("```").next().unwrap();
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join("swap.toml"), task).unwrap();
    penjing(folder.path()).args(["task", "check", "swap.toml", "--model", "toy-4l"]).assert().success();
}
