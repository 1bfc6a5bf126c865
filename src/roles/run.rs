//! One prompt through the model, with what roles are told by.

use crate::measure::sources::heads_from_z;
use crate::model::site::Site;
use crate::model::spec::{Branch, Layer};
use crate::model::tap::Tap;
use crate::model::{Model, Pass, Start};
use ndarray::Array3;
use tch::{Device, Kind, Tensor};

/// How many tokens count as those that are written most, or least.
const FIRST: i64 = 5;

#[derive(Default)]
pub(super) struct Run {
    /// Of each layer `[head, query, key]`.
    pub patterns: Vec<Array3<f32>>,
    pub values: Vec<Tensor>, // a layer: [1, pos, head, d_head]
    /// At the last position.
    pub z: Vec<Tensor>, // a layer: [1, 1, head, d_head]
    pub mlps: Vec<Tensor>,   // a layer: [1, 1, d_model]
    pub final_in: Tensor,    // [1, 1, d_model]
}

impl Run {
    pub fn new(model: &Model, tokens: &[u32]) -> Run {
        let ids: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
        let tokens = Tensor::from_slice(&ids).unsqueeze(0).to_device(model.device); // [1, pos]
        let mut run = Run::default();
        let _ = model.forward(Start::Tokens(&tokens), &Pass::LAST, &mut run);
        run
    }

    /// For each head of each layer, 1 where `token` is among the tokens that the head would write most if it attended to
    /// `place` alone, and the same for least.
    pub fn copies(&self, model: &Model, place: usize, token: u32) -> [Vec<f64>; 2] {
        let (mut most, mut least) = (Vec::new(), Vec::new());
        for (layer, values) in self.values.iter().enumerate() {
            let value = values.narrow(1, place as i64, 1); // [1, 1, head, d_head]
            let written = heads_from_z(model, Layer(layer), &value).squeeze_dim(1); // [head, d_model]
            let logits = model.weights.unembedding.apply(&model.weights.final_norm.apply(&written)); // [head, vocab]
            let own = logits.narrow(1, i64::from(token), 1); // [head, 1]
            let count = |others: Tensor| -> Vec<f64> {
                let few = others.sum_dim_intlist(1, false, Kind::Int64).lt(FIRST); // [head]
                Vec::<f64>::try_from(few.to_kind(Kind::Double).to_device(Device::Cpu)).unwrap_or_default()
            };
            most.extend(count(logits.gt_tensor(&own)));
            least.extend(count(logits.lt_tensor(&own)));
        }
        [most, least]
    }

    /// A head's attention, row by row, keys up to the query.
    pub fn rows(&self, layer: usize, head: usize) -> Vec<Vec<f32>> {
        let Some(pattern) = self.patterns.get(layer) else { return Vec::new() };
        let length = pattern.dim().1;
        (0..length).map(|query| (0..=query).map(|key| pattern[[head, query, key]]).collect()).collect()
    }
}

impl Tap for Run {
    fn wants(&self, site: Site) -> bool {
        matches!(
            site,
            Site::Pattern(_) | Site::PerQueryHead(_, Branch::Value) | Site::Z(_) | Site::MlpOut(_) | Site::FinalIn
        )
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        let last = |value: &Tensor| value.narrow(1, value.size()[1] - 1, 1);
        match site {
            Site::Pattern(_) => {
                let [heads, queries, keys] = [1, 2, 3].map(|axis| value.size()[axis] as usize);
                let mut flat = vec![0f32; heads * queries * keys];
                let numbers = value.to_kind(Kind::Float).to_device(Device::Cpu).contiguous();
                numbers.copy_data(&mut flat, heads * queries * keys);
                self.patterns.extend(Array3::from_shape_vec((heads, queries, keys), flat).ok());
            }
            Site::PerQueryHead(..) => self.values.push(value.detach()),
            Site::Z(_) => self.z.push(last(&value).detach()),
            Site::MlpOut(_) => self.mlps.push(last(&value).detach()),
            Site::FinalIn => self.final_in = value.detach(),
            _ => {}
        }
        value
    }
}
