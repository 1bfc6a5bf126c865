//! Dictionaries of features: what they compute, against formulas by hand, numpy and the tools that define the formats; how they are
//! trained; what the model makes of them.
#![cfg(feature = "torch")]

mod fixtures;

use fixtures::with_each_in;
use penjing::dictionary::{
    Activation, Architecture, Dictionary, DictionaryV1, Normalize, check, file, native, record, sae_lens, sparsify,
};
use penjing::inside::corpus::Corpus;
use penjing::inside::row;
use penjing::inside::sae::labels::labels;
use penjing::inside::sae::metrics::{measure, reconstruction};
use penjing::inside::sae::splice::splice;
use penjing::inside::sae::stream::{Buffer, Stream, activations};
use penjing::inside::sae::train::{Options, train};
use penjing::inside::sae::{loss, site};
use penjing::intervene::record::{Keep, Record};
use penjing::model::{Dtype, Loaded, Pass, Start, load};
use penjing::task::{self, Expansion, Split};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/dictionaries")
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// scale · sin(1 + i · step), as scripts/dictionary_numbers.py has it, in f64.
fn wave(sizes: &[i64], scale: f64, step: f64) -> Tensor {
    let count = sizes.iter().product::<i64>();
    let numbers: Vec<f64> = (0..count).map(|index| scale * (1.0 + step * index as f64).sin()).collect();
    Tensor::from_slice(&numbers).view(sizes)
}

fn matrix(rows: &Value) -> Tensor {
    let rows: Vec<Vec<f64>> = serde_json::from_value(rows.clone()).unwrap();
    let width = rows[0].len() as i64;
    Tensor::from_slice(&rows.concat()).view([rows.len() as i64, width]).to_kind(Kind::Float)
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.to_kind(Kind::Double).contiguous().view([-1])).unwrap()
}

#[track_caller]
fn assert_close(found: &Tensor, expected: &Tensor, tolerance: f64, what: &str) {
    assert_eq!(found.size(), expected.size(), "{what}");
    let apart = (found - expected).abs().max().double_value(&[]);
    let scale = expected.abs().max().double_value(&[]).max(1.0);
    assert!(apart <= tolerance * scale, "{what}: {apart} apart, values up to {scale}");
}

fn record(architecture: Architecture, (width, features): (usize, usize), k: Option<usize>) -> DictionaryV1 {
    DictionaryV1 {
        schema: record::SCHEMA.into(),
        architecture,
        site: Some("L1".into()),
        hook: None,
        model: None,
        weights: None,
        features,
        width,
        k,
        prefixes: Vec::new(),
        normalize: Normalize::None,
        apply_b_dec_to_input: true,
        training: None,
    }
}

/// One of every architecture with weights from sines: 6 wide, 10 features.
fn every() -> Vec<Dictionary> {
    let w = |sizes: &[i64], scale, step| wave(sizes, scale, step).to_kind(Kind::Float);
    Architecture::ALL
        .into_iter()
        .map(|architecture| {
            let b_enc = w(&[10], 0.2, 0.8);
            let activation = match architecture {
                Architecture::Relu => Activation::Relu { b_enc },
                Architecture::TopK => Activation::TopK { b_enc, k: 3 },
                Architecture::Gated => {
                    Activation::Gated { b_gate: b_enc, r_mag: w(&[10], 0.5, 0.3), b_mag: w(&[10], 0.2, 1.1) }
                }
                _ => Activation::Threshold { b_enc, threshold: w(&[10], 0.4, 0.6).abs() },
            };
            Dictionary {
                record: record(architecture, (6, 10), architecture.has_k().then_some(3)),
                w_enc: w(&[6, 10], 0.9, 2.3),
                w_dec: w(&[10, 6], 0.8, 1.7),
                b_dec: w(&[6], 0.5, 1.9),
                activation,
            }
        })
        .collect()
}

const NORMALISATIONS: [Normalize; 4] = [
    Normalize::None,
    Normalize::LayerNorm,
    Normalize::ConstantNormRescale,
    Normalize::ExpectedAverageOnlyIn { factor: 0.37 },
];

