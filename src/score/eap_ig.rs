//! Edge attribution patching with integrated gradients over the input embeddings.
//!
//! score(u→v) = Σ over positions of (a_clean[u] − a_corrupt[u]) · (1/m) Σ_k ∂m/∂x_v at embeddings z' + (k/m)(z − z'),
//! z the clean and z' the corrupt token embeddings (under other ablations than `counterfactual`, z' is what `input` then
//! writes; the points are then no runs of corrupt prompts, and the other sources are not ablated in them).
//!
//! Paper: Hanna, Pezzelle and Belinkov, "Have Faith in Faithfulness", arXiv:2403.17806.
//! Cost: 1 + m forward passes and m backward a batch (the corrupt run is one of the points); the contraction is done once, on the averaged gradients.
//! Not for: pairs of different length (the line between the embeddings needs both ends).

use super::Run;
use super::contract::{Differences, contract};
use super::gradient::{Replace, entering, gradients, gradients_and_record};
use super::method::{Listing, Scorer, Work};
use super::state::{Ledger, Stopped};
use crate::graph::{Graph, Level};
use crate::measure::constants::ablated_embedding;
use crate::measure::memory::Needs;
use crate::measure::sources::Activations;
use crate::model::site::Site;
use ndarray::Array2;
use tch::Kind;

pub const LISTING: Listing = Listing {
    name: "eap-ig",
    about: "the same with the gradient averaged on the way from corrupt to clean embeddings",
    passes: "1 + steps forward, steps backward",
    memory: "differences of all sources, gradients of each step",
};

#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    /// How many points on the line (m; the papers take 5).
    pub steps: usize,
    pub endpoints: Endpoints,
}

impl Default for Options {
    fn default() -> Self {
        Options { steps: 5, endpoints: Endpoints::Corrupt }
    }
}

/// Which end of the line is one of the points.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Endpoints {
    /// k = 0 .. m−1, as the authors' code does since February 2025.
    Corrupt,
    /// k = 1 .. m, as in the paper's results.
    Clean,
}

impl Endpoints {
    pub fn name(self) -> &'static str {
        match self {
            Endpoints::Corrupt => "corrupt",
            Endpoints::Clean => "clean",
        }
    }
}

impl Scorer for Options {
    fn listing(&self) -> &'static Listing {
        &LISTING
    }

    fn levels(&self) -> &'static [Level] {
        &Level::ALL
    }

    fn needs(&self) -> Needs {
        Needs { passes: self.steps, differences_last: false }
    }

    fn work(&self, _: &Graph) -> Work {
        Work { recorded: 1, unrecorded: self.steps, ..Work::with_backward(self.steps) }
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        vec![("steps", self.steps.to_string()), ("endpoints", self.endpoints.name().to_owned())]
    }

    fn steps(&self) -> Option<usize> {
        Some(self.steps)
    }

    fn by_position(&self) -> bool {
        true
    }

    fn score_batch(&self, run: &Run, ledger: &mut Ledger) -> Result<Array2<f64>, Stopped> {
        let clean = run.clean();
        let reference = clean.logits.log_softmax(-1, None::<Kind>); // [batch, vocab]
        let ablated = ablated_embedding(run.problem.model, run.batch, run.problem.constants); // [batch, pos, d_model]
        let at = |k: usize| {
            let share = k as f64 / self.steps as f64;
            let value = &ablated + (&clean.embedding - &ablated) * share; // [batch, pos, d_model]
            Replace { site: Site::TokenEmbedding, value }
        };
        let first = match self.endpoints {
            Endpoints::Corrupt => 0,
            Endpoints::Clean => 1,
        };
        let steps: Vec<usize> = (first..first + self.steps).collect();
        // Contracting the mean of several passes costs as much as contracting one.
        let chunks: Vec<&[usize]> = steps.chunks(run.passes).collect();
        let mut differences: Option<Differences> = None;
        let against = |ablated: &Activations| Differences::new(run, &clean, ablated);
        let sums = ledger.steps(chunks.len(), |chunk, sums| {
            let mut passes = Vec::new();
            for &k in chunks[chunk] {
                let mut edit = at(k);
                if k == 0 && run.problem.constants.is_none() {
                    // The first point is the corrupt run itself.
                    let (gradients, corrupt) = gradients_and_record(run, Some(&reference), &mut edit);
                    passes.push(gradients);
                    differences = Some(against(&corrupt));
                } else {
                    passes.push(gradients(run, &entering(run, &mut edit), Some(&reference), &mut edit));
                }
            }
            let recorded = || against(&run.ablated());
            let differences = differences.get_or_insert_with(recorded);
            sums.scaled_add(passes.len() as f64, &contract(run, differences, &passes));
        })?;
        Ok(sums / self.steps as f64)
    }
}
