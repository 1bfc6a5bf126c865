//! Model folders that are damaged or do not fit: each is refused with exit code 2, the place and a hint, and no panic.

#![cfg(feature = "torch")]

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/reference/llama");

/// Name, bytes, type and shape of a tensor.
type Stored = (String, Vec<u8>, Dtype, Vec<usize>);

/// A copy of a small Llama that a test may damage, with a task of its pairs.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = tempdir().unwrap();
        for name in ["config.json", "model.safetensors", "tokenizer.json", "pairs.jsonl"] {
            // Written and not copied: the copy of a file that may not be written may not be either.
            std::fs::write(folder.path().join(name), std::fs::read(Path::new(REFERENCE).join(name)).unwrap()).unwrap();
        }
        let task = "schema = 1\nname = \"pairs\"\ntitle = \"Pairs\"\n[metric]\nkind = \"logit-difference\"\n\
                    [data]\nfile = \"pairs.jsonl\"\n";
        std::fs::write(folder.path().join("task.toml"), task).unwrap();
        Folder(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Folder {
        std::fs::write(self.path(name), bytes).unwrap();
        self
    }

    /// The config with one key changed, or without it.
    fn config(&self, key: &str, value: Option<serde_json::Value>) -> &Folder {
        let mut config: serde_json::Value = serde_json::from_str(&self.text("config.json")).unwrap();
        let table = config.as_object_mut().unwrap();
        match value {
            Some(value) => table.insert(key.into(), value),
            None => table.remove(key),
        };
        self.write("config.json", config.to_string())
    }

    /// Its tensors, rewritten by `change`, in as many files as `change` gives them numbers.
    fn tensors(&self, change: impl Fn(usize, &str, &mut Vec<u8>, &mut Dtype, &mut Vec<usize>) -> usize) -> &Folder {
        let bytes = std::fs::read(self.path("model.safetensors")).unwrap();
        let read = SafeTensors::deserialize(&bytes).unwrap();
        let mut files: BTreeMap<usize, Vec<Stored>> = BTreeMap::new();
        for (index, (name, view)) in read.tensors().into_iter().enumerate() {
            let (mut data, mut dtype, mut shape) = (view.data().to_vec(), view.dtype(), view.shape().to_vec());
            let file = change(index, &name, &mut data, &mut dtype, &mut shape);
            files.entry(file).or_default().push((name, data, dtype, shape));
        }
        let mut map = serde_json::Map::new();
        let sharded = files.len() > 1;
        for (file, tensors) in &files {
            let name = if sharded { format!("model-{file}.safetensors") } else { "model.safetensors".to_owned() };
            let views = tensors.iter().map(|(tensor, data, dtype, shape)| {
                map.insert(tensor.clone(), name.clone().into());
                (tensor.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap())
            });
            let views: Vec<_> = views.collect();
            self.write(&name, safetensors::serialize(views, None).unwrap());
        }
        if sharded {
            std::fs::remove_file(self.path("model.safetensors")).unwrap();
            self.write("model.safetensors.index.json", serde_json::json!({ "weight_map": map }).to_string());
        }
        self
    }

    fn sharded() -> Folder {
        let folder = Folder::new();
        folder.tensors(|index, _, _, _, _| 1 + index % 3);
        folder
    }

    fn score(&self) -> assert_cmd::assert::Assert {
        assert_cmd::Command::cargo_bin("penjing")
            .unwrap()
            .current_dir(self.0.path())
            .args(["score", "task.toml", "--model", ".", "--pairs", "2", "--method", "eap", "--threads", "1"])
            .assert()
    }

    #[track_caller]
    fn refused(&self, says: &[&str]) {
        let output = self.score().code(2).get_output().clone();
        let talk = String::from_utf8(output.stderr).unwrap();
        for words in says.iter().chain(&["error: ", "\n\nhint: "]) {
            assert!(talk.contains(words), "it does not say `{words}`:\n{talk}");
        }
        for never in ["panicked", "internal error", "Exception raised", "c10::"] {
            assert!(!talk.contains(never), "{talk}");
        }
        assert!(output.stdout.is_empty());
        assert!(!self.path("runs").join("pairs").join("scores.json").exists());
    }
}

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
fn weights_that_are_no_numbers_are_named() {
    for bad in [f32::NAN, f32::INFINITY] {
        let folder = Folder::new();
        folder.tensors(|_, name, data, _, _| {
            if name == "model.layers.1.mlp.down_proj.weight" {
                data[..4].copy_from_slice(&bad.to_le_bytes());
            }
            0
        });
        folder.refused(&[
            "scores are not finite numbers: the first is at L1.mlp of the clean prompt of pair 0 (`t",
            "not all weights in model.layers.1.mlp.down_proj.weight are finite",
        ]);
    }
}

