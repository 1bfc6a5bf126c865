//! Looking inside: the lens against models that really end early, generation against runs without kept keys and values.

#![cfg(feature = "torch")]

mod fixtures;

use fixtures::with_each_in;
use penjing::dataset::TokenPair;
use penjing::inside::backpatch;
use penjing::inside::corpus::Corpus;
use penjing::inside::generate::{Continuation, Sampling, choose, divergence, run};
use penjing::inside::lens::{Question, decode};
use penjing::inside::observe::{self, Watched};
use penjing::inside::patchscope::{self, Mapping, Target};
use penjing::inside::vectors::{VectorError, for_model, make, to_bytes};
use penjing::inside::words;
use penjing::intervene::parse;
use penjing::intervene::plan::Plan;
use penjing::intervene::position::Prompt;
use penjing::intervene::record::Record;
use penjing::intervene::run::{Donor, PlanTap, Supplies};
use penjing::model::site::Site;
use penjing::model::spec::Layer;
use penjing::model::tap::{NoTap, Tap};
use penjing::model::{Dtype, LoadOptions, Model, Pass, Start, load_with};
use penjing::tokenizer::Tokenizer;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use safetensors::{SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use tch::{Kind, Tensor};

const GREEDY: Sampling = Sampling { temperature: 0.0, top_p: 1.0, seed: 0 };

fn row(tokens: &[u32]) -> Tensor {
    Tensor::from_slice(&tokens.iter().map(|&token| i64::from(token)).collect::<Vec<_>>()).unsqueeze(0)
}

fn output(model: &Model, tokens: &[u32]) -> Tensor {
    model.forward(Start::Tokens(&row(tokens)), &Pass::ALL, &mut NoTap).squeeze_dim(0).log_softmax(-1, Kind::Float)
}

#[test]
fn the_last_lens_is_the_model_and_its_numbers_are_those_of_the_distribution() {
    let _no_grad = tch::no_grad_guard();
    with_each_in(Dtype::F64, |case| {
        let (model, tokens) = (&case.loaded.model, &case.pairs[0].clean);
        let watched = vec![vec![1, 5, 7], vec![3]];
        let question = Question { sublayers: true, top: 4, watched };
        let decoded = decode(model, tokens, &question, &mut |_| ());
        assert_eq!(decoded.cells.len(), decoded.places.len());
        let output = tch::no_grad(|| output(model, tokens)); // [pos, vocab]
        for (position, cell) in decoded.cells.last().unwrap().iter().enumerate() {
            let row = Vec::<f64>::try_from(output.get(position as i64).to_kind(Kind::Double)).unwrap();
            let what = format!("{}, position {position}: {cell:?}", case.name);
            assert_eq!(cell.divergence, 0.0, "{what}");
            let mut order: Vec<usize> = (0..row.len()).collect();
            order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            for ((id, probability), expected) in cell.likeliest.iter().zip(&order) {
                assert_eq!(*id as usize, *expected, "{what}");
                assert!((probability - row[*expected].exp()).abs() < 1e-6, "{what}");
            }
            let entropy: f64 = row.iter().map(|log| -log * log.exp()).sum();
            assert!((cell.entropy - entropy).abs() < 1e-5, "{what}: {entropy}");
            for ((share, rank), set) in cell.watched.iter().zip(&question.watched) {
                let together: f64 = set.iter().map(|&id| row[id as usize].exp()).sum();
                let best = set.iter().map(|&id| row[id as usize]).fold(f64::NEG_INFINITY, f64::max);
                assert!((share - together).abs() < 1e-6, "{what}");
                assert_eq!(*rank, row.iter().filter(|&&log| log > best).count(), "{what}");
            }
        }
        let early = &decoded.cells[1].iter().map(|cell| cell.divergence).fold(0.0, f64::max);
        assert!(*early > 1e-6, "{}: the first layer says the same as the last", case.name);
    });
}

/// A model of which only the first layers are left says what the lens says after them.
#[test]
fn the_lens_is_a_model_that_ends_early() {
    for (name, key, part) in [
        ("reference/gpt2", "n_layer", ".h."),
        ("reference/gemma2", "num_hidden_layers", ".layers."),
        ("reference/gpt_neox", "num_hidden_layers", ".layers."),
    ] {
        let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
        let folder = tempfile::tempdir().unwrap();
        let mut config: Value = serde_json::from_slice(&std::fs::read(original.join("config.json")).unwrap()).unwrap();
        config[key] = json!(1);
        if let Some(types) = config.get("layer_types").and_then(Value::as_array).cloned() {
            config["layer_types"] = json!(types[..1]);
        }
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        std::fs::copy(original.join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
        let bytes = std::fs::read(original.join("model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let kept = tensors.tensors().into_iter().filter(|(name, _)| match name.split_once(part) {
            Some((_, rest)) => rest.starts_with("0."),
            None => true,
        });
        let kept: Vec<(String, TensorView)> = kept.collect();
        std::fs::write(folder.path().join("model.safetensors"), safetensors::serialize(kept, None).unwrap()).unwrap();
        let options = LoadOptions { dtype: Dtype::F64, ..LoadOptions::default() };
        let [whole, first] = [original.as_path(), folder.path()].map(|folder| {
            load_with(folder.to_str().unwrap(), &options).unwrap_or_else(|error| panic!("{name}: {error}"))
        });
        let tokens = [3, 8, 1, 5];
        let question = Question { top: 5, ..Question::default() };
        let decoded = decode(&whole.model, &tokens, &question, &mut |_| ());
        let place = decoded.places.iter().position(|place| place == "L0").unwrap();
        let output = tch::no_grad(|| output(&first.model, &tokens));
        for (position, cell) in decoded.cells[place].iter().enumerate() {
            for &(id, probability) in &cell.likeliest {
                let expected = output.double_value(&[position as i64, i64::from(id)]).exp();
                assert!((probability - expected).abs() < 1e-6, "{name}, {position}, {id}: {probability}, {expected}");
            }
        }
    }
}

/// Every step a whole run of all tokens so far.
fn recomputed(model: &Model, tokens: &[u32], plan: &Plan, supplies: &Supplies, count: usize) -> (Tensor, Vec<u32>) {
    let prompt = Prompt::of_length(tokens.len());
    let mut all = tokens.to_vec();
    let mut next = None;
    while all.len() < tokens.len() + count {
        let unedited = {
            let sites = plan.sources(&model.spec).unwrap().swap_remove(&None);
            sites.map(|sites| {
                let mut record = Record::new(sites);
                let _ = model.forward(Start::Tokens(&row(tokens)), &Pass::LAST, &mut record);
                record.finish().unwrap()
            })
        };
        let prompts = std::slice::from_ref(&prompt);
        let mut tap = PlanTap::new(plan, &model.spec, prompts, supplies, unedited.as_ref()).unwrap();
        tap.end = all.len();
        let logits = model.forward(Start::Tokens(&row(&all)), &Pass::LAST, &mut tap).view([-1]);
        let said = logits.log_softmax(-1, Kind::Float);
        all.push(choose(&said, GREEDY, &mut ChaCha8Rng::seed_from_u64(0)));
        next.get_or_insert(said);
    }
    (next.unwrap(), all.split_off(tokens.len()))
}

#[test]
fn edits_hold_with_kept_keys_and_values_as_without() {
    let _no_grad = tch::no_grad_guard();
    with_each_in(Dtype::F64, |case| {
        let _no_grad = tch::no_grad_guard();
        let model = &case.loaded.model;
        if !model.spec.attention.causal {
            // Earlier positions see later ones, so nothing can be kept.
            return;
        }
        let tokens = &case.pairs[0].clean[..4];
        let count = 5.min(model.spec.context - tokens.len());
        let mut supplies = Supplies::default();
        let vector = Tensor::arange(model.spec.d_model as i64, (Kind::Double, tch::Device::Cpu)).sin();
        supplies.vectors.insert("v".into(), vector * 3.0);
        let mut differ = 0;
        for edit in [
            "L0 = add 0.7*v",
            "L0:gen = add 0.7*v",
            "L0:prompt = add 0.7*v",
            "L0.attn:-2 = zero",
            "L*.H0.k:gen = scale 3",
            "L1.in:1 = from L0.in:0",
            "L*:all = project 0*v",
            "L0:gen = scale 1",
        ] {
            let plan = Plan { edits: vec![parse::edit(edit).unwrap()] };
            let prompt = Prompt::of_length(tokens.len());
            let continuation = Continuation { count, sampling: GREEDY, stop: Vec::new() };
            let found = run(model, tokens, (&plan, &prompt, &supplies), &continuation)
                .unwrap_or_else(|error| panic!("{}, {edit}: {error}", case.name));
            let (next, all) = recomputed(model, tokens, &plan, &supplies, count);
            let apart = (&found.next - next).abs().max().double_value(&[]);
            assert!(apart < 1e-6, "{}, {edit}: {apart}", case.name);
            assert_eq!(found.tokens, all, "{}, {edit}", case.name);
            let none = (&Plan::default(), &prompt, &supplies);
            let unedited = run(model, tokens, none, &continuation).unwrap();
            let changed = divergence(&unedited.next, &found.next);
            if edit.ends_with("scale 1") {
                assert!(changed.abs() < 1e-12 && found.tokens == unedited.tokens, "{}, {edit}: {changed}", case.name);
                assert!(found.receipt.entries.iter().all(|entry| entry.changed == 0));
            } else {
                assert!(found.receipt.entries.iter().all(|entry| entry.changed > 0), "{}, {edit}", case.name);
                differ += usize::from(changed > 1e-9);
            }
        }
        assert!(differ >= 4, "{}: the edits change nothing", case.name);
    });
}

#[test]
fn sampling_follows_the_distribution() {
    let said = Tensor::from_slice(&[0.5f32, 0.3, 0.15, 0.05]).log();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut counts = |sampling: Sampling| -> Vec<f64> {
        let mut counts = vec![0.0; 4];
        for _ in 0..4000 {
            counts[choose(&said, sampling, &mut random) as usize] += 1.0 / 4000.0;
        }
        counts
    };
    let plain = Sampling { temperature: 1.0, top_p: 1.0, seed: 0 };
    let close = |found: Vec<f64>, expected: [f64; 4]| {
        for (found, expected) in found.into_iter().zip(expected) {
            // Five standard errors.
            assert!(
                (found - expected).abs() <= 5.0 * (expected * (1.0 - expected) / 4000.0).sqrt(),
                "{found}, {expected}"
            );
        }
    };
    close(counts(plain), [0.5, 0.3, 0.15, 0.05]);
    close(counts(Sampling { top_p: 0.8, ..plain }), [0.625, 0.375, 0.0, 0.0]);
    let squares = 0.25 + 0.09 + 0.0225 + 0.0025;
    let halved = [0.25, 0.09, 0.0225, 0.0025].map(|square| square / squares);
    close(counts(Sampling { temperature: 0.5, ..plain }), halved);
    assert!((counts(GREEDY)[0] - 1.0).abs() < 1e-9);
}

#[test]
fn tokens_are_bytes_that_make_up_the_text() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizers");
    let text = " The naïve café, 花 and Ünïcode's \"end\"\n\tgo!";
    let tokenizer = Tokenizer::from_file(data.join("gpt2.json")).unwrap();
    let ids = tokenizer.encode_plain(text).unwrap().ids;
    let bytes: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.token_bytes(id).unwrap()).collect();
    assert_eq!(String::from_utf8(bytes).unwrap(), text);
    assert_eq!(tokenizer.token_bytes(50_256), None, "the end of a text is no text");
    // A Chinese character is several tokens here, of which the first alone begins it.
    let set = words::beginning(&tokenizer, 50_257, &["花"]);
    let flower = tokenizer.encode_plain("花").unwrap().ids;
    assert!(flower.len() > 1 && set.contains(&flower[0]) && !set.contains(flower.last().unwrap()), "{set:?}");
    let flower = words::beginning(&tokenizer, 50_257, &["flower", "bloom"]);
    for word in [" flower", "flower", " fl", "f", " bloom"] {
        assert!(flower.contains(&tokenizer.single(word).unwrap()), "{word}");
    }
    for word in [" the", " flowers", "lower", " "] {
        assert!(!flower.contains(&tokenizer.single(word).unwrap()), "{word}");
    }
}

