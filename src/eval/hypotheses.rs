//! Five tests of what a circuit is said to be, from runs that are done.
//!
//! - equivalence: a sign test of whether circuit and model beat each other equally often, give or take [`TOLERANCE`];
//! - independence: HSIC between the metric of the model and what is left without the circuit, over pairs: the metric of the model
//!   without it less that of the ablated model. (The paper takes the metric of the model without it; on corrupt prompts that
//!   differ with the pair, the ablated model's own metric then depends on the pair, and even nothing left would count as
//!   dependence.);
//! - minimality: of each part, how many of the needless parts added to the circuit matter less than it; a part that does not
//!   beat [`BEATEN`] of them is needless. The parts' p-values are adjusted for their number;
//! - sufficiency: how many random circuits of the same size are further from the model;
//! - partial necessity: how many random circuits of the same size that share no part with this one are missed less.
//!
//! Paper: Shi et al., "Hypothesis Testing the Circuit Hypothesis in LLMs", arXiv:2410.13032. Where the paper's null hypothesis
//! is that the circuit has the property (the first three), no rejection proves it: with few pairs nothing is ever rejected.

use super::bench::{Outcome, mean};
use crate::circuit::evidence::{ALPHA, BEATEN, Hypothesis, TOLERANCE, Test};
use crate::statistics::binomial::{at_least, at_most};
use crate::statistics::holm;
use crate::statistics::hsic::{PERMUTATIONS, dependence};

/// What the tests compare.
pub struct Compared<'a> {
    /// The model, whole and with everything ablated.
    pub model: &'a Outcome,
    pub ablated: &'a Outcome,
    pub circuit: &'a Outcome,
    /// The model without the circuit.
    pub complement: &'a Outcome,
    /// How much the circuit changes without each of its parts ([`distance`]).
    pub removals: &'a [f64],
    /// How much it changes with a needless part more.
    pub needless: &'a [f64],
    /// How far random circuits are from the model.
    pub random: &'a [f64],
    /// How far the model is from itself without random circuits that share no part with this one.
    pub without_random: &'a [f64],
}

impl Compared<'_> {
    /// Differences of a pair's metric up to this are none.
    fn tie(&self) -> f64 {
        TIE * (self.model.mean_metric() - self.ablated.mean_metric()).abs()
    }
}

/// Differences below this share of the effect of ablating everything count as none.
const TIE: f64 = 1e-4;

/// The mean over pairs of how far the metric of two runs is apart, in units of the metric.
pub fn distance(a: &Outcome, b: &Outcome) -> f64 {
    let apart: Vec<f64> = a.metric.iter().zip(&b.metric).map(|(a, b)| (a - b).abs()).collect();
    mean(&apart)
}

