//! What intervals and stability cost: IOI in `toy-6l`, scored with and without the scores of every pair; the selections and the
//! intervals of 200 resamples. Compare within one run; the ratios, and the share of a run of `penjing discover` and of
//! `penjing score`, are printed at the end.

use criterion::{Criterion, criterion_group, criterion_main};
use penjing::circuit::prune::prune;
use penjing::circuit::select::{Rank, top_n};
use penjing::dataset::{self, Dataset};
use penjing::discover::resampled::OfPairs;
use penjing::graph::scores::Scores;
use penjing::graph::{Dimensions, Graph, KvSlots, Level, Table};
use penjing::model::{Loaded, load};
use penjing::score::{self, Method, Problem, Settings, State};
use penjing::statistics::means::intervals_of_means;
use penjing::statistics::resample::RESAMPLES;
use penjing::task::{self, Expansion, Split};
use std::hint::black_box;
use std::process::{Command, Stdio};
use std::time::Instant;

const PAIRS: usize = 64;
/// The edges that are ranked first: about 5 %.
const SHARE: f64 = 0.05;
/// For the ratios.
const ROUNDS: usize = 5;

struct Ready {
    loaded: Loaded,
    graph: Graph,
    dataset: Dataset,
    task: penjing::task::Task,
    method: Method,
}

fn ready() -> Result<Ready, Box<dyn std::error::Error>> {
    tch::set_num_threads(1);
    let loaded = load("toy-6l")?;
    let task = task::resolve("ioi")?;
    let expansion = Expansion { split: Split::Train, pairs: PAIRS, seed: 0, corruption: None };
    let dataset = dataset::tokenize(&task::expand(&task, &expansion)?, &loaded.tokenizer, task.bos)?;
    let graph = Graph::new(Dimensions::of(&loaded.model.spec, KvSlots::default()));
    let method = Method::parse("eap-ig", &Settings::default())?;
    Ok(Ready { loaded, graph, dataset, task, method })
}

impl Ready {
    fn score(&self, per_pair: bool) -> Option<State> {
        let problem = Problem::new(&self.loaded.model, &self.graph, &self.dataset.pairs, self.task.metric);
        let problem = Problem { per_pair, ..problem };
        let mut state = State::start(&problem, &self.method).ok()?;
        let mut nothing: &mut dyn FnMut(score::Progress) = &mut |_| ();
        score::advance(&problem, &self.method, &mut state, &mut nothing).ok()?;
        Some(state)
    }

    /// The Jaccard index of resamples.
    fn stability(&self, per_pair: &ndarray::Array2<f32>) -> Option<f64> {
        let graph = &self.graph;
        let take = (graph.edge_count() as f64 * SHARE) as usize;
        let select = |scores: &Scores| Ok(prune(graph, &top_n(graph, scores, take, Rank::Absolute)?));
        let of_pairs = OfPairs { table: Table::new(graph, Level::Edge, 0), per_pair: per_pair.view(), select };
        let all = of_pairs.selected(per_pair.mean_axis(ndarray::Axis(0))?.view()).ok()?;
        Some(of_pairs.stability(&all, &all, RESAMPLES, 0).ok()?.jaccard)
    }
}

/// The median seconds of what a closure does.
fn median(mut work: impl FnMut()) -> f64 {
    let mut seconds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[ROUNDS / 2]
}

/// Seconds of a whole command, and of each of its phases by `run.json`.
fn command(name: &str) -> Option<(f64, serde_json::Value)> {
    let folder = tempfile::tempdir().ok()?;
    let start = Instant::now();
    Command::new(env!("CARGO_BIN_EXE_penjing"))
        .args([name, "ioi", "--model", "toy-6l", "--out"])
        .arg(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .ok()?;
    // A circuit that misses its target on fresh pairs ends with 1, and its files are there.
    let seconds = start.elapsed().as_secs_f64();
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("run.json")).ok()?).ok()?;
    Some((seconds, record["seconds"].clone()))
}

fn statistics(criterion: &mut Criterion) {
    let Ok(ready) = ready() else { return };
    let Some(per_pair) = ready.score(true).and_then(|state| state.per_pair) else { return };
    let mut group = criterion.benchmark_group("ioi, toy-6l, 64 pairs");
    group.sample_size(10);
    group.bench_function("score", |bencher| bencher.iter(|| black_box(ready.score(false))));
    group.bench_function("score, every pair kept", |bencher| bencher.iter(|| black_box(ready.score(true))));
    group.bench_function("stability", |bencher| bencher.iter(|| black_box(ready.stability(&per_pair))));
    let intervals = || intervals_of_means(per_pair.view(), RESAMPLES, 0);
    group.bench_function("intervals", |bencher| bencher.iter(|| black_box(intervals())));
    group.finish();

    let plain = median(|| drop(black_box(ready.score(false))));
    let kept = median(|| drop(black_box(ready.score(true))));
    let stability = median(|| {
        black_box(ready.stability(&per_pair));
    });
    let intervals = median(|| drop(black_box(intervals())));
    println!("{} edges, {PAIRS} pairs, {RESAMPLES} resamples, medians of {ROUNDS}", ready.graph.edge_count());
    println!(
        "score {:.1} ms; with every pair {:.1} ms, {:+.1} %",
        plain * 1e3,
        kept * 1e3,
        100.0 * (kept / plain - 1.0)
    );
    println!("stability {:.1} ms, {:.1} % of scoring", stability * 1e3, 100.0 * stability / plain);
    println!("intervals {:.1} ms, {:.1} % of scoring", intervals * 1e3, 100.0 * intervals / plain);
    for (name, added) in [("discover", stability), ("score", intervals)] {
        if let Some((seconds, phases)) = command(name) {
            let share = 100.0 * added / (seconds - added);
            println!("penjing {name}: {seconds:.2} s, of which the resamples add {share:.1} %; {phases}");
        }
    }
}

criterion_group!(benches, statistics);
criterion_main!(benches);