/// Against means written out, of the values that a tap sees.
#[test]
fn a_vector_is_the_difference_of_means() {
    let _no_grad = tch::no_grad_guard();
    with_each_in(Dtype::F64, |case| {
        let _no_grad = tch::no_grad_guard();
        let model = &case.loaded.model;
        let sets = [&case.pairs[..4], &case.pairs[4..]].map(|pairs| {
            pairs.iter().map(|pair| (pair.clean.clone(), Prompt::of_length(pair.len()))).collect::<Vec<_>>()
        });
        let [positive, negative] = [&sets[0], &sets[1]];
        for (written, site, head) in [
            ("L0:-1", Site::BlockOut(Layer(0)), None),
            ("L0.H1.z:0", Site::Z(Layer(0)), Some(1)),
            ("L1.attn", Site::AttentionOut(Layer(1)), None),
        ] {
            let address = parse::address(written).unwrap();
            let made = make(model, "fixture", &address, [positive, negative], 3, &mut |_| ()).unwrap();
            let mean = |prompts: &[(Vec<u32>, Prompt)]| {
                let rows: Vec<Tensor> = prompts
                    .iter()
                    .map(|(tokens, _)| {
                        let mut seen = Seen { site, value: Tensor::new() };
                        let _ = model.forward(Start::Tokens(&row(tokens)), &Pass::LAST, &mut seen);
                        let position = if written.ends_with(":0") { 0 } else { tokens.len() as i64 - 1 };
                        let value = seen.value.get(0).get(position);
                        head.map_or(value.shallow_clone(), |head| value.get(head))
                    })
                    .collect();
                Tensor::stack(&rows, 0).mean_dim(0, false, Kind::Double)
            };
            let kept = |prompts: &[(Vec<u32>, Prompt)]| prompts.len() - prompts.len() / 4;
            let expected = mean(&positive[..kept(positive)]) - mean(&negative[..kept(negative)]);
            let apart = (&made.values - &expected).abs().max().double_value(&[]);
            assert!(apart < 1e-10, "{}, {written}: {apart}", case.name);
            assert_eq!(made.record.made_from, [kept(positive), kept(negative)]);
            assert!((made.record.norm - expected.norm().double_value(&[])).abs() < 1e-10);
            // Written and read, it is for this model alone.
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("v.safetensors");
            std::fs::write(&path, to_bytes(&made).unwrap()).unwrap();
            let read = for_model(&path, model).unwrap();
            assert!((read - &made.values).abs().max().double_value(&[]) < 1e-5);
            let mut other = made;
            other.record.weights = "of another".into();
            std::fs::write(&path, to_bytes(&other).unwrap()).unwrap();
            assert!(matches!(for_model(&path, model), Err(VectorError::OtherModel { .. })));
        }
        let several = parse::address("L0:prompt").unwrap();
        let refused = make(model, "fixture", &several, [positive, negative], 3, &mut |_| ());
        assert!(matches!(refused, Err(VectorError::Several { .. })), "{}", case.name);
        let address = parse::address("L0").unwrap();
        let refused = make(model, "fixture", &address, [positive, &[]], 3, &mut |_| ());
        assert!(matches!(refused, Err(VectorError::NoPrompts { which: "negative" })));
        let refused = make(model, "fixture", &address, [positive, positive], 3, &mut |_| ());
        assert!(matches!(refused, Err(VectorError::Nothing)));
    });
}

