//! One prompt through the model, with what roles are told by.

use crate::model::site::Site;
use crate::model::spec::Branch;
use crate::model::tap::Tap;
use crate::model::{Model, Pass, Start};
use ndarray::Array3;
use tch::{Device, Kind, Tensor};

#[derive(Default)]
pub(super) struct Run {
    /// Of each layer `[head, query, key]`.
    pub patterns: Vec<Array3<f32>>,
    /// At one place, if one was named.
    pub values: Vec<Tensor>, // a layer: [1, 1, head, d_head]
    place: Option<i64>,
    /// At the last position.
    pub z: Vec<Tensor>, // a layer: [1, 1, head, d_head]
    pub mlps: Vec<Tensor>, // a layer: [1, 1, d_model]
    pub final_in: Tensor,  // [1, 1, d_model]
}

impl Run {
    /// `place`: where values are kept.
    pub fn new(model: &Model, tokens: &[u32], place: Option<usize>) -> Run {
        let ids: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
        let tokens = Tensor::from_slice(&ids).unsqueeze(0).to_device(model.device); // [1, pos]
        let mut run = Run { place: place.map(|place| place as i64), ..Run::default() };
        let _ = model.forward(Start::Tokens(&tokens), &Pass::LAST, &mut run);
        run
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
        match site {
            Site::PerQueryHead(_, Branch::Value) => self.place.is_some(),
            Site::Pattern(_) | Site::Z(_) | Site::MlpOut(_) | Site::FinalIn => true,
            _ => false,
        }
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
            Site::PerQueryHead(..) => {
                self.values.extend(self.place.map(|place| value.narrow(1, place, 1).copy()));
            }
            Site::Z(_) => self.z.push(last(&value).detach()),
            Site::MlpOut(_) => self.mlps.push(last(&value).detach()),
            Site::FinalIn => self.final_in = value.detach(),
            _ => {}
        }
        value
    }
}
