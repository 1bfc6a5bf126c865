//! Folders in TransformerLens's layout, in which research models with known circuits are published: a `config.json` with
//! HookedTransformerConfig's keys, tensors under its names.

use super::fields::Fields;
use super::{Biases, Layout, Matrices, MlpNames, Projections, rope};
use crate::model::load::ModelError;
use crate::model::spec::{AttentionLayer, MlpSpec, NormKind, NormPlacement, Pairing, Positions, Spec};
use serde_json::Value;

const LAYOUT: Layout = Layout {
    prefixes: &[""],
    token_embedding: "embed.W_E",
    position_embedding: None,
    positions_skipped: 0,
    block: "blocks.{}.",
    matrices: Matrices::Heads,
    attention_norm: None,
    projections: Projections::Separate(["attn.W_Q", "attn.W_K", "attn.W_V"]),
    query_key_norm: None,
    attention_out: "attn.W_O",
    attention_after: None,
    mlp_norm: None,
    mlp: None,
    mlp_after: None,
    final_norm: None,
    unembedding: "unembed.W_U",
    tied: false,
    norm_gains: true,
    gain_offset: 0.0,
    biases: Biases { projections: true, attention_out: true, mlp: true, unembedding: true },
    buffers: &[".attn.mask", ".attn.IGNORE", ".attn.rotary_sin", ".attn.rotary_cos", ".attn.alibi"],
};

pub(super) fn transformer_lens(fields: &Fields) -> Result<(Spec, Layout), ModelError> {
    for key in ["scale_attn_by_inverse_layer_idx", "post_embedding_ln", "use_qk_norm", "use_NTK_by_parts_rope"] {
        fields.must_be(key, false)?;
    }
    let (layers, heads) = (fields.size("n_layers")?, fields.size("n_heads")?);
    let (d_model, d_head) = (fields.size("d_model")?, fields.size("d_head")?);
    let (vocab, context) = (fields.size("d_vocab")?, fields.size("n_ctx")?);
    let mut spec = Spec { family: "transformer_lens".into(), ..Spec::gpt2(layers, 1, d_model, vocab, context) };
    let mut layout = LAYOUT;
    spec.heads = heads;
    spec.d_head = d_head;
    spec.kv_heads = fields.size_or("n_key_value_heads", heads)?;
    fields.divided(("n_heads", heads), ("n_key_value_heads", spec.kv_heads))?;
    if fields.optional("n_key_value_heads").is_some() {
        // Its names for matrices that are shared by several query heads.
        layout.projections = Projections::Separate(["attn.W_Q", "attn._W_K", "attn._W_V"]);
    }
    spec.vocab_out = output_vocabulary(fields, vocab)?;
    norms(fields, &mut spec, &mut layout)?;
    attention(fields, &mut spec)?;
    positions(fields, &mut spec, &mut layout)?;
    spec.parallel = fields.flag_or("parallel_attn_mlp", false)?;
    spec.logit_cap = positive_or_none(fields, "output_logits_soft_cap");
    if fields.flag_or("attn_only", false)? {
        (spec.mlp, spec.d_mlp) = (None, 0);
        layout.mlp_norm = None;
    } else {
        let gated = fields.flag_or("gated_mlp", false)?;
        spec.d_mlp = fields.size_or("d_mlp", 4 * d_model)?;
        spec.mlp = Some(MlpSpec { activation: fields.activation("act_fn", "relu")?, gated });
        layout.mlp = Some(match gated {
            true => MlpNames::Gated { gate: "mlp.W_gate", input: "mlp.W_in", output: "mlp.W_out" },
            false => MlpNames::Plain { input: "mlp.W_in", output: "mlp.W_out" },
        });
    }
    Ok((spec, layout))
}

/// −1 stands for "as the input's".
fn output_vocabulary(fields: &Fields, vocab: usize) -> Result<usize, ModelError> {
    match fields.optional("d_vocab_out").and_then(Value::as_i64) {
        None | Some(-1) => Ok(vocab),
        Some(_) => fields.size("d_vocab_out"),
    }
}

