//! The activations of one site over a text, in random order without a shuffle of all: a buffer of rows, of which random ones are
//! taken and replaced by the next of the text.
//!
//! The pass stops at the layer of the site. What comes before the text (the beginning-of-text token) is left out, and so are
//! positions more than ten times as long as the median, attention sinks, which would take the dictionary over. Where all of the text
//! fits into the buffer it is read once, however long the training. Memory: the buffer, 256 MB at most.

use crate::inside::corpus::Corpus;
use crate::model::site::Site;
use crate::model::spec::Layer;
use crate::model::tap::{NoTap, Tap};
use crate::model::{Model, Pass, Start};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::ops::Range;
use tch::{Kind, Tensor};

/// Tokens of one pass, at most, if a window is not longer.
const AT_ONCE: usize = 4096;
/// Numbers in the buffer.
const NUMBERS: usize = 64 << 20;
/// How much longer than the median a position may be.
pub const OUTLIER: f64 = 10.0;

/// The activations of a site over some windows of a text.
pub struct Stream<'a> {
    model: &'a Model,
    corpus: &'a Corpus,
    site: Site,
    windows: Vec<Range<usize>>,
    /// Windows read in this turn through the text.
    next: usize,
    /// Longer positions are left out.
    longest: f64,
    /// Of all positions that were read.
    pub outliers: usize,
}

impl<'a> Stream<'a> {
    pub fn new(model: &'a Model, corpus: &'a Corpus, site: Site, windows: Vec<Range<usize>>) -> Stream<'a> {
        Stream { model, corpus, site, windows, next: 0, longest: f64::INFINITY, outliers: 0 }
    }

    /// The positions that count.
    pub fn tokens(&self) -> usize {
        self.windows.iter().map(|window| window.len().saturating_sub(self.corpus.lead)).sum()
    }

    /// Leaves out, from here on, what is more than ten times as long as the median of these rows `[row, width]`.
    pub fn measure_outliers(&mut self, rows: &Tensor) {
        self.longest = OUTLIER * lengths(rows).median().double_value(&[]);
    }

    /// Rows `[row, width]` without outliers, which are counted.
    pub fn without_outliers(&mut self, rows: Tensor) -> Tensor {
        if self.longest.is_infinite() {
            return rows;
        }
        let kept = lengths(&rows).le(self.longest).nonzero().view([-1]); // [kept]
        self.outliers += (rows.size()[0] - kept.size()[0]) as usize;
        rows.index_select(0, &kept)
    }

    /// The next rows of the text `[row, width]`, at least one window of them, beginning anew, in another order, after the last.
    pub fn read(&mut self, random: &mut ChaCha8Rng) -> Tensor {
        if self.next == 0 {
            self.windows.shuffle(random);
        }
        let mut some: Vec<Range<usize>> = Vec::new();
        let mut tokens = 0;
        while self.next < self.windows.len()
            && (some.is_empty() || tokens + self.windows[self.next].len() <= 2 * AT_ONCE)
        {
            tokens += self.windows[self.next].len();
            some.push(self.windows[self.next].clone());
            self.next += 1;
        }
        if self.next == self.windows.len() {
            self.next = 0;
        }
        let rows = activations(self.model, self.corpus, self.site, &mut some);
        self.without_outliers(rows)
    }

    /// What is left of this turn, and no more of it once there are so many rows.
    pub fn read_up_to(&mut self, rows: usize, random: &mut ChaCha8Rng) -> Tensor {
        let (mut parts, mut count) = (Vec::new(), 0);
        while count < rows {
            let part = self.read(random);
            count += part.size()[0] as usize;
            parts.push(part);
            if self.next == 0 {
                break;
            }
        }
        Tensor::cat(&parts, 0)
    }
}

fn lengths(rows: &Tensor) -> Tensor {
    rows.square().sum_dim_intlist(-1, false, Kind::Double).sqrt() // [row]
}

