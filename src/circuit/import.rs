//! Circuits of any layout that is read: penjing's own `circuit.json`, and the graph JSON of EAP-IG and the MIB benchmark.

use super::EdgeMask;
use super::eap_json::{self, EapGraph, EapJson};
use super::file::{self, Circuit, ContentError, GraphFileError, read_with};
use super::roles::Found;
use crate::graph::Graph;
use crate::graph::scores::Scores;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::path::Path;

/// A circuit and what its file was.
#[derive(Clone, Debug)]
pub enum Imported {
    Own(Box<Circuit>),
    Eap(Box<EapFile>),
}

/// A file in EAP-IG's layout, and the graph, edges and scores that it says.
#[derive(Clone, Debug)]
pub struct EapFile {
    pub json: EapJson,
    pub says: EapGraph,
}

impl Imported {
    pub fn graph(&self) -> &Graph {
        match self {
            Imported::Own(circuit) => &circuit.graph,
            Imported::Eap(file) => &file.says.graph,
        }
    }

    pub fn mask(&self) -> &EdgeMask {
        match self {
            Imported::Own(circuit) => &circuit.mask,
            Imported::Eap(file) => &file.says.mask,
        }
    }

    pub fn scores(&self) -> &Scores {
        match self {
            Imported::Own(circuit) => &circuit.scores,
            Imported::Eap(file) => &file.says.scores,
        }
    }

    /// What its nodes were found to do.
    pub fn roles(&self) -> &[Found] {
        match self {
            Imported::Own(circuit) => &circuit.roles,
            Imported::Eap(_) => &[],
        }
    }

    /// In the layout of EAP-IG; one that was read in it loses nothing. Nothing where the file does not say how wide the
    /// model is, which that layout wants.
    pub fn to_eap(&self) -> Option<EapJson> {
        match self {
            Imported::Eap(file) => Some(file.json.clone()),
            Imported::Own(circuit) => {
                let d_model = circuit.provenance.model.d_model?;
                Some(EapJson::new(&circuit.graph, &circuit.mask, &circuit.scores, d_model))
            }
        }
    }
}

/// # Errors
/// [`GraphFileError`]: a file that is of neither layout, of a newer version, or damaged.
pub fn read(path: &Path) -> Result<Imported, GraphFileError> {
    read_with(path, parse)
}

/// # Errors
/// [`ContentError`], as [`read`].
pub fn parse(text: &str) -> Result<Imported, ContentError> {
    /// Tells the layouts apart.
    #[derive(Deserialize)]
    struct Layout {
        schema: Option<IgnoredAny>,
        cfg: Option<IgnoredAny>,
    }
    let layout: Layout = serde_json::from_str(text)?;
    if layout.schema.is_none() && layout.cfg.is_some() {
        let json = eap_json::parse(text)?;
        let says = json.build()?;
        return Ok(Imported::Eap(Box::new(EapFile { json, says })));
    }
    Ok(Imported::Own(Box::new(file::parse(text)?)))
}
