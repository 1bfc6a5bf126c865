//! Trains a dictionary on the activations of a site: Adam with a linear warm-up (5 % of the steps) and decay (the last 20 %).
//!
//! Decoder rows begin in random directions with length 0.1, the encoder as their transpose, the decoder's bias as the mean of the
//! data. Inputs are multiplied by one factor so that their mean length is √width, which makes the weights of the penalties mean the
//! same for every model; the penalties rise over the first tenth. The TopK family compares pre-activations times ‖W_dec,j‖, which is
//! folded into the weights at the end. The threshold of BatchTopK is a running mean of the smallest active feature of each batch,
//! over the last twentieth of the steps or the last hundred, whichever are more. JumpReLU learns θ itself, kept from falling below
//! 0: Adam moves a logarithm too slowly in short trainings (as SAELens found). Learning rate: 2e-4/√(features/2^14) (sparsify's rule).
//!
//! A step costs about 12 · width · features operations a token for the encoder and the decoder, which is dense.

use super::adam::Adam;
use super::learner::{Trainer, Weights};
use super::metrics::{Density, Reconstruction, measure, reconstruction};
use super::stream::{Buffer, Stream, activations};
use super::{SaeError, site};
use crate::dictionary::{Architecture, Dictionary, DictionaryV1, Normalize, TrainingV1, check, record};
use crate::inside::corpus::Corpus;
use crate::model::Model;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use tch::{Device, Kind, Tensor};

/// Tokens that are kept from training to measure on, at most.
const HELD_OUT: usize = 16384;
/// Measurements on the way.
const MEASUREMENTS: usize = 40;

/// What is trained, and how long.
#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    pub architecture: Architecture,
    pub site: String,
    pub features: usize,
    /// Of the TopK family.
    pub k: usize,
    /// λ, of the others; nothing: what suits the architecture.
    pub sparsity: Option<f64>,
    pub tokens: usize,
    pub batch: usize,
    pub learning_rate: Option<f64>,
    /// A feature is dead when it was active on none of so many tokens; nothing: a tenth of all, 10 million at most.
    pub dead_after: Option<usize>,
    pub seed: u64,
}

/// A measurement on held-out tokens on the way.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Moment {
    pub tokens: usize,
    pub fvu: f64,
    pub l0: f64,
    /// The share of features that were active on none of the last `dead_after` training tokens.
    pub dead: f64,
}

pub struct Trained {
    pub dictionary: Dictionary,
    /// Values that the file's check is made of: `[value, width]`.
    pub check: Tensor,
    pub history: Vec<Moment>,
    pub reconstruction: Reconstruction,
    pub density: Density,
}

/// Where λ stands if nobody says.
fn usual_sparsity(architecture: Architecture) -> Option<f64> {
    match architecture {
        Architecture::Relu => Some(6.0),
        Architecture::Gated => Some(4.0),
        Architecture::JumpRelu => Some(2.0),
        Architecture::TopK | Architecture::BatchTopK | Architecture::Matryoshka => None,
    }
}

