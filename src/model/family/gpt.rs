//! GPT-2, GPT-Neo, GPT-NeoX (Pythia) and GPT-J.

use super::fields::Fields;
use super::{Biases, Layout, Matrices, MlpNames, Projections, rope};
use crate::model::load::ModelError;
use crate::model::spec::{AttentionLayer, MlpSpec, NormKind, Pairing, Positions, Spec};
use serde_json::Value;

/// The layout of GPT-2's checkpoints, from which the others differ in names.
pub(in crate::model) const GPT2: Layout = Layout {
    prefixes: &["transformer.", ""],
    token_embedding: "wte.weight",
    position_embedding: Some("wpe.weight"),
    positions_skipped: 0,
    block: "h.{}.",
    matrices: Matrices::InOut,
    attention_norm: Some("ln_1"),
    projections: Projections::Fused("attn.c_attn"),
    query_key_norm: None,
    attention_out: "attn.c_proj",
    attention_after: None,
    mlp_norm: Some("ln_2"),
    mlp: Some(MlpNames::Plain { input: "mlp.c_fc", output: "mlp.c_proj" }),
    mlp_after: None,
    final_norm: Some("ln_f"),
    unembedding: "lm_head",
    tied: true,
    norm_gains: true,
    gain_offset: 0.0,
    biases: Biases { projections: true, attention_out: true, mlp: true, unembedding: false },
    buffers: &[".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias", ".inv_freq"],
};

pub(super) fn gpt2(fields: &Fields) -> Result<(Spec, Layout), ModelError> {
    fields.must_be("scale_attn_weights", true)?;
    fields.must_be("scale_attn_by_inverse_layer_idx", false)?;
    fields.must_be("add_cross_attention", false)?;
    let (d_model, heads) = (fields.size("n_embd")?, fields.size("n_head")?);
    fields.divided(("n_embd", d_model), ("n_head", heads))?;
    let mut spec =
        Spec::gpt2(fields.size("n_layer")?, heads, d_model, fields.size("vocab_size")?, fields.size("n_positions")?);
    spec.d_mlp = fields.size_or("n_inner", 4 * d_model)?;
    spec.mlp = Some(MlpSpec { activation: fields.activation("activation_function", "gelu_new")?, gated: false });
    spec.norm_epsilon = fields.number_or("layer_norm_epsilon", 1e-5)?;
    let layout = Layout { tied: fields.flag_or("tie_word_embeddings", true)?, ..GPT2 };
    Ok((spec, layout))
}

/// Attention is global and local by turns, and its scores are not divided by √d_head.
pub(super) fn gpt_neo(fields: &Fields) -> Result<(Spec, Layout), ModelError> {
    let (d_model, heads, layers) = (fields.size("hidden_size")?, fields.size("num_heads")?, fields.size("num_layers")?);
    fields.divided(("hidden_size", d_model), ("num_heads", heads))?;
    let (vocab, context) = (fields.size("vocab_size")?, fields.size("max_position_embeddings")?);
    let window = fields.size_or("window_size", 256)?;
    let mut spec = Spec { family: "gpt_neo".into(), ..Spec::gpt2(layers, heads, d_model, vocab, context) };
    spec.d_mlp = fields.size_or("intermediate_size", 4 * d_model)?;
    spec.mlp = Some(MlpSpec { activation: fields.activation("activation_function", "gelu_new")?, gated: false });
    spec.norm_epsilon = fields.number_or("layer_norm_epsilon", 1e-5)?;
    spec.attention.scale = 1.0;
    spec.attention.layers = neo_kinds(fields, layers)?
        .into_iter()
        .map(|local| AttentionLayer { window: local.then_some(window), rotary: None })
        .collect();
    let layout = Layout {
        matrices: Matrices::OutIn,
        projections: Projections::Separate(["attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj"]),
        attention_out: "attn.attention.out_proj",
        tied: fields.flag_or("tie_word_embeddings", true)?,
        biases: Biases { projections: false, ..GPT2.biases },
        ..GPT2
    };
    Ok((spec, layout))
}

/// Whether each layer is local, from `attention_types` (lists of kinds, each with how often it repeats).
fn neo_kinds(fields: &Fields, layers: usize) -> Result<Vec<bool>, ModelError> {
    let wrong = || fields.wrong("attention_types", format!("does not describe {layers} layers as global or local"));
    let kind = |kind: &Value| match kind.as_str() {
        Some("global") => Some(false),
        Some("local") => Some(true),
        _ => None,
    };
    let Some(types) = fields.optional("attention_types") else {
        return Ok((0..layers).map(|layer| layer % 2 == 1).collect());
    };
    let mut local = Vec::new();
    for entry in types.as_array().ok_or_else(wrong)? {
        let (kinds, times) = match entry.as_array().map(Vec::as_slice) {
            Some([kinds, times]) => (kinds.as_array(), times.as_u64()),
            _ => (None, None),
        };
        let kinds: Option<Vec<bool>> = kinds.and_then(|kinds| kinds.iter().map(kind).collect());
        let (kinds, times) = kinds.zip(times).ok_or_else(wrong)?;
        if kinds.is_empty() || times > layers as u64 {
            return Err(wrong());
        }
        for _ in 0..times {
            if local.len() + kinds.len() > layers {
                return Err(wrong());
            }
            local.extend(&kinds);
        }
    }
    if local.len() == layers { Ok(local) } else { Err(wrong()) }
}

