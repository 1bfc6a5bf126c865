//! `penjing repair`: what ablating a component costs directly and in all, and which later components make up for it.

use super::Ended;
use super::inside::{OnPrompt, Ready};
use super::progress::Progress;
use super::repaired::{Summary, named, number, table, value};
use super::results::Results;
use super::term::{Usage, make_folder, print, print_json};
use super::texts;
use clap::{Args, ValueEnum};
use penjing::dataset;
use penjing::inside::means;
use penjing::inside::prompt;
use penjing::inside::repair::{self, Answers, Direct};
use penjing::inside::resample::{Mean, interval, mean};
use penjing::inside::vectors::Encoded;
use penjing::intervene::address::Position;
use penjing::intervene::check::PlanError;
use penjing::intervene::parse;
use penjing::intervene::plan::{Edit, Plan, Verb};
use penjing::intervene::run::Supplies;
use penjing::intervene::slice::SiteSlice;
use penjing::model::{Loaded, load_with};
use penjing::render::bars::bars;
use penjing::render::style::{Style, StyleError};
use penjing::render::theme::Theme;
use penjing::task::{self, Expansion, Split};
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Args)]
pub struct RepairCommand {
    // Its prompt is the name of a task where there is no answer.
    #[command(flatten)]
    on: OnPrompt,
    /// What is ablated, one component: L5.H3, L4.N17, L5.mlp, L5.attn; at the last position, or where it says (L5.H3:all).
    /// Without it, the components with the largest direct effects are listed
    #[arg(long, value_name = "SITE[:POS]")]
    site: Option<String>,
    /// What it is replaced by: nothing, or its mean over the prompts
    #[arg(long, value_enum, default_value = "zero")]
    ablation: AblationArgument,
    /// Of a prompt: the token whose logit counts, such as " is"; of several the mean
    #[arg(long, value_name = "TOKEN")]
    answer: Vec<String>,
    /// Of a prompt: the token whose logit is subtracted
    #[arg(long, value_name = "TOKEN", requires = "answer")]
    wrong: Vec<String>,
    /// Of a prompt: the prompts that a mean is over, one a line
    #[arg(long, value_name = "FILE", requires = "answer")]
    means: Option<PathBuf>,
    /// How many prompts of a task
    #[arg(long, default_value_t = 64, value_name = "N")]
    pairs: usize,
    /// Seed of the prompts and of the bootstrap
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many compensators are shown
    #[arg(long, default_value_t = 12, value_name = "N")]
    top: usize,
    /// Colours: paper, dark, colour-blind-safe, greyscale
    #[arg(long, default_value = "paper", value_name = "NAME")]
    theme: String,
    /// Folder for repair.json and repair.svg
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
enum AblationArgument {
    Zero,
    Mean,
}

impl AblationArgument {
    fn verb(self) -> Verb {
        if self == AblationArgument::Zero { Verb::Zero } else { Verb::Mean }
    }
}

/// Prompts with what is right and wrong after them.
type Prompts = Vec<(Encoded, Answers)>;

pub fn run(command: &RepairCommand, as_json: bool) -> anyhow::Result<Ended> {
    let theme = Theme::named(&command.theme).ok_or_else(|| StyleError::Theme { name: command.theme.clone() });
    let style = Style { theme: theme.map_err(penjing::Error::from)?, ..Style::default() };
    if command.pairs == 0 || command.top == 0 {
        let message = "no prompts, or no compensators, show nothing".to_owned();
        return Err(Usage { message, hint: "leave --pairs and --top out, or raise them".into() }.into());
    }
    let (loaded, prompts) = command.prompts()?;
    let Some(site) = &command.site else { return command.list(&loaded, &prompts, as_json) };
    let (plan, slice) = command.plan(site, &loaded)?;
    let supplies = command.supplies(&plan, &loaded, &prompts)?;
    if let Some(out) = &command.out {
        make_folder(out)?;
    }
    let progress = Progress::bar("ablating");
    let mut found = Vec::new();
    for (index, (prompt, answers)) in prompts.iter().enumerate() {
        progress.set(index as f64 / prompts.len() as f64);
        let of = (&plan, slice.site, &supplies);
        found.push(repair::repair(&loaded.model, prompt, of, answers).map_err(penjing::Error::from)?);
    }
    drop(progress);
    let summary = Summary::of(&found, &repair::later(&loaded.model.spec, slice.site), command.seed);
    let document = document(command, &plan.edits[0].to_string(), &summary, &loaded.id);
    let ablated = &plan.edits[0];
    let text = format!("{ablated} in {} prompts, {}\n\n{}", found.len(), loaded.id, summary.text(command.top));
    if let Some(out) = &command.out {
        let mut results = Results::new(out, "repair", &document)?;
        let picture = bars(&summary.bars(command.top), "Self-repair", "logits made up for by", &style);
        results.picture("repair.svg", &picture)?;
        results.page("Self-repair", &text)?;
    }
    if as_json {
        print_json(&document)?;
        return Ok(Ended::Done);
    }
    print(&text)?;
    if let Some(out) = &command.out {
        print(&format!("\nthe page is {}", out.join("repair.html").display()))?;
    }
    Ok(Ended::Done)
}

impl RepairCommand {
    fn prompts(&self) -> anyhow::Result<(Loaded, Prompts)> {
        if !self.answer.is_empty() {
            let Ready { loaded, tokens, prompt } = self.on.ready(0)?;
            let ids = |texts: &[String]| -> anyhow::Result<Vec<u32>> {
                let ids = texts.iter().map(|text| loaded.tokenizer.single(text));
                let ids: Vec<u32> = ids.collect::<Result<_, _>>().map_err(penjing::Error::from)?;
                match ids.iter().find(|id| **id as usize >= loaded.model.spec.vocab_out) {
                    None => Ok(ids),
                    Some(id) => {
                        let message = format!("the model has no logit for token {id}");
                        Err(Usage { message, hint: "take an answer of its output".into() }.into())
                    }
                }
            };
            let answers = Answers { right: ids(&self.answer)?, wrong: ids(&self.wrong)? };
            return Ok((loaded, vec![((tokens, prompt), answers)]));
        }
        let task = task::resolve(&self.on.prompt).map_err(penjing::Error::from)?;
        let loaded = load_with(&self.on.model, &self.on.resources.load_options()?).map_err(penjing::Error::from)?;
        let expansion = Expansion { split: Split::Test, pairs: self.pairs, seed: self.seed, corruption: None };
        let pairs = task::expand(&task, &expansion).map_err(penjing::Error::from)?;
        let dataset = dataset::tokenize(&pairs, &loaded.tokenizer, self.on.bos.or(task.bos));
        let dataset = dataset.map_err(penjing::Error::from)?;
        dataset.check_fits(&loaded.model.spec, &loaded.tokenizer).map_err(penjing::Error::from)?;
        let prompts = dataset.pairs.into_iter().map(|pair| {
            let encoded = prompt::of_pair(&pair);
            (encoded, Answers { right: pair.right, wrong: pair.wrong })
        });
        Ok((loaded, prompts.collect()))
    }

