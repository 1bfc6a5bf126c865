//! Gemma, Gemma 2 and the text models of Gemma 3.

use super::fields::Fields;
use super::llama::{Defaults, common, slide};
use super::{Biases, Layout, rope};
use crate::model::load::ModelError;
use crate::model::spec::{NormPlacement, Pairing, QueryKeyNorm, Spec};

const DEFAULTS: Defaults =
    Defaults { theta: 10_000.0, epsilon: 1e-6, tied: true, d_head: Some(256), activation: "gelu_pytorch_tanh" };

/// Embeddings are scaled by √d_model, and a norm's gain is stored less 1.
pub(super) fn gemma(fields: &Fields) -> Result<(Spec, Layout), ModelError> {
    family(fields, "gemma", &DEFAULTS)
}

fn family(fields: &Fields, name: &str, defaults: &Defaults) -> Result<(Spec, Layout), ModelError> {
    let (mut spec, layout) = common(fields, name, defaults)?;
    spec.embedding_scale = (spec.d_model as f64).sqrt();
    let bias = fields.flag_or("attention_bias", false)?;
    let biases = Biases { projections: bias, attention_out: bias, mlp: false, unembedding: false };
    Ok((spec, Layout { gain_offset: 1.0, biases, ..layout }))
}

/// What Gemma 2 and 3 add: norms after attention and MLP, a scale of their own, windows, soft caps.
fn second(fields: &Fields, name: &str, defaults: &Defaults) -> Result<(Spec, Layout), ModelError> {
    let (mut spec, layout) = family(fields, name, defaults)?;
    spec.placement = NormPlacement::BeforeAndAfter;
    spec.attention.scale = fields.number_or("query_pre_attn_scalar", 256.0)?.powf(-0.5);
    spec.attention.soft_cap = fields.optional_number("attn_logit_softcapping")?;
    spec.logit_cap = fields.optional_number("final_logit_softcapping")?;
    let layout = Layout {
        attention_after: Some("post_attention_layernorm"),
        mlp_norm: Some("pre_feedforward_layernorm"),
        mlp_after: Some("post_feedforward_layernorm"),
        ..layout
    };
    Ok((spec, layout))
}

pub(super) fn gemma2(fields: &Fields) -> Result<(Spec, Layout), ModelError> {
    let (mut spec, layout) = second(fields, "gemma2", &DEFAULTS)?;
    slide(fields, &mut spec, |layer| layer % 2 == 0)?;
    Ok((spec, layout))
}

/// Sliding layers have a rotation of their own, unscaled.
pub(super) fn gemma3(fields: &Fields) -> Result<(Spec, Layout), ModelError> {
    let (mut spec, layout) = second(fields, "gemma3_text", &Defaults { theta: 1e6, ..DEFAULTS })?;
    let pattern = fields.size_or("sliding_window_pattern", 6)?;
    let slides = |layer: usize| !(layer + 1).is_multiple_of(pattern);
    slide(fields, &mut spec, slides)?;
    fields.must_be("use_bidirectional_attention", false)?;
    let local = match fields.optional("rope_local_base_freq") {
        Some(_) => fields.number("rope_local_base_freq")?,
        None => rope::sliding_theta(fields)?.unwrap_or(10_000.0),
    };
    spec.attention.rotaries.push(rope::plain(spec.d_head, local, Pairing::Halves));
    for layer in &mut spec.attention.layers {
        if layer.window.is_some() {
            layer.rotary = Some(1);
        }
    }
    spec.attention.query_key_norm = QueryKeyNorm::PerHead;
    Ok((spec, Layout { query_key_norm: Some(["self_attn.q_norm", "self_attn.k_norm"]), ..layout }))
}
