//! Sentences out of the tasks: what is taught, what is held out, and batches of them.

use anyhow::{Result, anyhow, bail};
use penjing::task::{self, Capacity, Content, Expansion, Split, Task};
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};
use tch::Tensor;
use tokenizers::Tokenizer;

use crate::recipe::{CONTEXT, EXTRA, HELD_OUT, ORDINARY_SHARE, ORDINARY_WEIGHT, TAUGHT, share};
use crate::vocabulary::{END, FULL_STOP, UNKNOWN};

/// A prompt and what may and may not follow it.
pub struct Sentence {
    pub prompt: Vec<i64>,
    pub right: Vec<i64>,
    pub wrong: Vec<i64>,
}

/// The sentences of one task.
pub struct Lessons {
    pub task: String,
    pub taught: Vec<Sentence>,
    /// What the task's `[[teach]]` adds.
    pub extra: Vec<Sentence>,
    pub held_out: Vec<Sentence>,
}

/// Sentences of about one length, padded on the right.
pub struct Batch {
    pub tokens: Tensor,  // [batch, pos]
    pub places: Tensor,  // [place]: where a prediction counts, as batch * pos + pos
    pub targets: Tensor, // [place]: the token that follows
    pub weights: Tensor, // [place]: what predicting it counts
}

/// Lengths up to which sentences share a batch; the longest is the whole context.
const LENGTHS: [usize; 5] = [13, 16, 20, 28, CONTEXT as usize];

impl Lessons {
    /// The lessons of one chapter; every chapter teaches other sentences, and all are tested on the same.
    pub fn new(task: &Task, tokenizer: &Tokenizer, chapter: u64) -> Result<Lessons> {
        let tokenised = |texts: Vec<(String, Vec<String>, Vec<String>)>| -> Result<Vec<Sentence>> {
            texts.iter().map(|(prompt, right, wrong)| tokenise(prompt, right, wrong, tokenizer)).collect()
        };
        let pairs = |split, most, seed| -> Result<Vec<Sentence>> {
            tokenised(
                expand(task, split, most, seed, None)?
                    .into_iter()
                    .map(|pair| (pair.clean, pair.right, pair.wrong))
                    .collect(),
            )
        };
        let extra =
            task::lessons(task, EXTRA, chapter).into_iter().map(|lesson| (lesson.text, lesson.right, Vec::new()));
        Ok(Lessons {
            task: task.name.clone(),
            taught: pairs(Split::Train, TAUGHT, chapter)?,
            extra: tokenised(extra.collect())?,
            held_out: pairs(Split::Test, HELD_OUT, 0)?,
        })
    }
}

/// As many pairs as are asked for, or all that there are.
fn expand(
    task: &Task,
    split: Split,
    most: usize,
    seed: u64,
    corruption: Option<&str>,
) -> Result<Vec<task::PromptPair>> {
    let pairs = match task::capacity(task, split, corruption)? {
        Capacity::Exactly(possible) => possible.min(most),
        Capacity::AtMost(_) => most,
    };
    Ok(task::expand(task, &Expansion { split, pairs, seed, corruption: corruption.map(str::to_owned) })?)
}

/// Texts of a task in which every word that it can write occurs.
pub fn specimens(task: &Task) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    let Content::Templates(templates) = &task.content else { bail!("task `{}` has no templates", task.name) };
    let named = templates.corruptions.iter().map(|name| Some(name.as_str()));
    for corruption in std::iter::once(None).chain(named) {
        for pair in expand(task, Split::All, TAUGHT / 2, 0, corruption)? {
            texts.extend([pair.clean, pair.corrupt]);
            texts.extend(pair.right.into_iter().chain(pair.wrong));
        }
    }
    for lesson in task::lessons(task, EXTRA, 0) {
        texts.push(lesson.text);
        texts.extend(lesson.right);
    }
    Ok(texts)
}

fn tokenise(prompt: &str, right: &[String], wrong: &[String], tokenizer: &Tokenizer) -> Result<Sentence> {
    let unknown = tokenizer.token_to_id(UNKNOWN);
    let encode = |text: &str| -> Result<Vec<i64>> {
        let encoding = tokenizer.encode_fast(text, false).map_err(|error| anyhow!("{text:?}: {error}"))?;
        if encoding.get_ids().iter().any(|id| Some(*id) == unknown) {
            bail!("{text:?} has a word that the vocabulary lacks");
        }
        Ok(encoding.get_ids().iter().map(|id| i64::from(*id)).collect())
    };
    let single = |text: &String| match encode(text)?[..] {
        [id] => Ok(id),
        _ => bail!("the answer {text:?} is not one token"),
    };
    Ok(Sentence {
        prompt: encode(prompt)?,
        right: right.iter().map(single).collect::<Result<_>>()?,
        wrong: wrong.iter().map(single).collect::<Result<_>>()?,
    })
}

/// One step's sentences: of every task its share, half of them extra ones where the task has such.
pub fn draw(lessons: &[Lessons], rng: &mut impl Rng, tokenizer: &Tokenizer) -> Vec<Batch> {
    let id = |piece| tokenizer.token_to_id(piece).map_or(0, i64::from);
    let (end, full_stop) = (id(END), id(FULL_STOP));
    let mut rows: [Vec<(Vec<i64>, usize)>; LENGTHS.len()] = Default::default();
    for lesson in lessons {
        for _ in 0..share(&lesson.task) {
            let extra = !lesson.extra.is_empty() && rng.random_range(0..2) == 0;
            let pool = if extra { &lesson.extra } else { &lesson.taught };
            let Some(sentence) = pool.choose(rng) else { continue };
            let Some(answer) = sentence.right.choose(rng) else { continue };
            let mut row = sentence.prompt.clone();
            row.extend([*answer, full_stop, end]);
            let bucket = LENGTHS.iter().position(|length| *length >= row.len()).unwrap_or(LENGTHS.len() - 1);
            rows[bucket].push((row, sentence.prompt.len()));
        }
    }
    rows.iter().filter(|rows| !rows.is_empty()).map(|rows| batch(rows, end, rng)).collect()
}

/// Stacks rows and the places of their answers. Of the other places one in [`ORDINARY_SHARE`] counts, for them all.
fn batch(rows: &[(Vec<i64>, usize)], end: i64, rng: &mut impl Rng) -> Batch {
    let width = rows.iter().map(|(row, _)| row.len()).max().unwrap_or(1) - 1;
    let (mut tokens, mut places, mut targets, mut weights) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (index, (row, answer)) in rows.iter().enumerate() {
        for place in 0..width {
            tokens.push(if place < row.len() { row[place] } else { end });
            let weight = match place + 1 {
                next if next == *answer => 1.0,
                next if next < row.len() && rng.random_range(0..ORDINARY_SHARE) == 0 => {
                    ORDINARY_WEIGHT * ORDINARY_SHARE as f32
                }
                _ => continue,
            };
            places.push((index * width + place) as i64);
            targets.push(row[place + 1]);
            weights.push(weight);
        }
    }
    Batch {
        tokens: Tensor::from_slice(&tokens).view([rows.len() as i64, width as i64]),
        places: Tensor::from_slice(&places),
        targets: Tensor::from_slice(&targets),
        weights: Tensor::from_slice(&weights),
    }
}
