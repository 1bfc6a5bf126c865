//! Dose and response: an edit with a free amount `a`, what it does to the likelihood of some tokens and what it costs.
//!
//! For every dose and prompt: the probability of the watched tokens together after the prompt, and KL(unedited ‖ edited) of the
//! next token in nats. Over prompts: means with 95 % bootstrap intervals (percentiles of 2,000 resamples of prompts).

use super::corpus::Corpus;
use super::generate::{divergence, next};
use super::resample::{Mean, interval, interval_of, mean};
use super::row;
use super::vectors::Encoded;
use crate::compare::overlap::spearman;
use crate::intervene::address::Position;
use crate::intervene::failure::RunError;
use crate::intervene::plan::Plan;
use crate::intervene::position::Prompt;
use crate::intervene::run::{Supplies, run_plan};
use crate::model::tap::Tap;
use crate::model::{Model, Pass, Start};
use tch::{Kind, Tensor};

/// What one dose does to one prompt.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Response {
    /// Of the watched tokens together.
    pub probability: f64,
    pub divergence: f64,
}

/// What a dose does over all prompts: means with their intervals.
#[derive(Clone, PartialEq, Debug)]
pub struct Dose {
    pub a: f64,
    pub probability: Mean,
    pub divergence: Mean,
}

/// A dose-response curve in numbers.
#[derive(Clone, PartialEq, Debug)]
pub struct Curve {
    pub doses: Vec<Dose>,
    /// The mean probability without the edit.
    pub unedited: f64,
    /// Of the mean probability against the dose: least squares, and Spearman's correlation.
    pub slope: f64,
    pub monotonicity: Option<f64>,
    /// The dose at which half of the effect of the strongest dose is reached, on the way there; nothing without an effect.
    pub half_effect: Option<f64>,
}

/// The edit's text with a number in the place of `a`, the amount of its verb; nothing where it has no such place.
pub fn with_amount(edit: &str, a: f64) -> Option<String> {
    let (target, verb) = edit.split_once('=')?;
    let words: Vec<&str> = verb.split_whitespace().collect();
    let ["scale" | "set" | "add" | "project", amount] = words[..] else { return None };
    match amount.split_once('*') {
        None if amount == "a" => Some(format!("{target}= {} {a}", words[0])),
        Some(("a", vector)) => Some(format!("{target}= {} {a}*{vector}", words[0])),
        _ => None,
    }
}

/// Runs every dose on every prompt; `plans`: one a dose. `progress` is told how much is done, from 0 to 1.
///
/// # Errors
/// [`RunError`] as a single run.
pub fn responses(
    model: &Model,
    prompts: &[Encoded],
    plans: &[Plan],
    supplies: &Supplies,
    watched: &[u32],
    progress: &mut dyn FnMut(f64),
) -> Result<(Vec<Vec<Response>>, Vec<f64>), RunError> {
    let ids = token_ids(model, watched);
    let mut all: Vec<Vec<Response>> = plans.iter().map(|_| Vec::new()).collect();
    let mut unedited = Vec::new();
    let runs = (prompts.len() * (plans.len() + 1)) as f64;
    for (index, prompt) in prompts.iter().enumerate() {
        let plain = next(model, prompt, &Plan::default(), supplies)?;
        unedited.push(share_of(&plain, &ids));
        for (dose, (plan, responses)) in plans.iter().zip(&mut all).enumerate() {
            progress((index * (plans.len() + 1) + dose) as f64 / runs);
            let edited = next(model, prompt, plan, supplies)?;
            let (probability, divergence) = (share_of(&edited, &ids), divergence(&plain, &edited));
            responses.push(Response { probability, divergence });
        }
    }
    Ok((all, unedited))
}

/// Tokens as indices on the model's device: `[token]`.
pub(super) fn token_ids(model: &Model, tokens: &[u32]) -> Tensor {
    let ids: Vec<i64> = tokens.iter().map(|&id| i64::from(id)).collect();
    Tensor::from_slice(&ids).to_device(model.device)
}

/// The probability of some tokens together, of log-probabilities `[vocab]`.
pub(super) fn share_of(next: &Tensor, ids: &Tensor) -> f64 {
    next.index_select(0, ids).to_kind(Kind::Double).exp().sum(Kind::Double).double_value(&[])
}

/// The price in text: for every dose the mean of -log p(next token) in nats over the windows of a corpus, with the plan's edits
/// at every position of it, whatever positions they name; the last number is without edits. Of each its interval over windows.
///
/// # Errors
/// [`RunError`] as a single run.
pub fn cross_entropy(
    model: &Model,
    corpus: &Corpus,
    plans: &[Plan],
    supplies: &Supplies,
    (seed, progress): (u64, &mut dyn FnMut(f64)),
) -> Result<Vec<Mean>, RunError> {
    let _no_grad = tch::no_grad_guard();
    let windows: Vec<_> = corpus.windows.iter().filter(|window| window.len() > corpus.lead + 1).collect();
    let everywhere = |plan: &Plan| {
        let mut plan = plan.clone();
        plan.edits.iter_mut().for_each(|edit| edit.target.position = Some(Position::All));
        plan
    };
    let plans: Vec<Plan> = plans.iter().map(everywhere).chain([Plan::default()]).collect();
    let mut found = Vec::new();
    for (dose, plan) in plans.iter().enumerate() {
        // By window: the sum, and how many tokens.
        let mut sums: Vec<(f64, f64)> = Vec::new();
        for (index, window) in windows.iter().enumerate() {
            progress((dose as f64 + index as f64 / windows.len() as f64) / plans.len() as f64);
            let tokens = &corpus.tokens[(*window).clone()];
            let ids = row(model, tokens); // [1, pos]
            let forward = |tap: &mut dyn Tap| model.forward(Start::Tokens(&ids), &Pass::ALL, &mut { tap });
            let prompts = [Prompt::of_length(tokens.len())];
            let (logits, _) = run_plan(plan, &model.spec, &prompts, supplies, forward)?;
            let said = logits.get(0).log_softmax(-1, Kind::Double); // [pos, vocab]
            let (first, count) = (corpus.lead as i64, (tokens.len() - corpus.lead - 1) as i64);
            let next = ids.get(0).narrow(0, first + 1, count).unsqueeze(1); // [count, 1]
            let of_next = said.narrow(0, first, count).gather(1, &next, false);
            sums.push((-of_next.sum(Kind::Double).double_value(&[]), count as f64));
        }
        let mean = |drawn: &[usize]| {
            let all = drawn.iter().map(|&index| sums[index]).fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
            all.0 / all.1
        };
        let every: Vec<usize> = (0..sums.len()).collect();
        found.push((mean(&every), interval_of(sums.len(), seed, mean)));
    }
    Ok(found)
}

