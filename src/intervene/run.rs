//! The tap that runs a plan.
//!
//! Each edit writes its slice of a site out of place, so that gradients flow and nothing recorded earlier changes. Edits of
//! one site apply in the order of the plan. A source without `@prompt` is read from a run without any edit, so a plan that
//! has one costs two passes; [`run_plan`] makes both.

use super::action::{Action, Copy, Target, checked_vector, shaped_mean};
use super::address::{Numbers, Position};
use super::cells::{Cells, resolve_rows, row_of, window};
use super::check::{DictionaryShape, Write};
use super::failure::{Announced, RunError};
use super::features::{self, read};
use super::plan::{Edit, Plan, Value, Verb};
use super::position::{PositionSet, Prompt};
use super::receipt::{Receipt, Touched};
use super::record::{Keep, Record, Recording};
use super::slice::{SiteSlice, site_name};
use crate::dictionary::Dictionary;
use crate::model::site::Site;
use crate::model::spec::Spec;
use crate::model::tap::Tap;
use indexmap::IndexMap;
use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;
use tch::{Kind, Tensor};

/// What the names in a plan stand for.
#[derive(Default)]
pub struct Supplies {
    pub vectors: IndexMap<String, Tensor>, // each [width]
    /// By site, shaped as [`Site::shape`] says, with positions before it for a mean at each position.
    pub means: IndexMap<Site, Tensor>,
    /// By the names that features are written with.
    pub dictionaries: IndexMap<String, Rc<Dictionary>>,
    /// The prompts that `@name` refers to.
    pub donors: IndexMap<String, Donor>,
}

impl Supplies {
    /// The dictionary that a slice's units are features of.
    pub fn dictionary(&self, slice: &SiteSlice) -> Option<Rc<Dictionary>> {
        self.dictionaries.get(slice.dictionary.as_ref()?).cloned()
    }

    fn shapes(&self, spec: &Spec) -> IndexMap<String, DictionaryShape> {
        let shape = |dictionary: &Dictionary| DictionaryShape {
            site: features::site(dictionary, spec),
            features: dictionary.features(),
            width: dictionary.width(),
        };
        self.dictionaries.iter().map(|(name, dictionary)| (name.clone(), shape(dictionary))).collect()
    }
}

/// Another prompt (or a batch as long as the target's), recorded to its last token.
pub struct Donor {
    pub recording: Recording,
    pub prompts: Vec<Prompt>,
}

/// Runs a plan during a forward pass, or during several that continue one another.
pub struct PlanTap {
    /// The position after the last that the coming pass computes: the length of the prompt, until set otherwise. A pass that
    /// shares a prefix computes fewer positions and needs nothing; one that goes on beyond the prompt, or stops before its
    /// end, needs this set.
    pub end: usize,
    steps: Vec<Step>,
    announced: Announced,
    error: Option<RunError>,
}

/// One edit at one site.
struct Step {
    edit: String,
    slice: SiteSlice,
    /// Of its features, if it has any.
    dictionary: Option<Rc<Dictionary>>,
    rows: Vec<PositionSet>,
    action: Action,
    /// The positions of each pass that announced the site.
    computed: Vec<Range<usize>>,
    positions: BTreeSet<usize>,
    values: usize,
    /// Of each pass: sum of squared changes, largest change, number of changes.
    changes: Vec<Tensor>, // each [3]
}

impl PlanTap {
    /// A tap for a batch of `prompts` of one length; a single prompt serves a batch of any size. `unedited` holds the sites
    /// that [`Plan::sources`] lists under `None`.
    pub fn new(
        plan: &Plan,
        spec: &Spec,
        prompts: &[Prompt],
        supplies: &Supplies,
        unedited: Option<&Recording>,
    ) -> Result<PlanTap, RunError> {
        plan.validate(spec)?;
        let lengths = supplies.vectors.iter().map(|(name, vector)| (name.clone(), vector.numel())).collect();
        plan.check_vectors(spec, &lengths)?;
        plan.check_dictionaries(spec, &supplies.shapes(spec))?;
        let mut steps = Vec::new();
        for edit in &plan.edits {
            let text = edit.to_string();
            let position = edit.target.position.clone().unwrap_or(Position::All);
            let rows = resolve_rows(&text, prompts, &position)?;
            for write in edit.writes(spec)? {
                let action = action(edit, &write, spec, prompts, supplies, unedited)?;
                steps.push(Step {
                    edit: text.clone(),
                    dictionary: supplies.dictionary(&write.target),
                    slice: write.target,
                    rows: rows.clone(),
                    action,
                    computed: Vec::new(),
                    positions: BTreeSet::new(),
                    values: 0,
                    changes: Vec::new(),
                });
            }
        }
        let end = prompts.first().map_or(0, |prompt| prompt.tokens);
        Ok(PlanTap { end, steps, announced: Announced::default(), error: None })
    }

