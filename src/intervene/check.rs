//! Whether a plan fits a model: layers, heads and neurons that exist, verbs that make sense there, vectors of the right length.

use super::plan::{Edit, Plan, Value, Verb};
use super::slice::{Missing, SiteSlice, Width, site_name};
use crate::error::{Hint, nearest};
use crate::model::site::Site;
use crate::model::spec::Spec;
use indexmap::IndexMap;

/// A plan that the model cannot run.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlanError {
    #[error("`{edit}`: the model has no {} {}, its {}s are {}", .missing.kind, .missing.number, .missing.kind, numbered(.missing.count))]
    Missing { edit: String, missing: Missing },
    #[error(
        "`{edit}`: a pattern holds one probability per key and takes only zero, set, scale and from another pattern"
    )]
    Pattern { edit: String },
    #[error("`{edit}`: {} cannot pair with {}", several(*.source_count, .what), several(*.target_count, .what))]
    Pairing { edit: String, what: &'static str, target_count: usize, source_count: usize },
    #[error("`{edit}`: the target takes {target} and the source holds {source_width}")]
    Width { edit: String, target: Width, source_width: Width },
    #[error("`{edit}`: there is no vector `{name}`")]
    UnknownVector { edit: String, name: String, known: Vec<String> },
    #[error("`{edit}`: there is no dictionary `{name}`")]
    UnknownDictionary { edit: String, name: String, known: Vec<String> },
    #[error("`{edit}`: the dictionary `{name}` is of `{site}`")]
    DictionarySite { edit: String, name: String, site: String },
    #[error("`{edit}`: the dictionary `{name}` reads vectors of length {length} and the site has {width}")]
    DictionaryWidth { edit: String, name: String, length: usize, width: Width },
    #[error("`{edit}`: features have no mean of their own")]
    FeatureMean { edit: String },
    #[error("`{edit}`: the vector `{name}` has length {length} and the site takes {width}")]
    VectorLength { edit: String, name: String, length: usize, width: Width },
}

fn numbered(count: usize) -> String {
    match count {
        0 => "none".into(),
        1 => "0 alone".into(),
        _ => format!("0 to {}", count - 1),
    }
}

fn several(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

impl Hint for PlanError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            PlanError::Missing { missing, .. } => format!("the nearest site is `{}`", missing.nearest),
            PlanError::Pattern { .. } => "to change what a head reads, edit its `.q`, `.k` or `.v`".into(),
            PlanError::Pairing { what, .. } => {
                format!("name as many {what}s in the source as in the target, or one for all")
            }
            PlanError::Width { .. } => {
                "copy between sites of one width: the residual stream with what is added to it, \
                q, k, v and z with each other, as many neurons as neurons, a pattern with a pattern"
                    .into()
            }
            PlanError::UnknownVector { name, known, .. } => match nearest(name, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => "no vectors were given to this run".into(),
                None => format!("the vectors given are {}", known.join(", ")),
            },
            PlanError::UnknownDictionary { name, known, .. } => match nearest(name, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => "no dictionaries were given to this run".into(),
                None => format!("the dictionaries given are {}", known.join(", ")),
            },
            PlanError::DictionarySite { name, site, .. } => format!("write `{site}.sae({name}).F0`"),
            PlanError::DictionaryWidth { .. } => "a dictionary belongs to the model that it was trained on".into(),
            PlanError::FeatureMean { .. } => "say a number: `set 0`".into(),
            PlanError::VectorLength { .. } => "a vector belongs to the kind of site that it was made at".into(),
        })
    }
}

/// What a plan needs to know of a dictionary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DictionaryShape {
    /// Where its features are read and written, if it says.
    pub site: Option<Site>,
    pub features: usize,
    /// The length of the vectors that it reads.
    pub width: usize,
}

/// One slice that an edit writes and, for a `from`, the slice that it is copied from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    pub target: SiteSlice,
    pub source: Option<SiteSlice>,
}

