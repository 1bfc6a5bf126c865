//! Self-repair: how much of a component's direct effect on the logits later components and the final norm make up for when it
//! is ablated.
//!
//! With u = the unembedding's direction of the right answers less that of the wrong ones (their means), s(x) = the scale of the
//! final norm at x, g its gain, x = the residual stream at the last position and c = what the ablation takes out of it:
//!
//! - direct effect DE = u · g(c) / s(x), the scale frozen;
//! - total effect TE = the change of the logits along u when c is ablated and all that follows computed anew;
//! - self-repair = TE + DE = norm part + component part;
//! - norm part = what TE + DE would be with all later components frozen: s(x − c) in the place of s(x);
//! - component part = for each later head, attention or MLP k the change of its own direct effect, u · g(Δk) / s(x), and what the
//!   final norm's scale does again because they changed.
//!
//! Papers: McGrath et al., arXiv:2307.15771; Rushing and Nanda, arXiv:2402.15390. Everything is read where it is added to the
//! residual stream, so parallel blocks and norms after the blocks are no exceptions: c is then the change of what the layer's
//! attention or MLP adds, and what is not a single head's (through such a norm) is listed as the rest of the attention. Logits
//! are those before a cap. Cost: two forwards a prompt. Not to be used to call a component unimportant: repair says that others
//! write what it wrote, not that the model works without both.

use super::row;
use super::vectors::Encoded;
use crate::intervene::failure::RunError;
use crate::intervene::plan::Plan;
use crate::intervene::run::{PlanTap, Supplies};
use crate::intervene::slice::SiteSlice;
use crate::measure::sources::heads_from_z;
use crate::model::site::Site;
use crate::model::spec::{Layer, Spec};
use crate::model::tap::Tap;
use crate::model::weights::wide;
use crate::model::{Model, Pass, Start};
use tch::{Device, Kind, Tensor};

/// Answers whose logits are compared; without wrong ones the right ones' logits by themselves.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Answers {
    pub right: Vec<u32>,
    pub wrong: Vec<u32>,
}

/// What ablating one component does to one prompt, in logits.
#[derive(Clone, PartialEq, Debug)]
pub struct Repair {
    pub direct: f64,
    pub total: f64,
    pub norm: f64,
    /// Of each of [`later`], the change of its direct effect: positive is repair.
    pub components: Vec<f64>,
    /// What the final norm's scale does beyond the norm part, since the later components changed.
    pub rescaled: f64,
}

impl Repair {
    /// TE + DE.
    pub fn repaired(&self) -> f64 {
        self.total + self.direct
    }

    /// How far the parts are from adding up to the total effect: rounding, or a mistake.
    pub fn residue(&self) -> f64 {
        self.repaired() - self.norm - self.components.iter().sum::<f64>() - self.rescaled
    }
}

/// A part of a layer that adds to the residual stream by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Head(usize, usize),
    /// Where a norm follows the attention: what is not a single head's.
    RestOfAttention(usize),
    Mlp(usize),
}

/// Whether an ablation of this slice takes something out of the residual stream that has a direct effect: a head's output, an
/// attention, an MLP, or neurons after their non-linearity.
pub fn is_component(slice: &SiteSlice) -> bool {
    matches!(slice.site, Site::HeadOut(_) | Site::AttentionOut(_) | Site::MlpOut(_) | Site::MlpPost(_))
}

fn in_mlp(site: Site) -> bool {
    matches!(site, Site::MlpOut(_) | Site::MlpPost(_))
}

fn parts(spec: &Spec, site: Site) -> Vec<Part> {
    let own = site.layer().map_or(0, |Layer(layer)| layer);
    let mlp = |layer| spec.mlp.is_some().then_some(Part::Mlp(layer));
    let beside = if in_mlp(site) { None } else { mlp(own) };
    let of_layer = |layer| {
        let rest = spec.placement.after().then_some(Part::RestOfAttention(layer));
        (0..spec.heads).map(move |head| Part::Head(layer, head)).chain(rest).chain(mlp(layer))
    };
    beside.into_iter().chain((own + 1..spec.layers).flat_map(of_layer)).collect()
}

