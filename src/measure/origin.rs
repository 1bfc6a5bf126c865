//! Where the numbers of a forward pass stop being finite.
//!
//! Looked for only once something came out that is no number: one forward for each prompt, without a shared prefix, until
//! the first that shows it.

use super::memory::out_of_memory;
use crate::dataset::TokenPair;
use crate::intervene::slice::site_name;
use crate::model::site::Site;
use crate::model::tap::Tap;
use crate::model::{Model, Pass, Start};
use std::fmt;
use tch::Tensor;

/// The first value that is not finite. Prints as ``L1.mlp of the clean prompt of pair 3 (`t7 t2`)``.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// Where the pair stands in the data set, counted from 0.
    pub pair: usize,
    pub prompt: Prompt,
    /// The prompt's text.
    pub text: String,
    pub site: Site,
}

/// Which prompt of a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prompt {
    Clean,
    Corrupt,
}

/// More of a prompt than this is left out of a message.
const SHOWN: usize = 60;

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prompt = match self.prompt {
            Prompt::Clean => "clean",
            Prompt::Corrupt => "corrupt",
        };
        write!(f, "{} of the {prompt} prompt of pair {}", site_name(self.site), self.pair)?;
        if self.text.is_empty() {
            return Ok(());
        }
        let shown: String = self.text.chars().take(SHOWN).collect();
        let rest = if shown.len() < self.text.len() { "…" } else { "" };
        write!(f, " (`{shown}{rest}`)")
    }
}

/// The first pair, of it first the clean and then the corrupt prompt, and the first site in the order of the forward pass with
/// a value that is not finite; nothing where all are.
pub fn of_not_finite(model: &Model, pairs: &[TokenPair]) -> Option<Origin> {
    let _no_grad = tch::no_grad_guard();
    pairs.iter().enumerate().find_map(|(index, pair)| {
        [(Prompt::Clean, &pair.clean, &pair.prompt.clean), (Prompt::Corrupt, &pair.corrupt, &pair.prompt.corrupt)]
            .into_iter()
            .find_map(|(prompt, tokens, text)| {
                let site = first_site(model, tokens)?;
                Some(Origin { pair: index, prompt, text: text.clone(), site })
            })
    })
}

fn first_site(model: &Model, tokens: &[u32]) -> Option<Site> {
    let ids: Vec<i64> = tokens.iter().map(|&id| i64::from(id)).collect();
    let ids = Tensor::from_slice(&ids).unsqueeze(0).to_device(model.device); // [1, pos]
    let mut tap = NotFinite(None);
    // Short of memory, it is known as far as the pass came.
    let _ = out_of_memory(|| model.forward(Start::Tokens(&ids), &Pass::LAST, &mut tap));
    tap.0
}

/// Keeps the first site whose value is not finite.
struct NotFinite(Option<Site>);

impl Tap for NotFinite {
    fn wants(&self, site: Site) -> bool {
        // These change how the pass goes on, and what they show is seen at other sites too.
        let detour = matches!(site, Site::AttentionIn(..) | Site::PerQueryHead(..) | Site::HeadOut(_));
        self.0.is_none() && !detour
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        if value.isfinite().logical_not().any().int64_value(&[]) != 0 {
            self.0 = Some(site);
        }
        value
    }
}
