//! Areas under faithfulness curves, CPR and CMD, as the MIB benchmark defines them (Mueller et al., arXiv:2504.13151).
//!
//! f(C) = (m(C) − m(∅)) / (m(M) − m(∅)) of circuits of ten shares of all edges, from .001 to 1. CPR = ∫ f over the share,
//! CMD = ∫ |1 − f|, by trapezoids: a curve that is 1 everywhere has CPR .999 and CMD 0. Cost: arithmetic on numbers that runs
//! gave; no pass of the model.
//!
//! The share's axis is linear in MIB, so nine tenths of the area lie above a tenth of all edges. On a logarithmic axis each
//! power of ten counts alike; there the area is divided by the length of the axis, so that 1 everywhere gives 1.

use super::bench::mean;
use super::bootstrap::{RESAMPLES, faithfulness};
use crate::statistics::interval::{LEVEL, interval};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The sizes of circuits in shares of all edges.
pub const SHARES: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];

/// How many edges each of [`SHARES`] asks for: ⌊share · edges⌋ of the product as a float. Small graphs ask for 0 edges, or
/// for as many twice; the curve keeps all ten points at their shares.
pub fn edge_counts(edges: usize) -> [usize; SHARES.len()] {
    SHARES.map(|share| (share * edges as f64) as usize)
}

/// How shares lie on the horizontal axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Axis {
    Linear,
    Log,
}

/// The area under a curve over [`SHARES`] by trapezoids; on [`Axis::Log`] divided by the length of the axis.
pub fn area(curve: &[f64], axis: Axis) -> f64 {
    let places = SHARES.map(|share| if axis == Axis::Log { share.ln() } else { share });
    let steps = places.windows(2).zip(curve.windows(2));
    let sum: f64 = steps.map(|(x, y)| (x[1] - x[0]) * (y[0] + y[1]) / 2.0).sum();
    match axis {
        Axis::Linear => sum,
        Axis::Log => sum / (places[SHARES.len() - 1] - places[0]),
    }
}

/// Circuit performance ratio: how well circuits do. Not bounded: leaving out edges that hurt takes f above 1.
pub fn cpr(faithfulness: &[f64], axis: Axis) -> f64 {
    area(faithfulness, axis)
}

/// Circuit-model distance: how far circuits are from the model, above or below.
pub fn cmd(faithfulness: &[f64], axis: Axis) -> f64 {
    let distances: Vec<f64> = faithfulness.iter().map(|f| (1.0 - f).abs()).collect();
    area(&distances, axis)
}

/// Each pair's metric in the runs of a curve, all of equal length.
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    /// The circuits, in the order of [`SHARES`].
    pub circuits: Vec<&'a [f64]>,
    /// The circuit of no edge.
    pub empty: &'a [f64],
    pub model: &'a [f64],
}

impl Runs<'_> {
    /// f of each circuit as a ratio of means over pairs, as MIB and EAP-IG have it.
    pub fn ratios_of_means(&self) -> Vec<f64> {
        let (empty, model) = (mean(self.empty), mean(self.model));
        self.circuits.iter().map(|circuit| faithfulness(mean(circuit), empty, model)).collect()
    }

    /// f of each circuit as a mean of the ratios of pairs (Miller et al., arXiv:2407.08734). Pairs on which the model does
    /// exactly as well as nothing have no ratio and are left out; pairs on which it does nearly as well weigh most.
    pub fn means_of_ratios(&self) -> Vec<f64> {
        let of = |circuit: &&[f64]| {
            let pairs = circuit.iter().zip(self.empty).zip(self.model);
            let ratios = pairs.map(|((&circuit, &empty), &model)| faithfulness(circuit, empty, model));
            mean(&ratios.filter(|ratio| ratio.is_finite()).collect::<Vec<_>>())
        };
        self.circuits.iter().map(of).collect()
    }

    /// How many pairs have a ratio.
    pub fn pairs_with_ratio(&self) -> usize {
        self.empty.iter().zip(self.model).filter(|(empty, model)| model != empty).count()
    }

    /// 95 % intervals over pairs by the percentile bootstrap: one resample of the pairs gives one curve, and that one value of
    /// each area. The draws follow from the seed and the number of pairs, so all curves see the same resamples.
    pub fn intervals(&self, seed: u64) -> Intervals {
        let pairs = self.model.len();
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut curves: Vec<Vec<f64>> = Vec::with_capacity(RESAMPLES);
        for _ in 0..RESAMPLES {
            let [mut empty, mut model] = [0.0; 2];
            let mut circuits = vec![0.0; self.circuits.len()];
            for _ in 0..pairs {
                let pair = (random.next_u64() % pairs as u64) as usize;
                empty += self.empty[pair];
                model += self.model[pair];
                for (sum, circuit) in circuits.iter_mut().zip(&self.circuits) {
                    *sum += circuit[pair];
                }
            }
            curves.push(circuits.into_iter().map(|circuit| faithfulness(circuit, empty, model)).collect());
        }
        let of =
            |number: &dyn Fn(&[f64]) -> f64| interval(curves.iter().map(|curve| number(curve)).collect(), pairs, LEVEL);
        Intervals {
            cpr: of(&|curve| cpr(curve, Axis::Linear)),
            cmd: of(&|curve| cmd(curve, Axis::Linear)),
            cpr_log: of(&|curve| cpr(curve, Axis::Log)),
            cmd_log: of(&|curve| cmd(curve, Axis::Log)),
            faithfulness: (0..self.circuits.len()).map(|size| of(&|curve| curve[size])).collect(),
        }
    }
}

