//! Vectors: columns against full runs, function vectors by hand, removal as weights against removal as edits, methods against
//! other ways to compute them, candidates against runs.

#![cfg(feature = "torch")]

mod fixtures;

use fixtures::with_each_in;
use penjing::inside::column::{Column, ColumnError};
use penjing::inside::generate::{divergence, next};
use penjing::inside::row;
use penjing::inside::vectors::bake::{BakeError, bake, removed_everywhere};
use penjing::inside::vectors::directions::{LAMBDA, Method, direction, probe};
use penjing::inside::vectors::gguf::{ControlVector, GgufError};
use penjing::inside::vectors::in_context::{Asked, Format};
use penjing::inside::vectors::select::{Rules, scan, score};
use penjing::inside::vectors::{Encoded, cosine, function, read};
use penjing::intervene::parse;
use penjing::intervene::plan::Plan;
use penjing::intervene::position::Prompt;
use penjing::intervene::run::Supplies;
use penjing::model::site::Site;
use penjing::model::spec::Layer;
use penjing::model::tap::{NoTap, Tap};
use penjing::model::{Dtype, LoadOptions, Model, Pass, Start, load_with};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

fn encoded(tokens: &[u32]) -> Encoded {
    (tokens.to_vec(), Prompt::of_length(tokens.len()))
}

/// Numbers between -1 and 1 without a pattern that the models know.
fn wave(length: usize, turn: f64) -> Tensor {
    (Tensor::arange(length as i64, F64) * 0.7 + turn).sin()
}

fn plan(edits: &[String]) -> Plan {
    Plan { edits: edits.iter().map(|edit| parse::edit(edit).unwrap()).collect() }
}

fn supplies(vector: &Tensor) -> Supplies {
    let mut supplies = Supplies::default();
    supplies.vectors.insert("v".into(), vector.shallow_clone());
    supplies
}

/// Log-probabilities `[vocab]` in the model's own precision, by a full run with edits.
fn full(model: &Model, prompt: &Encoded, edits: &[String], vector: &Tensor) -> Tensor {
    let plan = plan(edits);
    let supplies = supplies(vector);
    let (logits, _) = penjing::intervene::run::run_plan(
        &plan,
        &model.spec,
        std::slice::from_ref(&prompt.1),
        &supplies,
        |tap: &mut dyn Tap| {
            let mut tap = tap;
            tch::no_grad(|| model.forward(Start::Tokens(&row(model, &prompt.0)), &Pass::LAST, &mut tap))
        },
    )
    .unwrap();
    logits.view([-1]).log_softmax(-1, None::<Kind>)
}

fn largest(difference: &Tensor) -> f64 {
    difference.abs().max().double_value(&[])
}

#[test]
fn a_column_is_a_full_run() {
    for (dtype, allowed) in [(Dtype::F64, 1e-9), (Dtype::F32, 1e-4)] {
        with_each_in(dtype, |case| {
            let (model, tokens) = (&case.loaded.model, &case.pairs[0].clean);
            let spec = &model.spec;
            let column = match Column::new(model, tokens) {
                Ok(column) => column,
                Err(ColumnError::BothWays) => return assert!(!spec.attention.causal, "{}", case.name),
            };
            assert!(spec.attention.causal);
            let prompt = encoded(tokens);
            let z: Vec<Tensor> = (0..spec.layers)
                .map(|layer| wave(spec.heads * spec.d_head, layer as f64).view([spec.heads as i64, -1]))
                .collect();
            let heads = column.heads(&z);
            for layer in 0..spec.layers {
                let (found, z) = (heads.get(layer as i64), &z[layer]);
                for head in 0..spec.heads {
                    let edit = format!("L{layer}.H{head}.z:-1 = set v");
                    let expected = full(model, &prompt, &[edit], &z.get(head as i64));
                    let off = largest(&(found.get(head as i64) - expected));
                    assert!(off <= allowed, "{}, L{layer}.H{head}: {off}", case.name);
                }
                let value = wave(spec.d_model, 1.0 + layer as f64);
                let both = Tensor::stack(&[&value, &(-&value)], 0);
                let found = column.outputs(layer, &both);
                let expected = full(model, &prompt, &[format!("L{layer}:-1 = set v")], &-&value);
                let off = largest(&(found.get(1) - expected));
                assert!(off <= allowed, "{}, L{layer}: {off}", case.name);
            }
            let plain = full(model, &prompt, &[], &wave(1, 0.0));
            assert!(largest(&(&column.next - &plain)) <= allowed, "{}", case.name);
            assert!(largest(&(column.variants(0, 2, &mut NoTap).get(1) - plain)) <= allowed, "{}", case.name);
        });
    }
}

