//! What must change nothing, and what must add up, on every family, through the functions that the commands call.

#![cfg(feature = "torch")]

mod fixtures;

use fixtures::{Case, with_each_in};
use penjing::inside::doses::{responses, with_amount};
use penjing::inside::generate::{Continuation, Sampling, divergence, run};
use penjing::inside::lens::{Question, decode};
use penjing::inside::patchscope::{Mapping, Target, read};
use penjing::inside::row;
use penjing::intervene::parse;
use penjing::intervene::plan::Plan;
use penjing::intervene::position::Prompt;
use penjing::intervene::record::{Keep, Record};
use penjing::intervene::run::{Donor, Supplies};
use penjing::model::site::Site;
use penjing::model::spec::Layer;
use penjing::model::tap::{NoTap, Tap};
use penjing::model::{Dtype, Pass, Rules, Start};
use tch::{Kind, Tensor};

const NOTHING_MORE: Continuation =
    Continuation { count: 0, sampling: Sampling { temperature: 0.0, top_p: 1.0, seed: 0 }, stop: Vec::new() };

/// The sites of the grammar that a model has, each with its width; heads by the last of them.
fn sites(case: &Case) -> Vec<(String, usize)> {
    let spec = &case.loaded.model.spec;
    let (layer, head, kv_head) = (spec.layers - 1, spec.heads - 1, spec.kv_heads - 1);
    let wide = ["", ".in", ".mid", ".attn"].map(|part| (format!("L{layer}{part}"), spec.d_model));
    let per_head = [("q", head), ("k", kv_head), ("v", kv_head), ("z", head)];
    let per_head = per_head.map(|(part, head)| (format!("L*.H{head}.{part}"), spec.d_head));
    let ends = ["emb".to_owned(), "final".to_owned(), format!("L0.H{head}")].map(|site| (site, spec.d_model));
    let mut all = [&wide[..], &per_head, &ends].concat();
    if spec.mlp.is_some() {
        let neuron = spec.d_mlp - 1;
        all.extend([(format!("L{layer}.mlp"), spec.d_model), ("L*.N*".to_owned(), spec.d_mlp)]);
        all.push((format!("L0.N{{0,{neuron}}}.pre"), 2));
    }
    all
}

fn wave(length: usize) -> Tensor {
    (Tensor::arange(length as i64, (Kind::Double, tch::Device::Cpu)) * 1.7 + 0.3).sin()
}

/// `scale 1`, `add 0*v`, `project 1*v` and `from` the same site, of the same prompt or of another that is the same; the last
/// two can differ in the last digit.
#[test]
fn verbs_that_change_nothing_change_nothing() {
    with_each_in(Dtype::F64, |case| {
        let (model, tokens) = (&case.loaded.model, &case.pairs[0].clean);
        let prompt = Prompt::of_length(tokens.len());
        let plain = Target::new(model, &(tokens.clone(), prompt.clone())).next;
        for (site, width) in sites(case) {
            let mut supplies = Supplies { vectors: [("v".to_owned(), wave(width))].into(), ..Supplies::default() };
            let address = parse::address(&site).unwrap();
            let slices = address.place.slices(&model.spec).unwrap();
            let mut record = Record::new(slices.into_iter().map(|slice| slice.site)).keeping(Keep::Values);
            let _ = tch::no_grad(|| model.forward(Start::Tokens(&row(model, tokens)), &Pass::LAST, &mut record));
            let recording = record.finish().unwrap();
            supplies.donors = [("twin".to_owned(), Donor { recording, prompts: vec![prompt.clone()] })].into();
            // The final norm of a run sees the last position alone.
            let all = if site == "final" { ":-1" } else { "" };
            for edit in [
                format!("{site}{all} = scale 1"),
                format!("{site}:-1 = add 0*v"),
                format!("{site}{all} = project 1*v"),
                format!("{site}{all} = from {site}"),
                format!("{site}{all} = from {site}@twin"),
            ] {
                let plan = parse::plan(&edit).unwrap();
                let found = run(model, tokens, (&plan, &prompt, &supplies), &NOTHING_MORE);
                let found = found.unwrap_or_else(|error| panic!("{}, {edit}: {error}", case.name));
                let difference = (&found.next - &plain).abs().max().double_value(&[]);
                assert!(difference < 1e-6, "{}, {edit}: {difference}", case.name);
                for entry in &found.receipt.entries {
                    assert!(entry.values > 0 && entry.max_change < 1e-12, "{}: {entry}", case.name);
                }
            }
        }
    });
}

/// Put back where it came from, a block's output changes nothing: back-patching with source and target the same, and a Patchscope
/// of a prompt into itself, at every position.
#[test]
fn an_output_put_back_in_its_own_place_changes_nothing() {
    with_each_in(Dtype::F64, |case| {
        let (model, tokens) = (&case.loaded.model, &case.pairs[0].clean);
        let encoded = (tokens.clone(), Prompt::of_length(tokens.len()));
        let target = Target::new(model, &encoded);
        for position in 0..tokens.len() {
            for (layer, value) in read(model, &encoded, position).iter().enumerate() {
                for mapping in [Mapping::Identity, Mapping::NormMatched] {
                    let next = target.with(layer, position, value, mapping, &NOTHING_MORE).next;
                    let changed = divergence(&target.next, &next);
                    assert!(changed.abs() < 1e-9, "{}, L{layer}:{position}: {changed}", case.name);
                }
            }
        }
    });
}

