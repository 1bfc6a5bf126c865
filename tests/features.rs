//! Features as places that edits write and as nodes of circuits, against the same written out.

#![cfg(feature = "torch")]

mod fixtures;

use fixtures::{Case, with_each_in};
use penjing::dictionary::record::SCHEMA;
use penjing::dictionary::{Activation, Architecture, Dictionary, DictionaryV1, Normalize};
use penjing::discover::MARGIN;
use penjing::eval::bootstrap::faithfulness_with_error;
use penjing::features::edges::edges;
use penjing::features::evidence::evidence;
use penjing::features::runs::{Runs, in_order};
use penjing::features::scores::score;
use penjing::features::search::{SearchError, of_size, smallest};
use penjing::features::{Kept, Node, Placed, Setting, Unit};
use penjing::inside::corpus::Corpus;
use penjing::inside::generate::{Continuation, Sampling, run};
use penjing::inside::observe::{self, Watched};
use penjing::inside::patchscope::Target;
use penjing::inside::row;
use penjing::intervene::parse;
use penjing::intervene::position::Prompt;
use penjing::intervene::record::{Keep, Record};
use penjing::intervene::run::Supplies;
use penjing::metric::MetricKind;
use penjing::model::site::Site;
use penjing::model::spec::Layer;
use penjing::model::tap::NoTap;
use penjing::model::{Dtype, Model, Pass, Start};
use std::rc::Rc;
use tch::{Device, Kind, Tensor};

const FEATURES: i64 = 12;

fn wave(sizes: &[i64], start: f64) -> Tensor {
    let count: i64 = sizes.iter().product();
    (Tensor::arange(count, (Kind::Double, Device::Cpu)) * 1.7 + start).sin().view(sizes)
}

/// A dictionary with ReLU whose inputs are normalised in one way.
fn dictionary(width: usize, site: &str, normalize: Normalize, start: f64) -> Dictionary {
    let wide = width as i64;
    let record = DictionaryV1 {
        schema: SCHEMA.into(),
        architecture: Architecture::Relu,
        site: Some(site.into()),
        hook: None,
        model: None,
        weights: None,
        features: FEATURES as usize,
        width,
        k: None,
        prefixes: Vec::new(),
        normalize,
        apply_b_dec_to_input: true,
        training: None,
    };
    Dictionary {
        record,
        w_enc: wave(&[wide, FEATURES], start),
        w_dec: wave(&[FEATURES, wide], start + 0.4) * 0.3,
        b_dec: wave(&[wide], start + 0.9) * 0.1,
        activation: Activation::Relu { b_enc: wave(&[FEATURES], start + 2.0) * 0.1 },
    }
}

fn placed(case: &Case, site: &str, start: f64) -> Placed {
    let spec = &case.loaded.model.spec;
    let dictionary = Rc::new(dictionary(spec.d_model, site, Normalize::None, start));
    let site = parse::address(site).unwrap().place.slices(spec).unwrap()[0].site;
    Placed {
        name: format!("{}.sae(g)", penjing::intervene::slice::site_name(site)),
        called: "g".into(),
        site,
        dictionary,
    }
}

/// The value of a site `[1, pos, d_model]` in a run of one prompt.
fn value(model: &Model, tokens: &[u32], site: Site) -> Tensor {
    let mut record = Record::new([site]).keeping(Keep::Values);
    let _ = tch::no_grad(|| model.forward(Start::Tokens(&row(model, tokens)), &Pass::LAST, &mut record));
    record.finish().unwrap().values.remove(&site).unwrap()
}

/// What comes next after the first block's output.
fn after_first_block(model: &Model, output: &Tensor) -> Tensor {
    let above = model.some_blocks(1..model.spec.layers, output.shallow_clone(), &Pass::LAST, &mut NoTap);
    model.read(&above, &Pass::LAST, &mut NoTap).view([-1])
}