/// −1 stands for "no cap".
fn positive_or_none(fields: &Fields, key: &'static str) -> Option<f64> {
    fields.optional(key).and_then(super::fields::positive)
}

fn norms(fields: &Fields, spec: &mut Spec, layout: &mut Layout) -> Result<(), ModelError> {
    spec.norm_epsilon = fields.number_or("eps", 1e-5)?;
    let name = fields.optional("normalization_type").map(|_| fields.text("normalization_type")).transpose()?;
    (spec.norm, layout.norm_gains) = match name {
        None => (NormKind::None, false),
        Some("LN") => (NormKind::LayerNorm, true),
        Some("LNPre") => (NormKind::LayerNorm, false),
        Some("RMS") => (NormKind::Rms, true),
        Some("RMSPre") => (NormKind::Rms, false),
        Some(other) => {
            let why = format!("is `{other}`, and null, LN, LNPre, RMS and RMSPre are supported");
            return Err(fields.wrong("normalization_type", why));
        }
    };
    if fields.flag_or("final_rms", false)? && spec.norm != NormKind::Rms {
        return Err(fields.wrong("final_rms", "is true, and other norms are not RMS: that is not supported"));
    }
    if name.is_some() {
        (layout.attention_norm, layout.mlp_norm, layout.final_norm) = (Some("ln1"), Some("ln2"), Some("ln_final"));
    }
    if fields.flag_or("use_normalization_before_and_after", false)? {
        spec.placement = NormPlacement::BeforeAndAfter;
        (layout.attention_after, layout.mlp_after) = (Some("ln1_post"), Some("ln2_post"));
    }
    Ok(())
}

fn attention(fields: &Fields, spec: &mut Spec) -> Result<(), ModelError> {
    let divisor = positive_or_none(fields, "attn_scale").unwrap_or((spec.d_head as f64).sqrt());
    spec.attention.scale = if fields.flag_or("use_attn_scale", true)? { 1.0 / divisor } else { 1.0 };
    spec.attention.soft_cap = positive_or_none(fields, "attn_scores_soft_cap");
    spec.attention.causal = match fields.optional("attention_dir").map(|_| fields.text("attention_dir")).transpose()? {
        None | Some("causal") => true,
        Some("bidirectional") => false,
        Some(other) => {
            return Err(fields.wrong("attention_dir", format!("is `{other}`, neither causal nor bidirectional")));
        }
    };
    if fields.flag_or("use_local_attn", false)? {
        let window = fields.size("window_size")?;
        let Some(kinds) = fields.by_layer("attn_types", spec.layers)? else {
            return Err(fields.wrong("attn_types", "is missing"));
        };
        for (layer, kind) in spec.attention.layers.iter_mut().zip(kinds) {
            layer.window = (kind == "local").then_some(window);
        }
    }
    Ok(())
}

fn positions(fields: &Fields, spec: &mut Spec, layout: &mut Layout) -> Result<(), ModelError> {
    let kind = fields.optional("positional_embedding_type").map(|_| fields.text("positional_embedding_type"));
    spec.positions = match kind.transpose()?.unwrap_or("standard") {
        "standard" => Positions::Learned,
        "shortformer" => Positions::Shortformer,
        "rotary" => Positions::InAttention,
        other => {
            let why = format!("is `{other}`, and standard, shortformer and rotary are supported");
            return Err(fields.wrong("positional_embedding_type", why));
        }
    };
    if spec.positions != Positions::InAttention {
        layout.position_embedding = Some("pos_embed.W_pos");
        return Ok(());
    }
    let dims = fields.size_or("rotary_dim", spec.d_head)?;
    if dims > spec.d_head || dims % 2 == 1 {
        return Err(fields.wrong("rotary_dim", format!("= {dims} is odd or more than d_head = {}", spec.d_head)));
    }
    let pairing = if fields.flag_or("rotary_adjacent_pairs", false)? { Pairing::Neighbours } else { Pairing::Halves };
    spec.attention.rotaries = vec![rope::plain(dims, fields.number_or("rotary_base", 10_000.0)?, pairing)];
    for layer in &mut spec.attention.layers {
        *layer = AttentionLayer { rotary: Some(0), ..*layer };
    }
    Ok(())
}
