//! `penjing bench curve`: points and areas against the EAP-IG package and against circuits run plainly in numpy, and the
//! command through the binary.

#![cfg(feature = "torch")]

mod command;

use command::{json, penjing, refuses};
use penjing::circuit::eap_json;
use penjing::circuit::select::Rank;
use penjing::dataset::Dataset;
use penjing::eval::Bench;
use penjing::eval::areas::{Axis, SHARES, cmd, edge_counts};
use penjing::eval::mib::{Areas, Curve, Runner, Selection};
use penjing::graph::scores::Scores;
use penjing::graph::{Dimensions, Graph, KvSlots};
use penjing::metric::MetricKind;
use penjing::model::{Dtype, LoadOptions, Loaded, load_with};
use penjing::parity;
use penjing::score::Problem;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tch::Device;
use tempfile::tempdir;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn read(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(data(name)).unwrap()).unwrap()
}

struct Reference {
    loaded: Loaded,
    graph: Graph,
    dataset: Dataset,
}

fn reference(dtype: Dtype) -> Reference {
    tch::set_num_threads(1);
    let options = LoadOptions { device: Device::Cpu, dtype, cache: None };
    let loaded = load_with(data("reference/gpt2").to_str().unwrap(), &options).unwrap();
    let dataset = parity::pairs(&data("reference/gpt2"), &loaded).unwrap();
    let graph = Graph::new(Dimensions::of(&loaded.model.spec, KvSlots::default()));
    Reference { graph, dataset, loaded }
}