/// Multiplies all numbers of the weights whose names end so.
fn scaled(endings: &[&str], factor: f32) -> Folder {
    let folder = Folder::new();
    folder.tensors(|_, name, data, dtype, _| {
        assert_eq!(*dtype, Dtype::F32);
        if endings.iter().any(|ending| name.ends_with(ending)) {
            for number in data.as_chunks_mut::<4>().0 {
                *number = (f32::from_le_bytes(*number) * factor).to_le_bytes();
            }
        }
        0
    });
    folder
}

#[test]
fn the_place_where_numbers_overflow_is_named() {
    let says = |folder: &Folder, dtype: &str, methods: &[&str]| {
        for method in methods {
            let arguments =
                ["score", "task.toml", "--model", ".", "--pairs", "2", "--method", method, "--dtype", dtype];
            let mut command = assert_cmd::Command::cargo_bin("penjing").unwrap();
            let output = command.current_dir(folder.0.path()).args(arguments).output().unwrap();
            let talk = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(if dtype == "f64" { 0 } else { 2 }), "{method}: {talk}");
            if dtype == "f64" {
                continue;
            }
            let place = "L1.mlp of the clean prompt of pair 0 (`t";
            assert!(talk.contains(place) && talk.contains("try --dtype f32") && !talk.contains("weights in"), "{talk}");
        }
    };
    // Each factor is a finite f32, their product is not.
    let folder = scaled(&["layers.1.mlp.up_proj.weight", "layers.1.mlp.down_proj.weight"], 1e25);
    says(&folder, "f32", &["eap", "ifr", "acdc"]);
    says(&folder, "f64", &["eap"]);
    // Finite as the file keeps them, not as f16.
    says(&scaled(&["layers.1.mlp.down_proj.weight"], 1e8), "f16", &["eap"]);
}

#[test]
fn the_pair_whose_numbers_are_none_is_named() {
    let folder = Folder::new();
    let pair = |first: usize, last: usize| {
        let prompt = |last: usize| format!("t{first} t2 t{last}");
        serde_json::json!({"clean": prompt(3), "corrupt": prompt(last), "answer": "t5", "wrong": "t6"}).to_string()
    };
    // Only the corrupt prompt of the one that begins with t15 has t63.
    let pairs: Vec<String> = (7..40).map(|first| pair(first, if first == 15 { 63 } else { 4 })).collect();
    folder.write("pairs.jsonl", pairs.join("\n"));
    folder.tensors(|_, name, data, _, shape| {
        if name == "model.embed_tokens.weight" {
            let row = 63 * shape[1] * 4;
            data[row..row + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        }
        0
    });
    let says = |arguments: &[&str]| {
        let mut command = assert_cmd::Command::cargo_bin("penjing").unwrap();
        let arguments =
            [&["score", "task.toml", "--model", ".", "--method", "eap", "--pairs", "18"], arguments].concat();
        let output = command.current_dir(folder.0.path()).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, talk) = says(&[]);
    let place = "at emb of the corrupt prompt of pair 10 (`t15 t2 t63`)";
    assert!(code == Some(2) && talk.contains(place), "{talk}");
    // A shard counts as the whole does.
    let shards = ["0/3", "1/3", "2/3"].map(|shard| says(&["--shard", shard, "--out", "shards"]));
    assert_eq!(shards.each_ref().map(|(code, _)| *code), [Some(0), Some(2), Some(0)]);
    assert!(shards[1].1.contains(place), "{}", shards[1].1);
}

#[test]
fn a_circuit_is_not_measured_on_weights_that_are_no_numbers() {
    let folder = Folder::new();
    // Enough pairs for some to be held out.
    let pair = |first: usize| {
        let prompt = |last: usize| format!("t{first} t2 t{last}");
        serde_json::json!({"clean": prompt(3), "corrupt": prompt(4), "answer": "t5", "wrong": "t6"}).to_string()
    };
    folder.write("pairs.jsonl", (7..40).map(pair).collect::<Vec<_>>().join("\n"));
    let penjing = |arguments: &[&str]| {
        let mut command = assert_cmd::Command::cargo_bin("penjing").unwrap();
        command.current_dir(folder.0.path()).args(arguments).output().unwrap()
    };
    let discover = ["discover", "task.toml", "--model", ".", "--pairs", "2", "--evidence-pairs", "2", "--threads", "1"];
    let found = penjing(&[&discover[..], &["--edges", "30", "--no-refine", "--out", "run"]].concat());
    assert_eq!(found.status.code(), Some(0), "{}", String::from_utf8_lossy(&found.stderr));
    folder.tensors(|_, name, data, _, _| {
        if name == "model.embed_tokens.weight" {
            data.chunks_mut(4).for_each(|number| number.copy_from_slice(&f32::NAN.to_le_bytes()));
        }
        0
    });
    let evaluated = penjing(&["evaluate", "run/circuit.json", "--task", "task.toml", "--model", ".", "--pairs", "2"]);
    let talk = String::from_utf8_lossy(&evaluated.stderr);
    assert_eq!(evaluated.status.code(), Some(2), "{talk}");
    assert!(
        talk.contains("metrics are not finite numbers: the first is at emb of") && talk.contains("model.embed_tokens"),
        "{talk}"
    );
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