/// The names of the components after a site, in the order of [`Repair::components`].
pub fn later(spec: &Spec, site: Site) -> Vec<String> {
    let name = |part: &Part| match part {
        Part::Head(layer, head) => format!("L{layer}.H{head}"),
        Part::RestOfAttention(layer) => format!("L{layer}.attn, rest"),
        Part::Mlp(layer) => format!("L{layer}.mlp"),
    };
    parts(spec, site).iter().map(name).collect()
}

/// Ablates the slice that all edits of the plan write, in one prompt.
///
/// # Errors
/// [`RunError`] as a single run.
pub fn repair(
    model: &Model,
    (tokens, prompt): &Encoded,
    (plan, site, supplies): (&Plan, Site, &Supplies),
    answers: &Answers,
) -> Result<Repair, RunError> {
    let _no_grad = tch::no_grad_guard();
    let tokens = row(model, tokens);
    let [mut clean, mut ablated] = [(); 2].map(|()| Written::default());
    let _ = model.forward(Start::Tokens(&tokens), &Pass::LAST, &mut clean);
    let mut tap = PlanTap::new(plan, &model.spec, std::slice::from_ref(prompt), supplies, None)?;
    let _ = model.forward(Start::Tokens(&tokens), &Pass::LAST, &mut (&mut tap, &mut ablated));
    tap.finish()?;
    let direction = direction(model, answers); // [d_model]
    let norm = &model.weights.final_norm;
    // What a part of the stream is worth at the scale that the norm has at `at`; a bias of the norm is nobody's.
    let worth = |at: &Tensor, part: &Tensor| norm.part(at, part).dot(&direction).double_value(&[]);
    let (before, after) = (&clean.last, &ablated.last); // [d_model]
    let own = site.layer().map_or(0, |Layer(layer)| layer);
    let of_site = |written: &Written| if in_mlp(site) { written.mlp(own) } else { written.attention(own) };
    let taken = of_site(&clean) - of_site(&ablated); // [d_model]
    let direct = worth(before, &taken);
    let without = before - &taken; // [d_model]
    let norm_part = worth(&without, &without) - worth(before, &without);
    let changes = changes(model, site, &clean, &ablated);
    Ok(Repair {
        direct,
        total: worth(after, after) - worth(before, before),
        norm: norm_part,
        components: changes.iter().map(|change| worth(before, change)).collect(),
        rescaled: worth(after, after) - worth(before, after) - norm_part,
    })
}

/// What each later part adds in the ablated run less what it adds in the clean one: `[d_model]` each, f64.
fn changes(model: &Model, site: Site, clean: &Written, ablated: &Written) -> Vec<Tensor> {
    let heads = |layer: usize| clean.heads(model, layer).zip(ablated.heads(model, layer)).map(|(a, b)| b - a);
    let mut of_layer: (Option<usize>, Option<Tensor>) = (None, None); // [head, d_model]
    let mut change = |part: Part| match part {
        Part::Mlp(layer) => ablated.mlp(layer) - clean.mlp(layer),
        Part::Head(layer, head) => {
            if of_layer.0 != Some(layer) {
                of_layer = (Some(layer), heads(layer));
            }
            of_layer.1.as_ref().map_or_else(Tensor::new, |heads| heads.get(head as i64))
        }
        Part::RestOfAttention(layer) => {
            let whole = ablated.attention(layer) - clean.attention(layer);
            heads(layer).map_or(whole.shallow_clone(), |heads| whole - heads.sum_dim_intlist(0, false, None::<Kind>))
        }
    };
    parts(&model.spec, site).into_iter().map(&mut change).collect()
}

/// u: `[d_model]`, f64, before the final norm's gain.
fn direction(model: &Model, answers: &Answers) -> Tensor {
    let mean = |ids: &[u32]| {
        let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        let columns =
            model.weights.unembedding.weight.index_select(1, &Tensor::from_slice(&ids).to_device(model.device));
        columns.to_kind(Kind::Double).mean_dim(1, false, Kind::Double)
    };
    if answers.wrong.is_empty() { mean(&answers.right) } else { mean(&answers.right) - mean(&answers.wrong) }
}

/// What is added to the residual stream at the last position, by layer; f64.
#[derive(Default)]
struct Written {
    attentions: Vec<Tensor>, // [d_model]
    mlps: Vec<Tensor>,       // [d_model]
    z: Vec<Tensor>,          // [head, d_head]
    sums: Vec<Tensor>,       // [d_model]
    last: Tensor,            // [d_model]
}

