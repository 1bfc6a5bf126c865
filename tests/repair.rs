//! Self-repair: sums that add up to what a run with the ablation does, parts against gradients with the final norm's scale
//! held constant and against the model's own reading.

#![cfg(feature = "torch")]

mod fixtures;

use fixtures::{Case, with_each_in};
use penjing::inside::generate::{Continuation, Sampling, run};
use penjing::inside::repair::{Answers, Repair, direct, later, repair};
use penjing::inside::{means, prompt};
use penjing::intervene::address::Position;
use penjing::intervene::parse;
use penjing::intervene::plan::Plan;
use penjing::intervene::record::{Keep, Record, Recording};
use penjing::intervene::run::{PlanTap, Supplies};
use penjing::model::site::Site;
use penjing::model::spec::Layer;
use penjing::model::tap::NoTap;
use penjing::model::{Dtype, Pass, Rules, Start};
use std::sync::atomic::{AtomicUsize, Ordering};
use tch::{Kind, Tensor};

fn row(tokens: &[u32]) -> Tensor {
    Tensor::from_slice(&tokens.iter().map(|&token| i64::from(token)).collect::<Vec<_>>()).unsqueeze(0)
}

/// The ablations that a model has places for.
fn edits(case: &Case) -> Vec<(&'static str, Site)> {
    let mut all = vec![
        ("L0.H1:-1 = zero", Site::HeadOut(Layer(0))),
        ("L0.H1:all = mean", Site::HeadOut(Layer(0))),
        ("L0.attn:-1 = zero", Site::AttentionOut(Layer(0))),
        ("L1.H0:-1 = zero", Site::HeadOut(Layer(1))),
    ];
    if case.loaded.model.spec.mlp.is_some() {
        all.push(("L0.N{1,3}:all = zero", Site::MlpPost(Layer(0))));
        all.push(("L0.mlp:-1 = mean", Site::MlpOut(Layer(0))));
        all.push(("L1.mlp:-1 = zero", Site::MlpOut(Layer(1))));
    }
    all
}

fn answers() -> Answers {
    Answers { right: vec![1, 5], wrong: vec![3] }
}

/// Means over the prompts of the case.
fn supplies(case: &Case, plan: &Plan) -> Supplies {
    let model = &case.loaded.model;
    let sites = means::wanted(plan, model).unwrap();
    let prompts: Vec<_> = case.pairs.iter().map(prompt::of_pair).collect();
    let position = plan.edits[0].target.position.clone().unwrap();
    Supplies { means: means::of(model, &sites, &prompts, &position, &mut |_| ()).unwrap(), ..Supplies::default() }
}

fn found(case: &Case, edit: &str, site: Site) -> (Repair, Plan, Supplies) {
    let plan = Plan { edits: vec![parse::edit(edit).unwrap()] };
    let supplies = supplies(case, &plan);
    let encoded = prompt::of_pair(&case.pairs[0]);
    let found = repair(&case.loaded.model, &encoded, (&plan, site, &supplies), &answers())
        .unwrap_or_else(|error| panic!("{}, {edit}: {error}", case.name));
    (found, plan, supplies)
}

/// Mean logit of the right answers less that of the wrong ones, before the cap, from log-probabilities.
fn difference(case: &Case, logits: &Tensor) -> f64 {
    let logits = logits.view([-1]).to_kind(Kind::Double);
    let logit = |id: i64| {
        let value = logits.double_value(&[id]);
        case.loaded.model.spec.logit_cap.map_or(value, |cap| (value / cap).atanh() * cap)
    };
    (logit(1) + logit(5)) / 2.0 - logit(3)
}