impl Reference {
    fn bench(&self) -> Bench<'_> {
        let Reference { loaded, graph, dataset } = self;
        Bench::new(&Problem::new(&loaded.model, graph, &dataset.pairs, MetricKind::LogitDifference)).unwrap()
    }

    /// The EAP-IG package's scores; where it has none that is 0.
    fn scores(&self, of: &Value) -> Scores {
        let mut table = Scores::zeros(&self.graph);
        for &edge in self.graph.edges() {
            table.set(edge, of[self.graph.name(edge)].as_f64().unwrap_or(0.0) as f32);
        }
        table
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[track_caller]
fn near(found: f64, expected: f64, within: f64, what: &str) {
    assert!((found - expected).abs() <= within, "{what}: {found} instead of {expected}");
}

/// The package ran circuits of 2, 5, 11, 22 and 55 edges by |score|, MIB's sizes from .02 to .5 of 110 edges. At .001 to .005
/// there is no edge, at .01 a single one, which cannot lead from the input to the logits but by their own edge, and at 1 the
/// model. So its CMD follows from its own numbers alone.
#[test]
fn cmd_of_the_eap_ig_package() {
    let reference = reference(Dtype::F32);
    let (graph, bench) = (&reference.graph, reference.bench());
    let expected = read("reference/gpt2/expected.json");
    let mean = |of: &str| {
        let all = numbers(&expected[of]);
        all.iter().sum::<f64>() / all.len() as f64
    };
    let (model, empty) = (mean("clean_logit_diff"), mean("corrupt_logit_diff"));
    let mut runner = Runner::new(&bench, graph);
    let nothing = runner.empty();
    assert_eq!(edge_counts(graph.edge_count()), [0, 0, 0, 1, 2, 5, 11, 22, 55, 110]);
    for method in ["EAP", "EAP-IG-inputs", "EAP-IG-activations", "clean-corrupted"] {
        let scores = reference.scores(&expected["scores"][method]);
        let points = runner.curve(&scores, Rank::Absolute, Selection::TopN, &mut || ()).unwrap();
        let curve = Curve::of(points, &nothing, bench.clean(), 0);
        let mut package = vec![0.0; 4];
        for (index, size) in (4..).zip(["2", "5", "11", "22", "55"]) {
            let [left, metric] = [0, 1].map(|of| expected["faithfulness"][method][size][of].as_f64().unwrap());
            assert_eq!(curve.points[index].edges as f64, left, "{method}, {size} edges");
            near(curve.points[index].outcome.mean_metric(), metric, 1e-5, method);
            package.push((metric - empty) / (model - empty));
        }
        package.push(1.0);
        assert!(curve.points[..4].iter().all(|point| point.edges == 0), "{method}");
        for (found, expected) in curve.faithfulness.iter().zip(&package) {
            near(*found, *expected, 1e-4, method);
        }
        near(cmd(&curve.faithfulness, Axis::Linear), cmd(&package, Axis::Linear), 1e-4, method);
    }
}

/// Every point and area of every method of the package, by both orders and both ways of taking edges, with both
/// normalisations: in f64 as `scripts/curve_numbers.py` has them.
#[test]
fn curves_and_areas_in_numpy() {
    let reference = reference(Dtype::F64);
    let (graph, bench) = (&reference.graph, reference.bench());
    let (package, expected) = (read("reference/gpt2/expected.json"), read("curves.json"));
    assert_eq!(numbers(&expected["shares"]), SHARES);
    let mut runner = Runner::new(&bench, graph);
    let nothing = runner.empty();
    for (found, expected) in [(&nothing.metric, &expected["empty"]), (&bench.clean().metric, &expected["model"])] {
        for (found, expected) in found.iter().zip(numbers(expected)) {
            near(*found, expected, 1e-6, "model and empty circuit");
        }
    }
    let mut compared = 0;
    for (method, of) in expected["methods"].as_object().unwrap() {
        let scores = reference.scores(&package["scores"][method]);
        for selection in Selection::ALL {
            let of = &of[selection.name()];
            let [signed, absolute] = [(Rank::Signed, "signed"), (Rank::Absolute, "absolute")].map(|(rank, name)| {
                let what = format!("{method}, {}, {name}", selection.name());
                let points = runner.curve(&scores, rank, selection, &mut || ()).unwrap();
                for (index, point) in points.iter().enumerate() {
                    let outcome = &point.outcome;
                    assert_eq!(Some(point.edges as u64), of[name]["edges"][index].as_u64(), "{what}");
                    let metrics = numbers(&of[name]["metric"][index]);
                    for (found, expected) in outcome.metric.iter().zip(&metrics) {
                        near(*found, *expected, 1e-6, &what);
                        compared += 1;
                    }
                    for (values, key) in [(&outcome.accuracy, "accuracy"), (&outcome.kl, "kl")] {
                        let mean = values.iter().sum::<f64>() / values.len() as f64;
                        near(mean, of[name][key][index].as_f64().unwrap(), 1e-6, &what);
                    }
                }
                Curve::of(points, &nothing, bench.clean(), 0)
            });
            let areas = Areas::of(&signed, &absolute);
            let (means, ratios) = (&of["ratio_of_means"], &of["mean_of_ratios"]);
            for (found, expected) in [
                (areas.cpr, &means["cpr"]),
                (areas.cmd, &means["cmd"]),
                (areas.cpr_log, &means["cpr_log"]),
                (areas.cmd_log, &means["cmd_log"]),
                (areas.cpr_of_ratios, &ratios["cpr"]),
                (areas.cmd_of_ratios, &ratios["cmd"]),
            ] {
                near(found, expected.as_f64().unwrap(), 1e-5, &format!("{method}, {}", selection.name()));
            }
        }
    }
    assert_eq!(compared, 6 * 2 * 2 * 10 * 6);
}

#[track_caller]
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn the_command_writes_curves_a_figure_and_submissions() {
    let folder = tempdir().unwrap();
    let arguments = [
        "bench",
        "curve",
        "ioi",
        "--model",
        "toy-2l",
        "--pairs",
        "6",
        "--evidence-pairs",
        "8",
        "--method",
        "eap-ig,random",
        "--method",
        "ifr",
        "--out",
        "out",
        "--mib",
        "mib",
    ];
    let found = json(folder.path(), &arguments);
    assert_eq!((&found["schema"], &found["evidence_pairs"]), (&"penjing.bench-curve/1".into(), &8.into()));
    let methods = found["methods"].as_array().unwrap();
    let names: Vec<&Value> = methods.iter().map(|method| &method["name"]).collect();
    assert_eq!(names, ["eap-ig", "random", "ifr"]);
    assert_eq!((&methods[0]["selection"], &methods[2]["selection"]), (&"top-n".into(), &"greedy".into()));
    for method in methods {
        for selection in ["top-n", "greedy"] {
            let of = &method[selection];
            for (kind, area) in [("signed", "cpr"), ("absolute", "cmd")] {
                let points = of[kind].as_array().unwrap();
                let curve: Vec<f64> = points.iter().map(|point| number(&point["faithfulness"])).collect();
                // The area is that of the points that stand beside it.
                let heights: Vec<f64> =
                    curve.iter().map(|f| if kind == "signed" { *f } else { (1.0 - f).abs() }).collect();
                let by_hand: f64 = (0..9)
                    .map(|step| (SHARES[step + 1] - SHARES[step]) * (heights[step] + heights[step + 1]) / 2.0)
                    .sum();
                near(number(&of[area]), by_hand, 1e-12, area);
                let [low, high] = [0, 1].map(|side| number(&of[format!("{area}_interval")][side]));
                assert!(low <= by_hand && by_hand <= high, "{by_hand} in [{low}, {high}]");
                near(curve[9], 1.0, 1e-5, "all edges");
                near(number(&points[9]["kl"]), 0.0, 1e-6, "all edges");
                assert_eq!(points[9]["accuracy"], found["accuracy_model"]);
                assert!(points.iter().all(|point| number(&point["edges"]) <= number(&point["asked"])));
            }
        }
    }
    // Learned circuits stand above random ones.
    let cmd_of = |index: usize| number(&methods[index]["cmd"]);
    assert!(cmd_of(0) < cmd_of(1), "{} {}", cmd_of(0), cmd_of(1));

    for (name, part) in [("curve.json", "penjing.bench-curve/1"), ("curve.svg", "CPR"), ("curve.html", "<svg")] {
        let text = std::fs::read_to_string(folder.path().join("out").join(name)).unwrap();
        assert!(text.contains(part), "{name}");
    }
    let run: Value = serde_json::from_slice(&std::fs::read(folder.path().join("out/run-curve.json")).unwrap()).unwrap();
    assert_eq!(run["method"][2]["name"], "ifr");

    // Submissions hold the scores that `score` writes, to the last bit.
    let _ = json(folder.path(), &["score", "ioi", "--model", "toy-2l", "--pairs", "6", "--out", "scores"]);
    let ours = penjing::circuit::scores_file::read(&folder.path().join("scores/scores.json")).unwrap();
    let path = folder.path().join("mib/EAP-IG-inputs_patching_edge/ioi_toy-2l/importances.json");
    let file = eap_json::read(&path).unwrap();
    assert_eq!(file.to_json().unwrap(), std::fs::read_to_string(&path).unwrap().trim_end());
    let theirs = file.build().unwrap();
    assert_eq!((theirs.scores, theirs.mask.count()), (ours.scores, 0));
    for method in ["random_patching_edge", "information-flow-routes_patching_edge"] {
        assert!(folder.path().join("mib").join(method).join("ioi_toy-2l/importances.json").exists(), "{method}");
    }

    // The same seed gives the same bytes, and the text holds what the document holds.
    let text = |arguments: &[&str]| {
        let output = penjing(folder.path()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let written =
        || ["curve.json", "curve.svg"].map(|name| std::fs::read(folder.path().join("out").join(name)).unwrap());
    let before = written();
    let said = text(&arguments);
    assert_eq!(before, written());
    assert!(said.contains(&format!("{:.3}", number(&methods[0]["cpr"]))), "{said}");
    let warned = methods.iter().any(|method| number(&method["cpr"]) > 1.0);
    assert_eq!(said.contains("is above 1"), warned, "{said}");
    assert_eq!(found["warnings"].as_array().unwrap().is_empty(), !warned);
}

/// Constants in place of corrupt prompts; what cannot work with them is left out of the default methods, and refused where it
/// is asked for.
#[test]
fn what_cannot_work_is_left_out_or_refused() {
    let folder = tempdir().unwrap();
    let of =
        |rest: &[&'static str]| [&["bench", "curve", "ioi", "--model", "toy-2l", "--pairs", "4"][..], rest].concat();
    refuses(folder.path(), &of(&["--method", "eapig"]), &["no method is called `eapig`"]);
    refuses(folder.path(), &of(&["--method", "atp-star"]), &["no scores at the level of edges"]);
    refuses(
        folder.path(),
        &of(&["--method", "clean-corrupted", "--ablation", "zero"]),
        &["does not work with ablation"],
    );
    refuses(folder.path(), &of(&["--evidence-pairs", "0"]), &["--evidence-pairs 0"]);
    refuses(folder.path(), &["bench", "curve", "ioi", "--pairs", "0"], &["--pairs 0"]);
    refuses(folder.path(), &of(&["--steps", "0"]), &["steps"]);
    refuses(folder.path(), &of(&["--theme", "papper"]), &["did you mean `paper`"]);
    refuses(folder.path(), &of(&["--mib", "mib", "--kv", "native"]), &["--kv native"]);
    refuses(folder.path(), &["bench", "curve", "io"], &["io"]);
    let zero = of(&["--ablation", "zero", "--evidence-pairs", "4", "--method", "ifr"]);
    let found = json(folder.path(), &zero);
    assert_eq!(found["ablation"], "zero");
    near(number(&found["methods"][0]["greedy"]["signed"][9]["faithfulness"]), 1.0, 1e-5, "all edges");
}
