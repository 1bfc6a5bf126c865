//! The gradient of the metric at every destination slot, without a copy of the residual stream per head.
//!
//! One ordinary forward and one backward give ∂m/∂q, ∂m/∂k and ∂m/∂v after projection, where each head has only d_head
//! numbers. The gradient at the private input of a head is then exact in closed form (`contract.rs`).
//! Memory: `3 · d_model` numbers a token and layer instead of `3 · heads · d_model`.
//!
//! The backward runs over some layers at a time: from the residual stream that enters them, they are run forward again and
//! back, so that the graph of those layers alone is ever alive.

use super::Run;
use crate::graph::Level;
use crate::measure::sources::{Activations, Recorder};
use crate::model::Start;
use crate::model::site::Site;
use crate::model::spec::{Branch, Layer};
use crate::model::tap::{NoTap, Tap};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Gradients of one pass at the sites that the level needs, and what was seen on the way.
pub(super) struct Gradients {
    gradients: BTreeMap<Site, Tensor>,
    /// The residual stream before each attention, and sums of heads before a norm that follows: `[batch, pos, d_model]`.
    seen: BTreeMap<Site, Tensor>,
    entering: Tensor, // [batch, pos, d_model], at what enters the first layer
}

impl Gradients {
    /// At a site, of the site's shape. What a site of the embedding has is what enters the first layer has.
    pub(super) fn at(&self, site: Site) -> Tensor {
        let of_embedding = || (site == Site::TokenEmbedding).then_some(&self.entering);
        self.gradients.get(&site).or_else(of_embedding).map_or_else(Tensor::new, Tensor::shallow_clone)
    }

    /// What the slots of a layer need.
    pub(super) fn layer(&self, run: &Run, layer: Layer) -> LayerGradients {
        let seen = |site| self.seen.get(&site).map_or_else(Tensor::new, Tensor::shallow_clone);
        LayerGradients {
            projections: Branch::ALL.map(|branch| self.at(projection(run, layer, branch))),
            residual: seen(Site::BlockIn(layer)),
            head_sum: seen(Site::HeadSum(layer)),
            mlp: self.gradients.get(&Site::MlpIn(layer)).map(Tensor::shallow_clone),
        }
    }

    /// At the last position before the final norm: `[batch, d_model]`.
    pub(super) fn last(&self) -> Tensor {
        self.at(Site::FinalIn).squeeze_dim(1)
    }
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

/// Where the queries, keys or values of a layer are one for each slot.
pub(super) fn projection(run: &Run, layer: Layer, branch: Branch) -> Site {
    let per_query_head = run.problem.graph.dimensions.kv_slots != run.problem.model.spec.kv_heads;
    match branch {
        Branch::Key | Branch::Value if per_query_head => Site::PerQueryHead(layer, branch),
        _ => Site::Projection(layer, branch),
    }
}

/// Keeps the handles that gradients are wanted for.
struct Capture<'a> {
    run: &'a Run<'a>,
    seen: BTreeMap<Site, Tensor>,
    handles: BTreeMap<Site, Tensor>,
}

impl Capture<'_> {
    fn is_seen(&self, site: Site) -> bool {
        match site {
            Site::BlockIn(_) => true,
            Site::HeadSum(_) => self.run.problem.model.spec.placement.after(),
            _ => false,
        }
    }
}

impl Tap for Capture<'_> {
    fn wants(&self, site: Site) -> bool {
        let is_projection = |layer, branch| projection(self.run, layer, branch) == site;
        match (self.run.problem.level, site) {
            (Level::Edge, Site::MlpIn(_) | Site::FinalIn) => true,
            (Level::Edge | Level::Node, Site::Projection(layer, branch) | Site::PerQueryHead(layer, branch)) => {
                is_projection(layer, branch)
            }
            (Level::Node, Site::Z(_) | Site::MlpOut(_)) | (Level::Neuron, Site::Z(_) | Site::MlpPost(_)) => true,
            (_, Site::Pattern(_)) => self.run.patterns,
            (_, Site::BlockOut(_)) => self.run.residuals,
            (Level::Edge, _) => self.is_seen(site),
            _ => false,
        }
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        if self.is_seen(site) {
            self.seen.insert(site, value.detach());
            return value;
        }
        // What an edit put there is a constant, which can have a gradient all the same.
        let value = if value.requires_grad() { value } else { value.detach().set_requires_grad(true) };
        self.handles.insert(site, value.shallow_clone());
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
    let stretches = stretches(model.spec.layers, run.stretch);
    for (index, layers) in stretches.iter().enumerate() {
        entering.push(residual.shallow_clone());
        if index + 1 < stretches.len() {
            residual = model.some_blocks(layers.clone(), residual, &run.pass(), edit);
        }
    }
    entering
}

/// The first `layers` layers in stretches of at most `stretch`.
fn stretches(layers: usize, stretch: usize) -> Vec<std::ops::Range<usize>> {
    (0..layers).step_by(stretch.max(1)).map(|first| first..(first + stretch.max(1)).min(layers)).collect()
}

