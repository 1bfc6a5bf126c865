//! Edge attribution patching with integrated gradients over activations: one group of sources after another is moved from
//! corrupt to clean.
//!
//! score(u→v) = Σ over positions of (a_clean[u] − a_corrupt[u]) · mean over groups g and k = 1 .. m of ∂m/∂x_v on the clean
//! run in which g writes (k/m) · clean + (1 − k/m) · corrupt.
//!
//! The groups are the input, the heads of a layer together, and each MLP. What a group writes is then a constant, so no
//! gradient passes through it; every edge is scored in every run, as in the EAP-IG package since version 1.
//! Paper: Hanna, Pezzelle and Belinkov, arXiv:2403.17806 (over inputs); over activations as in Marks et al.,
//! arXiv:2403.19647.
//! Cost: m (1 + 2 · layers) forward and backward passes a batch. 125 for a model of 12 layers at 5 steps.
//! Not for: large models, where `eap-ig` is as good at a hundredth of the cost.

use super::Run;
use super::contract::{Differences, contract};
use super::gradient::{Replace, entering, gradients};
use super::method::{Listing, Scorer, Work};
use super::state::{Ledger, Stopped};
use crate::graph::{Graph, Level};
use crate::measure::memory::Needs;
use crate::measure::sources::Activations;
use crate::model::site::Site;
use crate::model::spec::Layer;
use ndarray::Array2;
use tch::{Kind, Tensor};

pub const LISTING: Listing = Listing {
    name: "eap-ig-activations",
    about: "eap with the gradient averaged while each layer's heads, and each MLP, go from corrupt to clean",
    passes: "2 + steps x (1 + 2 x layers) forward, as many backward",
    memory: "differences of all sources, gradients of a few passes",
};

#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    /// How many points on each line (m).
    pub steps: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { steps: 5 }
    }
}

/// Passes whose gradients are kept to be contracted together, at most.
const TOGETHER: usize = 8;

impl Scorer for Options {
    fn listing(&self) -> &'static Listing {
        &LISTING
    }

    fn levels(&self) -> &'static [Level] {
        &Level::ALL
    }

    fn needs(&self) -> Needs {
        Needs { passes: TOGETHER, differences_last: false }
    }

    fn work(&self, graph: &Graph) -> Work {
        let groups = 1 + graph.dimensions.layers * (1 + usize::from(graph.dimensions.mlps));
        Work { unrecorded: self.steps * groups, ..Work::with_backward(self.steps * groups) }
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        vec![("steps", self.steps.to_string())]
    }

    fn steps(&self) -> Option<usize> {
        Some(self.steps)
    }

    fn by_position(&self) -> bool {
        true
    }

    fn score_batch(&self, run: &Run, ledger: &mut Ledger) -> Result<Array2<f64>, Stopped> {
        let clean = run.clean();
        let ablated = run.ablated();
        let reference = clean.logits.log_softmax(-1, None::<Kind>); // [batch, vocab]
        let differences = Differences::new(run, &clean, &ablated);
        let points: Vec<(Site, Tensor)> = groups(&clean, &ablated)
            .into_iter()
            .flat_map(|(site, [clean, ablated])| {
                let steps = self.steps;
                (1..=steps).map(move |k| (site, ablated + (clean - ablated) * (k as f64 / steps as f64)))
            })
            .collect();
        let chunks: Vec<&[(Site, Tensor)]> = points.chunks(run.passes).collect();
        let sums = ledger.steps(chunks.len(), |chunk, sums| {
            let passes: Vec<_> = chunks[chunk]
                .iter()
                .map(|(site, value)| {
                    let mut edit = Replace { site: *site, value: value.shallow_clone() };
                    gradients(run, &entering(run, &mut edit), Some(&reference), &mut edit)
                })
                .collect();
            sums.scaled_add(passes.len() as f64, &contract(run, &differences, &passes));
        })?;
        Ok(sums / points.len() as f64)
    }
}

/// What each group writes, clean and ablated. Heads are kept before W_O, which is linear.
fn groups<'a>(clean: &'a Activations, ablated: &'a Activations) -> Vec<(Site, [&'a Tensor; 2])> {
    let mut groups = vec![(Site::TokenEmbedding, [&clean.embedding, &ablated.embedding])];
    for layer in 0..clean.z.len() {
        groups.push((Site::Z(Layer(layer)), [&clean.z[layer], &ablated.z[layer]]));
        if let (Some(clean), Some(ablated)) = (clean.mlp.get(layer), ablated.mlp.get(layer)) {
            groups.push((Site::MlpOut(Layer(layer)), [clean, ablated]));
        }
    }
    groups
}
