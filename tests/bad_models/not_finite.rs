//! Weights and activations that are no numbers.

use crate::folder::Folder;
use safetensors::Dtype;

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