    /// The first position that any edit writes: a prefix shared with an unedited run must end here or earlier.
    pub fn first_position(&self) -> usize {
        self.steps.iter().flat_map(|step| &step.rows).map(PositionSet::first).min().unwrap_or(0)
    }

    /// What was touched; an error if an edit did less than it says.
    pub fn finish(self) -> Result<Receipt, RunError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let entries = self.steps.into_iter().map(|step| step.finish(&self.announced));
        Ok(Receipt { entries: entries.collect::<Result<_, _>>()? })
    }
}

impl Tap for PlanTap {
    fn wants(&self, site: Site) -> bool {
        self.announced.note(site);
        self.steps.iter().any(|step| step.slice.site == site)
    }

    fn at(&mut self, site: Site, mut value: Tensor) -> Tensor {
        for step in self.steps.iter_mut().filter(|step| step.slice.site == site) {
            match step.apply(&value, self.end) {
                Ok(edited) => value = edited,
                Err(error) => {
                    self.error.get_or_insert(error);
                }
            }
        }
        value
    }
}

impl Step {
    fn apply(&mut self, value: &Tensor, end: usize) -> Result<Tensor, RunError> {
        let window = window(&self.edit, self.slice.site, value, end)?;
        let batch = value.size().first().map_or(0, |&size| size as usize);
        let (mut cells, mut inside) = (Vec::new(), Cells::default());
        for row in 0..batch {
            for (order, position) in row_of(&self.edit, &self.rows, row, batch)?.within(&window) {
                cells.push((row, order, position));
                inside.push(row, position - window.start);
            }
        }
        self.computed.push(window);
        if cells.is_empty() {
            return Ok(value.shallow_clone());
        }
        let dictionary = self.dictionary.as_deref();
        let old = read(value, &self.slice, &inside, dictionary)?; // [cell, vector, width]
        let target = Target { edit: &self.edit, slice: &self.slice, batch, cells: &cells };
        let new = self.action.apply(&old, &target)?; // [cell, vector, width]
        self.positions.extend(cells.iter().map(|&(_, _, position)| position));
        self.values += old.numel();
        self.changes.push(change(&old, &new));
        features::write(value, &self.slice, &inside, [&old, &new], dictionary)
    }

    fn finish(self, announced: &Announced) -> Result<Touched, RunError> {
        if self.computed.is_empty() {
            return Err(announced.missing(&self.edit, self.slice.site));
        }
        if let Some(position) = self.missed() {
            let spans: Vec<String> = self.computed.iter().map(written).collect();
            let (site, computed) = (self.slice.to_string(), spans.join(", "));
            return Err(RunError::NotReached { action: self.edit, site, position, computed });
        }
        let sums = self.changes.iter().fold([0.0, 0.0, 0.0], |[squares, largest, count]: [f64; 3], change| {
            let part = |index| change.double_value(&[index]);
            [squares + part(0), largest.max(part(1)), count + part(2)]
        });
        Ok(Touched {
            action: self.edit,
            site: self.slice.to_string(),
            positions: self.positions.into_iter().collect(),
            values: self.values,
            changed: sums[2] as usize,
            l2_change: sums[0].sqrt(),
            max_change: sums[1],
        })
    }

    /// A position that the edit names and no pass computed.
    fn missed(&self) -> Option<usize> {
        // The final norm sees only the positions that are read; the others have no effect, so "all of them" is not broken.
        let only_read = self.slice.site == Site::FinalIn;
        self.rows.iter().find_map(|set| match set {
            PositionSet::Listed(positions) => {
                positions.iter().copied().find(|position| !self.computed.iter().any(|range| range.contains(position)))
            }
            PositionSet::From(first) if only_read => self.positions.is_empty().then_some(*first),
            PositionSet::From(first) => (!self.computed.iter().any(|range| range.contains(first))).then_some(*first),
        })
    }
}

