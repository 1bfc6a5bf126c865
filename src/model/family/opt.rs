//! OPT.

use super::fields::Fields;
use super::gpt::GPT2;
use super::{Biases, Layout, Matrices, MlpNames, Projections};
use crate::model::load::ModelError;
use crate::model::spec::{MlpSpec, Spec};

/// The position embedding has two rows before that of position 0. OPT-350m norms the residual stream itself after every
/// block, so that nothing in it stays what a node wrote: its graph has no meaning, and it is refused.
pub(super) fn opt(fields: &Fields) -> Result<(Spec, Layout), ModelError> {
    if !fields.flag_or("do_layer_norm_before", true)? {
        let why = "is false: this model norms the residual stream itself, which then is no sum of what nodes write";
        return Err(fields.wrong("do_layer_norm_before", why));
    }
    fields.must_be("_remove_final_layer_norm", false)?;
    let (d_model, heads) = (fields.size("hidden_size")?, fields.size("num_attention_heads")?);
    fields.divided(("hidden_size", d_model), ("num_attention_heads", heads))?;
    if fields.size_or("word_embed_proj_dim", d_model)? != d_model {
        return Err(fields.wrong("word_embed_proj_dim", format!("differs from hidden_size = {d_model}")));
    }
    let (layers, vocab) = (fields.size("num_hidden_layers")?, fields.size("vocab_size")?);
    let context = fields.size("max_position_embeddings")?;
    let mut spec = Spec { family: "opt".into(), ..Spec::gpt2(layers, heads, d_model, vocab, context) };
    spec.d_mlp = fields.size("ffn_dim")?;
    spec.mlp = Some(MlpSpec { activation: fields.activation("activation_function", "relu")?, gated: false });
    let bias = fields.flag_or("enable_bias", true)?;
    let layout = Layout {
        prefixes: &["model.decoder.", "decoder.", ""],
        token_embedding: "embed_tokens.weight",
        position_embedding: Some("embed_positions.weight"),
        positions_skipped: 2,
        block: "layers.{}.",
        matrices: Matrices::OutIn,
        attention_norm: Some("self_attn_layer_norm"),
        projections: Projections::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
        attention_out: "self_attn.out_proj",
        mlp_norm: Some("final_layer_norm"),
        mlp: Some(MlpNames::Plain { input: "fc1", output: "fc2" }),
        final_norm: Some("final_layer_norm"),
        tied: fields.flag_or("tie_word_embeddings", true)?,
        biases: Biases { projections: bias, attention_out: bias, mlp: bias, unembedding: false },
        buffers: &[],
        ..GPT2
    };
    fields.must_be("layer_norm_elementwise_affine", true)?;
    Ok((spec, layout))
}
