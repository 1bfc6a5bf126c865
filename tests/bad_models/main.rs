//! Model folders that are damaged or do not fit: each is refused with exit code 2, the place and a hint, and no panic.

#![cfg(feature = "torch")]

mod folder;
mod not_finite;

use folder::{Folder, REFERENCE};
use safetensors::Dtype;
use std::path::Path;

#[test]
fn whole_folders_in_one_file_and_in_shards_give_the_same_scores() {
    let [one, three] = [Folder::new(), Folder::sharded()].map(|folder| {
        folder.score().success();
        let run = std::fs::read_dir(folder.path("runs")).unwrap().next().unwrap().unwrap().path();
        let scores: serde_json::Value =
            serde_json::from_slice(&std::fs::read(run.join("scores.json")).unwrap()).unwrap();
        scores["scores"].clone()
    });
    assert_eq!(one.as_object().unwrap().len(), 110);
    assert_eq!(one, three);
}

#[test]
fn damaged_weight_files() {
    let folder = Folder::new();
    let weights = std::fs::read(folder.path("model.safetensors")).unwrap();
    folder.write("model.safetensors", &weights[..weights.len() / 2]).refused(&["model.safetensors is damaged"]);
    folder.write("model.safetensors", b"").refused(&["model.safetensors is damaged"]);
    folder.write("model.safetensors", [0xff; 64]).refused(&["model.safetensors is damaged"]);
    std::fs::remove_file(folder.path("model.safetensors")).unwrap();
    folder.refused(&["no weights"]);

    let folder = Folder::sharded();
    let shard = std::fs::read(folder.path("model-2.safetensors")).unwrap();
    folder.write("model-2.safetensors", &shard[..shard.len() - 1]).refused(&["model-2.safetensors is damaged"]);
    std::fs::remove_file(folder.path("model-2.safetensors")).unwrap();
    folder.refused(&["model.safetensors.index.json names", "model-2.safetensors, which is not there"]);
}

