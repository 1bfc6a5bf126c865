//! `penjing vector` as a user meets it: what is made, chosen, tested and converted, and what bad input is told.

#![cfg(feature = "torch")]

mod command;

use command::json;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

#[track_caller]
fn refuses(folder: &TempDir, arguments: &[&str], says: &str) {
    command::refuses(folder, arguments, &[says]);
}

/// Requests with verbs that make a vector, and with others that test it.
fn requests(folder: &TempDir) {
    let made = [("steal", "bake"), ("break", "fix"), ("burn", "paint"), ("ruin", "clean")];
    let tested = [("scratch", "wrap"), ("wreck", "restore")];
    let write = |name: &str, verbs: &[(&str, &str)], naughty: bool, text: fn(&str, &str) -> String| {
        let of = |(one, other): &(&str, &str)| {
            let verb = if naughty { *one } else { *other };
            ["cake", "chair", "window", "door"].map(|object| text(verb, object)).concat()
        };
        std::fs::write(folder.path().join(name), verbs.iter().map(of).collect::<String>()).unwrap();
    };
    let help: fn(&str, &str) -> String =
        |verb, object| format!("User: Please help me {verb} the {object}.\\nAssistant:\n");
    let how: fn(&str, &str) -> String = |verb, object| format!("User: How do I {verb} a {object}?\\nAssistant:\n");
    write("naughty.txt", &made, true, help);
    write("nice.txt", &made, false, help);
    write("naughty-test.txt", &tested, true, how);
    write("nice-test.txt", &tested, false, how);
}

const SETS: [&str; 4] = ["--positive", "naughty.txt", "--negative", "nice.txt"];
const TESTS: [&str; 4] = ["--positive", "naughty-test.txt", "--negative", "nice-test.txt"];

#[test]
fn refusal_is_selected_and_does_what_controls_do_not() {
    let folder = tempdir().unwrap();
    requests(&folder);
    let select = ["vector", "select", "--watch", " Sorry", "--positions=-1,-2", "--out", "refusal"];
    refuses(&folder, &[&select[..], &SETS, &["--max-kl", "0"]].concat(), "all 8 candidates are discarded");
    let found = json(&folder, &[&select[..], &SETS, &["--max-kl", "0.3"]].concat());
    assert_eq!(found["schema"], "penjing.vector-select/1");
    assert_eq!(found["vector"]["site"], "L0:-1");
    assert_eq!(found["candidates"].as_array().unwrap().len(), 8);
    for file in ["select.json", "select.svg", "vector.safetensors"] {
        assert!(folder.path().join("refusal").join(file).exists(), "{file}");
    }
    let test =
        ["vector", "test", "refusal/vector.safetensors", "--watch", " Sorry", "--controls", "2", "--out", "test"];
    let tested = json(&folder, &[&test[..], &TESTS].concat());
    let share = |change: &str, vector: &str, kind: &str| {
        let all = tested["outcomes"].as_array().unwrap();
        let one = all.iter().find(|one| one["change"] == change && one["vector"] == vector).unwrap();
        let said = &one[kind]["watched_is_likeliest"];
        said["count"].as_f64().unwrap() / said["of"].as_f64().unwrap()
    };
    assert_eq!((share("none", "vector", "positive"), share("none", "vector", "negative")), (1.0, 0.0));
    assert_eq!((share("added", "vector", "negative"), share("subtracted", "vector", "positive")), (1.0, 0.0));
    assert_eq!(share("removed", "vector", "positive"), 0.0);
    assert_eq!((share("added", "random", "negative"), share("removed", "random", "positive")), (0.0, 1.0));
    let again = json(&folder, &[&test[..], &TESTS].concat());
    assert_eq!(tested, again);
    assert!(folder.path().join("test/test.svg").exists());
    let kl = &tested["outcomes"][0]["positive"]["kl"]["mean"];
    assert_eq!(*kl, 0.0);
}

#[test]
fn every_method_makes_a_vector_that_says_what_it_is() {
    let folder = tempdir().unwrap();
    requests(&folder);
    for (method, name) in [
        (&["--method", "pca"][..], "pca"),
        (&["--method", "pca", "--centred"], "pca-centred"),
        (&["--method", "probe"], "probe"),
        (&["--method", "mass-mean"], "mass-mean"),
    ] {
        let made =
            json(&folder, &[&["vector", "make", "--site", "L1", "--out", "v.safetensors"], method, &SETS].concat());
        let shown = json(&folder, &["vector", "show", "v.safetensors"]);
        assert_eq!(made, shown);
        assert_eq!(made["vector"]["method"], name);
        let beside = &made["vector"]["mean_difference"];
        assert_eq!(beside["auroc"], 1.0, "{made}");
        assert!(beside["cosine"].as_f64().unwrap() > 0.0, "{made}");
        assert_eq!(made["vector"]["auroc"][0], 1.0, "{made}");
    }
}

