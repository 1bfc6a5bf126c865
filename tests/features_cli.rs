//! Features on the command line: edited in a run, and as the nodes of a circuit.

#![cfg(feature = "torch")]

mod command;

use command::{json, penjing, refuses};
use std::path::Path;
use tempfile::{TempDir, tempdir};

/// A small dictionary of `toy-2l`, which is not good and need not be.
fn dictionary(folder: &TempDir) {
    let train = ["sae", "train", "--task", "ioi", "--pairs", "40", "--model", "toy-2l", "--site", "L0"];
    let sizes = ["--features", "64", "--k", "8", "--tokens", "20000", "--out", "d.safetensors"];
    json(folder, &[&train[..], &sizes].concat());
}

#[test]
fn a_feature_is_steered_and_its_error_stays() {
    let folder = tempdir().unwrap();
    dictionary(&folder);
    let prompt = "When Mary and John went to the store, John gave a drink to";
    let run = ["run", prompt, "--model", "toy-2l", "--sae", "g=d.safetensors", "--edit"];
    let with = |edit: &str| json(&folder, &[&run[..], &[edit]].concat());
    let same = with("L0.sae(g).F{3,9} = scale 1");
    assert_eq!(same["kl"].as_f64(), Some(0.0), "{same}");
    let steered = with("L0.sae(g).F3:-1 = set 8");
    assert!(steered["kl"].as_f64().unwrap() > 1e-6, "{steered}");
    let receipt = steered["receipt"][0].to_string();
    assert!(receipt.contains("L0.sae(g).F3"), "{receipt}");
    json(&folder, &[&run[..], &["L0.sae(g).F3:-1 = set 8", "--out", "out"]].concat());
    let page = std::fs::read_to_string(folder.path().join("out/run.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("L0.sae(g).F3:-1 = set 8") && page.contains("KL of the next token"));
    // The values of a dosed feature by itself are those of its dictionary.
    let dosed = ["sweep", prompt, "--model", "toy-2l", "--sae", "g=d.safetensors", "--dose"];
    let rest = ["L0.sae(g).F3:-1 = set a", "--doses", "0,1", "--watch", " Mary"];
    let swept = json(&folder, &[&dosed[..], &rest].concat());
    let observed = ["observe", "prompt.txt", "--model", "toy-2l", "--sae", "g=d.safetensors", "--neuron"];
    std::fs::write(folder.path().join("prompt.txt"), prompt).unwrap();
    let observed = json(&folder, &[&observed[..], &["L0.sae(g).F3"]].concat());
    let ends = |share: usize| observed["features"][0]["quantiles"][share][1].as_f64().unwrap();
    for (end, share) in [(0, 0), (1, 6)] {
        let own = swept["natural"]["range"][end].as_f64().unwrap();
        assert!((own - ends(share)).abs() < 1e-5, "{swept}");
    }
    refuses(&folder, &["sae", "train", "--task", "ioi", "--site", "L0.sae(g).F3"], &["is not one vector"]);
    let refused = |edit: &str, says: &[&str]| refuses(&folder, &[&run[..], &[edit]].concat(), says);
    refused("L0.sae(g).F64 = zero", &["the model has no feature 64", "the nearest site is `L0.sae(g).F63`"]);
    refused("L1.sae(g).F3 = zero", &["the dictionary `g` is of `L0`", "write `L0.sae(g).F0`"]);
    refused("L0.sae(h).F3 = zero", &["there is no dictionary `h`", "did you mean `g`?"]);
    refused("L0.sae(g).F3 = mean", &["features have no mean", "`set 0`"]);
    let other = ["run", prompt, "--model", "toy-4l", "--sae", "g=d.safetensors", "--edit", "L0.sae(g).F3 = zero"];
    refuses(&folder, &other, &["not from this model"]);
    let standard = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/dictionaries/standard");
    let narrow = format!("g={}", standard.display());
    let narrow = ["run", prompt, "--model", "toy-2l", "--sae", &narrow, "--edit", "L0.sae(g).F3 = zero"];
    refuses(&folder, &narrow, &["reads vectors of length", "belongs to the model that it was trained on"]);
    let none = ["run", prompt, "--model", "toy-2l", "--sae", "g=none.st", "--edit", "L0.sae(g).F3 = zero"];
    refuses(&folder, &none, &["none.st"]);
}

#[test]
fn a_circuit_of_features_is_found_and_drawn() {
    let folder = tempdir().unwrap();
    dictionary(&folder);
    let discover = ["discover", "ioi", "--model", "toy-2l", "--level", "feature", "--pairs", "12"];
    let measured = ["--evidence-pairs", "12", "--random-circuits", "3", "--steps", "3"];
    let sized = [&discover[..], &measured, &["--sae", "g=d.safetensors", "--edges", "6"]].concat();
    let found = json(&folder, &[&sized[..], &["--out", "first"]].concat());
    let nodes = found["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 6, "{found}");
    let names: Vec<&str> = nodes.iter().map(|node| node["node"].as_str().unwrap()).collect();
    assert!(names.iter().all(|name| name.starts_with("L0.sae(g).")), "{names:?}");
    let scores: Vec<f64> = nodes.iter().map(|node| node["score"].as_f64().unwrap().abs()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    let evidence = &found["evidence"];
    assert!(evidence["faithfulness"].as_f64().unwrap() > evidence["random"]["mean"].as_f64().unwrap(), "{found}");
    json(&folder, &[&sized[..], &["--out", "second"]].concat());
    for file in ["features.json", "features.svg"] {
        let read = |out: &str| std::fs::read(folder.path().join(out).join(file)).unwrap();
        assert!(read("first") == read("second"), "{file} differs between two equal runs");
    }
    let picture = std::fs::read_to_string(folder.path().join("first/features.svg")).unwrap();
    assert!(names.iter().all(|name| picture.contains(name.rsplit('.').next().unwrap())), "{picture}");
    // Without a size: the smallest that is faithful, or exit code 1 where fresh pairs do not agree.
    let smallest = [&discover[..], &measured, &["--sae", "d.safetensors", "--faithfulness", "0.5"]].concat();
    let output = penjing(folder.path()).args(&smallest).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("L0.sae(d).") && text.contains("without errors"), "{text}");
    for (rest, says) in [
        (&[][..], "circuits of features need a dictionary"),
        (&["--sae", "d.safetensors", "--method", "exact"], "scored by integrated gradients"),
        (&["--sae", "d.safetensors", "--ablation", "zero"], "have the corrupt prompt's values"),
        (&["--sae", "d.safetensors", "--threshold", "1"], "--threshold chooses no features"),
        (&["--sae", "a=d.safetensors", "--sae", "b=d.safetensors"], "two dictionaries are of L0"),
        (&["--sae", "d.safetensors", "--edges", "999"], "999 nodes are asked for"),
        (&["--sae", "d.safetensors", "--edges", "0"], "--edges 0 keeps no nodes"),
    ] {
        refuses(&folder, &[&discover[..], rest].concat(), &[says]);
    }
    let task = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tasks/ioi.toml")).unwrap();
    std::fs::write(folder.path().join("counted.toml"), task.replace("\"logit-difference\"", "\"accuracy\"")).unwrap();
    let counted = ["discover", "counted.toml", "--model", "toy-2l", "--level", "feature", "--sae", "d.safetensors"];
    refuses(&folder, &counted, &["features are scored by gradients, and accuracy has none"]);
    let edges = ["discover", "ioi", "--model", "toy-2l", "--sae", "d.safetensors"];
    refuses(&folder, &edges, &["--sae gives nodes to circuits of features", "--level feature"]);
}