impl Edit {
    /// The slices of a model that this edit writes, checked.
    pub fn writes(&self, spec: &Spec) -> Result<Vec<Write>, PlanError> {
        let missing = |missing| PlanError::Missing { edit: self.to_string(), missing };
        let targets = self.target.place.slices(spec).map_err(missing)?;
        let on_patterns = targets.iter().any(|target| matches!(target.site, Site::Pattern(_)));
        let needs_width =
            matches!(self.verb, Verb::Mean | Verb::Add(..) | Verb::Project(..) | Verb::Set(Value::Vector(_)));
        if on_patterns && needs_width {
            return Err(PlanError::Pattern { edit: self.to_string() });
        }
        if self.verb == Verb::Mean && self.target.place.dictionary().is_some() {
            return Err(PlanError::FeatureMean { edit: self.to_string() });
        }
        let Some(source) = self.verb.source() else {
            return Ok(targets.into_iter().map(|target| Write { target, source: None }).collect());
        };
        let sources = source.address.place.slices(spec).map_err(missing)?;
        let pairing =
            |what, target_count: usize, source_count: usize| match source_count == 1 || source_count == target_count {
                true => Ok(()),
                false => Err(PlanError::Pairing { edit: self.to_string(), what, target_count, source_count }),
            };
        pairing("layer", targets.len(), sources.len())?;
        let pairs = targets.into_iter().enumerate().map(|(index, target)| {
            let source = sources[if sources.len() == 1 { 0 } else { index }].clone();
            let (width, source_width) = (target.width(spec), source.width(spec));
            if width != source_width {
                return Err(PlanError::Width { edit: self.to_string(), target: width, source_width });
            }
            pairing("head", target.vectors(), source.vectors())?;
            Ok(Write { target, source: Some(source) })
        });
        pairs.collect()
    }
}

impl Plan {
    /// Whether the model has every site that the plan names and every verb fits its site.
    pub fn validate(&self, spec: &Spec) -> Result<(), PlanError> {
        self.edits.iter().try_for_each(|edit| edit.writes(spec).map(drop))
    }

    /// Whether every vector that the plan names is among those given and as long as its sites are wide.
    pub fn check_vectors(&self, spec: &Spec, lengths: &IndexMap<String, usize>) -> Result<(), PlanError> {
        for edit in &self.edits {
            let Some(name) = edit.verb.vector() else { continue };
            let Some(&length) = lengths.get(name) else {
                let known = lengths.keys().cloned().collect();
                return Err(PlanError::UnknownVector { edit: edit.to_string(), name: name.into(), known });
            };
            for write in edit.writes(spec)? {
                let width = write.target.width(spec);
                if width != Width::Values(length) {
                    return Err(PlanError::VectorLength { edit: edit.to_string(), name: name.into(), length, width });
                }
            }
        }
        Ok(())
    }

    /// Whether every dictionary that the plan names is among those given, is of the site that it is named at, and has the features.
    pub fn check_dictionaries(&self, spec: &Spec, known: &IndexMap<String, DictionaryShape>) -> Result<(), PlanError> {
        for edit in &self.edits {
            let sources = |write: Write| [Some(write.target), write.source];
            for slice in edit.writes(spec)?.into_iter().flat_map(sources).flatten() {
                let (Some(name), Some(units)) = (slice.dictionary.clone(), &slice.units) else { continue };
                let edit = edit.to_string();
                let Some(shape) = known.get(&name) else {
                    return Err(PlanError::UnknownDictionary { edit, name, known: known.keys().cloned().collect() });
                };
                if let Some(site) = shape.site.filter(|site| *site != slice.site) {
                    return Err(PlanError::DictionarySite { edit, name, site: site_name(site) });
                }
                if shape.width != spec.d_model {
                    let width = Width::Values(spec.d_model);
                    return Err(PlanError::DictionaryWidth { edit, name, length: shape.width, width });
                }
                if let Some(&number) = units.iter().find(|&&unit| unit >= shape.features) {
                    let mut nearest = slice.clone();
                    nearest.units = Some(vec![shape.features.saturating_sub(1)]);
                    let missing =
                        Missing { kind: "feature", number, count: shape.features, nearest: nearest.to_string() };
                    return Err(PlanError::Missing { edit, missing });
                }
            }
        }
        Ok(())
    }

    /// The sites that a run must record first, by the name of the prompt: `None` is the prompt itself, unedited.
    pub fn sources(&self, spec: &Spec) -> Result<IndexMap<Option<String>, Vec<Site>>, PlanError> {
        let mut sources: IndexMap<Option<String>, Vec<Site>> = IndexMap::new();
        for edit in &self.edits {
            let Some(source) = edit.verb.source() else { continue };
            let sites = sources.entry(source.prompt.clone()).or_default();
            for slice in edit.writes(spec)?.into_iter().filter_map(|write| write.source) {
                if !sites.contains(&slice.site) {
                    sites.push(slice.site);
                }
            }
        }
        Ok(sources)
    }
}
