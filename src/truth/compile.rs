//! Weights from a program.
//!
//! A variable's dimensions are dimensions of the residual stream, so that without norms a read is a row of a weight matrix and
//! what is not read has no effect at all.
//!
//! With LayerNorm every component writes, in one dimension more, minus the sum of all else that it writes, and positions write
//! C and −C into two others: the mean is always 0 and the variance (2 C² + |x|²) / d, where |x|² is the squared length of all
//! variables. The gains are C √(2 / d), so that a slot reads x / √(1 + |x|² / 2 C²): the program as it is, but for a factor
//! near 1 through which everything that is written touches everything that is read.

use super::program::{Program, Reads, Write};
use crate::model::Model;
use crate::model::spec::{Activation, AttentionLayer, AttentionSpec, MlpSpec, NormKind, QueryKeyNorm, Spec};
use crate::model::weights::{Block, Linear, Mlp, Norm, Weights};
use ndarray::{Array2, s};
use tch::{Device, Kind, Tensor};

/// C: what positions write to keep the norm nearly constant.
const CONSTANT: f32 = 50.0;

/// Where things stand in the residual stream.
struct Layout {
    d_model: usize,
    d_head: usize,
    d_mlp: usize,
    /// The dimensions that balance and hold the norm, if there is one.
    norm: Option<[usize; 3]>,
}

/// The model that a program describes, on the CPU, in f32. Every place of the program must be filled.
pub fn compile(program: &Program, norm: bool) -> Model {
    let heads = || program.layers.iter().flat_map(|layer| &layer.heads);
    let widest = heads().flat_map(|head| [&head.query, &head.key, &head.value]).map(Reads::outputs).max();
    let units = program.layers.iter().map(|layer| layer.mlp.input.outputs()).max();
    let first = program.width;
    let layout = Layout {
        d_model: first + if norm { 3 } else { 0 },
        d_head: widest.unwrap_or(0),
        d_mlp: units.unwrap_or(0),
        norm: norm.then_some([first, first + 1, first + 2]),
    };
    let (layers, heads) = (program.layers.len(), program.layers.first().map_or(0, |layer| layer.heads.len()));
    let spec = Spec {
        family: "compiled".into(),
        kv_heads: heads,
        d_head: layout.d_head,
        d_mlp: layout.d_mlp,
        vocab_out: program.logits.outputs(),
        norm: if norm { NormKind::LayerNorm } else { NormKind::None },
        attention: AttentionSpec {
            scale: 1.0,
            soft_cap: None,
            query_key_norm: QueryKeyNorm::None,
            causal: true,
            rotaries: Vec::new(),
            layers: vec![AttentionLayer::default(); layers],
        },
        mlp: Some(MlpSpec { activation: Activation::Relu, gated: false }),
        ..Spec::gpt2(layers, heads, layout.d_model, program.vocab, program.context)
    };
    let weights = layout.weights(program, spec.norm_epsilon);
    Model::of_weights(spec, weights, Device::Cpu)
}

impl Layout {
    fn weights(&self, program: &Program, epsilon: f64) -> Weights {
        let mut positions = self.written(program.context, &program.positions); // [context, d_model]
        if let Some([_, plus, minus]) = self.norm {
            positions.column_mut(plus).fill(CONSTANT);
            positions.column_mut(minus).fill(-CONSTANT);
        }
        let blocks = program.layers.iter().map(|layer| {
            let [query, key, value] = [0, 1, 2].map(|branch| {
                let of_heads: Vec<Affine> = layer
                    .heads
                    .iter()
                    .map(|head| self.read([&head.query, &head.key, &head.value][branch], self.d_head))
                    .collect();
                Affine::side_by_side(&of_heads).into_linear()
            });
            let out: Vec<Array2<f32>> =
                layer.heads.iter().map(|head| self.written(self.d_head, &head.writes)).collect();
            let out: Vec<_> = out.iter().map(Array2::view).collect();
            // The shapes are those of one layout.
            let out = ndarray::concatenate(ndarray::Axis(0), &out).unwrap_or_default(); // [head · d_head, d_model]
            Block {
                attention_norm: self.gained(epsilon),
                projections: [query, key, value],
                query_key_norm: None,
                attention_out: Linear { weight: tensor(&out), bias: None },
                attention_after: Norm::none(),
                mlp: Some(Mlp {
                    norm: self.gained(epsilon),
                    gate: None,
                    input: self.read(&layer.mlp.input, self.d_mlp).into_linear(),
                    output: Linear { weight: tensor(&self.written(self.d_mlp, &layer.mlp.writes)), bias: None },
                    after: Norm::none(),
                }),
            }
        });
        Weights {
            token_embedding: tensor(&self.written(program.vocab, &program.tokens)),
            position_embedding: Some(tensor(&positions)),
            blocks: blocks.collect(),
            final_norm: self.gained(epsilon),
            unembedding: self.read(&program.logits, program.logits.outputs()).into_linear(),
        }
    }

    /// What is written from `inputs` numbers: `[inputs, d_model]`.
    fn written(&self, inputs: usize, writes: &[Write]) -> Array2<f32> {
        let mut matrix = Array2::zeros((inputs, self.d_model));
        for Write { variable, matrix: part } in writes {
            let columns = variable.first..variable.first + variable.width;
            let mut place = matrix.slice_mut(s![..part.nrows(), columns]);
            place += part;
        }
        if let Some([balance, ..]) = self.norm {
            let sums = matrix.sum_axis(ndarray::Axis(1)); // [inputs]
            matrix.column_mut(balance).assign(&-sums);
        }
        matrix
    }

    /// What is read, padded to `outputs` numbers: `[d_model, outputs]` and a constant.
    fn read(&self, reads: &Reads, outputs: usize) -> Affine {
        let mut linear = Affine { weight: Array2::zeros((self.d_model, outputs)), bias: vec![0.0; outputs] };
        for part in &reads.parts {
            let rows = part.variable.first..part.variable.first + part.variable.width;
            let mut place = linear.weight.slice_mut(s![rows, ..part.matrix.ncols()]);
            place += &part.matrix;
        }
        for (place, bias) in linear.bias.iter_mut().zip(&reads.bias) {
            *place = *bias;
        }
        linear
    }

    fn gained(&self, epsilon: f64) -> Norm {
        if self.norm.is_none() {
            return Norm::none();
        }
        let gain = f64::from(CONSTANT) * (2.0 / self.d_model as f64).sqrt();
        let full = |value: f64| Tensor::full([self.d_model as i64], value, (Kind::Float, Device::Cpu)); // [d_model]
        Norm { kind: NormKind::LayerNorm, gain: Some(full(gain)), bias: Some(full(0.0)), epsilon }
    }
}

/// A matrix `[in, out]` and a bias `[out]`, before they are tensors.
struct Affine {
    weight: Array2<f32>,
    bias: Vec<f32>,
}

impl Affine {
    fn side_by_side(all: &[Affine]) -> Affine {
        let views: Vec<_> = all.iter().map(|one| one.weight.view()).collect();
        Affine {
            weight: ndarray::concatenate(ndarray::Axis(1), &views).unwrap_or_default(),
            bias: all.iter().flat_map(|one| one.bias.iter().copied()).collect(),
        }
    }

    fn into_linear(self) -> Linear {
        Linear { weight: tensor(&self.weight), bias: Some(Tensor::from_slice(&self.bias)) }
    }
}

fn tensor(matrix: &Array2<f32>) -> Tensor {
    let numbers: Vec<f32> = matrix.iter().copied().collect();
    Tensor::from_slice(&numbers).view([matrix.nrows() as i64, matrix.ncols() as i64])
}