pub(super) fn gpt_neox(fields: &Fields) -> Result<(Spec, Layout), ModelError> {
    let (d_model, heads) = (fields.size("hidden_size")?, fields.size("num_attention_heads")?);
    let d_head = fields.divided(("hidden_size", d_model), ("num_attention_heads", heads))?;
    let (layers, vocab) = (fields.size("num_hidden_layers")?, fields.size("vocab_size")?);
    let context = fields.size("max_position_embeddings")?;
    let dims = rope::dimensions(fields, &["partial_rotary_factor", "rotary_pct"], d_head, 0.25)?;
    let theta = fields.number_or("rotary_emb_base", 10_000.0)?;
    let (rotary, context) = rope::scaled(fields, dims, theta, context)?;
    let mut spec = Spec { family: "gpt_neox".into(), ..Spec::gpt2(layers, heads, d_model, vocab, context) };
    spec.d_mlp = fields.size("intermediate_size")?;
    spec.mlp = Some(MlpSpec { activation: fields.activation("hidden_act", "gelu")?, gated: false });
    spec.norm_epsilon = fields.number_or("layer_norm_eps", 1e-5)?;
    spec.parallel = fields.flag_or("use_parallel_residual", true)?;
    spec.positions = Positions::InAttention;
    spec.attention.rotaries = vec![rotary];
    spec.attention.layers = vec![AttentionLayer { window: None, rotary: Some(0) }; layers];
    let attention = fields.flag_or("attention_bias", true)?;
    let layout = Layout {
        prefixes: &["gpt_neox.", ""],
        token_embedding: "embed_in.weight",
        position_embedding: None,
        block: "layers.{}.",
        matrices: Matrices::OutIn,
        attention_norm: Some("input_layernorm"),
        projections: Projections::FusedByHead("attention.query_key_value"),
        attention_out: "attention.dense",
        mlp_norm: Some("post_attention_layernorm"),
        mlp: Some(MlpNames::Plain { input: "mlp.dense_h_to_4h", output: "mlp.dense_4h_to_h" }),
        final_norm: Some("final_layer_norm"),
        unembedding: "embed_out",
        tied: fields.flag_or("tie_word_embeddings", false)?,
        biases: Biases { projections: attention, attention_out: attention, ..GPT2.biases },
        ..GPT2
    };
    Ok((spec, layout))
}

/// Parallel, both halves of a block behind one norm; neighbouring dimensions rotate together.
pub(super) fn gptj(fields: &Fields) -> Result<(Spec, Layout), ModelError> {
    let (d_model, heads) = (fields.size("n_embd")?, fields.size("n_head")?);
    let d_head = fields.divided(("n_embd", d_model), ("n_head", heads))?;
    let (layers, vocab, context) = (fields.size("n_layer")?, fields.size("vocab_size")?, fields.size("n_positions")?);
    let dims = fields.size_or("rotary_dim", d_head)?;
    if dims > d_head || dims % 2 == 1 {
        return Err(fields.wrong("rotary_dim", format!("= {dims} is odd or more than the {d_head} of a head")));
    }
    let mut spec = Spec { family: "gptj".into(), ..Spec::gpt2(layers, heads, d_model, vocab, context) };
    spec.d_mlp = fields.size_or("n_inner", 4 * d_model)?;
    spec.mlp = Some(MlpSpec { activation: fields.activation("activation_function", "gelu_new")?, gated: false });
    spec.norm = NormKind::LayerNorm;
    spec.norm_epsilon = fields.number_or("layer_norm_epsilon", 1e-5)?;
    spec.parallel = true;
    spec.positions = Positions::InAttention;
    spec.attention.rotaries = vec![rope::plain(dims, 10_000.0, Pairing::Neighbours)];
    spec.attention.layers = vec![AttentionLayer { window: None, rotary: Some(0) }; layers];
    let tied = fields.flag_or("tie_word_embeddings", false)?;
    let layout = Layout {
        position_embedding: None,
        matrices: Matrices::OutIn,
        projections: Projections::Separate(["attn.q_proj", "attn.k_proj", "attn.v_proj"]),
        attention_out: "attn.out_proj",
        mlp_norm: Some("ln_1"),
        mlp: Some(MlpNames::Plain { input: "mlp.fc_in", output: "mlp.fc_out" }),
        tied,
        biases: Biases { projections: false, attention_out: false, mlp: true, unembedding: true },
        buffers: &[".attn.bias", ".attn.masked_bias", ".embed_positions"],
        ..GPT2
    };
    Ok((spec, layout))
}
