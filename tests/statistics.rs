//! What is said about chance: scores of every pair, intervals that hold what they say, tests that reject as often as they may.

#![cfg(feature = "torch")]

mod fixtures;

use fixtures::with_each_in;
use ndarray::Array2;
use penjing::circuit::evidence::{Hypothesis, Test};
use penjing::circuit::report::Report;
use penjing::circuit::validity::{Warning, warnings};
use penjing::circuit::verdict::{Standing, verdict};
use penjing::eval::bootstrap::faithfulness_interval;
use penjing::graph::{Dimensions, Graph, KvSlots, Level};
use penjing::metric::MetricKind;
use penjing::model::Dtype;
use penjing::score::{self, Method, Problem, Settings, State};
use penjing::statistics::interval::{FEWEST_PAIRS, LEVEL, interval};
use penjing::statistics::resample::{RESAMPLES, resampled_means};
use penjing::truth::rates::{Rates, Repetitions, Variant, rates};
use penjing::truth::{Choice, known};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[test]
fn pairs_of_a_batch_have_the_scores_that_they_have_alone() {
    with_each_in(Dtype::F64, |case| {
        let graph = Graph::new(Dimensions::of(&case.loaded.model.spec, KvSlots::Native));
        let settings = Settings { steps: 2, ..Settings::default() };
        for (name, level) in [
            ("eap-ig", Level::Edge),
            ("relp", Level::Edge),
            ("ifr", Level::Edge),
            ("attribution-patching", Level::Node),
            ("clean-corrupted", Level::Neuron),
        ] {
            let method = Method::parse(name, &settings).unwrap();
            let problem = Problem {
                level,
                per_pair: true,
                ..Problem::new(&case.loaded.model, &graph, &case.pairs, MetricKind::LogitDifference)
            };
            let mut state = State::start(&problem, &method).unwrap();
            assert!(state.left.iter().any(|rows| rows.indices.len() > 1), "{}: the pairs run one by one", case.name);
            score::advance(&problem, &method, &mut state, &mut (&mut |_: score::Progress| ())).unwrap();
            let per_pair = state.per_pair.unwrap(); // [pair, unit]
            for (index, pair) in case.pairs.iter().enumerate().take(3) {
                let alone = Problem { per_pair: false, pairs: std::slice::from_ref(pair), ..problem };
                let alone = score::score(&alone, &method, &mut |_| ()).unwrap();
                let largest = alone.values.iter().fold(0f32, |largest, score| largest.max(score.abs()));
                for (cell, &found) in problem.table().cells().into_iter().zip(per_pair.row(index)) {
                    let error = (found - alone.values[cell]).abs();
                    // Scores are kept as f32.
                    assert!(error <= 1e-6 * largest, "{}, {name}, pair {index}: {error} of {largest}", case.name);
                }
            }
        }
    });
}

/// A number between 0 and 1, never one of them.
fn uniform(random: &mut ChaCha8Rng) -> f64 {
    (f64::from(random.next_u32()) + 0.5) / 4_294_967_296.0
}

fn normal(random: &mut ChaCha8Rng) -> f64 {
    (-2.0 * uniform(random).ln()).sqrt() * (std::f64::consts::TAU * uniform(random)).cos()
}

/// Skewed, with mean 1.
fn exponential(random: &mut ChaCha8Rng) -> f64 {
    -uniform(random).ln()
}

/// The share of 2000 draws of so many pairs in which the interval of a mean score holds the true mean.
fn coverage(pairs: usize, mean: f64, draw: fn(&mut ChaCha8Rng) -> f64) -> f64 {
    let mut random = ChaCha8Rng::seed_from_u64(pairs as u64);
    // Each score of a table is a draw of its own.
    let held: usize = (0..20)
        .map(|table| {
            let scores = Array2::from_shape_fn((pairs, 100), |_| draw(&mut random) as f32);
            let means = resampled_means(scores.view(), RESAMPLES, table); // [resample, score]
            let holds = |column: usize| {
                let of_resamples = means.column(column).iter().map(|&mean| f64::from(mean)).collect();
                let [low, high] = interval(of_resamples, pairs, LEVEL);
                low <= mean && mean <= high
            };
            (0..100).filter(|&column| holds(column)).count()
        })
        .sum();
    held as f64 / 2000.0
}

