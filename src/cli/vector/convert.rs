//! `penjing vector convert`: our own files, GGUF control vectors, JSON lists. What is read and written goes by the file's ending.

use crate::cli::Ended;
use crate::cli::term::{Usage, print, print_json};
use clap::Args;
use penjing::circuit::file::write_atomically;
use penjing::error::FileError;
use penjing::inside::vectors::file::{numbers, plain_bytes};
use penjing::inside::vectors::gguf::ControlVector;
use penjing::inside::vectors::{Made, VectorError, from_file, to_bytes};
use penjing::intervene::address::{Numbers, Part, Place, Whole};
use penjing::intervene::parse;
use penjing::model::spec::Layer;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::Tensor;

#[derive(Args)]
pub struct Convert {
    /// A vector: .safetensors, .gguf or .json
    from: PathBuf,
    /// The file that is written, in the format of its ending
    to: PathBuf,
    /// The layer of the direction that is read from GGUF; the layers that it is written for, in place of that of its site
    #[arg(long, value_name = "L,L", value_delimiter = ',')]
    layers: Vec<usize>,
    /// Hugging Face's model_type, for GGUF (llama.cpp does not check it)
    #[arg(long, default_value = "", value_name = "NAME")]
    hint: String,
}

pub fn run(command: &Convert, as_json: bool) -> anyhow::Result<Ended> {
    let usage = |message: String, hint: &str| -> anyhow::Error { Usage { message, hint: hint.to_owned() }.into() };
    let gguf = |path: &Path| path.extension().is_some_and(|ending| ending == "gguf");
    let (values, record) = if gguf(&command.from) {
        (from_gguf(command)?, None)
    } else {
        from_file(&command.from).map_err(penjing::Error::from)?
    };
    let bytes = match command.to.extension().and_then(|ending| ending.to_str()) {
        Some("gguf") => {
            let of_site = || -> Option<Vec<usize>> {
                let address = parse::address(&record.as_ref()?.site).ok()?;
                let Place::Layers(Numbers::Spans(layers), Part::Whole(Whole::Out)) = address.place else { return None };
                Some(layers.iter().flat_map(|span| span.first..=span.last).map(|layer| Layer(layer).0).collect())
            };
            let given = (!command.layers.is_empty() && !gguf(&command.from)).then(|| command.layers.clone());
            let layers = given.or_else(of_site).ok_or_else(|| {
                let message = format!("{} does not say of which block's output its vector is", command.from.display());
                usage(message, "say for which layers with --layers")
            })?;
            let direction: Vec<f32> = numbers(&values).into_iter().map(|number| number as f32).collect();
            let directions: BTreeMap<usize, Vec<f32>> =
                layers.into_iter().map(|layer| (layer, direction.clone())).collect();
            let vector = ControlVector { hint: command.hint.clone(), directions };
            vector.to_bytes().map_err(VectorError::from).map_err(penjing::Error::from)?
        }
        Some("json") => (serde_json::to_string(&numbers(&values))? + "\n").into_bytes(),
        Some("safetensors") => match record {
            Some(record) => to_bytes(&Made { values: values.shallow_clone(), record })?,
            None => plain_bytes(&values)?,
        },
        _ => {
            let message = format!("the ending of {} names no format", command.to.display());
            return Err(usage(message, "write to a .safetensors, .gguf or .json file"));
        }
    };
    write_atomically(&command.to, &bytes).map_err(penjing::Error::from)?;
    if as_json {
        let width = values.numel();
        print_json(
            &json!({ "schema": "penjing.vector-convert/1", "from": command.from, "to": command.to, "width": width }),
        )?;
    } else {
        print(&command.to.display().to_string())?;
    }
    Ok(Ended::Done)
}

fn from_gguf(command: &Convert) -> anyhow::Result<Tensor> {
    let path = &command.from;
    let bytes = std::fs::read(path).map_err(FileError::reading(path)).map_err(penjing::Error::from)?;
    let vector = ControlVector::from_bytes(&bytes).map_err(VectorError::from).map_err(penjing::Error::from)?;
    let found = match &command.layers[..] {
        [] if vector.directions.len() == 1 => vector.directions.values().next(),
        [layer] => vector.directions.get(layer),
        _ => None,
    };
    let found = found.map(|direction| Tensor::from_slice(direction));
    found.ok_or_else(|| {
        let layers: Vec<String> = vector.directions.keys().map(ToString::to_string).collect();
        let message = format!("{} has directions for the layers {}", path.display(), layers.join(", "));
        Usage { message, hint: "take one of them with --layers".into() }.into()
    })
}
