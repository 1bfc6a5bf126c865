//! Affine maps between the outputs of two blocks, for Patchscopes across layers.
//!
//! f(h) = h · W + b with the least squares of ‖f(h_s) − h_t‖² over the tokens of a text, in f64 (by the pseudo-inverse of the
//! normal equations, so that too few tokens give the least map). Paper: Ghandeharioun et al., arXiv:2401.06102. Cost: one
//! forward of the text, d_model² numbers for each source layer and each pair of layers. Not to be trusted with fewer tokens than
//! a few times d_model: it then fits the text.

use super::corpus::Corpus;
use super::lens::Streams;
use super::row;
use super::store::{self, Origin, Recorded, StoreError};
use crate::model::site::Site;
use crate::model::spec::Layer;
use crate::model::{Model, Pass, Start};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};

/// Singular values below this share of the largest count as none.
const NEGLIGIBLE: f64 = 1e-10;

/// By source layer and target layer: `[d_model + 1, d_model]` in f64, whose last row is the bias.
pub struct Maps(pub BTreeMap<(usize, usize), Tensor>);

/// What a file of maps is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MapsV1 {
    pub schema: String,
    pub origin: Origin,
    pub text: String,
    pub tokens: usize,
    /// Source and target layers.
    pub pairs: Vec<(usize, usize)>,
}

impl Recorded for MapsV1 {
    const WHAT: &'static str = "set of affine maps";
    const SCHEMA: &'static str = "penjing.affine-maps/1";

    fn schema(&self) -> &str {
        &self.schema
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }
}

/// Fits the maps between pairs of layers. `progress` is told how much is done.
pub fn fit(model: &Model, corpus: &Corpus, pairs: &[(usize, usize)], progress: &mut dyn FnMut(f64)) -> Maps {
    let _no_grad = tch::no_grad_guard();
    let sites = (0..model.spec.layers).map(|layer| Site::BlockOut(Layer(layer)));
    let sites: Vec<Site> = sites.collect();
    let mut own: BTreeMap<usize, Tensor> = BTreeMap::new(); // [d_model + 1, d_model + 1]
    let mut across: BTreeMap<(usize, usize), Tensor> = BTreeMap::new(); // [d_model + 1, d_model]
    for (index, window) in corpus.windows.iter().enumerate() {
        progress(index as f64 / corpus.windows.len() as f64);
        let mut streams = Streams { sites: sites.clone(), seen: Vec::new() };
        let tokens = row(model, &corpus.tokens[window.clone()]);
        let _ = model.blocks(Start::Tokens(&tokens), &Pass::ALL, &mut streams);
        let (lead, count) = (corpus.lead as i64, (window.len() - corpus.lead) as i64);
        let of = |layer: usize| streams.seen[layer].1.get(0).narrow(0, lead, count).to_kind(Kind::Double);
        let mut done: Vec<usize> = Vec::new();
        for &(source, target) in pairs {
            let stream = with_one(&of(source)); // [tokens, d_model + 1]
            if !done.contains(&source) {
                done.push(source);
                add(&mut own, source, stream.tr().matmul(&stream));
            }
            add(&mut across, (source, target), stream.tr().matmul(&of(target)));
        }
    }
    let inverse: BTreeMap<usize, Tensor> =
        own.into_iter().map(|(layer, squares)| (layer, squares.linalg_pinv(NEGLIGIBLE, true))).collect();
    Maps(across.into_iter().map(|(pair, product)| (pair, inverse[&pair.0].matmul(&product))).collect())
}

fn add<K: Ord>(sums: &mut BTreeMap<K, Tensor>, key: K, part: Tensor) {
    match sums.get_mut(&key) {
        Some(sum) => *sum += part,
        None => drop(sums.insert(key, part)),
    }
}

/// With a last column of ones.
fn with_one(stream: &Tensor) -> Tensor {
    Tensor::cat(&[stream.shallow_clone(), stream.narrow(1, 0, 1).ones_like()], 1)
}

impl Maps {
    /// Of values `[row, d_model]`; nothing where the pair of layers has no map.
    pub fn apply(&self, pair: (usize, usize), values: &Tensor) -> Option<Tensor> {
        let map = self.0.get(&pair)?.to_device(values.device());
        Some(with_one(&values.to_kind(Kind::Double)).matmul(&map).to_kind(values.kind()))
    }

    /// # Errors
    /// None in practice.
    pub fn to_bytes(&self, record: &MapsV1) -> Result<Vec<u8>, safetensors::SafeTensorError> {
        let named = self.0.iter().map(|((source, target), map)| (format!("{source}-{target}"), map.shallow_clone()));
        store::to_bytes(&named.collect::<Vec<_>>(), record)
    }

    /// # Errors
    /// [`StoreError`]: no maps, or those of other weights.
    pub fn from_file(path: &Path, model: &Model) -> Result<(Maps, MapsV1), StoreError> {
        let (mut tensors, record) = store::from_file::<MapsV1>(path, model)?;
        let width = model.spec.d_model as i64;
        let take = |&(source, target): &(usize, usize)| {
            let (name, of) = (format!("{source}-{target}"), (path, MapsV1::WHAT));
            let map = store::take(&mut tensors, of, &name, &[width + 1, width])?;
            Ok(((source, target), map.to_kind(Kind::Double)))
        };
        let maps = record.pairs.iter().map(take).collect::<Result<_, StoreError>>()?;
        Ok((Maps(maps), record))
    }
}
