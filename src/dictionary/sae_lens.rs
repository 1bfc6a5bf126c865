//! A folder of SAELens: `cfg.json` and `sae_weights.safetensors`, as versions before 6 and since write them.
//!
//! What is folded away in reading, exactly: activations rescaled by the decoder's norms (`rescale_acts_by_decoder_norm`). BatchTopK and
//! Matryoshka dictionaries are written as SAELens exports them, as JumpReLU with what trained them in the metadata.

use super::tensors::{Named, to_bytes};
use super::{Activation, Architecture, Dictionary, DictionaryError, DictionaryV1, Normalize, hook, native, record};
use crate::error::FileError;
use serde_json::{Value, json};
use std::path::Path;
use tch::{Kind, Tensor};

pub const WEIGHTS: &str = "sae_weights.safetensors";
const CONFIG: &str = "cfg.json";
/// The version whose layout is written.
const VERSION: &str = "6.18.0";

/// The configuration of a folder of SAELens or sparsify.
pub(super) fn config(folder: &Path) -> Result<Value, DictionaryError> {
    let path = folder.join(CONFIG);
    let bytes = std::fs::read(&path).map_err(FileError::reading(&path))?;
    serde_json::from_slice(&bytes).map_err(|error| DictionaryError::None { path, why: error.to_string() })
}

pub(super) fn read(folder: &Path) -> Result<Dictionary, DictionaryError> {
    let config = config(folder)?;
    let path = &folder.join(CONFIG);
    let none = |why: String| DictionaryError::None { path: path.clone(), why };
    let metadata = &config["metadata"];
    // Version 6 moved what is about the model into `metadata`.
    let text = |key: &str| config[key].as_str().or(metadata[key].as_str()).map(str::to_owned);
    let size = |key: &str| {
        let size = config[key].as_u64().filter(|&size| size > 0);
        size.map(|size| size as usize).ok_or_else(|| none(format!("it does not say its `{key}`")))
    };
    let (width, features) = (size("d_in")?, size("d_sae")?);
    for key in ["finetuning_scaling_factor", "use_error_term"] {
        if config[key].as_bool() == Some(true) {
            return Err(none(format!("`{key}` is not supported")));
        }
    }
    let (architecture, k) = architecture(&config, path)?;
    let hook = text("hook_name").or_else(|| text("hook_point"));
    let record = DictionaryV1 {
        schema: record::SCHEMA.into(),
        architecture,
        site: hook.as_deref().and_then(hook::from_transformer_lens),
        hook,
        model: text("model_name"),
        weights: None,
        features,
        width,
        k,
        prefixes: prefixes(&config),
        normalize: normalize(&config, path)?,
        apply_b_dec_to_input: config["apply_b_dec_to_input"].as_bool().unwrap_or(true),
        training: None,
    };
    let mut named = Named::read(&folder.join(WEIGHTS))?;
    let rescale = config["rescale_acts_by_decoder_norm"].as_bool() == Some(true);
    thresholds(&mut named, features)?;
    let dictionary = native::dictionary(&mut named, record, path)?;
    Ok(if rescale { norms_folded(dictionary) } else { dictionary })
}

/// The architecture, and its k.
fn architecture(config: &Value, path: &Path) -> Result<(Architecture, Option<usize>), DictionaryError> {
    let metadata = &config["metadata"];
    let k_of = |value: &Value| value.as_f64().map(|k| k.round() as usize);
    let details = &metadata["training_architecture_details"];
    let k = k_of(&config["k"]).or(k_of(&config["activation_fn_kwargs"]["k"])).or(k_of(&details["k"]));
    let activation = config["activation_fn"].as_str().or(config["activation_fn_str"].as_str()).unwrap_or("relu");
    let trained = metadata["training_architecture"].as_str();
    let architecture = match (config["architecture"].as_str().unwrap_or("standard"), activation, trained) {
        ("standard" | "topk", "topk", _) | ("topk", "relu", _) => Architecture::TopK,
        ("standard", "relu", _) => Architecture::Relu,
        ("gated", "relu", _) => Architecture::Gated,
        ("batchtopk", ..) | ("jumprelu", "relu", Some("batchtopk")) => Architecture::BatchTopK,
        ("matryoshka_batchtopk", ..) | ("jumprelu", "relu", Some("matryoshka_batchtopk")) => Architecture::Matryoshka,
        ("jumprelu", "relu", _) => Architecture::JumpRelu,
        (architecture, activation, _) => {
            let name =
                if activation == "relu" { architecture.into() } else { format!("{architecture} with {activation}") };
            return Err(DictionaryError::Architecture { path: path.to_owned(), name });
        }
    };
    Ok((architecture, k.filter(|_| architecture.has_k())))
}

fn prefixes(config: &Value) -> Vec<usize> {
    let details = &config["metadata"]["training_architecture_details"]["matryoshka_widths"];
    let widths = config["matryoshka_widths"].as_array().or(details.as_array());
    widths.into_iter().flatten().filter_map(|width| width.as_u64()).map(|width| width as usize).collect()
}

