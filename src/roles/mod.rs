//! What the heads and MLPs of a circuit do, measured: [`crate::circuit::roles`] says what each role means.
//!
//! Cost: a forward of four random sequences and of each prompt, alone. Memory: the attention patterns of every prompt.

mod attention;
mod copying;
mod direct;
mod run;

use crate::circuit::report::Card;
use crate::circuit::roles::{Found, Role};
use crate::dataset::TokenPair;
use crate::graph::Node;
use crate::model::Model;
use crate::model::spec::{Branch, Head, Layer};
use crate::render::picture::Content;
use crate::tokenizer::Tokenizer;
use attention::{from_last, mean_to};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use run::Run;
use std::collections::BTreeMap;
use tch::Tensor;

/// Random tokens in each half of a sequence.
const HALF: usize = 24;

/// Random sequences.
const SEQUENCES: u64 = 4;

/// Of the answers, how many have to be among the tokens that a mover's values write most.
const COPIED: f64 = 0.5;

/// Of a head's effect in the circuit, how much has to go into queries for inhibition.
const INTO_QUERIES: f64 = 0.5;

/// Tokens of a card.
const SHOWN: usize = 5;

/// The clean prompts of some pairs, each run once.
pub struct Prompts<'a> {
    pairs: &'a [TokenPair],
    runs: Vec<Run>,
}

impl<'a> Prompts<'a> {
    /// Runs them. `progress` is told how much is done, from 0 to 1.
    pub fn run(model: &Model, pairs: &'a [TokenPair], progress: &mut dyn FnMut(f64)) -> Prompts<'a> {
        let _no_grad = tch::no_grad_guard();
        let run = |(index, pair): (usize, &TokenPair)| {
            progress(index as f64 / pairs.len() as f64);
            Run::new(model, &pair.clean, places(pair, &pair.right).first().copied())
        };
        Prompts { pairs, runs: pairs.iter().enumerate().map(run).collect() }
    }
}

/// Where some tokens stand in the clean prompt.
fn places(pair: &TokenPair, ids: &[u32]) -> Vec<usize> {
    (0..pair.clean.len()).filter(|&place| ids.contains(&pair.clean[place])).collect()
}

/// What the heads and MLPs of a circuit do on prompts, the most telling role of a node first.
pub fn roles(model: &Model, content: &Content, prompts: &Prompts, seed: u64) -> Vec<Found> {
    let _no_grad = tch::no_grad_guard();
    let random = on_random_tokens(model, seed);
    let prompts = on_prompts(model, prompts);
    let mut found = Vec::new();
    for node in content.mask.nodes(content.graph) {
        match node {
            Node::Head(layer, head) => {
                let place = layer.0 * model.spec.heads + head.0;
                found.extend(of_head(content, node, place, &random, &prompts));
            }
            Node::Mlp(layer) => {
                let value = prompts.mlps.get(layer.0).copied().unwrap_or_default();
                let role = if value < 0.0 { Role::WritesAgainst } else { Role::Writes };
                found.push(Found { node, role, value: value.abs(), evidence: Vec::new() });
            }
            Node::Input | Node::Logits => {}
        }
    }
    found.retain(|found| found.value >= found.role.threshold());
    found
}

/// Numbers of every head, layer after layer.
struct OnRandomTokens {
    induction: Vec<f64>,
    duplicate: Vec<f64>,
    previous: Vec<f64>,
}

/// Means over the prompts.
#[derive(Default)]
struct OnPrompts {
    /// Of every head from the last position.
    to_right: Vec<f64>,
    to_wrong: Vec<f64>,
    to_places: BTreeMap<String, Vec<f64>>,
    /// How often the answer is among the tokens that the values at its place write most, and least; of prompts that
    /// hold an answer.
    most: Vec<f64>,
    least: Vec<f64>,
    /// Each MLP's part of the logit difference.
    mlps: Vec<f64>,
}

fn of_head(content: &Content, node: Node, head: usize, random: &OnRandomTokens, prompts: &OnPrompts) -> Vec<Found> {
    let number = |of: &Vec<f64>| of.get(head).copied().unwrap_or_default();
    let named = |name: &str, value: f64| (name.to_owned(), value);
    let (most, least, queries) = (number(&prompts.most), number(&prompts.least), into_queries(content, node));
    let mut roles = Vec::new();
    if most >= COPIED {
        roles.push((Role::Mover, number(&prompts.to_right), vec![named("copies", most)]));
    }
    if least >= COPIED {
        roles.push((Role::NegativeMover, number(&prompts.to_right), vec![named("copies with a minus", least)]));
    }
    if queries >= INTO_QUERIES {
        roles.push((Role::Inhibition, number(&prompts.to_wrong), vec![named("effect into queries", queries)]));
    }
    roles.push((Role::Induction, number(&random.induction), Vec::new()));
    roles.push((Role::DuplicateToken, number(&random.duplicate), Vec::new()));
    roles.push((Role::PreviousToken, number(&random.previous), Vec::new()));
    let mut places: Vec<(&String, f64)> = prompts.to_places.iter().map(|(name, of)| (name, number(of))).collect();
    places.sort_by(|a, b| b.1.total_cmp(&a.1));
    roles.extend(places.into_iter().map(|(name, value)| (Role::Attends(name.clone()), value, Vec::new())));
    roles.into_iter().map(|(role, value, evidence)| Found { node, role, value, evidence }).collect()
}

/// Of the |score| that leaves a node in the circuit, the part that enters queries.
fn into_queries(content: &Content, node: Node) -> f64 {
    let graph = content.graph;
    let (mut queries, mut all) = (0.0, 0.0);
    for edge in content.mask.edges(graph) {
        if graph.node(edge.source) == node {
            let size = f64::from(content.scores.get(edge).abs());
            all += size;
            if graph.slot(edge.destination).branch() == Some(Branch::Query) {
                queries += size;
            }
        }
    }
    if all > 0.0 { queries / all } else { 0.0 }
}

/// Adds `values`, weighted, to `sums`, which may be empty yet.
fn add(sums: &mut Vec<f64>, values: &[f64], weight: f64) {
    sums.resize(values.len(), 0.0);
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += weight * value;
    }
}

