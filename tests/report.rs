//! The page: what is in the file, and that nothing put into it can break out of its place. `scripts/check_report.mjs` drives
//! pages in a browser, the large one that is written here too.

use penjing::circuit::EdgeMask;
use penjing::circuit::file::{self, Circuit};
use penjing::circuit::report::{Card, Example, Stop};
use penjing::circuit::select::greedy;
use penjing::graph::scores::Scores;
use penjing::graph::{Dimensions, Graph, Node};
use penjing::report::data::Page;
use penjing::report::html;
use serde_json::Value;
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
