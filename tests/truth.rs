//! Compiled models: they do their task, their true edges are the circuit, and methods find them.

#![cfg(feature = "torch")]

use penjing::circuit::prune::prune;
use penjing::dataset::TokenPair;
use penjing::eval::Bench;
use penjing::graph::scores::Scores;
use penjing::score::{Method, Problem, Settings, score};
use penjing::truth::marks::marks;
use penjing::truth::{Choice, Known, NAMES, TruthError, known};

const WITHOUT: [Choice; 1] = [Choice { norm: false, noise: 0.0, seed: 0 }];
const WITH: Choice = Choice { norm: true, noise: 0.0, seed: 0 };
const NOISY: Choice = Choice { norm: false, noise: 0.2, seed: 0 };

fn with_each(choices: &[Choice], check: impl Fn(&Known, &str)) {
    tch::set_num_threads(1);
    for name in NAMES {
        for choice in choices {
            check(&known(name, choice).unwrap(), &format!("{name}, {choice:?}"));
        }
    }
}

fn problem<'a>(known: &'a Known, pairs: &'a [TokenPair]) -> Problem<'a> {
    Problem::new(&known.model, &known.graph, pairs, known.metric)
}

fn scores(known: &Known, method: &str) -> Scores {
    let pairs = known.pairs(64, 0);
    let method = Method::parse(method, &Settings::default()).unwrap();
    score(&problem(known, &pairs), &method, &mut |_| ()).unwrap()
}

#[test]
fn they_do_their_task_on_every_pair() {
    with_each(&[WITHOUT[0], WITH, NOISY], |known, name| {
        let pairs = known.pairs(200, 5);
        let bench = Bench::new(&problem(known, &pairs)).unwrap();
        assert!(bench.clean().accuracy.iter().all(|&right| right == 1.0), "{name}: {:?}", bench.clean().accuracy);
        assert!(pairs.iter().all(|pair| pair.clean != pair.corrupt && pair.clean.len() == pair.corrupt.len()));
    });
}

/// Without norms and noise nothing but the true edges touches the logits, and each of them is needed.
#[test]
fn the_true_edges_are_the_circuit() {
    with_each(&WITHOUT, |known, name| {
        assert_eq!(prune(&known.graph, &known.truth), known.truth, "{name}");
        let pairs = known.pairs(64, 1);
        let bench = Bench::new(&problem(known, &pairs)).unwrap();
        let (whole, ablated) = (bench.clean().mean_metric(), bench.ablated().mean_metric());
        let circuit = bench.circuit(&known.truth);
        for (of_circuit, of_model) in circuit.metric.iter().zip(&bench.clean().metric) {
            assert!((of_circuit - of_model).abs() < 1e-4, "{name}: {of_circuit} instead of {of_model}");
        }
        for edge in known.truth.edges(&known.graph) {
            let mut without = known.truth.clone();
            without.remove(edge);
            let lost = (whole - bench.circuit(&without).mean_metric()) / (whole - ablated);
            // In `ioi` an edge from one of two heads to one of two others carries a quarter of what queries and keys get.
            assert!(lost > 0.02, "{name}: without {} {lost} is lost", known.graph.name(edge));
        }
    });
}

#[test]
fn methods_find_them() {
    let check = |method: &str, least: f64| {
        with_each(&WITHOUT, |known, name| {
            let found = marks(known, &scores(known, method));
            assert!(found.auroc >= least, "{method}, {name}: {found:?}");
        });
    };
    check("exact", 1.0);
    check("eap-ig", 0.99);
}

/// What distractors add to the logits is in no truth, and it is there.
#[test]
fn noise_reaches_the_logits() {
    with_each(&[NOISY], |known, name| {
        let scores = scores(known, "exact");
        let others = known.truth.complement(&known.graph).edges(&known.graph);
        let largest = others.iter().map(|edge| scores.get(*edge).abs()).fold(0.0, f32::max);
        assert!(largest > 1e-4, "{name}: {largest}");
        assert_eq!(known.truth, penjing::truth::known(known.name, &WITHOUT[0]).unwrap().truth, "{name}");
    });
}

#[test]
fn pairs_come_from_their_seed() {
    with_each(&WITHOUT, |known, name| {
        let prompts =
            |count, seed| -> Vec<Vec<u32>> { known.pairs(count, seed).into_iter().map(|pair| pair.clean).collect() };
        assert_eq!(prompts(4, 3), prompts(8, 3)[..4], "{name}");
        assert_ne!(prompts(8, 3), prompts(8, 4), "{name}");
    });
}

#[test]
fn wrong_choices_are_refused() {
    let refused = |name: &str, noise: f64| known(name, &Choice { noise, ..Choice::default() }).err();
    assert_eq!(refused("oio", 0.0), Some(TruthError::UnknownModel("oio".into())));
    assert_eq!(refused("ioi", -1.0), Some(TruthError::Noise(-1.0)));
    assert!(matches!(refused("ioi", f64::NAN), Some(TruthError::Noise(_))));
}