fn on_random_tokens(model: &Model, seed: u64) -> OnRandomTokens {
    let mut found = OnRandomTokens { induction: Vec::new(), duplicate: Vec::new(), previous: Vec::new() };
    let half = HALF.min(model.spec.context / 2).min(model.spec.vocab).max(1);
    for sequence in 0..SEQUENCES {
        let mut random = ChaCha8Rng::seed_from_u64(seed.wrapping_add(sequence));
        // Different tokens, so that each has one place in each half.
        let mut tokens: Vec<u32> = Vec::new();
        while tokens.len() < half {
            let token = (random.next_u64() % model.spec.vocab as u64) as u32;
            if !tokens.contains(&token) {
                tokens.push(token);
            }
        }
        let twice: Vec<u32> = tokens.iter().chain(&tokens).copied().collect();
        let run = Run::new(model, &twice, None);
        let weight = 1.0 / SEQUENCES as f64;
        let all = |wanted: &dyn Fn(usize) -> Option<usize>| -> Vec<f64> {
            run.patterns.iter().flat_map(|pattern| mean_to(pattern, wanted)).collect()
        };
        add(
            &mut found.induction,
            &all(&|query| (query + 1).checked_sub(half).filter(|key| (1..=half).contains(key) && query >= half)),
            weight,
        );
        add(&mut found.duplicate, &all(&|query| query.checked_sub(half)), weight);
        add(&mut found.previous, &all(&|query| query.checked_sub(1)), weight);
    }
    found
}

fn on_prompts(model: &Model, prompts: &Prompts) -> OnPrompts {
    let mut found = OnPrompts::default();
    let weight = 1.0 / prompts.pairs.len().max(1) as f64;
    // Of each prompt that holds an answer, the values there of each layer, and the answer.
    let mut values: Vec<(&[Tensor], u32)> = Vec::new();
    for (pair, run) in prompts.pairs.iter().zip(&prompts.runs) {
        let right = places(pair, &pair.right);
        let look = |places: &[usize]| -> Vec<f64> {
            run.patterns.iter().flat_map(|pattern| from_last(pattern, places.iter().copied())).collect()
        };
        add(&mut found.to_right, &look(&right), weight);
        add(&mut found.to_wrong, &look(&places(pair, &pair.wrong)), weight);
        for (name, range) in &pair.positions {
            let places: Vec<usize> = range.clone().collect();
            add(found.to_places.entry(name.clone()).or_default(), &look(&places), weight);
        }
        add(&mut found.mlps, &direct::of_mlps(model, run, pair), weight);
        if let Some(&place) = right.first() {
            values.push((&run.values, pair.clean[place]));
        }
    }
    // Copying is looked at only where a head attends to the answer at all: it costs an unembedding of every head.
    for (layer, to_right) in found.to_right.chunks(model.spec.heads).enumerate() {
        let attends = to_right.iter().any(|&attention| attention >= Role::Mover.threshold());
        let of_layer: Vec<(Tensor, u32)> = values
            .iter()
            .filter(|_| attends)
            .filter_map(|(values, token)| Some((values.get(layer)?.shallow_clone(), *token)))
            .collect();
        let [most, least] = copying::shares(model, layer, &of_layer);
        found.most.extend(most);
        found.least.extend(least);
    }
    // The end itself is where the last position is, not a place that it looks for.
    found.to_places.remove("end");
    found
}

/// What is shown of each node of a circuit: its first role, the tokens that it writes, and where it looks on the first
/// `examples` of the prompts.
pub fn cards(
    model: &Model,
    tokenizer: &Tokenizer,
    content: &Content,
    prompts: &Prompts,
    examples: usize,
    found: &[Found],
) -> Vec<Card> {
    let _no_grad = tch::no_grad_guard();
    let runs = &prompts.runs;
    let writes = direct::mean_logits(model, runs);
    let card = |node: Node| {
        let role = found.iter().find(|found| found.node == node);
        let patterns = match node {
            Node::Head(Layer(layer), Head(head)) => {
                runs.iter().take(examples).map(|run| run.rows(layer, head)).collect()
            }
            _ => Vec::new(),
        };
        let tokens = writes.of(node, SHOWN).into_iter().map(|(id, value)| (tokenizer.token_text(id), value));
        Card {
            node,
            role: role.map(|found| [found.role.to_string(), found.says()]),
            writes: tokens.collect(),
            patterns,
        }
    };
    content.mask.nodes(content.graph).into_iter().map(card).collect()
}