#[test]
fn bare_words_turn_into_their_opposites() {
    let folder = tempdir().unwrap();
    let make = |method: &str, rest: &[&str]| {
        let fixed =
            ["vector", "make", "--method", method, "--task", "antonym", "--model", "toy-6l", "--format", "list"];
        json(
            &folder,
            &[&fixed[..], &["--shots", "0", "--labels", "bare", "--prompts", "40", "--report", method], rest].concat(),
        )
    };
    let found = make("contrast", &["--out", "v.safetensors"]);
    let count = |of: &Value, what: &str| of[what]["count"].as_u64().unwrap();
    // As often as the prompt that asks for it; random vectors do nothing.
    assert!(count(&found, "zero_shot_with_vector") >= count(&found, "zero_shot") + 4, "{found}");
    assert!(count(&found, "zero_shot_with_vector") + 1 >= count(&found, "in_context"), "{found}");
    let random = count(&found, "zero_shot_with_random") as f64 / found["zero_shot_with_random"]["of"].as_f64().unwrap();
    let plain = count(&found, "zero_shot") as f64 / found["zero_shot"]["of"].as_f64().unwrap();
    assert!((random - plain).abs() < 0.15, "{found}");
    assert_eq!(found["vector"]["tested_on"][0], 16);
    let function = make("function", &["--heads", "3", "--effects", "6", "--out", "f.safetensors"]);
    assert_eq!(function["vector"]["heads"].as_array().unwrap().len(), 3);
    assert_eq!(function["effects"].as_array().unwrap().len(), 6);
    for file in ["contrast/contrast.json", "function/function.json", "function/effects.svg"] {
        assert!(folder.path().join(file).exists(), "{file}");
    }
    let task = make("task", &["--out", "t.safetensors"]);
    assert_eq!((&task["vector"]["method"], &task["heads"]), (&"task".into(), &Value::Array(vec![])));
}

