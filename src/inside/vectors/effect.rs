//! What a vector does: added, subtracted and removed everywhere, on prompts of both kinds that did not make it, beside vectors
//! of its length that mean nothing.
//!
//! For each: the probability of the watched tokens after the prompt and how often one of them is the likeliest, KL(unedited ‖
//! edited) of the next token, and of a greedy continuation the share of tokens that occurred in it before, and its perplexity
//! under the unedited model, exp(mean −log p). The controls: random directions; differences of means of the same prompts with
//! the labels drawn anew; for what is added, the opposite sign. Intervals: Wilson's for shares, percentiles of a bootstrap over
//! runs for means, which takes the runs of one prompt with several controls for independent.
//!
//! A changed answer is itself unlikely to the unedited model: a high perplexity alone is no gibberish, repetition with it is.
//! Cost: (4 + 4 · controls) runs and continuations of each prompt, and two forwards beside each.

use super::bake::removed_everywhere;
use super::{Encoded, VectorError, random_like};
use crate::inside::backpatch::Share;
use crate::inside::doses::{share_of, token_ids};
use crate::inside::generate::{Continuation, Sampling, divergence, next, run};
use crate::inside::resample::{interval, mean};
use crate::inside::row;
use crate::intervene::address::Address;
use crate::intervene::plan::{Edit, Plan, Verb};
use crate::intervene::run::Supplies;
use crate::model::tap::NoTap;
use crate::model::{Model, Pass, Start};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

const NAME: &str = "v";

/// What is asked.
pub struct Question<'a> {
    /// Where the vector is added.
    pub site: &'a Address,
    pub vector: &'a Tensor, // [d_model]
    /// How often it is added.
    pub dose: f64,
    pub watched: &'a [u32],
    /// Positive and negative prompts, which so many tokens can follow.
    pub prompts: [&'a [Encoded]; 2],
    pub generate: usize,
    /// Tokens that end a continuation.
    pub stop: &'a [u32],
    /// How many random and how many shuffled controls.
    pub controls: usize,
    pub seed: u64,
    pub gate: Gate,
}

/// Above both a continuation counts as gibberish.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Gate {
    /// More of repeated tokens than unedited.
    pub repeats: f64,
    /// Times the perplexity of the unedited continuation.
    pub perplexity: f64,
}

/// One change with one kind of vector.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// `none`, `added`, `subtracted`, `removed`
    pub change: &'static str,
    /// `vector`, `random`, `shuffled`
    pub vector: &'static str,
    /// On positive and on negative prompts.
    pub sides: [Side; 2],
}

/// Over the runs of prompts of one kind: means with their intervals.
#[derive(Clone, PartialEq, Debug)]
pub struct Side {
    pub probability: (f64, [f64; 2]),
    pub said: Share,
    pub divergence: (f64, [f64; 2]),
    pub repeats: f64,
    pub perplexity: f64,
    pub gibberish: bool,
}

/// One run of one prompt.
struct Seen {
    probability: f64,
    said: bool,
    divergence: f64,
    repeats: f64,
    /// Mean −log p of the continuation under the unedited model.
    surprise: f64,
}

/// # Errors
/// [`VectorError`]: no prompts, a site that takes no such vector.
pub fn test(model: &Model, question: &Question, progress: &mut dyn FnMut(f64)) -> Result<Vec<Outcome>, VectorError> {
    for (which, prompts) in ["positive", "negative"].into_iter().zip(question.prompts) {
        if prompts.is_empty() {
            return Err(VectorError::NoPrompts { which });
        }
    }
    let seeds = || (0..question.controls as u64).map(|number| question.seed.wrapping_add(number));
    let random: Vec<Tensor> = seeds().map(|seed| random_like(question.vector, seed)).collect();
    let shuffled: Vec<Tensor> = seeds().map(|seed| shuffled(model, question, seed)).collect::<Result<_, _>>()?;
    let own = vec![question.vector.shallow_clone()];
    let add = |amount: f64| Plan {
        edits: vec![Edit { target: question.site.clone(), verb: Verb::Add(amount, NAME.into()) }],
    };
    let removed = removed_everywhere(&model.spec, NAME);
    let runs: [(&str, &str, Plan, &[Tensor]); 8] = [
        ("none", "vector", Plan::default(), &own),
        ("added", "vector", add(question.dose), &own),
        ("subtracted", "vector", add(-question.dose), &own),
        ("removed", "vector", removed.clone(), &own),
        ("added", "random", add(question.dose), &random),
        ("removed", "random", removed.clone(), &random),
        ("added", "shuffled", add(question.dose), &shuffled),
        ("removed", "shuffled", removed, &shuffled),
    ];
    let mut outcomes: Vec<Outcome> = Vec::new();
    for (index, (change, vector, plan, vectors)) in runs.iter().enumerate().filter(|(_, run)| !run.3.is_empty()) {
        progress(index as f64 / runs.len() as f64);
        let mut sides = Vec::new();
        for prompts in question.prompts {
            let mut seen = Vec::new();
            for vector in *vectors {
                let mut supplies = Supplies::default();
                supplies.vectors.insert(NAME.into(), vector.to_device(model.device));
                for prompt in prompts {
                    seen.push(see(model, question, prompt, plan, &supplies)?);
                }
            }
            let plain = outcomes.first().map(|plain| &plain.sides[sides.len()]);
            sides.push(side(&seen, plain, question));
        }
        if let Ok(sides) = <[Side; 2]>::try_from(sides) {
            outcomes.push(Outcome { change, vector, sides });
        }
    }
    Ok(outcomes)
}

