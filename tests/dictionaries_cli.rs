//! `penjing sae` as a user meets it: what it writes, and what bad input is told.
#![cfg(feature = "torch")]

mod command;

use command::{answers, refuses};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/dictionaries").join(name)
}

const TRAIN: &[&str] = &[
    "sae",
    "train",
    "--task",
    "ioi",
    "--task",
    "greater-than",
    "--pairs",
    "24",
    "--model",
    "toy-2l",
    "--site",
    "L0",
    "--features",
    "64",
    "--k",
    "4",
    "--tokens",
    "12000",
    "--batch",
    "256",
];

fn trained(folder: &TempDir, more: &[&str]) -> Value {
    answers(folder, &[TRAIN, more].concat()).0
}

#[test]
fn a_dictionary_is_trained_shown_measured_and_converted() {
    let folder = tempdir().unwrap();
    let made = trained(&folder, &["--out", "a.safetensors", "--figures", "figures"]);
    assert_eq!(made["schema"], "penjing.sae-train/1");
    assert_eq!(made["dictionary"]["site"], "L0");
    assert!(made["reconstruction"]["fvu"].as_f64().unwrap() < 0.5, "{made}");
    for file in ["sae-training.svg", "sae-density.svg", "sae.json"] {
        assert!(folder.path().join("figures").join(file).exists(), "{file}");
    }
    trained(&folder, &["--out", "b.safetensors"]);
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert!(read("a.safetensors") == read("b.safetensors"), "two equal runs differ");
    trained(&folder, &["--out", "c.safetensors", "--seed", "1"]);
    assert!(read("a.safetensors") != read("c.safetensors"), "the seed changes nothing");

    let (shown, _) = answers(&folder, &["sae", "show", "a.safetensors"]);
    assert_eq!(shown["dictionary"], made["dictionary"]);
    let eval = ["--task", "ioi", "--task", "greater-than", "--pairs", "16", "--model", "toy-2l"];
    let (measured, _) = answers(&folder, &[&["sae", "eval", "a.safetensors", "--out", "eval"], &eval[..]].concat());
    assert_eq!(measured["schema"], "penjing.sae-eval/1");
    let ce = |name: &str| measured["spliced"][name].as_f64().unwrap();
    assert!(ce("ce_clean") < ce("ce_spliced") && ce("ce_spliced") < ce("ce_mean"), "{}", measured["spliced"]);
    let recovered = (ce("ce_zero") - ce("ce_spliced")) / (ce("ce_zero") - ce("ce_clean"));
    assert!((recovered - ce("recovered_zero")).abs() < 1e-12);
    assert_eq!(measured["labels"].as_array().unwrap().len(), 2);
    assert!(measured["labels"][1]["auroc"].as_f64().unwrap() > 0.9, "{}", measured["labels"]);
    assert!(folder.path().join("eval/sae-density.svg").exists() && folder.path().join("eval/sae-eval.json").exists());

    // There and back again: what is measured stays the same.
    for (format, out) in [("sae-lens", "lens"), ("sparsify", "layers.0")] {
        let (converted, _) = answers(&folder, &["sae", "convert", "a.safetensors", "--to", format, "--out", out]);
        assert!(converted["difference"].as_f64().unwrap() <= 1e-5 * converted["scale"].as_f64().unwrap());
        answers(&folder, &["sae", "convert", out, "--to", "native", "--out", "back.safetensors"]);
        let (again, _) = answers(&folder, &[&["sae", "eval", "back.safetensors"], &eval[..]].concat());
        let fvu = |of: &Value| of["reconstruction"]["fvu"].as_f64().unwrap();
        assert!((fvu(&again) - fvu(&measured)).abs() < 1e-5, "{format}");
    }
}