struct Seen {
    site: Site,
    value: Tensor,
}

impl Tap for Seen {
    fn wants(&self, site: Site) -> bool {
        site == self.site
    }

    fn at(&mut self, _: Site, value: Tensor) -> Tensor {
        self.value = value.copy();
        value
    }
}

/// A Patchscope is an edit `from` another prompt, which is another way through the model.
#[test]
fn a_patchscope_is_an_edit_from_another_prompt() {
    let _no_grad = tch::no_grad_guard();
    with_each_in(Dtype::F64, |case| {
        let _no_grad = tch::no_grad_guard();
        let model = &case.loaded.model;
        let last = model.spec.layers - 1;
        let encoded = |tokens: &[u32]| (tokens.to_vec(), Prompt::of_length(tokens.len()));
        let (source, target) = (encoded(&case.pairs[0].clean[..4]), encoded(&case.pairs[1].clean[..3]));
        let count = if model.spec.attention.causal { 4.min(model.spec.context - 4) } else { 1 };
        let continuation = Continuation { count, sampling: GREEDY, stop: Vec::new() };
        let prepared = Target::new(model, &target);
        for (from, at, layer, into) in [(0, 3, 0, 2), (last, 1, 0, 1), (0, 0, last, 2), (last, 3, last, 2)] {
            let values = patchscope::read(model, &source, at);
            let found = prepared.with(layer, into, &values[from], Mapping::Identity, &continuation);
            let edit = parse::edit(&format!("L{layer}:{into} = from L{from}:{at}@s")).unwrap();
            let plan = Plan { edits: vec![edit] };
            let mut record = Record::new([Site::BlockOut(Layer(from))]);
            let _ = model.forward(Start::Tokens(&row(&source.0)), &Pass::LAST, &mut record);
            let mut supplies = Supplies::default();
            let donor = Donor { recording: record.finish().unwrap(), prompts: vec![source.1.clone()] };
            supplies.donors.insert("s".into(), donor);
            let expected = run(model, &target.0, (&plan, &target.1, &supplies), &continuation).unwrap();
            let what = format!("{}: L{from}:{at} into L{layer}:{into}", case.name);
            let apart = (&found.next - &expected.next).abs().max().double_value(&[]);
            assert!(apart < 1e-6, "{what}: {apart}");
            assert_eq!(found.tokens, expected.tokens, "{what}");
        }
        // Of its own prompt, at its own place, it changes nothing; scaled to the length that it has, neither.
        let own = patchscope::read(model, &target, 1);
        for mapping in [Mapping::Identity, Mapping::NormMatched] {
            let same = prepared.with(0, 1, &own[0], mapping, &continuation);
            let apart = (&same.next - &prepared.next).abs().max().double_value(&[]);
            assert!(apart < 1e-6, "{}, {mapping:?}: {apart}", case.name);
        }
        // Three times the value is the value where lengths are matched, and something else where they are not.
        let values = patchscope::read(model, &source, 3);
        let next = |value: &Tensor, mapping| prepared.with(0, 2, value, mapping, &continuation).next;
        let apart = |mapping| {
            let longer = &values[0] * 3.0;
            (next(&values[0], mapping) - next(&longer, mapping)).abs().max().double_value(&[])
        };
        assert!(apart(Mapping::NormMatched) < 1e-6, "{}", case.name);
        assert!(apart(Mapping::Identity) > 1e-6, "{}", case.name);
    });
}

