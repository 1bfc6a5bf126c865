//! `penjing render`: draws a circuit file.

use super::Ended;
use super::term::{Usage, make_folder, print, print_json, write};
use clap::Args;
use penjing::circuit::file;
use penjing::render::{self, Caption};
use serde_json::json;
use std::path::PathBuf;

#[derive(Args)]
pub struct Render {
    /// A circuit.json
    circuit: PathBuf,
    /// Formats, separated by commas: svg, dot
    #[arg(long, default_value = "svg", value_delimiter = ',')]
    to: Vec<String>,
    /// A title above the figure
    #[arg(long)]
    title: Option<String>,
    /// Folder for the figures (default: beside the circuit)
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn run(command: &Render, as_json: bool) -> anyhow::Result<Ended> {
    let circuit = file::read(&command.circuit).map_err(penjing::Error::from)?;
    let beside = command.circuit.parent().map(PathBuf::from).unwrap_or_default();
    let beside = if beside.as_os_str().is_empty() { PathBuf::from(".") } else { beside };
    let folder = command.out.clone().unwrap_or(beside);
    let stem = command.circuit.file_stem().map_or_else(|| "circuit".into(), |stem| stem.to_string_lossy().into_owned());
    let caption = Caption { title: command.title.clone().unwrap_or_default(), subtitle: String::new() };
    let mut written = Vec::new();
    let mut drawings = Vec::new();
    for format in &command.to {
        let text = match format.as_str() {
            "svg" => render::svg(&circuit.graph, &circuit.mask, &circuit.scores, &caption),
            "dot" => render::dot(&circuit.graph, &circuit.mask, &circuit.scores, &caption),
            other => {
                let message = format!("format `{other}` is not supported");
                return Err(Usage { message, hint: "the formats are svg and dot".into() }.into());
            }
        };
        drawings.push((format!("{stem}.{format}"), text));
    }
    make_folder(&folder)?;
    for (name, text) in drawings {
        write(&folder, &name, text.as_bytes())?;
        written.push(folder.join(name));
    }
    if as_json {
        print_json(&json!({ "written": written }))?;
    } else {
        for path in written {
            print(&path.display().to_string())?;
        }
    }
    Ok(Ended::Done)
}
