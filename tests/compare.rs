//! Circuits against each other: of one model, of different models, against a published one.

use assert_cmd::Command;
use penjing::circuit::EdgeMask;
use penjing::circuit::eap_json::{EapGraph, EapJson};
use penjing::circuit::import::{self, EapFile, Imported};
use penjing::circuit::select::{Rank, top_n};
use penjing::compare::matching::Matching;
use penjing::compare::{Compared, Pair};
use penjing::graph::scores::Scores;
use penjing::graph::{Dimensions, Graph, Node};
use penjing::model::spec::{Head, Layer};
use std::path::Path;

/// A circuit of random scores.
fn circuit(layers: usize, heads: usize, edges: usize, seed: u64) -> (Graph, EdgeMask, Scores) {
    let graph = Graph::new(Dimensions::new(layers, heads));
    let mut scores = Scores::zeros(&graph);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for &edge in graph.edges() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        scores.set(edge, ((state >> 40) as f32 / (1u64 << 24) as f32 - 0.5).powi(3));
    }
    let mask = top_n(&graph, &scores, edges, Rank::Absolute).unwrap();
    (graph, mask, scores)
}

fn compared(name: &str, (graph, mask, scores): (Graph, EdgeMask, Scores)) -> Compared {
    let json = EapJson::new(&graph, &mask, &scores, 64);
    let says = EapGraph { graph, mask, scores };
    Compared { name: name.into(), circuit: Imported::Eap(Box::new(EapFile { json, says })) }
}

fn pairs(matching: &Matching) -> Vec<(Node, Node)> {
    matching.pairs.iter().map(|pair| (pair.a, pair.b)).collect()
}

#[test]
fn a_circuit_is_like_itself() {
    let one = compared("one", circuit(4, 6, 120, 1));
    let pair = Pair::new(&one, &one);
    let same = pair.same_graph.unwrap();
    assert_eq!((same.edges.jaccard, same.nodes.jaccard), (1.0, 1.0));
    assert_eq!(same.rank_correlation, (Some(1.0), 120));
    assert!(same.edges.p < 1e-9 && same.edges.chance < 0.2);
    assert!(pairs(&pair.matching).iter().all(|(a, b)| a == b), "{:?}", pair.matching);
    assert_eq!(pair.matching.cost, 0.0);
}

#[test]
fn matching_finds_heads_that_changed_their_places() {
    let (graph, mask, scores) = circuit(4, 6, 160, 2);
    // Heads of each layer in another order.
    let moved = |node: Node| match node {
        Node::Head(Layer(layer), Head(head)) => Node::Head(Layer(layer), Head((5 * head + layer + 1) % 6)),
        node => node,
    };
    let (mut moved_mask, mut moved_scores) = (EdgeMask::empty(&graph), Scores::zeros(&graph));
    for edge in mask.edges(&graph) {
        let (source, slot) = (graph.node(edge.source), graph.slot(edge.destination));
        let reader = graph.readers(slot)[0];
        let branch = slot.branch().map(|branch| format!("<{branch}>")).unwrap_or_default();
        let other = graph.parse_edge(&format!("{}->{}{branch}", moved(source), moved(reader))).unwrap();
        moved_mask.insert(other);
        moved_scores.set(other, scores.get(edge));
    }
    let one = compared("one", (graph.clone(), mask.clone(), scores));
    let other = compared("other", (graph, moved_mask, moved_scores));
    let pair = Pair::new(&one, &other);
    for (a, b) in pairs(&pair.matching) {
        assert_eq!(b, moved(a), "{a} was matched with {b}");
    }
    assert_eq!(pair.matching.pairs.len(), one.candidates().len());
    assert!(pair.matching.cost < 1e-5, "{}", pair.matching.cost);
    assert!(pair.same_graph.unwrap().edges.jaccard < 0.5);
}

#[test]
fn nodes_that_have_no_like_stay_alone() {
    let small = compared("small", circuit(2, 3, 20, 3));
    let large = compared("large", circuit(6, 8, 200, 4));
    let pair = Pair::new(&small, &large);
    assert!(pair.same_graph.is_none());
    let Matching { pairs, only_a, only_b, cost } = &pair.matching;
    assert_eq!(pairs.len() + only_a.len(), small.candidates().len());
    assert_eq!(pairs.len() + only_b.len(), large.candidates().len());
    let matched: f64 = pairs.iter().map(|pair| pair.cost.sum()).sum();
    assert!((cost - matched - 0.5 * (only_a.len() + only_b.len()) as f64).abs() < 1e-6);
    for pair in pairs {
        assert!(pair.cost.sum() <= 1.0, "{pair:?} would be cheaper alone");
        assert_eq!(matches!(pair.a, Node::Head(..)), matches!(pair.b, Node::Head(..)));
    }
}