/// Back-patching is an edit `from` a later block; its counts are those of runs with such edits.
#[test]
fn back_patching_is_an_edit_from_a_later_block() {
    let _no_grad = tch::no_grad_guard();
    let mended = AtomicUsize::new(0);
    with_each_in(Dtype::F64, |case| {
        let _no_grad = tch::no_grad_guard();
        let (model, layers) = (&case.loaded.model, case.loaded.model.spec.layers);
        let continuation = Continuation { count: 0, sampling: GREEDY, stop: Vec::new() };
        let says = |tokens: &[u32], edit: &str, other: Option<&[u32]>| {
            let plan = Plan { edits: vec![parse::edit(edit).unwrap()] };
            let mut supplies = Supplies::default();
            if let Some(other) = other {
                let mut record = Record::new((0..layers).map(|layer| Site::BlockOut(Layer(layer))));
                let _ = model.forward(Start::Tokens(&row(other)), &Pass::LAST, &mut record);
                let prompts = vec![Prompt::of_length(other.len())];
                supplies.donors.insert("o".into(), Donor { recording: record.finish().unwrap(), prompts });
            }
            let prompt = Prompt::of_length(tokens.len());
            let next = run(model, tokens, (&plan, &prompt, &supplies), &continuation).unwrap().next;
            choose(&next, GREEDY, &mut ChaCha8Rng::seed_from_u64(0))
        };
        // Answers that the model does not give by itself, but some prompts with the second block's output in the first.
        let mut pairs: Vec<TokenPair> = case.pairs.to_vec();
        for (index, pair) in pairs.iter_mut().enumerate() {
            let at = pair.clean.len() - 2;
            pair.positions.insert("p".into(), at - 1..at + 1);
            let mended = says(&pair.clean, &format!("L0:{at} = from L1:{at}"), None);
            pair.right = vec![if index % 2 == 0 { mended } else { 2 }];
        }
        let failures = backpatch::wrong(model, &pairs);
        let unedited = |pair: &TokenPair| says(&pair.clean, "L0 = scale 1", None);
        let expected: Vec<&TokenPair> = pairs.iter().filter(|pair| unedited(pair) != pair.right[0]).collect();
        assert_eq!(failures.len(), expected.len(), "{}", case.name);
        let found = backpatch::at(model, "p", &failures, &mut |_| ());
        let number = expected.len();
        let mut mends = vec![vec![false; number]; layers * layers];
        let [mut any, mut forward, mut donor, mut answer] = [(); 4].map(|()| vec![false; number]);
        for (index, pair) in expected.iter().enumerate() {
            let at = pair.clean.len() - 2;
            let mut others = (index + 1..index + number).map(|index| expected[index % number]);
            let other = others.find(|other| other.right != pair.right);
            for source in 0..layers {
                for target in 0..layers {
                    let said = says(&pair.clean, &format!("L{target}:{at} = from L{source}:{at}"), None);
                    let right = said == pair.right[0];
                    mends[source * layers + target][index] = right;
                    any[index] |= right && source > target;
                    forward[index] |= right && source < target;
                    if let Some(other) = other.filter(|_| source > target) {
                        let from = other.clean.len() - 2;
                        let edit = format!("L{target}:{at} = from L{source}:{from}@o");
                        donor[index] |= says(&pair.clean, &edit, Some(&other.clean)) == pair.right[0];
                        answer[index] |= said == other.right[0];
                    }
                }
            }
        }
        mended.fetch_add(any.iter().filter(|flag| **flag).count(), Ordering::Relaxed);
        let count = |flags: &[bool]| flags.iter().filter(|flag| **flag).count();
        for (share, expected) in
            [(found.any, &any), (found.forward, &forward), (found.donor, &donor), (found.answer, &answer)]
        {
            assert_eq!((share.count, share.of), (count(expected), number), "{}: {found:?}", case.name);
        }
        for (pair, mended) in &found.pairs {
            let expected = count(&mends[pair.source * layers + pair.target]);
            assert_eq!(*mended, expected, "{}: {pair:?}", case.name);
        }
        if let Some((pair, share)) = found.chosen {
            let of = |pair: backpatch::Pair, range: std::ops::Range<usize>| {
                count(&mends[pair.source * layers + pair.target][range])
            };
            let half = number / 2;
            for (other, _) in found.pairs.iter().filter(|(other, _)| other.source > other.target) {
                assert!(of(pair, 0..half) >= of(*other, 0..half), "{}: {found:?}", case.name);
            }
            assert_eq!((share.count, share.of), (of(pair, half..number), number - half), "{}", case.name);
        }
        assert_eq!(found.chosen.is_some(), number > 1, "{}", case.name);
    });
    assert!(mended.into_inner() > 10, "nothing is mended anywhere");
}