    /// The edit that ablates, at the last position unless the site says otherwise.
    fn plan(&self, site: &str, loaded: &Loaded) -> anyhow::Result<(Plan, SiteSlice)> {
        let mut address = parse::address(site).map_err(penjing::Error::from)?;
        let missing = |missing| penjing::Error::from(PlanError::Missing { edit: site.to_owned(), missing });
        let slices = address.place.slices(&loaded.model.spec).map_err(missing)?;
        let [slice] = &slices[..] else {
            let message = format!("`{site}` is {} layers, and one is ablated", slices.len());
            return Err(Usage { message, hint: "name one layer, such as L5.H3".into() }.into());
        };
        if !repair::is_component(slice) {
            let message = format!("`{site}` adds nothing to the residual stream by itself");
            let hint = "components are heads L5.H3, neurons L4.N17, L5.mlp and L5.attn".into();
            return Err(Usage { message, hint }.into());
        }
        address.position.get_or_insert(Position::last());
        let edits = vec![Edit { target: address, verb: self.ablation.verb() }];
        Ok((Plan { edits }, slice.clone()))
    }

    fn supplies(&self, plan: &Plan, loaded: &Loaded, prompts: &Prompts) -> anyhow::Result<Supplies> {
        let sites = means::wanted(plan, &loaded.model).map_err(penjing::Error::from)?;
        if sites.is_empty() {
            return Ok(Supplies::default());
        }
        let over: Vec<Encoded> = match &self.means {
            Some(path) => {
                let encode = |text: &String| self.on.encode(text, loaded, 0);
                texts::prompts(path)?.iter().map(encode).collect::<Result<_, _>>()?
            }
            None => prompts.iter().map(|(prompt, _)| prompt.clone()).collect(),
        };
        if over.len() < 2 {
            let message = "the mean over one prompt is what the prompt has, so nothing would be ablated".to_owned();
            let hint = "give prompts with --means FILE, or take a task".into();
            return Err(Usage { message, hint }.into());
        }
        let position = plan.edits[0].target.position.clone().unwrap_or(Position::last());
        let progress = Progress::bar("means");
        let means = means::of(&loaded.model, &sites, &over, &position, &mut |share| progress.set(share));
        Ok(Supplies { means: means.map_err(penjing::Error::from)?, ..Supplies::default() })
    }

