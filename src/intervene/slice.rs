//! One site of one model, or some heads or neurons of it: what an address becomes once the model is known.

use super::address::{HeadPart, MOST_FEATURES, NeuronPart, Numbers, Part, Place, Whole, name as written};
use crate::model::site::Site;
use crate::model::spec::{Branch, Layer, Spec};
use std::fmt;

/// A site and, where it has heads, neurons or features, which of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SiteSlice {
    pub site: Site,
    /// Heads, neurons or features in the order written; `None` is the whole of a site that has none of them.
    pub units: Option<Vec<usize>>,
    /// The dictionary that units are features of.
    pub dictionary: Option<String>,
}

/// What one vector written to a slice looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    Values(usize),
    /// Attention probabilities: as many values as there are keys.
    Keys,
}

impl fmt::Display for Width {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Width::Values(1) => f.write_str("1 value"),
            Width::Values(count) => write!(f, "{count} values"),
            Width::Keys => f.write_str("one probability per key"),
        }
    }
}

/// A place that the model does not have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missing {
    /// `layer`, `head` or `neuron`.
    pub kind: &'static str,
    pub number: usize,
    pub count: usize,
    /// As edits write it.
    pub nearest: String,
}

impl SiteSlice {
    /// The whole of a site.
    pub fn whole(site: Site) -> SiteSlice {
        SiteSlice { site, units: None, dictionary: None }
    }

    /// Several neurons or features are one vector; several heads are several vectors.
    pub fn vectors(&self) -> usize {
        match (self.site, &self.units) {
            _ if self.dictionary.is_some() => 1,
            (Site::MlpPre(_) | Site::MlpPost(_), _) | (_, None) => 1,
            (_, Some(units)) => units.len(),
        }
    }

    /// The length of each vector.
    pub fn width(&self, spec: &Spec) -> Width {
        match (self.site, &self.units) {
            (Site::Pattern(_), _) => Width::Keys,
            (Site::MlpPre(_) | Site::MlpPost(_), Some(units)) => Width::Values(units.len()),
            (_, Some(units)) if self.dictionary.is_some() => Width::Values(units.len()),
            _ => Width::Values(self.site.shape(spec).last().copied().unwrap_or(0)),
        }
    }
}

impl Place {
    /// The slices that this place names in a model, in the order written.
    pub fn slices(&self, spec: &Spec) -> Result<Vec<SiteSlice>, Missing> {
        let Place::Layers(layers, part) = self else {
            let site = if *self == Place::Embedding { Site::TokenEmbedding } else { Site::FinalIn };
            return Ok(vec![SiteSlice::whole(site)]);
        };
        let (units, count, kind) = match part {
            Part::Head(heads, HeadPart::Key | HeadPart::Value) => (Some(heads), spec.kv_heads, "KV head"),
            Part::Head(heads, _) => (Some(heads), spec.heads, "head"),
            Part::Neuron(neurons, _) => (Some(neurons), spec.d_mlp, "neuron"),
            Part::Feature(_, _, features) => (Some(features), MOST_FEATURES, "feature"),
            _ => (None, 0, ""),
        };
        let with_units = |part: &Part, units: Numbers| match part {
            Part::Head(_, head) => Part::Head(units, *head),
            Part::Neuron(_, neuron) => Part::Neuron(units, *neuron),
            Part::Feature(whole, dictionary, _) => Part::Feature(*whole, dictionary.clone(), units),
            other => other.clone(),
        };
        let layers = layers.expand(spec.layers).map_err(|number| {
            let part = match units {
                Some(Numbers::Spans(spans)) if spans.iter().any(|span| span.last >= count) => {
                    with_units(part, Numbers::one(count.saturating_sub(1)))
                }
                _ => part.clone(),
            };
            let nearest = Place::Layers(Numbers::one(spec.layers.saturating_sub(1)), part).to_string();
            Missing { kind: "layer", number, count: spec.layers, nearest }
        })?;
        let units = match units.map(|units| units.expand(count)) {
            None => None,
            Some(Ok(units)) => Some(units),
            Some(Err(number)) => {
                let part = with_units(part, Numbers::one(count.saturating_sub(1)));
                let nearest = Place::Layers(Numbers::compact(&layers), part).to_string();
                return Err(Missing { kind, number, count, nearest });
            }
        };
        let slice = |layer| {
            let (site, dictionary) = (part.site(Layer(layer)), self.dictionary().map(str::to_owned));
            SiteSlice { site, units: units.clone(), dictionary }
        };
        Ok(layers.into_iter().map(slice).collect())
    }
}

