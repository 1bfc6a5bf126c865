//! How much memory a run needs, and how it is divided so that it fits.
//!
//! The estimate counts what is alive at the worst moment: weights, what two recorded passes keep, the differences of all
//! sources, the autograd graph of the layers that run backwards together, and the buffers of the contraction.

use crate::dataset::TokenPair;
use crate::error::Hint;
use crate::graph::{Dimensions, Level};
use crate::measure::batch::Prefix;
use crate::model::Model;
use crate::model::spec::{NormKind, Spec};
use std::collections::VecDeque;
use tch::Device;

/// What the program takes by itself, libtorch included.
const PROGRAM: usize = 160 << 20;

/// What allocators hold beyond what is in use, as a share of it.
const SLACK: f64 = 0.25;

/// What a method keeps at the same time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Needs {
    /// Passes whose gradients may be kept together; 0 for a method without gradients.
    pub passes: usize,
    /// Whether the differences of all sources are made after the last backward.
    pub differences_last: bool,
}

/// Memory is short, however a run is divided.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum MemoryError {
    #[error("this needs {} even if it is divided as far as it can be, and {} may be used", in_words(*least), in_words(*limit))]
    Limit { least: usize, limit: usize },
    #[error("{device:?} ran out of memory, and the run cannot be divided further")]
    Device { device: Device },
}

impl Hint for MemoryError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            MemoryError::Limit { .. } => {
                "give it more with --memory, or take a smaller model, shorter prompts or (for acdc and mask) fewer pairs".into()
            }
            MemoryError::Device { .. } => "another process may use the device; otherwise run with --device cpu".into(),
        })
    }
}

/// How a run is divided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Division {
    /// Pairs run at once.
    pub pairs: usize,
    /// Layers that run backwards together.
    pub stretch: usize,
    /// Passes whose gradients are kept to be averaged before they are contracted.
    pub passes: usize,
    /// The peak of all of it, weights included, in bytes.
    pub bytes: usize,
}

/// The sizes that decide.
#[derive(Clone, Copy)]
pub struct Sizes<'a> {
    pub spec: &'a Spec,
    pub dimensions: Dimensions,
    /// Bytes of the weights as they are kept.
    pub weights: usize,
    /// Whether matrices are widened at each use.
    pub widened: bool,
    /// Bytes of a number of an activation.
    pub number: usize,
    /// Positions that a pass computes, and all positions of a prompt.
    pub positions: usize,
    pub length: usize,
    /// What is scored.
    pub level: Level,
    /// How many changes of every layer's attention pattern are kept, beside gradients there; 0: neither.
    pub patterns: usize,
}

