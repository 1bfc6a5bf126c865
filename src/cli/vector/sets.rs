//! The prompts that vectors are made of and tested on, and the model that reads them.

use crate::cli::options::BosArgument;
use crate::cli::resources::Resources;
use crate::cli::term::Usage;
use crate::cli::texts;
use clap::Args;
use penjing::inside::prompt;
use penjing::inside::vectors::Encoded;
use penjing::model::{Loaded, load_with};
use penjing::task::{PromptPair, Split};
use std::path::PathBuf;

#[derive(Args)]
pub struct Reader {
    /// An embedded toy model's name or a Hugging Face folder
    #[arg(long, short, default_value = penjing::model::embedded::DEFAULT, value_name = "MODEL")]
    model: String,
    /// The beginning-of-text token: as the tokenizer says, before each prompt, or not
    #[arg(long, value_enum, default_value = "auto")]
    pub bos: BosArgument,
    #[command(flatten)]
    resources: Resources,
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

impl Reader {
    /// # Errors
    /// A model that cannot be loaded.
    pub fn load(&self) -> anyhow::Result<Loaded> {
        Ok(load_with(&self.model, &self.resources.load_options()?).map_err(penjing::Error::from)?)
    }

    /// Texts for a model, each of which so many tokens are to follow.
    ///
    /// # Errors
    /// A text that the model cannot take.
    pub fn encode(&self, texts: &[String], loaded: &Loaded, more: usize) -> anyhow::Result<Vec<Encoded>> {
        let (tokenizer, spec) = (&loaded.tokenizer, &loaded.model.spec);
        let one = |text: &String| prompt::encode(text, tokenizer, spec, self.bos.or(None), more);
        Ok(texts.iter().map(one).collect::<Result<_, _>>().map_err(penjing::Error::from)?)
    }
}

#[derive(Args)]
pub struct Sets {
    /// Prompts on the side that the vector points to, one a line; `\n` stands for a line feed
    #[arg(long, value_name = "FILE", requires = "negative", conflicts_with = "task")]
    positive: Option<PathBuf>,
    /// Prompts on the other side, one a line
    #[arg(long, value_name = "FILE", requires = "positive")]
    negative: Option<PathBuf>,
    /// Take the clean prompts of a task as positive and its corrupt ones as negative
    #[arg(long, value_name = "TASK")]
    pub task: Option<String>,
    /// How many pairs of the task
    #[arg(long, default_value_t = 64, value_name = "N")]
    pairs: usize,
    /// Which of the task's corruptions (default: its first)
    #[arg(long, value_name = "NAME")]
    corruption: Option<String>,
}

impl Sets {
    /// Positive and negative texts; of a task those of a split.
    ///
    /// # Errors
    /// Files without prompts, and tasks that cannot give so many.
    pub fn prompts(&self, split: Split, seed: u64) -> anyhow::Result<[Vec<String>; 2]> {
        if let Some(name) = &self.task {
            let pairs = texts::pairs(name, self.pairs, (split, seed), self.corruption.as_ref())?;
            let side = |of: fn(&PromptPair) -> &String| pairs.iter().map(|pair| of(pair).clone()).collect();
            return Ok([side(|pair| &pair.clean), side(|pair| &pair.corrupt)]);
        }
        match (&self.positive, &self.negative) {
            (Some(positive), Some(negative)) => Ok([texts::prompts(positive)?, texts::prompts(negative)?]),
            _ => {
                let message = "there are no prompts".to_owned();
                Err(Usage { message, hint: "give --positive and --negative, or --task".into() }.into())
            }
        }
    }
}
