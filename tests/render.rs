//! Pictures of circuits: what they look like, and what holds for every one of them.

use graphviz_rust::dot_structures::{EdgeTy, Graph as DotGraph, Id, Stmt, Vertex};
use penjing::circuit::EdgeMask;
use penjing::circuit::evidence::EdgeStability;
use penjing::circuit::prune::prune;
use penjing::circuit::report::Stop;
use penjing::circuit::roles::{Found, Role};
use penjing::circuit::select::{Rank, greedy, top_n};
use penjing::graph::scores::Scores;
use penjing::graph::{Dimensions, Graph, Level, Node};
use penjing::render::figure::{Figure, FigureNode, Point, Step};
use penjing::render::heatmap::Heatmap;
use penjing::render::picture::Content;
use penjing::render::scene::{Piece, Scene, Shape};
use penjing::render::sizes::{LABEL_SIZE, MARGIN, MILLIMETRE, text_width};
use penjing::render::style::{Branches, Heads, Style};
use penjing::render::theme::THEMES;
use penjing::render::{self, Caption, chart, dot, svg, tikz};
use proptest::prelude::*;

type Drawn = (Graph, EdgeMask, Scores);

fn circuit(layers: usize, heads: usize, edges: &[(&str, f32)]) -> Drawn {
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
fn small() -> Drawn {
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

fn content((graph, mask, scores): &Drawn) -> Content<'_> {
    Content { graph, mask, scores, roles: &[] }
}

fn draw(drawn: &Drawn, style: &Style) -> Figure {
    render::figure(&content(drawn), style)
}

fn caption() -> Caption {
    Caption { title: "IOI <in> \"miniature\" \\ & 100 % {more}".into(), subtitle: "toy, 8 edges".into() }
}

#[test]
fn svg_of_a_small_circuit() {
    insta::assert_snapshot!(render::svg(&content(&small()), &Style::default(), &caption()));
}

#[test]
fn dot_of_a_small_circuit() {
    insta::assert_snapshot!(render::dot(&content(&small()), &Style::default(), &caption()));
}

#[test]
fn tikz_of_a_small_circuit() {
    let style = Style { font_size: 10.0, theme: THEMES[3], ..Style::default() };
    let figure = draw(&small(), &style);
    insta::assert_snapshot!(tikz::draw(&Scene::new(&figure, &style, &caption())));
}

#[test]
fn odd_circuits_are_drawn_too() {
    let check = |edges: &[(&str, f32)], nodes: &[&str]| {
        let drawn = circuit(2, 2, edges);
        let figure = draw(&drawn, &Style::default());
        let labels: Vec<&str> = figure.nodes.iter().map(|node| node.label.as_str()).collect();
        assert_eq!(labels, nodes);
        check_figure(&figure);
        let scene = Scene::new(&figure, &Style::default(), &Caption::default());
        for text in [svg::draw(&scene), tikz::draw(&scene)] {
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        }
        let dot = dot::draw(&figure, &Style::default(), &Caption::default());
        assert_eq!(edges_in_dot(&dot).len(), edges.len());
    };
    check(&[], &["input", "logits"]);
    check(&[("input->logits", 0.0)], &["input", "logits"]);
    check(&[("m0->a1.h0<k>", 1.0)], &["input", "m0", "a1.h0", "logits"]);
    check(&[("input->logits", f32::NAN), ("input->m1", f32::INFINITY)], &["input", "m1", "logits"]);
    check(&[("input->m0", f32::MIN_POSITIVE), ("m0->logits", f32::MAX)], &["input", "m0", "logits"]);
}

#[test]
fn rows_go_up_the_residual_stream_and_empty_ones_are_left_out() {
    let figure = draw(&small(), &Style::default());
    let rows: Vec<(&str, usize)> = figure.nodes.iter().map(|node| (node.label.as_str(), node.row)).collect();
    assert_eq!(rows, [("input", 0), ("a0.h1", 1), ("m0", 2), ("a1.h0", 3), ("a2.h1", 4), ("logits", 5)]);
    for pair in figure.nodes.windows(2) {
        assert!(pair[1].y + pair[1].height / 2.0 < pair[0].y - pair[0].height / 2.0, "{pair:?}");
    }
}

#[test]
fn heads_stand_in_head_order_where_it_costs_no_crossing() {
    let drawn = circuit(
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
    let mut heads = draw(&drawn, &Style::default()).nodes;
    heads.retain(|node| matches!(node.nodes[0], Node::Head(..)));
    heads.sort_by(|a, b| a.x.total_cmp(&b.x));
    let labels: Vec<&str> = heads.iter().map(|node| node.label.as_str()).collect();
    assert_eq!(labels, ["a0.h0", "a0.h2", "a0.h3"]);
}

/// A random pruned circuit with scores of very different sizes.
fn circuits() -> impl Strategy<Value = Drawn> {
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
    fn every_figure_is_legible(drawn in circuits()) {
        let figure = draw(&drawn, &Style::default());
        prop_assert_eq!(figure.edges.len(), drawn.1.count());
        check_figure(&figure);
    }

    /// Whatever the width, nothing is lost unsaid.
    #[test]
    fn figures_fit_a_column_and_count_what_they_leave_out(
        drawn in circuits(),
        width in 45.0..180.0f64,
        font_size in 7.0..12.0f64,
        merged in any::<bool>(),
    ) {
        let branches = merged.then_some(Branches::Merged);
        let style = Style { width: Some(width), font_size, branches, ..Style::default() };
        let figure = draw(&drawn, &style);
        check_figure(&figure);
        prop_assert!(figure.width * style.scale() <= width * MILLIMETRE + 1e-6, "{}", figure.width);
        let shown: Vec<_> = figure.edges.iter().flat_map(|edge| &edge.edges).collect();
        prop_assert_eq!(shown.len() + figure.left_out.edges, drawn.1.count());
        let scene = Scene::new(&figure, &style, &Caption::default());
        prop_assert!((scene.width * scene.scale - width * MILLIMETRE).abs() < 1e-6, "{} is not {width} mm", scene.width);
        for shape in &scene.shapes {
            if let Shape::Text { size, words, .. } = shape {
                prop_assert!(size * scene.scale >= 6.0, "{words:?} has {} pt", size * scene.scale);
            }
        }
        let said = words(&svg::draw(&scene)).contains("Not drawn: ");
        prop_assert_eq!(said, figure.left_out.edges > 0);
    }

    #[test]
    fn equal_circuits_give_equal_bytes(drawn in circuits(), width in 60.0..180.0f64) {
        let style = Style { width: Some(width), ..Style::default() };
        let caption = Caption { title: "title".into(), subtitle: String::new() };
        let first = render::svg(&content(&drawn), &style, &caption);
        prop_assert_eq!(render::svg(&content(&drawn.clone()), &style, &caption), first);
    }

    #[test]
    fn dot_parses_back_to_the_same_edges(drawn in circuits(), title in "\\PC{0,20}[\"\\\\<>&]?") {
        let dot = render::dot(&content(&drawn), &Style::default(), &Caption { title, subtitle: "x".into() });
        let (graph, mask, _) = &drawn;
        let names: Vec<String> = mask.edges(graph).into_iter().map(|edge| graph.name(edge)).collect();
        prop_assert_eq!(edges_in_dot(&dot), names);
    }

    #[test]
    fn svg_stays_well_formed_with_any_caption(title in "\\PC{0,40}", subtitle in any::<String>()) {
        let svg = render::svg(&content(&small()), &Style::default(), &Caption { title, subtitle });
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

    /// Circuits drawn with the same places: each shows its own edges, where the figure of both has them.
    #[test]
    fn aligned_figures_share_their_places((graph, mask, scores) in circuits(), keep in any::<u64>()) {
        let mut part = mask.clone();
        for (index, edge) in mask.edges(&graph).into_iter().enumerate() {
            if keep >> (index % 64) & 1 == 0 {
                part.remove(edge);
            }
        }
        let both = render::figure(&Content { graph: &graph, mask: &mask, scores: &scores, roles: &[] }, &Style::default());
        let one = both.with(&Content { graph: &graph, mask: &part, scores: &scores, roles: &[] });
        prop_assert_eq!(one.edges.len(), part.count());
        prop_assert_eq!(one.left_out.edges, 0);
        for node in &one.nodes {
            let there = both.nodes.iter().find(|other| other.label == node.label).unwrap();
            prop_assert_eq!((node.x, node.y), (there.x, there.y));
        }
        for edge in &one.edges {
            let there = both.edges.iter().find(|other| other.name == edge.name).unwrap();
            prop_assert_eq!(&edge.steps, &there.steps);
            prop_assert_eq!(&one.nodes[edge.from].label, &both.nodes[there.from].label);
            prop_assert_eq!(&one.nodes[edge.to].label, &both.nodes[there.to].label);
        }
    }
}

/// What a picture says.
fn words(svg: &str) -> String {
    let texts = svg.split("<text").skip(1).filter_map(|text| text.split_once('>')?.1.split_once("</text>"));
    texts.map(|(words, _)| words).collect::<Vec<_>>().join(" ")
}

#[test]
fn what_is_drawn_as_one_keeps_its_scores() {
    let drawn = circuit(
        2,
        3,
        &[
            ("input->a0.h0<q>", 0.5),
            ("input->a0.h0<k>", -0.125),
            ("input->a0.h2<v>", 0.25),
            ("a0.h0->m0", 0.25),
            ("a0.h2->m0", 0.5),
            ("m0->logits", 1.0),
            ("a0.h2->logits", 0.015625),
        ],
    );
    let named = |style: &Style| -> Vec<(String, f32, usize)> {
        let mut edges = draw(&drawn, style).edges;
        edges.sort_by_key(|edge| edge.place);
        edges.into_iter().map(|edge| (edge.name, edge.score, edge.edges.len())).collect()
    };
    let merged = Style { branches: Some(Branches::Merged), ..Style::default() };
    assert_eq!(named(&merged)[0], ("input->a0.h0, 2 edges".into(), 0.375, 2));
    let by_layer = Style { heads: Some(Heads::ByLayer), least_share: 0.1, ..merged };
    let expected = [("input->a0.h0,2, 3 edges", 0.625, 3), ("a0.h0,2->m0, 2 edges", 0.75, 2), ("m0->logits", 1.0, 1)];
    assert_eq!(named(&by_layer), expected.map(|(name, score, edges)| (name.to_owned(), score, edges)));
    let svg = words(&render::svg(&content(&drawn), &by_layer, &Caption::default()));
    let share = 100.0 * 0.015625 / 2.640625;
    assert!(svg.contains(&format!("Not drawn: the weakest edge, with {share:.1} % of all |score|.")), "{svg}");
    for says in ["Queries, keys and values", "Heads of one layer share a box.", "drawn as one are added."] {
        assert!(svg.contains(says), "{says}");
    }
}

/// Roles stand under names, and heads of a layer that have the same one can share a box.
#[test]
fn roles_are_written_under_names() {
    let (graph, mask, scores) = circuit(
        1,
        4,
        &[
            ("input->a0.h0<v>", 0.1),
            ("input->a0.h1<v>", 0.2),
            ("input->a0.h3<v>", 0.3),
            ("a0.h0->logits", 0.1),
            ("a0.h1->m0", 0.2),
            ("a0.h3->m0", 0.3),
            ("m0->logits", 0.5),
        ],
    );
    let found = |name: &str, role: Role| Found { node: name.parse().unwrap(), role, value: 1.0, evidence: Vec::new() };
    let roles = [
        found("a0.h0", Role::Mover),
        found("a0.h1", Role::Attends("<S2> & \"more\"".into())),
        found("a0.h3", Role::Attends("<S2> & \"more\"".into())),
        found("m0", Role::Writes),
    ];
    let content = Content { graph: &graph, mask: &mask, scores: &scores, roles: &roles };
    let shown = |style: &Style| -> Vec<(String, Option<String>)> {
        let figure = render::figure(&content, style);
        check_figure(&figure);
        figure.nodes.into_iter().map(|node| (node.label, node.role)).collect()
    };
    let named = |label: &str, role: &str| (label.to_owned(), (!role.is_empty()).then(|| role.to_owned()));
    let odd = "to <S2> & \"more\"";
    let each = [named("input", ""), named("a0.h0", "mover"), named("a0.h1", odd), named("a0.h3", odd)];
    let ends = [named("m0", "writes"), named("logits", "")];
    assert_eq!(shown(&Style::default()), [&each[..], &ends].concat());
    let by_role = Style { heads: Some(Heads::ByRole), ..Style::default() };
    let grouped = [named("input", ""), named("a0.h0", "mover"), named("a0.h1,3", odd)];
    assert_eq!(shown(&by_role), [&grouped[..], &ends].concat());
    let none = Style { roles: false, ..Style::default() };
    assert!(shown(&none).iter().all(|(_, role)| role.is_none()));
    let svg = render::svg(&content, &by_role, &Caption::default());
    assert!(svg.contains(">to &lt;S2&gt; &amp; &quot;more&quot;</text>"), "{svg}");
    let graphml = render::graphml::draw(&content);
    assert!(
        graphml.contains("<data key=\"node-role\">attends to &lt;S2&gt; &amp; &quot;more&quot;</data>"),
        "{graphml}"
    );
    assert_eq!(edges_in_dot(&render::dot(&content, &Style::default(), &Caption::default())).len(), 7);
    let tracer = render::tracer_json::draw(&content, "task", "model");
    let node =
        |id: &str| tracer["nodes"].as_array().unwrap().iter().find(|node| node["node_id"] == id).cloned().unwrap();
    assert_eq!(node("0_0_0")["clerp"], "a0.h0, mover");
    assert_eq!(node("0_4_0")["clerp"], "m0, writes");
    assert_eq!(
        (&node("E_0_0")["feature_type"], &node("2_0_0")["feature_type"]),
        (&"embedding".into(), &"logit".into())
    );
    let links = tracer["links"].as_array().unwrap();
    assert_eq!(links.len(), 7);
    assert!(
        links.iter().any(|link| link["source"] == "0_3_0" && link["target"] == "0_4_0" && link["weight"] == 0.3f32)
    );
}

/// Circuits of GPT-2 small's graph, with scores of very different sizes, as wide as a column and as a page.
#[test]
fn circuits_of_any_size_fit_a_page() {
    let graph = Graph::new(Dimensions::new(12, 12));
    let mut scores = Scores::zeros(&graph);
    for (index, edge) in graph.edges().iter().enumerate() {
        // Spread by the golden ratio.
        let spread = (index as f64 * 0.618_033_988_749_895).fract() - 0.5;
        scores.set(*edge, (8.0 * spread.powi(7)) as f32);
    }
    for edges in [10, 100, 1000, graph.edge_count()] {
        let mask = greedy(&graph, &scores, edges).unwrap();
        let content = Content { graph: &graph, mask: &mask, scores: &scores, roles: &[] };
        for width in [85.0, 180.0] {
            let style = Style { width: Some(width), height: Some(230.0), ..Style::default() };
            let figure = render::figure(&content, &style);
            check_figure(&figure);
            assert!(figure.width <= width * MILLIMETRE + 1e-6, "{edges} edges at {width} mm: {}", figure.width);
            assert!(figure.height <= 230.0 * MILLIMETRE + 1e-6, "{edges} edges at {width} mm: {} high", figure.height);
            assert!(!figure.edges.is_empty(), "{edges} edges at {width} mm: nothing is drawn");
            // The same without scores.
            let unscored = Content { scores: &Scores::zeros(&graph), ..content };
            let figure = render::figure(&unscored, &style);
            check_figure(&figure);
            assert!(figure.width <= width * MILLIMETRE + 1e-6, "{edges} edges at {width} mm: {}", figure.width);
        }
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
        assert!(text_width(&node.label, LABEL_SIZE) <= node.width, "{node:?}");
        assert!(node.x - w >= MARGIN, "{node:?} runs into the margin");
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
        let (from, to) = (&figure.nodes[edge.from], &figure.nodes[edge.to]);
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

/// Whatever is measured, a picture comes of it.
#[test]
fn heatmaps_and_charts_stand_odd_numbers() {
    let graph = Graph::new(Dimensions::new(2, 2));
    let full = EdgeMask::full(&graph);
    let names = |count: usize| (0..count).map(|index| format!("<{index}> & more")).collect::<Vec<_>>();
    for (rows, columns, value) in
        [(0, 0, 0.0), (1, 1, f64::NAN), (3, 40, f64::INFINITY), (4, 2, 0.0), (2, 3, -1e-9), (2, 2, 1e12)]
    {
        let map = Heatmap {
            title: "title \"<>&".into(),
            rows: names(rows),
            columns: names(columns),
            column_name: "layer".into(),
            value_name: "restored".into(),
            values: ndarray::Array2::from_elem((rows, columns), value),
            texts: (rows % 2 == 0).then(|| ndarray::Array2::from_elem((rows, columns), "<a> & \"b\"".into())),
        };
        for width in [None, Some(60.0)] {
            check_drawing(&map.scene(&Style { width, ..Style::default() }), rows * columns);
        }
        let stop = |mask: &EdgeMask| Stop { mask: mask.clone(), faithfulness: value, interval: [value, 1.0] };
        for stops in [vec![], vec![stop(&full)], vec![stop(&EdgeMask::empty(&graph)), stop(&full)]] {
            check_drawing(&chart::curve(&stops, full.count(), Some(value), &Style::default()), 0);
        }
        for scores in [vec![], vec![value as f32], vec![0.0; 3], vec![1e-30, -1e30, value as f32]] {
            check_drawing(&chart::distribution(&scores, &Style::default()), 0);
        }
    }
}

#[test]
fn scores_have_their_intervals_below_them() {
    let drawn = small();
    let (graph, mask, scores) = &drawn;
    let of_edge = |edge| EdgeStability {
        edge,
        interval: [f64::from(scores.get(edge)) - 0.25, f64::from(scores.get(edge)) + 0.25],
        selected: 1.0,
    };
    let stability: Vec<EdgeStability> = mask.edges(graph).into_iter().map(of_edge).collect();
    let picture = |level, stability: &[EdgeStability]| {
        render::scores::picture(graph, mask, scores, level, stability, &Style::default())
    };
    let bare = picture(Level::Edge, &[]);
    let all: Vec<f32> = graph.edges().iter().map(|edge| scores.get(*edge)).collect();
    assert_eq!(bare, chart::distribution(&all, &Style::default()));
    let edges = picture(Level::Edge, &stability);
    check_drawing(&edges, mask.count());
    assert_eq!(edges.shapes[..bare.shapes.len()], bare.shapes[..]);
    // The strongest first; an interval is as long as its bar is for a score of its length.
    let bars: Vec<(&String, f64, f64)> = edges
        .shapes
        .iter()
        .filter_map(|shape| match shape {
            Shape::Group { name, shapes } => {
                let bar = shapes.iter().find_map(|shape| match shape {
                    Shape::Rectangle { width, .. } => Some(*width),
                    _ => None,
                });
                let whisker = shapes.iter().find_map(|shape| match shape {
                    Shape::Stroke { start, pieces, .. } => match pieces[..] {
                        [Piece::Line(end)] => Some(end.x - start.x),
                        _ => None,
                    },
                    _ => None,
                });
                Some((name, bar.unwrap(), whisker.unwrap()))
            }
            _ => None,
        })
        .collect();
    assert_eq!([bars[0].0, bars[7].0], ["a2.h1->logits: +1.250", "input->m0: -0.050"]);
    assert!(bars.iter().all(|(_, _, whisker)| (whisker / bars[0].1 - 0.5 / 1.25).abs() < 1e-6), "{bars:?}");
    // A node once, however many edges leave it; no bar for what is no number, and a count of what has no room.
    check_drawing(&picture(Level::Node, &stability), mask.nodes(graph).len() - 1);
    let graph = Graph::new(Dimensions::new(2, 3));
    let mut scores = Scores::zeros(&graph);
    graph.edges().iter().for_each(|&edge| scores.set(edge, 0.5));
    scores.set(graph.edges()[0], f32::NAN);
    let odd: Vec<EdgeStability> = graph
        .edges()
        .iter()
        .map(|&edge| EdgeStability { edge, interval: [f64::NAN, f64::INFINITY], selected: 0.0 })
        .collect();
    let scene = render::scores::picture(&graph, &EdgeMask::full(&graph), &scores, Level::Edge, &odd, &Style::default());
    check_drawing(&scene, 40);
    assert!(svg::draw(&scene).contains(&format!("and {} weaker edges", graph.edge_count() - 41)));
}

/// Finite, inside its paper, and with so many named cells.
fn check_drawing(scene: &Scene, cells: usize) {
    let svg = svg::draw(scene);
    assert!(!svg.contains("NaN\"") && !svg.contains("inf\"") && !svg.contains("NaN "), "{svg}");
    assert_eq!(svg.matches("<g><title>").count(), cells);
    for shape in &scene.shapes {
        if let Shape::Text { at, words, .. } = shape {
            assert!(at.x >= 0.0 && at.x <= scene.width && at.y >= 0.0 && at.y <= scene.height, "{words} at {at:?}");
        }
    }
}
