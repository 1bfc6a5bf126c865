//! The tuned lens: zero translators are the logit lens, gradients are those of finite differences, training helps on text
//! that did not train; and Patchscopes and back-patching in rows against single runs.

#![cfg(feature = "torch")]

mod fixtures;

use fixtures::with_each_in;
use penjing::inside::corpus::Corpus;
use penjing::inside::lens::{Question, decode, decode_through};
use penjing::inside::store::{Origin, Recorded, StoreError};
use penjing::inside::tune::{self, Optimiser, Options};
use penjing::inside::tuned::{self, Translator, TunedLens, TunedLensV1};
use penjing::model::tap::NoTap;
use penjing::model::{Dtype, Pass, Start, load};
use penjing::task::{self, Expansion, Split};
use std::sync::atomic::{AtomicUsize, Ordering};
use tch::{Device, Kind, Tensor};

fn row(tokens: &[u32]) -> Tensor {
    Tensor::from_slice(&tokens.iter().map(|&token| i64::from(token)).collect::<Vec<_>>()).unsqueeze(0)
}

fn corpus(pairs: &[penjing::dataset::TokenPair]) -> Corpus {
    let mut corpus = Corpus { lead: 1, ..Corpus::default() };
    for (index, pair) in pairs.iter().enumerate() {
        let start = corpus.tokens.len();
        corpus.tokens.extend(&pair.clean[..pair.len() - index % 2]);
        corpus.windows.push(start..corpus.tokens.len());
    }
    corpus
}

#[test]
fn zero_translators_are_the_logit_lens() {
    with_each_in(Dtype::F64, |case| {
        let (model, tokens) = (&case.loaded.model, &case.pairs[0].clean);
        let question = Question { top: 3, watched: vec![vec![2]], ..Question::default() };
        let plain = decode(model, tokens, &question, &mut |_| ());
        let zero = TunedLens::zero(model);
        let through = decode_through(model, tokens, Some(&zero), &question, &mut |_| ());
        assert_eq!(plain, through, "{}", case.name);
        // And what is measured over a text is the mean of what the lens says token by token.
        let corpus = corpus(&case.pairs);
        let measured = tune::measure(model, &corpus, &corpus.windows, &zero);
        let decoded: Vec<_> = corpus
            .windows
            .iter()
            .map(|window| decode(model, &corpus.tokens[window.clone()], &Question::default(), &mut |_| ()))
            .collect();
        for (place, found) in measured.iter().enumerate() {
            let cells: Vec<f64> =
                decoded.iter().flat_map(|one| one.cells[place][1..].iter().map(|cell| cell.divergence)).collect();
            let mean = cells.iter().sum::<f64>() / cells.len() as f64;
            assert!((found.divergence - mean).abs() < 1e-5 * (1.0 + mean), "{}, {place}: {found:?}, {mean}", case.name);
        }
        let output = measured.last().unwrap();
        let (mut sum, mut count) = (0.0, 0.0);
        for window in &corpus.windows {
            let tokens = &corpus.tokens[window.clone()];
            let logits = tch::no_grad(|| model.forward(Start::Tokens(&row(tokens)), &Pass::ALL, &mut NoTap).get(0));
            let said = logits.log_softmax(-1, Kind::Double);
            for at in 1..tokens.len() - 1 {
                sum -= said.double_value(&[at as i64, i64::from(tokens[at + 1])]);
                count += 1.0;
            }
        }
        assert!((output.cross_entropy - sum / count).abs() < 1e-9, "{}: {output:?}, {}", case.name, sum / count);
        assert_eq!(output.divergence, 0.0);
    });
}