impl Tap for Written {
    fn wants(&self, site: Site) -> bool {
        use Site::*;
        matches!(site, AttentionOut(_) | MlpOut(_) | Z(_) | HeadSum(_) | FinalIn)
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        let last = value.get(0).get(-1).to_kind(Kind::Double);
        match site {
            Site::AttentionOut(_) => self.attentions.push(last),
            Site::MlpOut(_) => self.mlps.push(last),
            Site::Z(_) => self.z.push(last),
            Site::HeadSum(_) => self.sums.push(last),
            _ => self.last = last,
        }
        value
    }
}

impl Written {
    fn attention(&self, layer: usize) -> Tensor {
        self.attentions[layer].shallow_clone()
    }

    fn mlp(&self, layer: usize) -> Tensor {
        self.mlps[layer].shallow_clone()
    }

    /// What each head adds, through the norm that may follow, at its scale: `[head, d_model]`.
    fn heads(&self, model: &Model, layer: usize) -> Option<Tensor> {
        let block = model.weights.blocks.get(layer)?;
        let z = self.z[layer].view([1, 1, model.spec.heads as i64, -1]); // [1, 1, head, d_head]
        let heads = heads_from_z(model, Layer(layer), &z.to_kind(model.kind())).squeeze_dim(1).to_kind(Kind::Double);
        Some(block.attention_after.part(&self.sums[layer], &heads))
    }
}

/// A component's direct effect.
#[derive(Clone, PartialEq, Debug)]
pub struct Direct {
    pub name: String,
    pub effect: f64,
}

/// The direct effects on one prompt of every head and MLP, and of every neuron, in the order of the layers. Where a norm follows
/// what they add, heads and neurons have its scale frozen.
pub fn direct(model: &Model, (tokens, _): &Encoded, answers: &Answers) -> [Vec<Direct>; 2] {
    let _no_grad = tch::no_grad_guard();
    let (mut written, mut neurons) = (Written::default(), Neurons::default());
    let tokens = row(model, tokens);
    let _ = model.forward(Start::Tokens(&tokens), &Pass::LAST, &mut (&mut written, &mut neurons));
    let direction = direction(model, answers); // [d_model]
    let norm = &model.weights.final_norm;
    let numbers = |tensor: Tensor| Vec::<f64>::try_from(tensor.to_device(Device::Cpu)).unwrap_or_default();
    let worth = |parts: &Tensor| numbers(norm.part(&written.last, parts).matmul(&direction));
    let [mut parts, mut of_neurons] = [Vec::new(), Vec::new()];
    for (layer, block) in model.weights.blocks.iter().enumerate() {
        let heads = written.heads(model, layer).map(|heads| worth(&heads)).unwrap_or_default().into_iter();
        parts.extend(heads.enumerate().map(|(head, effect)| Direct { name: format!("L{layer}.H{head}"), effect }));
        let Some(mlp) = &block.mlp else { continue };
        let whole = worth(&written.mlp(layer).unsqueeze(0)).into_iter();
        parts.extend(whole.map(|effect| Direct { name: format!("L{layer}.mlp"), effect }));
        let post = neurons.0[layer].to_kind(Kind::Double).unsqueeze(1); // [d_mlp, 1]
        let rows = wide(&mlp.output.weight).to_kind(Kind::Double) * &post; // [d_mlp, d_model]
        let sum = mlp.output.apply(&neurons.0[layer]).to_kind(Kind::Double); // [d_model]
        let of_layer = worth(&mlp.after.part(&sum, &rows)).into_iter().enumerate();
        of_neurons.extend(of_layer.map(|(neuron, effect)| Direct { name: format!("L{layer}.N{neuron}"), effect }));
    }
    [parts, of_neurons]
}

/// Keeps the neurons of each layer at the last position: `[d_mlp]`.
#[derive(Default)]
struct Neurons(Vec<Tensor>);

impl Tap for Neurons {
    fn wants(&self, site: Site) -> bool {
        matches!(site, Site::MlpPost(_))
    }

    fn at(&mut self, _: Site, value: Tensor) -> Tensor {
        self.0.push(value.get(0).get(-1));
        value
    }
}
