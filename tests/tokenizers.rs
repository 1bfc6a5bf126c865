//! Tokenizers: GPT-2's against published encodings, a byte-fallback one against a reference, and what stands at the
//! beginning of a text.

use penjing::dataset::{Bos, tokenize};
use penjing::error::Hint;
use penjing::task::PromptPair;
use penjing::tokenizer::Tokenizer;
use std::path::{Path, PathBuf};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

#[test]
fn gpt2_encodes_as_published() {
    let tokenizer = Tokenizer::from_file(data("tokenizers/gpt2.json")).unwrap();
    let inputs = std::fs::read_to_string(data("tokenizers/ggml-vocab-gpt-2.gguf.inp")).unwrap();
    let outputs = std::fs::read_to_string(data("tokenizers/ggml-vocab-gpt-2.gguf.out")).unwrap();
    let inputs: Vec<&str> = inputs.split("\n__ggml_vocab_test__\n").collect();
    let (end, inputs) = inputs.split_last().unwrap();
    assert!(end.trim().is_empty());
    let outputs: Vec<Vec<u32>> =
        outputs.lines().map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect()).collect();
    assert!(inputs.len() >= 40 && inputs.len() == outputs.len(), "{} and {}", inputs.len(), outputs.len());
    for (input, output) in inputs.iter().zip(outputs) {
        assert_eq!(tokenizer.encode(input).unwrap().ids, output, "{input:?}");
    }
}

/// Small tokenizers built like those of each family, against the tokenizers package for Python
/// (`scripts/tokenizer_fixtures.py`): ids, and the bytes that each token covers, on which named positions rest.
#[test]
fn every_family_s_kind_of_tokenizer_encodes_as_its_reference() {
    #[derive(serde::Deserialize)]
    struct Expected {
        text: String,
        ids: Vec<u32>,
        offsets: Vec<(usize, usize)>,
    }
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(data("tokenizers/families")).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert_eq!(folders.len(), 9, "{folders:?}");
    for folder in folders {
        let tokenizer = Tokenizer::from_folder(&folder).unwrap();
        let lines = std::fs::read_to_string(folder.join("encodings.jsonl")).unwrap();
        assert_eq!(lines.lines().count(), 54, "{folder:?}");
        for line in lines.lines() {
            let expected: Expected = serde_json::from_str(line).unwrap();
            let found = tokenizer.encode(&expected.text).unwrap();
            assert_eq!(found.ids, expected.ids, "{folder:?}: {:?}", expected.text);
            assert_eq!(found.offsets, expected.offsets, "{folder:?}: {:?}", expected.text);
        }
    }
}

#[test]
fn byte_fallback_and_its_beginning_of_text() {
    let tokenizer = Tokenizer::from_folder(&data("stories260k")).unwrap();
    let pairs = std::fs::read_to_string(data("stories260k/pairs.jsonl")).unwrap();
    for line in pairs.lines() {
        let pair: serde_json::Value = serde_json::from_str(line).unwrap();
        for key in ["clean", "corrupt"] {
            let expected: Vec<u32> = serde_json::from_value(pair[format!("{key}_ids")].clone()).unwrap();
            assert_eq!(tokenizer.encode(pair[key].as_str().unwrap()).unwrap().ids, expected);
        }
    }
}

/// A folder with a word-level tokenizer, with or without a post-processor that puts `<s>` before a text.
fn folder(post_processor: bool, config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null, "decoder": null,
        "added_tokens": [
            {"id": 1, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
            {"id": 5, "content": "<start>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}
        ],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "unk_token": "<unk>", "vocab": {"<unk>": 0, "<s>": 1, "a": 2, "b": 3, "c": 4}},
    });
    if post_processor {
        tokenizer["post_processor"] = serde_json::json!({
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}
        });
    }
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    if !config.is_empty() {
        std::fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
    }
    folder
}

#[test]
fn what_stands_at_the_beginning_follows_the_files_and_can_be_overridden() {
    let pair = PromptPair {
        clean: "a b".into(),
        corrupt: "c b".into(),
        right: vec!["a".into()],
        wrong: vec!["c".into()],
        ..PromptPair::default()
    };
    let check = |post_processor, config: &str, asked: Option<bool>, ids: &[u32], record: Bos| {
        let folder = folder(post_processor, config);
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        let dataset = tokenize(std::slice::from_ref(&pair), &tokenizer, asked).unwrap();
        assert_eq!((&dataset.pairs[0].clean[..], dataset.bos), (ids, record), "{config}, {asked:?}");
    };
    check(true, "", None, &[1, 2, 3], Bos::Tokenizer(1));
    check(true, r#"{"add_bos_token": false}"#, None, &[1, 2, 3], Bos::Tokenizer(1));
    check(true, "", Some(false), &[2, 3], Bos::Refused);
    check(true, "", Some(true), &[1, 2, 3], Bos::Tokenizer(1));
    check(false, "", None, &[2, 3], Bos::None);
    check(false, "", Some(true), &[1, 2, 3], Bos::Asked(1));
    check(false, "", Some(false), &[2, 3], Bos::None);
    check(false, r#"{"add_bos_token": true, "bos_token": "<start>"}"#, None, &[5, 2, 3], Bos::Tokenizer(5));
    check(false, r#"{"add_bos_token": true, "bos_token": {"content": "<s>"}}"#, None, &[1, 2, 3], Bos::Tokenizer(1));
    check(false, r#"{"bos_token": "<start>"}"#, Some(true), &[5, 2, 3], Bos::Asked(5));
    check(false, r#"{"add_bos_token": true, "bos_token": "<s>"}"#, Some(false), &[2, 3], Bos::Refused);
}

#[test]
fn damaged_tokenizers_are_refused_with_a_hint() {
    let good = std::fs::read_to_string(folder(true, "").path().join("tokenizer.json")).unwrap();
    let bad = [&good[..good.len() / 2], "not JSON", "", "[]", &good.replace("WordLevel", "Oracle")];
    for text in bad {
        let folder = folder(true, "");
        std::fs::write(folder.path().join("tokenizer.json"), text).unwrap();
        let error = Tokenizer::from_folder(folder.path()).unwrap_err();
        assert!(error.hint().is_some() && error.to_string().contains("tokenizer.json"), "{error}");
    }
    for config in ["{", r#"{"add_bos_token": "maybe"}"#] {
        let error = Tokenizer::from_folder(folder(true, config).path()).unwrap_err();
        assert!(error.hint().is_some() && error.to_string().contains("tokenizer_config.json"), "{error}");
    }
    let missing = tempfile::tempdir().unwrap();
    assert!(Tokenizer::from_folder(missing.path()).unwrap_err().hint().is_some());
}
