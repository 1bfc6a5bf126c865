//! The page: what is in the file, and that nothing put into it can break out of its place. `scripts/check_report.mjs` drives
//! pages in a browser, the large one that is written here too.

use penjing::circuit::EdgeMask;
use penjing::circuit::evidence::{EdgeStability, HeldOut, Hypothesis, Stability, Template, Test};
use penjing::circuit::file::{self, Circuit};
use penjing::circuit::report::{Card, Example, Stop};
use penjing::circuit::select::greedy;
use penjing::circuit::verdict::verdict;
use penjing::graph::scores::Scores;
use penjing::graph::{Dimensions, Graph, Level, Node};
use penjing::report::data::Page;
use penjing::report::html;
use serde_json::{Value, json};
use std::path::Path;

fn published() -> Circuit {
    file::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("circuits/ioi-toy-4l.json")).unwrap()
}

/// The data of a page, read as a browser reads them.
fn data(page: &str) -> Value {
    let (_, rest) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

fn page<'a>(circuit: &'a Circuit, stops: Vec<Stop>, cards: Vec<Card>) -> Page<'a> {
    Page {
        title: "A <b>title</b> </script> & \"more\" {{data}}".into(),
        subtitle: "{{js}}".into(),
        description: "<!-- not a comment".into(),
        command: "penjing discover 'a b' --out <c>".into(),
        circuit,
        findings: circuit.report.as_ref().map_or(Vec::new(), |report| verdict(report, Level::Edge, Some(0.9))),
        scores: &circuit.scores,
        stops,
        examples: vec![Example {
            clean: "</script><script>alert(1)</script>".into(),
            corrupt: "\u{2028}".into(),
            right: " a".into(),
            wrong: " b".into(),
            tokens: vec!["</script>".into()],
            metric: [1.5, f64::NAN],
        }],
        cards,
    }
}

#[test]
fn nothing_in_a_page_breaks_out_of_its_place() {
    let circuit = published();
    let stops = vec![Stop { mask: circuit.mask.clone(), faithfulness: 0.9, interval: [0.8, f64::INFINITY] }];
    let html = html(&page(&circuit, stops, Vec::new())).unwrap();
    // The page's own two scripts end, and no other.
    assert_eq!(html.matches("</script>").count(), 2);
    assert_eq!(html.matches("<script").count(), 2);
    assert!(html.contains("<title>A &lt;b&gt;title&lt;/b&gt; &lt;/script&gt; &amp; &quot;more&quot; {{data}}</title>"));
    assert!(html.contains("<p class=\"faint\">{{js}}</p>") && html.contains("--out &lt;c&gt;"));
    assert!(!html.contains("http://") || html.matches("http://").count() == html.matches("http://www.w3.org").count());
    assert!(!html.contains("https://"));
    let data = data(&html);
    assert_eq!(data["prompts"][0]["clean"], "</script><script>alert(1)</script>");
    assert_eq!(data["prompts"][0]["metric"][1], Value::Null);
    assert_eq!(data["stops"][0]["interval"][1], Value::Null);
}

#[test]
fn a_page_shows_the_circuit_and_what_is_around_it() {
    let circuit = published();
    let graph = &circuit.graph;
    let all = EdgeMask::full(graph);
    let stop = |mask: &EdgeMask, faithfulness| Stop { mask: mask.clone(), faithfulness, interval: [0.0, 1.0] };
    let node: Node = "a3.h1".parse().unwrap();
    let card = Card {
        node,
        role: Some(["mover".into(), "0.50, from 0.3 on".into()]),
        writes: vec![(" Mary".into(), 1.25)],
        patterns: vec![vec![vec![1.0], vec![0.25, 0.75]]],
    };
    let stops = vec![stop(&circuit.mask, 0.92), stop(&all, 1.0)];
    let data = data(&html(&page(&circuit, stops, vec![card])).unwrap());
    let edges = data["edges"].as_array().unwrap();
    assert_eq!(edges.len(), graph.edge_count());
    let nodes = data["nodes"].as_array().unwrap();
    let name = |index: &Value| nodes[index.as_u64().unwrap() as usize]["name"].as_str().unwrap();
    let branch = |edge: &Value| ["", "<q>", "<k>", "<v>"][(edge[2].as_i64().unwrap() + 1) as usize];
    for edge in edges {
        let of = graph.parse_edge(&format!("{}->{}{}", name(&edge[0]), name(&edge[1]), branch(edge))).unwrap();
        assert_eq!(edge[5] == 0, circuit.mask.contains(of), "{edge}");
        assert_eq!(edge[3].as_f64().unwrap() as f32, circuit.scores.get(of), "{edge}");
        assert_eq!(edge[6].is_number(), circuit.mask.contains(of), "{edge}");
    }
    assert_eq!(data["circuit"], 0);
    assert_eq!(data["stops"][1]["edges"], graph.edge_count());
    let shown = nodes.iter().find(|node| node["name"] == "a3.h1").unwrap();
    assert_eq!(shown["role"], "mover");
    assert_eq!(shown["writes"][0][1], 1.25);
    assert_eq!(shown["patterns"][0][1][1], 0.75);
}