#[test]
fn damaged_indices() {
    let check = |index: &str, says: &[&str]| {
        let folder = Folder::sharded();
        folder.write("model.safetensors.index.json", index).refused(says);
    };
    check("{", &["index.json is not valid JSON"]);
    check("{}", &["index.json", "weight_map"]);
    check(r#"{"weight_map": {}}"#, &["`weight_map` names no file"]);
    check(r#"{"weight_map": {"a": 7}}"#, &["index.json"]);
    for outside in ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "", ".", ".."] {
        check(&format!(r#"{{"weight_map": {{"a": "{outside}"}}}}"#), &["`weight_map` names", "no file of the folder"]);
    }
    check(r#"{"weight_map": {"a": "model-1.safetensors"}}"#, &["missing: model."]);
}

#[test]
fn tensors_that_are_missing_misshapen_unexpected_or_of_another_type_are_named() {
    let rename = |from: &str, to: &str| {
        let folder = Folder::new();
        let bytes = std::fs::read(folder.path("model.safetensors")).unwrap();
        let text = replaced(&bytes, from.as_bytes(), to.as_bytes());
        folder.write("model.safetensors", text);
        folder
    };
    rename("model.norm.weight", "model.morn.weight")
        .refused(&["missing: model.norm.weight", "unexpected: model.morn.weight"]);
    let folder = Folder::new();
    folder.tensors(|_, name, _, _, shape| {
        if name.ends_with("layers.1.mlp.up_proj.weight") {
            shape.reverse();
        }
        0
    });
    folder.refused(&["wrong shape: model.layers.1.mlp.up_proj.weight is [32, 96], wanted [96, 32]"]);
    let folder = Folder::new();
    folder.tensors(|_, name, _, dtype, _| {
        if name == "model.norm.weight" {
            *dtype = Dtype::I32;
        }
        0
    });
    folder.refused(&["model.norm.weight has type I32", "float32, float16 or bfloat16"]);
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

#[test]
fn configs_that_lack_a_key_or_disagree_with_the_weights() {
    for key in
        ["model_type", "hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size", "intermediate_size"]
    {
        Folder::new().config(key, None).refused(&["config.json", &format!("`{key}` is missing")]);
    }
    let check =
        |key: &str, value: serde_json::Value, says: &[&str]| Folder::new().config(key, Some(value)).refused(says);
    check("hidden_size", 64.into(), &["wrong shape: model.embed_tokens.weight is [64, 32], wanted [64, 64]"]);
    check("num_hidden_layers", 3.into(), &["missing: model.layers.2.", "and 1 more"]);
    check("num_hidden_layers", 1.into(), &["unexpected: model.layers.1."]);
    check("vocab_size", 70.into(), &["wrong shape: model.embed_tokens.weight"]);
    check("tie_word_embeddings", "maybe".into(), &["`tie_word_embeddings` is neither true nor false"]);
    check("hidden_size", (-1).into(), &["`hidden_size` is not a whole number from 1 to"]);
    check("num_hidden_layers", 4_000_000_000u32.into(), &["`num_hidden_layers` is not a whole number from 1 to 1024"]);
    check("num_attention_heads", "4".into(), &["`num_attention_heads`"]);
    check("num_key_value_heads", 3.into(), &["`num_key_value_heads` = 3 does not divide"]);
    check("head_dim", 7.into(), &["`head_dim` = 7"]);
    check("hidden_act", "mish".into(), &["`hidden_act` is `mish`"]);
    check("rope_scaling", serde_json::json!({"rope_type": "yarn"}), &["`rope_scaling` asks for `yarn`"]);
    check("rope_scaling", serde_json::json!({"rope_type": "llama3"}), &["`rope_scaling` needs a `factor`"]);
    check("rope_theta", 0.into(), &["`rope_theta` is not a positive number"]);
    check("rms_norm_eps", serde_json::Value::from(-1.0), &["`rms_norm_eps` is not a positive number"]);
    check("model_type", "qwen7".into(), &["`qwen7`", "hint: the nearest supported family is `qwen"]);
    check("model_type", "mamba".into(), &["`mamba`", "hint: the nearest supported family is"]);
    Folder::new().write("config.json", "{").refused(&["config.json is not valid JSON"]);
    Folder::new().write("config.json", "[]").refused(&["config.json", "`model_type` is missing"]);
}

#[test]
fn tokenizers_and_prompts_that_do_not_fit() {
    let folder = Folder::new();
    let larger = folder.text("tokenizer.json").replace("\"t63\": 63", "\"t63\": 63, \"t64\": 64");
    assert!(larger.contains("t64"), "the tokenizer is written differently");
    folder.write("tokenizer.json", larger).refused(&["a token \"t64\" with id 64, and the model embeds only 64"]);
    let folder = Folder::new();
    folder.write("tokenizer.json", "{").refused(&["tokenizer.json"]);
    std::fs::remove_file(folder.path("tokenizer.json")).unwrap();
    folder.refused(&["tokenizer.json"]);
    // The pairs have 9 tokens.
    Folder::new().config("max_position_embeddings", Some(8.into())).refused(&["9 tokens", "at most 8"]);
    Folder::new().write("pairs.jsonl", "{\"clean\": \"t1\"}\n").refused(&["pairs.jsonl"]);
}

/// Compiled models have fewer logits than tokens.
#[test]
fn answers_without_a_logit() {
    let folder = Folder::new();
    let research = Path::new(REFERENCE).join("../../research/small_output");
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        folder.write(name, std::fs::read(research.join(name)).unwrap());
    }
    let config = folder.text("config.json");
    assert!(config.contains("\"d_vocab_out\": 65"));
    folder.score().success();
    // The weights must agree, so the vocabulary is made smaller on both sides.
    folder.tensors(|_, name, data, _, shape| {
        let columns = shape.last().copied().unwrap_or(0);
        if columns == 65 {
            *data = data.chunks(65 * 4).flat_map(|row| row[..20 * 4].to_vec()).collect();
            *shape.last_mut().unwrap() = 20;
        }
        assert!(columns != 65 || name.starts_with("unembed."));
        0
    });
    folder.write("config.json", config.replace("\"d_vocab_out\": 65", "\"d_vocab_out\": 20"));
    std::fs::remove_dir_all(folder.path("runs")).unwrap();
    folder.refused(&["gives logits for only 20 tokens"]);
}