fn written(range: &Range<usize>) -> String {
    let positions: Vec<usize> = range.clone().collect();
    format!("position{} {}", if positions.len() == 1 { "" } else { "s" }, Numbers::compact(&positions))
}

/// Sum of squares, largest and number of the changes: `[3]`, left on the device.
fn change(old: &Tensor, new: &Tensor) -> Tensor {
    let _no_grad = tch::no_grad_guard();
    let difference = new.to_kind(Kind::Double) - old.to_kind(Kind::Double); // [cell, vector, width]
    let (squares, largest) = (difference.square().sum(None::<Kind>), difference.abs().max());
    Tensor::stack(&[squares, largest, difference.count_nonzero(None::<i64>).to_kind(Kind::Double)], 0)
}

fn action(
    edit: &Edit,
    write: &Write,
    spec: &Spec,
    prompts: &[Prompt],
    supplies: &Supplies,
    unedited: Option<&Recording>,
) -> Result<Action, RunError> {
    let vector = |name: &str, direction: bool| match supplies.vectors.get(name) {
        Some(vector) => checked_vector(name, vector, direction).map(|()| vector.shallow_clone()),
        None => Err(RunError::Vector { name: name.into(), problem: "was not given" }),
    };
    Ok(match &edit.verb {
        Verb::Zero => Action::Fill(0.0),
        Verb::Set(Value::Number(number)) => Action::Fill(*number),
        Verb::Set(Value::Vector(name)) => Action::Put(vector(name, false)?),
        Verb::Scale(factor) => Action::Scale(*factor),
        Verb::Add(factor, name) => Action::Add(vector(name, false)? * *factor),
        Verb::Project(factor, name) => {
            let vector = vector(name, true)?.to_kind(Kind::Double); // [width]
            Action::Project { factor: *factor, unit: &vector / vector.norm() }
        }
        Verb::Mean => {
            let (action, site) = (edit.to_string(), site_name(write.target.site));
            let mean = supplies.means.get(&write.target.site).ok_or(RunError::NoMean { action, site })?;
            Action::Mean(shaped_mean(&edit.to_string(), &write.target, mean, spec)?)
        }
        Verb::From(source) => {
            let (recording, source_prompts) = match &source.prompt {
                None => (unedited, prompts),
                Some(name) => match supplies.donors.get(name) {
                    Some(donor) => (Some(&donor.recording), donor.prompts.as_slice()),
                    None => {
                        let known = supplies.donors.keys().cloned().collect();
                        return Err(RunError::NoPrompt { action: edit.to_string(), prompt: name.clone(), known });
                    }
                },
            };
            let slice = write.source.clone().unwrap_or_else(|| write.target.clone());
            let value = recording.and_then(|recording| recording.values.get(&slice.site));
            let Some(value) = value else {
                return Err(RunError::NotRecorded { action: edit.to_string(), site: slice.to_string() });
            };
            let position = source.address.position.as_ref().or(edit.target.position.as_ref()).unwrap_or(&Position::All);
            let rows = resolve_rows(&edit.to_string(), source_prompts, position)?;
            let end = source_prompts.first().map_or(0, |prompt| prompt.tokens);
            let dictionary = supplies.dictionary(&slice);
            Action::Copy(Copy { slice, dictionary, value: value.shallow_clone(), end, rows })
        }
    })
}

/// Runs a model with a plan, and before it without, if the plan reads its own unedited run. `forward` is one forward pass of
/// the prompts to their last token; what it returns for the edited pass comes back with the receipt.
pub fn run_plan<T>(
    plan: &Plan,
    spec: &Spec,
    prompts: &[Prompt],
    supplies: &Supplies,
    mut forward: impl FnMut(&mut dyn Tap) -> T,
) -> Result<(T, Receipt), RunError> {
    let unedited = match plan.sources(spec)?.swap_remove(&None) {
        None => None,
        Some(sites) => {
            let _no_grad = tch::no_grad_guard();
            let mut record = Record::new(sites).keeping(Keep::Values);
            forward(&mut record);
            Some(record.finish()?)
        }
    };
    let mut tap = PlanTap::new(plan, spec, prompts, supplies, unedited.as_ref())?;
    let output = forward(&mut tap);
    Ok((output, tap.finish()?))
}
