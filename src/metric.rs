//! The numbers read from a model's output, by name. All are "larger is better"; the tensor code is in `measure::metric`.

use crate::error::nearest;
use std::fmt;

/// What is measured on the logits of the last position of each prompt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetricKind {
    /// Mean logit of the right answers minus mean logit of the wrong ones.
    LogitDifference,
    /// Summed probability of the right answers minus that of the wrong ones.
    ProbabilityDifference,
    /// Minus the Kullback-Leibler divergence (nats, summed over the vocabulary) from the clean model's distribution.
    Kl,
    /// 1 where the best right answer has a larger logit than the best wrong one (than any other token, if none is given).
    Accuracy,
    /// Log-probability (nats) of the right answers together.
    LogProbability,
    /// Minus the number of tokens with a larger logit than the best right answer: 0 is the top.
    Rank,
}

impl MetricKind {
    pub const ALL: [MetricKind; 6] = [
        MetricKind::LogitDifference,
        MetricKind::ProbabilityDifference,
        MetricKind::Kl,
        MetricKind::Accuracy,
        MetricKind::LogProbability,
        MetricKind::Rank,
    ];

    pub fn name(self) -> &'static str {
        match self {
            MetricKind::LogitDifference => "logit-difference",
            MetricKind::ProbabilityDifference => "probability-difference",
            MetricKind::Kl => "kl",
            MetricKind::Accuracy => "accuracy",
            MetricKind::LogProbability => "log-probability",
            MetricKind::Rank => "rank",
        }
    }

    /// Counts have no gradient, so methods that need one refuse them.
    pub fn differentiable(self) -> bool {
        !matches!(self, MetricKind::Accuracy | MetricKind::Rank)
    }

    /// Whether the metric compares right answers with wrong ones and so needs both.
    pub fn needs_wrong(self) -> bool {
        matches!(self, MetricKind::LogitDifference | MetricKind::ProbabilityDifference)
    }

    pub fn parse(name: &str) -> Option<MetricKind> {
        MetricKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The hint for a name that [`MetricKind::parse`] does not know.
    pub fn hint(name: &str) -> String {
        let names = MetricKind::ALL.map(MetricKind::name);
        match nearest(name, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the metrics are {}", names.join(", ")),
        }
    }
}

impl fmt::Display for MetricKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
