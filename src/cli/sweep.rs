//! `penjing sweep`: an edit with a free amount, what it does and what it costs.

use super::Ended;
use super::dosed::{Seen, document};
use super::inside::{Edits, OnPrompt, Ready, Watching};
use super::progress::Progress;
use super::results::Results;
use super::term::{Usage, make_folder, print, print_json};
use super::texts;
use clap::Args;
use penjing::inside::corpus::Corpus;
use penjing::inside::doses::{self, Dose};
use penjing::inside::natural::{self, Natural};
use penjing::inside::resample::Mean;
use penjing::inside::vectors::Encoded;
use penjing::intervene::parse;
use penjing::intervene::plan::Plan;
use penjing::intervene::position::Prompt;
use penjing::intervene::run::Supplies;
use penjing::render::response::response;
use penjing::render::style::{Style, StyleError};
use penjing::render::theme::Theme;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Sweep {
    #[command(flatten)]
    on: OnPrompt,
    /// More prompts, one a line; `\n` stands for a line feed
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// The edit, with `a` for its amount: "L4.N17 = scale a", "L6:gen = add a*v"
    #[arg(long, value_name = "EDIT")]
    dose: String,
    /// The amounts: LOW..HIGH/COUNT, or a list 0,0.5,1
    #[arg(long, default_value = "-2..2/9", allow_hyphen_values = true, value_name = "DOSES")]
    doses: String,
    #[command(flatten)]
    edits: Edits,
    #[command(flatten)]
    watching: Watching,
    /// A text over which what is dosed is looked at by itself, for the marks on the doses (default: the prompts)
    #[arg(long, value_name = "FILE")]
    natural: Option<PathBuf>,
    /// A text whose cross-entropy under the edit, made at every position, is a price too
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Colours: paper, dark, colour-blind-safe, greyscale
    #[arg(long, default_value = "paper", value_name = "NAME")]
    theme: String,
    /// Folder for sweep.json and sweep.svg
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// At most so many runs of a prompt.
const MOST_DOSES: usize = 1000;

impl Sweep {
    fn amounts(&self) -> anyhow::Result<Vec<f64>> {
        let wrong = || -> anyhow::Error {
            let message = format!("`{}` are no doses", self.doses);
            Usage { message, hint: "write --doses -2..2/9 (nine from -2 to 2), or --doses 0,0.5,1".into() }.into()
        };
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite()).ok_or_else(wrong);
        let mut doses = match self.doses.split_once("..") {
            Some((low, rest)) => {
                let (high, count) = rest.split_once('/').unwrap_or((rest, "9"));
                let (low, high) = (number(low)?, number(high)?);
                let count: usize = count.trim().parse().map_err(|_| wrong())?;
                if !(2..=MOST_DOSES).contains(&count) {
                    return Err(wrong());
                }
                (0..count).map(|step| low + (high - low) * step as f64 / (count - 1) as f64).collect()
            }
            None => self.doses.split(',').map(number).collect::<anyhow::Result<Vec<f64>>>()?,
        };
        doses.sort_by(f64::total_cmp);
        doses.dedup();
        if (2..=MOST_DOSES).contains(&doses.len()) { Ok(doses) } else { Err(wrong()) }
    }

    /// The plan of every dose: the fixed edits, then the one with the amount.
    fn plans(&self, fixed: &Plan, doses: &[f64]) -> anyhow::Result<Vec<Plan>> {
        let plan = |&a: &f64| -> anyhow::Result<Plan> {
            let edit = doses::with_amount(&self.dose, a).ok_or_else(|| Usage {
                message: format!("`{}` has no amount `a`", self.dose),
                hint: "write `SITE = scale a`, `set a`, `add a*v` or `project a*v`".into(),
            })?;
            let mut plan = fixed.clone();
            plan.edits.push(parse::edit(&edit).map_err(penjing::Error::from)?);
            Ok(plan)
        };
        doses.iter().map(plan).collect()
    }
}

/// Tokens of a window of a text, at most.
const WINDOW: usize = 128;

impl Sweep {
    /// What the dosed number is by itself.
    fn natural(
        &self,
        ready: &Ready,
        plan: &Plan,
        supplies: &Supplies,
        prompts: &[Encoded],
    ) -> anyhow::Result<Option<Natural>> {
        let Some(edit) = plan.edits.last() else { return Ok(None) };
        let windows: Option<Vec<Encoded>> = match &self.natural {
            None => None,
            Some(path) => {
                let corpus = self.corpus(path, ready)?;
                let text = |window: &std::ops::Range<usize>| {
                    (corpus.tokens[window.clone()].to_vec(), Prompt::of_length(window.len()))
                };
                Some(corpus.windows.iter().map(text).collect())
            }
        };
        let texts = windows.as_deref().unwrap_or(prompts);
        let found = natural::natural(&ready.loaded.model, edit, supplies, [prompts, texts]);
        let found = found.map_err(penjing::Error::from)?;
        if found.is_none() && self.natural.is_some() {
            let message = format!("`{}` does not dose one number, which a text could show", self.dose);
            let hint =
                "dose one neuron or feature, or along a vector at one layer or head; or leave --natural out".into();
            return Err(Usage { message, hint }.into());
        }
        Ok(found)
    }

