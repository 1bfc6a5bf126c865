//! Prompts that show a relation by examples, and whether a change at their last position makes the model answer right.
//!
//! `Q: x₁\nA: y₁\n\n … Q: x\nA:` and its likes; an answer is right if its first token is the likeliest. Answers stand with a
//! space before them. Pairs are split once into those that examples and queries are drawn from while a vector is made (half),
//! those that choose its layer, and those that test it (a quarter each), so that no tested word has been seen.

use super::{Encoded, VectorError};
use crate::inside::backpatch::Share;
use crate::inside::column::Column;
use crate::inside::prompt;
use crate::model::Model;
use crate::tokenizer::Tokenizer;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

/// A word and what the relation makes of it.
pub type Pair = (String, String);

/// At most so many draws for each prompt that must be answered right.
const TRIES: usize = 8;

/// How examples are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// `Q: x\nA: y\n\nQ: x\nA:`
    QuestionAnswer,
    /// `Words: x -> y, x ->`
    Arrow,
    /// `Pairs such as x and y, x and`
    List,
}

impl Format {
    pub fn text(self, examples: &[(&str, &str)], query: &str) -> String {
        let (opening, [before, between, after]) = match self {
            Format::QuestionAnswer => ("", ["Q: ", "\nA:", "\n\n"]),
            Format::Arrow => ("Words: ", ["", " ->", ", "]),
            Format::List => ("Pairs such as ", ["", " and", ", "]),
        };
        let examples = examples.iter().map(|(x, y)| format!("{before}{x}{between} {y}{after}"));
        format!("{opening}{}{before}{query}{between}", examples.collect::<String>())
    }
}

/// What a prompt that does not show the relation has in place of the labels of its examples.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Labels {
    /// Every example has the label of another (Todd et al.).
    Shuffled,
    /// Every example has its own word: the examples show copying.
    Copied,
    /// No examples and nothing around the query: the word alone, with a space before it.
    Bare,
}

/// Who asks, and how.
pub struct Lesson<'a> {
    pub model: &'a Model,
    pub tokenizer: &'a Tokenizer,
    pub bos: Option<bool>,
    pub format: Format,
    /// Examples before each query.
    pub shots: usize,
    pub corrupt: Labels,
}

/// A prompt with its answer.
pub struct Asked {
    pub encoded: Encoded,
    /// The first token of the right answer.
    pub answer: u32,
}

/// The pairs that make a vector, choose its layer and test it.
pub struct Split<'a> {
    pub make: Vec<&'a Pair>,
    pub choose: Vec<&'a Pair>,
    pub test: Vec<&'a Pair>,
}

impl<'a> Split<'a> {
    /// # Errors
    /// Too few pairs for so many examples.
    pub fn new(pairs: &'a [Pair], shots: usize, random: &mut ChaCha8Rng) -> Result<Split<'a>, VectorError> {
        let needed = (2 * (shots + 1)).max(8);
        if pairs.len() < needed {
            return Err(VectorError::FewPairs { pairs: pairs.len(), needed });
        }
        let all = drawn(&pairs.iter().collect::<Vec<_>>(), pairs.len(), random);
        let (make, rest) = all.split_at(pairs.len() / 2);
        let (choose, test) = rest.split_at(rest.len() / 2);
        Ok(Split { make: make.to_vec(), choose: choose.to_vec(), test: test.to_vec() })
    }
}

/// So many of a list, each once, in random order.
pub fn drawn<T: Copy>(from: &[T], count: usize, random: &mut ChaCha8Rng) -> Vec<T> {
    let mut left = from.to_vec();
    let mut draw = |left: &mut Vec<T>| left.swap_remove((random.next_u64() % left.len().max(1) as u64) as usize);
    (0..count.min(left.len())).map(|_| draw(&mut left)).collect()
}

impl Lesson<'_> {
    /// The prompt of some examples and a query.
    ///
    /// # Errors
    /// A text that the model cannot take, or an answer that does not begin with a token of its own.
    pub fn ask(&self, examples: &[(&str, &str)], query: &Pair) -> Result<Asked, VectorError> {
        self.ask_as(self.format.text(examples, &query.0), query)
    }

    fn ask_as(&self, text: String, query: &Pair) -> Result<Asked, VectorError> {
        let encode = |text: &str| prompt::encode(text, self.tokenizer, &self.model.spec, self.bos, 0);
        let (encoded, whole) = (encode(&text)?, encode(&format!("{text} {}", query.1))?);
        let answer = whole.0.strip_prefix(&encoded.0[..]).and_then(|rest| rest.first());
        let answer = answer.copied().filter(|&token| (token as usize) < self.model.spec.vocab_out);
        let answer = answer.ok_or_else(|| VectorError::Answer { answer: query.1.clone(), prompt: text })?;
        Ok(Asked { encoded, answer })
    }

