//! A device that runs out of memory gets smaller batches, and the numbers stay what they are. The device is this process
//! under a limit of its own address space, so this file holds a single test.

#![cfg(all(feature = "torch", target_os = "linux"))]

use penjing::circuit::EdgeMask;
use penjing::dataset::TokenPair;
use penjing::eval::Bench;
use penjing::graph::{Dimensions, Graph, KvSlots};
use penjing::measure::memory::is_out_of_memory;
use penjing::metric::MetricKind;
use penjing::model::Model;
use penjing::model::spec::Spec;
use penjing::score::{Method, Problem, Progress, ScoreError, State, Watch, advance, score};
use penjing::task::PromptPair;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::ops::ControlFlow;

const VOCAB: usize = 500;

fn pair(row: usize) -> TokenPair {
    let token = |place: usize| ((row * 7919 + place * 104_729 + 17) % VOCAB) as u32;
    let clean: Vec<u32> = (0..40).map(token).collect();
    let mut corrupt = clean.clone();
    corrupt[0] = (clean[0] + 1) % VOCAB as u32;
    let prompt = PromptPair::default();
    let (right, wrong) = (vec![token(50)], vec![token(51)]);
    TokenPair { clean, corrupt, right, wrong, first_difference: 0, positions: Default::default(), prompt }
}

/// Runs `work` with so much memory beyond what is in use now.
fn limited<T>(room: u64, work: impl FnOnce() -> T) -> T {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmSize:")).unwrap();
    let mapped: u64 = 1024 * line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap();
    let before = getrlimit(Resource::As);
    let limit = |bytes| setrlimit(Resource::As, Rlimit { current: Some(bytes), ..before }).unwrap();
    limit(mapped);
    // What earlier work freed is still mapped and would serve again.
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut block = Vec::new();
        if block.try_reserve_exact(2 << 20).is_err() {
            break;
        }
        taken.push(block);
    }
    limit(mapped + room);
    let done = work();
    setrlimit(Resource::As, before).unwrap();
    done
}

/// Ends a run as soon as it has smaller batches.
struct StopWhenSmaller(bool);

impl Watch for StopWhenSmaller {
    fn safe_point(&mut self, _: &State) -> ControlFlow<()> {
        if self.0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn smaller_batch(&mut self, _: usize) {
        self.0 = true;
    }
}

#[test]
fn smaller_batches_give_the_same_numbers() {
    tch::set_num_threads(1);
    // libtorch's panics about memory are caught, and their backtraces help nobody.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.payload_as_str().is_some_and(is_out_of_memory) {
            usual(panic);
        }
    }));
    let model = Model::random(Spec::gpt2(4, 8, 256, VOCAB, 64), 0);
    let graph = Graph::new(Dimensions::of(&model.spec, KvSlots::default()));
    let pairs: Vec<TokenPair> = (0..128).map(pair).collect();
    let metric = MetricKind::LogitDifference;
    let small = Problem { batch_size: Some(8), ..Problem::new(&model, &graph, &pairs, metric) };
    let expected = score(&small, &Method::Eap, &mut |_| ()).unwrap();

    // The differences of all sources alone are 37 · 128 · 40 · 256 numbers: 194 MB.
    let large = Problem { batch_size: Some(128), ..small };
    let mut told = Vec::new();
    let found = limited(180 << 20, || {
        score(&large, &Method::Eap, &mut |event| match event {
            Progress::SmallerBatch(pairs) => told.push(pairs),
            Progress::Done(_) => {}
        })
    });
    let found = found.unwrap();
    assert_eq!(told.first(), Some(&64), "{told:?}");
    let worst = (&expected.values - &found.values).iter().fold(0f32, |worst, change| worst.max(change.abs()));
    assert!(worst < 1e-6, "{worst}");

    // A run that is stopped after its batches were halved goes on with the halves.
    let mut state = State::start(&large, &Method::Eap).unwrap();
    let mut stop_when_smaller = StopWhenSmaller(false);
    let stopped = limited(180 << 20, || advance(&large, &Method::Eap, &mut state, &mut stop_when_smaller));
    assert!(matches!(stopped, Err(ScoreError::Stopped(_))), "{stopped:?}");
    let halves: Vec<usize> = state.left.iter().map(|rows| rows.indices.len()).collect();
    assert!(halves.len() > 1 && halves.iter().sum::<usize>() == 128, "{halves:?}");
    advance(&large, &Method::Eap, &mut state, &mut &mut |_: Progress| ()).unwrap();
    let found = state.scores(&large).unwrap();
    let worst = (&expected.values - &found.values).iter().fold(0f32, |worst, change| worst.max(change.abs()));
    assert!(worst < 1e-6, "{worst}");

    let half = EdgeMask::of(&graph, graph.edges().iter().copied().step_by(2));
    let bench = Bench::new(&Problem::new(&model, &graph, &pairs, metric)).unwrap();
    let expected = bench.circuit(&half);
    assert_eq!(bench.smaller_batch(), None);
    let found = limited(64 << 20, || bench.circuit(&half));
    assert!(bench.smaller_batch().is_some_and(|pairs| pairs < 64), "64 pairs at once fit");
    for (found, expected) in found.metric.iter().zip(&expected.metric) {
        assert!((found - expected).abs() < 1e-5, "{found} instead of {expected}");
    }
}