    /// What every dose costs in text.
    fn price(&self, ready: &Ready, plans: &[Plan], supplies: &Supplies) -> anyhow::Result<Option<Vec<Mean>>> {
        let Some(path) = &self.text else { return Ok(None) };
        let corpus = self.corpus(path, ready)?;
        if corpus.windows.iter().all(|window| window.len() < corpus.lead + 2) {
            let message = format!("{} has no token that follows another", path.display());
            return Err(Usage { message, hint: "give a longer text".into() }.into());
        }
        let progress = Progress::bar("reading the text");
        let mut follow = |share| progress.set(share);
        let found = doses::cross_entropy(&ready.loaded.model, &corpus, plans, supplies, (self.seed, &mut follow));
        Ok(Some(found.map_err(penjing::Error::from)?))
    }

    fn corpus(&self, path: &Path, ready: &Ready) -> anyhow::Result<Corpus> {
        let window = WINDOW.min(ready.loaded.model.spec.context);
        texts::corpus(&texts::texts(path, false)?, &ready.loaded, window, self.on.bos)
    }
}

pub fn run(command: &Sweep, as_json: bool) -> anyhow::Result<Ended> {
    let theme = Theme::named(&command.theme).ok_or_else(|| StyleError::Theme { name: command.theme.clone() });
    let style = Style { theme: theme.map_err(penjing::Error::from)?, ..Style::default() };
    let doses = command.amounts()?;
    let plans = command.plans(&command.edits.plan()?, &doses)?;
    let ready = command.on.ready(0)?;
    let (model, tokenizer) = (&ready.loaded.model, &ready.loaded.tokenizer);
    let supplies = command.edits.supplies(&command.on, &ready, &plans[0])?;
    let watched = command.watching.tokens(tokenizer, model.spec.vocab_out)?;
    let mut prompts: Vec<Encoded> = vec![(ready.tokens.clone(), ready.prompt.clone())];
    if let Some(path) = &command.prompts {
        for prompt in texts::prompts(path)? {
            prompts.push(command.on.encode(&prompt, &ready.loaded, 0)?);
        }
    }
    if let Some(out) = &command.out {
        make_folder(out)?;
    }
    let progress = Progress::bar("running doses");
    let found = doses::responses(model, &prompts, &plans, &supplies, &watched, &mut |share| progress.set(share));
    drop(progress);
    let (responses, unedited) = found.map_err(penjing::Error::from)?;
    let curve = doses::curve(&doses, &responses, &unedited, command.seed);
    let natural = command.natural(&ready, &plans[0], &supplies, &prompts)?;
    let text = command.price(&ready, &plans, &supplies)?;
    let seen = Seen { curve: &curve, natural: natural.as_ref(), text: text.as_deref(), prompts: prompts.len() };
    let document = document((&command.dose, &command.watching.names()), &seen, &ready.loaded.id);
    if let Some(out) = &command.out {
        let mut results = Results::new(out, "sweep", &document)?;
        let points = |of: fn(&Dose) -> Mean| -> Vec<(f64, f64, [f64; 2])> {
            curve.doses.iter().map(|dose| (dose.a, of(dose).0, of(dose).1)).collect()
        };
        let marks = seen.marks();
        let draw =
            |points: &[(f64, f64, [f64; 2])], without, name: &str| response(points, without, &marks, name, &style);
        let effect = draw(&points(|dose| dose.probability), Some(curve.unedited), "probability");
        let price = draw(&points(|dose| dose.divergence), None, "KL of the next token, nats");
        let mut scene = effect.beside(price, 12.0);
        if let Some([of_doses @ .., (unedited, _)]) = text.as_deref() {
            let points: Vec<_> = doses.iter().zip(of_doses).map(|(&a, &(mean, ends))| (a, mean, ends)).collect();
            scene = scene.beside(draw(&points, Some(*unedited), "cross-entropy of the text, nats"), 12.0);
        }
        results.picture("sweep.svg", &scene)?;
        results.page(&format!("{} in {}", command.dose, ready.loaded.id), &seen.text())?;
    }
    if as_json {
        print_json(&document)?;
        return Ok(Ended::Done);
    }
    print(&seen.text())?;
    if let Some(out) = &command.out {
        print(&format!("\nthe page is {}", out.join("sweep.html").display()))?;
    }
    Ok(Ended::Done)
}