#[test]
fn a_column_of_one_token_has_no_past() {
    let loaded = load_with("toy-2l", &LoadOptions { dtype: Dtype::F64, ..LoadOptions::default() }).unwrap();
    let column = Column::new(&loaded.model, &[7]).unwrap();
    let value = wave(loaded.model.spec.d_model, 0.3);
    let expected = full(&loaded.model, &encoded(&[7]), &["L0:-1 = set v".into()], &value);
    assert!(largest(&(column.outputs(0, &value.unsqueeze(0)).get(0) - expected)) <= 1e-9);
}

#[test]
fn effects_and_the_function_vector_are_full_runs() {
    with_each_in(Dtype::F64, |case| {
        let model = &case.loaded.model;
        let spec = &model.spec;
        if !spec.attention.causal {
            return;
        }
        let prompts: Vec<Asked> = case
            .pairs
            .iter()
            .take(2)
            .map(|pair| Asked { encoded: encoded(&pair.clean), answer: pair.right[0] })
            .collect();
        // The slice of the input of the output projection, by the grammar.
        let site = |layer: usize, head: usize| parse::address(&format!("L{layer}.H{head}.z")).unwrap();
        let mean = |layer: usize, head: usize| {
            let all: Vec<Tensor> =
                prompts.iter().map(|asked| read(model, &site(layer, head), &asked.encoded).unwrap()).collect();
            (&all[0] + &all[all.len() - 1]) / 2.0
        };
        let means = function::means(model, &prompts).unwrap();
        let effects = function::effects(model, &prompts, &means, &mut |_| ()).unwrap();
        assert_eq!(effects.dim(), (spec.layers, spec.heads));
        let mut written = Tensor::zeros([spec.d_model as i64], F64);
        for layer in 0..spec.layers {
            for head in 0..spec.heads {
                let mean = mean(layer, head);
                assert!(largest(&(means[layer].get(head as i64) - &mean)) < 1e-12, "{}", case.name);
                let edit = [format!("L{layer}.H{head}.z:-1 = set v")];
                let added = |asked: &Asked| {
                    let p = |edits: &[String]| {
                        full(model, &asked.encoded, edits, &mean).get(asked.answer.into()).exp().double_value(&[])
                    };
                    p(&edit) - p(&[])
                };
                let expected = prompts.iter().map(added).sum::<f64>() / prompts.len() as f64;
                let found = effects[[layer, head]];
                assert!((found - expected).abs() < 1e-9, "{}, L{layer}.H{head}: {found}, {expected}", case.name);
                // What the head adds to the residual stream when its z is the mean: the site that has no bias.
                if layer == spec.layers - 1 {
                    written += head_output(model, &prompts[0].encoded, (layer, head), &mean);
                }
            }
        }
        let last: Vec<function::HeadEffect> =
            (0..spec.heads).map(|head| function::HeadEffect { layer: spec.layers - 1, head, effect: 0.0 }).collect();
        let found = function::vector(model, &means, &last);
        assert!(largest(&(found - written)) < 1e-9, "{}", case.name);
    });
}

/// The value of `L.H` at the last position when `L.H.z` is set there.
fn head_output(model: &Model, prompt: &Encoded, (layer, head): (usize, usize), z: &Tensor) -> Tensor {
    struct Both<'a> {
        layer: Layer,
        head: i64,
        z: &'a Tensor,
        out: Option<Tensor>,
    }
    impl Tap for Both<'_> {
        fn wants(&self, site: Site) -> bool {
            site == Site::Z(self.layer) || site == Site::HeadOut(self.layer)
        }
        fn at(&mut self, site: Site, value: Tensor) -> Tensor {
            if site == Site::Z(self.layer) {
                let value = value.copy();
                value.get(0).get(-1).get(self.head).copy_(self.z);
                return value;
            }
            self.out = Some(value.get(0).get(-1).get(self.head));
            value
        }
    }
    let mut tap = Both { layer: Layer(layer), head: head as i64, z, out: None };
    let _ = tch::no_grad(|| model.forward(Start::Tokens(&row(model, &prompt.0)), &Pass::LAST, &mut tap));
    tap.out.unwrap()
}