fn sums_add_up(dtype: Dtype, tolerance: f64) {
    let moved = AtomicUsize::new(0);
    with_each_in(dtype, |case| {
        let _no_grad = tch::no_grad_guard();
        let model = &case.loaded.model;
        let tokens = &case.pairs[0].clean;
        for (edit, site) in edits(case) {
            let (found, plan, supplies) = found(case, edit, site);
            let what = format!("{}, {edit}: {found:?}", case.name);
            let encoded = prompt::of_pair(&case.pairs[0]);
            let mut tap = PlanTap::new(&plan, &model.spec, std::slice::from_ref(&encoded.1), &supplies, None).unwrap();
            let clean = model.forward(Start::Tokens(&row(tokens)), &Pass::LAST, &mut NoTap);
            let ablated = model.forward(Start::Tokens(&row(tokens)), &Pass::LAST, &mut tap);
            let total = difference(case, &ablated) - difference(case, &clean);
            // Undoing a cap costs digits.
            let scale = 1.0 + difference(case, &clean).abs();
            assert!((found.total - total).abs() < tolerance * scale, "{what}: {total}");
            let parts = found.norm + found.components.iter().sum::<f64>() + found.rescaled;
            assert!((found.direct + total - parts).abs() < tolerance * scale, "{what}: {total}, {parts}");
            assert_eq!(found.components.len(), later(&model.spec, site).len(), "{what}");
            moved.fetch_add(usize::from(found.components.iter().any(|part| part.abs() > 1e-7)), Ordering::Relaxed);
        }
    });
    assert!(moved.into_inner() > 40, "no later component answers to an ablation");
}

#[test]
fn direct_effect_norm_and_components_are_the_total_effect() {
    sums_add_up(Dtype::F64, 1e-9);
}

#[test]
fn they_are_in_single_precision_too() {
    sums_add_up(Dtype::F32, 1e-4);
}

/// One pass, what it announces at these sites and its logits difference.
fn recorded(case: &Case, sites: &[Site], plan: &Plan, supplies: &Supplies) -> Recording {
    let model = &case.loaded.model;
    let encoded = prompt::of_pair(&case.pairs[0]);
    let mut tap = PlanTap::new(plan, &model.spec, std::slice::from_ref(&encoded.1), supplies, None).unwrap();
    let mut record = Record::new(sites.iter().copied()).keeping(Keep::Values);
    let _ = model.forward(Start::Tokens(&row(&encoded.0)), &Pass::LAST, &mut (&mut tap, &mut record));
    record.finish().unwrap()
}

/// The direct effect is the gradient at a frozen scale times what the ablation takes out; each later component's share the
/// same of its own change. With everything else frozen, the norm's part is what the model reads from the stream without the component.
#[test]
fn each_part_is_its_definition() {
    with_each_in(Dtype::F64, |case| {
        let (model, spec) = (&case.loaded.model, &case.loaded.model.spec);
        for (edit, site) in edits(case) {
            let (found, plan, supplies) = tch::no_grad(|| found(case, edit, site));
            let Layer(own) = site.layer().unwrap();
            let in_mlp = matches!(site, Site::MlpOut(_) | Site::MlpPost(_));
            let mut sites = vec![Site::FinalIn];
            for layer in 0..spec.layers {
                sites.push(Site::AttentionOut(Layer(layer)));
                sites.extend(spec.mlp.map(|_| Site::MlpOut(Layer(layer))));
            }
            let [before, after] = tch::no_grad(|| {
                [recorded(case, &sites, &Plan::default(), &supplies), recorded(case, &sites, &plan, &supplies)]
            });
            let last = |recording: &Recording, site: Site| recording.values[&site].get(0).get(-1);
            let stream = last(&before, Site::FinalIn).view([1, 1, -1]);
            // The gradient of the logit difference with the norm's scale held constant; without the cap.
            let leaf = stream.detach().set_requires_grad(true);
            let rules = Rules { norms: true, ..Rules::default() };
            let logits = model.read(&leaf, &Pass { rules, ..Pass::LAST }, &mut NoTap).view([-1]);
            let logits = match spec.logit_cap {
                Some(cap) => (logits / cap).atanh() * cap,
                None => logits,
            };
            let metric = (logits.get(1) + logits.get(5)) / 2.0 - logits.get(3);
            let gradient = Tensor::run_backward(&[metric], &[&leaf], false, false).remove(0).view([-1]);
            let _no_grad = tch::no_grad_guard();
            let along = |change: &Tensor| change.dot(&gradient).double_value(&[]);
            let of_site = if in_mlp { Site::MlpOut(Layer(own)) } else { Site::AttentionOut(Layer(own)) };
            let taken = last(&before, of_site) - last(&after, of_site);
            let close = |found: f64, expected: f64, which: &str| {
                assert!((found - expected).abs() < 1e-8, "{}, {edit}, {which}: {found}, {expected}", case.name);
            };
            close(found.direct, along(&taken), "direct effect");
            let read = |stream: &Tensor| difference(case, &model.read(stream, &Pass::LAST, &mut NoTap));
            let without = &stream - taken.view([1, 1, -1]);
            close(found.norm, read(&without) - read(&stream) + found.direct, "norm");
            // Heads of a layer together are its attention.
            let names = later(spec, site);
            for layer in own..spec.layers {
                let sum = |starts: &str| -> Option<f64> {
                    let of = names.iter().zip(&found.components).filter(|(name, _)| name.starts_with(starts));
                    of.map(|(_, part)| *part).reduce(|a, b| a + b)
                };
                for (starts, site) in [
                    (vec![format!("L{layer}.H"), format!("L{layer}.attn")], Site::AttentionOut(Layer(layer))),
                    (vec![format!("L{layer}.mlp")], Site::MlpOut(Layer(layer))),
                ] {
                    let parts: Vec<f64> = starts.iter().filter_map(|starts| sum(starts)).collect();
                    if !parts.is_empty() {
                        let change = last(&after, site) - last(&before, site);
                        close(parts.iter().sum(), along(&change), &starts[0]);
                    }
                }
            }
        }
    });
}

