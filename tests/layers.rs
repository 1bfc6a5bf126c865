//! Imports point one way: the torch-free half never names libtorch or the tensor half, and nothing below the command line
//! prints, reads the environment or exits.

use std::path::{Path, PathBuf};

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The code of every file below `src` whose path starts with one of `parts`, without comments.
fn code(parts: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files: Vec<_> = sources(&root)
        .into_iter()
        .map(|path| (path.strip_prefix(&root).unwrap().to_string_lossy().into_owned(), path))
        .filter(|(name, _)| parts.iter().any(|part| name.starts_with(part)))
        .map(|(name, path)| {
            let text = std::fs::read_to_string(path).unwrap();
            let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            (name, code.join("\n"))
        })
        .collect();
    assert!(!files.is_empty(), "{parts:?} names no file");
    files
}

#[track_caller]
fn check(parts: &[&str], forbidden: &[&str]) {
    for (name, code) in code(parts) {
        for word in forbidden {
            assert!(!code.contains(word), "{name} contains `{word}`");
        }
    }
}

#[test]
fn the_torch_free_half_knows_no_tensors() {
    check(
        &[
            "task/",
            "tokenizer.rs",
            "dataset.rs",
            "metric.rs",
            "identity.rs",
            "shard.rs",
            "spans.rs",
            "statistics/",
            "ablation.rs",
            "graph/",
            "circuit/",
            "render/",
            "report/",
            "compare/",
            "model/spec.rs",
            "model/site.rs",
        ],
        &[
            "tch::",
            "crate::score",
            "crate::eval",
            "crate::measure",
            "crate::discover",
            "crate::truth",
            "crate::model::Model",
        ],
    );
}

#[test]
fn the_model_knows_no_task_and_no_circuit() {
    check(
        &["model/"],
        &["crate::task", "crate::circuit", "crate::graph", "crate::score", "crate::eval", "crate::discover"],
    );
    check(
        &["dictionary/"],
        &["crate::task", "crate::circuit", "crate::inside", "crate::intervene", "crate::model::Model"],
    );
    check(&["graph/"], &["crate::circuit", "crate::render", "crate::task"]);
    check(&["score/"], &["crate::eval", "crate::discover", "crate::circuit", "crate::render"]);
    check(&["eval/"], &["crate::discover", "crate::render", "crate::truth"]);
    check(&["statistics/"], &["crate::circuit", "crate::graph", "crate::eval"]);
    check(&["truth/"], &["crate::discover", "crate::render", "crate::report"]);
}

#[test]
fn only_the_command_line_talks() {
    let below = [
        "task/",
        "tokenizer.rs",
        "dataset.rs",
        "metric.rs",
        "error.rs",
        "identity.rs",
        "shard.rs",
        "spans.rs",
        "statistics/",
        "truth/",
        "ablation.rs",
        "graph/",
        "circuit/",
        "render/",
        "model/",
        "measure/",
        "score/",
        "eval/",
        "discover/",
        "intervene/",
        "dictionary/",
    ];
    check(&below, &["println!", "print!(", "process::exit", "std::env::var", "signal_hook", "dbg!"]);
}
