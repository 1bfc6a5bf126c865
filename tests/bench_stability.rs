//! `penjing bench stability` and the intervals of `penjing score`: the numbers of the command against the library's, the shape
//! of what is written, and what is refused.

#![cfg(feature = "torch")]

mod command;

use command::{json, penjing, refuses};
use ndarray::Axis;
use penjing::ablation::Ablation;
use penjing::circuit::scores_file;
use penjing::circuit::select::{Rank, top_n};
use penjing::circuit::{EdgeMask, prune::prune};
use penjing::compare::overlap::Overlap;
use penjing::dataset::{self, Dataset};
use penjing::discover::resampled::{OfPairs, overlap};
use penjing::graph::scores::Scores;
use penjing::graph::{Dimensions, Graph, KvSlots, Level, Table};
use penjing::measure::Constants;
use penjing::model::{Loaded, load};
use penjing::score::{self, Method, Problem, Settings, State};
use penjing::statistics::interval::{LEVEL, interval};
use penjing::statistics::resample::{RESAMPLES, resampled_means};
use penjing::task::{self, Expansion, Split, Task};
use serde_json::Value;
use tempfile::tempdir;

const PAIRS: usize = 24;
const EDGES: usize = 40;

/// What the command works on, by the library alone.
struct Own {
    task: Task,
    loaded: Loaded,
    graph: Graph,
}

fn own() -> Own {
    tch::set_num_threads(1);
    let loaded = load("toy-2l").unwrap();
    let graph = Graph::new(Dimensions::of(&loaded.model.spec, KvSlots::default()));
    Own { task: task::resolve("ioi").unwrap(), loaded, graph }
}

impl Own {
    fn pairs(&self, seed: u64, corruption: Option<&str>) -> Dataset {
        let corruption = corruption.map(str::to_owned);
        let expansion = Expansion { split: Split::Train, pairs: PAIRS, seed, corruption };
        dataset::tokenize(&task::expand(&self.task, &expansion).unwrap(), &self.loaded.tokenizer, self.task.bos)
            .unwrap()
    }

    fn scored(&self, dataset: &Dataset, ablation: Ablation, method: &str) -> (Scores, State) {
        let dimensions = self.graph.dimensions;
        let model = &self.loaded.model;
        let constants = Constants::of(ablation, Level::Edge, model, dimensions, &dataset.pairs, usize::MAX).unwrap();
        let problem = Problem::new(model, &self.graph, &dataset.pairs, self.task.metric);
        let problem = Problem { per_pair: true, constants: constants.as_ref(), ..problem };
        let method = Method::parse(method, &Settings::default()).unwrap();
        let mut state = State::start(&problem, &method).unwrap();
        let mut nothing: &mut dyn FnMut(score::Progress) = &mut |_| ();
        score::advance(&problem, &method, &mut state, &mut nothing).unwrap();
        (state.scores(&problem).unwrap(), state)
    }

    fn selected_under(&self, seed: u64, corruption: Option<&str>, ablation: Ablation, method: &str) -> EdgeMask {
        selected(&self.graph, &self.scored(&self.pairs(seed, corruption), ablation, method).0)
    }

    fn names(&self, mask: &EdgeMask) -> Vec<String> {
        mask.edges(&self.graph).into_iter().map(|edge| self.graph.name(edge)).collect()
    }