fn penjing(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::cargo_bin("penjing").unwrap().current_dir(folder).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

const CIRCUIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/circuits/ioi-toy-4l.json");

#[test]
fn compare_prints_draws_and_saves() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, talk) = penjing(
        folder.path(),
        &["compare", CIRCUIT, CIRCUIT, "--out", "both", "--save", "union=u.json", "--save", "difference=d.json"],
    );
    assert_eq!(code, 0, "{talk}");
    for says in ["edges", "1.000 [", "rank correlation of the scores of 29 common edges: 1.000", "comparison.svg"] {
        assert!(out.contains(says), "{says}: {out}");
    }
    let document: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("both/comparison.json")).unwrap()).unwrap();
    assert_eq!(document["schema"], "penjing.comparison/1");
    assert_eq!(document["pairs"][0]["same_graph"]["edges"]["jaccard"], 1.0);
    assert_eq!(document["pairs"][0]["matching"]["cost"], 0.0);
    let count = |file: &str| import::read(&folder.path().join(file)).unwrap().mask().count();
    assert_eq!((count("u.json"), count("d.json")), (import::read(Path::new(CIRCUIT)).unwrap().mask().count(), 0));
    // A circuit without edges is drawn too.
    let (code, _, talk) = penjing(folder.path(), &["render", "d.json"]);
    assert_eq!(code, 0, "{talk}");
}

#[test]
fn compare_refuses_what_does_not_compare() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let text = std::fs::read_to_string(CIRCUIT).unwrap();
    write("other-model.json", &text.replacen("\"config_hash\": \"", "\"config_hash\": \"0", 1));
    write("cut.json", &text[..text.len() / 2]);
    let line = text.lines().find(|line| line.contains("\"d_model\"")).unwrap();
    let older = text.replacen(&format!(",\n{line}"), "", 1);
    assert!(older.len() < text.len() && !older.contains("d_model"));
    write("older.json", &older);
    write("newer.json", &text.replacen("penjing.circuit/1", "penjing.circuit/9", 1));
    for (arguments, says) in [
        (&["compare", CIRCUIT][..], "nothing to compare"),
        (&["compare", CIRCUIT, "other-model.json", "--by", "edges"], "--by roles"),
        (&["compare", CIRCUIT, "other-model.json", "--save", "union=u.json"], "different models"),
        (&["compare", CIRCUIT, CIRCUIT, "--save", "sum=u.json"], "union, intersection and difference"),
        (&["compare", CIRCUIT, CIRCUIT, "--save", "union"], "names no file"),
        (&["compare", CIRCUIT, "cut.json"], "cut short"),
        (&["compare", CIRCUIT, "newer.json"], "penjing.circuit/9"),
        (&["compare", CIRCUIT, CIRCUIT, "--theme", "darc"], "did you mean `dark`?"),
        (&["compare", CIRCUIT, "missing.json"], "missing.json"),
        (&["render", CIRCUIT, "--theme", "sepia"], "the themes are paper, dark"),
        (&["render", CIRCUIT, "--width", "3"], "is not between 40 and 2000"),
        (&["render", CIRCUIT, "--dpi", "1", "--to", "png"], "--dpi 1 is not between"),
        (&["render", CIRCUIT, CIRCUIT, "--out", "x"], "two circuits would be drawn as"),
        (&["render", "cut.json"], "cut short"),
        (&["render", "older.json", "--to", "eap-json"], "how wide the model is"),
    ] {
        let (code, out, talk) = penjing(folder.path(), arguments);
        assert_eq!(code, 2, "{arguments:?}: {talk}");
        assert!(out.is_empty() && talk.contains(says) && talk.contains("hint: "), "{arguments:?}: {talk}");
    }
    // By what nodes do, circuits of other models compare.
    let (code, out, talk) = penjing(folder.path(), &["compare", CIRCUIT, "other-model.json"]);
    assert_eq!(code, 0, "{talk}");
    assert!(out.contains("cost of the matching: 0.000"), "{out}");
}

#[test]
fn the_page_of_a_comparison_is_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join("<b>&.json");
    std::fs::copy(CIRCUIT, &odd).unwrap();
    let (code, _, talk) = penjing(folder.path(), &["compare", CIRCUIT, odd.to_str().unwrap(), "--out", "both"]);
    assert_eq!(code, 0, "{talk}");
    let page = std::fs::read_to_string(folder.path().join("both/comparison.html")).unwrap();
    assert!(page.contains("&lt;b&gt;&amp;") && !page.contains("<b>") && !page.contains("<script"), "{page}");
    assert!(page.contains("<svg") && page.contains("1.000 [") && !page.contains("https://"), "{page}");
}

