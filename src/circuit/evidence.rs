//! What chance could have done, as plain numbers: hypothesis tests, how stable the selection is, and whether it holds for
//! templates that it was not chosen on.

use crate::graph::Edge;

/// How often a true null hypothesis may be rejected, among all tests of a report together.
pub const ALPHA: f64 = 0.05;

/// The share of random circuits that a circuit has to beat, and of needless parts that a part has to beat (q* of the paper).
pub const BEATEN: f64 = 0.9;

/// How far from a half the share of pairs may lie on which the circuit beats the model.
pub const TOLERANCE: f64 = 0.1;

/// The hypotheses of Shi et al., "Hypothesis Testing the Circuit Hypothesis in LLMs", arXiv:2410.13032. Of the first three
/// the null hypothesis is that the circuit has the property, so that a rejection speaks against it; of the last two that it
/// has not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hypothesis {
    /// The circuit is as likely to beat the model as to lose against it, on a pair.
    Equivalence,
    /// What is left without the circuit says nothing about what the model does.
    Independence,
    /// Every part of the circuit matters more than most needless parts would.
    Minimality,
    /// The circuit is closer to the model than most random circuits of its size.
    Sufficiency,
    /// The model without the circuit is worse than without most random circuits of its size that share no part with it.
    PartialNecessity,
}

impl Hypothesis {
    pub const ALL: [Hypothesis; 5] = [
        Hypothesis::Equivalence,
        Hypothesis::Independence,
        Hypothesis::Minimality,
        Hypothesis::Sufficiency,
        Hypothesis::PartialNecessity,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Hypothesis::Equivalence => "equivalence",
            Hypothesis::Independence => "independence",
            Hypothesis::Minimality => "minimality",
            Hypothesis::Sufficiency => "sufficiency",
            Hypothesis::PartialNecessity => "partial-necessity",
        }
    }

    pub fn parse(name: &str) -> Option<Hypothesis> {
        Hypothesis::ALL.into_iter().find(|hypothesis| hypothesis.name() == name)
    }

    /// Whether the null hypothesis is that the circuit has the property.
    pub fn null_is_the_property(self) -> bool {
        matches!(self, Hypothesis::Equivalence | Hypothesis::Independence | Hypothesis::Minimality)
    }
}

/// A test that was done.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Test {
    pub hypothesis: Hypothesis,
    /// What was counted: pairs on which the circuit beats the model (ties count half, rounded down), permutations that reach
    /// the dependence, parts that are needless, random circuits that are beaten.
    pub count: usize,
    /// Of how many.
    pub of: usize,
    /// The chance of what was counted, or further from the null hypothesis, if that is true.
    pub p: f64,
    /// Adjusted for all tests of the report (Holm).
    pub p_adjusted: f64,
}

impl Test {
    pub fn rejected(&self) -> bool {
        self.p_adjusted < ALPHA
    }

    /// Whether the circuit may be said to have the property: the opposite was rejected, or it was not.
    pub fn holds(&self) -> bool {
        self.rejected() != self.hypothesis.null_is_the_property()
    }
}

/// How the selection changes when the pairs that it was made on are resampled. It is the selection by scores, before needless
/// parts are removed, which would take runs of the model.
#[derive(Clone, PartialEq, Debug)]
pub struct Stability {
    pub resamples: usize,
    /// The Jaccard index (edges in common of all edges in either) of two resamples' selections, on average, and the shares of
    /// 2.5 % and 97.5 % of them below it.
    pub jaccard: f64,
    pub jaccard_range: [f64; 2],
    /// That of a resample's selection and the one of all pairs, on average.
    pub jaccard_with_all: f64,
    /// Edges of the whole graph whose interval has one sign, and all.
    pub one_sign: usize,
    pub scored: usize,
    /// Of every edge of the circuit.
    pub edges: Vec<EdgeStability>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct EdgeStability {
    pub edge: Edge,
    /// The 95 % interval of its score.
    pub interval: [f64; 2],
    /// The share of resamples whose selection holds it.
    pub selected: f64,
}

/// Every fresh pair under the circuit that was selected on all templates but the pair's own.
#[derive(Clone, PartialEq, Debug)]
pub struct HeldOut {
    /// Fresh pairs whose template was among those scored.
    pub pairs: usize,
    pub faithfulness: f64,
    pub interval: [f64; 2],
    /// That of the selection from all templates, on the same pairs.
    pub faithfulness_of_all: f64,
    pub templates: Vec<Template>,
}

/// A template that was left out.
#[derive(Clone, PartialEq, Debug)]
pub struct Template {
    pub name: String,
    pub pairs: usize,
    pub faithfulness: f64,
    pub interval: [f64; 2],
    pub faithfulness_of_all: f64,
    /// The Jaccard index of the selections without it and with it.
    pub jaccard: f64,
}