/// Against every value of every window, run one by one.
#[test]
fn neurons_are_observed_as_they_are() {
    let _no_grad = tch::no_grad_guard();
    with_each_in(Dtype::F64, |case| {
        let _no_grad = tch::no_grad_guard();
        let model = &case.loaded.model;
        if model.spec.mlp.is_none() {
            return;
        }
        let mut corpus = Corpus { lead: 1, ..Corpus::default() };
        for (index, pair) in case.pairs.iter().enumerate() {
            let start = corpus.tokens.len();
            corpus.tokens.extend(&pair.clean[..pair.len() - index % 3]);
            corpus.windows.push(start..corpus.tokens.len());
        }
        let observed = observe::observe(model, Watched::Neurons, &corpus, (3, usize::MAX, 5), &mut |_| ());
        for layer in 0..model.spec.layers {
            // By window: the values [counted, d_mlp] and the token of the first.
            let seen: Vec<(Vec<Vec<f64>>, usize)> = corpus
                .windows
                .iter()
                .map(|window| {
                    let mut seen = Seen { site: Site::MlpPost(Layer(layer)), value: Tensor::new() };
                    let _ = model.forward(Start::Tokens(&row(&corpus.tokens[window.clone()])), &Pass::LAST, &mut seen);
                    let values: Vec<Vec<f64>> = Vec::try_from(seen.value.get(0).to_kind(Kind::Double)).unwrap();
                    (values[1..].to_vec(), window.start + 1)
                })
                .collect();
            let neurons = observed.layer(layer);
            assert_eq!(neurons.len(), model.spec.d_mlp);
            for (index, neuron) in neurons.iter().enumerate() {
                let what = format!("{}, L{layer}.N{index}", case.name);
                let close = |found: f64, expected: f64| {
                    assert!((found - expected).abs() < 1e-9 * (1.0 + expected.abs()), "{what}: {found}, {expected}");
                };
                let of = |(values, first): &(Vec<Vec<f64>>, usize)| -> Vec<(f64, usize)> {
                    values.iter().enumerate().map(|(place, values)| (values[index], first + place)).collect()
                };
                let mut all: Vec<(f64, usize)> = seen.iter().flat_map(of).collect();
                let count = all.len() as f64;
                assert_eq!(observed.count, all.len());
                let mean = all.iter().map(|(value, _)| value).sum::<f64>() / count;
                let variance = all.iter().map(|(value, _)| (value - mean).powi(2)).sum::<f64>() / count;
                close(neuron.mean, mean);
                close(neuron.deviation, variance.sqrt());
                close(neuron.active, all.iter().filter(|(value, _)| *value > 0.0).count() as f64 / count);
                for (found, sign) in [(&neuron.strongest, 1.0), (&neuron.weakest, -1.0)] {
                    let best = |window| of(window).into_iter().max_by(|a, b| (sign * a.0).total_cmp(&(sign * b.0)));
                    let mut expected: Vec<(f64, usize)> = seen.iter().filter_map(best).collect();
                    expected.sort_by(|a, b| (sign * b.0).total_cmp(&(sign * a.0)));
                    assert_eq!(found.len(), 3, "{what}");
                    for ((value, token), (right, _)) in found.iter().zip(&expected) {
                        close(*value, *right);
                        // The token is one that has this value.
                        close(all.iter().find(|(_, other)| other == token).unwrap().0, *value);
                    }
                }
                // A sample of everything is everything.
                all.sort_by(|(a, _), (b, _)| a.total_cmp(b));
                assert_eq!(neuron.sample.len(), all.len(), "{what}");
                for ((value, _), (expected, _)) in neuron.sample.iter().zip(&all) {
                    close(*value, *expected);
                }
                close(neuron.quantile(0.0), all[0].0);
                close(neuron.quantile(1.0), all[all.len() - 1].0);
                let (_, token) = neuron.sample[0];
                let around = corpus.around(token);
                assert!(around.contains(&token) && corpus.windows.contains(&around), "{what}");
                let values = observe::values(model, Watched::Neurons, &corpus.tokens[around.clone()], layer, index);
                close(values[token - around.start], neuron.sample[0].0);
            }
        }
        // Correlations, from the samples by token.
        let column = |layer: usize, index: usize| -> Vec<f64> {
            let mut sample = observed.layer(layer).swap_remove(index).sample;
            sample.sort_by_key(|(_, token)| *token);
            sample.into_iter().map(|(value, _)| value).collect()
        };
        let own = column(0, 1);
        let near = observed.neighbours(0, 1, 4);
        assert_eq!(near.len(), 4, "{}", case.name);
        assert!(near.windows(2).all(|two| two[0].2.abs() >= two[1].2.abs()), "{near:?}");
        for (layer, index, found) in near {
            let other = column(layer, index);
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
            let (a, b) = (mean(&own), mean(&other));
            let product =
                |x: &[f64], a: f64, y: &[f64], b: f64| -> f64 { x.iter().zip(y).map(|(x, y)| (x - a) * (y - b)).sum() };
            let expected =
                product(&own, a, &other, b) / (product(&own, a, &own, a) * product(&other, b, &other, b)).sqrt();
            assert!((found - expected).abs() < 1e-6, "{}, L{layer}.N{index}: {found}, {expected}", case.name);
            assert!((layer, index) != (0, 1));
        }
    });
}