/// The published circuit with statistics as `discover` adds them, and a report that has to be warned of.
fn measured() -> Circuit {
    let mut circuit = published();
    let edges = circuit.mask.edges(&circuit.graph);
    let report = circuit.report.as_mut().unwrap();
    (report.faithfulness, report.faithfulness_interval, report.pairs) = (1.2, [1.1, 1.3], 20);
    let test = |hypothesis, count, p| Test { hypothesis, count, of: 50, p, p_adjusted: p };
    report.tests = vec![test(Hypothesis::Equivalence, 3, 1e-9), test(Hypothesis::Minimality, 1, 0.75)];
    let of_edge = |(index, &edge)| EdgeStability {
        edge,
        interval: [0.25, if index == 0 { f64::NAN } else { 0.75 }],
        selected: if index == 0 { 0.5 } else { 1.0 },
    };
    report.stability = Some(Stability {
        resamples: 200,
        jaccard: 0.875,
        jaccard_range: [0.5, 1.0],
        jaccard_with_all: 0.9,
        one_sign: 11,
        scored: 479,
        edges: edges.iter().enumerate().map(of_edge).collect(),
    });
    let template = |name: &str, faithfulness, jaccard| Template {
        name: name.into(),
        pairs: 7,
        faithfulness,
        interval: [0.5, 0.75],
        faithfulness_of_all: 0.625,
        jaccard,
    };
    report.held_out = Some(HeldOut {
        pairs: 14,
        faithfulness: 0.5625,
        interval: [0.25, 0.8125],
        faithfulness_of_all: 0.9375,
        templates: vec![template("</table><script>\"&", 0.375, 0.96), template("plain", f64::NAN, 1.0)],
    });
    circuit
}