fn normalize(config: &Value, path: &Path) -> Result<Normalize, DictionaryError> {
    let unknown = |name: &str, why| DictionaryError::Normalisation { path: path.to_owned(), name: name.into(), why };
    let factor = [&config["norm_scaling_factor"], &config["metadata"]["norm_scaling_factor"]];
    let factor = factor.into_iter().find_map(Value::as_f64).filter(|factor| *factor > 0.0 && factor.is_finite());
    match &config["normalize_activations"] {
        Value::Null | Value::Bool(false) => Ok(Normalize::None),
        Value::String(name) if name == "none" => Ok(Normalize::None),
        Value::String(name) if name == "layer_norm" => Ok(Normalize::LayerNorm),
        Value::String(name) if name == "constant_norm_rescale" => Ok(Normalize::ConstantNormRescale),
        Value::Bool(true) => factored(factor, || unknown("true", "without the factor")),
        Value::String(name) if name == "expected_average_only_in" => {
            factored(factor, || unknown(name, "without the factor"))
        }
        Value::String(name) => Err(unknown(name, "which penjing does not know")),
        other => Err(unknown(&other.to_string(), "which penjing does not know")),
    }
}

fn factored(factor: Option<f64>, missing: impl Fn() -> DictionaryError) -> Result<Normalize, DictionaryError> {
    factor.map(|factor| Normalize::ExpectedAverageOnlyIn { factor }).ok_or_else(missing)
}

/// Thresholds as older versions and unfinished BatchTopK trainings keep them, as one for each feature.
fn thresholds(named: &mut Named, features: usize) -> Result<(), DictionaryError> {
    let each = features as i64;
    let threshold = if named.has("log_threshold") {
        named.take("log_threshold", &[each])?.exp()
    } else if named.has("topk_threshold") {
        named.take("topk_threshold", &[])?.expand([each], false).contiguous()
    } else {
        return Ok(());
    };
    named.put("threshold", threshold);
    Ok(())
}

/// f from pre-activations times the decoder's norms, x̂ from f over those norms: the same with decoder rows of length 1.
fn norms_folded(dictionary: Dictionary) -> Dictionary {
    let norms = dictionary.w_dec.square().sum_dim_intlist(-1, false, None::<Kind>).sqrt().clamp_min(1e-8); // [features]
    let activation = match dictionary.activation {
        Activation::TopK { b_enc, k } => Activation::TopK { b_enc: b_enc * &norms, k },
        Activation::Threshold { b_enc, threshold } => Activation::Threshold { b_enc: b_enc * &norms, threshold },
        other => other,
    };
    let (w_enc, w_dec) = (&dictionary.w_enc * &norms, &dictionary.w_dec / norms.unsqueeze(1));
    Dictionary { w_enc, w_dec, activation, ..dictionary }
}

/// The files of the folder: names and bytes.
///
/// # Errors
/// None in practice.
pub fn files(dictionary: &Dictionary) -> Result<Vec<(&'static str, Vec<u8>)>, DictionaryError> {
    let dictionary = dictionary.folded();
    let record = &dictionary.record;
    let (architecture, trained) = match record.architecture {
        Architecture::Relu => ("standard", None),
        Architecture::TopK => ("topk", None),
        Architecture::JumpRelu => ("jumprelu", None),
        Architecture::Gated => ("gated", None),
        Architecture::BatchTopK => ("jumprelu", Some("batchtopk")),
        Architecture::Matryoshka => ("jumprelu", Some("matryoshka_batchtopk")),
    };
    let mut metadata = json!({ "sae_lens_version": VERSION, "sae_lens_training_version": null });
    let hook = record.site.as_deref().and_then(hook::to_transformer_lens).or_else(|| record.hook.clone());
    for (key, value) in [("model_name", &record.model), ("hook_name", &hook)] {
        if let Some(value) = value {
            metadata[key] = json!(value);
        }
    }
    if let Some(trained) = trained {
        metadata["training_architecture"] = json!(trained);
        metadata["training_architecture_details"] = json!({ "k": record.k, "matryoshka_widths": record.prefixes });
    }
    let mut config = json!({
        "architecture": architecture,
        "d_in": record.width,
        "d_sae": record.features,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": record.apply_b_dec_to_input,
        "normalize_activations": match record.normalize {
            Normalize::LayerNorm => "layer_norm",
            Normalize::ConstantNormRescale => "constant_norm_rescale",
            Normalize::None | Normalize::ExpectedAverageOnlyIn { .. } => "none",
        },
        "reshape_activations": "none",
        "metadata": metadata,
    });
    if let Activation::TopK { k, .. } = &dictionary.activation {
        config["k"] = json!(k);
    }
    let mut tensors: Vec<(&str, &Tensor)> =
        vec![("W_enc", &dictionary.w_enc), ("W_dec", &dictionary.w_dec), ("b_dec", &dictionary.b_dec)];
    tensors.extend(dictionary.activation.tensors());
    let config = serde_json::to_vec_pretty(&config).unwrap_or_default();
    Ok(vec![(CONFIG, config), (WEIGHTS, to_bytes(&tensors, None)?)])
}