#[test]
fn files_of_other_tools_give_what_these_tools_computed() {
    let mut seen = 0;
    for (name, architecture, place) in [
        ("standard", Architecture::Relu, "L1"),
        ("standard-layer-norm", Architecture::Relu, "L1"),
        ("standard-constant-norm", Architecture::Relu, "L1"),
        ("topk", Architecture::TopK, "L1"),
        ("topk-rescaled", Architecture::TopK, "L1"),
        ("old-topk", Architecture::TopK, "L1"),
        ("jumprelu", Architecture::JumpRelu, "L1"),
        ("batchtopk-exported", Architecture::BatchTopK, "L1"),
        ("gated", Architecture::Gated, "L1"),
        ("layers.1.mlp", Architecture::TopK, "L1.mlp"),
        ("gemma-scope-tiny-res/layer_1", Architecture::JumpRelu, "L1"),
    ] {
        let folder = data().join(name);
        let dictionary = file::read(&folder).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(dictionary.record.architecture, architecture, "{name}");
        assert_eq!(dictionary.record.site.as_deref(), Some(place), "{name}");
        assert_eq!((dictionary.width(), dictionary.features()), (6, 10), "{name}");
        let expected = json(&folder.join("expected.json"));
        let x = matrix(&expected["x"]);
        let features = dictionary.encode(&x);
        assert_close(&features, &matrix(&expected["features"]), 1e-5, name);
        assert_close(&dictionary.decode(&features, &x), &matrix(&expected["x_hat"]), 1e-5, name);
        seen += features.gt(0.0).sum(Kind::Int64).int64_value(&[]);
    }
    assert!(seen > 100, "{seen} features are active");
}

#[test]
fn features_by_hand() {
    // Two wide, two features: pre-activations of x = (3, 1) are 3 − 1 = 2 and 1 − 0.5 = 0.5 after b_dec = (1, 0.5) is taken off,
    // with b_enc = (0, 0).
    let w = |values: &[f32]| Tensor::from_slice(values);
    let x = w(&[3.0, 1.0]);
    let with = |activation, architecture, k| Dictionary {
        record: record(architecture, (2, 2), k),
        w_enc: w(&[1.0, 0.0, 0.0, 1.0]).view([2, 2]),
        w_dec: w(&[10.0, 0.0, 0.0, 100.0]).view([2, 2]),
        b_dec: w(&[1.0, 0.5]),
        activation,
    };
    let b_enc = || w(&[0.0, 0.0]);
    for (activation, architecture, k, expected) in [
        (Activation::Relu { b_enc: w(&[0.0, -1.0]) }, Architecture::Relu, None, [2.0, 0.0]),
        (Activation::TopK { b_enc: b_enc(), k: 1 }, Architecture::TopK, Some(1), [2.0, 0.0]),
        (Activation::TopK { b_enc: w(&[-5.0, 0.0]), k: 2 }, Architecture::TopK, Some(2), [0.0, 0.5]),
        (Activation::Threshold { b_enc: b_enc(), threshold: w(&[2.0, 0.4]) }, Architecture::JumpRelu, None, [0.0, 0.5]),
        // Gates open at 2 and 0.5 + 1; magnitudes 2 · e^ln 3 and 0.5 − 0.25.
        (
            Activation::Gated { b_gate: w(&[-3.0, 1.0]), r_mag: w(&[3f32.ln(), 0.0]), b_mag: w(&[0.0, -0.25]) },
            Architecture::Gated,
            None,
            [0.0, 0.25],
        ),
        (
            Activation::Gated { b_gate: w(&[0.0, -1.0]), r_mag: w(&[3f32.ln(), 0.0]), b_mag: w(&[0.0, 0.0]) },
            Architecture::Gated,
            None,
            [6.0, 0.0],
        ),
    ] {
        let dictionary = with(activation, architecture, k);
        let features = dictionary.encode(&x);
        assert_close(&features, &w(&expected), 1e-6, architecture.name());
        let x_hat = w(&[1.0 + 10.0 * expected[0], 0.5 + 100.0 * expected[1]]);
        assert_close(&dictionary.decode(&features, &x), &x_hat, 1e-6, architecture.name());
    }
}

