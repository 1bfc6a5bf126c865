//! A tap that keeps the values of chosen sites, with or without their gradients.

use super::address::{Address, Position};
use super::cells::{Cells, gather, resolve_rows, row_of, window};
use super::check::PlanError;
use super::failure::{Announced, RunError};
use super::position::Prompt;
use super::receipt::{Receipt, Touched};
use super::slice::{SiteSlice, site_name};
use crate::model::site::Site;
use crate::model::spec::Spec;
use crate::model::tap::Tap;
use std::collections::{BTreeMap, BTreeSet};
use tch::Tensor;

/// What is kept of a site.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// The numbers alone; the pass goes on with the tensor it had.
    Values,
    /// The autograd node. The gradient at a recorded site is that of everything downstream of the announcement, and of
    /// nothing that branched off before.
    Graph,
    /// As [`Keep::Graph`], and gradients begin here where nothing upstream requires them: weights never do.
    Gradients,
}

/// Keeps what one pass announces of some sites. It changes nothing.
pub struct Record {
    wanted: BTreeSet<Site>,
    keep: Keep,
    found: BTreeMap<Site, Tensor>,
    twice: Option<Site>,
    announced: Announced,
}

/// The tensors of some sites, shaped as [`Site`] says.
pub struct Recording {
    pub values: BTreeMap<Site, Tensor>,
}

/// What a probe read.
pub struct Probed {
    pub slice: SiteSlice,
    /// The row and the position of each cell.
    pub cells: Vec<(usize, usize)>,
    pub values: Tensor, // [cell, vector, width]
}

impl Record {
    /// Keeps the graph.
    pub fn new(sites: impl IntoIterator<Item = Site>) -> Record {
        Record {
            wanted: sites.into_iter().collect(),
            keep: Keep::Graph,
            found: BTreeMap::new(),
            twice: None,
            announced: Announced::default(),
        }
    }

    pub fn keeping(self, keep: Keep) -> Record {
        Record { keep, ..self }
    }

    /// What was recorded; an error if a site was not announced, or more than once.
    pub fn finish(self) -> Result<Recording, RunError> {
        if let Some(site) = self.twice {
            return Err(RunError::Twice { site: site_name(site) });
        }
        match self.wanted.iter().find(|site| !self.found.contains_key(site)) {
            Some(&site) => Err(self.announced.missing("read", site)),
            None => Ok(Recording { values: self.found }),
        }
    }
}

impl Tap for Record {
    fn wants(&self, site: Site) -> bool {
        self.announced.note(site);
        self.wanted.contains(&site)
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        if !self.wanted.contains(&site) {
            return value;
        }
        // An alias is an autograd node of its own: branches that left the tensor earlier do not add to its gradient.
        let (kept, value) = match self.keep {
            Keep::Values => (value.detach(), value),
            Keep::Gradients if !value.requires_grad() => {
                let leaf = value.detach().set_requires_grad(true);
                (leaf.shallow_clone(), leaf)
            }
            Keep::Graph | Keep::Gradients => {
                let alias = value.alias();
                (alias.shallow_clone(), alias)
            }
        };
        if self.found.insert(site, kept).is_some() {
            self.twice = Some(site);
        }
        value
    }
}

impl Recording {
    /// The gradient of a scalar at every recorded site, zero where it does not depend on the site. The graph is used up.
    pub fn gradients(&self, of: &Tensor) -> Result<BTreeMap<Site, Tensor>, RunError> {
        let handles: Vec<&Tensor> = self.values.values().collect();
        let found = Tensor::f_run_backward(&[of], &handles, false, false).map_err(RunError::torch)?;
        let defined =
            |(gradient, value): (Tensor, &Tensor)| if gradient.defined() { gradient } else { value.zeros_like() };
        Ok(self.values.keys().copied().zip(found.into_iter().zip(handles).map(defined)).collect())
    }

    /// Reads an address in every prompt of the batch, by default at the last token. The recorded pass ended with the
    /// prompts.
    pub fn probe(
        &self,
        address: &Address,
        spec: &Spec,
        prompts: &[Prompt],
    ) -> Result<(Vec<Probed>, Receipt), RunError> {
        let action = format!("read {address}");
        let position = address.position.clone().unwrap_or_else(Position::last);
        let rows = resolve_rows(&action, prompts, &position)?;
        let missing = |missing| PlanError::Missing { edit: action.clone(), missing };
        let end = prompts.first().map_or(0, |prompt| prompt.tokens);
        let (mut probed, mut receipt) = (Vec::new(), Receipt::default());
        for slice in address.place.slices(spec).map_err(missing)? {
            if slice.dictionary.is_some() {
                return Err(RunError::NoFeatures { action });
            }
            let Some(value) = self.values.get(&slice.site) else {
                return Err(RunError::NotRecorded { action, site: slice.to_string() });
            };
            let window = window(&action, slice.site, value, end)?;
            let batch = value.size().first().map_or(0, |&size| size as usize);
            let (mut cells, mut inside) = (Vec::new(), Cells::default());
            for row in 0..batch {
                let set = row_of(&action, &rows, row, batch)?;
                if let Some(position) = set.outside(&window) {
                    let (first, last) = (window.start, window.end - 1);
                    return Err(RunError::SourcePosition { action, position, first, last });
                }
                for (_, position) in set.within(&window) {
                    cells.push((row, position));
                    inside.push(row, position - window.start);
                }
            }
            let values = gather(value, &slice, &inside)?; // [cell, vector, width]
            let positions: BTreeSet<usize> = cells.iter().map(|&(_, position)| position).collect();
            receipt.entries.push(Touched {
                action: "read".into(),
                site: slice.to_string(),
                positions: positions.into_iter().collect(),
                values: values.numel(),
                changed: 0,
                l2_change: 0.0,
                max_change: 0.0,
            });
            probed.push(Probed { slice, cells, values });
        }
        Ok((probed, receipt))
    }
}
