//! What the commands that look inside on one prompt have in common: the prompt, the model, and what edits name.

use super::options::BosArgument;
use super::progress::Progress;
use super::resources::Resources;
use super::term::Usage;
use super::texts;
use clap::Args;
use indexmap::IndexMap;
use penjing::dictionary::{Dictionary, file};
use penjing::error::FileError;
use penjing::inside::{means, prompt, row, vectors, words};
use penjing::intervene::address::Position;
use penjing::intervene::parse;
use penjing::intervene::plan::Plan;
use penjing::intervene::position::Prompt;
use penjing::intervene::record::{Keep, Record};
use penjing::intervene::run::{Donor, Supplies};
use penjing::model::Model;
use penjing::model::site::Site;
use penjing::model::{Loaded, Pass, Start, load_with};
use penjing::task::Split;
use penjing::tokenizer::Tokenizer;
use std::path::Path;
use std::rc::Rc;
use tch::Tensor;

#[derive(Args, Clone)]
pub struct OnPrompt {
    /// The text
    pub prompt: String,
    /// An embedded toy model's name or a Hugging Face folder
    #[arg(long, short, default_value = penjing::model::embedded::DEFAULT, value_name = "MODEL")]
    pub model: String,
    /// The beginning-of-text token: as the tokenizer says, before the prompt, or not
    #[arg(long, value_enum, default_value = "auto")]
    pub bos: BosArgument,
    #[command(flatten)]
    pub resources: Resources,
}

/// A prompt ready to run.
pub struct Ready {
    pub loaded: Loaded,
    pub tokens: Vec<u32>,
    pub prompt: Prompt,
}

impl OnPrompt {
    /// Loads the model and encodes the prompt, which so many tokens are to follow.
    ///
    /// # Errors
    /// A bad model, or a prompt that it cannot take.
    pub fn ready(&self, more: usize) -> anyhow::Result<Ready> {
        let loaded = load_with(&self.model, &self.resources.load_options()?).map_err(penjing::Error::from)?;
        let (tokens, prompt) = self.encode(&self.prompt, &loaded, more)?;
        Ok(Ready { loaded, tokens, prompt })
    }

    /// A text for the same model.
    ///
    /// # Errors
    /// A text that the model cannot take.
    pub fn encode(&self, text: &str, loaded: &Loaded, more: usize) -> Result<(Vec<u32>, Prompt), penjing::Error> {
        Ok(prompt::encode(text, &loaded.tokenizer, &loaded.model.spec, self.bos.or(None), more)?)
    }
}

#[derive(Args, Clone)]
pub struct Edits {
    /// An edit such as "L5.H3 = zero", "L4:gen = add 2*v" or "L8:-1 = from L2:-1"; several apply in their order
    #[arg(long = "edit", value_name = "EDIT")]
    edits: Vec<String>,
    /// A file of edits, one a line
    #[arg(long, value_name = "FILE")]
    plan: Option<std::path::PathBuf>,
    /// A vector that edits name: what `penjing vector make` wrote, a safetensors file with one tensor, or a JSON list
    #[arg(long, value_name = "NAME=FILE")]
    vector: Vec<String>,
    /// A dictionary whose features edits name, as in "L5.sae(NAME).F42 = set 12"
    #[arg(long, value_name = "NAME=FILE")]
    sae: Vec<String>,
    /// Another prompt, for edits such as "L5:-1 = from L5:-1@NAME"
    #[arg(long, value_name = "NAME=TEXT")]
    donor: Vec<String>,
    /// Prompts, one a line, over whose positions the means of `mean` edits are taken
    #[arg(long, value_name = "FILE", conflicts_with = "task")]
    means: Option<std::path::PathBuf>,
    /// A task over whose prompts they are taken
    #[arg(long, value_name = "TASK")]
    task: Option<String>,
}

/// Prompts of a task that means are taken over.
const MEANS_OVER: usize = 64;

impl Edits {
    /// # Errors
    /// What is no edit, or no file of edits.
    pub fn plan(&self) -> anyhow::Result<Plan> {
        let mut plan = Plan::default();
        if let Some(path) = &self.plan {
            let text = std::fs::read_to_string(path).map_err(FileError::reading(path)).map_err(penjing::Error::from)?;
            plan.edits.extend(parse::plan(&text).map_err(penjing::Error::from)?.edits);
        }
        for edit in &self.edits {
            plan.edits.push(parse::edit(edit).map_err(penjing::Error::from)?);
        }
        Ok(plan)
    }

