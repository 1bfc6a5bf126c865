//! The tuned lens: zero translators are the logit lens, gradients are those of finite differences, training helps on text
//! that did not train; and Patchscopes and back-patching in rows against single runs.

#![cfg(feature = "torch")]

mod fixtures;

use fixtures::with_each_in;
use penjing::dataset::TokenPair;
use penjing::inside::affine::{self, Maps, MapsV1};
use penjing::inside::backpatch::{self, Criterion};
use penjing::inside::corpus::Corpus;
use penjing::inside::doses;
use penjing::inside::generate::{Continuation, Sampling, run};
use penjing::inside::hops::Hops;
use penjing::inside::lens::{Question, decode, decode_through};
use penjing::inside::natural;
use penjing::inside::patchscope::{Mapping, Target};
use penjing::inside::prompt::of_pair;
use penjing::inside::scope;
use penjing::inside::store::{Origin, Recorded, StoreError};
use penjing::inside::tune::{self, Optimiser, Options};
use penjing::inside::tuned::{self, Translator, TunedLens, TunedLensV1};
use penjing::intervene::parse;
use penjing::intervene::plan::Plan;
use penjing::intervene::position::Prompt;
use penjing::intervene::record::{Keep, Record};
use penjing::intervene::run::Supplies;
use penjing::model::site::Site;
use penjing::model::spec::Layer;
use penjing::model::tap::NoTap;
use penjing::model::{Dtype, Model, Pass, Start, load};
use penjing::task::{self, Expansion, Lesson, Split};
use std::sync::atomic::{AtomicUsize, Ordering};
use tch::{Device, Kind, Tensor};

fn row(tokens: &[u32]) -> Tensor {
    Tensor::from_slice(&tokens.iter().map(|&token| i64::from(token)).collect::<Vec<_>>()).unsqueeze(0)
}

