//! A folder of sparsify (EleutherAI): `cfg.json` and `sae.safetensors`, named by its hook point.
//!
//! Its encoder is a linear layer, `[features, width]`. It takes the ReLU before the k largest, with the same result. A dictionary
//! that maps one site to another (a transcoder) is none of ours.

use super::sae_lens::config;
use super::tensors::{Named, to_bytes};
use super::{Activation, Architecture, Dictionary, DictionaryError, DictionaryV1, Normalize, hook, record};
use serde_json::{Value, json};
use std::path::Path;

pub const WEIGHTS: &str = "sae.safetensors";

pub(super) fn read(folder: &Path) -> Result<Dictionary, DictionaryError> {
    let config = config(folder)?;
    let none = |why: String| DictionaryError::None { path: folder.join("cfg.json"), why };
    let number = |key: &str| config[key].as_u64().map(|number| number as usize);
    let missing = |key: &str| none(format!("it does not say its `{key}`"));
    let activation = config["activation"].as_str().unwrap_or("topk");
    if activation != "topk" {
        return Err(DictionaryError::Architecture { path: folder.join("cfg.json"), name: activation.into() });
    }
    for key in ["transcode", "skip_connection"] {
        if config[key].as_bool() == Some(true) {
            return Err(none(format!("`{key}` makes it a transcoder, which is no autoencoder")));
        }
    }
    match &config["normalize_activations"] {
        Value::Null => {}
        other => {
            let (name, why) = (other.to_string(), "which sparsify does not have");
            return Err(DictionaryError::Normalisation { path: folder.join("cfg.json"), name, why });
        }
    }
    let width = number("d_in").ok_or_else(|| missing("d_in"))?;
    let expanded = || Some(width.saturating_mul(number("expansion_factor")?));
    let features = number("num_latents").filter(|&latents| latents > 0).or_else(expanded);
    let features = features.ok_or_else(|| missing("num_latents"))?;
    let k = number("k").ok_or_else(|| missing("k"))?;
    if !(1..=features).contains(&k) {
        return Err(none(format!("its k is {k}, of {features} features")));
    }
    let (each, wide) = (features as i64, width as i64);
    let mut named = Named::read(&folder.join(WEIGHTS))?;
    if named.has("W_skip") {
        return Err(none("`W_skip` makes it a transcoder, which is no autoencoder".into()));
    }
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let site = hook::from_module(name);
    let record = DictionaryV1 {
        schema: record::SCHEMA.into(),
        architecture: Architecture::TopK,
        hook: site.is_some().then(|| name.to_owned()),
        site,
        model: None,
        weights: None,
        features,
        width,
        k: Some(k),
        prefixes: Vec::new(),
        normalize: Normalize::None,
        apply_b_dec_to_input: true,
        training: None,
    };
    Ok(Dictionary {
        w_enc: named.take("encoder.weight", &[each, wide])?.tr().contiguous(),
        w_dec: named.take("W_dec", &[each, wide])?,
        b_dec: named.take("b_dec", &[wide])?,
        activation: Activation::TopK { b_enc: named.take("encoder.bias", &[each])?, k },
        record,
    })
}

/// The files of the folder: names and bytes.
///
/// # Errors
/// [`DictionaryError::CannotSay`] of what is not TopK with the bias taken off its input.
pub fn files(dictionary: &Dictionary) -> Result<Vec<(&'static str, Vec<u8>)>, DictionaryError> {
    let dictionary = dictionary.folded();
    let record = &dictionary.record;
    let cannot = |what: String| DictionaryError::CannotSay { format: "sparsify", what };
    let Activation::TopK { b_enc, k } = &dictionary.activation else {
        return Err(cannot(format!("the architecture {}", record.architecture)));
    };
    if record.normalize != Normalize::None {
        return Err(cannot(format!("the normalisation {}", record.normalize)));
    }
    if !record.apply_b_dec_to_input {
        return Err(cannot("an encoder that does not take b_dec off its input".into()));
    }
    let config = json!({
        "activation": "topk",
        "expansion_factor": record.features.div_ceil(record.width),
        "normalize_decoder": false,
        "num_latents": record.features,
        "k": k,
        "multi_topk": false,
        "skip_connection": false,
        "transcode": false,
        "d_in": record.width,
    });
    let tensors = [
        ("encoder.weight", &dictionary.w_enc.tr().contiguous()),
        ("encoder.bias", b_enc),
        ("W_dec", &dictionary.w_dec),
        ("b_dec", &dictionary.b_dec),
    ];
    let config = serde_json::to_vec_pretty(&config).unwrap_or_default();
    Ok(vec![("cfg.json", config), (WEIGHTS, to_bytes(&tensors, None)?)])
}