#[test]
fn the_strongest_heads_come_first() {
    let effects = ndarray::arr2(&[[0.1, -0.9], [0.5, 0.1]]);
    let found = function::strongest(&effects, 3);
    let heads: Vec<(usize, usize)> = found.iter().map(|head| (head.layer, head.head)).collect();
    assert_eq!(heads, [(1, 0), (0, 0), (1, 1)]);
}

#[test]
fn formats_as_they_are_written() {
    let examples = [("hot", "cold"), ("up", "down")];
    assert_eq!(Format::QuestionAnswer.text(&examples, "big"), "Q: hot\nA: cold\n\nQ: up\nA: down\n\nQ: big\nA:");
    assert_eq!(Format::Arrow.text(&examples, "big"), "Words: hot -> cold, up -> down, big ->");
    assert_eq!(Format::List.text(&examples, "big"), "Pairs such as hot and cold, up and down, big and");
    assert_eq!(Format::Arrow.text(&[], "big"), "Words: big ->");
}

#[test]
fn removal_as_weights_is_removal_as_edits() {
    for (dtype, allowed) in [(Dtype::F64, 1e-9), (Dtype::F32, 1e-4)] {
        with_each_in(dtype, |case| {
            let name = case.folder.to_str().unwrap();
            let options = LoadOptions { dtype, ..LoadOptions::default() };
            let mut baked = load_with(name, &options).unwrap().model;
            let model = &case.loaded.model;
            let vector = wave(model.spec.d_model, 0.2);
            let done = bake(&mut baked, &(&vector * 3.0));
            if model.spec.placement.after() {
                assert!(matches!(done, Err(BakeError::NormAfter)), "{}", case.name);
                return;
            }
            done.unwrap();
            let edits: Vec<String> =
                removed_everywhere(&model.spec, "v").edits.iter().map(ToString::to_string).collect();
            for pair in case.pairs.iter().take(2) {
                let prompt = encoded(&pair.clean);
                let expected = full(model, &prompt, &edits, &vector);
                let off = largest(&(full(&baked, &prompt, &[], &vector) - &expected));
                assert!(off <= allowed, "{}: {off}", case.name);
                // The edits do something.
                assert!(largest(&(full(model, &prompt, &[], &vector) - &expected)) > 1e-6, "{}", case.name);
            }
        });
    }
    let mut toy = load_with("toy-2l", &LoadOptions::default()).unwrap().model;
    let before = toy.fingerprint();
    assert!(matches!(bake(&mut toy, &wave(3, 0.0)), Err(BakeError::Width { length: 3, .. })));
    let zero = Tensor::zeros([toy.spec.d_model as i64], F64);
    assert!(matches!(bake(&mut toy, &zero), Err(BakeError::NoDirection)));
    assert_eq!(before, toy.fingerprint());
}

/// Two kinds of rows that differ along one direction and vary along others.
fn rows(count: i64, width: i64) -> [Tensor; 2] {
    let noise = |turn: f64| {
        let all = Tensor::arange(count * width, F64);
        ((&all * &all * 0.37 + turn).sin() * Tensor::arange(width, F64).repeat([count]).cos()).view([count, width])
    };
    let apart = wave(width as usize, 2.0);
    [noise(0.1) + &apart, noise(1.7) - &apart * 0.2]
}