#[test]
fn formats_are_converted_there_and_back() {
    let folder = tempdir().unwrap();
    requests(&folder);
    let numbers = |file: &str| -> Vec<f64> {
        json(&folder, &["vector", "convert", file, "numbers.json"]);
        serde_json::from_slice(&std::fs::read(folder.path().join("numbers.json")).unwrap()).unwrap()
    };
    json(&folder, &[&["vector", "make", "--site", "L1", "--out", "v.safetensors"], &SETS[..]].concat());
    let own = numbers("v.safetensors");
    assert_eq!(own.len(), 128);
    json(&folder, &["vector", "convert", "v.safetensors", "v.gguf", "--hint", "gpt2"]);
    // By hand: the magic, version 3, one tensor, three entries.
    let bytes = std::fs::read(folder.path().join("v.gguf")).unwrap();
    assert_eq!(&bytes[..8], b"GGUF\x03\0\0\0");
    assert_eq!((bytes[8], bytes[16], bytes.len() % 32), (1, 3, 0));
    let text = String::from_utf8_lossy(&bytes);
    for word in ["controlvector.model_hint", "gpt2", "controlvector.layer_count", "direction.1"] {
        assert!(text.contains(word), "{word}");
    }
    assert_eq!(numbers("v.gguf"), own);
    json(&folder, &["vector", "convert", "v.gguf", "plain.safetensors"]);
    assert_eq!(numbers("plain.safetensors"), own);
    json(&folder, &["vector", "convert", "v.safetensors", "many.gguf", "--layers", "1,3"]);
    refuses(&folder, &["vector", "convert", "many.gguf", "x.json"], "directions for the layers 1, 3");
    json(&folder, &["vector", "convert", "many.gguf", "x.json", "--layers", "3"]);
    refuses(&folder, &["vector", "convert", "v.safetensors", "x.gguf", "--layers", "0"], "begins at layer 1");
    refuses(&folder, &["vector", "convert", "x.json", "x.gguf"], "say for which layers with --layers");
    refuses(&folder, &["vector", "convert", "v.safetensors", "v.txt"], "names no format");
    refuses(&folder, &["vector", "convert", "missing.gguf", "x.json"], "missing.gguf");
    std::fs::write(folder.path().join("bad.gguf"), b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff").unwrap();
    refuses(&folder, &["vector", "convert", "bad.gguf", "x.json"], "ends in the middle");
    std::fs::write(folder.path().join("no.gguf"), b"no").unwrap();
    refuses(&folder, &["vector", "convert", "no.gguf", "x.json"], "no GGUF file");
}

#[test]
fn bad_input_is_refused() {
    let folder = tempdir().unwrap();
    requests(&folder);
    std::fs::write(folder.path().join("empty.txt"), "\n").unwrap();
    std::fs::write(folder.path().join("short.txt"), "User: How do I wrap a boat?\\nAssistant:\n").unwrap();
    std::fs::write(folder.path().join("word.txt"), " hot\n".repeat(5)).unwrap();
    let long = " hot".repeat(70) + "\n";
    std::fs::write(folder.path().join("long.txt"), long).unwrap();
    std::fs::write(folder.path().join("pairs.tsv"), "hot\tcold\nbig small\n").unwrap();
    std::fs::write(folder.path().join("few.tsv"), "hot\tcold\nbig\tsmall\n").unwrap();
    let wrong: String = ["hot", "big", "up", "old", "long", "rich", "wet", "day", "win", "safe"]
        .map(|word| format!("{word}\tcake\n"))
        .concat();
    std::fs::write(folder.path().join("wrong.tsv"), wrong).unwrap();
    std::fs::write(folder.path().join("v.json"), format!("{:?}", vec![1.0; 128])).unwrap();
    std::fs::write(folder.path().join("small.json"), "[1.0, 2.0]").unwrap();
    json(&folder, &[&["vector", "make", "--site", "L1", "--out", "v.safetensors"], &SETS[..]].concat());
    let make = |rest: &[&'static str]| [&["vector", "make"], rest].concat();
    let of = |positive: &'static str, negative: &'static str, rest: &[&'static str]| {
        [&["vector", "make", "--positive", positive, "--negative", negative], rest].concat()
    };
    let select = |rest: &[&'static str]| [&["vector", "select", "--watch", " Sorry"], &SETS[..], rest].concat();
    let test = |vector: &'static str, rest: &[&'static str]| {
        [&["vector", "test", vector, "--watch", " Sorry"], &TESTS[..], rest].concat()
    };
    for (arguments, says) in [
        (make(&["--site", "L1"]), "there are no prompts"),
        (make(&["--site", "L1", "--positive", "nice.txt"]), "--negative"),
        (of("naughty.txt", "nice.txt", &[]), "there is no --site"),
        (of("naughty.txt", "nice.txt", &["--site", "L1.H9.q", "--method", "pca"]), "no head 9"),
        (of("naughty.txt", "nice.txt", &["--site", "K1"]), "hint: "),
        (of("naughty.txt", "nice.txt", &["--site", "L1", "--centred"]), "say --method pca"),
        (of("naughty.txt", "nice.txt", &["--site", "L1", "--method", "lda"]), "mass-mean"),
        (of("naughty.txt", "short.txt", &["--site", "L1", "--method", "pca"]), "12 positive and 1 negative"),
        (of("empty.txt", "nice.txt", &["--site", "L1"]), "empty.txt holds no prompts"),
        (of("long.txt", "nice.txt", &["--site", "L1"]), "at most 64"),
        (make(&["--method", "function"]), "there are no pairs of words"),
        (make(&["--method", "function", "--task", "antonym", "--site", "L1"]), "leave out --site"),
        (make(&["--method", "function", "--examples", "pairs.tsv"]), "line 2 of pairs.tsv is no pair"),
        (make(&["--method", "function", "--examples", "few.tsv", "--shots", "2"]), "2 pairs are too few"),
        (make(&["--method", "function", "--task", "antonym", "--shots", "1"]), "two or more with --shots"),
        (make(&["--method", "function", "--task", "antonym", "--shots", "14"]), "at most 64"),
        (make(&["--method", "function", "--task", "antonym", "--heads", "0"]), "--heads 0"),
        (
            make(&[
                "--method",
                "function",
                "--examples",
                "wrong.tsv",
                "--shots",
                "2",
                "--format",
                "arrow",
                "--prompts",
                "2",
            ]),
            "none of ",
        ),
        (make(&["--site", "L1", "--examples", "few.tsv"]), "--examples are for other methods"),
        (select(&["--positions=-1,2"]), "position 2 does not count from the end"),
        (select(&["--positions=-40"]), "position -40 is not in a prompt"),
        (select(&["--max-kl=-1"]), "keep nothing"),
        (
            vec!["vector", "select", "--watch", " Sorry", "--positive", "word.txt", "--negative", "nice.txt"],
            "the positive validation prompts are none",
        ),
        (vec!["vector", "select", "--positive", "naughty.txt", "--negative", "nice.txt"], "--watch"),
        (test("v.json", &[]), "does not say where its vector belongs"),
        (test("small.json", &["--site", "L1"]), "has length 2"),
        (test("v.json", &["--site", "L9"]), "the nearest site is `L3`"),
        (test("v.safetensors", &["--model", "toy-2l"]), "not from this model"),
        (test("v.safetensors", &["--dose", "0"]), "adds nothing"),
        (test("v.safetensors", &["--generate", "60"]), "generate less"),
        (test("v.safetensors", &["--theme", "pink"]), "pink"),
    ] {
        refuses(&folder, &arguments, says);
    }
}