#[test]
fn normalisations_by_hand() {
    // x = (1, 3, 8): mean 4, unbiased variance (9 + 1 + 16)/2 = 13, length √74.
    let x = Tensor::from_slice(&[1f64, 3.0, 8.0]);
    let eye = Tensor::eye(3, (Kind::Float, Device::Cpu));
    for (normalize, input) in [
        (Normalize::None, [1.0, 3.0, 8.0]),
        (Normalize::LayerNorm, [-3.0, -1.0, 4.0].map(|value: f64| value / (13f64.sqrt() + 1e-5))),
        (Normalize::ConstantNormRescale, [1.0, 3.0, 8.0].map(|value: f64| value * (3f64 / 74.0).sqrt())),
        (Normalize::ExpectedAverageOnlyIn { factor: 0.5 }, [0.5, 1.5, 4.0]),
    ] {
        let dictionary = Dictionary {
            record: DictionaryV1 { normalize, ..record(Architecture::Relu, (3, 3), None) },
            w_enc: eye.copy(),
            w_dec: eye.copy(),
            b_dec: Tensor::zeros([3], (Kind::Float, Device::Cpu)),
            activation: Activation::Relu { b_enc: Tensor::zeros([3], (Kind::Float, Device::Cpu)) },
        };
        assert_close(&dictionary.input(&x), &Tensor::from_slice(&input), 1e-12, "input");
        // An identity for what is not negative.
        let undone = dictionary.decode(&dictionary.input(&x), &x);
        assert_close(&undone, &x, 1e-5, "undone");
    }
}

#[test]
fn a_change_of_features_writes_the_difference_of_what_they_decode_to() {
    let x = wave(&[2, 3, 6], 2.0, 0.7);
    for normalize in NORMALISATIONS {
        for mut dictionary in every() {
            dictionary.record.normalize = normalize;
            let features = dictionary.encode(&x); // [2, 3, 10]
            let change = wave(&[2, 3, 2], 0.5, 1.1);
            let wide = features.zeros_like().index_add(-1, &Tensor::from_slice(&[7i64, 2]), &change);
            let difference = dictionary.decode(&(&features + wide), &x) - dictionary.decode(&features, &x);
            let changed = dictionary.changed(&x, &[7, 2], &change);
            assert_close(&(changed - &x), &difference, 1e-9, "change");
            let none = dictionary.changed(&x, &[7, 2], &change.zeros_like());
            assert_eq!(none, x, "no change");
            assert_eq!(dictionary.direction(7), dictionary.w_dec.get(7));
        }
    }
}

#[test]
fn the_order_of_features_does_not_matter() {
    let x = wave(&[5, 6], 2.0, 0.7);
    let order = Tensor::from_slice(&[3i64, 9, 0, 1, 8, 2, 7, 4, 6, 5]);
    for dictionary in every() {
        let name = dictionary.record.architecture.name();
        let each = |tensor: &Tensor| tensor.index_select(0, &order);
        let activation = match &dictionary.activation {
            Activation::Relu { b_enc } => Activation::Relu { b_enc: each(b_enc) },
            Activation::TopK { b_enc, k } => Activation::TopK { b_enc: each(b_enc), k: *k },
            Activation::Threshold { b_enc, threshold } => {
                Activation::Threshold { b_enc: each(b_enc), threshold: each(threshold) }
            }
            Activation::Gated { b_gate, r_mag, b_mag } => {
                Activation::Gated { b_gate: each(b_gate), r_mag: each(r_mag), b_mag: each(b_mag) }
            }
        };
        let turned = Dictionary {
            record: dictionary.record.clone(),
            w_enc: dictionary.w_enc.index_select(1, &order),
            w_dec: each(&dictionary.w_dec),
            b_dec: dictionary.b_dec.copy(),
            activation,
        };
        assert_close(&turned.reconstruct(&x), &dictionary.reconstruct(&x), 1e-12, name);
        assert_close(&turned.encode(&x), &dictionary.encode(&x).index_select(-1, &order), 1e-12, name);
    }
}