/// Trains on a text. `id` names the model, `text` what it read; `progress` is told the share done and the last measurement.
///
/// # Errors
/// [`SaeError`].
pub fn train(
    (model, id): (&Model, &str),
    (corpus, text): (&Corpus, &str),
    options: &Options,
    progress: &mut dyn FnMut(f64, Option<&Moment>),
) -> Result<Trained, SaeError> {
    let (place, width) = site(&options.site, &model.spec)?;
    if options.architecture.has_k() && !(1..=options.features).contains(&options.k) {
        return Err(SaeError::K { k: options.k, features: options.features });
    }
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let (mut held, mut stream) = divided(model, corpus, place, &mut random);
    if held.is_empty() || stream.tokens() < 2 {
        return Err(SaeError::Short { tokens: corpus.counted().count(), needed: 4 });
    }
    let mut buffer = Buffer::fill(&mut stream, width, &mut random);
    let test = activations(model, corpus, place, &mut held);
    let (outliers, text_tokens) = (stream.outliers, stream.tokens());
    let test = stream.without_outliers(test); // [held out, width]
    stream.outliers = outliers;
    let factor = (width as f64).sqrt() / row_length(buffer.rows());
    let normalize = Normalize::ExpectedAverageOnlyIn { factor };
    let steps = options.tokens.div_ceil(options.batch).max(1);
    let dead_after = options.dead_after.unwrap_or((options.tokens / 10).min(10_000_000)).max(1);
    let rate = options.learning_rate.unwrap_or_else(|| 2e-4 / (options.features as f64 / 16384.0).sqrt());
    let sparsity = usual_sparsity(options.architecture).map(|usual| options.sparsity.unwrap_or(usual));
    let mut prefixes: Vec<usize> = [8, 4, 2, 1].map(|part| options.features.div_ceil(part)).to_vec();
    prefixes.dedup();
    let mean = buffer.rows().mean_dim(0, false, Kind::Double).to_kind(Kind::Float) * factor; // [width]
    let weights = Weights::new(options, &mean, &mut random);
    let since = Tensor::zeros([options.features as i64], (Kind::Int64, mean.device()));
    let mut trainer = Trainer {
        options,
        sparsity: sparsity.unwrap_or(0.0),
        prefixes,
        weights,
        threshold: None,
        threshold_rate: (20.0 / steps as f64).clamp(0.01, 0.5),
        factor,
        since,
        dead_after,
    };
    let mut record = DictionaryV1 {
        schema: record::SCHEMA.into(),
        architecture: options.architecture,
        site: Some(options.site.clone()),
        hook: None,
        model: Some(id.to_owned()),
        weights: Some(model.fingerprint()),
        features: options.features,
        width,
        k: options.architecture.has_k().then_some(options.k),
        prefixes: if options.architecture == Architecture::Matryoshka { trainer.prefixes.clone() } else { Vec::new() },
        normalize,
        apply_b_dec_to_input: true,
        training: None,
    };
    let mut adam = Adam::new(&trainer.weights.all());
    let (mut history, mut done) = (Vec::new(), 0);
    for step in 0..steps {
        let x = buffer.draw(options.batch, &mut stream, &mut random) * trainer.factor; // [token, width]
        let share = step as f64 / steps as f64;
        let (value, features) = trainer.loss(&x, (share / 0.1).min(1.0));
        if !value.double_value(&[]).is_finite() {
            return Err(SaeError::Diverged { tokens: done });
        }
        let gradients = Tensor::run_backward(&[value], &trainer.weights.all(), false, false);
        adam.step(&trainer.weights.all(), &gradients, rate * schedule(share + 0.5 / steps as f64));
        trainer.keep_thresholds();
        trainer.note_active(&features);
        done += x.size()[0] as usize;
        if (step + 1) * MEASUREMENTS / steps != step * MEASUREMENTS / steps || step + 1 == steps {
            let (x_hat, density) = measure(&trainer.dictionary(&record), &test);
            let dead = trainer.dead().to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
            history.push(Moment { tokens: done, fvu: reconstruction(&test, &x_hat).fvu, l0: density.l0, dead });
        }
        progress((step + 1) as f64 / steps as f64, history.last());
    }
    let dictionary = trainer.dictionary(&record);
    let (x_hat, density) = measure(&dictionary, &test);
    let reconstruction = reconstruction(&test, &x_hat);
    record.training = Some(TrainingV1 {
        text: text.to_owned(),
        tokens: done,
        text_tokens,
        outliers: stream.outliers,
        batch: options.batch,
        learning_rate: rate,
        sparsity,
        seed: options.seed,
        fvu: reconstruction.fvu,
        l0: density.l0,
        dead: history.last().map_or(0.0, |moment| moment.dead),
        dead_after,
    });
    let dictionary = Dictionary { record, ..dictionary.to(Device::Cpu, Kind::Float) };
    let check = test.narrow(0, 0, (check::VALUES as i64).min(test.size()[0])).to_device(Device::Cpu).copy();
    Ok(Trained { dictionary, check, history, reconstruction, density })
}

/// A tenth of the windows to measure on, and the others to train on.
fn divided<'a>(
    model: &'a Model,
    corpus: &'a Corpus,
    place: crate::model::site::Site,
    random: &mut ChaCha8Rng,
) -> (Vec<std::ops::Range<usize>>, Stream<'a>) {
    let mut windows: Vec<_> = corpus.windows.iter().filter(|window| window.len() > corpus.lead).cloned().collect();
    windows.shuffle(random);
    let mut count = 0;
    let most = windows.len() / 10;
    let held = windows.iter().take(most.max(usize::from(windows.len() > 1))).take_while(|window| {
        count += window.len();
        count - window.len() < HELD_OUT
    });
    let held = held.count();
    let rest = windows.split_off(held);
    (windows, Stream::new(model, corpus, place, rest))
}

/// The mean length of rows.
fn row_length(rows: &Tensor) -> f64 {
    rows.square().sum_dim_intlist(-1, false, Kind::Double).sqrt().mean(Kind::Double).double_value(&[]).max(1e-12)
}

/// The learning rate's share at a share of the steps.
fn schedule(share: f64) -> f64 {
    (share / 0.05).min((1.0 - share) / 0.2).clamp(0.0, 1.0)
}