    /// That a row of the document holds what these sets have in common.
    #[track_caller]
    fn check_row(&self, document: &Value, changed: &str, names: &[&str], sets: &[EdgeMask], base: &EdgeMask) {
        let row = row(document, changed);
        assert_eq!(row["names"], Value::from(names), "{changed}");
        assert_eq!(row["circuits"], sets.len(), "{changed}");
        let (mut indices, mut chances) = (Vec::new(), Vec::new());
        for (one, a) in sets.iter().enumerate() {
            near(&row["with_own_of"][one], overlap(&self.graph, a, base), changed);
            for (other, b) in sets.iter().enumerate() {
                let index = overlap(&self.graph, a, b);
                near(&row["matrix"][one][other], index, changed);
                if one < other {
                    indices.push(index);
                    chances.push(Overlap::new(a.count(), b.count(), 0, self.graph.edge_count()).chance);
                }
            }
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        near(&row["jaccard"], mean(&indices), changed);
        near(&row["lowest"], indices.iter().copied().fold(f64::INFINITY, f64::min), changed);
        near(&row["chance"], mean(&chances), changed);
        let core = sets.iter().fold(EdgeMask::full(&self.graph), |core, set| core.intersection(set));
        assert_eq!(row["core"], Value::from(self.names(&core)), "{changed}");
        assert_eq!(row["stable"], mean(&indices) >= 0.8, "{changed}");
    }
}

fn selected(graph: &Graph, scores: &Scores) -> EdgeMask {
    prune(graph, &top_n(graph, scores, EDGES, Rank::Absolute).unwrap())
}

#[track_caller]
fn near(found: &Value, expected: f64, what: &str) {
    let found = found.as_f64().unwrap_or_else(|| panic!("{what}: {found} is no number"));
    assert!((found - expected).abs() < 1e-12, "{what}: {found} instead of {expected}");
}

#[track_caller]
fn row<'a>(document: &'a Value, changed: &str) -> &'a Value {
    let rows = document["rows"].as_array().unwrap();
    rows.iter().find(|row| row["changed"] == changed).unwrap_or_else(|| panic!("no row {changed}: {document}"))
}

const COMMAND: [&str; 17] = [
    "bench",
    "stability",
    "ioi",
    "--model",
    "toy-2l",
    "--pairs",
    "24",
    "--edges",
    "40",
    "--seeds",
    "3",
    "--ablations",
    "counterfactual,zero,mean",
    "--method",
    "eap-ig,eap",
    "--out",
    "out",
];

#[test]
fn rows_are_what_the_library_gives() {
    let own = own();
    let folder = tempdir().unwrap();
    let found = json(folder.path(), &COMMAND);
    assert_eq!(found["schema"], "penjing.bench-stability/1");
    assert_eq!((&found["selection"]["ranked"], &found["edges_total"]), (&EDGES.into(), &own.graph.edge_count().into()));

    let dataset = own.pairs(0, None);
    let (scores, state) = own.scored(&dataset, Ablation::Counterfactual, "eap-ig");
    let base = selected(&own.graph, &scores);
    assert_eq!(found["circuit"], Value::from(own.names(&base)));
    assert_eq!(found["edges"], base.count());

    let per_pair = state.per_pair.unwrap(); // [pair, edge]
    let graph = &own.graph;
    let of_pairs = OfPairs {
        table: Table::new(graph, Level::Edge, 0),
        per_pair: per_pair.view(),
        select: |scores: &Scores| Ok(selected(graph, scores)),
    };
    let stability = of_pairs.stability(&base, &base, RESAMPLES, 0).unwrap();
    let resamples = row(&found, "resamples");
    assert_eq!(resamples["circuits"], RESAMPLES);
    near(&resamples["jaccard"], stability.jaccard, "resamples");
    near(&resamples["range"][0], stability.jaccard_range[0], "resamples");
    near(&resamples["range"][1], stability.jaccard_range[1], "resamples");
    near(&resamples["with_own"], stability.jaccard_with_all, "resamples");
    let always = stability.edges.iter().filter(|edge| edge.selected == 1.0).count();
    assert_eq!(resamples["core"].as_array().unwrap().len(), always);

    let ig = |seed, corruption, ablation| own.selected_under(seed, corruption, ablation, "eap-ig");
    let seeds = [0, 1, 2].map(|seed| ig(seed, None, Ablation::Counterfactual));
    own.check_row(&found, "seeds", &["0", "1", "2"], &seeds, &base);
    let ablations = [Ablation::Counterfactual, Ablation::Zero, Ablation::Mean].map(|ablation| ig(0, None, ablation));
    own.check_row(&found, "ablation", &["counterfactual", "zero", "mean"], &ablations, &base);
    let names = ["s2-to-io", "third-name", "three-names"];
    let corruptions = names.map(|name| ig(0, Some(name), Ablation::Counterfactual));
    own.check_row(&found, "corruption", &names, &corruptions, &base);
    let methods = ["eap-ig", "eap"].map(|name| own.selected_under(0, None, Ablation::Counterfactual, name));
    own.check_row(&found, "method", &["eap-ig", "eap"], &methods, &base);

    let mut templates: Vec<&str> = Vec::new();
    for pair in &dataset.pairs {
        if !templates.contains(&pair.prompt.frame.as_str()) {
            templates.push(&pair.prompt.frame);
        }
    }
    let without = |template: &str| {
        let others: Vec<usize> = (0..PAIRS).filter(|&pair| dataset.pairs[pair].prompt.frame != template).collect();
        of_pairs.selected(per_pair.select(Axis(0), &others).mean_axis(Axis(0)).unwrap().view()).unwrap()
    };
    let left_out: Vec<EdgeMask> = templates.iter().map(|template| without(template)).collect();
    own.check_row(&found, "template-left-out", &templates, &left_out, &base);
    // Two pairs of each of twelve templates are too few to be scored alone.
    assert_eq!(templates.len(), 12);
    let why = found["left_out"].as_array().unwrap();
    assert!(why.iter().any(|one| one["changed"] == "template-alone"), "{why:?}");

    let core = found["core"].as_array().unwrap();
    for name in core {
        for row in found["rows"].as_array().unwrap() {
            assert!(row["core"].as_array().unwrap().contains(name), "{name} is not in all of {}", row["changed"]);
        }
    }

    // The same seed gives the same bytes, and the text holds what the document holds.
    let written =
        || ["stability.json", "stability.svg"].map(|name| std::fs::read(folder.path().join("out").join(name)).unwrap());
    let before = written();
    let output = penjing(folder.path()).args(COMMAND).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(before == written());
    let said = String::from_utf8(output.stdout).unwrap();
    for row in found["rows"].as_array().unwrap() {
        assert!(said.contains(&format!("{:.3}", row["jaccard"].as_f64().unwrap())), "{said}");
        assert!(said.contains(row["verdict"].as_str().unwrap()), "{said}");
    }
    assert!(std::fs::read_to_string(folder.path().join("out/stability.html")).unwrap().contains("<svg"));
}