#[test]
fn intervals_of_scores_hold_the_truth_as_often_as_they_say() {
    // The standard error of a share of 2000 near 0.95 is 0.005.
    for pairs in [10, 30, 64, 200] {
        let of_normal = coverage(pairs, 0.0, normal);
        let of_skewed = coverage(pairs, 1.0, exponential);
        println!("{pairs} pairs: {of_normal:.3} of normal scores, {of_skewed:.3} of exponential ones");
        assert!((0.935..=0.965).contains(&of_normal), "{pairs} pairs: {of_normal}");
        // Means of skewed scores are skewed too, the more so the fewer there are.
        let least = if pairs < FEWEST_PAIRS { 0.9 } else { 0.92 };
        assert!((least..=0.965).contains(&of_skewed), "{pairs} pairs: {of_skewed}");
    }
}

#[test]
fn intervals_of_faithfulness_hold_the_truth_as_often_as_they_say() {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let (draws, pairs, truth) = (300, 50, 0.8);
    let held = (0..draws).filter(|&seed| {
        let model: Vec<f64> = (0..pairs).map(|_| 3.0 + normal(&mut random)).collect();
        let ablated: Vec<f64> = (0..pairs).map(|_| -1.0 + normal(&mut random)).collect();
        // The circuit does of each pair what the truth says of the mean, and a little that is its own.
        let mean = -1.0 + truth * 4.0;
        let circuit: Vec<f64> =
            model.iter().map(|model| mean + 0.5 * (model - 3.0) + 0.5 * normal(&mut random)).collect();
        let [low, high] = faithfulness_interval(&circuit, &ablated, &model, seed);
        low <= truth && truth <= high
    });
    let share = held.count() as f64 / f64::from(draws as u32);
    println!("{share:.3} of {draws}");
    // Three standard errors of a share of 300 near 0.95.
    assert!((0.95f64 - share).abs() < 0.038, "{share}");
}

#[test]
fn tests_are_right_about_circuits_that_are_known() {
    tch::set_num_threads(1);
    let how = Repetitions { repetitions: 3, pairs: 50, random_circuits: 50, seed: 0 };
    let of = |name: &str| rates(&known(name, &Choice::default()).unwrap(), &how, &mut |_| ()).unwrap();
    let failed = |all: &[Rates], variant: Variant, hypothesis: Hypothesis| {
        let rates = all.iter().find(|rates| rates.variant == variant).unwrap();
        rates.failed[Hypothesis::ALL.iter().position(|&one| one == hypothesis).unwrap()]
    };
    for (name, ways) in [("ioi", true), ("greater-than", false)] {
        let all = of(name);
        for rates in &all {
            println!("{name}, {}: {:?} of {}", rates.variant.name(), rates.failed, rates.repetitions);
        }
        // Size: the true circuit passes everything.
        assert_eq!(all[0].variant, Variant::True);
        assert_eq!((all[0].failed_any, all[0].repetitions), (0, 3), "{name}");
        // Power: each wrong circuit fails what can see it, every time.
        assert_eq!(failed(&all, Variant::WithoutAnEdge, Hypothesis::Equivalence), 3, "{name}");
        assert_eq!(failed(&all, Variant::WithAnEdgeMore, Hypothesis::Minimality), 3, "{name}");
        assert_eq!(all.iter().any(|rates| rates.variant == Variant::WithoutAWay), ways, "{name}");
        if ways {
            assert_eq!(failed(&all, Variant::WithoutAWay, Hypothesis::Independence), 3, "{name}");
            assert_eq!(failed(&all, Variant::WithoutAWay, Hypothesis::Equivalence), 3, "{name}");
        }
    }
}