/// The activations of some windows, `[position, width]`, f32, in the order that the windows get. Windows of one length run together, so that none is padded.
pub fn activations(model: &Model, corpus: &Corpus, site: Site, windows: &mut [Range<usize>]) -> Tensor {
    let _no_grad = tch::no_grad_guard();
    windows.sort_by_key(|window| (window.len(), window.start));
    let mut parts = Vec::new();
    for of_length in windows.chunk_by(|a, b| a.len() == b.len()) {
        let length = of_length.first().map_or(1, Range::len);
        if length <= corpus.lead {
            continue;
        }
        for batch in of_length.chunks((AT_ONCE / length).max(1)) {
            let ids = ids(model, corpus, batch); // [batch, pos]
            let mut grab = Grab { site, found: None };
            match site.layer() {
                Some(Layer(layer)) => {
                    let embedded = model.embed(&ids, None, &mut NoTap);
                    let _ = model.some_blocks(0..layer + 1, embedded, &Pass::ALL, &mut grab);
                }
                None if site == Site::TokenEmbedding => drop(model.embed(&ids, None, &mut grab)),
                None => drop(model.forward(Start::Tokens(&ids), &Pass::ALL, &mut grab)),
            }
            if let Some(found) = grab.found {
                let lead = corpus.lead as i64;
                let counted = found.narrow(1, lead, found.size()[1] - lead); // [batch, counted, width]
                parts.push(counted.reshape([-1, counted.size()[2]]).to_kind(Kind::Float));
            }
        }
    }
    Tensor::cat(&parts, 0)
}

/// The tokens of windows of one length: `[batch, pos]`.
pub(super) fn ids(model: &Model, corpus: &Corpus, windows: &[Range<usize>]) -> Tensor {
    let tokens = windows.iter().flat_map(|window| &corpus.tokens[window.clone()]);
    let ids: Vec<i64> = tokens.map(|&id| i64::from(id)).collect();
    Tensor::from_slice(&ids).view([windows.len() as i64, -1]).to_device(model.device)
}

struct Grab {
    site: Site,
    found: Option<Tensor>,
}

impl Tap for Grab {
    fn wants(&self, site: Site) -> bool {
        site == self.site
    }

    fn at(&mut self, _: Site, value: Tensor) -> Tensor {
        self.found = Some(value.shallow_clone());
        value
    }
}

/// Rows to draw from.
pub struct Buffer {
    rows: Tensor, // [row, width]
    whole: bool,
    /// New rows that have not yet taken the place of old ones.
    fresh: Option<Tensor>,
    order: Vec<i64>,
}

impl Buffer {
    /// As much of the text as there is room for.
    pub fn fill(stream: &mut Stream, width: usize, random: &mut ChaCha8Rng) -> Buffer {
        let room = (NUMBERS / width).clamp(2048, 1 << 18);
        let first = stream.read(random);
        stream.measure_outliers(&first);
        let first = stream.without_outliers(first);
        let mut parts = vec![first];
        if stream.next != 0 {
            parts.push(stream.read_up_to(room, random));
        }
        let whole = stream.next == 0;
        Buffer { rows: Tensor::cat(&parts, 0), whole, fresh: None, order: Vec::new() }
    }

    pub fn rows(&self) -> &Tensor {
        &self.rows
    }

    /// A batch of rows, each once in a turn through the buffer; if the text is longer than the buffer, new ones take their places.
    pub fn draw(&mut self, batch: usize, stream: &mut Stream, random: &mut ChaCha8Rng) -> Tensor {
        let count = self.rows.size()[0] as usize;
        let batch = batch.min(count);
        if self.order.len() < batch {
            self.order = (0..count as i64).collect();
            self.order.shuffle(random);
        }
        let chosen = Tensor::from_slice(&self.order.split_off(self.order.len() - batch)).to_device(self.rows.device());
        let drawn = self.rows.index_select(0, &chosen); // [batch, width]
        if !self.whole {
            while self.fresh.as_ref().is_none_or(|fresh| fresh.size()[0] < batch as i64) {
                let more = stream.read(random);
                self.fresh = Some(
                    self.fresh.take().map_or_else(|| more.shallow_clone(), |fresh| Tensor::cat(&[&fresh, &more], 0)),
                );
            }
            if let Some(fresh) = self.fresh.take() {
                let (taken, left) = (fresh.narrow(0, 0, batch as i64), fresh.size()[0] - batch as i64);
                let _ = self.rows.index_copy_(0, &chosen, &taken);
                self.fresh = Some(fresh.narrow(0, batch as i64, left));
            }
        }
        drawn
    }
}