#[test]
fn a_file_is_a_text_and_short_ones_are_refused() {
    let folder = tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let sentence = "When Mary and John went to the store, John gave a drink to Mary\n\n";
    write("text.txt", &sentence.repeat(12));
    write("empty.txt", "\n\n");
    write("one.txt", "When Mary");
    let site = ["--site", "L1.mlp", "--model", "toy-2l", "--features", "32", "--k", "4", "--tokens", "2000"];
    let train = |text: &'static str| [&["sae", "train", text], &site[..]].concat();
    let (made, _) = answers(&folder, &train("text.txt"));
    assert_eq!(made["dictionary"]["site"], "L1.mlp");
    assert_eq!(made["dictionary"]["training"]["text"], "text.txt");
    refuses(&folder, &train("empty.txt"), &["empty.txt holds no text", "hint:"]);
    refuses(&folder, &train("one.txt"), &["tokens that count", "hint: give a longer text"]);
    refuses(&folder, &train("no.txt"), &["cannot read no.txt", "hint:"]);
}

#[test]
fn bad_training_is_refused() {
    let folder = tempdir().unwrap();
    for (more, parts) in [
        (&["--k", "65"][..], &["k is 65, of 64 features", "hint: take a --k"][..]),
        (&["--k", "0"], &["k is 0", "hint:"]),
        (&["--features", "0"], &["no features", "hint:"]),
        (&["--learning-rate", "-1"], &["a learning rate is above 0", "hint:"]),
        (&["--sparsity", "-1"], &["a weight not below", "hint:"]),
        (&["--window", "1"], &["a window of fewer than 2 tokens", "hint:"]),
        (&["--site", "L9"], &["no layer 9", "hint:"]),
        (&["--site", "L0..1"], &["`L0..1` is not one vector", "hint: take a site"]),
        (&["--site", "L0.H1"], &["is not one vector", "hint:"]),
        (&["--site", "L0.N3"], &["is not one vector", "hint:"]),
        (&["--site", "L0:-1"], &["is not one vector", "hint:"]),
        (&["--site", "layer 2"], &["hint:"]),
        (&["--architecture", "vq"], &["invalid value 'vq'", "batch-topk"]),
        (&["--theme", "pink"], &["there is no theme `pink`", "hint:"]),
        (&["--out", "no/such/folder/a.safetensors"], &["cannot write", "hint:"]),
        (&["--learning-rate", "1e30"], &["training went out of bounds", "hint: take a smaller --learning-rate"]),
    ] {
        // Each option once.
        let given: Vec<&str> = TRAIN.to_vec();
        let mut arguments: Vec<&str> = Vec::new();
        let mut index = 0;
        while index < given.len() {
            if given[index].starts_with("--") && more.contains(&given[index]) {
                index += 2;
            } else {
                arguments.push(given[index]);
                index += 1;
            }
        }
        arguments.extend(more);
        refuses(&folder, &arguments, parts);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a refusal left a file");
}

/// Changes a file of a dictionary.
fn change(from: &Path, to: &Path, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(from).unwrap();
    change(&mut bytes);
    std::fs::write(to, bytes).unwrap();
}

#[test]
fn what_is_no_dictionary_or_another_models_is_refused() {
    let folder = tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    trained(&folder, &["--out", "a.safetensors"]);
    let eval = |file: &'static str, model: &'static str| ["sae", "eval", file, "--task", "ioi", "--model", model];
    refuses(&folder, &eval("a.safetensors", "toy-4l"), &["has a width of", "hint: name the model"]);

    // One weight, and one letter of the model's hash.
    change(&at("a.safetensors"), &at("tampered.safetensors"), |bytes| {
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let entries: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
        let start = 8 + header + entries["b_dec"]["data_offsets"][0].as_u64().unwrap() as usize;
        let value = f32::from_le_bytes(bytes[start..start + 4].try_into().unwrap()) + 0.1;
        bytes[start..start + 4].copy_from_slice(&value.to_le_bytes());
    });
    refuses(&folder, &["sae", "show", "tampered.safetensors"], &["does not reconstruct as its writer did", "hint:"]);
    change(&at("a.safetensors"), &at("other.safetensors"), |bytes| {
        let key = br#"\"weights\":\""#;
        let place = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len();
        bytes[place] = if bytes[place] == b'0' { b'1' } else { b'0' };
    });
    refuses(&folder, &eval("other.safetensors", "toy-2l"), &["made from toy-2l, not from this model", "hint:"]);

    std::fs::write(at("none.safetensors"), b"nothing").unwrap();
    std::fs::write(at("none.npz"), b"nothing").unwrap();
    std::fs::create_dir(at("empty")).unwrap();
    refuses(&folder, &["sae", "show", "none.safetensors"], &["holds no dictionary", "hint:"]);
    refuses(&folder, &["sae", "show", "none.npz"], &["holds no dictionary", "hint:"]);
    refuses(&folder, &["sae", "show", "empty"], &["holds no dictionary", "hint:"]);
    refuses(&folder, &["sae", "show", "missing"], &["cannot read missing", "hint:"]);
    refuses(&folder, &eval("missing", "toy-2l"), &["cannot read missing", "hint:"]);
}

#[test]
fn what_a_foreign_file_means_is_never_guessed() {
    let folder = tempdir().unwrap();
    for (index, (name, weights, changes, parts)) in [
        ("standard", "sae_weights", json!({ "normalize_activations": "covariance_whitening" }), "covariance_whitening"),
        (
            "standard",
            "sae_weights",
            json!({ "normalize_activations": "expected_average_only_in" }),
            "without the factor",
        ),
        ("standard", "sae_weights", json!({ "architecture": "temporal" }), "architecture `temporal`"),
        ("standard", "sae_weights", json!({ "d_sae": 11 }), "instead of"),
        ("old-topk", "sae_weights", json!({ "finetuning_scaling_factor": true }), "finetuning_scaling_factor"),
        ("old-topk", "sae_weights", json!({ "activation_fn_kwargs": {} }), "its k is None"),
        ("layers.1.mlp", "sae", json!({ "activation": "groupmax" }), "architecture `groupmax`"),
        ("layers.1.mlp", "sae", json!({ "transcode": true }), "transcoder"),
        ("layers.1.mlp", "sae", json!({ "k": 11 }), "its k is 11"),
    ]
    .into_iter()
    .enumerate()
    {
        let own = folder.path().join(index.to_string());
        std::fs::create_dir(&own).unwrap();
        let file = format!("{weights}.safetensors");
        std::fs::copy(data(name).join(&file), own.join(&file)).unwrap();
        let mut config: Value = serde_json::from_slice(&std::fs::read(data(name).join("cfg.json")).unwrap()).unwrap();
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        std::fs::write(own.join("cfg.json"), config.to_string()).unwrap();
        refuses(&folder, &["sae", "show", &index.to_string()], &[parts, "hint:"]);
    }
    // The factor, where the file has it; and no site, where it has none.
    let own = folder.path().join("factor");
    std::fs::create_dir(&own).unwrap();
    std::fs::copy(data("standard/sae_weights.safetensors"), own.join("sae_weights.safetensors")).unwrap();
    let mut config: Value = serde_json::from_slice(&std::fs::read(data("standard/cfg.json")).unwrap()).unwrap();
    config["normalize_activations"] = json!("expected_average_only_in");
    config["norm_scaling_factor"] = json!(0.5);
    config["metadata"] = json!({});
    std::fs::write(own.join("cfg.json"), config.to_string()).unwrap();
    let (shown, _) = answers(&folder, &["sae", "show", "factor"]);
    assert_eq!(shown["dictionary"]["normalize"], json!({ "kind": "expected_average_only_in", "factor": 0.5 }));
    assert_eq!(shown["dictionary"]["site"], Value::Null);
    refuses(
        &folder,
        &["sae", "eval", "factor", "--task", "ioi"],
        &["does not say which site", "hint: name it with --site"],
    );
    let lens = data("standard").to_string_lossy().into_owned();
    refuses(
        &folder,
        &["sae", "convert", &lens, "--to", "sparsify", "--out", "s"],
        &["sparsify file has no place for the architecture relu", "hint:"],
    );
    std::fs::write(folder.path().join("file"), "").unwrap();
    refuses(&folder, &["sae", "convert", &lens, "--to", "sae-lens", "--out", "file"], &["file is a file", "hint:"]);
}
