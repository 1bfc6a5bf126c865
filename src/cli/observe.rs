//! `penjing observe`: all neurons of a model over a text.

use super::Ended;
use super::features::placed;
use super::neurons::Shown;
use super::progress::Progress;
use super::resources::Resources;
use super::term::{Usage, make_folder, print, print_json, write};
use super::texts::Reading;
use clap::Args;
use penjing::features::Placed;
use penjing::inside::observe::{self, Neuron, Watched};
use penjing::intervene::check::PlanError;
use penjing::intervene::parse;
use penjing::model::load_with;
use penjing::model::site::Site;
use penjing::model::spec::{Layer, Spec};
use penjing::report::neuron;
use penjing::task::Split;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Args)]
pub struct Observe {
    #[command(flatten)]
    reading: Reading,
    /// An embedded toy model's name or a Hugging Face folder
    #[arg(long, short, default_value = penjing::model::embedded::DEFAULT, value_name = "MODEL")]
    model: String,
    /// A dictionary: its features are observed, not the neurons
    #[arg(long, value_name = "[NAME=]FILE")]
    sae: Vec<String>,
    /// Neurons that get a page: L1.N17, L0.N{3,5}; with --sae features: L1.sae(NAME).F42
    #[arg(long, value_name = "NEURON")]
    neuron: Vec<String>,
    /// Strongest and weakest examples that are kept of each neuron
    #[arg(long, default_value_t = 20, value_name = "N")]
    top: usize,
    /// Tokens whose values are kept of every neuron, for quantiles and neighbours
    #[arg(long, default_value_t = 512, value_name = "N")]
    sample: usize,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    resources: Resources,
    /// Folder for neurons.csv or features.csv (all of them), observe.json and a page for each --neuron
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn run(command: &Observe, as_json: bool) -> anyhow::Result<Ended> {
    let loaded = load_with(&command.model, &command.resources.load_options()?).map_err(penjing::Error::from)?;
    let spec = &loaded.model.spec;
    let placed = placed(&command.sae, &loaded)?;
    let watched = if placed.is_empty() { Watched::Neurons } else { Watched::Features(&placed) };
    if placed.is_empty() && spec.mlp.is_none() {
        let message = format!("{} has no MLPs, so no neurons", loaded.id);
        return Err(Usage { message, hint: "take another model".into() }.into());
    }
    let wanted = command.wanted(spec, &placed)?;
    if command.top == 0 || command.sample < 2 {
        let message = "a sample of fewer than 2 tokens, or no examples, show nothing".to_owned();
        return Err(Usage { message, hint: "leave --sample and --top out, or raise them".into() }.into());
    }
    let (corpus, window) = command.reading.corpus(&loaded, (Split::Train, command.seed))?;
    if let Some(out) = &command.out {
        make_folder(out)?;
    }
    let progress = Progress::bar("observing");
    let options = (command.top, command.sample, command.seed);
    let observed = observe::observe(&loaded.model, watched, &corpus, options, &mut |share| progress.set(share));
    drop(progress);
    let shown =
        Shown { loaded: &loaded, watched, corpus: &corpus, observed: &observed, source: command.reading.source() };
    let seen = |&(layer, index): &(usize, usize)| Some((layer, index, observed.neuron(layer, index)?));
    let neurons: Vec<(usize, usize, Neuron)> = wanted.iter().filter_map(seen).collect();
    let documents: Vec<Value> =
        neurons.iter().map(|(layer, index, neuron)| shown.document(*layer, *index, neuron)).collect();
    let mut document = json!({
        "schema": "penjing.observe/1",
        "model": loaded.id,
        "text": shown.source,
        "tokens": observed.count,
        "windows": corpus.windows.len(),
        "window": window,
        "sampled": observed.sampled.len(),
        "seed": command.seed,
    });
    let all = format!("{}s", shown.kind());
    document[&all] = documents.into();
    if let Some(out) = &command.out {
        write(out, &format!("{all}.csv"), &shown.table()?)?;
        write(out, "observe.json", (serde_json::to_string_pretty(&document)? + "\n").as_bytes())?;
        for (layer, index, neuron) in &neurons {
            let page = shown.page(*layer, *index, neuron);
            write(out, &format!("{}.html", page.name), neuron::html(&page).as_bytes())?;
        }
    }
    if as_json {
        print_json(&document)?;
        return Ok(Ended::Done);
    }
    let which = if wanted.is_empty() { shown.most_peaked() } else { wanted };
    print(&format!("{} tokens in {} windows\n\n{}", observed.count, corpus.windows.len(), shown.listed(&which)))?;
    Ok(Ended::Done)
}

impl Observe {
    /// The neurons or features that are asked for: layer or dictionary, and number.
    fn wanted(&self, spec: &Spec, placed: &[Placed]) -> anyhow::Result<Vec<(usize, usize)>> {
        let mut wanted = Vec::new();
        for written in &self.neuron {
            let address = parse::address(written).map_err(penjing::Error::from)?;
            let missing = |missing| penjing::Error::from(PlanError::Missing { edit: written.clone(), missing });
            for slice in address.place.slices(spec).map_err(missing)? {
                let neuron = |site| if let Site::MlpPost(Layer(layer)) = site { Some(layer) } else { None };
                let feature = |place: &Placed| {
                    let dictionary = slice.dictionary.as_ref();
                    dictionary.is_some_and(|name| place.site == slice.site && place.called == *name)
                };
                let place = match placed {
                    [] => neuron(slice.site),
                    placed => placed.iter().position(feature),
                };
                let (Some(place), Some(units), None) = (place, &slice.units, &address.position) else {
                    let (kind, hint) = match placed {
                        [] => ("neuron after its non-linearity", "neurons are written L1.N17".to_owned()),
                        [first, ..] => ("feature of a dictionary that is given", format!("write {}.F0", first.name)),
                    };
                    return Err(Usage { message: format!("`{written}` is no {kind}"), hint }.into());
                };
                let count = placed.get(place).map(|placed| placed.dictionary.features());
                if let Some((count, unit)) =
                    count.zip(units.iter().find(|unit| count.is_some_and(|most| **unit >= most)))
                {
                    let message = format!("`{written}`: there is no feature {unit}");
                    return Err(Usage { message, hint: format!("its features are 0 to {}", count - 1) }.into());
                }
                wanted.extend(units.iter().map(|&unit| (place, unit)));
            }
        }
        Ok(wanted)
    }
}