/// Where no norm follows the blocks, the listed direct effects are those of the ablations.
#[test]
fn listed_direct_effects_are_those_of_ablations() {
    let checked = AtomicUsize::new(0);
    with_each_in(Dtype::F64, |case| {
        let _no_grad = tch::no_grad_guard();
        if case.loaded.model.spec.placement.after() {
            return;
        }
        let [components, neurons] = direct(&case.loaded.model, &prompt::of_pair(&case.pairs[0]), &answers());
        for (name, site) in
            [("L1.H1", Site::HeadOut(Layer(1))), ("L0.mlp", Site::MlpOut(Layer(0))), ("L1.N2", Site::MlpPost(Layer(1)))]
        {
            if site != Site::HeadOut(Layer(1)) && case.loaded.model.spec.mlp.is_none() {
                continue;
            }
            let (ablated, ..) = found(case, &format!("{name}:-1 = zero"), site);
            let listed = components.iter().chain(&neurons).find(|one| one.name == name).unwrap();
            assert!((listed.effect - ablated.direct).abs() < 1e-9, "{}, {listed:?}: {ablated:?}", case.name);
            checked.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert!(checked.into_inner() > 40);
}

/// Against means written out, and as an edit of a run: a mean over the prompt itself at its last position changes nothing there.
#[test]
fn a_mean_is_the_mean_of_what_prompts_have() {
    with_each_in(Dtype::F64, |case| {
        let _no_grad = tch::no_grad_guard();
        let model = &case.loaded.model;
        let prompts: Vec<_> = case.pairs[..3].iter().map(prompt::of_pair).collect();
        let site = Site::HeadOut(Layer(1));
        for (position, keep) in [(Position::All, usize::MAX), (Position::last(), 1)] {
            let sites = [site].into_iter().collect();
            let found = means::of(model, &sites, &prompts, &position, &mut |_| ()).unwrap();
            let mut rows: Vec<Tensor> = Vec::new();
            for (tokens, _) in &prompts {
                let mut record = Record::new([site]);
                let _ = model.forward(Start::Tokens(&row(tokens)), &Pass::ALL, &mut record);
                let value = record.finish().unwrap().values[&site].get(0); // [pos, head, d_model]
                let first = tokens.len() - keep.min(tokens.len());
                rows.extend((first..tokens.len()).map(|at| value.get(at as i64)));
            }
            let expected = Tensor::stack(&rows, 0).mean_dim(0, false, Kind::Double);
            let apart = (&found[&site] - expected).abs().max().double_value(&[]);
            assert!(apart < 1e-12, "{}, {position}: {apart}", case.name);
        }
        let plan = Plan { edits: vec![parse::edit("L1.H1:-1 = mean").unwrap()] };
        let sites = means::wanted(&plan, model).unwrap();
        let own = means::of(model, &sites, &prompts[..1], &Position::last(), &mut |_| ()).unwrap();
        let supplies = Supplies { means: own, ..Supplies::default() };
        let sampling = Sampling { temperature: 0.0, top_p: 1.0, seed: 0 };
        let continuation = Continuation { count: 0, sampling, stop: Vec::new() };
        let of = |plan: &Plan| run(model, &prompts[0].0, (plan, &prompts[0].1, &supplies), &continuation).unwrap().next;
        let apart = (of(&plan) - of(&Plan::default())).abs().max().double_value(&[]);
        assert!(apart < 1e-6, "{}: {apart}", case.name);
    });
}
