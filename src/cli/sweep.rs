//! `penjing sweep`: an edit with a free amount, what it does and what it costs.

use super::Ended;
use super::inside::{Edits, OnPrompt};
use super::progress::Progress;
use super::term::{Usage, make_folder, print, print_json, write};
use super::texts;
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use penjing::inside::doses::{self, Curve, Dose};
use penjing::inside::vectors::Encoded;
use penjing::inside::words;
use penjing::intervene::parse;
use penjing::intervene::plan::Plan;
use penjing::render::chart;
use penjing::render::style::{Style, StyleError};
use penjing::render::svg;
use penjing::render::theme::Theme;
use serde_json::{Value, json};
use std::path::PathBuf;

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
    /// The token whose probability is the response, such as " Sorry"; several count together
    #[arg(long, required_unless_present = "set", value_name = "TOKEN")]
    watch: Vec<String>,
    /// Words whose tokens count too: all that begin one of them
    #[arg(long, value_name = "WORD,WORD", value_delimiter = ',')]
    set: Vec<String>,
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

pub fn run(command: &Sweep, as_json: bool) -> anyhow::Result<Ended> {
    let theme = Theme::named(&command.theme).ok_or_else(|| StyleError::Theme { name: command.theme.clone() });
    let style = Style { theme: theme.map_err(penjing::Error::from)?, ..Style::default() };
    let doses = command.amounts()?;
    let plans = command.plans(&command.edits.plan()?, &doses)?;
    let ready = command.on.ready(0)?;
    let (model, tokenizer) = (&ready.loaded.model, &ready.loaded.tokenizer);
    let supplies = command.edits.supplies(&command.on, &ready, &plans[0])?;
    let mut watched = Vec::new();
    for token in &command.watch {
        watched.push(tokenizer.single(token).map_err(penjing::Error::from)?);
    }
    let set: Vec<&str> = command.set.iter().map(|word| word.trim()).collect();
    watched.extend(words::beginning(tokenizer, model.spec.vocab_out, &set));
    watched.sort_unstable();
    watched.dedup();
    if watched.is_empty() || watched.iter().any(|&id| id as usize >= model.spec.vocab_out) {
        let message = "no token of the model's output is watched".to_owned();
        return Err(Usage { message, hint: "name one with --watch, with its leading space".into() }.into());
    }
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
    let document = document(command, &curve, prompts.len(), &ready.loaded.id);
    if let Some(out) = &command.out {
        write(out, "sweep.json", (serde_json::to_string_pretty(&document)? + "\n").as_bytes())?;
        let points = |of: fn(&Dose) -> (f64, [f64; 2])| -> Vec<(f64, f64, [f64; 2])> {
            curve.doses.iter().map(|dose| (dose.a, of(dose).0, of(dose).1)).collect()
        };
        let effect = chart::response(&points(|dose| dose.probability), Some(curve.unedited), "probability", &style);
        let price = chart::response(&points(|dose| dose.divergence), None, "KL of the next token, nats", &style);
        write(out, "sweep.svg", svg::draw(&effect.beside(price, 12.0)).as_bytes())?;
    }
    if as_json {
        print_json(&document)?;
        return Ok(Ended::Done);
    }
    print(&text(&curve, prompts.len()))?;
    if let Some(out) = &command.out {
        print(&format!("\nthe picture is {}", out.join("sweep.svg").display()))?;
    }
    Ok(Ended::Done)
}

fn text(curve: &Curve, prompts: usize) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["a", "probability", "KL"]);
    for dose in &curve.doses {
        // One prompt says nothing of others.
        let number = |(mean, [low, high]): (f64, [f64; 2])| match prompts {
            1 => format!("{mean:.4}"),
            _ => format!("{mean:.4} [{low:.4}, {high:.4}]"),
        };
        table.add_row([format!("{:.3}", dose.a), number(dose.probability), number(dose.divergence)]);
    }
    for column in 0..3 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let half = curve.half_effect.map_or("none".to_owned(), |a| format!("{a:.3}"));
    let order = curve.monotonicity.map_or("none".to_owned(), |order| format!("{order:+.3}"));
    format!(
        "{table}\n\n{prompts} prompts; unedited probability {:.4}\nslope {:+.4} a unit of a, rank correlation {order}, half of the effect at a = {half}",
        curve.unedited, curve.slope
    )
}

/// `sweep.json`, `penjing.sweep/1`.
fn document(command: &Sweep, curve: &Curve, prompts: usize, model: &str) -> Value {
    let number =
        |(mean, interval): (f64, [f64; 2])| json!({ "mean": mean, "interval": (prompts > 1).then_some(interval) });
    let doses = curve
        .doses
        .iter()
        .map(|dose| json!({ "a": dose.a, "probability": number(dose.probability), "kl": number(dose.divergence) }));
    json!({
        "schema": "penjing.sweep/1",
        "model": model,
        "edit": command.dose,
        "watched": command.watch.iter().chain(&command.set).collect::<Vec<_>>(),
        "prompts": prompts,
        "unedited": curve.unedited,
        "doses": doses.collect::<Vec<_>>(),
        "slope": curve.slope,
        "monotonicity": curve.monotonicity,
        "half_effect": curve.half_effect,
    })
}