#[test]
fn losses_and_metrics_are_those_of_numpy() {
    let expected = json(&data().join("numbers.json"));
    let close = |name: &str, found: f64| {
        let expected = expected[name].as_f64().unwrap_or_else(|| panic!("{name}"));
        assert!((found - expected).abs() <= 1e-10 * expected.abs().max(1.0), "{name}: {found} instead of {expected}");
    };
    let value = |tensor: &Tensor| tensor.double_value(&[]);
    let (x, x_hat) = (wave(&[5, 4], 2.0, 0.7), wave(&[5, 4], 1.9, 0.71));
    let (w_dec, b_dec) = (wave(&[8, 4], 1.0, 1.3), wave(&[4], 0.3, 0.9));
    let (pre, threshold) = (wave(&[5, 8], 1.5, 2.1), wave(&[8], 0.4, 0.5).abs());
    let dead = Tensor::from_slice(&[true, false, false, true, false, false, true, false]);
    close("squared_error", value(&loss::squared_error(&x, &x_hat)));
    close("weighted_l1", value(&loss::weighted_l1(&pre.relu(), &w_dec)));
    close("soft_count", value(&loss::soft_count(&pre.relu(), &w_dec)));
    close("pre_activation", value(&loss::pre_activation(&pre, &threshold, &w_dec, &dead)));
    close("auxiliary", value(&loss::auxiliary(&pre, &w_dec, &dead, &(&x - &x_hat)).unwrap()));
    let kept = loss::batch_top_k(&pre, 2);
    close("batch_top_k_sum", value(&kept.sum(Kind::Double)));
    assert_eq!(kept.gt(0.0).sum(Kind::Int64).int64_value(&[]), 10);
    close("prefixes", value(&loss::prefixes(&x, &pre.relu(), &w_dec, &b_dec, &[2, 4, 8])));
    assert!(loss::auxiliary(&pre, &w_dec, &dead.zeros_like(), &x).is_none(), "nobody is dead");
    let found = reconstruction(&x, &x_hat);
    close("fvu", found.fvu);
    close("explained_dictionary_learning", found.explained_dictionary_learning);
    close("explained_sae_lens_6_18", found.explained_sae_lens_6_18);
    close("explained_per_token", found.explained_per_token);
    close("normalised_mse", found.normalised_mse);
    close("relative_bias", found.relative_bias);
    close("l2_ratio", found.l2_ratio);
    close("cosine", found.cosine);
    close("squared_error", found.squared_error);
}

#[test]
fn unexplained_variance_is_none_of_a_copy_and_all_of_the_mean() {
    let x = wave(&[50, 4], 2.0, 0.7) + 3.0;
    let copy = reconstruction(&x, &x);
    assert_eq!((copy.fvu, copy.explained_per_token, copy.normalised_mse), (0.0, 1.0, 0.0));
    assert!((copy.relative_bias - 1.0).abs() < 1e-12 && (copy.cosine - 1.0).abs() < 1e-12);
    let mean = reconstruction(&x, &x.mean_dim(0, true, Kind::Double).expand_as(&x));
    assert!((mean.fvu - 1.0).abs() < 1e-12);
    // A constant error is forgiven by one definition, and hidden by another.
    let shifted = reconstruction(&x, &(&x + 1.0));
    assert!((shifted.explained_dictionary_learning - 1.0).abs() < 1e-12 && shifted.fvu > 0.4);
    assert!(shifted.explained_sae_lens_6_18 > 1.0 - shifted.fvu);
}

/// Compares the gradient of a loss with central differences, where the loss is smooth.
fn check_gradient(name: &str, at: &Tensor, loss: impl Fn(&Tensor) -> Tensor) {
    let leaf = at.copy().set_requires_grad(true);
    let gradient = Tensor::run_backward(&[loss(&leaf)], &[&leaf], false, false).remove(0);
    let step = 1e-6;
    for index in 0..at.numel() as i64 {
        let moved = |by: f64| {
            let mut numbers = numbers(at);
            numbers[index as usize] += by;
            loss(&Tensor::from_slice(&numbers).view_as(at)).double_value(&[])
        };
        let expected = (moved(step) - moved(-step)) / (2.0 * step);
        let found = gradient.view([-1]).double_value(&[index]);
        assert!((found - expected).abs() < 1e-6 * expected.abs().max(1.0), "{name} {index}: {found}, {expected}");
    }
}

