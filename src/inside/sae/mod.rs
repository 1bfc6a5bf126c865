//! Sparse autoencoders of a site: its activations over a text ([`stream`]), training on them ([`train`], [`loss`]), what a
//! dictionary keeps and loses ([`metrics`], [`splice`]), and which kinds of text its features go with ([`labels`]).

pub mod adam;
pub mod labels;
mod learner;
pub mod loss;
pub mod metrics;
pub mod splice;
pub mod stream;
pub mod train;

use crate::dictionary::DictionaryError;
use crate::error::Hint;
use crate::intervene::address::{Address, Numbers, Part, Place};
use crate::intervene::check::PlanError;
use crate::intervene::parse;
use crate::model::site::Site;
use crate::model::spec::Spec;

/// Why there is no training or no evaluation.
#[derive(Debug, thiserror::Error)]
pub enum SaeError {
    #[error(transparent)]
    Site(#[from] crate::intervene::parse::ParseError),
    #[error(transparent)]
    Place(#[from] PlanError),
    #[error("`{site}` is not one vector at every position")]
    NotOneVector { site: String },
    #[error(transparent)]
    Dictionary(#[from] DictionaryError),
    #[error("the dictionary has a width of {found}, and `{site}` of this model has {width}")]
    Width { found: usize, width: usize, site: String },
    #[error("the dictionary does not say which site it reads")]
    NoSite,
    #[error("k is {k}, of {features} features")]
    K { k: usize, features: usize },
    #[error("the text has {tokens} tokens that count, and at least {needed} are needed")]
    Short { tokens: usize, needed: usize },
    #[error("training went out of bounds after {tokens} tokens: the loss is no number")]
    Diverged { tokens: usize },
}

impl Hint for SaeError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            SaeError::Site(error) => return error.hint(),
            SaeError::Place(error) => return error.hint(),
            SaeError::Dictionary(error) => return error.hint(),
            SaeError::NotOneVector { .. } => "take a site such as L2, L2.mlp, L2.attn, L2.mid, L2.in or L2.N*".into(),
            SaeError::Width { .. } => "name the model that it was trained on with --model".into(),
            SaeError::NoSite => "name it with --site".into(),
            SaeError::K { .. } => "take a --k from 1 to the number of --features".into(),
            SaeError::Short { .. } => "give a longer text, or more --pairs".into(),
            SaeError::Diverged { .. } => "take a smaller --learning-rate".into(),
        })
    }
}

/// The site of a model that an address names, one vector at each position, and its width.
///
/// # Errors
/// Addresses of several sites, of heads, of some neurons, of features, or with a position.
pub fn site(written: &str, spec: &Spec) -> Result<(Site, usize), SaeError> {
    let address: Address = parse::address(written)?;
    let missing = |missing| PlanError::Missing { edit: written.to_owned(), missing };
    let slices = address.place.slices(spec).map_err(missing)?;
    let whole = match &address.place {
        Place::Layers(_, Part::Head(..) | Part::Feature(..)) => false,
        Place::Layers(_, Part::Neuron(numbers, _)) => *numbers == Numbers::All,
        _ => true,
    };
    match &slices[..] {
        [one] if whole && address.position.is_none() => {
            Ok((one.site, one.site.shape(spec).last().copied().unwrap_or(0)))
        }
        _ => Err(SaeError::NotOneVector { site: written.to_owned() }),
    }
}
