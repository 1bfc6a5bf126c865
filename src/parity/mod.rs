//! A model's numbers against those that another implementation wrote down.
//!
//! A parity file is `expected.json` in a model's folder, beside the prompts it was made from, `pairs.jsonl` (keys `clean`,
//! `corrupt`, `answer`, `wrong`; the metric is the answers' logit difference). All of its members are optional:
//!
//! - `logits`, `corrupt_logits`: at the last position, a list a pair;
//! - `sites`: tensors of the first clean prompt by the name that the edit grammar gives their site (`L0.in`, `logits`), a
//!   list a position;
//! - `scores`: by method (`EAP`, `EAP-IG-inputs`, `EAP-IG-activations`, `clean-corrupted`, `information-flow-routes`,
//!   `exact`), a number an edge; `null` where the reference has none;
//! - `faithfulness`: by method and number of edges taken by |score|: how many edges are left after pruning, and the
//!   circuit's metric. Circuits that cut through equal scores are left out.

mod file;

use crate::circuit::prune::prune;
use crate::circuit::select::{Rank, top_n};
use crate::dataset::Dataset;
use crate::eval::Bench;
use crate::graph::scores::Scores;
use crate::graph::{Dimensions, Graph, KvSlots};
use crate::intervene::slice::site_name;
use crate::metric::MetricKind;
use crate::model::site::Site;
use crate::model::tap::{NoTap, Tap};
use crate::model::{Loaded, Pass, Start};
use crate::score::{Method, Problem, eap_ig, eap_ig_activations, score};
use file::Expected;
pub use file::{ParityError, pairs};
use indexmap::IndexMap;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

/// A number that is nearly zero beside the others is a sum that cancels, known only to within the rounding of its terms: in
/// f32, the EAP-IG package and penjing are both up to 3e-4 off f64 where a score is a thousandth of the largest.
pub const FLOOR: f64 = 0.002;

/// Scores that are compared relatively. The others are in units of the metric.
const RELATIVE: [&str; 5] =
    ["EAP", "EAP-IG-inputs", "EAP-IG-activations", "clean-corrupted", "information-flow-routes"];

/// One tensor compared.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    pub name: String,
    /// How many numbers it holds.
    pub numbers: usize,
    /// The largest of them in size, as expected.
    pub largest: f64,
    /// The largest difference.
    pub difference: f64,
    /// The largest difference in units of what was expected, or of [`FLOOR`] times the largest where that is more.
    pub relative: f64,
    /// Whether it holds scores of edges, which are compared relatively; all else is compared absolutely.
    pub of_scores: bool,
}

/// Compares everything in the folder's `expected.json` that penjing computes.
///
/// # Errors
/// [`ParityError`] when a file is missing, malformed, or does not fit the model.
pub fn check(folder: &Path, loaded: &Loaded) -> Result<Vec<Row>, ParityError> {
    let path = folder.join("expected.json");
    let expected = file::expected(&path)?;
    let dataset = pairs(folder, loaded)?;
    let comparison = Comparison { path, loaded, dataset: &dataset };
    let mut rows = Vec::new();
    for (name, logits) in [("logits", &expected.logits), ("corrupt_logits", &expected.corrupt_logits)] {
        if let Some(logits) = logits {
            rows.push(comparison.last_logits(name, logits)?);
        }
    }
    for (name, values) in &expected.sites {
        rows.push(comparison.site(name, values)?);
    }
    comparison.scores(&expected, &mut rows)?;
    Ok(rows)
}

struct Comparison<'a> {
    path: PathBuf,
    loaded: &'a Loaded,
    dataset: &'a Dataset,
}

