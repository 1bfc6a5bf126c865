//! `penjing bench tests`: how often the tests of `evaluate` are right on compiled models, whose circuits are known.

use super::super::Ended;
use super::super::progress::Progress;
use super::super::table::table;
use super::super::term::{Usage, print, print_json};
use super::truth::Norm;
use clap::Args;
use penjing::circuit::evidence::Hypothesis;
use penjing::error::Error;
use penjing::truth::rates::{Rates, Repetitions, rates};
use penjing::truth::{Choice, NAMES, known};
use serde_json::{Value, json};

#[derive(Args)]
pub struct Tests {
    /// Compiled models: induction, ioi, greater-than, reverse, proportion (default: all)
    #[arg(long, short, value_name = "NAME")]
    model: Vec<String>,
    /// Models without norms, with LayerNorms, or both
    #[arg(long, value_enum, default_value = "without")]
    norm: Norm,
    /// How much the logits see of the distractors: about the standard deviation of what they add to a logit
    #[arg(long, default_value_t = 0.0, value_name = "SIZE")]
    noise: f64,
    /// How often, with other pairs and another edge each time
    #[arg(long, default_value_t = 20, value_name = "N")]
    repetitions: usize,
    /// Fresh pairs each time
    #[arg(long, default_value_t = 50, value_name = "N")]
    pairs: usize,
    /// Random circuits, and circuits with a part more, each time
    #[arg(long, default_value_t = 100, value_name = "N")]
    random_circuits: usize,
    /// Seed of the pairs, of the circuits, and of the distractors' weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub fn run(command: &Tests, as_json: bool) -> anyhow::Result<Ended> {
    let &Tests { repetitions, pairs, random_circuits, seed, noise, .. } = command;
    if repetitions == 0 || pairs < 2 {
        let message = format!("{repetitions} repetitions with {pairs} pairs measure nothing");
        return Err(Usage { message, hint: "take 20 and 50, or more".into() }.into());
    }
    if random_circuits == 0 {
        let message = "--random-circuits 0 leaves three of the tests nothing to compare with".to_owned();
        return Err(Usage { message, hint: "take 100, or 44 and more".into() }.into());
    }
    tch::set_num_threads(1);
    let asked: Vec<&str> = match command.model.is_empty() {
        true => NAMES.to_vec(),
        false => command.model.iter().map(String::as_str).collect(),
    };
    let choices: Vec<(&str, Choice)> = asked
        .iter()
        .flat_map(|&name| command.norm.choices().iter().map(move |&norm| (name, Choice { norm, noise, seed })))
        .collect();
    let models = choices.iter().map(|(name, choice)| known(name, choice)).collect::<Result<Vec<_>, _>>();
    let models = models.map_err(Error::from)?;
    let how = Repetitions { repetitions, pairs, random_circuits, seed };
    let progress = Progress::bar("testing");
    let mut found = Vec::new();
    for (index, (model, (_, choice))) in models.iter().zip(&choices).enumerate() {
        let share = |of_model: f64| (index as f64 + of_model) / models.len() as f64;
        let of_model = rates(model, &how, &mut |of_model| progress.set(share(of_model)));
        found.extend(of_model.map_err(Error::from)?.into_iter().map(|rates| (model.name, choice.norm, rates)));
    }
    drop(progress);
    if as_json {
        print_json(&document(command, &found))?;
    } else {
        print(&text(&found))?;
    }
    Ok(Ended::Done)
}

fn document(command: &Tests, found: &[(&str, bool, Rates)]) -> Value {
    let rows: Vec<Value> = found
        .iter()
        .map(|(model, norm, rates)| {
            let failed: serde_json::Map<String, Value> = Hypothesis::ALL
                .into_iter()
                .zip(rates.failed)
                .map(|(hypothesis, failed)| (hypothesis.name().to_owned(), json!(failed)))
                .collect();
            json!({
                "model": model,
                "norm": norm,
                "circuit": rates.variant.name(),
                "repetitions": rates.repetitions,
                "failed": failed,
                "failed_any": rates.failed_any,
            })
        })
        .collect();
    json!({
        "noise": command.noise,
        "pairs": command.pairs,
        "random_circuits": command.random_circuits,
        "seed": command.seed,
        "rows": rows,
    })
}

/// Shares of repetitions in which each test was failed.
fn text(found: &[(&str, bool, Rates)]) -> String {
    let names = Hypothesis::ALL.map(Hypothesis::name);
    let header: Vec<&str> = ["model", "norm", "circuit"].into_iter().chain(names).chain(["any"]).collect();
    let rows = found.iter().map(|(model, norm, rates)| {
        let share = |failed: usize| format!("{:.0} %", 100.0 * failed as f64 / rates.repetitions as f64);
        let names = [*model, if *norm { "with" } else { "without" }, rates.variant.name()].map(str::to_owned);
        names.into_iter().chain(rates.failed.map(share)).chain([share(rates.failed_any)]).collect()
    });
    format!("How often each circuit fails each test\n\n{}", table(&header, 3, rows))
}
