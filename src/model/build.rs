//! Tensors of a checkpoint into [`Weights`], by a family's [`Layout`]; every complaint about them in one error.

use super::family::{self, Layout, Matrices, MlpNames, Projections};
use super::load::ModelError;
use super::safetensors::TensorFiles;
use super::spec::{Branch, NormKind, Spec};
use super::weights::{Block, Linear, Mlp, Model, Norm, Weights, wide};
use std::collections::BTreeSet;
use tch::{Device, Kind, Tensor};

/// Where tensors come from.
pub(super) enum Origin {
    Files {
        files: TensorFiles,
        kind: Option<Kind>,
    },
    /// Normal numbers with standard deviation 0.02; gains around 1.
    Random,
}

/// Collects tensors and every complaint about them, so that one error can list all.
struct Reader<'a> {
    spec: &'a Spec,
    layout: &'a Layout,
    origin: &'a Origin,
    device: Device,
    prefix: &'static str,
    taken: BTreeSet<String>,
    missing: Vec<String>,
    misshapen: Vec<String>,
    /// Whether a tensor lies in the files' mapping.
    borrows: bool,
}

impl Model {
    /// Puts the tensors of a checkpoint on a device, matrices in their own type or in the one asked for.
    ///
    /// # Errors
    /// One error lists all missing, misshapen and unexpected tensors.
    pub(super) fn build(spec: Spec, layout: &Layout, origin: Origin, device: Device) -> Result<Model, ModelError> {
        let mut reader = Reader {
            spec: &spec,
            layout,
            origin: &origin,
            device,
            prefix: prefix(layout, &origin),
            taken: BTreeSet::new(),
            missing: Vec::new(),
            misshapen: Vec::new(),
            borrows: false,
        };
        let weights = reader.weights()?;
        let borrows = reader.borrows;
        reader.finish()?;
        let files = match origin {
            Origin::Files { files, .. } => Some(files),
            Origin::Random => None,
        };
        let folder = files.as_ref().and_then(|files| files.folder.clone());
        // Pages that were read to convert them would otherwise stay resident.
        Ok(Model { spec, device, weights, folder, _files: files.filter(|_| borrows) })
    }
}

impl Model {
    /// A model of GPT-2's architecture with random weights (standard deviation 0.02, gains around 1), for tests and benches.
    pub fn random(spec: Spec, seed: i64) -> Model {
        tch::manual_seed(seed);
        // Random tensors cannot be missing or misshapen.
        Model::build(spec, &family::GPT2, Origin::Random, Device::Cpu).unwrap_or_else(|error| unreachable!("{error}"))
    }
}

/// In place of a tensor that is not there.
fn nothing() -> Tensor {
    Tensor::empty([0], (Kind::Float, Device::Cpu))
}

/// The first prefix under which the token embedding is found.
fn prefix(layout: &Layout, origin: &Origin) -> &'static str {
    let Origin::Files { files, .. } = origin else { return "" };
    let has = |prefix: &&&str| files.shape(&format!("{prefix}{}", layout.token_embedding)).is_some();
    layout.prefixes.iter().find(has).or(layout.prefixes.first()).copied().unwrap_or("")
}