/// The gradient of the summed metric in a run with an edit, from the residual stream `[batch, pos, d_model]` that enters
/// each stretch of layers.
pub(super) fn gradients(run: &Run, entering: &[Tensor], reference: Option<&Tensor>, edit: &mut impl Tap) -> Gradients {
    backwards(run, run.problem.model.spec.layers, entering, None, reference, edit)
}

/// The gradients when nothing passes back through what a layer adds, from those of the same run when all does: above the layer
/// they are the same, in it there are none, and what enters it has the gradient of what leaves it.
pub(super) fn gradients_without(run: &Run, dropped: Layer, whole: &Gradients, entering: &[Tensor]) -> Gradients {
    let nothing = || Gradients { gradients: BTreeMap::new(), seen: BTreeMap::new(), entering: Tensor::new() };
    let above = Gradients { entering: whole.at(Site::BlockOut(dropped)), ..nothing() };
    let mut found = backwards(run, dropped.0, entering, Some(above), None, &mut NoTap);
    let later = whole.gradients.iter().filter(|(site, _)| site.layer() > Some(dropped));
    found.gradients.extend(later.map(|(&site, gradient)| (site, gradient.shallow_clone())));
    found
}

/// The gradients of the first `layers` layers from those above them, or from the metric.
fn backwards(
    run: &Run,
    layers: usize,
    entering: &[Tensor],
    mut found: Option<Gradients>,
    reference: Option<&Tensor>,
    edit: &mut impl Tap,
) -> Gradients {
    for (stretch, entering) in stretches(layers, run.stretch).into_iter().zip(entering).rev() {
        let above = found.as_ref().map(|found| &found.entering);
        let mut of_stretch = of_stretch(run, stretch, entering, above, reference, edit);
        if let Some(mut above) = found {
            of_stretch.gradients.append(&mut above.gradients);
            of_stretch.seen.append(&mut above.seen);
        }
        found = Some(of_stretch);
    }
    found.unwrap_or_else(|| Gradients { gradients: BTreeMap::new(), seen: BTreeMap::new(), entering: Tensor::new() })
}

/// [`gradients`] of a run that was not recorded yet, and what it recorded; one pass does both where all layers run backwards
/// together. Without a `reference` the run is its own.
pub(super) fn gradients_and_record(
    run: &Run,
    reference: Option<&Tensor>,
    edit: &mut impl Tap,
) -> (Gradients, Activations) {
    let model = run.problem.model;
    let mut recorder = Recorder::new(model, run.problem.level);
    if run.stretch >= model.spec.layers {
        let embedded = tch::no_grad(|| model.embed(&run.batch.clean, run.past, &mut (&mut *edit, &mut recorder))); // [batch, pos, d_model]
        let gradients = gradients(run, &[embedded], reference, &mut (edit, &mut recorder));
        return (gradients, recorder.finish());
    }
    let _ = tch::no_grad(|| {
        model.forward(Start::Tokens(&run.batch.clean), &run.pass(), &mut (&mut *edit, &mut recorder)) // [batch, 1, vocab]
    });
    let recorded = recorder.finish();
    let entering = entering_as_recorded(run, &recorded);
    let of_itself = recorded.logits.log_softmax(-1, None::<Kind>); // [batch, vocab]
    (gradients(run, &entering, reference.or(Some(&of_itself)), edit), recorded)
}

/// [`entering`] of a run that was recorded.
pub(super) fn entering_as_recorded(run: &Run, recorded: &Activations) -> Vec<Tensor> {
    let stretches = stretches(run.problem.model.spec.layers, run.stretch);
    stretches.into_iter().map(|layers| recorded.before_attention[layers.start].shallow_clone()).collect() // [batch, pos, d_model]
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
) -> Gradients {
    let model = run.problem.model;
    let start = entering.detach().set_requires_grad(true); // [batch, pos, d_model]
    let mut capture = Capture { run, seen: BTreeMap::new(), handles: BTreeMap::new() };
    let tap = &mut (edit, &mut capture);
    let out = model.some_blocks(stretch, start.shallow_clone(), &run.pass(), tap); // [batch, pos, d_model]
    let goal = match above {
        None => {
            let logits = model.read(&out, &run.pass(), tap).squeeze_dim(1); // [batch, vocab]
            run.metric(&logits, reference).sum(None::<Kind>)
        }
        Some(gradient) => (out * gradient).sum(None::<Kind>),
    }; // []
    let Capture { seen, handles, .. } = capture;
    let wanted: Vec<&Tensor> = handles.values().chain([&start]).collect();
    let found = Tensor::run_backward(&[goal], &wanted, false, false);
    let mut found = found
        .into_iter()
        .zip(&wanted)
        // An undefined gradient means that the metric does not depend on the handle.
        .map(|(gradient, handle)| if gradient.defined() { gradient } else { handle.zeros_like() });
    let gradients: BTreeMap<Site, Tensor> = handles.keys().copied().zip(found.by_ref()).collect();
    Gradients { gradients, seen, entering: found.next().unwrap_or_default() }
}
