//! The weights of a model, in the layout that the forward pass and the closed-form pull-backs want.

use super::load::ModelError;
use super::safetensors::TensorFiles;
use super::spec::{Branch, Spec};
use tch::{Device, Kind, Tensor};

/// A model that can run. Weights never require gradients.
pub struct Model {
    pub spec: Spec,
    pub(crate) weights: Weights,
    /// Owns the mapping that f32 weights borrow; declared last, so that it is dropped after them.
    _files: Option<TensorFiles>,
}

pub(crate) struct Weights {
    pub token_embedding: Tensor,    // [vocab, d_model]
    pub position_embedding: Tensor, // [context, d_model]
    pub blocks: Vec<Block>,
    pub final_norm: Norm,
    pub unembedding: Tensor, // [vocab, d_model]
}

pub(crate) struct Block {
    pub attention_norm: Norm,
    /// Queries, keys and values side by side: `[d_model, 3 · head · d_head]`.
    pub attention_in: Linear,
    pub attention_out: Linear, // [head · d_head, d_model]
    pub mlp_norm: Norm,
    pub mlp_in: Linear,  // [d_model, d_mlp]
    pub mlp_out: Linear, // [d_mlp, d_model]
}

/// `x · weight + bias`, weight as `[in, out]`.
pub(crate) struct Linear {
    pub weight: Tensor, // [in, out]
    pub bias: Tensor,   // [out]
}

/// LayerNorm with gain and bias.
pub(crate) struct Norm {
    pub gain: Tensor, // [d_model]
    pub bias: Tensor, // [d_model]
    pub epsilon: f64,
}

impl Linear {
    pub fn apply(&self, x: &Tensor) -> Tensor {
        x.matmul(&self.weight) + &self.bias // [.., out]
    }
}

impl Norm {
    pub fn apply(&self, x: &Tensor) -> Tensor {
        let width = self.gain.size();
        x.layer_norm(width, Some(&self.gain), Some(&self.bias), self.epsilon, false) // [.., d_model]
    }
}

impl Block {
    /// The projection of one branch, one matrix a head: `[head, d_model, d_head]`.
    pub fn branch_weight(&self, branch: Branch, spec: &Spec) -> Tensor {
        let (heads, d_model, d_head) = (spec.heads as i64, spec.d_model as i64, spec.d_head as i64);
        let width = heads * d_head;
        self.attention_in
            .weight
            .narrow(1, branch.index() as i64 * width, width) // [d_model, head · d_head]
            .view_([d_model, heads, d_head])
            .permute([1, 0, 2])
    }

    /// The bias of one branch: `[head · d_head]`.
    pub fn branch_bias(&self, branch: Branch, spec: &Spec) -> Tensor {
        let width = (spec.heads * spec.d_head) as i64;
        self.attention_in.bias.narrow(0, branch.index() as i64 * width, width)
    }

    /// What each head writes with: `[head, d_head, d_model]`.
    pub fn head_output_weight(&self, spec: &Spec) -> Tensor {
        self.attention_out.weight.view([spec.heads as i64, spec.d_head as i64, spec.d_model as i64])
    }
}

/// Buffers of old checkpoints that are not weights: causal masks.
fn is_mask_buffer(name: &str) -> bool {
    name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias")
}

/// Collects tensors and every complaint about them, so that one error can list all.
struct Reader<'a> {
    files: &'a TensorFiles,
    prefix: &'static str,
    taken: std::collections::BTreeSet<String>,
    missing: Vec<String>,
    misshapen: Vec<String>,
}

impl Reader<'_> {
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let name = format!("{}{name}", self.prefix);
        let wanted: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
        let found = self.files.shape(&name).map(<[i64]>::to_vec);
        self.taken.insert(name.clone());
        match found {
            Some(found) if found == wanted => {
                if let Some(tensor) = self.files.tensor(&name)? {
                    return Ok(tensor);
                }
            }
            Some(found) => self.misshapen.push(format!("{name} is {found:?}, wanted {wanted:?}")),
            None => self.missing.push(name),
        }
        // Never used: `finish` refuses the model if anything was missing or misshapen.
        Ok(Tensor::new())
    }

    fn linear(&mut self, name: &str, input: usize, output: usize) -> Result<Linear, ModelError> {
        Ok(Linear {
            weight: self.take(&format!("{name}.weight"), &[input, output])?,
            bias: self.take(&format!("{name}.bias"), &[output])?,
        })
    }

    fn norm(&mut self, name: &str, spec: &Spec) -> Result<Norm, ModelError> {
        Ok(Norm {
            gain: self.take(&format!("{name}.weight"), &[spec.d_model])?,
            bias: self.take(&format!("{name}.bias"), &[spec.d_model])?,
            epsilon: spec.norm_epsilon,
        })
    }
}