/// 95 % intervals of a curve: low, high.
#[derive(Clone, PartialEq, Debug)]
pub struct Intervals {
    pub cpr: [f64; 2],
    pub cmd: [f64; 2],
    pub cpr_log: [f64; 2],
    pub cmd_log: [f64; 2],
    /// Of f at each size.
    pub faithfulness: Vec<[f64; 2]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} instead of {expected}");
    }

    #[test]
    fn perfect_curves_and_curves_of_nothing() {
        near(cpr(&[1.0; 10], Axis::Linear), 0.999);
        near(cmd(&[1.0; 10], Axis::Linear), 0.0);
        near(cpr(&[1.0; 10], Axis::Log), 1.0);
        near(cpr(&[0.0; 10], Axis::Linear), 0.0);
        near(cmd(&[0.0; 10], Axis::Linear), 0.999);
        near(cmd(&[0.0; 10], Axis::Log), 1.0);
    }

    /// Nothing up to a tenth, half at a fifth, more than the model at a half, the model at all edges. By hand:
    ///
    /// CPR: .1·(0 + .5)/2 + .3·(.5 + 1.5)/2 + .5·(1.5 + 1)/2 = .025 + .3 + .625 = .95.
    ///
    /// |1 − f| is 1 up to a tenth, .5, .5, 0: CMD = .099·1 + .1·(1 + .5)/2 + .3·.5 + .5·(.5 + 0)/2 = .099 + .075 + .15 + .125
    /// = .449.
    #[test]
    fn a_curve_by_hand() {
        let curve = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 1.5, 1.0];
        near(cpr(&curve, Axis::Linear), 0.95);
        near(cmd(&curve, Axis::Linear), 0.449);
    }

    /// f = log₁₀(1000 · share) / 3 is a straight line on the logarithmic axis, from 0 to 1: half of it lies below. On the linear
    /// axis ∫ f = .999 − (log₁₀ e − .001 (3 + log₁₀ e)) / 3 = .855, from which trapezoids of a concave curve take a little.
    #[test]
    fn a_straight_line_on_the_logarithmic_axis() {
        let curve = SHARES.map(|share| (1000.0 * share).log10() / 3.0);
        near(cpr(&curve, Axis::Log), 0.5);
        near(cmd(&curve, Axis::Log), 0.5);
        let linear = cpr(&curve, Axis::Linear);
        assert!(0.845 < linear && linear < 0.855, "{linear}");
    }

    /// As `int(share * edges)` has them in Python: 110 is the reference GPT-2, 32,491 GPT-2 small.
    #[test]
    fn edge_counts_are_floors() {
        assert_eq!(edge_counts(110), [0, 0, 0, 1, 2, 5, 11, 22, 55, 110]);
        assert_eq!(edge_counts(32_491), [32, 64, 162, 324, 649, 1624, 3249, 6498, 16245, 32491]);
    }

    /// Two pairs, by hand: the circuit has .5 of 1 on one and 3 of 4 on the other. Means: 3.5/5 = .7; ratios: (.5 + .75)/2.
    #[test]
    fn both_normalisations_by_hand() {
        let runs = Runs { circuits: vec![&[0.5, 4.0]], empty: &[0.0, 1.0], model: &[1.0, 5.0] };
        near(runs.ratios_of_means()[0], 0.7);
        near(runs.means_of_ratios()[0], 0.625);
        assert_eq!(runs.pairs_with_ratio(), 2);
        // A pair on which the model is no better than nothing has no ratio, but stays in the means.
        let runs = Runs { circuits: vec![&[0.5, 4.0, 9.0]], empty: &[0.0, 1.0, 8.0], model: &[1.0, 5.0, 8.0] };
        near(runs.ratios_of_means()[0], 4.5 / 5.0);
        near(runs.means_of_ratios()[0], 0.625);
        assert_eq!(runs.pairs_with_ratio(), 2);
    }

    #[test]
    fn intervals_close_where_pairs_agree_and_repeat_with_their_seed() {
        let (empty, model) = ([0.0; 8], [2.0; 8]);
        let agree = [1.0; 8];
        let intervals = Runs { circuits: vec![&agree; 10], empty: &empty, model: &model }.intervals(3);
        for bound in intervals.cpr.into_iter().chain(intervals.cmd) {
            near(bound, 0.999 / 2.0);
        }
        let differ: Vec<f64> = (0..8).map(|pair| f64::from(pair) / 4.0).collect();
        let runs = Runs { circuits: vec![&differ; 10], empty: &empty, model: &model };
        let [low, high] = runs.intervals(3).cpr;
        let value = cpr(&runs.ratios_of_means(), Axis::Linear);
        assert!(low < value - 0.05 && value + 0.05 < high, "[{low}, {high}] around {value}");
        assert_eq!(runs.intervals(3), runs.intervals(3));
        let intervals = runs.intervals(3);
        near(intervals.faithfulness[4][0] * 0.999, low);
        near(intervals.cpr_log[1] * 0.999, high);
    }
}