#[test]
fn a_feature_is_set_and_the_rest_of_the_value_stays() {
    let nothing_more =
        Continuation { count: 0, sampling: Sampling { temperature: 0.0, top_p: 1.0, seed: 0 }, stop: Vec::new() };
    for normalize in [
        Normalize::None,
        Normalize::LayerNorm,
        Normalize::ConstantNormRescale,
        Normalize::ExpectedAverageOnlyIn { factor: 0.6 },
    ] {
        with_each_in(Dtype::F64, |case| {
            let (model, tokens) = (&case.loaded.model, &case.pairs[0].clean);
            let prompt = Prompt::of_length(tokens.len());
            let own = Rc::new(dictionary(model.spec.d_model, "L0", normalize, 0.3));
            let supplies = Supplies { dictionaries: [("g".to_owned(), own.clone())].into(), ..Supplies::default() };
            let edited = |edit: &str| {
                let plan = parse::plan(edit).unwrap();
                let found = run(model, tokens, (&plan, &prompt, &supplies), &nothing_more);
                found.unwrap_or_else(|error| panic!("{}, {edit}: {error}", case.name))
            };
            let plain = Target::new(model, &(tokens.clone(), prompt.clone())).next;
            for edit in ["L0.sae(g).F{3,0..1} = scale 1", "L0.sae(g).F5:-1 = from L0.sae(g).F5"] {
                let found = edited(edit);
                assert!((found.next - &plain).abs().max().double_value(&[]) < 1e-6, "{}: {edit}", case.name);
                assert_eq!((found.receipt.entries[0].changed, found.receipt.entries.len()), (0, 1), "{edit}");
            }
            // By hand: the value plus what the changes add, in the scale that the normalisation has there.
            let found = edited("L0.sae(g).F{7,2}:-1 = set 3");
            let x = value(model, tokens, Site::BlockOut(Layer(0)));
            let last = x.get(0).get(-1); // [d_model]
            let width = model.spec.d_model as f64;
            let scale = match normalize {
                Normalize::None => 1.0,
                Normalize::LayerNorm => last.std(true).double_value(&[]),
                Normalize::ConstantNormRescale => last.norm().double_value(&[]) / width.sqrt(),
                Normalize::ExpectedAverageOnlyIn { factor } => 1.0 / factor,
            };
            let features = own.encode(&last); // [feature]
            let mut expected = last.shallow_clone();
            for feature in [7, 2] {
                expected += (3.0 - features.double_value(&[feature])) * own.w_dec.get(feature) * scale;
            }
            let edited_value = x.copy();
            edited_value.get(0).get(-1).copy_(&expected);
            let next = tch::no_grad(|| after_first_block(model, &edited_value)).log_softmax(-1, Kind::Float);
            let difference = (found.next - next).abs().max().double_value(&[]);
            assert!(difference < 1e-5, "{}, {normalize:?}: {difference}", case.name);
            let entry = &found.receipt.entries[0];
            assert_eq!((entry.site.as_str(), entry.values), ("L0.sae(g).F{7,2}", 2));
        });
    }
}

#[test]
fn all_nodes_are_the_clean_run_and_none_the_corrupt_one() {
    with_each_in(Dtype::F64, |case| {
        let model = &case.loaded.model;
        let all = [placed(case, "L0", 0.3)];
        let metric = MetricKind::LogitDifference;
        let setting = Setting { model, pairs: &case.pairs, metric, placed: &all, at_once: 2 };
        let runs = Runs::new(setting).unwrap();
        let corrupt: Vec<f64> = case.pairs.iter().map(|pair| difference(model, &pair.corrupt, pair)).collect();
        let whole = runs.circuit(&setting.all());
        for (index, (pair, corrupt)) in case.pairs.iter().zip(corrupt).enumerate() {
            let clean = difference(model, &pair.clean, pair);
            assert!((whole.metric[index] - clean).abs() < 1e-9, "{}: {whole:?}", case.name);
            assert!((runs.clean.metric[index] - clean).abs() < 1e-9, "{}", case.name);
            assert!((runs.ablated.metric[index] - corrupt).abs() < 1e-9, "{}", case.name);
        }
    });
}