/// A report about which there is nothing to say.
fn sound() -> Report {
    Report {
        pairs: 100,
        metric: "logit-difference".into(),
        metric_model: 3.0,
        metric_ablated: -3.0,
        metric_circuit: 2.7,
        faithfulness: 0.95,
        faithfulness_interval: [0.93, 0.97],
        completeness: 0.0,
        accuracy_model: 1.0,
        accuracy_ablated: 0.0,
        accuracy_circuit: 0.99,
        metric_model_error: 0.1,
        kl: 0.01,
        minimality: Vec::new(),
        minimality_of_nodes: Vec::new(),
        random: None,
        random_of_degree: None,
        tests: Vec::new(),
        stability: None,
        held_out: None,
    }
}

#[test]
fn numbers_that_mislead_are_pointed_out() {
    assert_eq!(warnings(&sound()), []);
    #[track_caller]
    fn check(report: Report, expected: Warning, word: &str) {
        assert_eq!(warnings(&report), [expected]);
        assert!(expected.to_string().contains(word), "{expected}");
    }
    check(Report { faithfulness: 1.2, ..sound() }, Warning::FaithfulnessAboveOne { faithfulness: 1.2 }, "above 1");
    check(
        Report { accuracy_model: 0.8, accuracy_circuit: 0.9, ..sound() },
        Warning::CircuitBetterThanModel { circuit: 0.9, model: 0.8 },
        "better than what it is to explain",
    );
    check(
        Report { metric_model: 0.1, metric_model_error: 0.08, ..sound() },
        Warning::MetricNearZero { metric: 0.1, error: 0.08 },
        "may be nothing",
    );
    check(
        Report { accuracy_ablated: 0.65, ..sound() },
        Warning::CorruptionKeepsAnswer { share: 0.65 },
        "65 % of pairs",
    );
    // Half of the pairs is what chance leaves, and 55 of 100 may be chance.
    assert_eq!(warnings(&Report { accuracy_ablated: 0.55, ..sound() }), []);
    check(Report { pairs: FEWEST_PAIRS - 1, ..sound() }, Warning::FewPairs { pairs: FEWEST_PAIRS - 1 }, "too few");
}

#[test]
fn a_verdict_says_what_was_not_tested_and_what_the_numbers_leave_open() {
    let standings = |report: &Report, asked| {
        verdict(report, Level::Edge, asked).iter().map(|finding| finding.standing).collect::<Vec<Standing>>()
    };
    let untested = standings(&sound(), Some(0.9));
    assert_eq!(untested[0], Standing::Supported);
    assert!(untested[1..].iter().all(|&standing| standing == Standing::NotTested));
    assert_eq!(standings(&sound(), Some(0.95))[0], Standing::Undecided);
    assert_eq!(standings(&sound(), Some(0.98))[0], Standing::NotSupported);
    let of_one_pair = Report { pairs: 1, faithfulness_interval: [f64::NAN; 2], ..sound() };
    let first = &verdict(&of_one_pair, Level::Edge, None)[0];
    assert_eq!(first.standing, Standing::NotTested);
    assert!(first.words.contains("0.950 (no interval)") && first.words.contains("1 fresh pair;"), "{}", first.words);
    let against_random = |count, of, p| {
        let test = Test { hypothesis: Hypothesis::Sufficiency, count, of, p, p_adjusted: p };
        standings(&Report { tests: vec![test], ..sound() }, None)[4]
    };
    assert_eq!(against_random(50, 50, 0.01), Standing::Supported);
    assert_eq!(against_random(40, 50, 0.9), Standing::NotSupported);
    // Beating all of ten circuits, as likely as 0.35 where nine tenths are beaten, proves nothing.
    assert_eq!(against_random(10, 10, 0.35), Standing::Undecided);
}
