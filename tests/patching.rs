//! Activation patching against its definition: a whole run with values of another run put in.

#![cfg(feature = "torch")]

mod fixtures;

use fixtures::{alone, with_each_in};
use penjing::graph::{Dimensions, KvSlots};
use penjing::measure::metric;
use penjing::metric::MetricKind;
use penjing::model::site::Site;
use penjing::model::spec::Layer;
use penjing::model::tap::Tap;
use penjing::model::{Dtype, Model, Pass, Start};
use penjing::patching::{Direction, Patching, Target};
use penjing::spans::Spans;
use std::collections::BTreeMap;
use tch::{IndexOp, Kind, Tensor};

const METRIC: MetricKind = MetricKind::LogitDifference;

/// Keeps the values of a target.
struct Keep {
    target: Target,
    kept: BTreeMap<usize, Tensor>,
}

impl Tap for Keep {
    fn wants(&self, site: Site) -> bool {
        site.layer().is_some_and(|layer| site == self.target.site(layer))
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        self.kept.insert(site.layer().unwrap().0, value.copy());
        value
    }
}

/// Puts one position or head of another run in.
struct Put<'a> {
    site: Site,
    donor: &'a Tensor,
    position: Option<i64>,
    head: Option<i64>,
}

impl Tap for Put<'_> {
    fn wants(&self, site: Site) -> bool {
        site == self.site
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        let patched = value.copy();
        match (self.position, self.head, site) {
            (Some(position), ..) => patched.i((.., position)).copy_(&self.donor.i((.., position))),
            (_, Some(head), Site::Pattern(_)) => patched.i((.., head)).copy_(&self.donor.i((.., head))),
            (_, Some(head), _) => patched.i((.., .., head)).copy_(&self.donor.i((.., .., head))),
            _ => {}
        }
        patched
    }
}

fn run(model: &Model, tokens: &Tensor, tap: &mut impl Tap) -> Tensor {
    model.forward(Start::Tokens(tokens), &Pass::LAST, tap).squeeze_dim(1)
}

#[test]
fn effects_are_those_of_whole_runs() {
    let _no_grad = tch::no_grad_guard();
    with_each_in(Dtype::F64, |case| {
        let _no_grad = tch::no_grad_guard();
        let model = &case.loaded.model;
        let pairs = &case.pairs[..2];
        let spans = Spans::each(pairs);
        for (name, target) in Target::ALL {
            if !target.exists(&model.spec) {
                continue;
            }
            for direction in [Direction::Denoise, Direction::Noise] {
                let patching =
                    Patching { model, pairs, metric: METRIC, target, direction, spans: &spans, memory: usize::MAX };
                let dimensions = Dimensions::of(&model.spec, KvSlots::PerQueryHead);
                let found = patching.effects(dimensions, &mut |_| ()).unwrap();
                let (rows, columns) = patching.shape();
                // The last row and column, and one in the middle.
                for (row, column) in [(rows - 1, columns - 1), (rows / 2, columns / 2)] {
                    let (layer, position, head) = match target.heads(&model.spec) {
                        Some(_) => (row, None, Some(column as i64)),
                        None => (column, Some(row as i64), None),
                    };
                    let mut sums = [0.0; 3];
                    for pair in pairs {
                        let batch = alone(case, pair);
                        let metric = |logits: &Tensor| {
                            metric::per_pair(METRIC, logits, &batch, None).sum(Kind::Double).double_value(&[])
                        };
                        let mut keep = [&batch.clean, &batch.corrupt].map(|tokens| {
                            let mut keep = Keep { target, kept: BTreeMap::new() };
                            let value = metric(&run(model, tokens, &mut keep));
                            (keep.kept, value)
                        });
                        sums[0] += keep[0].1;
                        sums[1] += keep[1].1;
                        let (tokens, donor) = match direction {
                            Direction::Denoise => (&batch.corrupt, &mut keep[0].0),
                            Direction::Noise => (&batch.clean, &mut keep[1].0),
                        };
                        let donor = &donor[&layer];
                        // A position that this pair does not have changes nothing.
                        let inside = position.is_none_or(|position| position < pair.len() as i64);
                        let site = target.site(Layer(layer));
                        let mut put = Put { site, donor, position: position.filter(|_| inside), head };
                        sums[2] += metric(&run(model, tokens, &mut put));
                    }
                    let [clean, corrupt, patched] = sums;
                    let expected = match direction {
                        Direction::Denoise => (patched - corrupt) / (clean - corrupt),
                        Direction::Noise => (clean - patched) / (clean - corrupt),
                    };
                    let value = found.values[[row, column]];
                    let what = format!("{}, {name}, {direction:?}, {row}, {column}: {value}, {expected}", case.name);
                    assert!((value - expected).abs() < 1e-8 * expected.abs().max(1.0), "{what}");
                }
                assert!(found.values.iter().any(|value| value.abs() > 1e-6), "{}, {name}: nothing matters", case.name);
            }
        }
    });
}

/// All of the residual stream restores all.
#[test]
fn the_whole_residual_stream_restores_everything() {
    with_each_in(Dtype::F64, |case| {
        let model = &case.loaded.model;
        // No name: one group of all positions.
        let pairs: Vec<_> = case
            .pairs
            .iter()
            .cloned()
            .map(|mut pair| {
                pair.positions.clear();
                pair
            })
            .collect();
        let spans = Spans::named(&pairs);
        assert_eq!(spans.names, ["other"]);
        let dimensions = Dimensions::of(&model.spec, KvSlots::PerQueryHead);
        for target in [Target::In, Target::Out] {
            for direction in [Direction::Denoise, Direction::Noise] {
                let patching = Patching {
                    model,
                    pairs: &pairs,
                    metric: METRIC,
                    target,
                    direction,
                    spans: &spans,
                    memory: usize::MAX,
                };
                for value in patching.effects(dimensions, &mut |_| ()).unwrap().values {
                    assert!((value - 1.0).abs() < 1e-8, "{}, {target:?}, {direction:?}: {value}", case.name);
                }
            }
        }
    });
}
