//! Llama and its relatives: Mistral, Qwen 2 and 3, Phi-3, OLMo 2.

use super::fields::Fields;
use super::gpt::GPT2;
use super::{Biases, Layout, Matrices, MlpNames, Projections, rope};
use crate::model::load::ModelError;
use crate::model::spec::{AttentionLayer, MlpSpec, NormKind, NormPlacement, Positions, QueryKeyNorm, Spec};

/// Separate matrices, RMSNorm, gated MLPs, no biases.
pub(super) const LLAMA: Layout = Layout {
    prefixes: &["model.", ""],
    token_embedding: "embed_tokens.weight",
    position_embedding: None,
    block: "layers.{}.",
    matrices: Matrices::OutIn,
    attention_norm: Some("input_layernorm"),
    projections: Projections::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    attention_out: "self_attn.o_proj",
    mlp_norm: Some("post_attention_layernorm"),
    mlp: Some(MlpNames::Gated { gate: "mlp.gate_proj", input: "mlp.up_proj", output: "mlp.down_proj" }),
    final_norm: Some("norm"),
    tied: false,
    biases: Biases { projections: false, attention_out: false, mlp: false, unembedding: false },
    buffers: &[".rotary_emb.inv_freq"],
    ..GPT2
};

/// What a family leaves out of its `config.json` because it is the default.
pub(super) struct Defaults {
    pub theta: f64,
    pub epsilon: f64,
    pub tied: bool,
    /// `None`: the width divided by the heads.
    pub d_head: Option<usize>,
    pub activation: &'static str,
}

const DEFAULTS: Defaults = Defaults { theta: 10_000.0, epsilon: 1e-6, tied: false, d_head: None, activation: "silu" };

/// The sizes and choices that the families of this file and Gemma's share, with full attention everywhere.
pub(super) fn common(fields: &Fields, family: &str, defaults: &Defaults) -> Result<(Spec, Layout), ModelError> {
    let (d_model, heads) = (fields.size("hidden_size")?, fields.size("num_attention_heads")?);
    let kv_heads = fields.size_or("num_key_value_heads", heads)?;
    fields.divided(("num_attention_heads", heads), ("num_key_value_heads", kv_heads))?;
    let d_head = match (fields.optional_size("head_dim")?, defaults.d_head) {
        (Some(d_head), _) | (None, Some(d_head)) => d_head,
        (None, None) => fields.divided(("hidden_size", d_model), ("num_attention_heads", heads))?,
    };
    let (layers, vocab) = (fields.size("num_hidden_layers")?, fields.size("vocab_size")?);
    let dims = rope::dimensions(fields, &["partial_rotary_factor"], d_head, 1.0)?;
    let (rotary, context) = rope::scaled(fields, dims, defaults.theta, fields.size("max_position_embeddings")?)?;
    let mut spec = Spec { family: family.into(), ..Spec::gpt2(layers, heads, d_model, vocab, context) };
    spec.kv_heads = kv_heads;
    spec.d_head = d_head;
    spec.d_mlp = fields.size("intermediate_size")?;
    spec.positions = Positions::InAttention;
    spec.norm = NormKind::Rms;
    spec.norm_epsilon = fields.number_or("rms_norm_eps", defaults.epsilon)?;
    spec.attention.scale = (d_head as f64).powf(-0.5);
    spec.attention.rotaries = vec![rotary];
    spec.attention.layers = vec![AttentionLayer { window: None, rotary: Some(0) }; layers];
    // Gemma's key is `hidden_activation`; its old `hidden_act` was never what the model was trained with.
    let key = if fields.optional("hidden_activation").is_some() { "hidden_activation" } else { "hidden_act" };
    let activation = match family {
        "gemma" => fields.activation("hidden_activation", defaults.activation)?,
        _ => fields.activation(key, defaults.activation)?,
    };
    spec.mlp = Some(MlpSpec { activation, gated: true });
    Ok((spec, Layout { tied: fields.flag_or("tie_word_embeddings", defaults.tied)?, ..LLAMA }))
}

