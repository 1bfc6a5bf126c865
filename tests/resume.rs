//! Runs that end in the middle: whatever the method and wherever it was stopped, another run that goes on from the file
//! ends in the same bytes.

#![cfg(feature = "torch")]

use penjing::dataset::TokenPair;
use penjing::graph::{Dimensions, Graph, KvSlots, Level};
use penjing::identity::Identity;
use penjing::measure::memory::{Division, Sizes};
use penjing::metric::MetricKind;
use penjing::model::Model;
use penjing::model::spec::Spec;
use penjing::score::checkpoint::{self, CheckpointError};
use penjing::score::{Method, Problem, ScoreError, Settings, State, Watch, acdc, advance, mask, score};
use penjing::task::PromptPair;
use std::ops::ControlFlow;
use std::path::Path;
use tempfile::tempdir;

const VOCAB: usize = 50;

/// Five prompts of nine tokens and three of seven, which differ from the third token on.
fn pairs() -> Vec<TokenPair> {
    let pair = |row: usize| {
        let token = |place: usize| ((row * 7919 + place * 104_729 + 17) % VOCAB) as u32;
        let clean: Vec<u32> = (0..if row < 5 { 9 } else { 7 }).map(token).collect();
        let mut corrupt = clean.clone();
        corrupt[3] = (clean[3] + 1) % VOCAB as u32;
        let (right, wrong) = (vec![token(50)], vec![(token(50) + 1) % VOCAB as u32]);
        let prompt = PromptPair::default();
        TokenPair { clean, corrupt, right, wrong, first_difference: 3, positions: Default::default(), prompt }
    };
    (0..8).map(pair).collect()
}

fn with_problem(check: impl Fn(&Problem)) {
    tch::set_num_threads(1);
    let model = Model::random(Spec::gpt2(2, 2, 16, VOCAB, 32), 0);
    let graph = Graph::new(Dimensions::of(&model.spec, KvSlots::default()));
    let pairs = pairs();
    let problem = Problem::new(&model, &graph, &pairs, MetricKind::LogitDifference);
    check(&Problem { batch_size: Some(2), ..problem });
}

/// Every method at every level that it has.
fn every_method() -> Vec<(Method, Level)> {
    // A threshold by which acdc keeps some edges and removes others.
    let acdc = acdc::Options { tau: 1e-5, loss: acdc::Loss::Metric, ..acdc::Options::default() };
    let mask = mask::Options { steps: 7, ..mask::Options::default() };
    let settings = Settings { steps: 3, acdc, mask, ..Settings::default() };
    let levels = |method: Method| method.levels().iter().map(move |&level| (method.clone(), level));
    let mut all: Vec<_> = Method::all(&settings).into_iter().flat_map(levels).collect();
    // Its sums have a row more.
    all.push((Method::Acdc(acdc::Options { nodes: acdc::Nodes::Acdc, ..settings.acdc }), Level::Edge));
    all
}

/// Ends a run at a safe point, counted from 1.
struct StopAt {
    stop: usize,
    seen: usize,
    shares: Vec<f64>,
}

impl StopAt {
    fn new(stop: usize) -> StopAt {
        StopAt { stop, seen: 0, shares: Vec::new() }
    }
}

