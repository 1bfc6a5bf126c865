//! Pictures of circuits: what they look like, and what holds for every one of them.

use graphviz_rust::dot_structures::{EdgeTy, Graph as DotGraph, Id, Stmt, Vertex};
use penjing::circuit::EdgeMask;
use penjing::circuit::prune::prune;
use penjing::circuit::select::{Rank, top_n};
use penjing::graph::scores::Scores;
use penjing::graph::{Dimensions, Graph, Node};
use penjing::render::figure::{Figure, FigureNode, Point, Step};
use penjing::render::layout::layout;
use penjing::render::{self, Caption};
use proptest::prelude::*;

fn circuit(layers: usize, heads: usize, edges: &[(&str, f32)]) -> (Graph, EdgeMask, Scores) {
    let graph = Graph::new(Dimensions::new(layers, heads));
    let (mut mask, mut scores) = (EdgeMask::empty(&graph), Scores::zeros(&graph));
    for (name, score) in edges {
        let edge = graph.parse_edge(name).unwrap();
        mask.insert(edge);
        scores.set(edge, *score);
    }
    (graph, mask, scores)
}

/// Duplicate-token head, S-inhibition, name mover: the IOI circuit in miniature.
fn small() -> (Graph, EdgeMask, Scores) {
    circuit(
        3,
        2,
        &[
            ("input->a0.h1<k>", 0.2),
            ("input->a0.h1<q>", 0.1),
            ("a0.h1->a1.h0<v>", 0.5),
            ("a1.h0->a2.h1<q>", 0.8),
            ("input->a2.h1<v>", 1.0),
            ("input->m0", -0.05),
            ("m0->logits", -0.3),
            ("a2.h1->logits", 1.25),
        ],
    )
}

#[test]
fn svg_of_a_small_circuit() {
    let (graph, mask, scores) = small();
    let caption = Caption { title: "IOI <in> \"miniature\" & more".into(), subtitle: "toy, 8 edges".into() };
    insta::assert_snapshot!(render::svg(&graph, &mask, &scores, &caption));
}

#[test]
fn dot_of_a_small_circuit() {
    let (graph, mask, scores) = small();
    let caption = Caption { title: "IOI <in> \"miniature\" \\ & more".into(), subtitle: "toy, 8 edges".into() };
    insta::assert_snapshot!(render::dot(&graph, &mask, &scores, &caption));
}

#[test]
fn odd_circuits_are_drawn_too() {
    let check = |edges: &[(&str, f32)], nodes: &[&str]| {
        let (graph, mask, scores) = circuit(2, 2, edges);
        let figure = layout(&graph, &mask, &scores);
        let labels: Vec<&str> = figure.nodes.iter().map(|node| node.label.as_str()).collect();
        assert_eq!(labels, nodes);
        check_figure(&figure);
        let svg = render::svg(&graph, &mask, &scores, &Caption::default());
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_eq!(edges_in_dot(&render::dot(&graph, &mask, &scores, &Caption::default())).len(), edges.len());
    };
    check(&[], &["input", "logits"]);
    check(&[("input->logits", 0.0)], &["input", "logits"]);
    check(&[("m0->a1.h0<k>", 1.0)], &["input", "m0", "a1.h0", "logits"]);
    check(&[("input->logits", f32::NAN), ("input->m1", f32::INFINITY)], &["input", "m1", "logits"]);
    check(&[("input->m0", f32::MIN_POSITIVE), ("m0->logits", f32::MAX)], &["input", "m0", "logits"]);
}

#[test]
fn rows_go_up_the_residual_stream_and_empty_ones_are_left_out() {
    let (graph, mask, scores) = small();
    let figure = layout(&graph, &mask, &scores);
    let rows: Vec<(&str, usize)> = figure.nodes.iter().map(|node| (node.label.as_str(), node.row)).collect();
    assert_eq!(rows, [("input", 0), ("a0.h1", 1), ("m0", 2), ("a1.h0", 3), ("a2.h1", 4), ("logits", 5)]);
    for pair in figure.nodes.windows(2) {
        assert!(pair[1].y + pair[1].height / 2.0 < pair[0].y - pair[0].height / 2.0, "{pair:?}");
    }
}