    /// The prompt of a query with examples drawn from a pool.
    ///
    /// # Errors
    /// As [`Lesson::ask`].
    pub fn with_examples(
        &self,
        query: &Pair,
        pool: &[&Pair],
        random: &mut ChaCha8Rng,
    ) -> Result<Examples, VectorError> {
        let others: Vec<&Pair> = pool.iter().copied().filter(|pair| pair.0 != query.0 && pair.1 != query.1).collect();
        let shown = drawn(&others, self.shots, random);
        let of = |turn: usize| -> Vec<(&str, &str)> {
            (0..shown.len()).map(|i| (shown[i].0.as_str(), shown[(i + turn) % shown.len()].1.as_str())).collect()
        };
        // Of one place or more.
        let turn = 1 + (random.next_u64() % shown.len().saturating_sub(1).max(1) as u64) as usize;
        let corrupt = match self.corrupt {
            Labels::Shuffled => self.ask(&of(turn), query)?,
            Labels::Copied => {
                self.ask(&shown.iter().map(|pair| (pair.0.as_str(), pair.0.as_str())).collect::<Vec<_>>(), query)?
            }
            Labels::Bare => self.bare(query)?,
        };
        Ok(Examples { clean: self.ask(&of(0), query)?, corrupt })
    }

    fn bare(&self, query: &Pair) -> Result<Asked, VectorError> {
        self.ask_as(format!(" {}", query.0), query)
    }

    /// So many queries with examples that the model answers right, each with its corrupt prompt; fewer if it takes too many
    /// tries.
    ///
    /// # Errors
    /// As [`Lesson::ask`], and where none is answered right.
    pub fn answered_right(
        &self,
        pool: &[&Pair],
        wanted: usize,
        random: &mut ChaCha8Rng,
        progress: &mut dyn FnMut(f64),
    ) -> Result<Vec<Examples>, VectorError> {
        let (mut found, mut tried) = (Vec::new(), 0);
        while found.len() < wanted && tried < TRIES * wanted {
            let query = pool[(random.next_u64() % pool.len() as u64) as usize];
            let examples = self.with_examples(query, pool, random)?;
            let next = Column::new(self.model, &examples.clean.encoded.0)?.next;
            if is_right(&next, examples.clean.answer) {
                found.push(examples);
            }
            tried += 1;
            progress(found.len() as f64 / wanted as f64);
        }
        if found.is_empty() { Err(VectorError::NoneRight { asked: tried }) } else { Ok(found) }
    }

    /// The prompts of queries without examples, or the bare words.
    ///
    /// # Errors
    /// As [`Lesson::ask`].
    pub fn without_examples(&self, queries: &[&Pair]) -> Result<Vec<Asked>, VectorError> {
        let one = |query: &&Pair| if self.corrupt == Labels::Bare { self.bare(query) } else { self.ask(&[], query) };
        queries.iter().map(one).collect()
    }
}

/// A query with examples, and with the same examples under other labels.
pub struct Examples {
    pub clean: Asked,
    pub corrupt: Asked,
}

/// Whether the likeliest of `[vocab]` is the answer.
pub fn is_right(next: &Tensor, answer: u32) -> bool {
    next.argmax(-1, false).int64_value(&[]) == i64::from(answer)
}

/// How many prompts are answered right with the output of each block changed at the last position. `value`: what the block
/// puts out then, `[d_model]`.
///
/// # Errors
/// A model that looks both ways.
pub fn right_by_layer(
    model: &Model,
    prompts: &[Asked],
    value: &dyn Fn(&Column, usize) -> Tensor,
) -> Result<Vec<Share>, VectorError> {
    let mut right = vec![Vec::new(); model.spec.layers];
    for asked in prompts {
        let column = Column::new(model, &asked.encoded.0)?;
        for (layer, right) in right.iter_mut().enumerate() {
            let next = column.outputs(layer, &value(&column, layer).unsqueeze(0)); // [1, vocab]
            right.push(is_right(&next.get(0), asked.answer));
        }
    }
    Ok(right.into_iter().map(|flags| Share::of(flags.into_iter())).collect())
}

/// How many are answered right as they are.
///
/// # Errors
/// A model that looks both ways.
pub fn right(model: &Model, prompts: &[Asked]) -> Result<Share, VectorError> {
    let one = |asked: &Asked| Ok(is_right(&Column::new(model, &asked.encoded.0)?.next, asked.answer));
    Ok(Share::of(prompts.iter().map(one).collect::<Result<Vec<bool>, VectorError>>()?.into_iter()))
}
