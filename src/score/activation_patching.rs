//! Activation patching of every node or neuron by itself: what attribution patching estimates, measured.
//!
//! score(u) = m(clean run) − m(clean run in which u carries its ablated value at every position).
//!
//! Papers: Vig et al., arXiv:2004.12265 (causal mediation); Meng et al., arXiv:2202.05262; Zhang and Nanda, arXiv:2309.16042
//! (practice).
//! Cost: one pass for each unit, from its layer upwards only; the units of one site run side by side in one batch, and all of
//! them share the prefix.
//! Not for: all neurons of large models. GPT-2 small has 36,864.

use super::Run;
use super::method::{Listing, Scorer, Work};
use super::state::{Ledger, Stopped};
use super::units::{Part, parts};
use crate::graph::{Graph, Level};
use crate::measure::memory::{Needs, rows_side_by_side};
use crate::model::site::Site;
use crate::model::tap::Tap;
use crate::model::{Pass, Start};
use ndarray::Array2;
use tch::{Kind, Tensor};

pub const LISTING: Listing = Listing {
    name: "activation-patching",
    about: "every node or neuron patched by itself",
    passes: "2 forward, and 1 from its layer upwards for each unit",
    memory: "activations of two runs, 256 MB of units side by side",
};

pub(super) struct ActivationPatching;

impl Scorer for ActivationPatching {
    fn listing(&self) -> &'static Listing {
        &LISTING
    }

    fn levels(&self) -> &'static [Level] {
        &[Level::Node, Level::Neuron]
    }

    fn needs(&self) -> Needs {
        Needs { passes: 0, differences_last: true }
    }

    fn work(&self, _: &Graph) -> Work {
        Work { patched_units: true, ..Work::with_backward(0) }
    }

    fn uses_gradients(&self) -> bool {
        false
    }

    fn by_position(&self) -> bool {
        true
    }

    fn score_batch(&self, run: &Run, ledger: &mut Ledger) -> Result<Array2<f64>, Stopped> {
        let _no_grad = tch::no_grad_guard();
        let (model, batch) = (run.problem.model, run.batch);
        let (clean, ablated) = (run.clean(), run.ablated());
        let reference = clean.logits.log_softmax(-1, None::<Kind>); // [batch, vocab]
        let whole = run.metric(&clean.logits, Some(&reference)); // [batch]
        let (rows, pos) = (batch.clean.size()[0], batch.clean.size()[1]);
        let at_once = (rows_side_by_side(&model.spec) / (rows * pos) as usize).max(1);
        let masks = run.masks();
        let chunks: Vec<(Part, usize, std::ops::Range<usize>)> = parts(run)
            .into_iter()
            .flat_map(|part| {
                let firsts = part.rows.clone().step_by(at_once);
                let ends = part.rows.end;
                let chunk = move |first: usize| first..(first + at_once).min(ends);
                let of_spans = (0..run.spans()).flat_map(move |span| firsts.clone().map(move |first| (span, first)));
                let (all, site) = (part.rows, part.site);
                of_spans.map(move |(span, first)| (Part { rows: all.clone(), site }, span, chunk(first)))
            })
            .collect();
        ledger.steps(chunks.len(), |step, sums| {
            let (part, span, chunk) = &chunks[step];
            let copies = chunk.len() as i64;
            let mut patch = Patch {
                site: part.site,
                units: part.rows.len() as i64,
                first: (chunk.start - part.rows.start) as i64,
                copies,
                with: part.carried(run, &ablated),
                mask: masks[*span].as_ref().map(Tensor::shallow_clone),
            };
            let past = run.past.map(|past| past.repeat(copies));
            let tokens = batch.clean.repeat([copies, 1]); // [unit · batch, pos]
            // From its layer on a run with a site patched differs from the clean one.
            let start = match part.site.layer() {
                None => Start::Tokens(&tokens),
                Some(layer) => Start::Residual { layer, value: clean.before_attention[layer.0].repeat([copies, 1, 1]) },
            };
            let logits = model.forward(start, &Pass::after(past.as_ref()), &mut patch).squeeze_dim(1);
            let logits = logits.view([copies, rows, -1]); // [unit, batch, vocab]
            for (index, row) in chunk.clone().enumerate() {
                let without = run.metric(&logits.get(index as i64), Some(&reference)); // [batch]
                run.put(sums, [row, 0], 1, *span, &(&whole - without));
            }
        })
    }
}

/// Lets in each copy of the batch one unit of a site carry something else, from the unit `first` on.
struct Patch {
    site: Site,
    units: i64,
    first: i64,
    copies: i64,
    with: Tensor,         // [batch, pos, ..]
    mask: Option<Tensor>, // [batch, pos, 1], where it does so
}

impl Tap for Patch {
    fn wants(&self, site: Site) -> bool {
        site == self.site
    }

    fn at(&mut self, _: Site, value: Tensor) -> Tensor {
        let (batch, pos) = (self.with.size()[0], self.with.size()[1]);
        let patched = value.copy();
        let apart = patched.view([self.copies, batch, pos, self.units, -1]);
        let with = self.with.view([batch, pos, self.units, -1]);
        for copy in 0..self.copies {
            let mut place = apart.get(copy).select(2, self.first + copy); // [batch, pos, size]
            let with = with.select(2, self.first + copy); // [batch, pos, size]
            let with = match &self.mask {
                Some(mask) => &place + (with - &place) * mask,
                None => with,
            };
            place.copy_(&with);
        }
        patched
    }
}