#[test]
fn gradients_of_losses_are_their_finite_differences() {
    let (x, w_dec, b_dec) = (wave(&[5, 4], 2.0, 0.7), wave(&[8, 4], 1.0, 1.3), wave(&[4], 0.3, 0.9));
    let (pre, threshold) = (wave(&[5, 8], 1.5, 2.1), wave(&[8], 0.4, 0.5).abs());
    let dead = Tensor::from_slice(&[true, false, false, true, false, false, true, false]);
    let left = wave(&[5, 4], 0.5, 0.4);
    check_gradient("squared error", &wave(&[5, 4], 1.9, 0.71), |x_hat| loss::squared_error(&x, x_hat));
    check_gradient("l1, features", &pre, |pre| loss::weighted_l1(&pre.relu(), &w_dec));
    check_gradient("l1, decoder", &w_dec, |w_dec| loss::weighted_l1(&pre.relu(), w_dec));
    check_gradient("soft count, features", &pre, |pre| loss::soft_count(&pre.relu(), &w_dec));
    check_gradient("soft count, decoder", &w_dec, |w_dec| loss::soft_count(&pre.relu(), w_dec));
    check_gradient("pre-activation, z", &pre, |pre| loss::pre_activation(pre, &threshold, &w_dec, &dead));
    check_gradient("pre-activation, θ", &threshold, |at| loss::pre_activation(&pre, at, &w_dec, &dead));
    check_gradient("auxiliary, z", &pre, |pre| loss::auxiliary(pre, &w_dec, &dead, &left).unwrap());
    check_gradient("auxiliary, decoder", &w_dec, |w_dec| loss::auxiliary(&pre, w_dec, &dead, &left).unwrap());
    check_gradient("batch top k", &pre, |pre| loss::batch_top_k(pre, 2).square().sum(Kind::Double));
    check_gradient("prefixes", &w_dec, |w_dec| loss::prefixes(&x, &pre.relu(), w_dec, &b_dec, &[2, 4, 8]));
    // An open gate passes the gradient of z on, as the function itself does.
    check_gradient("JumpReLU, z", &pre, |pre| loss::jump_relu(pre, &threshold).square().sum(Kind::Double));
}

#[test]
fn thresholds_learn_by_the_rectangle() {
    // Three tokens of one feature, θ = 0.3: inside the kernel (0.05 wide) at 0.31 and 0.28, outside at 0.5.
    let pre = Tensor::from_slice(&[0.31f64, 0.28, 0.5]).view([3, 1]);
    let gradient = |of: &dyn Fn(&Tensor) -> Tensor| {
        let threshold = Tensor::from_slice(&[0.3f64]).set_requires_grad(true);
        Tensor::run_backward(&[of(&threshold)], &[&threshold], false, false).remove(0).double_value(&[0])
    };
    let values = gradient(&|threshold| loss::jump_relu(&pre, threshold).sum(Kind::Double));
    assert!((values - -2.0 * 0.3 / 0.05).abs() < 1e-9, "{values}: −θ/ε for each token inside");
    let leaf = pre.copy().set_requires_grad(true);
    let threshold = Tensor::from_slice(&[0.3f64]).set_requires_grad(true);
    let features = loss::jump_relu(&leaf, &threshold);
    assert_eq!(numbers(&features), [0.31, 0.0, 0.5]);
}

