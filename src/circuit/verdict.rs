//! What a report supports and what it does not, claim by claim, in words.

use super::evidence::{ALPHA, BEATEN, Hypothesis, Test};
use super::report::Report;
use crate::graph::Level;

/// A claim about a circuit and how it stands.
#[derive(Clone, PartialEq, Debug)]
pub struct Finding {
    pub claim: &'static str,
    pub standing: Standing,
    /// The numbers behind it.
    pub words: String,
}

/// Whether numbers speak for a claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The opposite was rejected, or the interval lies on the right side.
    Supported,
    /// A test that could have rejected it did not.
    NotRefuted,
    /// The numbers leave it open.
    Undecided,
    /// It was rejected, or its opposite was not.
    NotSupported,
    /// There are no numbers.
    NotTested,
}

impl Standing {
    pub fn words(self) -> &'static str {
        match self {
            Standing::Supported => "supported",
            Standing::NotRefuted => "not refuted",
            Standing::Undecided => "undecided",
            Standing::NotSupported => "not supported",
            Standing::NotTested => "not tested",
        }
    }
}

/// The Jaccard index that resamples of a stable selection reach, by the advice of Méloux et al. (2025).
pub const STABLE: f64 = 0.8;

/// The faithfulness that is asked of a circuit where its selection records none.
pub const ASKED: f64 = 0.9;

/// The findings, from what it does to how sure it is. `asked`: the faithfulness that it was selected for, if any.
pub fn verdict(report: &Report, level: Level, asked: Option<f64>) -> Vec<Finding> {
    let (part, parts) = match level {
        Level::Edge => ("edge", "edges"),
        Level::Node => ("node", "nodes"),
        Level::Neuron => ("unit", "units"),
    };
    vec![
        faithful(report, asked.unwrap_or(ASKED)),
        of_test(report, "is as good as the model", Hypothesis::Equivalence, |test| {
            format!("better on {} of {} pairs, worse on the rest{}", test.count, test.of, p_value(test))
        }),
        of_test(report, "is complete", Hypothesis::Independence, |test| {
            let tie = if test.holds() { "says nothing about" } else { "still tells" };
            format!(
                "what is left without it has faithfulness {:.3} and {tie} how sure the model is{}",
                rounded(report.completeness),
                p_value(test)
            )
        }),
        of_test(report, "is minimal", Hypothesis::Minimality, |test| {
            format!("{} of {} {parts} matter no more than a random {part} would{}", test.count, test.of, p_value(test))
        }),
        of_test(report, "is better than chance", Hypothesis::Sufficiency, |test| {
            let degree = report.random_of_degree.map_or(String::new(), |random| {
                format!("; with every node's number of edges kept they reach {:.3} at most", random.max)
            });
            format!("closer to the model than {} of {} random circuits{degree}{}", test.count, test.of, p_value(test))
        }),
        of_test(report, "is needed", Hypothesis::PartialNecessity, |test| {
            format!("missed more than {} of {} random circuits of other {parts}{}", test.count, test.of, p_value(test))
        }),
        stable(report),
        general(report, asked.unwrap_or(ASKED)),
    ]
}

fn faithful(report: &Report, asked: f64) -> Finding {
    let [low, high] = report.faithfulness_interval;
    let standing = match () {
        () if low >= asked => Standing::Supported,
        () if high < asked => Standing::NotSupported,
        () if low.is_nan() => Standing::NotTested,
        () => Standing::Undecided,
    };
    let words = format!(
        "{} of the model's effect on {} fresh {}; {asked} was asked for",
        with_interval(report.faithfulness, report.faithfulness_interval),
        report.pairs,
        if report.pairs == 1 { "pair" } else { "pairs" }
    );
    Finding { claim: "is faithful", standing, words }
}

fn of_test(report: &Report, claim: &'static str, hypothesis: Hypothesis, words: impl Fn(&Test) -> String) -> Finding {
    let test = report.tests.iter().find(|test| test.hypothesis == hypothesis);
    let Some(test) = test else {
        return Finding {
            claim,
            standing: Standing::NotTested,
            words: "there are no random circuits to compare with".into(),
        };
    };
    let against_random = !hypothesis.null_is_the_property();
    let standing = match test.holds() {
        true if hypothesis.null_is_the_property() => Standing::NotRefuted,
        true => Standing::Supported,
        // With few random circuits not even beating all of them would do.
        false if against_random && BEATEN.powi(test.of as i32) * Hypothesis::ALL.len() as f64 >= ALPHA => {
            Standing::Undecided
        }
        false => Standing::NotSupported,
    };
    Finding { claim, standing, words: words(test) }
}

/// A number and its interval, or that there is none.
pub fn with_interval(number: f64, [low, high]: [f64; 2]) -> String {
    match low.is_nan() {
        true => format!("{number:.3} (no interval)"),
        false => format!("{number:.3} [{low:.3}, {high:.3}]"),
    }
}

/// To three digits, with no minus before nothing.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3 + 0.0
}

fn p_value(test: &Test) -> String {
    if test.p_adjusted < 0.001 { " (p < 0.001)".into() } else { format!(" (p = {:.3})", test.p_adjusted) }
}

fn stable(report: &Report) -> Finding {
    let claim = "is stable";
    let Some(stability) = &report.stability else {
        let words = "the scores of every pair were not kept".into();
        return Finding { claim, standing: Standing::NotTested, words };
    };
    let [low, high] = stability.jaccard_range;
    let often = stability.edges.iter().filter(|edge| edge.selected >= 0.95).count();
    let standing = if stability.jaccard >= STABLE { Standing::Supported } else { Standing::NotSupported };
    let words = format!(
        "selections from resampled pairs share {:.2} [{low:.2}, {high:.2}] of their edges (Jaccard, {} resamples); {often} of {} edges are in 95 % of them",
        stability.jaccard,
        stability.resamples,
        stability.edges.len()
    );
    Finding { claim, standing, words }
}

fn general(report: &Report, asked: f64) -> Finding {
    let claim = "holds for other templates";
    let Some(held_out) = &report.held_out else {
        let words = "the task has one template, or the scores of every pair were not kept".into();
        return Finding { claim, standing: Standing::NotTested, words };
    };
    let [low, high] = held_out.interval;
    // The selection from all templates is not refined either, and may itself fall short of what was asked.
    let wanted = asked.min(held_out.faithfulness_of_all);
    let standing = match () {
        () if low >= wanted => Standing::Supported,
        () if high < wanted => Standing::NotSupported,
        () => Standing::Undecided,
    };
    let worst = held_out.templates.iter().min_by(|a, b| a.faithfulness.total_cmp(&b.faithfulness));
    let worst = worst.map_or(String::new(), |worst| {
        format!("; {:.3} on {:?}, the worst of {}", worst.faithfulness, worst.name, held_out.templates.len())
    });
    let words = format!(
        "{} where it was chosen without a pair's own template, {:.3} with it{worst}",
        with_interval(held_out.faithfulness, held_out.interval),
        held_out.faithfulness_of_all
    );
    Finding { claim, standing, words }
}
