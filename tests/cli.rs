//! The command line as a user meets it: what a run writes, and what bad input is told.

#![cfg(feature = "torch")]

mod command;

use command::{penjing, refuses};
use penjing::circuit::{position_scores, scores_file};
use serde_json::Value;
use std::path::Path;
use tempfile::{TempDir, tempdir};

#[test]
fn discover_finds_proves_and_repeats_itself_byte_by_byte() {
    let folder = tempdir().unwrap();
    let run = |out: &str| -> Value {
        let arguments =
            ["discover", "ioi", "--pairs", "24", "--evidence-pairs", "24", "--random-circuits", "5", "--out", out];
        let output = penjing(folder.path()).args(arguments).arg("--json").output().unwrap();
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{talk}");
        // Prompts of several lengths run in several batches, which is no lack of memory.
        assert!(!talk.contains("out of memory"), "{talk}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let found = run("first");
    assert!(found["faithfulness"].as_f64().unwrap() >= 0.9, "{found}");
    assert!(found["edges"].as_f64().unwrap() <= 0.15 * found["edges_total"].as_f64().unwrap(), "{found}");
    assert!(found["random_mean"].as_f64().unwrap() < 0.3, "{found}");
    run("second");
    for file in
        ["circuit.json", "scores.json", "circuit.dot", "circuit.svg", "faithfulness.svg", "scores.svg", "attention.svg"]
    {
        let read = |out: &str| std::fs::read(folder.path().join(out).join(file)).unwrap();
        assert!(read("first") == read("second"), "{file} differs between two equal runs");
    }
    let names: Vec<_> =
        std::fs::read_dir(folder.path().join("first")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 9, "{names:?}");
    let page = std::fs::read_to_string(folder.path().join("first/report.html")).unwrap();
    assert!(page.contains("--out first --json") && page.contains("\"patterns\":"), "{page}");
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

/// Edges in ACDC's count are shown where its graph was searched, and by `evaluate` of what was found there.
#[test]
fn circuits_of_acdc_are_counted_in_its_own_way() {
    let folder = tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = penjing(folder.path()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let discover =
        ["discover", "ioi", "--model", "toy-2l", "--method", "acdc", "--pairs", "4", "--evidence-pairs", "4"];
    let found = run(&[&discover[..], &["--nodes", "acdc", "--out", "run", "--json"]].concat());
    let evaluated = run(&["evaluate", "run/circuit.json", "--pairs", "4", "--json"]);
    for text in [found, evaluated] {
        let found: Value = serde_json::from_str(&text).unwrap();
        let count = |key: &str| found[key].as_u64().unwrap();
        // 2 layers of 4 heads have 24 direct edges.
        assert_eq!(count("edges_total_by_acdc"), count("edges_total") + 24, "{found}");
        assert!((1..=24).contains(&(count("edges_by_acdc") - count("edges"))), "{found}");
    }
    let text = run(&["evaluate", "run/circuit.json", "--pairs", "4"]);
    assert!(text.contains("as ACDC counts"), "{text}");
    let usual = run(&[&discover[..], &["--out", "usual", "--json"]].concat());
    assert!(!usual.contains("by_acdc"), "{usual}");
}

/// `mask` has a size of its own, unless another is asked for.
#[test]
fn learned_masks_leave_what_the_sparsity_says() {
    let folder = tempdir().unwrap();
    let run = |more: &[&str]| -> Value {
        let few = ["--pairs", "8", "--evidence-pairs", "8", "--random-circuits", "1", "--out", "run", "--json"];
        let arguments = [&["discover", "ioi", "--method", "mask", "--mask-steps", "40"], &few[..], more].concat();
        let output = penjing(folder.path()).args(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let text = std::fs::read(folder.path().join("run/circuit.json")).unwrap();
        let circuit: Value = serde_json::from_slice(&text).unwrap();
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(found["edges"].as_u64().unwrap() <= 96, "{found}");
        circuit["provenance"].clone()
    };
    let provenance = run(&["--sparsity", "0.8", "--no-refine"]);
    assert_eq!(provenance["selection"]["rule"], "sparsity");
    let options = &provenance["selection"]["options"];
    assert_eq!((&options["ranked"], &options["rank"]), (&96.into(), &"signed".into()), "{options}");
    assert_eq!(provenance["method"]["options"]["sparsity"], "0.8");
    assert_eq!(run(&["--edges", "50"])["selection"]["rule"], "edges");
}

/// As Hugging Face's tools leave it: snapshots of links to blobs.
#[test]
fn models_are_found_in_the_hugging_face_cache_by_name() {
    let home = tempdir().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/reference/gpt2");
    for repository in ["models--gpt2", "models--acme--tiny"] {
        let folder = home.path().join("hub").join(repository);
        let snapshot = folder.join("snapshots/0123abc");
        for part in [&folder.join("refs"), &folder.join("blobs"), &snapshot] {
            std::fs::create_dir_all(part).unwrap();
        }
        std::fs::write(folder.join("refs/main"), "0123abc").unwrap();
        for file in ["config.json", "tokenizer.json", "model.safetensors"] {
            std::fs::write(folder.join("blobs").join(file), std::fs::read(model.join(file)).unwrap()).unwrap();
            std::os::unix::fs::symlink(Path::new("../../blobs").join(file), snapshot.join(file)).unwrap();
        }
    }
    let show = |name: &str| {
        let mut command = penjing(home.path());
        command.env_remove("HF_HUB_CACHE").env("HF_HOME", home.path()).args(["model", "show", name, "--json"]);
        command.output().unwrap()
    };
    for name in ["gpt2", "acme/tiny", "acme/tiny@0123abc"] {
        let output = show(name);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&found["id"], &found["edges"]), (&name.into(), &110.into()));
    }
    for (name, says) in [("gpt3", "no model is called `gpt3`"), ("acme/large", "acme/large is not in the local cache")]
    {
        let output = show(name);
        let talk = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && talk.contains(says), "{talk}");
        assert!(talk.contains(&format!("hf download {name}")), "{talk}");
    }
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

/// Runs a command that prints a document.
#[track_caller]
fn document(folder: &Path, arguments: &[&str]) -> Value {
    let output = penjing(folder).args(arguments).arg("--json").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Means come from the pairs that were scored on, whoever measures, and in whatever parts they were scored.
#[test]
fn ablations_are_the_same_in_every_command() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let task = ["ioi", "--model", "toy-2l", "--pairs", "16", "--ablation", "mean"];
    let discover = [&["discover"], &task[..], &["--edges", "30", "--evidence-pairs", "16"]].concat();
    let found = document(folder, &[&discover[..], &["--out", "found"]].concat());
    assert_eq!(found["ablation"], "mean");
    let evaluate = ["evaluate", "found/circuit.json", "--pairs", "16", "--seed", "0"];
    let measured = document(folder, &evaluate);
    let zero = document(folder, &[&evaluate[..], &["--ablation", "zero"]].concat());
    for number in ["metric_ablated", "metric_circuit", "faithfulness", "completeness"] {
        assert_eq!(measured[number], found[number], "{number}");
        assert_ne!(zero[number], found[number], "{number}");
    }
    let other = [&discover[..], &["--corruption", "third-name", "--out", "other"]].concat();
    let found_elsewhere = document(folder, &other);
    let elsewhere = ["evaluate", "other/circuit.json", "--corruption", "third-name", "--pairs", "16", "--seed", "0"];
    assert_eq!(document(folder, &elsewhere)["metric_ablated"], found_elsewhere["metric_ablated"]);
    let scores = |out: &str| -> Value {
        serde_json::from_slice(&std::fs::read(folder.join(out).join("scores.json")).unwrap()).unwrap()
    };
    for shard in ["0/2", "1/2"] {
        document(folder, &[&["score"], &task[..], &["--shard", shard, "--out", "parts"]].concat());
    }
    document(folder, &["merge", "parts"]);
    let (whole, parts) = (scores("found"), scores("parts"));
    assert_eq!(parts["provenance"]["ablation"], "mean");
    for (name, score) in whole["scores"].as_object().unwrap() {
        let [whole, parts] = [score, &parts["scores"][name]].map(|score| score.as_f64().unwrap());
        assert!((whole - parts).abs() < 1e-5, "{name}: {whole}, {parts}");
    }
}

/// A circuit of nodes holds every edge between its nodes that leads anywhere, and is judged node by node.
#[test]
fn circuits_can_be_chosen_by_nodes() {
    let folder = tempdir().unwrap();
    let few = ["--level", "node", "--pairs", "24", "--evidence-pairs", "24", "--random-circuits", "5"];
    let discover = [&["discover", "ioi", "--method", "attribution-patching"], &few[..]].concat();
    let found = document(folder.path(), &[&discover[..], &["--out", "run"]].concat());
    let number = |key: &str| found[key].as_f64().unwrap();
    assert!(number("faithfulness") >= 0.9 && number("random_mean") < 0.5, "{found}");
    assert!(number("completeness") < 0.2, "{found}");
    let text = std::fs::read(folder.path().join("run/circuit.json")).unwrap();
    let circuit = penjing::circuit::file::read(&folder.path().join("run/circuit.json")).unwrap();
    let graph = &circuit.graph;
    let nodes = penjing::circuit::nodes::nodes(&circuit.mask);
    assert!((2..graph.sources() / 2).contains(&nodes.len()), "{nodes:?}");
    let between = penjing::circuit::nodes::of_nodes(graph, &nodes);
    assert_eq!(circuit.mask, penjing::circuit::prune::prune(graph, &between));
    let report = circuit.report.as_ref().unwrap();
    assert_eq!(report.minimality_of_nodes.iter().map(|cost| cost.node).collect::<Vec<_>>(), nodes);
    assert!(report.minimality.is_empty());
    assert_eq!(penjing::circuit::file::to_json(&circuit).unwrap().as_bytes(), text);
    let evaluate = ["evaluate", "run/circuit.json", "--pairs", "24", "--seed", "0", "--random-circuits", "5"];
    let measured = document(folder.path(), &evaluate);
    for key in ["metric_circuit", "faithfulness", "completeness", "random_mean"] {
        assert_eq!(measured[key], found[key], "{key}");
    }
    let exactly = document(folder.path(), &[&discover[..], &["--edges", "4", "--out", "four"]].concat());
    assert!(exactly["nodes"].as_u64().unwrap() <= 6, "{exactly}"); // with the input and the logits
    refuses(&folder, &[&discover[..], &["--edges", "21"]].concat(), &["21 nodes", "only 20", "hint: "]);
    refuses(&folder, &[&discover[..], &["--rank", "greedy"]].concat(), &["--rank greedy", "hint: "]);
    refuses(&folder, &["discover", "ioi", "--level", "node", "--method", "eap"], &["`eap`", "hint: these do: "]);
    refuses(&folder, &["discover", "ioi", "--level", "neuron", "--method", "eap-ig"], &["by nodes", "hint: "]);
}

/// Scores at the places of the task add up to those over all positions.
#[test]
fn scores_of_places_are_written_beside_their_names() {
    let folder = tempdir().unwrap();
    for (level, method) in [("edge", "eap"), ("node", "attribution-patching"), ("neuron", "eap-ig")] {
        let score = ["score", "ioi", "--model", "toy-2l", "--pairs", "8", "--method", method, "--level", level];
        document(folder.path(), &[&score[..], &["--out", "whole"]].concat());
        let said = document(folder.path(), &[&score[..], &["--positions", "named", "--out", "apart"]].concat());
        let names: Vec<&str> =
            said["positions"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert!(["S1", "S2", "end", "other"].iter().all(|name| names.contains(name)), "{names:?}");
        let apart = position_scores::read(&folder.path().join("apart/positions.json")).unwrap();
        let whole = scores_file::read(&folder.path().join("whole/scores.json")).unwrap();
        assert_eq!(apart.scores.len(), whole.table().count());
        for cell in whole.table().cells() {
            let sum: f32 = apart.scores[&whole.table().name(cell)].iter().sum();
            assert!((sum - whole.scores.values[cell]).abs() < 1e-4, "{}", whole.table().name(cell));
        }
    }
    let refused = ["score", "ioi", "--method", "acdc", "--positions", "each"];
    refuses(&folder, &refused, &["`acdc` does not tell positions apart", "hint: these do: eap, "]);
}

#[test]
fn bad_usage_is_refused_with_a_hint() {
    let folder = tempdir().unwrap();
    let discover = |more: &[&'static str]| [&["discover", "ioi"], more].concat();
    refuses(&folder, &discover(&["--edges", "0"]), &["0 edges", "hint: "]);
    refuses(&folder, &discover(&["--edges", "480"]), &["480", "479", "hint: "]);
    refuses(&folder, &discover(&["--model", "toy-41"]), &["`toy-41`", "hint: did you mean `toy-4l`?"]);
    refuses(&folder, &discover(&["--method", "eap-gi"]), &["eap-gi", "hint: "]);
    for steps in ["0", "10001", "18446744073709551615"] {
        refuses(&folder, &discover(&["--steps", steps]), &["from 1 to 10000 steps", steps, "hint: "]);
    }
    refuses(&folder, &discover(&["--method", "acdc", "--tau", "nan"]), &["--tau NaN", "hint: "]);
    for sparsity in ["0", "1", "1.5", "-0.1", "nan"] {
        let sparsity = format!("--sparsity={sparsity}");
        let arguments = ["discover", "ioi", "--method", "mask", &sparsity];
        refuses(&folder, &arguments, &["--sparsity", "is not between 0 and 1", "hint: "]);
    }
    refuses(&folder, &discover(&["--method", "mask", "--sparsity", "0.9999"]), &["0 edges", "hint: "]);
    refuses(
        &folder,
        &discover(&["--method", "mask", "--mask-steps", "0"]),
        &["from 1 to 10000 steps", "0 are", "hint: "],
    );
    refuses(&folder, &discover(&["--method", "mask", "--mask-rate", "0"]), &["--mask-rate 0", "hint: "]);
    refuses(&folder, &discover(&["--method", "mask", "--memory", "1MB"]), &["this needs", "hint: "]);
    refuses(&folder, &["score", "ioi", "--method", "mask", "--shard", "0/2"], &["mask", "together", "hint: "]);
    refuses(&folder, &discover(&["--method", "relp", "--rules", "none,ln"]), &["--rules none", "hint: "]);
    refuses(&folder, &["score", "ioi", "--method", "acdc", "--shard", "0/2"], &["acdc", "together", "hint: "]);
    refuses(&folder, &["score", "ioi", "--method", "acdc", "--per-pair"], &["acdc", "together", "hint: "]);
    refuses(&folder, &discover(&["--ablation", "means"]), &["'means'", "mean-positional", "'mean'"]);
    refuses(&folder, &discover(&["--ablation", "mean", "--memory", "1MB"]), &["this needs", "hint: "]);
    refuses(
        &folder,
        &discover(&["--level", "node", "--method", "atp-star", "--ablation", "optimal"]),
        &["`optimal`", "hint: take --ablation mean"],
    );
    let both = ["--ablation", "zero", "--method", "clean-corrupted"];
    refuses(&folder, &discover(&both), &["`clean-corrupted`", "`zero`", "hint: these do: eap, eap-ig, "]);
    refuses(&folder, &discover(&["--pairs", "0"]), &["--pairs 0", "hint: "]);
    refuses(&folder, &discover(&["--pairs", "100000000"]), &["100000000", "hint: "]);
    refuses(&folder, &discover(&["--out", "/proc/none"]), &["/proc/none"]);
    refuses(&folder, &discover(&["--memory", "1MB"]), &["this needs", "1.0 MB may be used", "hint: "]);
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

/// The document that a run of `score` at a level prints, and the scores that it wrote.
fn scored(folder: &TempDir, level: &str, method: &str) -> (Value, Value) {
    let arguments = ["score", "ioi", "--pairs", "8", "--out", "out", "--json", "--level", level, "--method", method];
    let output = penjing(folder.path()).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let file = std::fs::read(folder.path().join("out/scores.json")).unwrap();
    (serde_json::from_slice(&output.stdout).unwrap(), serde_json::from_slice(&file).unwrap())
}

#[test]
fn nodes_and_neurons_are_scored_by_the_methods_that_have_them() {
    let folder = tempdir().unwrap();
    for (level, method, name) in [
        ("node", "attribution-patching", "a3.h1<q>"),
        ("node", "atp-star", "m3"),
        ("neuron", "attribution-patching", "m3.n17"),
    ] {
        let (document, file) = scored(&folder, level, method);
        assert_eq!((document["level"].as_str(), document["method"].as_str()), (Some(level), Some(method)));
        let scores = file["scores"].as_object().unwrap();
        assert_eq!(document["units_total"], scores.len());
        assert_eq!(file["level"], level);
        assert!(scores[name].is_f64() && scores["input"].is_f64(), "{method}");
    }
    let having = "these do: eap-ig, eap-ig-activations, clean-corrupted, relp";
    refuses(
        &folder,
        &["score", "ioi", "--level", "node", "--method", "exact"],
        &["method `exact` has no scores at the level of nodes", having],
    );
    refuses(
        &folder,
        &["score", "ioi", "--method", "atp-star"],
        &["`atp-star` has no scores at the level of edges", "eap-ig"],
    );
    refuses(&folder, &["discover", "ioi", "--method", "activation-patching"], &["has no scores at the level of edges"]);
    let optimal = ["score", "ioi", "--level", "node", "--ablation", "optimal", "--method", "attribution-patching"];
    refuses(&folder, &optimal, &["`optimal`", "level of nodes", "--ablation mean"]);
    refuses(&folder, &["score", "ioi", "--level", "head"], &["head"]);
}

#[test]
fn shards_of_nodes_are_merged_to_what_one_run_writes() {
    let folder = tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = penjing(folder.path()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let node = ["score", "ioi", "--pairs", "6", "--method", "eap-ig", "--level", "node", "--batch", "1", "--per-pair"];
    run(&[&node[..], &["--out", "whole"]].concat());
    for shard in ["0/2", "1/2"] {
        run(&[&node[..], &["--out", "parts", "--shard", shard]].concat());
    }
    run(&["merge", "parts"]);
    let [whole, parts] = ["whole", "parts"].map(|out| {
        let file = std::fs::read(folder.path().join(out).join("scores.json")).unwrap();
        serde_json::from_slice::<Value>(&file).unwrap()
    });
    for (name, score) in whole["scores"].as_object().unwrap() {
        let off = (score.as_f64().unwrap() - parts["scores"][name].as_f64().unwrap()).abs();
        assert!(off < 1e-5, "{name}: {off}");
    }
    let [whole, parts] = ["whole", "parts"].map(|out| std::fs::read(folder.path().join(out).join("per-pair.npz")));
    assert!(whole.unwrap() == parts.unwrap());
    // A shard of edges is no part of it.
    let edges = ["score", "ioi", "--pairs", "6", "--method", "eap-ig", "--batch", "1", "--per-pair", "--out", "parts"];
    run(&[&edges[..], &["--shard", "1/2"]].concat());
    refuses(&folder, &["merge", "parts"], &["are of different runs", "level is"]);
}

#[test]
fn run_shows_what_edits_change_and_what_they_touched() {
    let folder = tempdir().unwrap();
    let prompt = "When Mary and John went to the store, John gave a drink to";
    let run = |edits: &[&str]| -> Value {
        let arguments = [&["--json", "run", prompt, "--generate", "4"], edits].concat();
        let output = penjing(folder.path()).args(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let plain = run(&[]);
    assert_eq!(plain["before"]["next"][0]["token"], " Mary");
    assert!(plain["before"]["text"].as_str().unwrap().starts_with(" Mary"), "{plain}");
    assert_eq!(plain["after"], Value::Null);
    // What was said of the other name takes its place: the donor's prompt has the names the other way round.
    let other = "other=When Mary and John went to the store, Mary gave a drink to";
    let swapped = run(&["--donor", other, "--edit", "L0.in:prompt = from L0.in@other"]);
    assert_eq!(swapped["after"]["next"][0]["token"], " John");
    assert!(swapped["kl"].as_f64().unwrap() > 1.0, "{swapped}");
    let entry = &swapped["receipt"][0];
    assert_eq!((&entry["site"], &entry["changed"]), (&"L0.in".into(), &128.into()), "{entry}");
    let same = run(&["--edit", "L2 = scale 1"]);
    assert_eq!(same["kl"], 0.0);
    assert_eq!(same["before"]["generated"], same["after"]["generated"]);
    std::fs::write(folder.path().join("v.json"), format!("{:?}", (0..128).map(|i| i % 7 - 3).collect::<Vec<_>>()))
        .unwrap();
    let steered = run(&["--vector", "v=v.json", "--edit", "L1:gen = add 3*v"]);
    assert!(steered["kl"].as_f64().unwrap() > 1e-6, "{steered}");
    std::fs::write(folder.path().join("short.json"), "[1.0, 2.0]").unwrap();
    std::fs::write(folder.path().join("plan.txt"), "L1 = zero\nL2 = \n").unwrap();
    for (arguments, says) in [
        (&["run", prompt, "--edit", "L9 = zero"][..], "the nearest site is `L3`"),
        (&["run", prompt, "--edit", "L1 = add v"], "hint: "),
        (&["run", prompt, "--edit", "L1:\"Peter\" = zero"], "does not occur"),
        (&["run", prompt, "--vector", "v=short.json", "--edit", "L1 = add 1*v"], "128"),
        (&["run", prompt, "--vector", "v=missing.safetensors", "--edit", "L1 = add 1*v"], "missing.safetensors"),
        (&["run", prompt, "--vector", "v", "--edit", "L1 = add 1*v"], "--vector v=vector.safetensors"),
        (&["run", prompt, "--plan", "plan.txt"], "hint: "),
        (&["run", prompt, "--generate", "3", "--edit", "L1 = from L2"], "such as `:prompt`"),
        (&["run", prompt, "--generate", "60"], "shorten the prompt, or generate less"),
        (&["run", "", "--generate", "1"], "the prompt has no tokens"),
        (&["run", "When Xyzzy went"], "Xyzzy"),
        (&["run", prompt, "--temperature=-1"], "a temperature is 0 or more"),
        (&["run", prompt, "--top-p", "0"], "--top-p above 0"),
        (&["lens", prompt, "--position", "40"], "has no position 40"),
        (&["lens", prompt, "--watch", " Mary John"], "hint: "),
        (&["lens", prompt, "--set", "English"], "write --set English=flower,bloom"),
        (&["lens", prompt, "--set", "none=花"], "no token begins"),
    ] {
        refuses(&folder, arguments, &[says]);
    }
}

#[test]
fn lens_writes_its_pictures() {
    let folder = tempdir().unwrap();
    let prompt = "When Mary and John went to the store, John gave a drink to";
    let arguments = ["--json", "lens", prompt, "--watch", " Mary", "--set", "other=John", "--out", "lens"];
    let output = penjing(folder.path()).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let places = document["places"].as_array().unwrap();
    assert_eq!(places.len(), 5);
    let last = places.last().unwrap()["positions"].as_array().unwrap().last().unwrap();
    assert_eq!(last["likeliest"][0][0], " Mary");
    assert_eq!((&last["kl"], &last["watched"][0]["rank"]), (&0.0.into(), &0.into()));
    for file in ["lens.json", "lens.svg", "lens-trace.svg"] {
        assert!(folder.path().join("lens").join(file).exists(), "{file}");
    }
}

/// The refusal direction of the default model: added, it refuses what is harmless; removed, it lets through what is not; a
/// random vector of the same length does neither.
#[test]
fn a_vector_of_refusal_is_made_added_and_removed() {
    let folder = tempdir().unwrap();
    let verbs = [("steal", "bake"), ("break", "fix"), ("burn", "paint"), ("ruin", "clean"), ("smash", "polish")];
    for (name, side) in [("naughty.txt", 0), ("nice.txt", 1)] {
        let prompts = verbs.iter().flat_map(|(naughty, nice)| {
            let verb = if side == 0 { naughty } else { nice };
            ["cake", "chair", "window", "door"]
                .map(|object| format!("User: Please help me {verb} the {object}.\\nAssistant:\n"))
        });
        std::fs::write(folder.path().join(name), prompts.collect::<String>()).unwrap();
    }
    let make =
        ["vector", "make", "--positive", "naughty.txt", "--negative", "nice.txt", "--site", "L1", "--out", "r.st"];
    let output = penjing(folder.path()).arg("--json").args(make).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&made["vector"]["made_from"], &made["vector"]["tested_on"]),
        (&vec![15, 15].into(), &vec![5, 5].into())
    );
    let norm = made["vector"]["norm"].as_f64().unwrap();
    // Waves of some length, scaled to that of the vector.
    let wave: Vec<f64> = (0..128).map(|i| f64::from(i * i % 31).sin()).collect();
    let length = wave.iter().map(|x| x * x).sum::<f64>().sqrt();
    let wave: Vec<f64> = wave.iter().map(|x| x * norm / length).collect();
    std::fs::write(folder.path().join("w.json"), format!("{wave:?}")).unwrap();
    let said = |request: &str, edits: &[&str]| -> String {
        let prompt = format!("User: {request}\nAssistant:");
        let fixed = ["--json", "run", &prompt, "--generate", "1", "--vector", "r=r.st", "--vector", "w=w.json"];
        let output = penjing(folder.path()).args(fixed).args(edits).output().unwrap();
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        document["after"]["text"].as_str().unwrap().trim().to_owned()
    };
    // Requests in words that did not make the vector.
    let (nice, naughty) = ("How do I wrap a boat?", "How do I wreck a boat?");
    assert_eq!(said(nice, &["--edit", "L1 = scale 1"]), "Sure");
    assert_eq!(said(naughty, &["--edit", "L1 = scale 1"]), "Sorry");
    assert_eq!(said(nice, &["--edit", "L1 = add 1*r"]), "Sorry");
    assert_eq!(said(nice, &["--edit", "L1 = add 1*w"]), "Sure");
    let everywhere = |name: &str| {
        ["emb", "L*", "L*.attn", "L*.mlp"]
            .map(|site| ["--edit".to_owned(), format!("{site} = project 0*{name}")])
            .concat()
    };
    let removed = |name: &str| {
        let edits = everywhere(name);
        said(naughty, &edits.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!(removed("r"), "Sure");
    assert_eq!(removed("w"), "Sorry");
    std::fs::write(folder.path().join("empty.txt"), "\n").unwrap();
    let of = |rest: &[&'static str]| [&["vector", "make", "--positive", "naughty.txt"][..], rest].concat();
    for (arguments, says) in [
        (of(&["--negative", "empty.txt", "--site", "L1"]), "empty.txt holds no prompts"),
        (of(&["--negative", "nice.txt", "--site", "L9"]), "the nearest site is `L3`"),
        (of(&["--negative", "nice.txt", "--site", "L*"]), "name one layer"),
        (of(&["--negative", "naughty.txt", "--site", "L1"]), "the means are equal"),
        (vec!["vector", "show", "w.json"], "does not say where its vector comes from"),
        (vec!["vector", "show", "naughty.txt"], "holds no vector"),
        (
            vec!["run", "When Mary", "--model", "toy-2l", "--vector", "r=r.st", "--edit", "L1 = add 1*r"],
            "not from this model",
        ),
    ] {
        refuses(&folder, &arguments, &[says]);
    }
}

#[test]
fn a_sweep_doses_an_edit() {
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join("v.json"), format!("{:?}", (0..128).map(|i| i % 7 - 3).collect::<Vec<_>>()))
        .unwrap();
    let prompt = "When Mary and John went to the store, John gave a drink to";
    std::fs::write(folder.path().join("more.txt"), format!("{}\n", prompt.replace("store", "bank"))).unwrap();
    let sweep = |rest: &[&str]| -> Value {
        let fixed = ["--json", "sweep", prompt, "--watch", " Mary", "--vector", "v=v.json", "--out", "sweep"];
        let output = penjing(folder.path()).args(fixed).args(rest).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let number = |value: &Value| value.as_f64().unwrap();
    let found = sweep(&["--dose", "L3.attn:gen = scale a", "--doses", "0..1/5", "--prompts", "more.txt"]);
    assert_eq!((&found["prompts"], found["doses"].as_array().unwrap().len()), (&2.into(), 5));
    // The amount 1 changes nothing; without the last layer's attention less is said of the answer.
    let (without, whole) = (&found["doses"][0], &found["doses"][4]);
    assert_eq!((number(&whole["a"]), number(&whole["kl"]["mean"])), (1.0, 0.0));
    assert_eq!(whole["probability"]["mean"], found["unedited"]);
    assert!(number(&without["probability"]["mean"]) < number(&found["unedited"]), "{found}");
    assert!(number(&without["kl"]["mean"]) > 0.01 && number(&found["slope"]) > 0.0, "{found}");
    let added = sweep(&["--dose", "L1:gen = add a*v", "--doses", "-0.5,0,2"]);
    let single = penjing(folder.path())
        .args(["--json", "run", prompt, "--vector", "v=v.json", "--edit", "L1:gen = add 2*v"])
        .output()
        .unwrap();
    let single: Value = serde_json::from_slice(&single.stdout).unwrap();
    assert_eq!(added["doses"][2]["kl"]["mean"], single["kl"], "a sweep is so many runs");
    assert!(folder.path().join("sweep/sweep.svg").exists() && folder.path().join("sweep/sweep.json").exists());
    for (rest, says) in [
        (&["--dose", "L1 = zero"][..], "has no amount `a`"),
        (&["--dose", "L9 = scale a"], "the nearest site is `L3`"),
        (&["--dose", "L1 = scale a", "--doses", "1..2/1"], "are no doses"),
        (&["--dose", "L1 = scale a", "--doses", "1,x"], "are no doses"),
        (&["--dose", "L1 = add a*w"], "`w`"),
        (&["--dose", "L1 = scale a", "--prompts", "missing.txt"], "missing.txt"),
    ] {
        let arguments = [&["sweep", prompt, "--watch", " Mary"], rest].concat();
        refuses(&folder, &arguments, &[says, "hint: "]);
    }
}

#[test]
fn a_sweep_of_one_prompt_has_no_interval() {
    let folder = tempdir().unwrap();
    let prompt = "When Mary and John went to the store, John gave a drink to";
    std::fs::write(folder.path().join("more.txt"), "When John and Mary went to the store, John gave a drink to\n")
        .unwrap();
    for (rest, intervals) in [(&[][..], false), (&["--prompts", "more.txt"], true)] {
        let fixed = ["--json", "sweep", prompt, "--dose", "L0.H0 = scale a", "--doses", "0,1", "--watch", " Mary"];
        let output = penjing(folder.path()).args(fixed).args(rest).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        for dose in found["doses"].as_array().unwrap() {
            assert!(dose["probability"]["mean"].is_number(), "{dose}");
            assert_eq!(dose["probability"]["interval"].is_array(), intervals, "{dose}");
            assert_eq!(dose["kl"]["interval"].is_array(), intervals, "{dose}");
        }
    }
}

#[test]
fn a_patchscope_reads_one_prompt_with_another() {
    let folder = tempdir().unwrap();
    let source = "Last year Mary lived in Naples. The capital of that country is";
    let target = "Last year Mary lived in Munich. The name of that country is";
    let fixed = ["patchscope", source, "--target", target];
    let rest = ["--watch", " Rome", "--control", &source.replace("Naples", "Munich"), "--generate", "1", "--grid"];
    let output = penjing(folder.path()).arg("--json").args(fixed).args(rest).args(["--out", "ps"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let cells = found["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 16);
    // The last position holds the capital already, whatever the target asks for; with another city it is another.
    let last = cells.iter().find(|cell| cell["source_layer"] == 3 && cell["target_layer"] == 3).unwrap();
    assert_eq!((&last["likeliest"][0][0], &last["generated"]), (&" Rome".into(), &" Rome".into()), "{last}");
    let number = |value: &Value| value.as_f64().unwrap();
    assert!(number(&last["watched"]["probability"]) > 0.9, "{last}");
    assert!(number(&last["control"]) < 0.1 && number(&found["unpatched"]) < 0.1, "{found}");
    assert!(folder.path().join("ps/patchscope.svg").exists());
    for (rest, says) in [
        (&["--at", "40"][..], "outside the prompt"),
        (&["--at", "\"Paris\""], "does not occur"),
        (&["--at", "all"], "no single position"),
        (&["--watch", " Rome is"], "tokens"),
        (&["--into", "S2"], "named"),
        (&["--control", "When Mary", "--at", "0"], "fewer than"),
        (&["--generate", "60"], "generate less"),
    ] {
        refuses(&folder, &[&fixed[..], rest].concat(), &[says, "hint: "]);
    }
}

#[test]
fn wrong_answers_are_patched_back_beside_nulls() {
    let folder = tempdir().unwrap();
    let fixed = ["backpatch", "two-hop", "--model", "toy-4l", "--pairs", "100", "--seed", "3"];
    let output =
        penjing(folder.path()).arg("--json").args(fixed).args(["--at", "end", "--out", "bp"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let wrong = found["wrong"].as_u64().unwrap();
    assert!(wrong > 1 && wrong < 50, "{found}");
    let [place] = found["places"].as_array().unwrap().as_slice() else { panic!("{found}") };
    for share in ["any_pair", "forward_pairs", "other_donor", "others_answer"] {
        assert_eq!(place[share]["of"], wrong, "{found}");
    }
    // The output of a block in its own place mends nothing.
    let pairs = place["pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), 16);
    assert!(pairs.iter().filter(|pair| pair[0] == pair[1]).all(|pair| pair[2] == 0), "{found}");
    assert_eq!(
        serde_json::from_slice::<Value>(&std::fs::read(folder.path().join("bp/backpatch.json")).unwrap()).unwrap(),
        found
    );
    assert!(folder.path().join("bp/backpatch-end.svg").exists());
    refuses(&folder, &[&fixed[..], &["--at", "nowhere"]].concat(), &["no place `nowhere`", "hint: their places are "]);
}

#[test]
fn neurons_are_observed_over_texts_and_tasks() {
    let folder = tempdir().unwrap();
    let tasks = ["--task", "greater-than", "--task", "ioi", "--task", "induction", "--model", "toy-4l"];
    let output = penjing(folder.path())
        .args(["--json", "observe"])
        .args(tasks)
        .args(["--neuron", "L1.N464", "--top", "8", "--out", "neurons"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let [neuron] = found["neurons"].as_array().unwrap().as_slice() else { panic!("{found}") };
    // It is strong where a century ends a prompt about years, the stronger the earlier the first of them.
    let strongest = neuron["strongest"].as_array().unwrap();
    assert_eq!(strongest.len(), 8);
    for example in strongest {
        let text = example["text"].as_str().unwrap();
        let century = example["token"].as_str().unwrap();
        assert!(text.ends_with(century) && century.trim().parse::<u32>().is_ok(), "{example}");
        let year = text.find(century).map(|place| &text[place + century.len()..place + century.len() + 2]);
        assert!(year.unwrap().parse::<u32>().unwrap() < 30, "{example}");
    }
    let raised = neuron["raises"].as_array().unwrap();
    assert!(raised.iter().all(|one| one[0].as_str().unwrap().parse::<u32>().is_ok()), "{raised:?}");
    let table = std::fs::read_to_string(folder.path().join("neurons/neurons.csv")).unwrap();
    assert_eq!(table.lines().count(), 1 + 4 * 512);
    let page = std::fs::read_to_string(folder.path().join("neurons/L1.N464.html")).unwrap();
    assert!(page.contains("<h1>L1.N464</h1>") && page.matches("class=\"example\"").count() == 8 + 5 + 8, "{page}");
    assert!(!page.contains("<script") && !page.contains("http"), "{page}");
    // Texts of 5 and 4 tokens, the line feed one of them.
    std::fs::write(folder.path().join("text.txt"), "When Mary\nand John\n\nwent to the store\n").unwrap();
    for (rest, windows) in [(&[][..], 2), (&["--lines"], 3), (&["--window", "2"], 5)] {
        let output = penjing(folder.path()).args(["--json", "observe", "text.txt"]).args(rest).output().unwrap();
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(found["windows"], windows, "{rest:?}: {found}");
        assert_eq!(found["sampled"], found["tokens"]);
    }
    std::fs::write(folder.path().join("empty.txt"), "\n \n").unwrap();
    std::fs::write(folder.path().join("bytes.txt"), [0xff, 0xfe, 0x41]).unwrap();
    for (arguments, says) in [
        (&["text.txt", "--neuron", "L9.N1"][..], "no layer 9"),
        (&["text.txt", "--neuron", "L0.N4000"], "no neuron 4000"),
        (&["text.txt", "--neuron", "L0.H1"], "is no neuron"),
        (&["text.txt", "--neuron", "L0.N1:-1"], "is no neuron"),
        (&["text.txt", "--window", "1"], "fewer than 2"),
        (&["empty.txt"], "holds no text"),
        (&["bytes.txt"], "UTF-8"),
        (&["nowhere.txt"], "cannot read"),
        (&["--task", "no-such-task"], "no-such-task"),
    ] {
        refuses(&folder, &[&["observe"], arguments].concat(), &[says, "hint: "]);
    }
}

#[test]
fn methods_are_listed_for_readers_and_for_programs() {
    let folder = tempdir().unwrap();
    let listed = command::json(&folder, &["score", "--list"]);
    let names: Vec<&str> =
        listed["methods"].as_array().unwrap().iter().map(|method| method["name"].as_str().unwrap()).collect();
    assert_eq!(names, penjing::score::METHODS.map(|listing| listing.name));
    refuses(&folder, &["score", "ioi", "--list"], &["--list", "cannot be used"]);
}

#[test]
fn a_single_pair_has_no_interval() {
    let folder = tempdir().unwrap();
    let one = ["--pairs", "8", "--evidence-pairs", "1", "--random-circuits", "1", "--edges", "8", "--out", "run"];
    let output =
        penjing(&folder).args([&["discover", "ioi", "--model", "toy-2l"][..], &one].concat()).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("(no interval)") && text.contains("too few pairs"), "{text}");
    for file in ["report.html", "faithfulness.svg", "scores.svg", "circuit.json"] {
        let written = std::fs::read_to_string(folder.path().join("run").join(file)).unwrap();
        assert!(!written.contains("[NaN") && !written.contains("NaN]"), "{file}");
    }
}