/// The curve of responses, one list a dose, and of the unedited probabilities.
pub fn curve(doses: &[f64], responses: &[Vec<Response>], unedited: &[f64], seed: u64) -> Curve {
    let numbers = |of: fn(&Response) -> f64, list: &[Response]| {
        let values: Vec<f64> = list.iter().map(of).collect();
        (mean(&values), interval(&values, seed))
    };
    let all: Vec<Dose> = doses
        .iter()
        .zip(responses)
        .map(|(&a, list)| Dose {
            a,
            probability: numbers(|response| response.probability, list),
            divergence: numbers(|response| response.divergence, list),
        })
        .collect();
    let means: Vec<f64> = all.iter().map(|dose| dose.probability.0).collect();
    let unedited = mean(unedited);
    Curve {
        slope: slope(doses, &means),
        monotonicity: spearman(doses, &means),
        half_effect: half_effect(doses, &means, unedited),
        doses: all,
        unedited,
    }
}

fn slope(x: &[f64], y: &[f64]) -> f64 {
    let (mean_x, mean_y) = (mean(x), mean(y));
    let products: f64 = x.iter().zip(y).map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let squares: f64 = x.iter().map(|x| (x - mean_x).powi(2)).sum();
    if squares > 0.0 { products / squares } else { 0.0 }
}

/// On the side of the dose with the largest effect, going out from the dose that is nearest to no effect, where the line
/// between two doses meets half of that effect.
fn half_effect(doses: &[f64], means: &[f64], unedited: f64) -> Option<f64> {
    let effects: Vec<f64> = means.iter().map(|mean| mean - unedited).collect();
    let far = (0..effects.len()).max_by(|&a, &b| effects[a].abs().total_cmp(&effects[b].abs()))?;
    let near = (0..effects.len()).min_by(|&a, &b| effects[a].abs().total_cmp(&effects[b].abs()))?;
    let half = effects[far] / 2.0;
    if half.abs() < 1e-6 {
        return None;
    }
    let way: Vec<usize> = if near <= far { (near..=far).collect() } else { (far..=near).rev().collect() };
    way.windows(2).find_map(|pair| {
        let [from, to] = [effects[pair[0]] / half, effects[pair[1]] / half];
        let crosses = from < 1.0 && to >= 1.0;
        crosses.then(|| doses[pair[0]] + (doses[pair[1]] - doses[pair[0]]) * (1.0 - from) / (to - from))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_stand_where_a_verb_has_them() {
        let check = |edit: &str, expected: Option<&str>| {
            assert_eq!(with_amount(edit, -1.5).as_deref(), expected, "{edit}");
        };
        check("L1 = add a*r", Some("L1 = add -1.5*r"));
        check("L4.N17:gen = scale a", Some("L4.N17:gen = scale -1.5"));
        check("L2:\"a\" = project a*\"a b\"", None);
        check("L2:\"a\" = project a*v", Some("L2:\"a\" = project -1.5*v"));
        check("L1 = set a", Some("L1 = set -1.5"));
        for edit in ["L1 = zero", "L1 = add 2*a", "L1 = scale 2", "L1", "L1 = from L2"] {
            check(edit, None);
        }
    }

    #[test]
    fn a_curve_in_numbers_by_hand() {
        let list = |probability: f64| vec![Response { probability, divergence: 0.0 }; 3];
        let found = curve(&[0.0, 1.0, 2.0, 3.0], &[list(0.1), list(0.1), list(0.3), list(0.9)], &[0.1; 3], 1);
        assert!((found.slope - 0.26).abs() < 1e-12, "{found:?}");
        // Half of 0.8 above 0.1 is 0.5, a third of the way from 0.3 to 0.9.
        assert!((found.half_effect.unwrap() - (2.0 + 1.0 / 3.0)).abs() < 1e-9, "{found:?}");
        let [low, high] = found.doses[3].probability.1;
        assert!((low - 0.9).abs() < 1e-12 && (high - 0.9).abs() < 1e-12);
        let flat = curve(&[0.0, 1.0], &[list(0.4), list(0.4)], &[0.4; 3], 1);
        assert_eq!((flat.slope, flat.half_effect, flat.monotonicity), (0.0, None, None));
        let down = curve(&[-2.0, -1.0, 0.0], &[list(0.0), list(0.6), list(0.8)], &[0.8; 3], 1);
        assert!((down.half_effect.unwrap() + 1.0 + 1.0 / 3.0).abs() < 1e-9, "{down:?}");
    }
}
