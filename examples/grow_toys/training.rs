//! The training loop: AdamW, warm-up, cosine, clipping, checkpoints.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::nn::{AdamW, Optimizer, OptimizerConfig, VarStore};
use tch::{Device, Kind, Reduction, Tensor};
use tokenizers::Tokenizer;

use crate::network::{DECAYED, Network};
use crate::recipe::{CHAPTER, CLIP_NORM, Recipe, share};
use crate::sentences::{self, Batch, Lessons};

pub struct Training<'a> {
    pub store: VarStore,
    pub network: Network,
    /// Steps done.
    pub step: i64,
    recipe: Recipe,
    optimizer: Optimizer,
    /// The step at which this process began, whose moments begin at zero and need a warm-up.
    first: i64,
    tokenizer: &'a Tokenizer,
    seed: u64,
    checkpoint: PathBuf,
    started: Instant,
}

impl<'a> Training<'a> {
    /// A new training, or the one whose checkpoint is there.
    pub fn new(recipe: Recipe, tokenizer: &'a Tokenizer, seed: u64, checkpoint: PathBuf) -> Result<Training<'a>> {
        tch::manual_seed(seed as i64);
        let mut store = VarStore::new(Device::Cpu);
        let network = Network::new(&store, &recipe, tokenizer.get_vocab_size(true) as i64);
        let mut optimizer = AdamW::default().beta2(0.98).build(&store, recipe.peak_learning_rate)?;
        optimizer.set_weight_decay(0.0);
        optimizer.set_weight_decay_group(DECAYED, recipe.weight_decay);
        let mut step = 0;
        if checkpoint.exists() {
            store.load(&checkpoint).with_context(|| format!("cannot go on from {}", checkpoint.display()))?;
            let note = fs::read_to_string(checkpoint.with_extension("step"))?;
            step = note.trim().parse().context("the checkpoint's step is not a number")?;
        }
        Ok(Training {
            store,
            network,
            step,
            recipe,
            optimizer,
            first: step,
            tokenizer,
            seed,
            checkpoint,
            started: Instant::now(),
        })
    }

    pub fn parameters(&self) -> usize {
        self.store.trainable_variables().iter().map(Tensor::numel).sum()
    }

    pub fn chapter(&self) -> u64 {
        (self.step / CHAPTER) as u64
    }

    /// Trains up to the next checkpoint and writes it.
    pub fn run_chapter(&mut self, lessons: &[Lessons]) -> Result<()> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(self.chapter());
        let last = self.recipe.steps.min((self.step / CHAPTER + 1) * CHAPTER);
        let mut mean = 0.0;
        while self.step < last {
            self.optimizer.set_lr(self.recipe.learning_rate(self.step, self.step - self.first));
            let batches = sentences::draw(lessons, &mut rng, self.tokenizer);
            let sentences: usize = lessons.iter().map(|lesson| share(&lesson.task)).sum();
            self.optimizer.zero_grad();
            let mut total = 0.0;
            for batch in &batches {
                let loss = self.surprise(batch) / sentences as f64; // []
                loss.backward();
                total += loss.double_value(&[]);
            }
            self.optimizer.clip_grad_norm(CLIP_NORM);
            self.optimizer.step();
            self.step += 1;
            mean += total;
            if self.step % 100 == 0 {
                let seconds = self.started.elapsed().as_secs_f64() / (self.step - self.first) as f64;
                let minutes = seconds * (self.recipe.steps - self.step) as f64 / 60.0;
                eprintln!(
                    "step {} of {}: loss {:.4}, {seconds:.2} s a step, {minutes:.0} min left",
                    self.step,
                    self.recipe.steps,
                    mean / 100.0
                );
                mean = 0.0;
            }
        }
        self.save()
    }

    /// The weighted surprise in nats at the places of a batch that count, summed.
    fn surprise(&self, batch: &Batch) -> Tensor {
        let normed = self.network.forward(&batch.tokens).flatten(0, 1).index_select(0, &batch.places); // [place, width]
        let logits = self.network.unembed(&normed); // [place, vocab]
        let surprise = logits.cross_entropy_loss(&batch.targets, None::<&Tensor>, Reduction::None, -100, 0.0); // [place]
        (surprise * &batch.weights).sum(Kind::Float)
    }

    /// Written beside and renamed, so that an interrupted save leaves the one before.
    fn save(&self) -> Result<()> {
        fs::create_dir_all(self.checkpoint.parent().context("the checkpoint needs a folder")?)?;
        let draft = self.checkpoint.with_extension("draft.safetensors");
        self.store.save(&draft)?;
        fs::rename(&draft, &self.checkpoint)?;
        Ok(fs::write(self.checkpoint.with_extension("step"), self.step.to_string())?)
    }

    /// Rounds the weights to what float16 can hold, if they will be stored so.
    pub fn round(&mut self, half: bool) {
        let _no_gradients = tch::no_grad_guard();
        for mut variable in self.store.trainable_variables() {
            if half {
                let rounded = variable.to_kind(Kind::Half).to_kind(Kind::Float);
                variable.copy_(&rounded);
            }
        }
    }
}
