//! Writes a network as an ordinary Hugging Face folder, all of it or nothing.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use penjing::model::tap::NoTap;
use penjing::model::{Pass, Start};
use penjing::task::Task;
use safetensors::Dtype;
use safetensors::tensor::View;
use serde_json::json;
use tch::nn::VarStore;
use tch::{Kind, Tensor};
use tokenizers::Tokenizer;

use crate::network::Network;
use crate::recipe::{CONTEXT, Recipe};
use crate::sentences::Lessons;
use crate::vocabulary::{END, UNKNOWN};

struct Stored {
    kind: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for &Stored {
    fn dtype(&self) -> Dtype {
        self.kind
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

fn stored(tensor: &Tensor, half: bool) -> Result<Stored> {
    let values = Vec::<f32>::try_from(tensor.detach().to_kind(Kind::Float).contiguous().view(-1))?;
    let bytes = match half {
        true => values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect(),
        false => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    };
    let kind = if half { Dtype::F16 } else { Dtype::F32 };
    Ok(Stored { kind, shape: tensor.size().iter().map(|size| *size as usize).collect(), bytes })
}

/// Writes `config.json`, `model.safetensors`, `tokenizer.json` and `tokenizer_config.json` beside `folder` and swaps them in.
pub fn export(store: &VarStore, recipe: &Recipe, tokenizer: &[u8], vocabulary: usize, folder: &Path) -> Result<()> {
    let parent = folder.parent().context("the model folder needs a parent")?;
    fs::create_dir_all(parent)?;
    let draft = tempfile::Builder::new().prefix(".growing-").tempdir_in(parent)?;

    let mut tensors: Vec<(String, Stored)> = Vec::new();
    for (name, tensor) in store.variables() {
        tensors.push((name, stored(&tensor, recipe.half)?));
    }
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let metadata = Some([("format".to_owned(), "pt".to_owned())].into_iter().collect());
    let weights = safetensors::serialize(tensors.iter().map(|(name, tensor)| (name, tensor)), metadata)?;

    let config = json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": vocabulary,
        "n_positions": CONTEXT,
        "n_ctx": CONTEXT,
        "n_embd": recipe.width,
        "n_layer": recipe.layers,
        "n_head": recipe.heads,
        "n_inner": null,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "initializer_range": 0.02,
        "scale_attn_weights": true,
        "tie_word_embeddings": true,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "torch_dtype": if recipe.half { "float16" } else { "float32" },
        "use_cache": true,
    });
    let tokenizer_config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END,
        "eos_token": END,
        "unk_token": UNKNOWN,
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": false,
    });
    let text = |value: &serde_json::Value| -> Result<String> { Ok(serde_json::to_string_pretty(value)? + "\n") };
    fs::write(draft.path().join("config.json"), text(&config)?)?;
    fs::write(draft.path().join("tokenizer_config.json"), text(&tokenizer_config)?)?;
    fs::write(draft.path().join("tokenizer.json"), tokenizer)?;
    fs::write(draft.path().join("model.safetensors"), weights)?;

    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot replace {}", folder.display()))?;
    }
    fs::rename(draft.keep(), folder).with_context(|| format!("cannot write {}", folder.display()))
}

/// The largest difference between the network's logits and those of the folder as penjing loads and runs it.
pub fn compare(folder: &Path, network: &Network, tasks: &[Task], tokenizer: &Tokenizer) -> Result<f64> {
    let _no_gradients = tch::no_grad_guard();
    let loaded = penjing::model::load(&folder.to_string_lossy())?;
    let mut worst = 0.0f64;
    for task in tasks {
        for sentence in Lessons::new(task, tokenizer, 0)?.held_out.iter().take(10) {
            let tokens = Tensor::from_slice(&sentence.prompt).unsqueeze(0); // [1, pos]
            let grown = network.unembed(&network.forward(&tokens)); // [1, pos, vocab]
            let read = loaded.model.forward(Start::Tokens(&tokens), &Pass::ALL, &mut NoTap); // [1, pos, vocab]
            worst = worst.max((grown - read).abs().max().double_value(&[]));
        }
    }
    ensure!(worst < 1e-4, "the folder gives other logits than the network: they differ by {worst:e}");
    Ok(worst)
}