#[test]
fn components_are_eigenvectors_of_the_differences() {
    let [positive, negative] = rows(11, 6);
    let differences = &positive - &negative;
    for centred in [false, true] {
        let found = direction(Method::Pca { centred }, &[positive.shallow_clone(), negative.shallow_clone()]).unwrap();
        let spread =
            if centred { &differences - differences.mean_dim(0, true, Kind::Double) } else { differences.copy() };
        let (values, vectors) = spread.tr().matmul(&spread).linalg_eigh("L");
        let first = vectors.select(1, values.size()[0] - 1);
        assert!((cosine(&found, &first).abs() - 1.0).abs() < 1e-10, "{centred}");
        let along = Vec::<f64>::try_from(differences.matmul(&found)).unwrap();
        assert!(along.iter().filter(|x| **x > 0.0).count() * 2 > along.len(), "{along:?}");
        let mean = positive.mean_dim(0, false, Kind::Double) - negative.mean_dim(0, false, Kind::Double);
        assert!((found.norm() - mean.norm()).abs().double_value(&[]) < 1e-9);
        // The other way round it points the other way.
        let back = direction(Method::Pca { centred }, &[negative.shallow_clone(), positive.shallow_clone()]).unwrap();
        assert!((cosine(&found, &back) + 1.0).abs() < 1e-10);
    }
    let unpaired = [positive.narrow(0, 0, 3), negative];
    assert!(direction(Method::Pca { centred: true }, &unpaired).unwrap_err().to_string().contains("3 positive and 11"));
}

/// The gradient of the loss as the documentation has it, numerically, in the values as they are.
#[test]
fn the_probe_is_a_minimum() {
    for (count, width) in [(20, 4), (5, 30)] {
        let [positive, negative] = rows(count, width);
        let (normal, offset) = probe(&[positive.shallow_clone(), negative.shallow_clone()], LAMBDA);
        let all = Tensor::cat(&[&positive, &negative], 0);
        let centred = &all - all.mean_dim(0, true, Kind::Double);
        let size = centred.square().sum_dim_intlist(1, false, Kind::Double).mean(Kind::Double).sqrt().double_value(&[]);
        let loss = |normal: &Tensor, offset: f64| {
            let [yes, no] = [&positive, &negative].map(|rows| rows.matmul(normal) + offset);
            let misses = Tensor::cat(&[-yes, no], 0);
            let w = normal * size;
            ((misses.exp() + 1.0).log().mean(Kind::Double) + w.dot(&w) * (LAMBDA / 2.0)).double_value(&[])
        };
        let step = 1e-5;
        for axis in 0..width {
            let change = Tensor::zeros([width], F64);
            let _ = change.get(axis).fill_(step);
            let slope = (loss(&(&normal + &change), offset) - loss(&(&normal - &change), offset)) / (2.0 * step);
            assert!(slope.abs() < 1e-8, "{slope}");
        }
        let slope = (loss(&normal, offset + step) - loss(&normal, offset - step)) / (2.0 * step);
        assert!(slope.abs() < 1e-8, "{slope}");
        let found = direction(Method::Probe, &[positive, negative]).unwrap();
        assert!((cosine(&found, &normal) - 1.0).abs() < 1e-12);
    }
}

#[test]
fn mass_mean_is_the_inverse_covariance_times_the_difference() {
    let [positive, negative] = rows(40, 4);
    let theta = positive.mean_dim(0, false, Kind::Double) - negative.mean_dim(0, false, Kind::Double);
    let mut covariance = Tensor::zeros([4, 4], F64);
    for rows in [&positive, &negative] {
        let mean = rows.mean_dim(0, false, Kind::Double);
        for index in 0..40 {
            let off = rows.get(index) - &mean;
            covariance += off.outer(&off) / 80.0;
        }
    }
    let smallest = covariance.linalg_eigh("L").0.min().double_value(&[]);
    assert!(smallest > 1e-3, "{smallest}: the inverse would not be the pseudo-inverse");
    let expected = Tensor::linalg_inv(&covariance).matmul(&theta);
    let found = direction(Method::MassMean, &[positive, negative]).unwrap();
    assert!((cosine(&found, &expected) - 1.0).abs() < 1e-10);
    assert!(cosine(&found, &theta) < 0.999, "the covariance would do nothing here");
}