#[test]
fn a_dose_of_one_is_no_dose() {
    with_each_in(Dtype::F64, |case| {
        let (model, tokens) = (&case.loaded.model, &case.pairs[0].clean);
        let prompts = [(tokens.clone(), Prompt::of_length(tokens.len()))];
        let watched: Vec<u32> = case.pairs[0].right.clone();
        for (site, _) in sites(case) {
            let site = if site == "final" { "final:-1".to_owned() } else { site };
            let plan =
                |a: f64| -> Plan { parse::plan(&with_amount(&format!("{site} = scale a"), a).unwrap()).unwrap() };
            let plans = [plan(1.0), plan(-3.0)];
            let found = responses(model, &prompts, &plans, &Supplies::default(), &watched, &mut |_| ());
            let (all, unedited) = found.unwrap_or_else(|error| panic!("{}, {site}: {error}", case.name));
            let (one, other) = (all[0][0], all[1][0]);
            assert!((one.probability - unedited[0]).abs() < 1e-9, "{}, {site}: {one:?}, {unedited:?}", case.name);
            assert!(one.divergence.abs() < 1e-12, "{}, {site}: {one:?}", case.name);
            assert!(other.divergence > 1e-12, "{}, {site} scaled by -3 does nothing", case.name);
        }
    });
}

/// With the scale of the final norm held, the logit of a token is what an empty stream gives and what each part adds: the
/// embedding, every attention (its heads and their bias) and every MLP.
#[test]
fn the_parts_of_a_logit_add_up() {
    with_each_in(Dtype::F64, |case| {
        let (model, tokens) = (&case.loaded.model, &case.pairs[0].clean);
        let spec = &model.spec;
        let layers = || (0..spec.layers).map(Layer);
        let mut parts: Vec<Site> = layers().map(Site::AttentionOut).collect();
        parts.push(Site::BlockIn(Layer(0)));
        if spec.mlp.is_some() {
            parts.extend(layers().map(Site::MlpOut));
        }
        let sums: Vec<Site> = layers().flat_map(|layer| [Site::HeadOut(layer), Site::HeadSum(layer)]).collect();
        let mut record = Record::new(parts.iter().chain(&sums).copied()).keeping(Keep::Values);
        let mut leaf = FinalLeaf(Tensor::new());
        let rules = Rules { norms: true, ..Rules::default() };
        let pass = Pass { rules, ..Pass::LAST };
        let logits = model.forward(Start::Tokens(&row(model, tokens)), &pass, &mut (&mut record, &mut leaf)); // [1, 1, vocab]
        let recording = record.finish().unwrap().values;
        let uncapped = |logit: Tensor| match spec.logit_cap {
            Some(cap) => (logit / cap).atanh() * cap,
            None => logit,
        };
        let token = i64::from(case.pairs[0].right[0]);
        let logit = uncapped(logits.reshape([-1]).get(token));
        let direction = Tensor::run_backward(&[&logit], &[&leaf.0], false, false).remove(0).reshape([-1]); // [d_model]
        let last = |site: Site| recording[&site].select(1, -1).squeeze_dim(0); // [d_model], or [head, d_model]
        let nothing = tch::no_grad(|| model.read(&leaf.0.zeros_like(), &Pass::LAST, &mut NoTap)).reshape([-1]);
        let sum = parts.iter().map(|&site| last(site).dot(&direction).double_value(&[])).sum::<f64>();
        let sum = sum + uncapped(nothing.get(token)).double_value(&[]);
        let logit = logit.double_value(&[]);
        assert!((sum - logit).abs() < 1e-9 * logit.abs().max(1.0), "{}: {sum}, {logit}", case.name);
        for layer in layers() {
            let heads = last(Site::HeadOut(layer)).sum_dim_intlist(0, false, Kind::Double); // [d_model]
            let bias = last(Site::HeadSum(layer)) - heads;
            // What is left is the same at every position: a bias.
            let first = recording[&Site::HeadSum(layer)].get(0).get(0)
                - recording[&Site::HeadOut(layer)].get(0).get(0).sum_dim_intlist(0, false, Kind::Double);
            let difference = (bias - first).abs().max().double_value(&[]);
            assert!(difference < 1e-9, "{}, {layer:?}: {difference}", case.name);
        }
    });
}

#[test]
fn the_lens_after_the_last_layer_is_the_output() {
    with_each_in(Dtype::F64, |case| {
        let (model, tokens) = (&case.loaded.model, &case.pairs[0].clean);
        let watched: Vec<Vec<u32>> = (0..model.spec.vocab_out as u32).map(|token| vec![token]).collect();
        let question = Question { watched, ..Question::default() };
        let decoded = decode(model, tokens, &question, &mut |_| ());
        let last = decoded.cells.last().unwrap().last().unwrap();
        let next = Target::new(model, &(tokens.clone(), Prompt::of_length(tokens.len()))).next;
        for (token, (probability, _)) in last.watched.iter().enumerate() {
            let own = next.double_value(&[token as i64]).exp();
            assert!((probability - own).abs() < 1e-7, "{}, token {token}: {probability}, {own}", case.name);
        }
        assert_eq!(last.divergence, 0.0, "{}", case.name);
    });
}

/// Makes the residual stream before the final norm a leaf.
struct FinalLeaf(Tensor);

impl Tap for FinalLeaf {
    fn wants(&self, site: Site) -> bool {
        site == Site::FinalIn
    }

    fn at(&mut self, _: Site, value: Tensor) -> Tensor {
        self.0 = value.detach().set_requires_grad(true);
        self.0.shallow_clone()
    }
}
