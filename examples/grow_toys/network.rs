//! The GPT-2 architecture with trainable weights, named as `GPT2LMHeadModel` names them.
//!
//! penjing's own forward pass keeps its weights frozen and announces every site; training needs neither, so this is the
//! bare arithmetic. `main` checks after export that the two give equal logits.

use crate::recipe::{CONTEXT, Recipe};
use tch::nn::{Init, Path, VarStore};
use tch::{Kind, Tensor};

const EPSILON: f64 = 1e-5;
/// Variables in this group are decayed; norms and biases are in group 0 and are not.
pub const DECAYED: usize = 1;

struct Norm {
    weight: Tensor, // [width]
    bias: Tensor,   // [width]
}

/// `x W + b` with the weight stored `[in, out]`, as GPT-2's Conv1D stores it.
struct Linear {
    weight: Tensor, // [in, out]
    bias: Tensor,   // [out]
}

struct Block {
    before_attention: Norm,
    query_key_value: Linear, // [width, 3 * width]
    attention_output: Linear,
    before_mlp: Norm,
    mlp_in: Linear, // [width, 4 * width]
    mlp_out: Linear,
}

pub struct Network {
    token: Tensor,    // [vocab, width]
    position: Tensor, // [context, width]
    blocks: Vec<Block>,
    last: Norm,
    heads: i64,
}

impl Norm {
    fn new(path: Path, width: i64) -> Norm {
        Norm { weight: path.ones("weight", &[width]), bias: path.zeros("bias", &[width]) }
    }

    fn apply(&self, x: &Tensor) -> Tensor {
        x.layer_norm([self.weight.size()[0]], Some(&self.weight), Some(&self.bias), EPSILON, false)
    }
}

impl Linear {
    fn new(path: Path, input: i64, output: i64, deviation: f64) -> Linear {
        Linear { weight: normal(&path, &[input, output], deviation), bias: path.zeros("bias", &[output]) }
    }

    fn apply(&self, x: &Tensor) -> Tensor {
        x.matmul(&self.weight) + &self.bias
    }
}

fn normal(path: &Path, size: &[i64], deviation: f64) -> Tensor {
    path.set_group(DECAYED).var("weight", size, Init::Randn { mean: 0.0, stdev: deviation })
}

impl Block {
    fn new(path: &Path, recipe: &Recipe, deviation: f64) -> Block {
        let width = recipe.width;
        // GPT-2 shrinks what is added to the residual stream, once for each addition.
        let added = deviation / ((2 * recipe.layers) as f64).sqrt();
        let (attention, mlp) = (path / "attn", path / "mlp");
        Block {
            before_attention: Norm::new(path / "ln_1", width),
            query_key_value: Linear::new(&attention / "c_attn", width, 3 * width, deviation),
            attention_output: Linear::new(&attention / "c_proj", width, width, added),
            before_mlp: Norm::new(path / "ln_2", width),
            mlp_in: Linear::new(&mlp / "c_fc", width, 4 * width, deviation),
            mlp_out: Linear::new(&mlp / "c_proj", 4 * width, width, added),
        }
    }

    fn forward(&self, residual: &Tensor, heads: i64) -> Tensor {
        let (batch, positions, width) = residual.size3().expect("the residual stream has three dimensions");
        let fused = self.query_key_value.apply(&self.before_attention.apply(residual)); // [batch, pos, 3 * width]
        let split: Vec<Tensor> = fused
            .chunk(3, -1)
            .iter()
            .map(|part| part.view([batch, positions, heads, width / heads]).transpose(1, 2)) // [batch, head, pos, d_head]
            .collect();
        let mixed = Tensor::scaled_dot_product_attention(
            &split[0],
            &split[1],
            &split[2],
            None::<&Tensor>,
            0.0,
            true,
            None,
            false,
        );
        let mixed = mixed.transpose(1, 2).reshape([batch, positions, width]); // [batch, pos, width]
        let residual = residual + self.attention_output.apply(&mixed); // [batch, pos, width]
        let hidden = self.mlp_in.apply(&self.before_mlp.apply(&residual)).gelu("tanh"); // [batch, pos, 4 * width]
        residual + self.mlp_out.apply(&hidden)
    }
}

impl Network {
    pub fn new(store: &VarStore, recipe: &Recipe, vocabulary: i64) -> Network {
        let root = &store.root() / "transformer";
        let deviation = 0.55 / (recipe.width as f64).sqrt();
        Network {
            token: normal(&(&root / "wte"), &[vocabulary, recipe.width], deviation),
            position: normal(&(&root / "wpe"), &[CONTEXT, recipe.width], deviation / 2.0),
            blocks: (0..recipe.layers).map(|layer| Block::new(&(&root / "h" / layer), recipe, deviation)).collect(),
            last: Norm::new(&root / "ln_f", recipe.width),
            heads: recipe.heads,
        }
    }

    /// The final, normed residual stream `[batch, pos, width]` of tokens `[batch, pos]`.
    pub fn forward(&self, tokens: &Tensor) -> Tensor {
        let positions = tokens.size()[1];
        let start = Tensor::embedding(&self.token, tokens, -1, false, false) + self.position.narrow(0, 0, positions);
        let residual = self.blocks.iter().fold(start, |residual, block| block.forward(&residual, self.heads));
        self.last.apply(&residual)
    }

    /// Logits `[.., vocab]` of a normed residual stream `[.., width]`; the unembedding is the embedding.
    pub fn unembed(&self, normed: &Tensor) -> Tensor {
        normed.matmul(&self.token.tr()).to_kind(Kind::Float)
    }
}