#[test]
fn dictionaries_survive_the_formats() {
    let folder = tempfile::tempdir().unwrap();
    let x = wave(&[9, 6], 2.0, 0.7).to_kind(Kind::Float);
    for normalize in NORMALISATIONS {
        for mut dictionary in every() {
            dictionary.record.normalize = normalize;
            let name = format!("{} {normalize}", dictionary.record.architecture);
            let path = folder.path().join("native.safetensors");
            std::fs::write(&path, native::to_bytes(&dictionary, &check::inputs(&dictionary)).unwrap()).unwrap();
            let read = file::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(read.record, dictionary.record, "{name}");
            assert_eq!(read.reconstruct(&x), dictionary.reconstruct(&x), "{name}");
            let bytes = native::to_bytes(&read, &check::inputs(&read)).unwrap();
            assert_eq!(bytes, std::fs::read(&path).unwrap(), "{name}");

            let lens = folder.path().join("lens");
            std::fs::create_dir_all(&lens).unwrap();
            for (file, bytes) in sae_lens::files(&dictionary).unwrap() {
                std::fs::write(lens.join(file), bytes).unwrap();
            }
            let read = file::read(&lens).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_close(&read.encode(&x), &dictionary.encode(&x), 1e-5, &name);
            assert_close(&read.reconstruct(&x), &dictionary.reconstruct(&x), 1e-5, &name);
            assert_eq!(read.record.architecture, dictionary.record.architecture, "{name}");
            assert_eq!(read.record.site, dictionary.record.site, "{name}");

            let sparse = folder.path().join("layers.1");
            std::fs::create_dir_all(&sparse).unwrap();
            let fits = dictionary.record.architecture == Architecture::TopK
                && matches!(normalize, Normalize::None | Normalize::ExpectedAverageOnlyIn { .. });
            match sparsify::files(&dictionary) {
                Ok(files) => {
                    assert!(fits, "{name}");
                    for (file, bytes) in files {
                        std::fs::write(sparse.join(file), bytes).unwrap();
                    }
                    let read = file::read(&sparse).unwrap();
                    assert_close(&read.encode(&x), &dictionary.encode(&x), 1e-5, &name);
                    assert_close(&read.reconstruct(&x), &dictionary.reconstruct(&x), 1e-5, &name);
                    assert_eq!(read.record.site.as_deref(), Some("L1"));
                }
                Err(error) => assert!(!fits && error.to_string().contains("sparsify"), "{name}: {error}"),
            }
        }
    }
}

/// The prompts of two tasks as a corpus.
fn prompts(loaded: &Loaded, pairs: usize) -> Corpus {
    let mut texts = Vec::new();
    for name in ["ioi", "greater-than"] {
        let expansion = Expansion { split: Split::Train, pairs, seed: 0, corruption: None };
        texts.extend(
            task::expand(&task::resolve(name).unwrap(), &expansion).unwrap().into_iter().map(|pair| pair.clean),
        );
    }
    Corpus::new(texts.iter().map(String::as_str), &loaded.tokenizer, 128, None).unwrap()
}

fn options(architecture: Architecture, tokens: usize) -> Options {
    Options {
        architecture,
        site: "L0".into(),
        features: 96,
        k: 6,
        sparsity: None,
        tokens,
        batch: 256,
        learning_rate: None,
        dead_after: None,
        seed: 3,
    }
}

#[test]
fn every_architecture_learns() {
    tch::set_num_threads(1);
    let loaded = load("toy-2l").unwrap();
    let corpus = prompts(&loaded, 40);
    for architecture in Architecture::ALL {
        let options = options(architecture, 40_000);
        let run = || train((&loaded.model, "toy-2l"), (&corpus, "prompts"), &options, &mut |_, _| {}).unwrap();
        let trained = run();
        let (first, last) = (trained.history[0], *trained.history.last().unwrap());
        let name = architecture.name();
        assert!(last.fvu.is_finite() && last.fvu < 0.5, "{name}: {last:?}");
        assert!(last.fvu < first.fvu, "{name}: {first:?} {last:?}");
        assert_eq!(trained.reconstruction.fvu, trained.dictionary.record.training.as_ref().unwrap().fvu);
        if architecture.has_k() {
            assert!((trained.density.l0 - 6.0).abs() < 1.5, "{name}: L0 {}", trained.density.l0);
        }
        let bytes = native::to_bytes(&trained.dictionary, &trained.check).unwrap();
        let again = run();
        assert_eq!(bytes, native::to_bytes(&again.dictionary, &again.check).unwrap(), "{name}");
    }
}

#[test]
fn penalties_make_features_few() {
    tch::set_num_threads(1);
    let loaded = load("toy-2l").unwrap();
    let corpus = prompts(&loaded, 40);
    for architecture in [Architecture::Relu, Architecture::Gated, Architecture::JumpRelu] {
        let l0 = |sparsity: f64| {
            let options = Options { sparsity: Some(sparsity), ..options(architecture, 30_000) };
            train((&loaded.model, "toy-2l"), (&corpus, "prompts"), &options, &mut |_, _| {}).unwrap().density.l0
        };
        let (weak, strong) = (l0(0.01), l0(8.0));
        assert!(strong < 0.7 * weak, "{architecture}: {weak} {strong}");
    }
}

