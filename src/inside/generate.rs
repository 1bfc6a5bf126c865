//! A prompt run with edits, and what follows it: greedy or sampled, with keys and values kept from step to step.
//!
//! An edit says itself where it holds (`:prompt`, `:gen`, `:all`, or places of the prompt); keys and values are kept as the
//! edits left them, so that a run with them is one without them, only faster.

use super::row;
use super::vectors::Encoded;
use crate::intervene::failure::RunError;
use crate::intervene::plan::Plan;
use crate::intervene::position::Prompt;
use crate::intervene::receipt::Receipt;
use crate::intervene::record::{Keep, Record};
use crate::intervene::run::{PlanTap, Supplies};
use crate::model::{KeepPast, Model, Pass, Past, Start};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

/// How the next token is chosen.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sampling {
    /// 0: the likeliest token.
    pub temperature: f64,
    /// Of the likeliest tokens those that have this probability together, at least one.
    pub top_p: f64,
    pub seed: u64,
}

/// What is to follow the prompt.
#[derive(Clone, PartialEq, Debug)]
pub struct Continuation {
    /// At most so many tokens.
    pub count: usize,
    pub sampling: Sampling,
    /// Tokens that end it; they are not part of it.
    pub stop: Vec<u32>,
}

/// What a run gave.
pub struct Run {
    /// Log-probabilities after the prompt: `[vocab]`.
    pub next: Tensor,
    pub tokens: Vec<u32>,
    pub receipt: Receipt,
}

/// Runs a prompt with a plan. The caller keeps the prompt with what follows it within the model's context.
///
/// # Errors
/// [`RunError`]: a plan that the model or the prompt does not have places for, and edits that touched nothing.
pub fn run(
    model: &Model,
    tokens: &[u32],
    (plan, prompt, supplies): (&Plan, &Prompt, &Supplies),
    continuation: &Continuation,
) -> Result<Run, RunError> {
    let _no_grad = tch::no_grad_guard();
    let prompts = std::slice::from_ref(prompt);
    let unedited = match plan.sources(&model.spec)?.swap_remove(&None) {
        None => None,
        Some(sites) => {
            let mut record = Record::new(sites).keeping(Keep::Values);
            let _ = model.forward(Start::Tokens(&row(model, tokens)), &Pass::LAST, &mut record);
            Some(record.finish()?)
        }
    };
    let mut tap = PlanTap::new(plan, &model.spec, prompts, supplies, unedited.as_ref())?;
    let mut past: Option<Past> = None;
    let mut step = |new: &[u32], end: usize, tap: &mut PlanTap| {
        tap.end = end;
        let mut kept = KeepPast::default();
        let logits = model.forward(Start::Tokens(&row(model, new)), &Pass::after(past.as_ref()), &mut (tap, &mut kept));
        past = Some(match past.take() {
            None => kept.finish(),
            Some(before) => before.followed_by(&kept.finish()),
        });
        logits.view([-1]).log_softmax(-1, Kind::Float) // [vocab]
    };
    let next = step(tokens, tokens.len(), &mut tap);
    let found = follow(&next, continuation, |token, count| step(&[token], tokens.len() + count, &mut tap));
    Ok(Run { next, tokens: found, receipt: tap.finish()? })
}

/// What comes after a prompt that is run with a plan: log-probabilities `[vocab]`.
///
/// # Errors
/// [`RunError`] as [`run`].
pub fn next(model: &Model, (tokens, prompt): &Encoded, plan: &Plan, supplies: &Supplies) -> Result<Tensor, RunError> {
    let sampling = Sampling { temperature: 0.0, top_p: 1.0, seed: 0 };
    let nothing_more = Continuation { count: 0, sampling, stop: Vec::new() };
    Ok(run(model, tokens, (plan, prompt, supplies), &nothing_more)?.next)
}

