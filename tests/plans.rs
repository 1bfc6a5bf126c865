//! Plans on a model: every site of the grammar is readable and writable with gradients, and what must change nothing does.

#![cfg(feature = "torch")]

use indexmap::IndexMap;
use penjing::error::Hint;
use penjing::intervene::failure::RunError;
use penjing::intervene::parse;
use penjing::intervene::plan::Plan;
use penjing::intervene::position::Prompt;
use penjing::intervene::receipt::Receipt;
use penjing::intervene::record::{Keep, Record};
use penjing::intervene::run::{Donor, PlanTap, Supplies, run_plan};
use penjing::model::site::Site;
use penjing::model::spec::{Layer, Spec};
use penjing::model::tap::{NoTap, Tap};
use penjing::model::{KeepPast, Model, Pass, Past, Start};
use std::sync::Mutex;
use tch::{Device, Kind, Tensor};

const TOKENS: usize = 6;
const BATCH: i64 = 2;

/// Every part of the grammar, at a layer and unit in the middle.
const SITES: [&str; 15] = [
    "emb",
    "L1.in",
    "L1.mid",
    "L1.attn",
    "L1.mlp",
    "L1",
    "L1.H2",
    "L1.H2.q",
    "L1.H2.k",
    "L1.H2.v",
    "L1.H2.z",
    "L1.H2.pattern",
    "L1.N5",
    "L1.N5.pre",
    "final",
];

fn model() -> Model {
    // Tests run side by side: libtorch's operations must not each open a pool of threads as well.
    tch::set_num_threads(1);
    let spec = Spec { d_mlp: 64, ..Spec::gpt2(3, 4, 32, 40, 16) };
    // libtorch has one random generator for all threads.
    static GENERATOR: Mutex<()> = Mutex::new(());
    let _alone = GENERATOR.lock();
    Model::random(spec, 7)
}

/// Numbers without a pattern that the model could share, the same in every thread.
fn scattered(sizes: &[i64]) -> Tensor {
    let count: i64 = sizes.iter().product();
    (Tensor::arange(count, (Kind::Float, Device::Cpu)) * 1.7 + 0.3).sin().view(sizes) * 1.5
}

/// Two rows of different tokens: `[batch, pos]`.
fn tokens() -> Tensor {
    Tensor::from_slice(&[3i64, 14, 15, 9, 26, 5, 35, 8, 9, 7, 9, 32]).view([BATCH, TOKENS as i64])
}

fn prompts() -> Vec<Prompt> {
    vec![Prompt::of_length(TOKENS)]
}

fn vectors() -> Supplies {
    let names = [("wide", 32), ("head", 8), ("one", 1)];
    Supplies {
        vectors: names.map(|(name, length)| (name.to_string(), scattered(&[length]))).into(),
        ..Supplies::default()
    }
}

/// The name of a vector that fits a site.
fn vector_for(site: &str) -> &'static str {
    match site {
        "L1.H2.q" | "L1.H2.k" | "L1.H2.v" | "L1.H2.z" => "head",
        "L1.N5" | "L1.N5.pre" => "one",
        _ => "wide",
    }
}

fn plan(text: &str) -> Plan {
    parse::plan(text).unwrap_or_else(|error| panic!("{error}"))
}

/// Logits `[batch, pos, vocab]` of a run with a plan.
fn edited(model: &Model, text: &str, supplies: &Supplies) -> Result<(Tensor, Receipt), RunError> {
    let forward = |mut tap: &mut dyn Tap| model.forward(Start::Tokens(&tokens()), &Pass::ALL, &mut tap);
    run_plan(&plan(text), &model.spec, &prompts(), supplies, forward)
}

