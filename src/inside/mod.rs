//! Looking inside a model: runs with edits, what each layer would say, what neurons do over a text.
//!
//! [`prompt`] turns a text into tokens and places; [`generate`] runs it, with edits, and goes on from there; [`lens`] decodes
//! every layer, through translators ([`tuned`], which [`tune`] trains) or without; [`patchscope`] lets another prompt say what a
//! place holds, through maps ([`affine`]) or without, for many sources in [`scope`]; [`backpatch`] puts late outputs back early,
//! for prompts whose [`hops`] are known; [`repair`] says who makes up for an ablation; [`observe`] watches all neurons over a
//! text, which [`corpus`] cuts into windows; [`doses`] runs an edit at many amounts, beside the [`natural`] ones; [`vectors`] are
//! directions from two sets of prompts; [`words`] are the sets of tokens that stand for a word. [`means`] are what `mean` edits
//! put in, [`sae`] trains and measures dictionaries of features, [`column`] computes the last position anew in many variants at
//! once, [`resample`] gives intervals, [`store`] keeps what was learned.

pub mod affine;
pub mod backpatch;
pub mod column;
pub mod corpus;
pub mod doses;
pub mod generate;
pub mod hops;
pub mod lens;
pub mod means;
pub mod natural;
pub mod observe;
pub mod patchscope;
pub mod prompt;
pub mod repair;
pub mod resample;
pub mod sae;
pub mod scope;
pub mod store;
pub mod tune;
pub mod tuned;
pub mod vectors;
pub mod words;

use crate::model::Model;
use tch::Tensor;

/// For every token the change of its logit, `[vocab_out]`, where the residual stream goes from the second row of `[2, d_model]` to the
/// first, through the final norm and the unembedding alone, halved. Of a direction, with its opposite as the second row, only
/// the order means something: the scale of the stream that it is added to is left out.
pub fn said(model: &Model, rows: &Tensor) -> Tensor {
    let _no_grad = tch::no_grad_guard();
    let logits = model.weights.unembedding.apply(&model.weights.final_norm.apply(rows)); // [2, vocab_out]
    (logits.get(0) - logits.get(1)) / 2.0
}

/// The tokens of one prompt as a batch of one, on the model's device: `[1, pos]`.
pub fn row(model: &Model, tokens: &[u32]) -> Tensor {
    let ids: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
    Tensor::from_slice(&ids).unsqueeze(0).to_device(model.device)
}
