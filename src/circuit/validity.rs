//! Where the numbers of a report do not mean what they seem to mean.
//!
//! A normalised faithfulness is a ratio: it says nothing where its denominator is noise, and a circuit that lacks what hurts
//! goes beyond 1 (published faithfulness of this kind reaches 10, which is no evidence of a good circuit).

use super::report::Report;
use crate::statistics::binomial::wilson;
use crate::statistics::interval::FEWEST_PAIRS;
use std::fmt;

/// Something to know before a number is believed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Warning {
    FaithfulnessAboveOne { faithfulness: f64 },
    CircuitBetterThanModel { circuit: f64, model: f64 },
    MetricNearZero { metric: f64, error: f64 },
    CorruptionKeepsAnswer { share: f64 },
    FewPairs { pairs: usize },
}

/// 95 % by the normal distribution.
const TWO_ERRORS: f64 = 1.96;

/// What has to be known of a report, the gravest first.
pub fn warnings(report: &Report) -> Vec<Warning> {
    let mut found = Vec::new();
    if report.metric_model.abs() <= TWO_ERRORS * report.metric_model_error {
        found.push(Warning::MetricNearZero { metric: report.metric_model, error: report.metric_model_error });
    }
    let kept = (report.accuracy_ablated * report.pairs as f64).round() as usize;
    if wilson(kept, report.pairs, TWO_ERRORS)[0] > 0.5 {
        found.push(Warning::CorruptionKeepsAnswer { share: report.accuracy_ablated });
    }
    if report.faithfulness > 1.0 {
        found.push(Warning::FaithfulnessAboveOne { faithfulness: report.faithfulness });
    }
    if report.accuracy_circuit > report.accuracy_model {
        let (circuit, model) = (report.accuracy_circuit, report.accuracy_model);
        found.push(Warning::CircuitBetterThanModel { circuit, model });
    }
    if report.pairs < FEWEST_PAIRS {
        found.push(Warning::FewPairs { pairs: report.pairs });
    }
    found
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Warning::FaithfulnessAboveOne { faithfulness } => write!(
                f,
                "faithfulness is {faithfulness:.3}, above 1: the circuit lacks parts of the model that work against the task, so it is not \
                 what the model does; read KL and accuracy beside it"
            ),
            Warning::CircuitBetterThanModel { circuit, model } => write!(
                f,
                "the circuit gets {:.0} % right and the model {:.0} %: it is better than what it is to explain",
                100.0 * circuit,
                100.0 * model
            ),
            Warning::MetricNearZero { metric, error } => write!(
                f,
                "the model's metric is {metric:.3} with a standard error of {error:.3}, which may be nothing: the model may not do this task, \
                 and faithfulness to it means nothing"
            ),
            Warning::CorruptionKeepsAnswer { share } => write!(
                f,
                "with everything ablated the right answer still wins on {:.0} % of pairs: the ablation leaves the task half done, so that a \
                 circuit seems smaller than it is; try another corruption or ablation",
                100.0 * share
            ),
            Warning::FewPairs { pairs } => write!(
                f,
                "there are too few pairs for intervals of 95 % ({pairs}): these hold the true value less often than that; take {FEWEST_PAIRS} \
                 or more"
            ),
        }
    }
}