fn difference(model: &Model, tokens: &[u32], pair: &penjing::dataset::TokenPair) -> f64 {
    let logits = tch::no_grad(|| model.forward(Start::Tokens(&row(model, tokens)), &Pass::LAST, &mut NoTap)).view([-1]);
    let mean =
        |ids: &[u32]| ids.iter().map(|&id| logits.double_value(&[i64::from(id)])).sum::<f64>() / ids.len() as f64;
    mean(&pair.right) - mean(&pair.wrong)
}

/// With and without the error in the circuit, from the features of the clean and the corrupt prompt by hand.
#[test]
fn a_circuit_of_features_is_the_value_made_of_both_prompts() {
    with_each_in(Dtype::F64, |case| {
        let model = &case.loaded.model;
        let all = [placed(case, "L0", 0.3)];
        let own = &all[0].dictionary;
        let metric = MetricKind::LogitDifference;
        let setting = Setting { model, pairs: &case.pairs, metric, placed: &all, at_once: 8 };
        let runs = Runs::new(setting).unwrap();
        for error in [true, false] {
            let inside = [1usize, 4, 9];
            let mut kept: Kept =
                inside.iter().map(|&feature| Node { dictionary: 0, unit: Unit::Feature(feature) }).collect();
            if error {
                kept.insert(Node { dictionary: 0, unit: Unit::Error });
            }
            let outcome = runs.circuit(&kept);
            for (index, pair) in case.pairs.iter().enumerate() {
                let [clean, corrupt] =
                    [&pair.clean, &pair.corrupt].map(|tokens| value(model, tokens, Site::BlockOut(Layer(0))));
                let [f, g] = [&clean, &corrupt].map(|x| own.encode(x)); // [1, pos, feature]
                let features = g.copy();
                for feature in inside {
                    features.select(2, feature as i64).copy_(&f.select(2, feature as i64));
                }
                let rest = if error { &clean - own.decode(&f, &clean) } else { &corrupt - own.decode(&g, &corrupt) };
                let x = own.decode(&features, &clean) + rest;
                let logits = tch::no_grad(|| after_first_block(model, &x));
                let mean = |ids: &[u32]| {
                    ids.iter().map(|&id| logits.double_value(&[i64::from(id)])).sum::<f64>() / ids.len() as f64
                };
                let expected = mean(&pair.right) - mean(&pair.wrong);
                assert!((outcome.metric[index] - expected).abs() < 1e-8, "{}, {error}: {expected}", case.name);
            }
        }
    });
}

/// All scores together are the whole difference of the metric; each is a slope along the line from corrupt to clean.
#[test]
fn scores_add_up_to_the_difference_of_the_metric() {
    with_each_in(Dtype::F64, |case| {
        let model = &case.loaded.model;
        let all = [placed(case, "L0", 0.3)];
        let metric = MetricKind::LogitDifference;
        let setting = Setting { model, pairs: &case.pairs, metric, placed: &all, at_once: 8 };
        let runs = Runs::new(setting).unwrap();
        let whole = runs.clean.mean_metric() - runs.ablated.mean_metric();
        // KL too, whose reference is the clean run.
        let setting_of_kl = Setting { metric: MetricKind::Kl, ..setting };
        let runs = Runs::new(setting_of_kl).unwrap();
        let of_kl = runs.clean.mean_metric() - runs.ablated.mean_metric();
        let sum: f64 = score(&setting_of_kl, 64, &mut |_| ()).unwrap().iter().map(|scored| scored.score).sum();
        assert!((sum - of_kl).abs() < 2e-2 * of_kl.abs() + 1e-9, "{}: {of_kl}, {sum}", case.name);
        let sum: f64 = score(&setting, 64, &mut |_| ()).unwrap().iter().map(|scored| scored.score).sum();
        // The midpoint rule's error, which kinks of ReLUs make larger.
        assert!((sum - whole).abs() < 5e-3 * whole.abs(), "{}: {whole}, {sum}", case.name);
    });
}