    /// The vectors and the other prompts.
    ///
    /// # Errors
    /// Files that cannot be read, and prompts that the model cannot take.
    pub fn supplies(&self, on: &OnPrompt, ready: &Ready, plan: &Plan) -> anyhow::Result<Supplies> {
        let mut supplies = Supplies::default();
        for named in &self.vector {
            let (name, path) = split(named, "--vector v=vector.safetensors")?;
            let vector = vectors::for_model(Path::new(path), &ready.loaded.model).map_err(penjing::Error::from)?;
            supplies.vectors.insert(name.to_owned(), vector);
        }
        let model = &ready.loaded.model;
        for named in &self.sae {
            let (name, path) = split(named, "--sae g=dictionary.safetensors")?;
            supplies.dictionaries.insert(name.to_owned(), dictionary(Path::new(path), model)?);
        }
        let mut sources = plan.sources(&model.spec).map_err(penjing::Error::from)?;
        for named in &self.donor {
            let (name, text) = split(named, "--donor other='Another prompt'")?;
            let (tokens, prompt) = on.encode(text, &ready.loaded, 0)?;
            let sites = sources.swap_remove(&Some(name.to_owned())).unwrap_or_default();
            let mut record = Record::new(sites).keeping(Keep::Values);
            let _ = tch::no_grad(|| model.forward(Start::Tokens(&row(model, &tokens)), &Pass::LAST, &mut record));
            let recording = record.finish().map_err(penjing::Error::from)?;
            supplies.donors.insert(name.to_owned(), Donor { recording, prompts: vec![prompt] });
        }
        supplies.means = self.taken(on, ready, plan)?;
        Ok(supplies)
    }

    /// The means that the plan's edits put in.
    fn taken(&self, on: &OnPrompt, ready: &Ready, plan: &Plan) -> anyhow::Result<IndexMap<Site, Tensor>> {
        let sites = means::wanted(plan, &ready.loaded.model).map_err(penjing::Error::from)?;
        let given = self.means.is_some() || self.task.is_some();
        if sites.is_empty() == given {
            let (message, hint) = match given {
                true => ("means are given, and no edit puts a mean in", "write an edit such as \"L5.H3 = mean\""),
                false => ("a `mean` edit needs prompts to take the mean over", "give --means FILE or --task TASK"),
            };
            return Err(Usage { message: message.into(), hint: hint.into() }.into());
        }
        let texts = match (&self.means, &self.task) {
            (Some(path), _) => texts::prompts(path)?,
            (None, Some(task)) => texts::clean_prompts(std::slice::from_ref(task), MEANS_OVER, (Split::Train, 0))?,
            (None, None) => return Ok(IndexMap::new()),
        };
        let encode = |text: &String| on.encode(text, &ready.loaded, 0);
        let prompts = texts.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        let progress = Progress::bar("means");
        let means = means::of(&ready.loaded.model, &sites, &prompts, &Position::All, &mut |share| progress.set(share));
        Ok(means.map_err(penjing::Error::from)?)
    }
}

#[derive(Args, Clone)]
pub struct Watching {
    /// The token whose probability is the response, such as " Sorry"; several count together
    #[arg(long, required_unless_present = "set", value_name = "TOKEN")]
    watch: Vec<String>,
    /// Words whose tokens count too: all that begin one of them
    #[arg(long, value_name = "WORD,WORD", value_delimiter = ',')]
    set: Vec<String>,
}

impl Watching {
    /// The tokens, each once, of a model with so many logits.
    ///
    /// # Errors
    /// What is no single token, and what the model has no logit for.
    pub fn tokens(&self, tokenizer: &Tokenizer, size: usize) -> anyhow::Result<Vec<u32>> {
        let mut watched = Vec::new();
        for token in &self.watch {
            watched.push(tokenizer.single(token).map_err(penjing::Error::from)?);
        }
        let set: Vec<&str> = self.set.iter().map(|word| word.trim()).collect();
        watched.extend(words::beginning(tokenizer, size, &set));
        watched.sort_unstable();
        watched.dedup();
        if watched.is_empty() || watched.iter().any(|&id| id as usize >= size) {
            let message = "no token of the model's output is watched".to_owned();
            return Err(Usage { message, hint: "name one with --watch, with its leading space".into() }.into());
        }
        Ok(watched)
    }

    /// What was asked for, as written.
    pub fn names(&self) -> Vec<&String> {
        self.watch.iter().chain(&self.set).collect()
    }
}

fn split<'a>(named: &'a str, example: &str) -> anyhow::Result<(&'a str, &'a str)> {
    named.split_once('=').filter(|(name, rest)| !name.is_empty() && !rest.is_empty()).ok_or_else(|| {
        let message = format!("`{named}` is no name with something after `=`");
        Usage { message, hint: format!("write {example}") }.into()
    })
}

/// A dictionary of a model's residual stream, or of what is added to it.
///
/// # Errors
/// A file that holds none, or one of another model or width.
pub fn dictionary(path: &Path, model: &Model) -> anyhow::Result<Rc<Dictionary>> {
    let dictionary = file::read(path).map_err(penjing::Error::from)?;
    dictionary.check_weights(&model.fingerprint()).map_err(penjing::Error::from)?;
    let (width, wanted) = (dictionary.width(), model.spec.d_model);
    if width != wanted {
        let message = format!("{} reads vectors of length {width}, and the model's have {wanted}", path.display());
        return Err(Usage { message, hint: "a dictionary belongs to the model that it was trained on".into() }.into());
    }
    Ok(Rc::new(dictionary))
}