/// All tests for which there are runs, with p-values adjusted for their number.
pub fn tests(compared: &Compared, seed: u64) -> Vec<Test> {
    let beaten = |own: f64, others: &[f64], farther: bool| {
        others.iter().filter(|&&other| if farther { own > other } else { own < other }).count()
    };
    let of_random = |hypothesis, count: usize, of: usize| {
        (of > 0).then(|| Test { hypothesis, count, of, p: at_least(count, of, BEATEN), p_adjusted: 1.0 })
    };
    let far = distance(compared.circuit, compared.model);
    let missed = distance(compared.complement, compared.model);
    let mut tests: Vec<Test> = [
        equivalence(compared),
        Some(independence(compared, seed)),
        minimality(compared.removals, compared.needless),
        of_random(Hypothesis::Sufficiency, beaten(far, compared.random, false), compared.random.len()),
        of_random(
            Hypothesis::PartialNecessity,
            beaten(missed, compared.without_random, true),
            compared.without_random.len(),
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    let adjusted = holm::adjusted(&tests.iter().map(|test| test.p).collect::<Vec<f64>>());
    for (test, p) in tests.iter_mut().zip(adjusted) {
        test.p_adjusted = p;
    }
    tests
}

fn equivalence(compared: &Compared) -> Option<Test> {
    let of = compared.model.metric.len();
    let tie = compared.tie();
    let differences =
        || compared.circuit.metric.iter().zip(&compared.model.metric).map(|(circuit, model)| circuit - model);
    let wins = differences().filter(|&difference| difference > tie).count();
    let ties = differences().filter(|difference| difference.abs() <= tie).count();
    let count = wins + ties / 2;
    // The further of the two from a half, under the chance nearest to it that the tolerance allows.
    let more = count.max(of - count);
    (of > 0).then(|| Test {
        hypothesis: Hypothesis::Equivalence,
        count,
        of,
        p: at_least(more, of, 0.5 + TOLERANCE),
        p_adjusted: 1.0,
    })
}

fn independence(compared: &Compared, seed: u64) -> Test {
    let tie = compared.tie();
    let left = compared.complement.metric.iter().zip(&compared.ablated.metric).map(|(left, nothing)| left - nothing);
    let left: Vec<f64> = left.map(|left| if left.abs() <= tie { 0.0 } else { left }).collect();
    let found = dependence(&compared.model.metric, &left, seed);
    Test { hypothesis: Hypothesis::Independence, count: found.reached, of: PERMUTATIONS, p: found.p(), p_adjusted: 1.0 }
}

/// `removals`: how much the circuit changes without each part; `needless`: with a random part more.
fn minimality(removals: &[f64], needless: &[f64]) -> Option<Test> {
    let of_part = |change: &f64| {
        let beaten = needless.iter().filter(|&other| change > other).count();
        at_most(beaten, needless.len(), BEATEN)
    };
    let adjusted = holm::adjusted(&removals.iter().map(of_part).collect::<Vec<f64>>());
    let p = adjusted.iter().copied().fold(1.0, f64::min);
    (!removals.is_empty() && !needless.is_empty()).then(|| Test {
        hypothesis: Hypothesis::Minimality,
        count: adjusted.iter().filter(|&&p| p < ALPHA).count(),
        of: removals.len(),
        p,
        p_adjusted: 1.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(metric: impl Iterator<Item = f64>) -> Outcome {
        Outcome { metric: metric.collect(), ..Outcome::default() }
    }

    fn found(tests: &[Test], hypothesis: Hypothesis) -> Test {
        *tests.iter().find(|test| test.hypothesis == hypothesis).unwrap()
    }

    #[test]
    fn what_is_equal_passes_and_what_is_worse_fails() {
        let pairs = 60;
        let value = |pair: usize| 3.0 + ((pair * 37) % 11) as f64 / 10.0;
        let model = outcome((0..pairs).map(value));
        let ablated = outcome((0..pairs).map(|_| -3.0));
        let many = [1.0; 50];
        let compared = |circuit: &Outcome, complement: &Outcome, removals: &[f64], needless: &[f64]| {
            let (random, without_random) = (&many[..], &[0.1; 50][..]);
            let (model, ablated) = (&model, &ablated);
            tests(&Compared { model, ablated, circuit, complement, removals, needless, random, without_random }, 0)
        };
        let good = compared(&model, &ablated, &[0.5, 0.4], &[0.01; 50]);
        assert_eq!(good.len(), 5);
        assert!(good.iter().all(Test::holds), "{good:?}");
        assert_eq!(found(&good, Hypothesis::Equivalence).count, pairs / 2);

        let worse = outcome((0..pairs).map(|pair| value(pair) - 2.0));
        // Nearly all that the model does is left without the circuit, and a part of it is needless.
        let left = outcome((0..pairs).map(|pair| value(pair) - 0.05));
        let bad = compared(&worse, &left, &[0.5, 0.001], &[0.01; 50]);
        assert!(bad.iter().all(|test| !test.holds()), "{bad:?}");
        assert_eq!(found(&bad, Hypothesis::Minimality).count, 1);
        assert_eq!(found(&bad, Hypothesis::Sufficiency).count, 0);
    }

    #[test]
    fn without_random_circuits_there_are_no_tests_against_them() {
        let same = outcome((0..10).map(f64::from));
        let compared = Compared {
            model: &same,
            ablated: &same,
            circuit: &same,
            complement: &same,
            removals: &[1.0],
            needless: &[],
            random: &[],
            without_random: &[],
        };
        let names: Vec<&str> = tests(&compared, 0).iter().map(|test| test.hypothesis.name()).collect();
        assert_eq!(names, ["equivalence", "independence"]);
    }
}