/// The weight of an edge is the slope of what the upper node does along the difference of the lower one.
#[test]
fn edges_are_slopes() {
    with_each_in(Dtype::F64, |case| {
        let model = &case.loaded.model;
        if model.spec.layers < 2 {
            return;
        }
        let all = in_order(model, vec![placed(case, "L1", 1.1), placed(case, "L0", 0.3)]).unwrap();
        assert_eq!(all[0].site, Site::BlockOut(Layer(0)), "they were not put in order");
        let pairs = &case.pairs[..1];
        let metric = MetricKind::LogitDifference;
        let setting = Setting { model, pairs, metric, placed: &all, at_once: 8 };
        let ranked = score(&setting, 3, &mut |_| ()).unwrap();
        let upper_node = ranked.iter().find(|scored| scored.node.dictionary == 1 && scored.node.unit != Unit::Error);
        let lower_node = ranked.iter().find(|scored| scored.node.dictionary == 0 && scored.node.unit != Unit::Error);
        let (Some(upper_node), Some(lower_node)) = (upper_node, lower_node) else {
            panic!("{}: no feature differs", case.name)
        };
        let (to, from) = (upper_node.node, lower_node.node);
        let (Unit::Feature(upper_unit), Unit::Feature(lower_unit)) = (to.unit, from.unit) else { return };
        let found = edges(&setting, &[from, to].into(), 3, &mut |_| ()).unwrap();
        let weight = found.iter().find(|edge| (edge.from, edge.to) == (from, to)).unwrap().weight;
        let [clean, corrupt] = [&pairs[0].clean, &pairs[0].corrupt];
        let at = |tokens: &[u32], site| value(model, tokens, site);
        let (low, high) = (all[0].site, all[1].site);
        let features = |placed: &Placed, tokens: &[u32]| placed.dictionary.encode(&at(tokens, placed.site));
        let change = (features(&all[0], clean) - features(&all[0], corrupt)).select(2, lower_unit as i64); // [1, pos]
        let moved = |step: f64| {
            let change = (&change * step).unsqueeze(-1); // [1, pos, 1]
            all[0].dictionary.changed(&at(clean, low), &[lower_unit], &change)
        };
        let acts = |step: f64| {
            let output = tch::no_grad(|| model.some_blocks(1..2, moved(step), &Pass::ALL, &mut NoTap));
            all[1].dictionary.encode(&output).select(2, upper_unit as i64) // [1, pos]
        };
        let slope = (acts(1e-6) - acts(-1e-6)) / 2e-6; // [1, pos]
        // The mean over three midpoints of the metric's slope in the upper feature, at each position.
        let (x, y) = (at(clean, high), at(corrupt, high));
        let through = Tensor::zeros_like(&slope);
        for position in 0..slope.size()[1] {
            let mut sum = 0.0;
            for step in 0..3 {
                let point = &y + (&x - &y) * ((f64::from(step) + 0.5) / 3.0);
                let metric = |by: f64| {
                    let moved = point.copy();
                    let row = moved.get(0).get(position);
                    moved.get(0).get(position).copy_(&(row + all[1].dictionary.direction(upper_unit) * by));
                    let above = model.some_blocks(2..model.spec.layers, moved, &Pass::LAST, &mut NoTap);
                    let logits = model.read(&above, &Pass::LAST, &mut NoTap).view([-1]);
                    let mean = |ids: &[u32]| {
                        ids.iter().map(|&id| logits.double_value(&[i64::from(id)])).sum::<f64>() / ids.len() as f64
                    };
                    mean(&pairs[0].right) - mean(&pairs[0].wrong)
                };
                sum += tch::no_grad(|| metric(1e-6) - metric(-1e-6)) / 2e-6 / 3.0;
            }
            let _ = through.get(0).get(position).fill_(sum);
        }
        let expected = (slope * through).sum(Kind::Double).double_value(&[]);
        let scale = expected.abs().max(1e-4);
        assert!((weight - expected).abs() < 1e-4 * scale.max(1e-3), "{}: {weight}, {expected}", case.name);
    });
}