#[test]
fn what_is_streamed_is_what_a_full_pass_has_at_the_site() {
    with_each_in(Dtype::F64, |case| {
        let (model, spec) = (&case.loaded.model, &case.loaded.model.spec);
        let texts: Vec<u32> = (0..11).map(|index| (index * 7 + 1) % spec.vocab as u32).collect();
        let corpus = Corpus { tokens: texts, windows: vec![0..4, 4..7, 7..11], lead: 1, unknown: 0 };
        let last = spec.layers - 1;
        for written in ["emb".into(), "L0.in".into(), format!("L{last}"), format!("L{last}.attn"), "final".into()] {
            let (place, width) = site(&written, spec).unwrap();
            let mut windows = corpus.windows.clone();
            let found = activations(model, &corpus, place, &mut windows);
            let mut expected = Vec::new();
            for window in &windows {
                let mut record = Record::new([place]).keeping(Keep::Values);
                let tokens = row(model, &corpus.tokens[window.clone()]);
                let _ = model.forward(Start::Tokens(&tokens), &Pass::ALL, &mut record);
                let all = record.finish().unwrap().values[&place].get(0); // [pos, width]
                expected.push(all.narrow(0, 1, window.len() as i64 - 1));
            }
            let expected = Tensor::cat(&expected, 0).to_kind(Kind::Float);
            assert_eq!(found.size(), [8, width as i64], "{} {written}", case.name);
            assert_close(&found, &expected, 1e-6, &format!("{} {written}", case.name));
        }
    });
}

#[test]
fn a_buffer_gives_every_row_and_takes_outliers_out() {
    tch::set_num_threads(1);
    let loaded = load("toy-2l").unwrap();
    let corpus = prompts(&loaded, 20);
    let (place, width) = site("L0", &loaded.model.spec).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut stream = Stream::new(&loaded.model, &corpus, place, corpus.windows.clone());
    let mut buffer = Buffer::fill(&mut stream, width, &mut random);
    assert_eq!(buffer.rows().size()[0] as usize + stream.outliers, corpus.counted().count());
    let count = buffer.rows().size()[0] as usize;
    let drawn = buffer.draw(count, &mut stream, &mut random);
    let sorted = |rows: &Tensor| numbers(&rows.sum_dim_intlist(-1, false, Kind::Double).sort(0, false).0);
    assert_eq!(sorted(&drawn), sorted(buffer.rows()), "each row once in a turn");
    // A row eleven times the median is one too many, one of nine times is not.
    let rows = Tensor::from_slice(&[1f32, 1.0, 1.0, 9.0, 11.0]).view([5, 1]);
    stream.measure_outliers(&rows);
    let before = stream.outliers;
    assert_eq!(numbers(&stream.without_outliers(rows)), [1.0, 1.0, 1.0, 9.0]);
    assert_eq!(stream.outliers - before, 1);
}

/// A ReLU dictionary that is x itself: a feature for each dimension and sign.
fn identity(width: usize) -> Dictionary {
    let eye = Tensor::eye(width as i64, (Kind::Double, Device::Cpu));
    let both = Tensor::cat(&[&eye, &-&eye], 0); // [features, width]
    let zeros = |size: usize| Tensor::zeros([size as i64], (Kind::Double, Device::Cpu));
    Dictionary {
        record: record(Architecture::Relu, (width, 2 * width), None),
        w_enc: both.tr().contiguous(),
        w_dec: both,
        b_dec: zeros(width),
        activation: Activation::Relu { b_enc: zeros(2 * width) },
    }
}