/// The difference of means of the prompts at the site with the labels drawn anew, as long as the vector.
fn shuffled(model: &Model, question: &Question, seed: u64) -> Result<Tensor, VectorError> {
    // Away from the sequence that makes the random direction of the same seed.
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed);
    let all = question.prompts.concat();
    let mut rows: Vec<Tensor> = all
        .iter()
        .map(|prompt| {
            let last = Address { position: None, ..question.site.clone() };
            super::read(model, &last, prompt)
        })
        .collect::<Result<_, _>>()?;
    for index in (1..rows.len()).rev() {
        rows.swap(index, (random.next_u64() % (index as u64 + 1)) as usize);
    }
    let (first, second) = rows.split_at(question.prompts[0].len());
    let mean = |rows: &[Tensor]| Tensor::stack(rows, 0).mean_dim(0, false, Kind::Double); // [width]
    let difference = mean(first) - mean(second);
    let norm = difference.norm();
    if norm.double_value(&[]) == 0.0 {
        return Err(VectorError::Nothing);
    }
    let length = question.vector.to_kind(Kind::Double).to_device(Device::Cpu).norm();
    Ok(&difference * (length / norm))
}

fn see(
    model: &Model,
    question: &Question,
    prompt: &Encoded,
    plan: &Plan,
    supplies: &Supplies,
) -> Result<Seen, VectorError> {
    let sampling = Sampling { temperature: 0.0, top_p: 1.0, seed: 0 };
    let continuation = Continuation { count: question.generate, sampling, stop: question.stop.to_vec() };
    let edited = run(model, &prompt.0, (plan, &prompt.1, supplies), &continuation)?;
    let unedited = next(model, prompt, &Plan::default(), supplies)?;
    let text = [&prompt.0[..], &edited.tokens].concat();
    let logits = tch::no_grad(|| model.forward(Start::Tokens(&row(model, &text)), &Pass::ALL, &mut NoTap));
    let plain = logits.get(0).log_softmax(-1, Kind::Double); // [pos, vocab]
    let last = prompt.0.len() as i64 - 1;
    let surprises: Vec<f64> = edited
        .tokens
        .iter()
        .enumerate()
        .map(|(index, &token)| -plain.double_value(&[last + index as i64, i64::from(token)]))
        .collect();
    let mut distinct = edited.tokens.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let said = u32::try_from(edited.next.argmax(-1, false).int64_value(&[])).unwrap_or(u32::MAX);
    Ok(Seen {
        probability: share_of(&edited.next, &token_ids(model, question.watched)),
        said: question.watched.contains(&said),
        divergence: divergence(&unedited, &edited.next),
        repeats: (edited.tokens.len() - distinct.len()) as f64 / edited.tokens.len().max(1) as f64,
        surprise: mean(&surprises),
    })
}

fn side(seen: &[Seen], plain: Option<&Side>, question: &Question) -> Side {
    let values = |of: fn(&Seen) -> f64| seen.iter().map(of).collect::<Vec<f64>>();
    let with_interval = |of: fn(&Seen) -> f64| (mean(&values(of)), interval(&values(of), question.seed));
    let (repeats, perplexity) = (mean(&values(|seen| seen.repeats)), mean(&values(|seen| seen.surprise)).exp());
    let above = |plain: &Side| {
        repeats > plain.repeats + question.gate.repeats && perplexity > plain.perplexity * question.gate.perplexity
    };
    Side {
        probability: with_interval(|seen| seen.probability),
        said: Share::of(seen.iter().map(|seen| seen.said)),
        divergence: with_interval(|seen| seen.divergence),
        repeats,
        perplexity,
        gibberish: plain.is_some_and(above),
    }
}
