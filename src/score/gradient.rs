//! The gradient of the metric at every destination slot, without a copy of the residual stream per head.
//!
//! One ordinary forward and one backward give ∂m/∂q, ∂m/∂k and ∂m/∂v after projection, where each head has only d_head
//! numbers. The gradient at the private input of a head is then exact in closed form (`contract.rs`).
//! Memory: `3 · d_model` numbers a token and layer instead of `3 · heads · d_model`.
//!
//! The backward runs over some layers at a time: from the residual stream that enters them, they are run forward again and
//! back, so that the graph of those layers alone is ever alive.

use super::Run;
use crate::measure::sources::{Activations, Recorder};
use crate::model::site::Site;
use crate::model::spec::Branch;
use crate::model::tap::Tap;
use crate::model::{Model, Start};
use tch::{Kind, Tensor};

/// Gradients of one pass, enough to pull back to every slot.
pub(super) struct Gradients {
    pub layers: Vec<LayerGradients>,
    pub last: Tensor, // [batch, d_model], at the last position
}

pub(super) struct LayerGradients {
    pub projections: [Tensor; 3], // q, k, v: [batch, pos, head or slot, d_head]
    pub residual: Tensor,         // [batch, pos, d_model], before the attention's norm
    pub head_sum: Tensor,         // [batch, pos, d_model], before a norm that follows the attention
    pub mlp: Option<Tensor>,      // [batch, pos, d_model]
}

impl LayerGradients {
    /// Those at some tokens, numbered in `tokens` `[token]` along batch and positions: `[1, token, ..]` each.
    pub(super) fn of_tokens(&self, tokens: &Tensor) -> LayerGradients {
        let of = |tensor: &Tensor| tensor.flatten(0, 1).index_select(0, tokens).unsqueeze(0);
        LayerGradients {
            projections: self.projections.each_ref().map(of),
            residual: of(&self.residual),
            head_sum: if self.head_sum.defined() { of(&self.head_sum) } else { Tensor::new() },
            mlp: self.mlp.as_ref().map(of),
        }
    }
}

/// Keeps the handles that gradients are wanted for.
struct Capture {
    /// Keys and values count once for each query head.
    per_query_head: bool,
    head_sums: bool,
    residuals: Vec<Tensor>,
    sums: Vec<Tensor>,
    /// In order: q, k, v and the MLP input of each layer, at last the last position before the final norm.
    handles: Vec<Tensor>,
}

impl Tap for Capture {
    fn wants(&self, site: Site) -> bool {
        match site {
            Site::BlockIn(_) | Site::Projection(_, Branch::Query) | Site::MlpIn(_) | Site::FinalIn => true,
            Site::Projection(..) => !self.per_query_head,
            Site::PerQueryHead(_, branch) => self.per_query_head && branch != Branch::Query,
            Site::HeadSum(_) => self.head_sums,
            _ => false,
        }
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        match site {
            Site::BlockIn(_) => self.residuals.push(value.detach()),
            Site::HeadSum(_) => self.sums.push(value.detach()),
            _ => self.handles.push(value.shallow_clone()),
        }
        value
    }
}

/// Puts a value without gradients in the place of a site's.
pub(super) struct Replace {
    pub site: Site,
    pub value: Tensor,
}

impl Tap for Replace {
    fn wants(&self, site: Site) -> bool {
        site == self.site
    }

    fn at(&mut self, _: Site, _: Tensor) -> Tensor {
        self.value.shallow_clone()
    }
}

/// The residual stream that enters each stretch of layers when the model runs on the clean prompts with an edit.
pub(super) fn entering(run: &Run, edit: &mut impl Tap) -> Vec<Tensor> {
    let _no_grad = tch::no_grad_guard();
    let model = run.problem.model;
    let mut residual = model.embed(&run.batch.clean, run.past, edit); // [batch, pos, d_model]
    let mut entering = Vec::new();
    let stretches = stretches(model, run.stretch);
    for (index, layers) in stretches.iter().enumerate() {
        entering.push(residual.shallow_clone());
        if index + 1 < stretches.len() {
            residual = model.some_blocks(layers.clone(), residual, &run.pass(), edit);
        }
    }
    entering
}

/// The model's layers in stretches of at most `stretch`.
fn stretches(model: &Model, stretch: usize) -> Vec<std::ops::Range<usize>> {
    let layers = model.spec.layers;
    (0..layers).step_by(stretch.max(1)).map(|first| first..(first + stretch.max(1)).min(layers)).collect()
}