#[test]
fn a_page_shows_what_the_numbers_support() {
    let circuit = measured();
    let stops = vec![Stop { mask: circuit.mask.clone(), faithfulness: 1.2, interval: [1.1, 1.3] }];
    let html = html(&page(&circuit, stops, Vec::new())).unwrap();
    let at = |text: &str| html.find(text).unwrap_or_else(|| panic!("no {text}"));
    // Words carry the standing, and warnings come first.
    let row = |class: &str, claim: &str, because: &str| {
        let standing = class.replace('-', " ");
        at(&format!(
            "<tr class=\"{class}\"><th scope=\"row\">{claim}</th><td class=\"standing\">{standing}</td><td>{because}"
        ))
    };
    let rows = [
        row("supported", "is faithful", "1.200 [1.100, 1.300] of the model's effect on 20 fresh pairs"),
        row("not-supported", "is as good as the model", "better on 3 of 50 pairs, worse on the rest (p &lt; 0.001)"),
        row("not-refuted", "is minimal", "1 of 50 edges matter"),
        row("not-tested", "is needed", "there are no random circuits"),
        row("supported", "is stable", "selections from resampled pairs share 0.88 [0.50, 1.00]"),
        row("not-supported", "holds for other templates", "0.562 [0.250, 0.812]"),
    ];
    assert!(rows.is_sorted() && at("Warning:</strong> faithfulness is 1.200, above 1:") < rows[0]);
    assert!(
        at("Warning:</strong> there are too few pairs for intervals of 95 % (20)") < rows[0]
            && rows[5] < at("<h2>Faithfulness against size</h2>")
    );
    // Names of templates are text.
    at(
        "<tr><th scope=\"row\">&lt;/table&gt;&lt;script&gt;&quot;&amp;</th><td class=\"number\">7</td><td class=\"number\">0.375 [0.500,\u{a0}0.750]</td><td class=\"number\">0.625</td><td class=\"number\">0.96</td></tr>",
    );
    at("<tr><th scope=\"row\">plain</th><td class=\"number\">7</td><td class=\"number\">– [0.500,\u{a0}0.750]</td>");
    at(
        "<tr><th scope=\"row\">all</th><td class=\"number\">14</td><td class=\"number\">0.562 [0.250,\u{a0}0.812]</td><td class=\"number\">0.938</td>",
    );
    assert_eq!(html.matches("</script>").count(), 2);
    let data = data(&html);
    let stabilities: Vec<&Value> = data["edges"].as_array().unwrap().iter().map(|edge| &edge[7]).collect();
    assert_eq!(stabilities.len(), circuit.mask.count());
    let count = |wanted: Value| stabilities.iter().filter(|of| ***of == wanted).count();
    assert_eq!(count(json!([0.25, 0.75, 1.0])), circuit.mask.count() - 1);
    assert_eq!(count(json!([0.25, null, 0.5])), 1);
    let evidence = data["evidence"].as_array().unwrap();
    assert!(evidence.iter().any(|row| row[1] == "0.88 [0.50, 1.00], of 200 resamples"), "{evidence:?}");
}

#[test]
fn a_page_without_statistics_has_no_empty_tables() {
    let mut circuit = measured();
    let report = circuit.report.as_mut().unwrap();
    (report.tests, report.stability, report.held_out) = (Vec::new(), None, None);
    (report.faithfulness, report.pairs) = (0.92, 100);
    let stops = || vec![Stop { mask: circuit.mask.clone(), faithfulness: 0.92, interval: [0.9, 0.94] }];
    let html_of = |circuit: &Circuit| html(&page(circuit, stops(), Vec::new())).unwrap();
    let before_statistics = html_of(&circuit);
    assert!(before_statistics.contains("<td class=\"standing\">not tested</td>"));
    assert!(!before_statistics.contains("<h2>Templates held out</h2>") && !before_statistics.contains("Warning:"));
    assert!(data(&before_statistics)["edges"].as_array().unwrap().iter().all(|edge| edge[7].is_null()));
    let mut bare = published();
    bare.report = None;
    assert!(!html_of(&bare).contains("<h2>Verdict</h2>"));
}

#[test]
fn ten_thousand_edges_are_a_small_file() {
    let graph = Graph::new(Dimensions::new(12, 12));
    let mut scores = Scores::zeros(&graph);
    for (index, edge) in graph.edges().iter().enumerate() {
        let spread = (index as f64 * 0.618_033_988_749_895).fract() - 0.5;
        scores.set(*edge, (8.0 * spread.powi(7)) as f32);
    }
    let masks = [200, 1000, 10_000].map(|size| greedy(&graph, &scores, size).unwrap());
    assert!(masks[0].is_subset(&masks[1]) && masks[1].is_subset(&masks[2]));
    let stops = masks.iter().enumerate().map(|(index, mask)| Stop {
        mask: mask.clone(),
        faithfulness: 0.5 + 0.2 * index as f64,
        interval: [0.4, 0.95],
    });
    let mut circuit = published();
    (circuit.graph, circuit.mask, circuit.scores) = (graph, masks[2].clone(), scores);
    (circuit.report, circuit.roles) = (None, Vec::new());
    let html = html(&page(&circuit, stops.collect(), Vec::new())).unwrap();
    assert!(html.len() < 10_000_000, "{} bytes", html.len());
    assert_eq!(data(&html)["edges"].as_array().unwrap().len(), 10_000);
    std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("large-report.html"), html).unwrap();
}