fn unedited(model: &Model) -> Tensor {
    model.forward(Start::Tokens(&tokens()), &Pass::ALL, &mut NoTap)
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

/// A number that depends on all logits, with a large gradient: their inner product with fixed weights.
fn scalar(logits: &Tensor) -> Tensor {
    (logits * scattered(&logits.size())).sum(Kind::Double)
}

#[test]
fn identities_change_nothing() {
    let (model, supplies) = (model(), vectors());
    let expected = unedited(&model);
    for site in SITES {
        let vector = vector_for(site);
        let mut plans =
            vec![format!("{site} = scale 1"), format!("{site} = from {site}"), format!("{site}:{{4,0}} = from {site}")];
        if !site.ends_with("pattern") {
            plans.push(format!("{site}:2..-1 = add 0*{vector}"));
            plans.push(format!("{site} = project 1*{vector}"));
        }
        for text in plans {
            let (logits, receipt) = edited(&model, &text, &supplies).unwrap_or_else(|error| panic!("{error}"));
            assert!(largest_difference(&logits, &expected) < 1e-5, "{text} changed the logits");
            let entry = &receipt.entries[0];
            assert_eq!((entry.changed, entry.values > 0), (0, true), "{entry}");
        }
    }
}

#[test]
fn every_site_can_be_written_and_the_receipt_says_so() {
    let (model, supplies) = (model(), vectors());
    let expected = unedited(&model);
    for site in SITES {
        for verb in ["zero", "scale -2", "set 0.5"] {
            let (logits, receipt) = edited(&model, &format!("{site}:{{1,4}} = {verb}"), &supplies).expect(site);
            assert!(largest_difference(&logits, &expected) > 1e-7, "{site} = {verb} changed nothing");
            // Causal: what happens at position 1 cannot reach position 0.
            let (first, wanted) = (logits.narrow(1, 0, 1), expected.narrow(1, 0, 1)); // [batch, 1, vocab]
            assert!(largest_difference(&first, &wanted) < 1e-6, "{site} = {verb} reached an earlier position");
            let [entry] = receipt.entries.as_slice() else { panic!("one entry for {site}") };
            let width = if site.ends_with("pattern") { TOKENS } else { supplies.vectors[vector_for(site)].numel() };
            assert_eq!(entry.positions, [1, 4]);
            assert_eq!(entry.values, 2 * BATCH as usize * width);
            assert!(entry.changed > 0 && entry.max_change > 0.0 && entry.l2_change >= entry.max_change, "{entry}");
        }
    }
}

#[test]
fn gradients_at_every_site_agree_with_finite_differences() {
    let model = model();
    for site in SITES {
        let slice = parse::address(site).expect(site).place.slices(&model.spec).expect(site).remove(0);
        let mut record = Record::new([slice.site]).keeping(Keep::Gradients);
        let logits = model.forward(Start::Tokens(&tokens()), &Pass::ALL, &mut record);
        let recording = record.finish().expect(site);
        let gradient = &recording.gradients(&scalar(&logits)).expect(site)[&slice.site];
        let value = recording.values[&slice.site].detach();
        // Along the value itself, so that the plan `scale 1 ± ε` is the finite difference: d/da f(a·x) = ∇f(x)·x.
        let product = gradient * value; // the site's shape
        let exact = match slice.units.as_deref() {
            None => product.sum(Kind::Double),
            Some([unit]) if slice.site == Site::Pattern(Layer(1)) => product.select(1, *unit as i64).sum(Kind::Double),
            Some([unit]) => product.select(2, *unit as i64).sum(Kind::Double),
            Some(units) => panic!("one unit, not {units:?}"),
        }
        .double_value(&[]);
        let at = |factor: f64| {
            let (logits, _) = edited(&model, &format!("{site} = scale {factor}"), &Supplies::default()).expect(site);
            scalar(&logits).double_value(&[])
        };
        // Fourth order and a large step: in f32 the logits' rounding, divided by the step, is the larger error.
        let step = 0.1;
        let (near, far) = (at(1.0 + step) - at(1.0 - step), at(1.0 + 2.0 * step) - at(1.0 - 2.0 * step));
        let numeric = (8.0 * near - far) / (12.0 * step);
        assert!(exact.abs() > 1e-6, "{site} has no gradient");
        assert!(
            (exact - numeric).abs() < 2e-3 * exact.abs() + 1e-5,
            "{site}: {exact} by the graph, {numeric} by differences"
        );
    }
}

#[test]
fn gradients_flow_through_edits() {
    let (model, supplies) = (model(), vectors());
    let direction = supplies.vectors["wide"].detach().set_requires_grad(true);
    let supplies = Supplies { vectors: [("v".to_string(), direction.shallow_clone())].into(), ..Supplies::default() };
    let forward = |mut tap: &mut dyn Tap| model.forward(Start::Tokens(&tokens()), &Pass::LAST, &mut tap);
    let run = |text: &str, supplies: &Supplies| {
        scalar(&run_plan(&plan(text), &model.spec, &prompts(), supplies, forward).expect(text).0)
    };
    for text in
        ["L0:1..3 = add 0.01*v", "L0.H1:-1 = set v", "L1.mid = project 0.5*v", "L1.H{0,2} = add 2*v; L1.H2 = scale 0.5"]
    {
        let gradients = Tensor::run_backward(&[run(text, &supplies)], &[&direction], false, false);
        let exact = gradients[0].square().sum(Kind::Double).double_value(&[]);
        assert!(exact > 0.0, "{text}");
        let moved = |step: f64| {
            let vector = direction.detach() + &gradients[0] * step;
            run(text, &Supplies { vectors: [("v".to_string(), vector)].into(), ..Supplies::default() })
                .double_value(&[])
        };
        let step = 1e-2 / exact.sqrt();
        let numeric = (8.0 * (moved(step) - moved(-step)) - (moved(2.0 * step) - moved(-2.0 * step))) / (12.0 * step);
        assert!((exact - numeric).abs() < 2e-2 * exact, "{text}: {exact} by the graph, {numeric} by differences");
    }
}

#[test]
fn a_recorded_branch_has_its_own_gradient() {
    let model = model();
    let layer = Layer(1);
    let gradients = |sites: Vec<Site>| {
        let mut record = Record::new(sites).keeping(Keep::Gradients);
        let logits = model.forward(Start::Tokens(&tokens()), &Pass::ALL, &mut record);
        record.finish().and_then(|recording| recording.gradients(&scalar(&logits))).expect("gradients")
    };
    let all = gradients(vec![Site::BlockOut(layer), Site::Mid(layer), Site::MlpIn(layer)]);
    // The residual stream's gradient is that of the skip path plus that of the MLP branch.
    let sum = &all[&Site::BlockOut(layer)] + &all[&Site::MlpIn(layer)];
    let largest = all[&Site::Mid(layer)].abs().max().double_value(&[]);
    assert!(largest_difference(&all[&Site::Mid(layer)], &sum) < 1e-5 * largest.max(1.0));
}

#[test]
fn a_recording_read_through_the_final_norm_gives_the_logits() {
    let model = model();
    let mut record = Record::new([Site::BlockOut(Layer(2))]);
    let logits = model.forward(Start::Tokens(&tokens()), &Pass::ALL, &mut record);
    let value = record.finish().expect("a recording").values.pop_first().expect("one site").1;
    let start = Start::Residual { layer: Layer(model.spec.layers), value };
    let read = model.forward(start, &Pass::ALL, &mut NoTap);
    assert!(largest_difference(&logits, &read) < 1e-5);
}

#[test]
fn edits_of_one_site_apply_in_the_order_of_the_plan() {
    let (model, supplies) = (model(), vectors());
    let of = |text: &str| edited(&model, text, &supplies).expect(text).0;
    let same = |a: &str, b: &str| assert!(largest_difference(&of(a), &of(b)) < 1e-5, "{a} and {b}");
    same(
        "L1.mlp = zero; L1.mlp = add 2*wide",
        "L1.mlp = add 2*wide; L1.mlp = from L1.mlp; L1.mlp = zero; L1.mlp = add 2*wide",
    );
    same("L1.mlp = add 2*wide; L1.mlp = scale 3", "L1.mlp = scale 3; L1.mlp = add 6*wide");
    same("L1.H* = zero", "L1.H*.z = zero");
    same("L1.H{0,1,2,3} = scale 0.5", "L1.H*.pattern = scale 0.5");
    same("L1.N* = scale 0", "L1.N0..63 = zero");
    same("L2 = set wide", "final = set wide");
    same("L1 = from emb; L2.in = scale 1", "L2.in = from emb");
    same("L1.mid = project 0*wide", "L1.mid = project 0*wide; L1.mid = project 0*wide");
}

#[test]
fn sources_pair_off_by_position_unit_and_prompt() {
    let model = model();
    let expected = unedited(&model);
    // The whole residual stream of the other row, in both rows: the logits are those of that row.
    let other = tokens().narrow(0, 1, 1); // [1, pos]
    let mut record =
        Record::new([Site::BlockOut(Layer(0)), Site::Projection(Layer(1), penjing::model::spec::Branch::Key)]);
    let _ = model.forward(Start::Tokens(&other), &Pass::LAST, &mut record);
    let donor = Donor { recording: record.finish().expect("a recording"), prompts: prompts() };
    let supplies = Supplies { donors: [("other".to_string(), donor)].into(), ..Supplies::default() };
    let (logits, receipt) = edited(&model, "L0 = from L0@other", &supplies).expect("a run");
    let wanted = expected.narrow(0, 1, 1); // [1, pos, vocab]
    assert!(largest_difference(&logits, &wanted.expand_as(&logits)) < 1e-5);
    // One row of the two was different; the other may differ by rounding.
    let entry = &receipt.entries[0];
    assert!(entry.values == 2 * TOKENS * 32 && entry.changed >= TOKENS * 32 && entry.max_change > 1e-3, "{entry}");
    // Positions pair off in the order written; one source position serves several.
    let of = |text: &str| edited(&model, text, &supplies).expect(text).0;
    let reversed = of("L0:{0,1,2,3,4,5} = from L0:{5,4,3,2,1,0}");
    assert!(largest_difference(&reversed, &expected) > 1e-4);
    assert!(largest_difference(&of("L0:2..4 = from L0:-1"), &of("L0:{2,3,4} = from L0:{5}; L1 = scale 1")) < 1e-5);
    assert!(
        largest_difference(&of("L1.H*.k = from L1.H2.k@other"), &of("L1.H{0..3}.k = from L1.H{2}.k:all@other")) == 0.0
    );
    let error = edited(&model, "L0:0..2 = from L0:0..1", &supplies).expect_err("three from two");
    assert_eq!(error.to_string(), "`L0:0..2 = from L0:0..1`: the source gives 2 positions for 3");
    let error = edited(&model, "L1 = from L1@other", &supplies).expect_err("not recorded");
    assert_eq!(error.to_string(), "`L1 = from L1@other`: `L1` was not recorded");
    let error = edited(&model, "L1 = from L0@othr", &supplies).expect_err("no such prompt");
    assert_eq!(error.hint().as_deref(), Some("did you mean `@other`?"));
}

#[test]
fn means_replace_at_a_site_or_at_each_position() {
    let model = model();
    let mut record = Record::new([Site::Z(Layer(1)), Site::MlpPost(Layer(0))]);
    let expected = model.forward(Start::Tokens(&tokens().narrow(0, 0, 1)), &Pass::ALL, &mut record);
    let values = record.finish().expect("a recording").values;
    // The mean by position over one prompt is the prompt: identity. [pos, ..]
    let means: IndexMap<Site, Tensor> = values.iter().map(|(site, value)| (*site, value.squeeze_dim(0))).collect();
    let supplies = Supplies { means, ..Supplies::default() };
    let (logits, _) = edited(&model, "L1.H{1,3}.z = mean; L0.N3..9 = mean", &supplies).expect("a run");
    assert!(largest_difference(&logits.narrow(0, 0, 1), &expected) < 1e-5);
    // A mean over positions too. [head, d_head]
    let mean = values[&Site::Z(Layer(1))].mean_dim([0i64, 1].as_slice(), false, Kind::Float);
    let supplies = Supplies { means: [(Site::Z(Layer(1)), mean)].into(), ..Supplies::default() };
    let (logits, _) = edited(&model, "L1.H{1,3}.z = mean", &supplies).expect("a run");
    assert!(largest_difference(&logits.narrow(0, 0, 1), &expected) > 1e-6);
    let error = edited(&model, "L0.mlp = mean", &supplies).expect_err("no mean");
    assert_eq!(error.to_string(), "`L0.mlp = mean`: no mean of `L0.mlp` was given");
}

#[test]
fn recorded_values_are_not_changed_by_later_edits() {
    let model = model();
    let mut record = Record::new([Site::BlockOut(Layer(1))]);
    let mut tap = PlanTap::new(&plan("L1 = zero"), &model.spec, &prompts(), &Supplies::default(), None).expect("a tap");
    let first = model.forward(Start::Tokens(&tokens()), &Pass::ALL, &mut (&mut record, &mut tap));
    tap.finish().expect("a receipt");
    let recorded: Tensor = record.finish().expect("a recording").values.pop_first().expect("one site").1;
    assert!(recorded.abs().min().double_value(&[]) > 0.0);
    let start = Start::Residual { layer: Layer(2), value: recorded };
    let read = model.forward(start, &Pass::ALL, &mut NoTap);
    assert!(largest_difference(&read, &unedited(&model)) < 1e-5 && largest_difference(&read, &first) > 1e-4);
}

/// Keys and values of the first `length` positions.
fn prefix(model: &Model, length: usize) -> Past {
    let mut keep = KeepPast::default();
    let _ = model.forward(Start::Tokens(&tokens().narrow(1, 0, length as i64)), &Pass::LAST, &mut keep);
    keep.finish()
}

#[test]
fn a_pass_over_a_suffix_gives_what_the_whole_pass_gives() {
    let (model, supplies) = (model(), vectors());
    for text in [
        "L0.H1:3..-1 = scale 2",
        "L1:-1 = add 3*wide",
        "L1.H2.pattern:4 = scale 0.5",
        "final:gen = scale 2",
        "final = add 9*wide",
    ] {
        let forward = |mut tap: &mut dyn Tap| model.forward(Start::Tokens(&tokens()), &Pass::LAST, &mut tap);
        let (whole, _) = run_plan(&plan(text), &model.spec, &prompts(), &supplies, forward).expect(text);
        let past = prefix(&model, 3);
        let suffix = tokens().narrow(1, 3, 3);
        let pass = Pass::after(Some(&past));
        let forward = |mut tap: &mut dyn Tap| model.forward(Start::Tokens(&suffix), &pass, &mut tap);
        let (shared, receipt) = run_plan(&plan(text), &model.spec, &prompts(), &supplies, forward).expect(text);
        assert!(largest_difference(&whole, &shared) < 1e-5, "{text}");
        assert!(receipt.entries[0].positions.iter().all(|position| *position >= 3));
    }
    let tap = |text: &str| PlanTap::new(&plan(text), &model.spec, &prompts(), &supplies, None).expect(text);
    assert_eq!(tap("L1:-2 = zero; L0:3..4 = zero").first_position(), 3);
}

#[test]
fn a_tap_follows_passes_beyond_the_prompt() {
    let model = model();
    let mut tap =
        PlanTap::new(&plan("L1.mlp:gen = zero"), &model.spec, &[Prompt::of_length(4)], &Supplies::default(), None)
            .expect("a tap");
    let mut keep = KeepPast::default();
    let _ = model.forward(Start::Tokens(&tokens().narrow(1, 0, 4)), &Pass::LAST, &mut (&mut tap, &mut keep));
    tap.end = 6;
    let past = keep.finish();
    let pass = Pass::after(Some(&past));
    let _ = model.forward(Start::Tokens(&tokens().narrow(1, 4, 2)), &pass, &mut tap);
    assert_eq!(tap.finish().expect("a receipt").entries[0].positions, [3, 4, 5]);
}

#[test]
fn an_edit_that_touches_less_than_it_says_is_an_error() {
    let (model, supplies) = (model(), Supplies::default());
    let past = prefix(&model, 3);
    let suffix = |text: &str| {
        let mut tap = PlanTap::new(&plan(text), &model.spec, &prompts(), &supplies, None).expect(text);
        let pass = Pass::after(Some(&past));
        let _ = model.forward(Start::Tokens(&tokens().narrow(1, 3, 3)), &pass, &mut tap);
        tap.finish()
    };
    let error = suffix("L1.mlp = zero").expect_err("part of it is in the prefix");
    assert_eq!(error.to_string(), "`L1.mlp = zero` did not touch all it says: `L1.mlp` was not computed at position 0");
    assert_eq!(error.hint().as_deref(), Some("`L1.mlp` was computed at positions 3..5"));
    let error = suffix("L1.mlp:{1,4} = zero").expect_err("position 1 is in the prefix");
    assert_eq!(
        error.to_string(),
        "`L1.mlp:{1,4} = zero` did not touch all it says: `L1.mlp` was not computed at position 1"
    );
    let error = suffix("final:3 = zero").expect_err("only the last position is read");
    assert_eq!(error.hint().as_deref(), Some("`final` was computed at position 5"));

    let value = Tensor::zeros([BATCH, TOKENS as i64, 32], (Kind::Float, Device::Cpu));
    let mut tap = PlanTap::new(&plan("L0.mlp = zero"), &model.spec, &prompts(), &supplies, None).expect("a tap");
    let _ = model.forward(Start::Residual { layer: Layer(1), value }, &Pass::LAST, &mut tap);
    let error = tap.finish().expect_err("layer 0 was skipped");
    assert_eq!(error.to_string(), "`L0.mlp = zero` touched nothing: the run had no site `L0.mlp`");
    assert_eq!(error.hint().as_deref(), Some("the nearest site is `L1.mlp`"));

    let mut record = Record::new([Site::Mid(Layer(8))]);
    let _ = model.forward(Start::Tokens(&tokens()), &Pass::LAST, &mut record);
    let error = record.finish().err().expect("there is no layer 8");
    assert_eq!(error.to_string(), "`read` touched nothing: the run had no site `L8.mid`");
    assert_eq!(error.hint().as_deref(), Some("the nearest site is `L2.mid`"));
}

#[test]
fn runs_that_make_no_sense_are_refused() {
    let model = model();
    let nothing = Tensor::zeros([32], (Kind::Float, Device::Cpu));
    let supplies = Supplies {
        vectors: [("zero".to_string(), nothing.shallow_clone()), ("nan".to_string(), nothing / 0.0)].into(),
        ..Supplies::default()
    };
    let message = |text: &str| edited(&model, text, &supplies).expect_err(text).to_string();
    assert_eq!(message("L1 = project 0*zero"), "the vector `zero` is zero and so has no direction");
    assert_eq!(message("L1 = add 1*nan"), "the vector `nan` has numbers that are not finite");
    assert_eq!(message("L1 = add 1*none"), "`L1 = add 1*none`: there is no vector `none`");
    assert_eq!(message("L9 = zero"), "`L9 = zero`: the model has no layer 9, its layers are 0 to 2");
    assert_eq!(message("L1:S2 = zero"), "`L1:S2 = zero`: there is no position named `S2`");
    assert_eq!(message("L1:9 = zero"), "`L1:9 = zero`: position 9 is outside the prompt of 6 tokens");
    let lengths = [Prompt::of_length(6), Prompt::of_length(5)];
    let error =
        PlanTap::new(&plan("L1 = zero"), &model.spec, &lengths, &supplies, None).err().expect("unequal lengths");
    assert_eq!(error.to_string(), "a batch of prompts of different length cannot run together (5 and 6 tokens)");
    let three = [0, 1, 2].map(|_| Prompt::of_length(6));
    let mut tap = PlanTap::new(&plan("L1 = zero"), &model.spec, &three, &supplies, None).expect("a tap");
    let _ = model.forward(Start::Tokens(&tokens()), &Pass::LAST, &mut tap);
    assert_eq!(
        tap.finish().expect_err("three for two").to_string(),
        "`L1 = zero`: 3 prompts were given for a batch of 2"
    );
}

#[test]
fn each_prompt_of_a_batch_has_its_own_positions() {
    let model = model();
    let named = |range| Prompt { names: [("subject".to_string(), range)].into(), ..Prompt::of_length(TOKENS) };
    let prompts = [named(1..2), named(4..6)];
    let forward = |mut tap: &mut dyn Tap| model.forward(Start::Tokens(&tokens()), &Pass::ALL, &mut tap);
    let run = run_plan(&plan("L0:subject = zero"), &model.spec, &prompts, &Supplies::default(), forward);
    let (logits, receipt) = run.expect("a run");
    assert_eq!((receipt.entries[0].positions.as_slice(), receipt.entries[0].values), ([1, 4, 5].as_slice(), 3 * 32));
    let expected = unedited(&model);
    let first_changed = |row: i64| {
        let changes = (logits.select(0, row) - expected.select(0, row)).abs().amax([1i64].as_slice(), false); // [pos]
        (0..TOKENS as i64).find(|&position| changes.double_value(&[position]) > 1e-6)
    };
    assert_eq!((first_changed(0), first_changed(1)), (Some(1), Some(4)));
}

#[test]
fn probes_read_what_they_name() {
    let model = model();
    let slices = |text: &str| parse::address(text).expect(text).place.slices(&model.spec).expect(text);
    let sites: Vec<Site> =
        ["L*", "L1.H2.z", "L1.N5", "final"].iter().flat_map(|text| slices(text)).map(|slice| slice.site).collect();
    let mut record = Record::new(sites).keeping(Keep::Values);
    let _ = model.forward(Start::Tokens(&tokens()), &Pass::LAST, &mut record);
    let recording = record.finish().expect("a recording");
    let probe = |text: &str| recording.probe(&parse::address(text).expect(text), &model.spec, &prompts());
    let (probed, receipt) = probe("L*").expect("a probe");
    assert_eq!((probed.len(), receipt.entries[2].positions.as_slice()), (3, [5].as_slice()));
    let last = recording.values[&Site::BlockOut(Layer(2))].narrow(1, 5, 1); // [batch, 1, d_model]
    assert_eq!(largest_difference(&probed[2].values, &last), 0.0);
    assert_eq!(largest_difference(&probe("final").expect("a probe").0[0].values, &last), 0.0);
    let (head, _) = probe("L1.H2.z:{4,0}").expect("a probe");
    assert_eq!(
        (head[0].cells.as_slice(), head[0].values.size()),
        ([(0, 4), (0, 0), (1, 4), (1, 0)].as_slice(), vec![4, 1, 8])
    );
    let neuron = &recording.values[&Site::MlpPost(Layer(1))];
    let (values, _) = probe("L1.N5:3").expect("a probe");
    assert_eq!(values[0].values.double_value(&[1, 0, 0]), neuron.double_value(&[1, 3, 5]));
    assert_eq!(
        probe("L1.mlp").err().map(|error| error.to_string()).as_deref(),
        Some("`read L1.mlp`: `L1.mlp` was not recorded")
    );
    assert!(matches!(probe("final:0"), Err(RunError::SourcePosition { position: 0, first: 5, last: 5, .. })));
}