#[test]
fn templates_alone_seeds_and_consistent_edges() {
    let folder = tempdir().unwrap();
    let arguments = ["bench", "stability", "greater-than", "--model", "toy-2l", "--pairs", "18", "--seeds", "1"];
    let arguments = [&arguments[..], &["--ablations", "counterfactual", "--consistent", "--out", "out"]].concat();
    let found = json(folder.path(), &arguments);
    let changed: Vec<&Value> = found["rows"].as_array().unwrap().iter().map(|row| &row["changed"]).collect();
    assert_eq!(changed, ["resamples", "template-left-out", "template-alone"]);
    let alone = row(&found, "template-alone");
    assert_eq!((&alone["names"].as_array().unwrap().len(), &alone["pairs"][0]), (&3, &6.into()));
    let total = found["edges_total"].as_f64().unwrap();
    assert_eq!(found["selection"]["ranked"], (total * 0.05).round() as usize);
    assert_eq!(found["selection"]["consistent"], true);

    // What scores all pairs together has no pairs to draw anew, but other seeds.
    let arguments =
        ["bench", "stability", "ioi", "--model", "toy-2l", "--pairs", "4", "--method", "mask", "--seeds", "2"];
    let arguments = [&arguments[..], &["--ablations", "counterfactual", "--edges", "60", "--out", "out"]].concat();
    let found = json(folder.path(), &arguments);
    let left_out = found["left_out"].as_array().unwrap();
    assert!(left_out.iter().any(|one| one["changed"] == "resamples" && one["why"].as_str().unwrap().contains("mask")));
    assert_eq!(row(&found, "seeds")["circuits"], 2);
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let folder = tempdir().unwrap();
    let stability = ["bench", "stability", "ioi", "--model", "toy-2l", "--pairs", "4"];
    for (options, says) in [
        (&["--seeds", "0"][..], "--seeds 0"),
        (&["--method", "atp-star"], "has no scores at the level of edges"),
        (&["--method", "eap-oh"], "eap-oh"),
        (&["--edges", "0"], "edge"),
        (&["--edges", "1000000"], "1000000"),
        (&["--edges", "1"], "no path"),
        (&["--ablations", "counterfactual,none"], "none"),
        (&["--corruption", "nothing"], "nothing"),
        (&["--rank", "greedy", "--node-price", "1"], "--node-price"),
        (&["--seed", "18446744073709551615"], "seeds"),
    ] {
        refuses(folder.path(), &[&stability[..], options].concat(), &[says]);
    }
}