impl<'a> Sizes<'a> {
    /// Those of the longest pairs on a model.
    pub fn new(model: &'a Model, dimensions: Dimensions, pairs: &[TokenPair], prefix: Prefix) -> Sizes<'a> {
        let shared = model.spec.attention.causal && prefix == Prefix::Shared;
        let suffix = |pair: &TokenPair| pair.len() - if shared { pair.first_difference } else { 0 };
        let positions = pairs.iter().map(suffix).max().unwrap_or(1);
        Sizes::of(model, dimensions, positions, pairs.iter().map(TokenPair::len).max().unwrap_or(1))
    }

    /// Those of prompts of `length` tokens of which a pass computes `positions`.
    pub fn of(model: &'a Model, dimensions: Dimensions, positions: usize, length: usize) -> Sizes<'a> {
        Sizes {
            spec: &model.spec,
            dimensions,
            weights: model.weight_bytes(),
            widened: model.weights.token_embedding.kind() != model.kind(),
            number: model.kind().elt_size_in_bytes(),
            positions,
            length,
            level: Level::Edge,
            patterns: 0,
        }
    }

    /// Numbers of the parameters of one block.
    fn block(&self) -> usize {
        let Spec { d_model, heads, kv_heads, d_head, d_mlp, .. } = *self.spec;
        let matrices = if self.spec.mlp.is_some_and(|mlp| mlp.gated) { 3 } else { 2 };
        d_model * (2 * (heads + kv_heads) * d_head + matrices * d_mlp)
    }

    /// Numbers of the copies in f32 that a block's matrices and the unembedding need while they are multiplied.
    pub(crate) fn widened_matrices(&self) -> [usize; 2] {
        if self.widened { [self.block() * 3 / 2, self.spec.vocab_out * self.spec.d_model] } else { [0, 0] }
    }

    /// Numbers of the keys and values that `pairs` share between their prompts.
    pub(crate) fn prefix(&self, pairs: usize) -> usize {
        let Spec { layers, kv_heads, d_head, .. } = *self.spec;
        pairs * (self.length - self.positions) * layers * 2 * kv_heads * d_head
    }

    /// The bytes of so many numbers beside the weights and the program.
    pub(crate) fn bytes(&self, numbers: usize) -> usize {
        PROGRAM + self.weights + ((numbers * self.number) as f64 * (1.0 + SLACK)) as usize
    }

    /// Numbers that a recorded pass keeps for each token.
    pub(crate) fn recorded(&self) -> usize {
        let Spec { d_model, heads, d_head, d_mlp, layers, .. } = *self.spec;
        let more = match self.level {
            Level::Edge => 0,
            Level::Node => (heads + 2 * self.spec.kv_heads) * d_head,
            Level::Neuron => d_mlp,
        };
        d_model + layers * (heads * d_head + 3 * d_model + more)
    }

    /// Numbers of the differences of all that is scored for each token; of edges, what all sources write.
    pub fn differences(&self) -> usize {
        match self.level {
            Level::Edge => self.dimensions.sources() * self.spec.d_model,
            Level::Node | Level::Neuron => self.recorded(),
        }
    }

    /// Numbers that autograd keeps for each token of one layer.
    pub(crate) fn graph(&self) -> usize {
        let Spec { d_model, heads, d_head, d_mlp, .. } = *self.spec;
        let of_mlp = if self.spec.mlp.is_some_and(|mlp| mlp.gated) { 4 } else { 2 } * d_mlp;
        let of_heads = if self.spec.attention.rotaries.is_empty() { 6 } else { 10 } * heads * d_head;
        5 * d_model + of_heads + 3 * heads * self.length + of_mlp
    }

    /// Numbers of the gradients of one pass for each token.
    fn gradients(&self) -> usize {
        let Spec { d_model, heads, d_head, layers, .. } = *self.spec;
        let (of_heads, of_mlp) = match self.level {
            Level::Edge => (3, 2 * d_model),
            Level::Node => (4, d_model),
            Level::Neuron => (1, self.spec.d_mlp),
        };
        let of_pattern = if self.patterns > 0 { heads * self.length } else { 0 };
        layers * (of_heads * heads * d_head + of_mlp + of_pattern)
    }

    /// The peak of a division, in bytes.
    pub fn peak(&self, needs: Needs, pairs: usize, stretch: usize, passes: usize) -> usize {
        let Spec { d_model, heads, vocab_out, layers, .. } = *self.spec;
        let tokens = pairs * self.positions;
        let [widened_block, widened_head] = self.widened_matrices();
        let kept = tokens * 2 * self.recorded() + self.prefix(pairs) + pairs * 4 * vocab_out;
        let expanding =
            tokens * (self.differences() + layers * (heads * self.spec.d_head + d_model) + 2 * heads * d_model);
        let numbers = if needs.passes == 0 {
            kept + expanding + self.side_by_side() + widened_block.max(widened_head)
        } else {
            let gradients = passes * tokens * self.gradients();
            let backward = stretch * (tokens * self.graph() + widened_block) + widened_head;
            let contraction = 2 * (contracted_rows(self.spec).min(tokens) * 3 * heads * d_model);
            // The differences are made after the backward of EAP and before that of the methods with steps.
            let together = if needs.differences_last { 0 } else { tokens * self.differences() };
            let changes = tokens * layers * self.patterns * heads * self.length;
            kept + gradients
                + changes
                + (together + backward).max(expanding).max(tokens * self.differences() + contraction)
        };
        self.bytes(numbers)
    }

    /// The peak, in bytes, of a search that keeps what all sources write in the clean and in the corrupt run of all pairs, and
    /// runs circuits side by side on so many pairs at once.
    pub fn peak_of_search(&self, pairs: usize, at_once: usize) -> usize {
        let Spec { d_model, heads, vocab_out, .. } = *self.spec;
        let tokens = pairs * self.positions;
        // At least one circuit on one batch.
        let rows = circuit_rows_side_by_side(self.spec, self.dimensions).max(at_once * self.positions);
        let circuits = rows * (self.differences() + 5 * heads * d_model + self.graph());
        let kept = tokens * (2 * self.recorded() + 2 * self.differences()) + self.prefix(pairs) + pairs * 4 * vocab_out;
        let [widened_block, widened_head] = self.widened_matrices();
        self.bytes(kept + circuits + widened_block.max(widened_head))
    }

    /// How many of so many pairs are recorded at once, in one pass without gradients, within `limit` bytes.
    ///
    /// # Errors
    /// [`MemoryError::Limit`] when a single pair takes more.
    pub(crate) fn pairs_recorded(&self, pairs: usize, limit: usize, device: Device) -> Result<usize, MemoryError> {
        let of_pair = self.length * (self.recorded() + self.graph()) + 2 * self.spec.vocab_out;
        let [widened_block, widened_head] = self.widened_matrices();
        // The sums, in twice the width.
        let sums = 2 * self.length * self.recorded();
        let peak = |at_once: usize| self.bytes(at_once * of_pair + sums + widened_block.max(widened_head));
        Ok(halve_until_it_fits(self.most_pairs(device).min(pairs).max(1), false, limit, peak)?.pairs)
    }

    /// How many pairs optimal constants are fitted on at once: as many as keep the graphs of all heads of a layer within
    /// 1 GiB, and all of it within `limit` bytes.
    ///
    /// # Errors
    /// [`MemoryError::Limit`] when a single pair takes more.
    pub(crate) fn pairs_of_optimal(&self, limit: usize) -> Result<usize, MemoryError> {
        let Spec { heads, vocab_out, layers, .. } = *self.spec;
        let [widened_block, widened_head] = self.widened_matrices();
        let of_pair = self.length * (heads * self.graph() * layers + self.recorded()) + 5 * heads * vocab_out;
        let peak = |pairs: usize| self.bytes(pairs * of_pair + layers * widened_block + widened_head);
        let fast = (1 << 30) / (of_pair * self.number).max(1);
        match (1..=fast.max(1)).rev().find(|&pairs| peak(pairs) <= limit) {
            Some(pairs) => Ok(pairs),
            None => Err(MemoryError::Limit { least: peak(1), limit }),
        }
    }

    /// The peak, in bytes, of learning gates: the corrupt runs of all pairs are kept, and a circuit of gates runs forward and
    /// back on so many pairs at once.
    pub fn peak_of_gates(&self, pairs: usize, at_once: usize) -> usize {
        let Spec { d_model, heads, d_head, vocab_out, layers, .. } = *self.spec;
        let Dimensions { kv_slots, .. } = self.dimensions;
        let kept = pairs * (self.positions * self.recorded() + vocab_out) + self.prefix(pairs);
        // Every slot's input before and after the norm, what every head writes, and the same once more while it is made.
        let slots = heads + 2 * kv_slots;
        let of_layer = self.graph() + (2 * slots + 2 * heads) * d_model;
        // Where a norm follows the attention, every slot has a sum of its own of the heads of each layer before it.
        let of_norms = if self.spec.placement.after() { layers * layers / 2 * (slots + 1) * 2 * d_model } else { 0 };
        // What sources write less what they wrote, and the gradients of that; what comes and goes while a layer runs, more of
        // it where a norm is not a single operation.
        let passing = if self.spec.norm == NormKind::Rms { 6 } else { 4 } * slots * d_model;
        let of_token = layers * of_layer + of_norms + 2 * self.differences() + passing;
        // Matrices that heads share are repeated for each of them; those kept in half precision are widened, and kept so.
        let repeated = if kv_slots > self.spec.kv_heads { 2 * heads * d_model * d_head } else { 0 };
        let [widened_block, widened_head] = self.widened_matrices();
        let matrices = layers * (repeated + widened_block) + widened_head;
        // log α, its moments, gates and slopes are f64, and a checkpoint copies what is kept of them.
        let gates = 2 * 12 * self.dimensions.sources() * self.dimensions.destinations();
        self.bytes(kept + at_once * (self.positions * of_token + 6 * vocab_out) + matrices + gates)
    }

    /// Numbers of the rows that exact patching runs side by side.
    fn side_by_side(&self) -> usize {
        let Spec { d_model, heads, .. } = *self.spec;
        rows_side_by_side(self.spec) * (self.graph() + 3 * heads * d_model)
    }

    /// The division with the most pairs at once, then the most layers together, whose peak stays within `limit` bytes.
    /// `pairs`: how many there are; `fixed`: as many at once as the user says.
    ///
    /// # Errors
    /// [`MemoryError::Limit`] when the least that the run can do with is more.
    pub fn divide(
        &self,
        needs: Needs,
        pairs: usize,
        fixed: Option<usize>,
        limit: usize,
        device: Device,
    ) -> Result<Division, MemoryError> {
        let most = fixed.unwrap_or_else(|| self.most_pairs(device)).min(pairs).max(1);
        let layers = self.spec.layers;
        // Widened matrices of many layers, kept for the backward, cost more than running a layer forward again.
        let stretches = if needs.passes == 0 || self.widened { vec![1] } else { vec![layers, layers.div_ceil(4), 1] };
        let mut at_once = most;
        loop {
            for &stretch in &stretches {
                for passes in [needs.passes.max(1), 1] {
                    let bytes = self.peak(needs, at_once, stretch, passes);
                    if bytes <= limit {
                        return Ok(Division { pairs: at_once, stretch, passes, bytes });
                    }
                }
            }
            if at_once == 1 || fixed.is_some() {
                return Err(MemoryError::Limit { least: self.peak(needs, at_once, 1, 1), limit });
            }
            at_once = at_once.div_ceil(2);
        }
    }

    /// More pairs at once than this are not faster: caches (of a CPU) or cores (of a GPU) are full.
    pub fn most_pairs(&self, device: Device) -> usize {
        // A large model reads its weights for every batch, so its batches may be larger too.
        let (bytes, most) = if device.is_cuda() { (4 << 30, 512) } else { ((256 << 20).max(self.weights / 2), 64) };
        (bytes / (self.differences() * self.positions * self.number).max(1)).clamp(1, most)
    }
}

/// The most pairs at once, from `most` down in halves unless that is fixed, with which `peak` stays within `limit` bytes.
///
/// # Errors
/// [`MemoryError::Limit`] when the least that the run can do with is more.
pub fn halve_until_it_fits(
    most: usize,
    fixed: bool,
    limit: usize,
    peak: impl Fn(usize) -> usize,
) -> Result<Division, MemoryError> {
    let mut at_once = most;
    loop {
        let bytes = peak(at_once);
        if bytes <= limit {
            return Ok(Division { pairs: at_once, stretch: 1, passes: 1, bytes });
        }
        if at_once == 1 || fixed {
            return Err(MemoryError::Limit { least: bytes, limit });
        }
        at_once = at_once.div_ceil(2);
    }
}

/// Runs `work`; nothing if the device has not enough memory for it. libtorch reports that by a panic, and what the work
/// had allocated is free again afterwards.
///
/// # Panics
/// As `work` does, for any other reason.
pub fn out_of_memory<T>(work: impl FnOnce() -> T) -> Option<T> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(done) => Some(done),
        Err(panic) if panic_says_out_of_memory(panic.as_ref()) => None,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Does `work` on every item in order and gives what it made to `done`. An item for which the device has not enough memory
/// is done in halves.
///
/// # Errors
/// [`MemoryError::Device`] where `halve` gives nothing, because the item is a single pair.
pub fn halving<I, T>(
    items: impl IntoIterator<Item = I>,
    device: Device,
    halve: impl Fn(&I) -> Option<[I; 2]>,
    mut work: impl FnMut(&I) -> T,
    mut done: impl FnMut(I, T),
) -> Result<(), MemoryError> {
    let mut queue: VecDeque<I> = items.into_iter().collect();
    while let Some(item) = queue.pop_front() {
        match out_of_memory(|| work(&item)) {
            Some(made) => done(item, made),
            None => {
                let [first, second] = halve(&item).ok_or(MemoryError::Device { device })?;
                queue.push_front(second);
                queue.push_front(first);
            }
        }
    }
    Ok(())
}

fn panic_says_out_of_memory(panic: &(dyn std::any::Any + Send)) -> bool {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.is_some_and(is_out_of_memory)
}

/// Whether a message of libtorch says that memory was short.
pub fn is_out_of_memory(text: &str) -> bool {
    text.contains("out of memory") || text.contains("can't allocate memory")
}

/// `1.5 GB` or `12 MB`, in powers of ten.
pub fn in_words(bytes: usize) -> String {
    match bytes as f64 {
        bytes if bytes >= 1e9 => format!("{:.1} GB", bytes / 1e9),
        bytes => format!("{:.1} MB", bytes / 1e6),
    }
}

/// Tokens whose gradients at all slots of a layer are expanded together: 64 MiB of them.
pub fn contracted_rows(spec: &Spec) -> usize {
    ((64 << 20) / (3 * spec.heads * spec.d_model * size_of::<f32>())).max(1)
}

/// Rows (circuits × pairs) times positions that run in one pass while all sources of each are kept: 256 MiB of what they
/// write.
pub fn circuit_rows_side_by_side(spec: &Spec, dimensions: Dimensions) -> usize {
    let of_sources = (256 << 20) / (dimensions.sources() * spec.d_model * size_of::<f32>());
    rows_side_by_side(spec).min(of_sources).max(1)
}

/// Rows (edges × pairs) times positions that exact patching runs in one pass.
pub fn rows_side_by_side(spec: &Spec) -> usize {
    ((256 << 20) / (spec.heads * spec.d_model * size_of::<f32>())).clamp(64, 4096)
}