fn corpus(pairs: &[TokenPair]) -> Corpus {
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

const GREEDY: Sampling = Sampling { temperature: 0.0, top_p: 1.0, seed: 0 };

fn plan(edit: &str) -> Plan {
    Plan { edits: vec![parse::edit(edit).unwrap()] }
}

/// One site over a whole prompt: `[pos, ..]`.
fn value(model: &Model, tokens: &[u32], site: Site) -> Tensor {
    let mut record = Record::new([site]).keeping(Keep::Values);
    let _ = tch::no_grad(|| model.forward(Start::Tokens(&row(tokens)), &Pass::ALL, &mut record));
    record.finish().unwrap().values[&site].get(0)
}

/// Rows of one batch, over the keys and values of what stands before, against edits that set a vector in whole runs; a target
/// of a single token too.
#[test]
fn values_put_in_side_by_side_are_runs_by_themselves() {
    with_each_in(Dtype::F64, |case| {
        let model = &case.loaded.model;
        let last = model.spec.layers - 1;
        let count = if model.spec.attention.causal { 3.min(model.spec.context - 4) } else { 1 };
        let continuation = Continuation { count, sampling: GREEDY, stop: Vec::new() };
        for (length, layer, position) in [(4, 0, 2), (4, 0, 0), (3, last, 2), (1, 0, 0), (1, last, 0)] {
            let target: Vec<u32> = case.pairs[1].clean[..length].to_vec();
            let prompt = Prompt::of_length(length);
            let values = value(model, &case.pairs[0].clean, Site::BlockOut(Layer(last))).narrow(0, 0, 3) * 2.0; // [3, d_model]
            let prepared = Target::new(model, &(target.clone(), prompt.clone()));
            let found = prepared.with_each(layer, position, &values, &continuation);
            assert_eq!(found.len(), 3);
            for (index, found) in found.iter().enumerate() {
                let what = format!("{}: row {index} into L{layer}:{position} of {length}", case.name);
                let mut supplies = Supplies::default();
                supplies.vectors.insert("v".into(), values.get(index as i64));
                let edit = plan(&format!("L{layer}:{position} = set v"));
                let expected = run(model, &target, (&edit, &prompt, &supplies), &continuation).unwrap();
                let apart = (&found.next - &expected.next).abs().max().double_value(&[]);
                assert!(apart < 1e-6, "{what}: {apart}");
                assert_eq!(found.tokens, expected.tokens, "{what}");
                let alone = prepared.with(layer, position, &values.get(index as i64), Mapping::Identity, &continuation);
                assert!((&found.next - &alone.next).abs().max().double_value(&[]) < 1e-6, "{what}");
                // A token that ends it is not part of it, whatever the others do.
                let stop = vec![expected.tokens[0]];
                let ended =
                    prepared.with_each(layer, position, &values, &Continuation { stop, ..continuation.clone() });
                assert!(ended[index].tokens.is_empty(), "{what}");
            }
        }
    });
}

/// The residue of least squares stands on every column that it was fitted with; a layer's map to itself changes nothing.
#[test]
fn affine_maps_are_least_squares() {
    with_each_in(Dtype::F64, |case| {
        let (model, corpus) = (&case.loaded.model, corpus(&case.pairs));
        let pairs = [(0, 1), (1, 0), (0, 0)];
        let maps = affine::fit(model, &corpus, &pairs, &mut |_| ());
        let streams = [0, 1].map(|layer| {
            let rows = corpus.windows.iter().map(|window| {
                let all = value(model, &corpus.tokens[window.clone()], Site::BlockOut(Layer(layer)));
                all.narrow(0, 1, all.size()[0] - 1)
            });
            Tensor::cat(&rows.collect::<Vec<_>>(), 0)
        }); // [tokens, d_model]
        for (source, target) in pairs {
            let mapped = maps.apply((source, target), &streams[source]).unwrap();
            let residue = &mapped - &streams[target];
            let ones = streams[source].narrow(1, 0, 1).ones_like();
            let columns = Tensor::cat(&[streams[source].shallow_clone(), ones], 1);
            let left = columns.tr().matmul(&residue).abs().max().double_value(&[]);
            let size = columns.tr().matmul(&columns).abs().max().double_value(&[]);
            assert!(left < 1e-7 * (1.0 + size), "{}, {source} to {target}: {left} of {size}", case.name);
            if source == target {
                let apart = residue.abs().max().double_value(&[]);
                assert!(apart < 1e-5 * streams[0].abs().max().double_value(&[]), "{}: {apart}", case.name);
            }
        }
        assert!(maps.apply((1, 1), &streams[1]).is_none());
        let mut record = MapsV1 {
            schema: MapsV1::SCHEMA.into(),
            origin: Origin::of(model, "fixture"),
            text: "pairs".into(),
            tokens: 1,
            pairs: pairs.to_vec(),
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("maps.safetensors");
        std::fs::write(&path, maps.to_bytes(&record).unwrap()).unwrap();
        let (read, _) = Maps::from_file(&path, model).unwrap();
        let [kept, own] = [&read, &maps].map(|maps| maps.apply((0, 1), &streams[0]).unwrap());
        let apart = (kept - &own).abs().max().double_value(&[]);
        assert!(apart < 1e-3 * (1.0 + own.abs().max().double_value(&[])), "{}: {apart}", case.name);
        record.origin.weights = "of another".into();
        std::fs::write(&path, maps.to_bytes(&record).unwrap()).unwrap();
        assert!(matches!(Maps::from_file(&path, model), Err(StoreError::OtherModel { .. })));
    });
}

/// Against what runs with edits say, source by source.
#[test]
fn precision_and_surprisal_are_those_of_single_runs() {
    let hits = AtomicUsize::new(0);
    with_each_in(Dtype::F64, |case| {
        let model = &case.loaded.model;
        let nothing_more = Continuation { count: 0, sampling: GREEDY, stop: Vec::new() };
        let sources: Vec<_> = case.pairs.iter().map(|pair| (of_pair(pair), pair.len() - 2)).collect();
        let read = scope::sources(model, &sources, &mut |_| ());
        let target = (case.pairs[0].corrupt[..3].to_vec(), Prompt::of_length(3));
        let prepared = Target::new(model, &target);
        for layer in 0..model.spec.layers {
            let found = scope::scores(&prepared, (layer, 2), &read.values[layer], &read.said);
            for ((hit, surprisal), ((tokens, _), at)) in found.into_iter().zip(&sources) {
                let logits = tch::no_grad(|| model.forward(Start::Tokens(&row(tokens)), &Pass::ALL, &mut NoTap));
                let said = logits.get(0).get(*at as i64).log_softmax(-1, Kind::Double);
                let mut supplies = Supplies::default();
                let put = value(model, tokens, Site::BlockOut(Layer(layer))).get(*at as i64);
                supplies.vectors.insert("v".into(), put);
                let edit = plan(&format!("L{layer}:2 = set v"));
                let next = run(model, &target.0, (&edit, &target.1, &supplies), &nothing_more).unwrap().next;
                let token = next.argmax(-1, false).int64_value(&[]);
                assert_eq!(hit, token == said.argmax(-1, false).int64_value(&[]), "{}, L{layer}", case.name);
                assert!((surprisal + said.double_value(&[token])).abs() < 1e-6, "{}, L{layer}", case.name);
                hits.fetch_add(usize::from(hit), Ordering::Relaxed);
                // At the last layer the target's own context is gone.
                assert!(hit || layer + 1 < model.spec.layers, "{}", case.name);
            }
        }
    });
    assert!(hits.into_inner() > 29);
}

/// By what runs with such edits go on with.
#[test]
fn back_patching_counts_generated_answers() {
    let mended = AtomicUsize::new(0);
    with_each_in(Dtype::F64, |case| {
        let (model, layers) = (&case.loaded.model, case.loaded.model.spec.layers);
        if !model.spec.attention.causal {
            return;
        }
        let decode = |tokens: &[u32]| tokens.iter().map(|token| format!("<{token}>")).collect::<String>();
        let count = 2.min(model.spec.context - case.pairs.iter().map(TokenPair::len).max().unwrap());
        let continuation = Continuation { count, sampling: GREEDY, stop: Vec::new() };
        let goes_on = |pair: &TokenPair, edit: &Plan| {
            let of = (edit, &Prompt::of_length(pair.len()), &Supplies::default());
            decode(&run(model, &pair.clean, of, &continuation).unwrap().tokens)
        };
        // Answers that some pair of layers gives as its last generated token.
        let mut pairs: Vec<TokenPair> = case.pairs.to_vec();
        for pair in &mut pairs {
            let at = pair.len() - 1;
            let text = goes_on(pair, &plan(&format!("L0:{at} = from L1:{at}")));
            pair.prompt.right = vec![format!(" {}", &text[text.rfind('<').unwrap()..])];
        }
        let criterion = Criterion::Text { count, stop: Vec::new(), decode: &decode };
        let holds = |pair: &TokenPair, text: &str| text.contains(pair.prompt.right[0].trim());
        let failures = backpatch::wrong_by(model, &pairs, &criterion);
        let expected: Vec<&TokenPair> =
            pairs.iter().filter(|pair| !holds(pair, &goes_on(pair, &Plan::default()))).collect();
        assert_eq!(failures.len(), expected.len(), "{}", case.name);
        let found = backpatch::at_by(model, "end", &failures, &criterion, &mut |_| ());
        for (pair, count) in found.pairs {
            let mends = |one: &&&TokenPair| {
                let at = one.len() - 1;
                holds(one, &goes_on(one, &plan(&format!("L{}:{at} = from L{}:{at}", pair.target, pair.source))))
            };
            assert_eq!(count, expected.iter().filter(mends).count(), "{}, {pair:?} of {layers}", case.name);
            mended.fetch_add(count, Ordering::Relaxed);
        }
    });
    assert!(mended.into_inner() > 20, "nothing is mended");
}

#[test]
fn hops_are_chains_of_taught_sentences() {
    tch::set_num_threads(1);
    let loaded = load("toy-6l").unwrap();
    let task = task::resolve("two-hop").unwrap();
    let expansion = Expansion { split: Split::Test, pairs: 6, seed: 0, corruption: None };
    let prompts = task::expand(&task, &expansion).unwrap();
    let pairs = penjing::dataset::tokenize(&prompts, &loaded.tokenizer, None).unwrap().pairs;
    let lessons = task::lessons(&task, 4000, 0);
    let mut hops = Hops::new(&loaded, None, &lessons);
    assert!(pairs.iter().all(|pair| hops.known(pair) == Some(true)), "the model was taught these hops");
    assert!(pairs.iter().all(|pair| Hops::new(&loaded, None, &[]).known(pair).is_none()));
    // A chain through another country, whose capital the model will not give as this one's.
    let pair = &pairs[0];
    let city = pair.prompt.clean[pair.prompt.positions["CITY"].clone()].trim().to_owned();
    let lesson = |text: String, right: &str| Lesson { text, right: vec![right.to_owned()], name: String::new() };
    let first = format!("Last year Mary lived in {city}. The name of that country is");
    let second = "Last year Mary lived in Libya. The capital of that country is".to_owned();
    let false_chain = [lesson(first.clone(), " Libya"), lesson(second, &pair.prompt.right[0])];
    assert_eq!(Hops::new(&loaded, None, &false_chain).known(pair), Some(false), "{}", pair.prompt.clean);
    let open = [lesson(first, " Libya")];
    assert_eq!(Hops::new(&loaded, None, &open).known(pair), None);
}

/// What a number is by itself, against the site's own tensor; the value of a dose against what an edited run has there.
#[test]
fn natural_values_are_those_of_the_site() {
    with_each_in(Dtype::F64, |case| {
        let model = &case.loaded.model;
        let prompts: Vec<_> = case.pairs[..3].iter().map(of_pair).collect();
        let width = model.spec.d_model as i64;
        let mut supplies = Supplies::default();
        let vector = (Tensor::arange(width, (Kind::Double, Device::Cpu)) + 1.0).cos();
        supplies.vectors.insert("v".into(), vector.shallow_clone());
        let unit = &vector / vector.norm();
        let along = |value: Tensor| value.matmul(&unit);
        let neuron = |value: Tensor| value.select(1, 2);
        let mut edits = vec![("L0:-1 = add 0.3*v", Site::BlockOut(Layer(0)), true)];
        edits.push(("L1.attn:1 = project -2*v", Site::AttentionOut(Layer(1)), true));
        if model.spec.mlp.is_some() {
            edits.push(("L0.N2:-1 = set 0.3", Site::MlpPost(Layer(0)), false));
            edits.push(("L0.N2:-1 = scale -2", Site::MlpPost(Layer(0)), false));
        }
        for (edit, site, direction) in edits {
            let plan = plan(edit);
            let found = natural::natural(model, &plan.edits[0], &supplies, [&prompts[..1], &prompts]).unwrap().unwrap();
            let of = |tokens: &[u32]| {
                if direction { along(value(model, tokens, site)) } else { neuron(value(model, tokens, site)) }
            };
            let mut all: Vec<f64> =
                prompts.iter().flat_map(|(tokens, _)| Vec::<f64>::try_from(of(tokens).contiguous()).unwrap()).collect();
            all.sort_by(f64::total_cmp);
            let what = format!("{}, {edit}: {found:?}", case.name);
            assert_eq!(found.tokens, all.len(), "{what}");
            assert!((found.range[0] - all[0]).abs() < 1e-9 && (found.range[1] - all[all.len() - 1]).abs() < 1e-9);
            assert!((found.quantiles[5] - found.range[1]).abs() < 1e-9, "{what}");
            let (upper, lower) = (all[all.len() / 2], all[(all.len() - 1) / 2]);
            assert!((found.quantiles[2] - (upper + lower) / 2.0).abs() < 1e-9, "{what}");
            // With the edit, the site holds the value that the dose is said to make.
            let dose = if edit.contains("0.3") { 0.3 } else { -2.0 };
            let (tokens, prompt) = &prompts[0];
            let mut tap = penjing::intervene::run::PlanTap::new(
                &plan,
                &model.spec,
                std::slice::from_ref(prompt),
                &supplies,
                None,
            )
            .unwrap();
            let mut record = Record::new([site]).keeping(Keep::Values);
            let _ =
                tch::no_grad(|| model.forward(Start::Tokens(&row(tokens)), &Pass::ALL, &mut (&mut tap, &mut record)));
            let edited = record.finish().unwrap().values[&site].get(0);
            let edited = if direction { along(edited) } else { neuron(edited) };
            let at = if edit.contains(":1") { 1 } else { tokens.len() as i64 - 1 };
            let held = edited.double_value(&[at]);
            assert!((found.value(dose) - held).abs() < 1e-9, "{what}: {held}");
            match found.dose(held) {
                Some(back) => assert!((back - dose).abs() < 1e-6, "{what}"),
                None => assert_eq!((found.mean, held), (0.0, 0.0), "{what}: no dose makes something of nothing"),
            }
            assert_eq!(found.off(dose), held < all[0] || held > all[all.len() - 1], "{what}: {held}");
        }
        for several in ["L* = add 1*v", "L0.attn = set 1", "L0.N{1,2} = scale 2", "L0 = zero"] {
            if model.spec.mlp.is_some() || !several.contains('N') {
                let edit = &plan(several).edits[0];
                assert!(natural::natural(model, edit, &supplies, [&prompts, &prompts]).unwrap().is_none(), "{several}");
            }
        }
    });
}

/// Against whole runs read token by token; without an edit the last number, and that of an edit that changes nothing.
#[test]
fn the_price_in_text_is_its_cross_entropy() {
    with_each_in(Dtype::F64, |case| {
        let (model, corpus) = (&case.loaded.model, corpus(&case.pairs));
        let plans = [plan("L0:-1 = scale 0.5"), plan("L1 = scale 1")];
        let supplies = Supplies::default();
        let found = doses::cross_entropy(model, &corpus, &plans, &supplies, (0, &mut |_| ())).unwrap();
        assert!((found[1].0 - found[2].0).abs() < 1e-9 && found.len() == 3, "{}: {found:?}", case.name);
        // At every position, whatever position the edit names.
        let (mut sum, mut count) = (0.0, 0.0);
        for window in &corpus.windows {
            let tokens = &corpus.tokens[window.clone()];
            let half = tch::no_grad(|| {
                let first = model.embed(&row(tokens), None, &mut NoTap);
                let half = model.some_blocks(0..1, first, &Pass::ALL, &mut NoTap) * 0.5;
                let last = model.some_blocks(1..model.spec.layers, half, &Pass::ALL, &mut NoTap);
                model.read(&last, &Pass::ALL, &mut NoTap).get(0).log_softmax(-1, Kind::Double)
            });
            for at in 1..tokens.len() - 1 {
                sum -= half.double_value(&[at as i64, i64::from(tokens[at + 1])]);
                count += 1.0;
            }
        }
        assert!((found[0].0 - sum / count).abs() < 1e-9, "{}: {found:?}, {}", case.name, sum / count);
        assert!(found[0].1[0] <= found[0].0 && found[0].0 <= found[0].1[1], "{}: {found:?}", case.name);
    });
}