    /// The direct effects of all components, means over the prompts, the largest first.
    fn list(&self, loaded: &Loaded, prompts: &Prompts, as_json: bool) -> anyhow::Result<Ended> {
        let progress = Progress::bar("direct effects");
        let mut all: Vec<[Vec<Direct>; 2]> = Vec::new();
        for (index, (prompt, answers)) in prompts.iter().enumerate() {
            progress.set(index as f64 / prompts.len() as f64);
            all.push(repair::direct(&loaded.model, prompt, answers));
        }
        drop(progress);
        let listed = [0, 1].map(|kind| {
            let mut means: Vec<(String, f64, [f64; 2])> = Vec::new();
            for (index, Direct { name, .. }) in all.first().map_or(&[][..], |first| &first[kind]).iter().enumerate() {
                let effects: Vec<f64> = all.iter().map(|prompt| prompt[kind][index].effect).collect();
                means.push((name.clone(), mean(&effects), [f64::NAN; 2]));
            }
            means.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
            means.truncate(self.top);
            for (name, _, ends) in &mut means {
                let of = |prompt: &[Vec<Direct>; 2]| {
                    prompt[kind].iter().find(|one| one.name == *name).map_or(f64::NAN, |one| one.effect)
                };
                *ends = interval(&all.iter().map(of).collect::<Vec<f64>>(), self.seed);
            }
            means
        });
        if as_json {
            let list = |list: &[(String, f64, [f64; 2])]| -> Vec<Value> {
                list.iter().map(|(name, mean, ends)| named(name, (*mean, *ends), prompts.len())).collect()
            };
            print_json(&json!({
                "schema": "penjing.direct-effects/1",
                "model": loaded.id,
                "prompts": prompts.len(),
                "components": list(&listed[0]),
                "neurons": list(&listed[1]),
            }))?;
            return Ok(Ended::Done);
        }
        let mut table = table(["component", "direct effect", "neuron", "direct effect"]);
        for row in 0..listed.iter().map(Vec::len).max().unwrap_or(0) {
            table.add_row(listed.iter().flat_map(|list| match list.get(row) {
                Some((name, mean, ends)) => [name.clone(), number((*mean, *ends), prompts.len())],
                None => [String::new(), String::new()],
            }));
        }
        print(&format!("{} prompts, {}; ablate one with --site\n\n{table}", prompts.len(), loaded.id))?;
        Ok(Ended::Done)
    }
}

/// `repair.json`, `penjing.repair/1`.
fn document(command: &RepairCommand, edit: &str, summary: &Summary, model: &str) -> Value {
    let value = |mean: Mean| value(mean, summary.prompts);
    let components = summary.components.iter().map(|(name, mean)| named(name, *mean, summary.prompts));
    json!({
        "schema": "penjing.repair/1",
        "model": model,
        "of": command.on.prompt,
        "edit": edit,
        "prompts": summary.prompts,
        "seed": command.seed,
        "direct_effect": value(summary.direct),
        "total_effect": value(summary.total),
        "self_repair": value(summary.repaired),
        "share_repaired": value(summary.share),
        "norm": value(summary.norm),
        "later_components": value(summary.later),
        "rescaled": value(summary.rescaled),
        "compensators": components.collect::<Vec<_>>(),
        "residue": summary.residue,
    })
}
