//! The arithmetic of the verbs on the vectors that they change.

use super::cells::{Cells, gather, row_of, window};
use super::failure::RunError;
use super::features::read;
use super::position::PositionSet;
use super::slice::{SiteSlice, site_name};
use crate::dictionary::Dictionary;
use crate::model::spec::Spec;
use std::ops::Range;
use std::rc::Rc;
use tch::{Kind, Tensor};

/// A verb with everything that it needs.
pub(super) enum Action {
    Fill(f64),
    Put(Tensor), // [width]
    Scale(f64),
    Add(Tensor), // [width]
    Project {
        factor: f64,
        unit: Tensor, // [width], of length 1
    },
    Mean(Tensor), // [1, 1 | pos, ..], as the site without a batch
    Copy(Copy),
}

/// A recorded source and the order in which its positions pair off with the target's.
pub(super) struct Copy {
    pub slice: SiteSlice,
    pub dictionary: Option<Rc<Dictionary>>,
    pub value: Tensor, // [batch | 1, pos, ..]
    /// The length of the prompt that was recorded.
    pub end: usize,
    pub rows: Vec<PositionSet>,
}

/// Where the vectors to change are: for each cell its row, its place in the order of the target's positions, its position.
pub(super) struct Target<'a> {
    pub edit: &'a str,
    pub slice: &'a SiteSlice,
    pub batch: usize,
    pub cells: &'a [(usize, usize, usize)],
}

impl Action {
    /// New vectors for old ones, both `[cell, vector, width]`.
    pub fn apply(&self, old: &Tensor, target: &Target) -> Result<Tensor, RunError> {
        let like_old = |tensor: &Tensor| tensor.to_device(old.device()).to_kind(old.kind());
        Ok(match self {
            Action::Fill(number) => old.full_like(*number),
            Action::Put(vector) => like_old(vector).expand_as(old),
            Action::Scale(factor) => old * *factor,
            Action::Add(vector) => old + like_old(vector),
            Action::Project { factor, unit } => {
                let unit = like_old(unit); // [width]
                let along = (old * &unit).sum_dim_intlist(-1, true, None::<Kind>); // [cell, vector, 1]
                old + along * (factor - 1.0) * unit
            }
            Action::Mean(mean) => {
                let positions = mean.size()[1] as usize;
                let mut cells = Cells::default();
                for &(_, _, position) in target.cells {
                    if positions > 1 && position >= positions {
                        let (action, last) = (target.edit.to_string(), positions - 1);
                        return Err(RunError::SourcePosition { action, position, first: 0, last });
                    }
                    cells.push(0, if positions > 1 { position } else { 0 });
                }
                like_old(&gather(mean, target.slice, &cells)?).expand_as(old)
            }
            Action::Copy(copy) => like_old(&copy.read(target)?).f_expand_as(old).map_err(RunError::torch)?,
        })
    }
}

impl Copy {
    /// The source's vectors, one for each cell of the target: `[cell, vector | 1, width]`.
    fn read(&self, target: &Target) -> Result<Tensor, RunError> {
        let action = || target.edit.to_string();
        let window: Range<usize> = window(target.edit, self.slice.site, &self.value, self.end)?;
        let recorded = self.value.size()[0] as usize;
        if recorded != 1 && recorded != target.batch {
            return Err(RunError::Batch { action: action(), prompts: recorded, rows: target.batch });
        }
        let mut cells = Cells::default();
        for &(row, order, _) in target.cells {
            let set = row_of(target.edit, &self.rows, row, target.batch)?;
            let order = if matches!(set, PositionSet::Listed(positions) if positions.len() == 1) { 0 } else { order };
            let Some(position) = set.nth(order) else {
                let source_count = if let PositionSet::Listed(positions) = set { positions.len() } else { 0 };
                return Err(RunError::PositionCount { action: action(), target_count: order + 1, source_count });
            };
            if !window.contains(&position) {
                let (first, last) = (window.start, window.end.saturating_sub(1));
                return Err(RunError::SourcePosition { action: action(), position, first, last });
            }
            cells.push(if recorded == 1 { 0 } else { row }, position - window.start);
        }
        read(&self.value, &self.slice, &cells, self.dictionary.as_deref())
    }
}

/// A vector without direction or with numbers that are none would spread through the whole run.
pub(super) fn checked_vector(name: &str, vector: &Tensor, direction: bool) -> Result<(), RunError> {
    let problem = |problem| RunError::Vector { name: name.into(), problem };
    if vector.dim() != 1 {
        return Err(problem("is not a plain list of numbers"));
    }
    let length = vector.detach().to_kind(Kind::Double).norm().double_value(&[]);
    match (length.is_finite(), direction && length == 0.0) {
        (false, _) => Err(problem("has numbers that are not finite")),
        (_, true) => Err(problem("is zero and so has no direction")),
        _ => Ok(()),
    }
}

/// A mean `[..]` or, by position, `[pos, ..]`, where `..` is the shape of the site: with the axes of a run, `[1, 1 | pos, ..]`.
pub(super) fn shaped_mean(edit: &str, slice: &SiteSlice, mean: &Tensor, spec: &Spec) -> Result<Tensor, RunError> {
    let wanted: Vec<i64> = slice.site.shape(spec).iter().map(|&size| size as i64).collect();
    let sizes = mean.size();
    match sizes.strip_suffix(wanted.as_slice()) {
        Some([]) => Ok(mean.unsqueeze(0).unsqueeze(0)),
        Some([positions]) if *positions > 0 => Ok(mean.unsqueeze(0)),
        _ => Err(RunError::MeanShape { action: edit.into(), site: site_name(slice.site), sizes, wanted }),
    }
}