/// The gradient of the summed metric in a run with an edit, from the residual stream `[batch, pos, d_model]` that enters
/// each stretch of layers.
pub(super) fn gradients(run: &Run, entering: &[Tensor], reference: Option<&Tensor>, edit: &mut impl Tap) -> Gradients {
    let mut layers = Vec::new();
    let (mut last, mut above) = (Tensor::new(), None);
    for (stretch, entering) in stretches(run.problem.model, run.stretch).into_iter().zip(entering).rev() {
        let found = of_stretch(run, stretch, entering, above.as_ref(), reference, edit);
        layers.splice(0..0, found.layers);
        if above.is_none() {
            last = found.last;
        }
        above = Some(found.entering);
    }
    Gradients { layers, last }
}

/// [`gradients`] of a run that was not recorded yet, and what it recorded; one pass does both where all layers run backwards
/// together. Without a `reference` the run is its own.
pub(super) fn gradients_and_record(
    run: &Run,
    reference: Option<&Tensor>,
    edit: &mut impl Tap,
) -> (Gradients, Activations) {
    let model = run.problem.model;
    let mut recorder = Recorder::new(model);
    if run.stretch >= model.spec.layers {
        let embedded = tch::no_grad(|| model.embed(&run.batch.clean, run.past, &mut (&mut *edit, &mut recorder))); // [batch, pos, d_model]
        let gradients = gradients(run, &[embedded], reference, &mut (edit, &mut recorder));
        return (gradients, recorder.finish());
    }
    let _ = tch::no_grad(|| {
        model.forward(Start::Tokens(&run.batch.clean), &run.pass(), &mut (&mut *edit, &mut recorder)) // [batch, 1, vocab]
    });
    let recorded = recorder.finish();
    let entering: Vec<Tensor> = stretches(model, run.stretch)
        .into_iter()
        .map(|layers| recorded.before_attention[layers.start].shallow_clone()) // [batch, pos, d_model]
        .collect();
    let of_itself = recorded.logits.log_softmax(-1, None::<Kind>); // [batch, vocab]
    (gradients(run, &entering, reference.or(Some(&of_itself)), edit), recorded)
}

/// The gradients of some consecutive layers.
pub(super) struct StretchGradients {
    pub layers: Vec<LayerGradients>,
    last: Tensor,     // [batch, d_model], of the uppermost stretch
    entering: Tensor, // [batch, pos, d_model], at what enters the first of them
}

/// Runs layers forward from what enters them, `[batch, pos, d_model]`, and back from the gradient `above` of what leaves
/// them; without one, on to the metric and back from there.
pub(super) fn of_stretch(
    run: &Run,
    stretch: std::ops::Range<usize>,
    entering: &Tensor,
    above: Option<&Tensor>,
    reference: Option<&Tensor>,
    edit: &mut impl Tap,
) -> StretchGradients {
    let model = run.problem.model;
    let start = entering.detach().set_requires_grad(true); // [batch, pos, d_model]
    let mut capture = Capture::new(run);
    let tap = &mut (edit, &mut capture);
    let out = model.some_blocks(stretch, start.shallow_clone(), &run.pass(), tap); // [batch, pos, d_model]
    let goal = match above {
        None => {
            let logits = model.read(&out, &run.pass(), tap).squeeze_dim(1); // [batch, vocab]
            run.metric(&logits, reference).sum(None::<Kind>)
        }
        Some(gradient) => (out * gradient).sum(None::<Kind>),
    }; // []
    let Capture { residuals, sums, mut handles, .. } = capture;
    let mut sums = sums.into_iter();
    handles.push(start);
    let found = Tensor::run_backward(&[goal], &handles, false, false);
    let mut found = found
        .into_iter()
        .zip(&handles)
        // An undefined gradient means that the metric does not depend on the handle.
        .map(|(gradient, handle)| if gradient.defined() { gradient } else { handle.zeros_like() });
    let mut next = || found.next().unwrap_or_default();
    let layers = residuals
        .into_iter()
        .map(|residual| {
            let projections = [next(), next(), next()];
            let mlp = model.spec.mlp.map(|_| next());
            LayerGradients { projections, residual, head_sum: sums.next().unwrap_or_default(), mlp }
        })
        .collect();
    let last = if above.is_none() { next().squeeze_dim(1) } else { Tensor::new() };
    StretchGradients { layers, last, entering: next() }
}

impl Capture {
    fn new(run: &Run) -> Capture {
        let (spec, dimensions) = (&run.problem.model.spec, run.problem.graph.dimensions);
        Capture {
            per_query_head: dimensions.kv_slots != spec.kv_heads,
            head_sums: spec.placement.after(),
            residuals: Vec::new(),
            sums: Vec::new(),
            handles: Vec::new(),
        }
    }
}