impl Model {
    /// Takes the tensors of a GPT-2 checkpoint (with or without the `transformer.` prefix).
    ///
    /// # Errors
    /// One error lists all missing, misshapen and unexpected tensors.
    pub(super) fn from_files(spec: Spec, files: TensorFiles) -> Result<Model, ModelError> {
        let prefix = if files.names().any(|name| name.starts_with("transformer.")) { "transformer." } else { "" };
        let mut reader =
            Reader { files: &files, prefix, taken: Default::default(), missing: vec![], misshapen: vec![] };
        let (d_model, d_mlp) = (spec.d_model, spec.d_mlp);
        let token_embedding = reader.take("wte.weight", &[spec.vocab, d_model])?;
        let position_embedding = reader.take("wpe.weight", &[spec.context, d_model])?;
        let mut blocks = Vec::with_capacity(spec.layers);
        for layer in 0..spec.layers {
            blocks.push(Block {
                attention_norm: reader.norm(&format!("h.{layer}.ln_1"), &spec)?,
                attention_in: reader.linear(&format!("h.{layer}.attn.c_attn"), d_model, 3 * d_model)?,
                attention_out: reader.linear(&format!("h.{layer}.attn.c_proj"), d_model, d_model)?,
                mlp_norm: reader.norm(&format!("h.{layer}.ln_2"), &spec)?,
                mlp_in: reader.linear(&format!("h.{layer}.mlp.c_fc"), d_model, d_mlp)?,
                mlp_out: reader.linear(&format!("h.{layer}.mlp.c_proj"), d_mlp, d_model)?,
            });
        }
        let final_norm = reader.norm("ln_f", &spec)?;
        let unembedding = if files.shape("lm_head.weight").is_some() {
            reader.prefix = "";
            reader.take("lm_head.weight", &[spec.vocab, d_model])?
        } else {
            token_embedding.shallow_clone()
        };
        let Reader { taken, missing, misshapen, .. } = reader;
        let unexpected: Vec<String> =
            files.names().filter(|name| !taken.contains(*name) && !is_mask_buffer(name)).map(str::to_owned).collect();
        if !(missing.is_empty() && misshapen.is_empty() && unexpected.is_empty()) {
            return Err(ModelError::Tensors { missing, misshapen, unexpected });
        }
        let weights = Weights { token_embedding, position_embedding, blocks, final_norm, unembedding };
        Ok(Model { spec, weights, _files: Some(files) })
    }

    /// A model with random weights (standard deviation 0.02, unit gains), for tests and benches.
    pub fn random(spec: Spec, seed: i64) -> Model {
        tch::manual_seed(seed);
        let normal = |shape: &[usize]| {
            let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
            Tensor::randn(shape, (Kind::Float, Device::Cpu)) * 0.02
        };
        let norm =
            || Norm { gain: normal(&[spec.d_model]) + 1.0, bias: normal(&[spec.d_model]), epsilon: spec.norm_epsilon };
        let linear = |input: usize, output: usize| Linear { weight: normal(&[input, output]), bias: normal(&[output]) };
        let blocks = (0..spec.layers)
            .map(|_| Block {
                attention_norm: norm(),
                attention_in: linear(spec.d_model, 3 * spec.d_model),
                attention_out: linear(spec.d_model, spec.d_model),
                mlp_norm: norm(),
                mlp_in: linear(spec.d_model, spec.d_mlp),
                mlp_out: linear(spec.d_mlp, spec.d_model),
            })
            .collect();
        let token_embedding = normal(&[spec.vocab, spec.d_model]); // [vocab, d_model]
        let weights = Weights {
            position_embedding: normal(&[spec.context, spec.d_model]),
            blocks,
            final_norm: norm(),
            unembedding: token_embedding.shallow_clone(),
            token_embedding,
        };
        Model { spec, weights, _files: None }
    }

    /// Writes the weights under the names of a GPT-2 checkpoint.
    ///
    /// # Errors
    /// What libtorch says when the file cannot be written.
    pub fn save(&self, path: &std::path::Path) -> Result<(), ModelError> {
        let mut named: Vec<(String, &Tensor)> = vec![
            ("transformer.wte.weight".into(), &self.weights.token_embedding),
            ("transformer.wpe.weight".into(), &self.weights.position_embedding),
            ("transformer.ln_f.weight".into(), &self.weights.final_norm.gain),
            ("transformer.ln_f.bias".into(), &self.weights.final_norm.bias),
        ];
        for (layer, block) in self.weights.blocks.iter().enumerate() {
            let name = |part: &str| format!("transformer.h.{layer}.{part}");
            for (part, norm) in [("ln_1", &block.attention_norm), ("ln_2", &block.mlp_norm)] {
                named.push((name(&format!("{part}.weight")), &norm.gain));
                named.push((name(&format!("{part}.bias")), &norm.bias));
            }
            for (part, linear) in [
                ("attn.c_attn", &block.attention_in),
                ("attn.c_proj", &block.attention_out),
                ("mlp.c_fc", &block.mlp_in),
                ("mlp.c_proj", &block.mlp_out),
            ] {
                named.push((name(&format!("{part}.weight")), &linear.weight));
                named.push((name(&format!("{part}.bias")), &linear.bias));
            }
        }
        Tensor::write_safetensors(&named, path).map_err(ModelError::torch)
    }
}