#[test]
fn the_circuit_that_is_found_is_faithful_and_nothing_can_go() {
    with_each_in(Dtype::F64, |case| {
        let model = &case.loaded.model;
        let all = [placed(case, "L0", 0.3)];
        let metric = MetricKind::LogitDifference;
        let setting = Setting { model, pairs: &case.pairs, metric, placed: &all, at_once: 8 };
        let ranked = score(&setting, 8, &mut |_| ()).unwrap();
        assert!(ranked.is_sorted_by(|a, b| a.score.abs() >= b.score.abs()));
        let runs = Runs::new(setting).unwrap();
        let target = 0.5;
        let accepts = |kept: &Kept| {
            let [value, error] =
                faithfulness_with_error(&runs.circuit(kept).metric, &runs.ablated.metric, &runs.clean.metric);
            value - MARGIN * error >= target
        };
        let kept = smallest(&runs, &ranked, target, &mut |_| ()).unwrap();
        assert!(accepts(&kept) && !kept.is_empty(), "{}: {kept:?}", case.name);
        for node in &kept {
            let mut without = kept.clone();
            without.remove(node);
            assert!(!accepts(&without), "{}: {node:?} could go", case.name);
        }
        let found = evidence(&runs, &kept, &ranked, (3, 0), &mut |_| ());
        let own = faithfulness_with_error(&runs.circuit(&kept).metric, &runs.ablated.metric, &runs.clean.metric)[0];
        assert!((found.faithfulness - own).abs() < 1e-12 && found.minimality.len() == kept.len());
        assert_eq!(of_size(&ranked, 2).unwrap().len(), 2);
        assert!(matches!(of_size(&ranked, 99), Err(SearchError::TooMany { asked: 99, .. })));
        assert!(matches!(smallest(&runs, &ranked, 50.0, &mut |_| ()), Err(SearchError::OutOfReach { .. })));
    });
}

/// Every value of every window, of the features of two dictionaries, and what the page of one shows.
#[test]
fn features_are_observed_as_they_are() {
    with_each_in(Dtype::F64, |case| {
        let model = &case.loaded.model;
        if model.spec.layers < 2 {
            return;
        }
        let all = in_order(model, vec![placed(case, "L1", 1.1), placed(case, "L0", 0.3)]).unwrap();
        let windows: Vec<&Vec<u32>> = case.pairs.iter().map(|pair| &pair.clean).collect();
        let mut corpus = Corpus::default();
        for window in &windows {
            let start = corpus.tokens.len();
            corpus.tokens.extend(window.iter());
            corpus.windows.push(start..corpus.tokens.len());
        }
        let watched = Watched::Features(&all);
        let observed = observe::observe(model, watched, &corpus, (2, usize::MAX, 0), &mut |_| ());
        for (place, placed) in all.iter().enumerate() {
            let of_window = |tokens: &Vec<u32>| placed.dictionary.encode(&value(model, tokens, placed.site)).get(0);
            let values: Vec<Tensor> = windows.iter().map(|tokens| of_window(tokens)).collect(); // each [pos, feature]
            for feature in 0..FEATURES as usize {
                let own: Vec<Vec<f64>> = values
                    .iter()
                    .map(|values| Vec::try_from(values.select(1, feature as i64).to_kind(Kind::Double)).unwrap())
                    .collect();
                let flat: Vec<f64> = own.concat();
                let mean = flat.iter().sum::<f64>() / flat.len() as f64;
                let active = flat.iter().filter(|value| **value > 0.0).count() as f64 / flat.len() as f64;
                let found = observed.neuron(place, feature).unwrap();
                let what = format!("{}, {}: {found:?}", case.name, watched.name(place, feature));
                assert!((found.mean - mean).abs() < 1e-9 && (found.active - active).abs() < 1e-12, "{what}");
                let mut strongest: Vec<f64> =
                    own.iter().map(|window| window.iter().copied().fold(f64::MIN, f64::max)).collect();
                strongest.sort_by(|a, b| b.total_cmp(a));
                for ((value, token), expected) in found.strongest.iter().zip(&strongest) {
                    assert!((value - expected).abs() < 1e-9 && (flat[*token] - value).abs() < 1e-9, "{what}");
                }
                let first = observe::values(model, watched, windows[0], place, feature);
                assert!(first.iter().zip(&own[0]).all(|(a, b)| (a - b).abs() < 1e-9), "{what}");
            }
        }
    });
}