impl Watch for StopAt {
    fn safe_point(&mut self, state: &State) -> ControlFlow<()> {
        self.seen += 1;
        self.shares.push(state.share());
        if self.seen == self.stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn smaller_batch(&mut self, _: usize) {}
}

fn run() -> Identity {
    Identity::default().with("method", &"one".into()).with("seed", &0.into())
}

/// Writes the state down and reads it again.
fn through_a_file(state: &State, problem: &Problem, method: &Method, folder: &Path) -> State {
    let path = folder.join("checkpoint.bin");
    std::fs::write(&path, checkpoint::to_bytes(state, &run()).unwrap()).unwrap();
    checkpoint::read(&path, &run(), problem, method).unwrap()
}

#[test]
fn a_run_stopped_anywhere_ends_in_the_same_bytes() {
    let folder = tempdir().unwrap();
    with_problem(|problem| {
        for (method, level) in every_method() {
            for per_pair in [false, true].into_iter().filter(|per_pair| !per_pair || method.adds_up()) {
                let problem = Problem { per_pair, level, ..*problem };
                let mut whole = State::start(&problem, &method).unwrap();
                let mut watch = StopAt::new(0);
                advance(&problem, &method, &mut whole, &mut watch).unwrap();
                let batches = State::start(&problem, &method).unwrap().left.len();
                if let Method::Acdc(options) = &method {
                    let decided = whole.sums.iter().filter(|&&effect| effect / 8.0 >= options.tau).count();
                    assert!((1..whole.sums.len() / 2).contains(&decided), "{options:?} keeps {decided}");
                }
                assert!(watch.seen >= batches, "{}", method.name());
                assert!(watch.shares.is_sorted() && watch.shares.last() == Some(&1.0), "{:?}", watch.shares);
                for stop in 1..=watch.seen {
                    let mut state = State::start(&problem, &method).unwrap();
                    let stopped = advance(&problem, &method, &mut state, &mut StopAt::new(stop));
                    assert!(matches!(stopped, Err(ScoreError::Stopped(_))), "{}, {level}", method.name());
                    let mut state = through_a_file(&state, &problem, &method, folder.path());
                    let mut rest = StopAt::new(0);
                    advance(&problem, &method, &mut state, &mut rest).unwrap();
                    assert_eq!(state, whole, "{} stopped at {stop}", method.name());
                    assert_eq!(rest.seen, watch.seen - stop, "{} did something twice", method.name());
                }
            }
        }
    });
}

#[test]
fn a_run_stopped_at_every_step_ends_in_the_same_bytes() {
    let folder = tempdir().unwrap();
    with_problem(|problem| {
        let method = Method::Exact;
        let whole = score(problem, &method, &mut |_| ()).unwrap();
        let mut state = State::start(problem, &method).unwrap();
        let mut share = 0.0;
        while advance(problem, &method, &mut state, &mut StopAt::new(1)).is_err() {
            state = through_a_file(&state, problem, &method, folder.path());
            assert!(state.share() > share || state.begun.is_none(), "{share} again");
            share = state.share();
        }
        assert_eq!(state.scores(problem).unwrap(), whole);
    });
}

/// What is free when a run is resumed has no say in how it is divided.
#[test]
fn a_resumed_run_keeps_its_division() {
    let folder = tempdir().unwrap();
    with_problem(|problem| {
        let method = Method::Eap;
        let sizes = Sizes::new(problem.model, problem.graph.dimensions, problem.pairs, problem.prefix);
        let memory = sizes.peak(method.needs(), 2, 1, 1);
        let tight = Problem { batch_size: None, memory, ..*problem };
        let roomy = Problem { memory: usize::MAX, ..tight };
        assert_eq!([&tight, &roomy].map(|problem| problem.division(&method).unwrap().pairs), [2, 8]);
        let mut whole = State::start(&tight, &method).unwrap();
        advance(&tight, &method, &mut whole, &mut StopAt::new(0)).unwrap();
        let mut state = State::start(&tight, &method).unwrap();
        let _ = advance(&tight, &method, &mut state, &mut StopAt::new(1));
        let mut state = through_a_file(&state, &roomy, &method, folder.path());
        advance(&roomy, &method, &mut state, &mut StopAt::new(0)).unwrap();
        assert_eq!(state, whole);
    });
}

/// Exact scores and those by integrated gradients over activations take long even for one batch.
#[test]
fn slow_methods_can_stop_within_a_batch() {
    with_problem(|problem| {
        let one_step = one_pass_at_a_time(problem);
        for (method, level) in every_method() {
            let problem = &Problem { level, ..*problem };
            let mut state = State { division: one_step, ..State::start(problem, &method).unwrap() };
            let mut watch = StopAt::new(0);
            let batches = state.left.len();
            advance(problem, &method, &mut state, &mut watch).unwrap();
            if !method.adds_up() {
                // All pairs at once: a step of learning, or a step a slot and one for the direct edges of a layer.
                let direct = matches!(&method, Method::Acdc(options) if options.nodes == acdc::Nodes::Acdc);
                let layers = if direct { problem.model.spec.layers } else { 0 };
                let steps = if method.name() == "mask" { 7 } else { problem.graph.destinations() + layers };
                assert_eq!(watch.seen, steps, "{}", method.name());
                continue;
            }
            let steps = watch.seen / batches - 1;
            let expected = match method.name() {
                "exact" => problem.graph.destinations(),
                "eap-ig" => 3,
                "eap-ig-activations" => 3 * 5,
                "ifr" => 3,
                // A step for each dropped layer, or for each site, whose units fit into one pass.
                "atp-star" => 2,
                "activation-patching" if level == Level::Node => 1 + 2 * 5,
                "activation-patching" => 1 + 2 * 2,
                _ => 0,
            };
            assert_eq!(steps, expected, "{}, {level}", method.name());
        }
    });
}

fn one_pass_at_a_time(problem: &Problem) -> Division {
    Division { passes: 1, ..problem.division(&Method::CleanCorrupted).unwrap() }
}

#[test]
fn scores_of_every_pair_are_its_own_and_their_mean_is_the_score() {
    with_problem(|problem| {
        for (method, level) in every_method().into_iter().filter(|(method, _)| method.adds_up()) {
            let problem = Problem { per_pair: true, level, ..*problem };
            let kept = |batch_size: usize| {
                let problem = Problem { batch_size: Some(batch_size), ..problem };
                let mut state = State::start(&problem, &method).unwrap();
                advance(&problem, &method, &mut state, &mut StopAt::new(0)).unwrap();
                (state.scores(&problem).unwrap(), state.per_pair.unwrap())
            };
            let (_, one_by_one) = kept(1);
            let (scores, per_pair) = kept(4);
            for (index, pair) in problem.pairs.iter().enumerate() {
                let alone = Problem { pairs: std::slice::from_ref(pair), ..problem };
                let alone = score(&alone, &method, &mut |_| ()).unwrap();
                for (cell, &found) in problem.table().cells().into_iter().zip(one_by_one.row(index)) {
                    assert_eq!(found, alone.values[cell], "{}, {level}, pair {index}", method.name());
                }
            }
            for (column, cell) in problem.table().cells().into_iter().enumerate() {
                let of_edge = per_pair.column(column).mapv(f64::from);
                let (mean, size) = (of_edge.sum() / 8.0, of_edge.mapv(f64::abs).sum() / 8.0);
                let error = (mean - f64::from(scores.values[cell])).abs();
                assert!(error <= f64::from(f32::EPSILON) * size, "{}, {level}: {error}", method.name());
            }
        }
    });
}

#[test]
fn other_runs_and_damaged_files_are_refused() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("checkpoint.bin");
    with_problem(|problem| {
        let mut state = State::start(problem, &Method::Exact).unwrap();
        let _ = advance(problem, &Method::Exact, &mut state, &mut StopAt::new(5));
        let bytes = checkpoint::to_bytes(&state, &run()).unwrap();
        let read = |bytes: &[u8], run: &Identity, problem: &Problem| {
            std::fs::write(&path, bytes).unwrap();
            checkpoint::read(&path, run, problem, &Method::Exact).map(|_| ()).unwrap_err()
        };
        let other = run().with("seed", &1.into());
        let CheckpointError::Other { differences, .. } = read(&bytes, &other, problem) else { panic!("taken") };
        assert_eq!(differences, ["seed is 0 there and 1 here"]);
        let damaged = |bytes: &[u8]| match read(bytes, &run(), problem) {
            CheckpointError::Damaged { .. } | CheckpointError::Schema { .. } => {}
            error => panic!("{error}"),
        };
        for length in (0..bytes.len()).step_by(7) {
            damaged(&bytes[..length]);
            let mut flipped = bytes.clone();
            flipped[length] ^= 4;
            damaged(&flipped);
        }
        // Numbers of another graph or of other pairs, whatever the file says that they are.
        let fewer = Problem { pairs: &problem.pairs[..7], ..*problem };
        assert!(matches!(read(&bytes, &run(), &fewer), CheckpointError::Damaged { .. }));
        std::fs::remove_file(&path).unwrap();
        let nothing = checkpoint::read(&path, &run(), problem, &Method::Exact).map(|_| ()).unwrap_err();
        assert!(matches!(nothing, CheckpointError::Nothing { .. }));
    });
}