#[test]
fn scores_have_intervals_and_no_file_of_pairs() {
    let folder = tempdir().unwrap();
    let own = own();
    let score = ["score", "ioi", "--model", "toy-2l", "--pairs", "24", "--out", "out"];
    let said = json(folder.path(), &score);
    assert!(!folder.path().join("out/per-pair.npz").exists());
    let (scores, state) = own.scored(&own.pairs(0, None), Ablation::Counterfactual, "eap-ig");
    let path = folder.path().join("out/scores.json");
    let file = scores_file::read(&path).unwrap();
    assert_eq!(file.scores, scores);
    let means = resampled_means(state.per_pair.unwrap().view(), RESAMPLES, 0); // [resample, edge]
    let intervals = file.intervals.unwrap();
    let mut one_sign = 0;
    for (column, found) in means.columns().into_iter().zip(&intervals) {
        let expected = interval(column.iter().map(|&mean| f64::from(mean)).collect(), PAIRS, LEVEL);
        let size = column.iter().fold(0f64, |size, mean| size.max(f64::from(mean.abs())));
        for (&found, expected) in found.iter().zip(expected) {
            assert!((f64::from(found) - expected).abs() <= 1e-5 * size, "{found} instead of {expected}");
        }
        one_sign += usize::from(expected[0] > 0.0 || expected[1] < 0.0);
    }
    assert_eq!((said["one_sign"].as_u64(), intervals.len()), (Some(one_sign as u64), own.graph.edge_count()));

    let output = penjing(folder.path()).args(score).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("95 %") && text.contains(&format!("{one_sign} of {}", own.graph.edge_count())), "{text}");

    // Files without intervals are read as before; intervals of some edges only are refused.
    let text = std::fs::read_to_string(&path).unwrap();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    value["intervals"].as_object_mut().unwrap().swap_remove("m1->logits");
    assert!(scores_file::parse(&value.to_string()).unwrap_err().to_string().contains("m1->logits"));
    value.as_object_mut().unwrap().swap_remove("intervals");
    let older = scores_file::parse(&value.to_string()).unwrap();
    assert_eq!((older.scores, older.intervals), (file.scores, None));

    // Shards have none, and put together those of the whole run where the scores of every pair are there.
    for (out, options) in [("plain", &[][..]), ("pairs", &["--per-pair"])] {
        for shard in ["0/2", "1/2"] {
            let score = ["score", "ioi", "--model", "toy-2l", "--pairs", "24", "--out", out, "--shard", shard];
            let _ = json(folder.path(), &[&score[..], options].concat());
        }
        let _ = json(folder.path(), &["merge", out]);
        let merged = scores_file::read(&folder.path().join(out).join("scores.json")).unwrap();
        assert_eq!(merged.intervals.is_some(), out == "pairs", "{out}");
        for (found, expected) in merged.intervals.iter().flatten().flatten().zip(intervals.iter().flatten()) {
            assert!((found - expected).abs() < 1e-4, "{found} instead of {expected}");
        }
    }
    // One pair has no interval.
    let said = json(folder.path(), &["score", "ioi", "--model", "toy-2l", "--pairs", "1", "--out", "one"]);
    assert_eq!(said["one_sign"], Value::Null);
    assert_eq!(scores_file::read(&folder.path().join("one/scores.json")).unwrap().intervals, None);
}
