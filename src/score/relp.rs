//! Relevance patching: EAP with the gradient of a model in which norms, activations and products are made linear.
//!
//! score(u→v) = Σ over positions of (a_clean[u] − a_corrupt[u]) · ∂ᴿm/∂x_v on the clean run, ∂ᴿ the derivative under the
//! rules: a norm's scale is constant (LN), an activation is x times the constant f(x)/x (identity), of a product each factor
//! gets half (half), and, if asked for, attention patterns are constant (attention). With no rule it is `eap`.
//!
//! Paper: Jafari et al., "RelP", arXiv:2508.21258; rules from layer-wise relevance propagation (Bach et al., 2015).
//! Cost: that of `eap`: two forward passes and one backward a batch.
//! Not for: edges into queries and keys under the attention rule, which then score 0.

use super::Run;
use super::eap::Eap;
use super::method::{Listing, Scorer, Work};
use super::state::{Ledger, Stopped};
use crate::graph::{Graph, Level};
use crate::measure::memory::Needs;
use crate::model::Rules;
use ndarray::Array2;

pub const LISTING: Listing = Listing {
    name: "relp",
    about: "relevance patching: eap with the derivative under rules that make the model linear",
    passes: "2 forward, 1 backward",
    memory: "differences of all sources",
};

#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    pub rules: Rules,
}

/// The paper's rules.
pub const DEFAULT: Rules = Rules { norms: true, activations: true, products: true, patterns: false };

impl Default for Options {
    fn default() -> Self {
        Options { rules: DEFAULT }
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
        Eap.needs()
    }

    fn work(&self, graph: &Graph) -> Work {
        Eap.work(graph)
    }

    fn rules(&self) -> Rules {
        self.rules
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        let Rules { norms, activations, products, patterns } = self.rules;
        let named = [("ln", norms), ("identity", activations), ("half", products), ("attention", patterns)];
        let names: Vec<&str> = named.into_iter().filter_map(|(name, on)| on.then_some(name)).collect();
        vec![("rules", names.join(","))]
    }

    fn by_position(&self) -> bool {
        true
    }

    fn score_batch(&self, run: &Run, ledger: &mut Ledger) -> Result<Array2<f64>, Stopped> {
        Eap.score_batch(run, ledger)
    }
}
