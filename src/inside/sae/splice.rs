//! What the model loses where a site holds x̂ in place of x: cross-entropy and KL of the next token, beside those of a site that holds
//! zeros and of one that holds its mean.
//!
//! Recovered = (CE_ablated − CE_spliced)/(CE_ablated − CE_clean), of either ablation: that of the mean is the harder yardstick. The
//! beginning-of-text token keeps its own value, and what is predicted from it is not counted. Four passes over the text.

use super::stream::ids;
use crate::dictionary::Dictionary;
use crate::inside::corpus::Corpus;
use crate::model::site::Site;
use crate::model::tap::{NoTap, Tap};
use crate::model::{Model, Pass, Start};
use serde::Serialize;
use std::ops::Range;
use tch::{Kind, Tensor};

/// Numbers of one batch's logits, at most, if a window has not more.
const LOGITS: usize = 16 << 20;

/// Nats a token.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Spliced {
    /// Predictions that were measured.
    pub predictions: usize,
    pub ce_clean: f64,
    pub ce_spliced: f64,
    pub ce_zero: f64,
    pub ce_mean: f64,
    pub recovered_zero: f64,
    pub recovered_mean: f64,
    /// KL(clean ‖ changed).
    pub kl_spliced: f64,
    pub kl_zero: f64,
    pub kl_mean: f64,
}

/// What a site holds in place of its value.
enum Held<'a> {
    Reconstruction(&'a Dictionary),
    Zero,
    Mean(&'a Tensor),
}

struct Splice<'a> {
    site: Site,
    lead: i64,
    held: Held<'a>,
}

impl Tap for Splice<'_> {
    fn wants(&self, site: Site) -> bool {
        site == self.site
    }

    fn at(&mut self, _: Site, value: Tensor) -> Tensor {
        let lead = value.narrow(1, 0, self.lead);
        let counted = value.narrow(1, self.lead, value.size()[1] - self.lead); // [batch, counted, width]
        let held = match self.held {
            Held::Reconstruction(dictionary) => dictionary.reconstruct(&counted),
            Held::Zero => counted.zeros_like(),
            Held::Mean(mean) => mean.to_kind(counted.kind()).expand_as(&counted),
        };
        Tensor::cat(&[lead, held], 1)
    }
}

/// Over windows of a text; `mean` `[width]` is the mean of the site. `progress` is told the share done.
pub fn splice(
    (model, site): (&Model, Site),
    (corpus, windows): (&Corpus, &[Range<usize>]),
    (dictionary, mean): (&Dictionary, &Tensor),
    progress: &mut dyn FnMut(f64),
) -> Spliced {
    let _no_grad = tch::no_grad_guard();
    let mut order: Vec<Range<usize>> =
        windows.iter().filter(|window| window.len() > corpus.lead + 1).cloned().collect();
    order.sort_by_key(|window| (window.len(), window.start));
    let (mut sums, mut count, mut done) = ([0.0; 7], 0, 0);
    for of_length in order.chunk_by(|a, b| a.len() == b.len()) {
        let length = of_length.first().map_or(1, Range::len);
        for batch in of_length.chunks((LOGITS / (length * model.spec.vocab_out)).max(1)) {
            let ids = ids(model, corpus, batch); // [batch, pos]
            let (lead, made) = (corpus.lead as i64, length as i64 - corpus.lead as i64 - 1);
            let targets = ids.narrow(1, lead + 1, made).unsqueeze(-1); // [batch, made, 1]
            let log_probabilities = |tap: &mut dyn Tap| {
                let logits = model.forward(Start::Tokens(&ids), &Pass::ALL, &mut { tap });
                logits.narrow(1, lead, made).log_softmax(-1, Kind::Double) // [batch, made, vocab_out]
            };
            let clean = log_probabilities(&mut NoTap);
            let entropy = |of: &Tensor| -of.gather(-1, &targets, false).sum(Kind::Double).double_value(&[]);
            sums[0] += entropy(&clean);
            for (index, held) in
                [Held::Reconstruction(dictionary), Held::Zero, Held::Mean(mean)].into_iter().enumerate()
            {
                let changed = log_probabilities(&mut Splice { site, lead, held });
                sums[1 + index] += entropy(&changed);
                sums[4 + index] += (clean.exp() * (&clean - &changed)).sum(Kind::Double).double_value(&[]);
            }
            count += targets.numel();
            done += batch.len();
            progress(done as f64 / order.len() as f64);
        }
    }
    let [ce_clean, ce_spliced, ce_zero, ce_mean, kl_spliced, kl_zero, kl_mean] =
        sums.map(|sum| sum / count.max(1) as f64);
    let recovered = |ablated: f64| (ablated - ce_spliced) / (ablated - ce_clean);
    Spliced {
        predictions: count,
        ce_clean,
        ce_spliced,
        ce_zero,
        ce_mean,
        recovered_zero: recovered(ce_zero),
        recovered_mean: recovered(ce_mean),
        kl_spliced,
        kl_zero,
        kl_mean,
    }
}