#[test]
fn splicing_the_value_itself_changes_nothing_and_splicing_nothing_is_ablation() {
    with_each_in(Dtype::F64, |case| {
        let (model, spec) = (&case.loaded.model, &case.loaded.model.spec);
        let tokens: Vec<u32> = (0..11).map(|index| (index * 5 + 2) % spec.vocab as u32).collect();
        let corpus = Corpus { tokens, windows: vec![0..4, 4..7, 7..11], lead: 1, unknown: 0 };
        let (place, width) = site("L0", spec).unwrap();
        let mean = activations(model, &corpus, place, &mut corpus.windows.clone()).mean_dim(0, false, Kind::Double);
        let same = identity(width);
        let spliced = splice((model, place), (&corpus, &corpus.windows), (&same, &mean), &mut |_| {});
        assert_eq!(spliced.predictions, 5, "{}", case.name);
        assert!((spliced.ce_spliced - spliced.ce_clean).abs() < 1e-9, "{}: {spliced:?}", case.name);
        assert!(spliced.kl_spliced.abs() < 1e-9 && spliced.kl_zero > 1e-9, "{}: {spliced:?}", case.name);
        assert!((spliced.recovered_zero - 1.0).abs() < 1e-6, "{}: {spliced:?}", case.name);
        let nothing = Dictionary { w_dec: same.w_dec.zeros_like(), ..identity(width) };
        let spliced = splice((model, place), (&corpus, &corpus.windows), (&nothing, &mean), &mut |_| {});
        assert!((spliced.ce_spliced - spliced.ce_zero).abs() < 1e-12, "{}: {spliced:?}", case.name);
        // Cross-entropy by the model's own logits, written out.
        let mut sum = 0.0;
        for window in &corpus.windows {
            let ids = &corpus.tokens[window.clone()];
            let logits = model.forward(Start::Tokens(&row(model, ids)), &Pass::ALL, &mut penjing::model::tap::NoTap);
            for position in 1..ids.len() - 1 {
                let row = logits.get(0).get(position as i64).log_softmax(-1, Kind::Double);
                sum -= row.double_value(&[i64::from(ids[position + 1])]);
            }
        }
        assert!((sum / 5.0 - spliced.ce_clean).abs() < 1e-9, "{}", case.name);
    });
}

#[test]
fn densities_count() {
    // b_dec = 0, W_enc = 1: features are the positive parts of (1, −1), (2, −2), (−3, 1), (1, 0).
    let dictionary = Dictionary { w_dec: Tensor::zeros([4, 2], (Kind::Double, Device::Cpu)), ..identity(2) };
    let x = Tensor::from_slice(&[1f64, -1.0, 2.0, -2.0, -3.0, 1.0, 1.0, 0.0]).view([4, 2]);
    let (x_hat, density) = measure(&dictionary, &x);
    assert_eq!(numbers(&x_hat), [0.0; 8]);
    assert_eq!(density.frequency, [0.75, 0.25, 0.25, 0.5]);
    assert_eq!((density.l0, density.l1, density.dead), (7.0 / 4.0, 11.0 / 4.0, 0.0));
    assert_eq!(density.histogram(1.0), [(-1.0, 4)]);
    let (_, density) = measure(&dictionary, &(x.abs() + 1.0));
    assert_eq!((density.dead, density.histogram(1.0)), (0.5, vec![(0.0, 2)]));
}

#[test]
fn features_go_with_the_kind_that_they_are_active_on() {
    // Feature 0 is active on every text of kind 0, feature 1 on all of kind 1 and once on kind 0, feature 2 on the two texts of
    // kind 0 that choose and on none that measure.
    let text = |features: [[f64; 3]; 2], kind: usize| {
        let features = Tensor::from_slice(&features.concat()).view([2, 3]);
        let x = Tensor::from_slice(&[kind as f64, -1.0, kind as f64, -1.0]).view([2, 2]);
        (features, x, kind)
    };
    let texts = [
        text([[1.0, 0.0, 9.0], [0.0, 0.0, 9.0]], 0),
        text([[2.0, 0.5, 0.0], [1.0, 0.0, 0.0]], 0),
        text([[1.0, 0.0, 9.0], [0.0, 0.0, 0.0]], 0),
        text([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], 0),
        text([[0.0, 2.0, 0.0], [0.0, 2.0, 0.0]], 1),
        text([[0.0, 3.0, 0.0], [0.0, 1.0, 0.0]], 1),
    ];
    let found = labels(&["one".into(), "two".into()], &texts);
    // Features 0 and 2 tell the choosing texts apart equally well and are active on nothing else; the first is taken.
    assert_eq!((found[0].feature, found[0].auroc, found[0].share), (0, 1.0, 1.0));
    assert_eq!((found[1].feature, found[1].auroc), (1, 1.0));
    assert_eq!((found[1].share, found[1].frequency), (4.0 / 5.0, 5.0 / 12.0));
    assert_eq!(
        (found[0].dimension, found[1].dimension),
        (1.0, 1.0),
        "the first dimension is the kind, or its negative"
    );
}