impl Comparison<'_> {
    fn last_logits(&self, name: &str, expected: &[Vec<f64>]) -> Result<Row, ParityError> {
        let _no_grad = tch::no_grad_guard();
        let model = &self.loaded.model;
        let found: Vec<Vec<f64>> = (self.dataset.pairs.iter())
            .map(|pair| {
                let tokens = ids(if name == "logits" { &pair.clean } else { &pair.corrupt }).to_device(model.device);
                numbers(&model.forward(Start::Tokens(&tokens), &Pass::LAST, &mut NoTap))
            })
            .collect();
        self.row(name, found.concat(), expected.concat())
    }

    fn site(&self, name: &str, expected: &[Vec<f64>]) -> Result<Row, ParityError> {
        let _no_grad = tch::no_grad_guard();
        let mut find = Find { name, found: None };
        if let Some(pair) = self.dataset.pairs.first() {
            let tokens = ids(&pair.clean).to_device(self.loaded.model.device);
            let _ = self.loaded.model.forward(Start::Tokens(&tokens), &Pass::ALL, &mut find);
        }
        let found = find.found.ok_or_else(|| self.wrong(format!("the model has no site `{name}`")))?;
        self.row(name, numbers(&found), expected.concat())
    }

    fn scores(&self, expected: &Expected, rows: &mut Vec<Row>) -> Result<(), ParityError> {
        let model = &self.loaded.model;
        let graph = Graph::new(Dimensions::of(&model.spec, KvSlots::PerQueryHead));
        let metric = MetricKind::LogitDifference;
        let methods = [
            ("EAP", Method::Eap),
            ("EAP-IG-inputs", Method::EapIg(eap_ig::Options::default())),
            ("EAP-IG-activations", Method::EapIgActivations(eap_ig_activations::Options::default())),
            ("clean-corrupted", Method::CleanCorrupted),
            ("information-flow-routes", Method::Ifr),
            ("exact", Method::Exact),
        ];
        for (name, method) in methods {
            let (scores, circuits) = (expected.scores.get(name), expected.faithfulness.get(name));
            if scores.is_none() && circuits.is_none() {
                continue;
            }
            let problem = Problem::new(model, &graph, &self.dataset.pairs, metric);
            let found = score(&problem, &method, &mut |_| ())?;
            if let Some(expected) = scores {
                rows.push(self.edges(name, &graph, &found, expected)?);
            }
            let Some(circuits) = circuits else { continue };
            let bench = Bench::new(&problem)?;
            let (mut counts, mut metrics) = ((vec![], vec![]), (vec![], vec![]));
            for (taken, (left, metric)) in circuits {
                if taken.parse().is_ok_and(|taken| cuts_a_tie(&graph, &found, taken)) {
                    continue;
                }
                let top = taken.parse().ok().and_then(|taken| top_n(&graph, &found, taken, Rank::Absolute).ok());
                let top = top.ok_or_else(|| self.wrong(format!("a circuit of `{taken}` edges cannot be had")))?;
                let circuit = prune(&graph, &top);
                counts.0.push(circuit.count() as f64);
                counts.1.push(*left as f64);
                metrics.0.push(bench.circuit(&circuit).mean_metric());
                metrics.1.push(*metric);
            }
            rows.push(self.row(&format!("{name}, edges of pruned circuits"), counts.0, counts.1)?);
            rows.push(self.row(&format!("{name}, metric of pruned circuits"), metrics.0, metrics.1)?);
        }
        Ok(())
    }

    fn edges(
        &self,
        name: &str,
        graph: &Graph,
        found: &Scores,
        expected: &IndexMap<String, Option<f64>>,
    ) -> Result<Row, ParityError> {
        if !graph.edges().iter().map(|&edge| graph.name(edge)).eq(expected.keys().cloned()) {
            return Err(self.wrong(format!("the edges of `{name}` or their order are not those of the model's graph")));
        }
        let pairs = graph.edges().iter().zip(expected.values());
        let (found, expected) =
            pairs.filter_map(|(&edge, expected)| Some((f64::from(found.get(edge)), (*expected)?))).unzip();
        self.row(name, found, expected)
    }

    fn row(&self, name: &str, found: Vec<f64>, expected: Vec<f64>) -> Result<Row, ParityError> {
        if found.len() != expected.len() {
            return Err(self.wrong(format!(
                "`{name}` holds {} numbers, the model gives {}",
                expected.len(),
                found.len()
            )));
        }
        let worst = |of: &dyn Fn(f64, f64) -> f64| {
            // A number that is not one must not be lost in a maximum.
            found
                .iter()
                .zip(&expected)
                .map(|(a, b)| of(*a, *b))
                .fold(0.0, |worst: f64, next| if next.is_nan() { f64::INFINITY } else { worst.max(next) })
        };
        let largest = worst(&|_, b| b.abs());
        Ok(Row {
            name: name.to_owned(),
            numbers: found.len(),
            largest,
            difference: worst(&|a, b| (a - b).abs()),
            of_scores: RELATIVE.contains(&name),
            relative: worst(&|a, b| if a == b { 0.0 } else { (a - b).abs() / b.abs().max(largest * FLOOR) }),
        })
    }

    fn wrong(&self, message: String) -> ParityError {
        ParityError::Content { path: self.path.clone(), message }
    }
}

/// Whether the edge that just gets into a circuit of `taken` edges and the one that just does not have the same |score| to
/// within rounding: then which of them is in is chance (q, k and v of a head have the same scores by `ifr`).
fn cuts_a_tie(graph: &Graph, scores: &Scores, taken: usize) -> bool {
    let mut sizes: Vec<f32> = graph.edges().iter().map(|&edge| scores.get(edge).abs()).collect();
    sizes.sort_by(|a, b| b.total_cmp(a));
    match (taken.checked_sub(1).and_then(|last| sizes.get(last)), sizes.get(taken)) {
        (Some(last), Some(next)) => last - next <= 1e-5 * last,
        _ => false,
    }
}

/// Finds a site by its name.
struct Find<'a> {
    name: &'a str,
    found: Option<Tensor>,
}

impl Tap for Find<'_> {
    fn wants(&self, site: Site) -> bool {
        site_name(site) == self.name
    }

    fn at(&mut self, _: Site, value: Tensor) -> Tensor {
        self.found = Some(value.shallow_clone());
        value
    }
}

fn ids(tokens: &[u32]) -> Tensor {
    let ids: Vec<i64> = tokens.iter().map(|&id| i64::from(id)).collect();
    Tensor::from_slice(&ids).unsqueeze(0) // [1, pos]
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.to_kind(Kind::Double).flatten(0, -1);
    Vec::try_from(flat).unwrap_or_default()
}