#[test]
fn candidates_have_the_scores_of_full_runs() {
    let loaded = load_with("toy-4l", &LoadOptions::default()).unwrap();
    let model = &loaded.model;
    let encode =
        |text: String| penjing::inside::prompt::encode(&text, &loaded.tokenizer, &model.spec, None, 0).unwrap();
    let prompts = |verbs: [&str; 2]| -> Vec<Encoded> {
        let of = |verb: &str| {
            ["cake", "chair", "window", "door"]
                .map(|object| encode(format!("User: Please help me {verb} the {object}.\nAssistant:")))
        };
        verbs.iter().flat_map(|verb| of(verb)).collect()
    };
    let (positive, negative) = (prompts(["steal", "smash"]), prompts(["bake", "polish"]));
    let sorry = loaded.tokenizer.single(" Sorry").unwrap();
    let rules = Rules { layers_below: 0.8, max_kl: 0.1, min_induce: 0.0, filter: false };
    let found = scan(model, [&positive, &negative], &[-1, -2], &[sorry], &rules, &mut |_| ()).unwrap();
    assert_eq!((found.candidates.len(), found.made_from, found.scored_on), (8, [6, 6], [2, 2]));
    let p = |next: &Tensor| next.get(sorry.into()).to_kind(Kind::Double).exp().double_value(&[]);
    for (one, vector) in found.candidates.iter().zip(&found.vectors) {
        // By the grammar, in our own convention of layers.
        let address = parse::address(&format!("{}:{}", one.site(), one.position)).unwrap();
        let mean = |prompts: &[Encoded]| {
            let sum = prompts[..6].iter().map(|prompt| read(model, &address, prompt).unwrap()).reduce(|a, b| a + b);
            sum.unwrap() / 6.0
        };
        let expected = mean(&positive) - mean(&negative);
        assert!(largest(&(vector - &expected)) < 1e-6, "{one:?}");
        if largest(&expected) == 0.0 {
            // What enters the first block is the same where the tokens are.
            assert_eq!((one.enters, one.discarded), (0, Some("no difference")));
            continue;
        }
        let removed: Vec<String> =
            ["L*.in", "L*.attn", "L*.mlp", "L*"].map(|site| format!("{site} = project 0*v")).to_vec();
        let mut scores = [0.0; 3];
        for index in 6..8 {
            let run =
                |prompt: &Encoded, edits: &[String]| next(model, prompt, &plan(edits), &supplies(vector)).unwrap();
            scores[0] += score(p(&run(&positive[index], &removed))) / 2.0;
            scores[1] += score(p(&run(&negative[index], &[format!("{} = add 1*v", one.site())]))) / 2.0;
            scores[2] += divergence(&run(&negative[index], &[]), &run(&negative[index], &removed)) / 2.0;
        }
        for (found, expected) in [one.bypass, one.induce, one.kl].into_iter().zip(scores) {
            assert!((found - expected).abs() < 1e-5, "{one:?}: {scores:?}");
        }
        let why = match one {
            _ if one.enters >= 3 => Some("late layer"),
            _ if scores[2] > 0.1 => Some("high KL"),
            _ if scores[1] < 0.0 => Some("does not induce"),
            _ => None,
        };
        assert_eq!(one.discarded, why, "{one:?}");
    }
    let best = found
        .candidates
        .iter()
        .filter(|one| one.discarded.is_none())
        .map(|one| one.bypass)
        .fold(f64::INFINITY, f64::min);
    assert_eq!(found.chosen.map(|index| found.candidates[index].bypass), best.is_finite().then_some(best));
    assert!((score(0.5)).abs() < 1e-12 && (score(0.9) - 9f64.ln()).abs() < 1e-6 && score(0.0) > -19.0);
}

#[test]
fn control_vectors_come_back_and_bad_files_are_refused() {
    let directions: BTreeMap<usize, Vec<f32>> =
        (1..4).map(|layer| (layer, (0..5).map(|i| (i * layer) as f32 - 0.5).collect())).collect();
    let vector = ControlVector { hint: "llama".into(), directions };
    let bytes = vector.to_bytes().unwrap();
    assert_eq!(ControlVector::from_bytes(&bytes).unwrap(), vector);
    // Cut anywhere before the padding at its end it is refused, never read as something else.
    let end = bytes.len() - 32 + 20;
    for length in 0..end {
        assert!(ControlVector::from_bytes(&bytes[..length]).is_err(), "{length}");
    }
    for (at, byte) in [(0, b'X'), (4, 9), (8, 200)] {
        let mut broken = bytes.clone();
        broken[at] = byte;
        assert!(ControlVector::from_bytes(&broken).is_err(), "{at}");
    }
    let zero = ControlVector { hint: String::new(), directions: [(0, vec![1.0])].into() };
    assert!(matches!(zero.to_bytes(), Err(GgufError::LayerZero)));
}