/// The model itself with the heads of every layer in another order: found anew, each head is matched with itself.
#[cfg(feature = "torch")]
#[test]
fn a_model_with_its_heads_in_another_order_is_matched_head_by_head() {
    use safetensors::{SafeTensors, tensor::TensorView};
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/toy-4l");
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    for file in ["config.json", "tokenizer.json"] {
        std::fs::copy(original.join(file), other.join(file)).unwrap();
    }
    // Where each head of a layer goes.
    let moved = |layer: usize, head: usize| (3 * head + layer + 1) % 4;
    let bytes = std::fs::read(original.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let changed: Vec<(String, safetensors::Dtype, Vec<usize>, Vec<u8>)> = tensors
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let (mut data, shape) = (view.data().to_vec(), view.shape().to_vec());
            let layer = name.split('.').find_map(|part| part.parse::<usize>().ok());
            let number = data.len() / shape.iter().product::<usize>();
            // A row holds q, k and v of all heads; the output matrix has the heads in its rows.
            let (rows, groups) = match name.split_once(".attn.").map(|(_, part)| part) {
                Some("c_attn.weight") => (shape[0], 3),
                Some("c_attn.bias") => (1, 3),
                Some("c_proj.weight") => (1, 1),
                _ => (0, 0),
            };
            if rows > 0 {
                let head = data.len() / (rows * groups * 4 * number) * number;
                for block in 0..rows * groups {
                    for from in 0..4 {
                        let to = 4 * block + moved(layer.unwrap(), from);
                        let source = view.data()[(4 * block + from) * head..][..head].to_vec();
                        data[to * head..][..head].copy_from_slice(&source);
                    }
                }
            }
            (name, view.dtype(), shape, data)
        })
        .collect();
    let views =
        changed.iter().map(|(name, dtype, shape, data)| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    std::fs::write(other.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    for (model, out) in [("toy-4l", "one"), (other.to_str().unwrap(), "two")] {
        let rest = ["--pairs", "24", "--evidence-pairs", "8", "--random-circuits", "1", "--edges", "40", "--out", out];
        let arguments = [&["discover", "ioi", "--model", model], &rest[..]].concat();
        let (code, _, talk) = penjing(folder.path(), &arguments);
        assert_eq!(code, 0, "{talk}");
    }
    let (code, out, talk) = penjing(folder.path(), &["--json", "compare", "one/circuit.json", "two/circuit.json"]);
    assert_eq!(code, 0, "{talk}");
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    let pairs = document["pairs"][0]["matching"]["pairs"].as_array().unwrap();
    let heads = pairs.iter().filter(|pair| pair["first"].as_str().unwrap().starts_with('a')).count();
    assert!(heads >= 6, "{pairs:?}");
    for pair in pairs {
        let expected = match pair["first"].as_str().unwrap().parse().unwrap() {
            Node::Head(Layer(layer), Head(head)) => Node::Head(Layer(layer), Head(moved(layer, head))),
            node => node,
        };
        assert_eq!(pair["second"], expected.to_string(), "{pair}");
    }
}

/// Pairs drawn by other seeds find much the same circuit.
#[cfg(feature = "torch")]
#[test]
fn two_seeds_of_one_model_overlap_above_chance() {
    let folder = tempfile::tempdir().unwrap();
    for seed in ["1", "2"] {
        let arguments = ["discover", "ioi", "--seed", seed, "--pairs", "24", "--evidence-pairs", "8", "--out", seed];
        let (code, _, talk) = penjing(folder.path(), &arguments);
        assert!(code < 2, "{talk}");
    }
    let (code, out, talk) = penjing(folder.path(), &["--json", "compare", "1/circuit.json", "2/circuit.json"]);
    assert_eq!(code, 0, "{talk}");
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    for what in ["edges", "nodes"] {
        let overlap = &document["pairs"][0]["same_graph"][what];
        let number = |value: &serde_json::Value| value.as_f64().unwrap();
        assert!(number(&overlap["jaccard"]) > 2.0 * number(&overlap["by_chance"]), "{overlap}");
        assert!(number(&overlap["interval"][0]) > number(&overlap["by_chance_interval"][1]), "{overlap}");
        assert!(number(&overlap["p"]) < 1e-3, "{overlap}");
    }
}