/// Each parameter moved by hand.
#[test]
fn the_gradient_of_the_loss_is_that_of_finite_differences() {
    let checked = AtomicUsize::new(0);
    with_each_in(Dtype::F64, |case| {
        let (model, width) = (&case.loaded.model, case.loaded.model.spec.d_model as i64);
        let options = (Kind::Double, Device::Cpu);
        let wave = |size: i64, step: f64| (Tensor::arange(size, options) * step).sin() * 0.1;
        let stream = tch::no_grad(|| model.embed(&row(&case.pairs[0].clean), None, &mut NoTap).get(0));
        let output = tch::no_grad(|| tuned::decode(model, &(&stream * 1.5 + wave(width, 0.7))));
        let parts = [wave(width * width, 0.37).view([width, width]), wave(width, 1.3)];
        let leaves = parts.each_ref().map(|part| part.copy().set_requires_grad(true));
        let [weight, bias] = leaves.each_ref().map(Tensor::shallow_clone);
        let loss = tune::loss(model, &Translator { weight, bias }, &stream, &output);
        let gradients = Tensor::run_backward(&[loss], &leaves.iter().collect::<Vec<_>>(), false, false);
        let at = |which: usize, index: i64, by: f64| {
            let moved = parts.each_ref().map(Tensor::copy);
            let flat = moved[which].view([-1]);
            let _ = flat.get(index).fill_(flat.double_value(&[index]) + by);
            let [weight, bias] = moved;
            tch::no_grad(|| tune::loss(model, &Translator { weight, bias }, &stream, &output).double_value(&[]))
        };
        for (which, index) in [(0, 0), (0, width + 2), (0, width * width - 1), (1, 0), (1, width - 1)] {
            let slope = (at(which, index, 1e-5) - at(which, index, -1e-5)) / 2e-5;
            let found = gradients[which].view([-1]).double_value(&[index]);
            assert!((slope - found).abs() < 1e-7 * (1.0 + slope.abs()), "{}: {found}, {slope}", case.name);
            checked.fetch_add(usize::from(found.abs() > 1e-6), Ordering::Relaxed);
        }
    });
    assert!(checked.into_inner() > 60, "the loss is flat");
}

fn options(optimiser: Optimiser) -> Options {
    Options { steps: 30, tokens_a_step: 512, optimiser, rate: 1.0, weight_decay: 1e-3, seed: 2 }
}

#[test]
fn training_comes_nearer_to_the_model_on_other_text() {
    tch::set_num_threads(1);
    let loaded = load("toy-2l").unwrap();
    let mut texts = Vec::new();
    for name in ["ioi", "two-hop", "subject-verb-agreement"] {
        let expansion = Expansion { split: Split::Train, pairs: 40, seed: 1, corruption: None };
        let pairs = task::expand(&task::resolve(name).unwrap(), &expansion).unwrap();
        texts.extend(pairs.into_iter().map(|pair| pair.clean));
    }
    let corpus = Corpus::new(texts.iter().map(String::as_str), &loaded.tokenizer, 64, None).unwrap();
    let [train, held] = tune::split(&corpus, 2);
    assert!(held.iter().all(|window| !train.contains(window)) && held.len() == 30, "{held:?}");
    let plain = tune::measure(&loaded.model, &corpus, &held, &TunedLens::zero(&loaded.model));
    for optimiser in [Optimiser::Sgd, Optimiser::Adam] {
        let lens = tune::train(&loaded.model, &corpus, &train, &options(optimiser), &mut |_| ()).unwrap();
        let tuned = tune::measure(&loaded.model, &corpus, &held, &lens);
        let (before, after) = (&plain[..plain.len() - 1], &tuned[..tuned.len() - 1]);
        for (before, after) in before.iter().zip(after) {
            assert!(after.divergence < before.divergence, "{optimiser:?}: {before:?}, {after:?}");
        }
        assert_eq!(plain.last(), tuned.last(), "the model's own output is nobody's to tune");
        // The same seed gives the same translators.
        let again = tune::train(&loaded.model, &corpus, &train, &options(optimiser), &mut |_| ()).unwrap();
        for (one, other) in lens.translators.iter().zip(&again.translators) {
            assert!(one.weight.equal(&other.weight) && one.bias.equal(&other.bias));
        }
    }
}