impl Reader<'_> {
    fn weights(&mut self) -> Result<Weights, ModelError> {
        let (spec, layout) = (self.spec, self.layout);
        let (vocab, d_model) = (spec.vocab, spec.d_model);
        let token_embedding = self.tensor(layout.token_embedding, &[vocab, d_model])?;
        let position_embedding = match layout.position_embedding {
            None => None,
            Some(name) => {
                let skipped = layout.positions_skipped;
                let all = self.tensor(name, &[spec.context + skipped, d_model])?;
                Some(self.part(&wide(&all), 0, skipped, spec.context))
            }
        };
        let blocks = (0..spec.layers).map(|layer| self.block(layer)).collect::<Result<Vec<_>, _>>()?;
        let final_norm = self.norm(layout.final_norm.map(str::to_owned), d_model)?;
        let unembedding = self.unembedding(&token_embedding)?;
        Ok(Weights { token_embedding, position_embedding, blocks, final_norm, unembedding })
    }

    fn block(&mut self, layer: usize) -> Result<Block, ModelError> {
        let (spec, layout) = (self.spec, self.layout);
        let (d_model, inner) = (spec.d_model, spec.heads * spec.d_head);
        let start = layout.block.replace("{}", &layer.to_string());
        let name = |part: &str| format!("{start}{part}");
        let attention_norm = self.norm(layout.attention_norm.map(name), d_model)?;
        let projections = self.projections(&start)?;
        let query_key_norm = match layout.query_key_norm {
            None => None,
            Some([query, key]) => {
                let whole = spec.attention.query_key_norm == super::spec::QueryKeyNorm::Whole;
                let width = |heads: usize| if whole { heads * spec.d_head } else { spec.d_head };
                let query = self.norm(Some(name(query)), width(spec.heads))?;
                Some([query, self.norm(Some(name(key)), width(spec.kv_heads))?])
            }
        };
        let attention_out = match layout.matrices {
            Matrices::Heads => {
                let weight = self.tensor(&name(layout.attention_out), &[spec.heads, spec.d_head, d_model])?;
                let bias = self.bias(&name(layout.attention_out), layout.biases.attention_out, &[d_model])?;
                Linear { weight: self.shaped(&weight, &[inner, d_model]), bias }
            }
            _ => self.linear(&name(layout.attention_out), inner, d_model, layout.biases.attention_out)?,
        };
        let attention_after = self.norm(layout.attention_after.map(name), d_model)?;
        let mlp = match layout.mlp {
            None => None,
            Some(names) => Some(self.mlp(&start, names)?),
        };
        Ok(Block { attention_norm, projections, query_key_norm, attention_out, attention_after, mlp })
    }

    fn mlp(&mut self, start: &str, names: MlpNames) -> Result<Mlp, ModelError> {
        let (d_model, d_mlp, bias) = (self.spec.d_model, self.spec.d_mlp, self.layout.biases.mlp);
        let name = |part: &str| format!("{start}{part}");
        let norm = self.norm(self.layout.mlp_norm.map(name), d_model)?;
        let (gate, input, output) = match names {
            MlpNames::Plain { input, output } => (None, self.linear(&name(input), d_model, d_mlp, bias)?, output),
            MlpNames::Gated { gate, input, output } if self.layout.matrices == Matrices::Heads => {
                return self.gated_with_late_bias(
                    norm,
                    [gate, input, output].map(name),
                    self.layout.mlp_after.map(name),
                );
            }
            MlpNames::Gated { gate, input, output } => {
                let gate = self.linear(&name(gate), d_model, d_mlp, bias)?;
                (Some(gate), self.linear(&name(input), d_model, d_mlp, bias)?, output)
            }
            MlpNames::FusedGated { both, output } => {
                let both = self.linear(&name(both), d_model, 2 * d_mlp, bias)?;
                let half = |first| self.columns(&both, first, d_mlp);
                (Some(half(0)), half(d_mlp), output)
            }
        };
        let output = self.linear(&name(output), d_mlp, d_model, bias)?;
        let after = self.norm(self.layout.mlp_after.map(name), d_model)?;
        Ok(Mlp { norm, gate, input, output, after })
    }

    /// TransformerLens adds the input's bias after the product with the gate. It is moved into the output's bias, where it
    /// does the same.
    fn gated_with_late_bias(
        &mut self,
        norm: Norm,
        names: [String; 3],
        after: Option<String>,
    ) -> Result<Mlp, ModelError> {
        let (d_model, d_mlp) = (self.spec.d_model, self.spec.d_mlp);
        let [gate, input, output] = names;
        let gate = self.linear(&gate, d_model, d_mlp, false)?;
        let mut input = self.linear(&input, d_model, d_mlp, true)?;
        let mut output = self.linear(&output, d_mlp, d_model, true)?;
        let after = self.norm(after, d_model)?;
        if let (Some(late), Some(bias)) = (input.bias.take(), &output.bias)
            && [&late, bias, &output.weight].iter().all(|tensor| self.fits(tensor))
        {
            output.bias = Some(bias + wide(&output.weight).tr().mv(&late));
        }
        Ok(Mlp { norm, gate: Some(gate), input, output, after })
    }

    fn projections(&mut self, start: &str) -> Result<[Linear; 3], ModelError> {
        let (spec, bias) = (self.spec, self.layout.biases.projections);
        let (d_model, d_head) = (spec.d_model, spec.d_head);
        let widths = Branch::ALL.map(|branch| spec.branch_heads(branch) * d_head);
        match self.layout.projections {
            Projections::Separate(names) if self.layout.matrices == Matrices::Heads => {
                let mut linear = |branch: Branch| -> Result<Linear, ModelError> {
                    let (name, heads) = (format!("{start}{}", names[branch.index()]), spec.branch_heads(branch));
                    let weight = self.tensor(&name, &[heads, d_model, d_head])?;
                    let bias = self.bias(&name, bias, &[heads, d_head])?;
                    if !self.fits(&weight) {
                        return Ok(Linear { weight, bias });
                    }
                    let weight = weight.permute([1, 0, 2]).flatten(1, 2); // [d_model, head · d_head]
                    Ok(Linear { weight, bias: bias.map(|bias| bias.flatten(0, -1)) })
                };
                Ok([linear(Branch::Query)?, linear(Branch::Key)?, linear(Branch::Value)?])
            }
            Projections::Separate(names) => {
                let mut linear =
                    |branch: usize| self.linear(&format!("{start}{}", names[branch]), d_model, widths[branch], bias);
                Ok([linear(0)?, linear(1)?, linear(2)?])
            }
            Projections::Fused(name) => {
                let all = self.linear(&format!("{start}{name}"), d_model, widths.iter().sum(), bias)?;
                let starts = [0, widths[0], widths[0] + widths[1]];
                Ok([0, 1, 2].map(|branch| self.columns(&all, starts[branch], widths[branch])))
            }
            Projections::FusedByHead(name) => {
                let all = self.linear(&format!("{start}{name}"), d_model, widths.iter().sum(), bias)?;
                if !self.fits(&all.weight) || !all.bias.iter().all(|bias| self.fits(bias)) {
                    return Ok([0, 1, 2].map(|_| Linear { weight: nothing(), bias: None }));
                }
                let by_head = |tensor: &Tensor, branch: i64| {
                    let split = [-1, spec.heads as i64, 3, d_head as i64];
                    tensor.reshape(split).select(2, branch).flatten(1, 2) // [rows, head · d_head]
                };
                Ok([0, 1, 2].map(|branch| Linear {
                    weight: by_head(&all.weight, branch).tr().contiguous().tr(),
                    bias: all.bias.as_ref().map(|bias| by_head(bias, branch).squeeze_dim(0)),
                }))
            }
        }
    }

    fn unembedding(&mut self, token_embedding: &Tensor) -> Result<Linear, ModelError> {
        let (spec, layout) = (self.spec, self.layout);
        let prefix = std::mem::take(&mut self.prefix);
        let unembedding = match layout.tied {
            true => {
                // Some checkpoints write the shared matrix a second time.
                self.taken.insert(format!("{}.weight", layout.unembedding));
                Linear { weight: token_embedding.tr(), bias: None }
            }
            false if layout.matrices == Matrices::InOut => {
                let name = format!("{}.weight", layout.unembedding);
                let weight = self.tensor(&name, &[spec.vocab_out, spec.d_model])?;
                Linear { weight: self.transposed(weight), bias: None }
            }
            false => self.linear(layout.unembedding, spec.d_model, spec.vocab_out, layout.biases.unembedding)?,
        };
        self.prefix = prefix;
        Ok(unembedding)
    }

    fn linear(&mut self, name: &str, input: usize, output: usize, bias: bool) -> Result<Linear, ModelError> {
        let weight = match self.layout.matrices {
            Matrices::InOut => self.tensor(&format!("{name}.weight"), &[input, output])?,
            Matrices::Heads => self.tensor(name, &[input, output])?,
            Matrices::OutIn => {
                let stored = self.tensor(&format!("{name}.weight"), &[output, input])?;
                self.transposed(stored)
            }
        };
        Ok(Linear { weight, bias: self.bias(name, bias, &[output])? })
    }

    /// The bias of the matrix of that name.
    fn bias(&mut self, matrix: &str, wanted: bool, shape: &[usize]) -> Result<Option<Tensor>, ModelError> {
        let name = match self.layout.matrices {
            Matrices::Heads => matrix.replace("W_", "b_"),
            _ => format!("{matrix}.bias"),
        };
        if !wanted {
            return Ok(None);
        }
        Ok(Some(wide(&self.tensor(&name, shape)?)))
    }

    fn norm(&mut self, name: Option<String>, width: usize) -> Result<Norm, ModelError> {
        let (kind, epsilon) = (self.spec.norm, self.spec.norm_epsilon);
        let Some(name) = name.filter(|_| kind != NormKind::None) else { return Ok(Norm::none()) };
        if !self.layout.norm_gains {
            return Ok(Norm { kind, gain: None, bias: None, epsilon });
        }
        let (gain, bias) = match self.layout.matrices {
            Matrices::Heads => ("w", "b"),
            _ => ("weight", "bias"),
        };
        let gain = wide(&self.tensor(&format!("{name}.{gain}"), &[width])?);
        let offset = self.layout.gain_offset + if matches!(self.origin, Origin::Random) { 1.0 } else { 0.0 };
        let gain = if offset != 0.0 && gain.numel() > 0 { gain + offset } else { gain };
        let bias = match kind {
            NormKind::LayerNorm => Some(wide(&self.tensor(&format!("{name}.{bias}"), &[width])?)),
            _ => None,
        };
        Ok(Norm { kind, gain: Some(gain), bias, epsilon })
    }

    /// A tensor as the file has it; an empty one in place of one that is missing or misshapen, about which
    /// [`Reader::finish`] will complain.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let wanted: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
        let (files, kind) = match self.origin {
            Origin::Random => {
                return Ok((Tensor::randn(wanted, (Kind::Float, Device::Cpu)) * 0.02).to_device(self.device));
            }
            Origin::Files { files, kind } => (files, *kind),
        };
        let name = format!("{}{name}", self.prefix);
        let found = files.shape(&name).map(<[i64]>::to_vec);
        self.taken.insert(name.clone());
        match found {
            Some(found) if found == wanted => {
                if let Some(tensor) = files.tensor(&name)? {
                    let kind = kind.unwrap_or(tensor.kind());
                    let tensor = tensor.f_to_device(self.device).and_then(|tensor| tensor.f_to_kind(kind));
                    let tensor = tensor.map_err(ModelError::torch)?;
                    self.borrows |= self.device == Device::Cpu && files.hold(&tensor);
                    return Ok(tensor);
                }
            }
            Some(found) => self.misshapen.push(format!("{name} is {found:?}, wanted {wanted:?}")),
            None => self.missing.push(name),
        }
        Ok(nothing())
    }

    /// Whether the tensor is there; what is not must not be cut or turned.
    fn fits(&self, tensor: &Tensor) -> bool {
        tensor.numel() > 0
    }

    fn transposed(&self, tensor: Tensor) -> Tensor {
        if self.fits(&tensor) { tensor.tr() } else { tensor }
    }

    fn part(&self, tensor: &Tensor, axis: i64, first: usize, length: usize) -> Tensor {
        if self.fits(tensor) { tensor.narrow(axis, first as i64, length as i64) } else { nothing() }
    }

    fn shaped(&self, tensor: &Tensor, shape: &[usize]) -> Tensor {
        let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
        if self.fits(tensor) { tensor.reshape(shape) } else { nothing() }
    }

    /// Some columns of a matrix and of its bias.
    fn columns(&self, linear: &Linear, first: usize, width: usize) -> Linear {
        Linear {
            weight: self.part(&linear.weight, 1, first, width),
            bias: linear.bias.as_ref().map(|bias| self.part(bias, 0, first, width)),
        }
    }

    fn finish(self) -> Result<(), ModelError> {
        let Reader { origin, taken, missing, misshapen, layout, .. } = self;
        let Origin::Files { files, .. } = origin else { return Ok(()) };
        let is_buffer = |name: &str| layout.buffers.iter().any(|ending| name.ends_with(ending));
        let unexpected: Vec<String> =
            files.names().filter(|name| !taken.contains(*name) && !is_buffer(name)).map(str::to_owned).collect();
        if missing.is_empty() && misshapen.is_empty() && unexpected.is_empty() {
            return Ok(());
        }
        Err(ModelError::Tensors { missing, misshapen, unexpected })
    }
}
