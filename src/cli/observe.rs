//! `penjing observe`: all neurons of a model over a text.

use super::Ended;
use super::neurons::Shown;
use super::options::BosArgument;
use super::progress::Progress;
use super::resources::Resources;
use super::term::{Usage, make_folder, note, print, print_json, write};
use clap::Args;
use penjing::error::FileError;
use penjing::inside::corpus::Corpus;
use penjing::inside::observe::{self, Neuron};
use penjing::intervene::check::PlanError;
use penjing::intervene::parse;
use penjing::model::site::Site;
use penjing::model::spec::{Layer, Spec};
use penjing::model::{Loaded, load_with};
use penjing::report::neuron;
use penjing::task::{self, Expansion, Split};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Observe {
    /// A text file; an empty line ends a text
    #[arg(required_unless_present = "task", conflicts_with = "task")]
    text: Option<PathBuf>,
    /// Take the clean prompts of tasks as the text
    #[arg(long, value_name = "TASK")]
    task: Vec<String>,
    /// How many prompts of each task
    #[arg(long, default_value_t = 64, value_name = "N")]
    pairs: usize,
    /// An embedded toy model's name or a Hugging Face folder
    #[arg(long, short, default_value = penjing::model::embedded::DEFAULT, value_name = "MODEL")]
    model: String,
    /// Every line of the file is a text of its own
    #[arg(long)]
    lines: bool,
    /// Neurons that get a page: L1.N17, L0.N{3,5}
    #[arg(long, value_name = "NEURON")]
    neuron: Vec<String>,
    /// Tokens of a window, at most (default: 128, or the model's context)
    #[arg(long, value_name = "N")]
    window: Option<usize>,
    /// Strongest and weakest examples that are kept of each neuron
    #[arg(long, default_value_t = 20, value_name = "N")]
    top: usize,
    /// Tokens whose values are kept of every neuron, for quantiles and neighbours
    #[arg(long, default_value_t = 512, value_name = "N")]
    sample: usize,
    #[arg(long, value_enum, default_value = "auto")]
    bos: BosArgument,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    resources: Resources,
    /// Folder for neurons.csv (all of them), observe.json and a page for each --neuron
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn run(command: &Observe, as_json: bool) -> anyhow::Result<Ended> {
    let loaded = load_with(&command.model, &command.resources.load_options()?).map_err(penjing::Error::from)?;
    let spec = &loaded.model.spec;
    if spec.mlp.is_none() {
        let message = format!("{} has no MLPs, so no neurons", loaded.id);
        return Err(Usage { message, hint: "take another model".into() }.into());
    }
    let wanted = command.wanted(spec)?;
    let window = command.window.unwrap_or(128).min(spec.context);
    if window < 2 || command.top == 0 || command.sample < 2 {
        let message = "a window or a sample of fewer than 2 tokens, or no examples, show nothing".to_owned();
        return Err(Usage { message, hint: "leave --window, --sample and --top out, or raise them".into() }.into());
    }
    let corpus = command.corpus(&loaded, window)?;
    if corpus.unknown > 0 {
        let all = corpus.tokens.len();
        note(&format!("{} of {all} tokens are outside the vocabulary of {}", corpus.unknown, loaded.id));
    }
    if let Some(out) = &command.out {
        make_folder(out)?;
    }
    let progress = Progress::bar("observing");
    let options = (command.top, command.sample, command.seed);
    let observed = observe::observe(&loaded.model, &corpus, options, &mut |share| progress.set(share));
    drop(progress);
    let shown = Shown { loaded: &loaded, corpus: &corpus, observed: &observed, source: command.source() };
    let seen = |&(layer, index): &(usize, usize)| Some((layer, index, observed.neuron(layer, index)?));
    let neurons: Vec<(usize, usize, Neuron)> = wanted.iter().filter_map(seen).collect();
    let documents: Vec<Value> =
        neurons.iter().map(|(layer, index, neuron)| shown.document(*layer, *index, neuron)).collect();
    let document = json!({
        "schema": "penjing.observe/1",
        "model": loaded.id,
        "text": shown.source,
        "tokens": observed.count,
        "windows": corpus.windows.len(),
        "window": window,
        "sampled": observed.sampled.len(),
        "seed": command.seed,
        "neurons": documents,
    });
    if let Some(out) = &command.out {
        write(out, "neurons.csv", &shown.table()?)?;
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
    /// The neurons that are asked for: layer and number.
    fn wanted(&self, spec: &Spec) -> anyhow::Result<Vec<(usize, usize)>> {
        let mut wanted = Vec::new();
        for written in &self.neuron {
            let address = parse::address(written).map_err(penjing::Error::from)?;
            let missing = |missing| penjing::Error::from(PlanError::Missing { edit: written.clone(), missing });
            for slice in address.place.slices(spec).map_err(missing)? {
                let (Site::MlpPost(Layer(layer)), Some(units), None) = (slice.site, slice.units, &address.position)
                else {
                    let message = format!("`{written}` is no neuron after its non-linearity");
                    return Err(Usage { message, hint: "neurons are written L1.N17".into() }.into());
                };
                wanted.extend(units.into_iter().map(|unit| (layer, unit)));
            }
        }
        Ok(wanted)
    }

    fn corpus(&self, loaded: &Loaded, window: usize) -> anyhow::Result<Corpus> {
        let texts = match &self.text {
            Some(path) => self.texts(path)?,
            None => self.prompts()?,
        };
        let texts = texts.iter().map(String::as_str);
        Ok(Corpus::new(texts, &loaded.tokenizer, window, self.bos.or(None)).map_err(penjing::Error::from)?)
    }

    fn texts(&self, path: &Path) -> anyhow::Result<Vec<String>> {
        let bytes = std::fs::read(path).map_err(FileError::reading(path)).map_err(penjing::Error::from)?;
        let whole = String::from_utf8(bytes).map_err(|_| Usage {
            message: format!("{} is no text in UTF-8", path.display()),
            hint: "convert it, for example with iconv".into(),
        })?;
        let whole = whole.replace("\r\n", "\n");
        let parts = whole.split(if self.lines { "\n" } else { "\n\n" }).map(|text| text.trim_matches('\n').to_owned());
        let texts: Vec<String> = parts.filter(|text| !text.trim().is_empty()).collect();
        if texts.is_empty() {
            let message = format!("{} holds no text", path.display());
            return Err(Usage { message, hint: "give a file with text".into() }.into());
        }
        Ok(texts)
    }

    fn prompts(&self) -> anyhow::Result<Vec<String>> {
        let mut prompts = Vec::new();
        for name in &self.task {
            let task = task::resolve(name).map_err(penjing::Error::from)?;
            let expansion = Expansion { split: Split::Train, pairs: self.pairs, seed: self.seed, corruption: None };
            let pairs = task::expand(&task, &expansion).map_err(penjing::Error::from)?;
            prompts.extend(pairs.into_iter().map(|pair| pair.clean));
        }
        Ok(prompts)
    }

    /// What the text is called.
    fn source(&self) -> String {
        match &self.text {
            Some(path) => path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
            None => format!("prompts of {}", self.task.join(", ")),
        }
    }
}