/// Windows on the layers that have one.
pub(super) fn slide(fields: &Fields, spec: &mut Spec, slides: impl Fn(usize) -> bool) -> Result<(), ModelError> {
    for (layer, with_window) in spec.attention.layers.iter_mut().zip(fields.windows(spec.layers, slides)?) {
        layer.window = with_window.window;
    }
    Ok(())
}

pub(super) fn llama(fields: &Fields) -> Result<(Spec, Layout), ModelError> {
    let (spec, layout) = common(fields, "llama", &DEFAULTS)?;
    let attention = fields.flag_or("attention_bias", false)?;
    let biases = Biases {
        projections: attention,
        attention_out: attention,
        mlp: fields.flag_or("mlp_bias", false)?,
        unembedding: false,
    };
    Ok((spec, Layout { biases, ..layout }))
}

pub(super) fn mistral(fields: &Fields) -> Result<(Spec, Layout), ModelError> {
    let (mut spec, layout) = common(fields, "mistral", &DEFAULTS)?;
    slide(fields, &mut spec, |_| true)?;
    Ok((spec, layout))
}

/// Where Qwen slides: nowhere unless `use_sliding_window`, and then from layer `max_window_layers` on.
fn qwen_windows(fields: &Fields, spec: &mut Spec) -> Result<(), ModelError> {
    if !fields.flag_or("use_sliding_window", false)? {
        return Ok(());
    }
    let full = match fields.optional("max_window_layers").map(serde_json::Value::as_u64) {
        None => 28,
        Some(Some(full)) => usize::try_from(full).unwrap_or(usize::MAX),
        Some(None) => return Err(fields.wrong("max_window_layers", "is not a whole number")),
    };
    slide(fields, spec, |layer| layer >= full)
}

pub(super) fn qwen2(fields: &Fields) -> Result<(Spec, Layout), ModelError> {
    let (mut spec, layout) = common(fields, "qwen2", &DEFAULTS)?;
    qwen_windows(fields, &mut spec)?;
    Ok((spec, Layout { biases: Biases { projections: true, ..LLAMA.biases }, ..layout }))
}

pub(super) fn qwen3(fields: &Fields) -> Result<(Spec, Layout), ModelError> {
    let (mut spec, layout) = common(fields, "qwen3", &Defaults { d_head: Some(128), ..DEFAULTS })?;
    qwen_windows(fields, &mut spec)?;
    spec.attention.query_key_norm = QueryKeyNorm::PerHead;
    let bias = fields.flag_or("attention_bias", false)?;
    let layout = Layout {
        query_key_norm: Some(["self_attn.q_norm", "self_attn.k_norm"]),
        biases: Biases { projections: bias, attention_out: bias, ..LLAMA.biases },
        ..layout
    };
    Ok((spec, layout))
}

pub(super) fn phi3(fields: &Fields) -> Result<(Spec, Layout), ModelError> {
    let (mut spec, layout) = common(fields, "phi3", &Defaults { epsilon: 1e-5, ..DEFAULTS })?;
    slide(fields, &mut spec, |_| true)?;
    let layout = Layout {
        projections: Projections::Fused("self_attn.qkv_proj"),
        mlp: Some(MlpNames::FusedGated { both: "mlp.gate_up_proj", output: "mlp.down_proj" }),
        ..layout
    };
    Ok((spec, layout))
}

/// No norm before attention and MLP but one after each; queries and keys are normed as whole vectors.
pub(super) fn olmo2(fields: &Fields) -> Result<(Spec, Layout), ModelError> {
    let (mut spec, layout) = common(fields, "olmo2", &Defaults { epsilon: 1e-5, ..DEFAULTS })?;
    spec.placement = NormPlacement::After;
    spec.attention.query_key_norm = QueryKeyNorm::Whole;
    let bias = fields.flag_or("attention_bias", false)?;
    let layout = Layout {
        attention_norm: None,
        query_key_norm: Some(["self_attn.q_norm", "self_attn.k_norm"]),
        attention_after: Some("post_attention_layernorm"),
        mlp_norm: None,
        mlp_after: Some("post_feedforward_layernorm"),
        biases: Biases { projections: bias, attention_out: bias, ..LLAMA.biases },
        ..layout
    };
    Ok((spec, layout))
}