impl Part {
    pub fn site(&self, layer: Layer) -> Site {
        match self {
            Part::Whole(whole) | Part::Feature(whole, ..) => match whole {
                Whole::Out => Site::BlockOut(layer),
                Whole::In => Site::BlockIn(layer),
                Whole::Mid => Site::Mid(layer),
                Whole::Attention => Site::AttentionOut(layer),
                Whole::Mlp => Site::MlpOut(layer),
            },
            Part::Head(_, HeadPart::Out) => Site::HeadOut(layer),
            Part::Head(_, HeadPart::Query) => Site::Projection(layer, Branch::Query),
            Part::Head(_, HeadPart::Key) => Site::Projection(layer, Branch::Key),
            Part::Head(_, HeadPart::Value) => Site::Projection(layer, Branch::Value),
            Part::Head(_, HeadPart::Z) => Site::Z(layer),
            Part::Head(_, HeadPart::Pattern) => Site::Pattern(layer),
            Part::Neuron(_, NeuronPart::Post) => Site::MlpPost(layer),
            Part::Neuron(_, NeuronPart::Pre) => Site::MlpPre(layer),
        }
    }
}

/// A site as the grammar writes it. Sites that only methods use, and no edit names, print in the same manner.
pub fn site_name(site: Site) -> String {
    name(site, "*")
}

impl fmt::Display for SiteSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.units.as_ref().map(|units| Numbers::compact(units).to_string());
        let units = units.as_deref().unwrap_or("*");
        f.write_str(&name(self.site, units))?;
        self.dictionary.as_ref().map_or(Ok(()), |dictionary| write!(f, ".sae({}).F{units}", written(dictionary)))
    }
}

fn name(site: Site, units: &str) -> String {
    match site {
        Site::TokenEmbedding => "emb".into(),
        Site::FinalIn => "final".into(),
        Site::Logits => "logits".into(),
        Site::BlockIn(Layer(layer)) => format!("L{layer}.in"),
        Site::BlockOut(Layer(layer)) => format!("L{layer}"),
        Site::Mid(Layer(layer)) => format!("L{layer}.mid"),
        Site::AttentionOut(Layer(layer)) => format!("L{layer}.attn"),
        Site::MlpOut(Layer(layer)) => format!("L{layer}.mlp"),
        Site::HeadOut(Layer(layer)) => format!("L{layer}.H{units}"),
        Site::Projection(Layer(layer), branch) => format!("L{layer}.H{units}.{branch}"),
        Site::Z(Layer(layer)) => format!("L{layer}.H{units}.z"),
        Site::Pattern(Layer(layer)) => format!("L{layer}.H{units}.pattern"),
        Site::MlpPre(Layer(layer)) => format!("L{layer}.N{units}.pre"),
        Site::MlpPost(Layer(layer)) => format!("L{layer}.N{units}"),
        Site::AttentionIn(Layer(layer), branch) => format!("L{layer}.H{units}.{branch}.in"),
        Site::PerQueryHead(Layer(layer), branch) => format!("L{layer}.H{units}.{branch}.per-query-head"),
        Site::HeadSum(Layer(layer)) => format!("L{layer}.heads"),
        Site::MlpIn(Layer(layer)) => format!("L{layer}.mlp.in"),
    }
}