/// Chooses token after token, the first by `next`. `step` is given a token and how many there are with it, and says what comes
/// after, as log-probabilities `[vocab]`.
pub(super) fn follow(
    next: &Tensor,
    continuation: &Continuation,
    mut step: impl FnMut(u32, usize) -> Tensor,
) -> Vec<u32> {
    let mut random = ChaCha8Rng::seed_from_u64(continuation.sampling.seed);
    let (mut found, mut now) = (Vec::new(), next.shallow_clone());
    while found.len() < continuation.count {
        let token = choose(&now, continuation.sampling, &mut random);
        if continuation.stop.contains(&token) {
            break;
        }
        found.push(token);
        if found.len() < continuation.count {
            now = step(token, found.len());
        }
    }
    found
}

/// As [`follow`], for rows that go on side by side: `next` and what `step` says are `[row, vocab]`. Each row draws as it would
/// alone; those that have ended run on unread until all have.
pub(super) fn follow_each(
    next: &Tensor,
    continuation: &Continuation,
    mut step: impl FnMut(&[u32]) -> Tensor,
) -> Vec<Vec<u32>> {
    let rows = next.size()[0] as usize;
    let mut random = vec![ChaCha8Rng::seed_from_u64(continuation.sampling.seed); rows];
    let mut found: Vec<Vec<u32>> = vec![Vec::new(); rows];
    let (mut going, mut now) = (vec![true; rows], next.shallow_clone());
    for count in 1..=continuation.count {
        let mut tokens = Vec::with_capacity(rows);
        for row in 0..rows {
            let token = choose(&now.get(row as i64), continuation.sampling, &mut random[row]);
            going[row] &= !continuation.stop.contains(&token);
            if going[row] {
                found[row].push(token);
            }
            tokens.push(token);
        }
        if !going.contains(&true) {
            break;
        }
        if count < continuation.count {
            now = step(&tokens);
        }
    }
    found
}

/// A token by its log-probabilities `[vocab]`; of equal ones the first.
pub fn choose(log_probabilities: &Tensor, sampling: Sampling, random: &mut ChaCha8Rng) -> u32 {
    if sampling.temperature <= 0.0 {
        return u32::try_from(log_probabilities.argmax(-1, false).int64_value(&[])).unwrap_or(0);
    }
    let scaled = (log_probabilities.to_kind(Kind::Double) / sampling.temperature).softmax(-1, Kind::Double);
    let all = Vec::<f64>::try_from(scaled.to_device(Device::Cpu)).unwrap_or_default();
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by(|&a, &b| all[b].total_cmp(&all[a]).then(a.cmp(&b)));
    let (mut sum, mut kept) = (0.0, Vec::new());
    for index in order {
        if sum >= sampling.top_p && !kept.is_empty() {
            break;
        }
        sum += all[index];
        kept.push((index, sum));
    }
    let drawn = (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * sum;
    let found = kept.iter().find(|(_, below)| drawn < *below).or(kept.last());
    found.and_then(|(index, _)| u32::try_from(*index).ok()).unwrap_or(0)
}

/// KL(before ‖ after) in nats, of log-probabilities `[vocab]`.
pub fn divergence(before: &Tensor, after: &Tensor) -> f64 {
    let (before, after) = (before.to_kind(Kind::Double), after.to_kind(Kind::Double));
    (before.exp() * (&before - after)).sum(Kind::Double).double_value(&[])
}

/// The likeliest tokens, with their probabilities.
pub fn likeliest(log_probabilities: &Tensor, count: usize) -> Vec<(u32, f64)> {
    let count = (count as i64).min(log_probabilities.size()[0]);
    let (values, ids) = log_probabilities.topk(count, -1, true, true);
    let values = Vec::<f64>::try_from(values.exp().to_kind(Kind::Double).to_device(Device::Cpu)).unwrap_or_default();
    let ids = Vec::<i64>::try_from(ids.to_device(Device::Cpu)).unwrap_or_default();
    ids.into_iter().zip(values).map(|(id, value)| (u32::try_from(id).unwrap_or(0), value)).collect()
}