/// The first step of SGD by hand: against the gradient, by the rate, after clipping; momentum counts twice in Nesterov's form.
#[test]
fn a_step_goes_against_the_clipped_gradient() {
    with_each_in(Dtype::F64, |case| {
        let (model, corpus) = (&case.loaded.model, corpus(&case.pairs));
        let windows = &corpus.windows[..1];
        let one = Options { steps: 1, tokens_a_step: 1, weight_decay: 0.0, ..options(Optimiser::Sgd) };
        let lens = tune::train(model, &corpus, windows, &one, &mut |_| ()).unwrap();
        let moved: f64 = lens
            .translators
            .iter()
            .flat_map(|one| [&one.weight, &one.bias])
            .map(|part| part.square().sum(Kind::Double).double_value(&[]))
            .sum();
        let mut gradients: Vec<Tensor> = Vec::new();
        let tokens = row(&corpus.tokens[windows[0].clone()]);
        let mut streams = vec![tch::no_grad(|| model.embed(&tokens, None, &mut NoTap))];
        for layer in 0..model.spec.layers {
            let before = streams[layer].shallow_clone();
            streams.push(tch::no_grad(|| model.some_blocks(layer..layer + 1, before, &Pass::ALL, &mut NoTap)));
        }
        let flat = |stream: &Tensor| stream.get(0).narrow(0, 1, stream.size()[1] - 1);
        let output = tch::no_grad(|| tuned::decode(model, &flat(streams.last().unwrap())));
        for (index, stream) in streams[..model.spec.layers].iter().enumerate() {
            let Translator { weight, bias } = TunedLens::zero(model).translators.swap_remove(index);
            let leaves = [weight.set_requires_grad(true), bias.set_requires_grad(true)];
            let [weight, bias] = leaves.each_ref().map(Tensor::shallow_clone);
            let loss = tune::loss(model, &Translator { weight, bias }, &flat(stream), &output);
            gradients.extend(Tensor::run_backward(&[loss], &[&leaves[0], &leaves[1]], false, false));
        }
        let length = gradients.iter().map(|part| part.square().sum(Kind::Double).double_value(&[])).sum::<f64>().sqrt();
        let factor = -(1.0 / (length + 1e-6)).min(1.0) * 0.1 * 1.9;
        for (index, translator) in lens.translators.iter().enumerate() {
            for (part, gradient) in [&translator.weight, &translator.bias].into_iter().zip(&gradients[2 * index..]) {
                let apart = (part - gradient * factor).abs().max().double_value(&[]);
                assert!(apart < 1e-7, "{}, {index}: {apart}", case.name);
            }
        }
        assert!(moved > 0.0, "{}", case.name);
    });
}

#[test]
fn a_lens_is_kept_and_of_one_model() {
    with_each_in(Dtype::F64, |case| {
        let (model, corpus) = (&case.loaded.model, corpus(&case.pairs));
        let short = Options { steps: 2, ..options(Optimiser::Adam) };
        let lens = tune::train(model, &corpus, &corpus.windows, &short, &mut |_| ()).unwrap();
        let mut record = TunedLensV1 {
            schema: TunedLensV1::SCHEMA.into(),
            origin: Origin::of(model, "fixture"),
            text: "pairs".into(),
            tokens: 1,
            tokens_a_step: 512,
            steps: 2,
            optimiser: "adam-amsgrad".into(),
            seed: 2,
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lens.safetensors");
        std::fs::write(&path, lens.to_bytes(&record).unwrap()).unwrap();
        let (read, found) = TunedLens::from_file(&path, model).unwrap();
        assert_eq!(found, record);
        for (one, other) in lens.translators.iter().zip(&read.translators) {
            let apart = (&one.weight - &other.weight).abs().max().double_value(&[]);
            let moved = one.weight.abs().max().double_value(&[]);
            assert!(moved > 0.0 && apart <= 1e-6 * moved, "{}: {apart} of {moved}", case.name);
        }
        record.origin.weights = "of another".into();
        std::fs::write(&path, lens.to_bytes(&record).unwrap()).unwrap();
        assert!(matches!(TunedLens::from_file(&path, model), Err(StoreError::OtherModel { .. })));
        let short = TunedLens { translators: lens.translators.into_iter().skip(1).collect() };
        record.origin = Origin::of(model, "fixture");
        std::fs::write(&path, short.to_bytes(&record).unwrap()).unwrap();
        assert!(matches!(TunedLens::from_file(&path, model), Err(StoreError::Other { .. })));
    });
}
