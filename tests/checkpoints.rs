//! Checkpoints as they were published: with masks and tables among the weights, with other prefixes, with the tied
//! unembedding written a second time, in bfloat16. The numbers stay those of the fixture.

#![cfg(feature = "torch")]

use penjing::model::{Dtype, LoadOptions, load_with};
use penjing::parity;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

type Tensors = Vec<(String, Tensor)>;

fn fixture(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/families").join(family)
}

/// A copy of a family's fixture, its tensors rewritten.
fn rewritten(family: &str, change: impl Fn(&mut Tensors)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json", "pairs.jsonl", "expected.json"] {
        std::fs::write(folder.path().join(name), std::fs::read(fixture(family).join(name)).unwrap()).unwrap();
    }
    let mut tensors = Tensor::read_safetensors(fixture(family).join("model.safetensors")).unwrap();
    change(&mut tensors);
    Tensor::write_safetensors(&tensors, folder.path().join("model.safetensors")).unwrap();
    folder
}

/// Every number of the folder's parity file within `tolerance`, its weights kept as `dtype`.
#[track_caller]
fn check(folder: &Path, dtype: Dtype, tolerance: f64) {
    tch::set_num_threads(1);
    let loaded = load_with(folder.to_str().unwrap(), &LoadOptions { dtype, ..LoadOptions::default() }).unwrap();
    let rows = parity::check(folder, &loaded).unwrap();
    assert!(rows.len() > 3, "{rows:?}");
    for row in rows {
        assert!(row.difference <= tolerance, "{row:?}");
    }
}

fn without_prefix(tensors: &mut Tensors, prefix: &str) {
    for (name, _) in tensors {
        *name = name.strip_prefix(prefix).unwrap_or(name).to_owned();
    }
}

/// Adds a mask, the value that masked scores take and, to rotary models, a table of frequencies to every layer.
fn with_buffers(tensors: &mut Tensors, attention: &str, layers: usize) {
    for layer in 0..layers {
        let start = attention.replace("{}", &layer.to_string());
        let mask = Tensor::ones([1, 1, 48, 48], (Kind::Uint8, tch::Device::Cpu)).tril(0);
        tensors.push((format!("{start}.bias"), mask));
        tensors.push((format!("{start}.masked_bias"), Tensor::from_slice(&[-1e9f32])));
        if attention.starts_with("gpt_neox") {
            tensors.push((format!("{start}.rotary_emb.inv_freq"), Tensor::from_slice(&[1f32, 0.1])));
        }
    }
}

#[test]
fn gpt2_without_prefix_and_with_masks() {
    let folder = rewritten("gpt2", |tensors| {
        without_prefix(tensors, "transformer.");
        with_buffers(tensors, "h.{}.attn", 2);
    });
    check(folder.path(), Dtype::F32, 1e-4);
}

#[test]
fn pythia_and_its_relatives_with_masks_and_rotary_tables() {
    for (family, attention, layers) in [
        ("gpt_neox", "gpt_neox.layers.{}.attention", 2),
        ("gpt_neo", "transformer.h.{}.attn.attention", 3),
        ("gptj", "transformer.h.{}.attn", 2),
    ] {
        let folder = rewritten(family, |tensors| with_buffers(tensors, attention, layers));
        check(folder.path(), Dtype::F32, 1e-4);
    }
}

#[test]
fn old_llamas_with_rotary_tables() {
    let folder = rewritten("llama", |tensors| {
        for layer in 0..2 {
            let name = format!("model.layers.{layer}.self_attn.rotary_emb.inv_freq");
            tensors.push((name, Tensor::from_slice(&[1f32, 0.1])));
        }
    });
    check(folder.path(), Dtype::F32, 1e-4);
}

#[test]
fn opt_with_its_first_prefix() {
    let folder = rewritten("opt", |tensors| without_prefix(tensors, "model."));
    check(folder.path(), Dtype::F32, 1e-4);
}

#[test]
fn a_tied_unembedding_written_twice() {
    for (family, embedding) in [("gpt2", "transformer.wte.weight"), ("gemma2", "model.embed_tokens.weight")] {
        let folder = rewritten(family, |tensors| {
            let (_, shared) = tensors.iter().find(|(name, _)| name == embedding).unwrap();
            tensors.push(("lm_head.weight".to_owned(), shared.copy()));
        });
        check(folder.path(), Dtype::F32, 1e-4);
    }
}

/// Half precision on disk and in memory: the numbers are those of the rounded weights, whichever way they are kept.
#[test]
fn half_precision_is_kept_or_widened_without_a_difference() {
    for kind in [Kind::BFloat16, Kind::Half] {
        let folder = rewritten("llama3", |tensors| {
            tensors.iter_mut().for_each(|(_, tensor)| *tensor = tensor.to_kind(kind));
        });
        let kept = if kind == Kind::Half { Dtype::F16 } else { Dtype::Bf16 };
        let [kept, widened] = [kept, Dtype::F32].map(|dtype| {
            let options = LoadOptions { dtype, ..LoadOptions::default() };
            let loaded = load_with(folder.path().to_str().unwrap(), &options).unwrap();
            let numbers = loaded.model.weight_bytes();
            (parity::check(folder.path(), &loaded).unwrap(), numbers)
        });
        assert!(kept.1 < widened.1 * 2 / 3, "{} and {} bytes", kept.1, widened.1);
        for (kept, widened) in kept.0.iter().zip(&widened.0) {
            assert!((kept.difference - widened.difference).abs() < 1e-5, "{kept:?}, {widened:?}");
        }
        // The rounding itself shows: these are not the weights of the fixture any more.
        assert!(widened.0[0].difference > 1e-4 && widened.0[0].difference < 0.3, "{:?}", widened.0[0]);
    }
}