#[test]
fn heads_stand_in_head_order_where_it_costs_no_crossing() {
    let (graph, mask, scores) = circuit(
        1,
        4,
        &[
            ("input->a0.h3<v>", 0.1),
            ("input->a0.h0<v>", 0.1),
            ("input->a0.h2<v>", 0.1),
            ("a0.h3->logits", 0.1),
            ("a0.h0->logits", 0.1),
            ("a0.h2->logits", 0.1),
        ],
    );
    let mut heads = layout(&graph, &mask, &scores).nodes;
    heads.retain(|node| matches!(node.node, Node::Head(..)));
    heads.sort_by(|a, b| a.x.total_cmp(&b.x));
    let labels: Vec<&str> = heads.iter().map(|node| node.label.as_str()).collect();
    assert_eq!(labels, ["a0.h0", "a0.h2", "a0.h3"]);
}

/// A random pruned circuit with scores of very different sizes.
fn circuits() -> impl Strategy<Value = (Graph, EdgeMask, Scores)> {
    (1usize..6, 1usize..6, any::<bool>(), 1usize..120).prop_flat_map(|(layers, heads, parallel, edges)| {
        let graph = Graph::new(Dimensions { parallel, ..Dimensions::new(layers, heads) });
        prop::collection::vec(-1.0..1.0f32, graph.edge_count()).prop_map(move |values| {
            let mut scores = Scores::zeros(&graph);
            for (edge, value) in graph.edges().iter().zip(values) {
                scores.set(*edge, value.powi(5));
            }
            let mask = top_n(&graph, &scores, edges.min(graph.edge_count()), Rank::Absolute).unwrap();
            (graph.clone(), prune(&graph, &mask), scores)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_figure_is_legible((graph, mask, scores) in circuits()) {
        let figure = layout(&graph, &mask, &scores);
        prop_assert_eq!(figure.edges.len(), mask.count());
        check_figure(&figure);
    }

    #[test]
    fn equal_circuits_give_equal_bytes((graph, mask, scores) in circuits()) {
        let caption = Caption { title: "title".into(), subtitle: String::new() };
        let first = render::svg(&graph, &mask, &scores, &caption);
        prop_assert_eq!(render::svg(&graph.clone(), &mask.clone(), &scores.clone(), &caption), first);
    }

    #[test]
    fn dot_parses_back_to_the_same_edges((graph, mask, scores) in circuits(), title in "\\PC{0,20}[\"\\\\<>&]?") {
        let dot = render::dot(&graph, &mask, &scores, &Caption { title, subtitle: "x".into() });
        let names: Vec<String> = mask.edges(&graph).into_iter().map(|edge| graph.name(edge)).collect();
        prop_assert_eq!(edges_in_dot(&dot), names);
    }

    #[test]
    fn svg_stays_well_formed_with_any_caption(title in "\\PC{0,40}", subtitle in any::<String>()) {
        let (graph, mask, scores) = small();
        let svg = render::svg(&graph, &mask, &scores, &Caption { title, subtitle });
        // All that is left between tags and quotes must be free of what XML gives a meaning to.
        let mut depth = 0i32;
        for tag in svg.split('<').skip(1) {
            let (tag, text) = tag.split_once('>').unwrap();
            prop_assert!(!text.contains('>'), "{}", text);
            prop_assert_eq!(tag.matches('"').count() % 2, 0, "{}", tag);
            depth += if tag.starts_with('/') { -1 } else { i32::from(!tag.ends_with('/')) };
            prop_assert!(depth >= 0);
        }
        prop_assert_eq!(depth, 0);
    }
}

/// The edges of a DOT document by name, from the ends and the label that a reader of the picture would see.
fn edges_in_dot(dot: &str) -> Vec<String> {
    let unquoted = |id: &Id| match id {
        Id::Escaped(text) => text.trim_matches('"').to_owned(),
        other => panic!("an identifier without quotes: {other:?}"),
    };
    let end = |vertex: &Vertex| match vertex {
        Vertex::N(node) => unquoted(&node.0),
        Vertex::S(_) => panic!("an edge to a subgraph"),
    };
    let Ok(DotGraph::DiGraph { stmts, .. }) = graphviz_rust::parse(dot) else { panic!("not a directed graph: {dot}") };
    let edges = stmts.iter().filter_map(|stmt| match stmt {
        Stmt::Edge(edge) => Some(edge),
        _ => None,
    });
    edges
        .map(|edge| {
            let EdgeTy::Pair(from, to) = &edge.ty else { panic!("a chain of edges") };
            let label = edge.attributes.iter().find(|attribute| attribute.0 == Id::Plain("label".into()));
            let branch = label.map(|label| format!("<{}>", unquoted(&label.1))).unwrap_or_default();
            format!("{}->{}{branch}", end(from), end(to))
        })
        .collect()
}

/// Boxes inside the figure and apart, labels inside their boxes, edges from box to box and through none.
fn check_figure(figure: &Figure) {
    let half = |node: &FigureNode| (node.width / 2.0, node.height / 2.0);
    for (index, node) in figure.nodes.iter().enumerate() {
        let (w, h) = half(node);
        assert!(node.x - w >= 0.0 && node.x + w <= figure.width, "{node:?} in {}", figure.width);
        assert!(node.y - h >= 0.0 && node.y + h <= figure.height, "{node:?} in {}", figure.height);
        assert!(render::theme::text_width(&node.label, render::theme::LABEL_SIZE) <= node.width, "{node:?}");
        for (_, x) in &node.ports {
            assert!((x - node.x).abs() < w, "{node:?}");
        }
        for other in &figure.nodes[index + 1..] {
            let (dx, dy) = ((node.x - other.x).abs(), (node.y - other.y).abs());
            let (other_w, other_h) = half(other);
            assert!(dx >= w + other_w + 2.0 || dy >= h + other_h + 2.0, "{node:?} and {other:?} overlap");
        }
    }
    for label in &figure.layers {
        assert!(label.y > 0.0 && label.y < figure.height);
    }
    for edge in &figure.edges {
        let ends = edge.name.split(['>', '<']).collect::<Vec<_>>();
        let find = |name: &str| figure.nodes.iter().find(|node| node.label == name).unwrap();
        let (from, to) = (find(ends[0].trim_end_matches('-')), find(ends[1]));
        let touches = |point: Point, node: &FigureNode, y: f64| {
            assert!((point.y - y).abs() < 1e-6 && (point.x - node.x).abs() <= node.width / 2.0, "{edge:?} at {node:?}");
        };
        touches(edge.start, from, from.y - from.height / 2.0);
        touches(edge.tip(), to, to.y + to.height / 2.0);
        for point in samples(edge.start, &edge.steps) {
            assert!(point.x >= 0.0 && point.x + edge.width / 2.0 <= figure.width, "{edge:?} leaves the figure");
            for node in &figure.nodes {
                let (w, h) = half(node);
                let inside = (point.x - node.x).abs() < w + edge.width / 2.0 && (point.y - node.y).abs() < h - 1e-6;
                assert!(!inside, "{} runs through {}", edge.name, node.label);
            }
        }
    }
}

/// Points along a path.
fn samples(start: Point, steps: &[Step]) -> Vec<Point> {
    let mut points = vec![start];
    for step in steps {
        let (from, to) = (*points.last().unwrap(), step.end());
        for part in 1..=12 {
            let t = f64::from(part) / 12.0;
            // Both inner control points lie half-way up, above the ends.
            let across = match step {
                Step::Line(_) => t,
                Step::Curve(_) => t * t * (3.0 - 2.0 * t),
            };
            let up = match step {
                Step::Line(_) => t,
                Step::Curve(_) => 1.5 * t * (1.0 - t) + t * t * t,
            };
            points.push(Point { x: from.x + (to.x - from.x) * across, y: from.y + (to.y - from.y) * up });
        }
    }
    points
}