/// What a neuron writes, against the model's own reading of a residual stream that is nothing else.
#[test]
fn what_a_neuron_writes_is_read_as_the_model_reads() {
    let _no_grad = tch::no_grad_guard();
    let checked = AtomicUsize::new(0);
    with_each_in(Dtype::F64, |case| {
        let _no_grad = tch::no_grad_guard();
        let model = &case.loaded.model;
        let Some(written) = observe::written(model, Watched::Neurons, 0, 1) else {
            return assert!(model.spec.mlp.is_none(), "{}", case.name);
        };
        assert!(written.abs().max().double_value(&[]) > 0.0, "{}", case.name);
        if model.spec.placement.after() || model.spec.logit_cap.is_some() {
            // The change would depend on all else that the norm or the cap sees.
            return;
        }
        checked.fetch_add(1, Ordering::Relaxed);
        // The MLP's output changes along the neuron's direction where the neuron alone is raised.
        let tokens = row(&case.pairs[0].clean[..3]);
        let outs = [1.0, 2.0].map(|value| {
            let plan = Plan { edits: vec![parse::edit(&format!("L0.N1 = set {value}")).unwrap()] };
            let prompt = [Prompt::of_length(3)];
            let supplies = Supplies::default();
            let mut tap = PlanTap::new(&plan, &model.spec, &prompt, &supplies, None).unwrap();
            let mut seen = Seen { site: Site::MlpOut(Layer(0)), value: Tensor::new() };
            let _ = model.forward(Start::Tokens(&tokens), &Pass::LAST, &mut (&mut tap, &mut seen));
            seen.value.get(0).get(2)
        });
        let direction: Tensor = &outs[1] - &outs[0]; // [d_model]
        let read = [direction.shallow_clone(), -direction]
            .map(|out| model.read(&out.view([1, 1, -1]), &Pass::ALL, &mut NoTap).view([-1]));
        let expected = (&read[0] - &read[1]) / 2.0;
        let apart = (&written - &expected).abs().max().double_value(&[]);
        assert!(apart < 1e-8 * (1.0 + expected.abs().max().double_value(&[])), "{}: {apart}", case.name);
    });
    assert!(checked.into_inner() > 10);
}
