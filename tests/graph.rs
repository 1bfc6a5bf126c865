//! The graph against the EAP-IG convention, selection and pruning as properties, and the files.

use indexmap::IndexMap;
use penjing::circuit::evidence::{EdgeStability, HeldOut, Hypothesis, Stability, Template, Test};
use penjing::circuit::file::{self, Circuit, MethodRecord, ModelRecord, Provenance, SelectionRecord, TaskRecord};
use penjing::circuit::prune::prune;
use penjing::circuit::report::{EdgeCost, RandomBaseline, Report};
use penjing::circuit::roles::{Found, Role};
use penjing::circuit::select::{Rank, greedy, greedy_by, threshold, top_n};
use penjing::circuit::{EdgeMask, eap_json, scores_file};
use penjing::error::Hint;
use penjing::graph::scores::Scores;
use penjing::graph::{Destination, Dimensions, Graph, Level, Node, Slot, Source, Table};
use penjing::model::spec::{Head, Layer};
use proptest::prelude::*;

fn graph(layers: usize, heads: usize, parallel: bool) -> Graph {
    Graph::new(Dimensions { parallel, ..Dimensions::new(layers, heads) })
}

fn names(graph: &Graph) -> Vec<String> {
    graph.edges().iter().map(|edge| graph.name(*edge)).collect()
}

#[test]
fn sizes_of_known_models() {
    let check = |model: &str, (layers, heads): (usize, usize), parallel: bool, edges, sources, destinations| {
        let graph = graph(layers, heads, parallel);
        let counts = (graph.edge_count(), graph.sources(), graph.destinations());
        assert_eq!(counts, (edges, sources, destinations), "{model}");
        assert_eq!(graph.edges().len(), graph.dimensions.edges(), "{model}");
    };
    check("GPT-2 small", (12, 12), false, 32_491, 157, 445);
    check("GPT-2 medium", (24, 16), false, 231_877, 409, 1_177);
    check("GPT-2 large", (36, 20), false, 810_703, 757, 2_197);
    check("GPT-2 XL", (48, 25), false, 2_235_025, 1_249, 3_649);
    check("Pythia-70m", (6, 8), true, 3_580, 55, 151);
    check("Pythia-160m", (12, 12), true, 32_347, 157, 445);
    check("Pythia-410m", (24, 16), true, 231_493, 409, 1_177);
    check("Pythia-2.8b", (32, 32), true, 1_591_857, 1_057, 3_105);
    check("Qwen2.5-0.5B", (24, 14), false, 179_749, 361, 1_033);
    check("Qwen2.5-1.5B", (28, 12), false, 183_555, 365, 1_037);
    check("Gemma-2-2b", (26, 8), false, 74_218, 235, 651);
    check("Llama-3.2-1B", (16, 32), false, 386_713, 529, 1_553);
    check("Llama-3.2-3B", (28, 24), false, 693_267, 701, 2_045);
    check("Llama-3.1-8B", (32, 32), false, 1_592_881, 1_057, 3_105);
    check("InterpBench IOI", (6, 4), false, 1_108, 31, 79);
}

/// Shared keys and values as slots of their own, and layers without MLPs: counts of the field's surveys and tools.
#[test]
fn native_and_attention_only_graphs_have_the_published_counts() {
    let check = |model: &str, dimensions: Dimensions, edges: usize| {
        let graph = Graph::new(dimensions);
        assert_eq!((graph.edge_count(), dimensions.edges()), (edges, edges), "{model}");
        for &edge in graph.edges() {
            assert!(graph.contains(edge) && graph.parse_edge(&graph.name(edge)).unwrap() == edge, "{model}");
        }
        assert!(!petgraph::algo::is_cyclic_directed(&graph.structure), "{model}");
    };
    let native = |layers, heads, kv_slots| Dimensions { kv_slots, ..Dimensions::new(layers, heads) };
    check("Qwen2.5-0.5B", native(24, 14, 2), 79_813);
    check("Gemma-2-2b", native(26, 8, 4), 50_610);
    check("Llama-3.1-8B", native(32, 32, 8), 805_681);
    let attention_only = |layers, heads| Dimensions { mlps: false, ..Dimensions::new(layers, heads) };
    check("docstring, 4 layers", attention_only(4, 8), 1_281);
    check("redwood, 2 layers", attention_only(2, 8), 257);
}

/// Counts of ACDC's paper and code, and the circuits that take all edges, none, and some.
#[test]
fn edges_as_acdc_counts_them() {
    let attention_only = |layers, heads| Dimensions { mlps: false, ..Dimensions::new(layers, heads) };
    for (model, dimensions, edges) in [
        ("GPT-2 small", Dimensions::new(12, 12), 32_923),
        ("docstring, 4 layers", attention_only(4, 8), 1_377),
        ("redwood, 2 layers", attention_only(2, 8), 305),
    ] {
        let graph = Graph::new(dimensions);
        let counts = [dimensions.edges_by_acdc(), EdgeMask::full(&graph).count_by_acdc(&graph)];
        assert_eq!(counts, [edges; 2], "{model}");
        assert_eq!(EdgeMask::empty(&graph).count_by_acdc(&graph), 0, "{model}");
    }
    let check = |kv_slots, names: &[&str], edges: usize| {
        let graph = Graph::new(Dimensions { kv_slots, ..Dimensions::new(2, 4) });
        let mask = EdgeMask::of(&graph, names.iter().map(|name| graph.parse_edge(name).unwrap()));
        assert_eq!(mask.count_by_acdc(&graph), edges, "{names:?}");
    };
    check(4, &["input->m0", "m0->logits"], 2);
    check(4, &["input->a1.h0<q>", "m0->a1.h0<q>", "input->a1.h0<k>", "a1.h0->logits"], 6);
    // Heads that share keys share the direct edge from them.
    check(2, &["input->a1.kv1<v>", "a1.h2->logits", "a1.h3->logits"], 4);
}

#[test]
fn shared_slots_are_read_by_their_group_and_survive_pruning_and_files() {
    let graph = Graph::new(Dimensions { kv_slots: 2, ..Dimensions::new(2, 4) });
    let slot: Slot = "a1.kv1<k>".parse().unwrap();
    let names: Vec<String> = graph.readers(slot).iter().map(ToString::to_string).collect();
    assert_eq!(names, ["a1.h2", "a1.h3"]);
    for wrong in ["input->a1.h1<k>", "input->a1.kv2<v>", "input->a1.kv0<q>", "input->a2.kv0<v>"] {
        assert!(graph.parse_edge(wrong).is_err(), "{wrong}");
    }
    let edges = |names: &[&str]| EdgeMask::of(&graph, names.iter().map(|name| graph.parse_edge(name).unwrap()));
    // One head of the group is on a path, the other is not; an edge into keys that no head uses goes.
    let kept = edges(&["input->a1.kv1<v>", "a1.h3->logits"]);
    assert_eq!(prune(&graph, &edges(&["input->a1.kv1<v>", "a1.h3->logits", "input->a0.kv0<k>"])), kept);
    assert_eq!(kept.nodes(&graph).iter().map(ToString::to_string).collect::<Vec<_>>(), ["input", "a1.h3", "logits"]);
    let scores = Scores::zeros(&graph);
    for count in [1, 5, graph.edge_count()] {
        assert_eq!(greedy(&graph, &scores, count).unwrap().count(), count);
    }
}

/// The hashes are those of the key order in files that EAP-IG wrote for models of these sizes.
#[test]
fn edges_come_in_the_order_of_the_convention() {
    let check = |graph: Graph, hash: &str| {
        assert_eq!(blake3::hash(names(&graph).join("\n").as_bytes()).to_hex().as_str(), hash);
    };
    check(graph(12, 12, false), "abecf43499694bd7ece134ebec5a91896170ad8a69c607da093f2dc92369ca80");
    check(graph(2, 4, false), "106b5758b761767b164bbd22d3a5ac6ef2c8818aeadb947208bc89f9355bb9f6");
    check(graph(2, 2, true), "877a1d00af7486d1b64b346f6e0bb8983600a537e64f7eafe54e44a6d22ffcaa");

    let gpt2 = names(&graph(12, 12, false));
    assert_eq!(gpt2[..4], ["input->a0.h0<q>", "input->a0.h0<k>", "input->a0.h0<v>", "input->a0.h1<q>"]);
    assert_eq!(gpt2[36..38], ["input->m0", "a0.h0->m0"]);
    assert_eq!(gpt2[32_490], "m11->logits");
    let nodes: Vec<String> = graph(12, 12, false).nodes().map(|node| node.to_string()).collect();
    assert_eq!(
        blake3::hash(nodes.join("\n").as_bytes()).to_hex().as_str(),
        "7522674ad61904b8d7e521986ca47e7ef6eda415859168db4109f7680dfae94c"
    );
}

fn dimensions() -> impl Strategy<Value = Dimensions> {
    (1usize..6, 1usize..4, 1usize..3, any::<bool>(), any::<bool>()).prop_map(
        |(layers, kv_slots, group, parallel, mlps)| Dimensions {
            kv_slots,
            parallel,
            mlps,
            ..Dimensions::new(layers, kv_slots * group)
        },
    )
}

/// A graph with scores that tie now and then.
fn scored() -> impl Strategy<Value = (Graph, Scores)> {
    dimensions().prop_flat_map(|dimensions| {
        let graph = Graph::new(dimensions);
        let values = prop::collection::vec((-20i8..20).prop_map(|value| f32::from(value) / 8.0), graph.edge_count());
        values.prop_map(move |values| {
            let mut scores = Scores::zeros(&graph);
            for (edge, value) in graph.edges().iter().zip(values) {
                scores.set(*edge, value);
            }
            (graph.clone(), scores)
        })
    })
}

/// A random set of edges of a random graph.
fn masked() -> impl Strategy<Value = (Graph, EdgeMask)> {
    (dimensions(), 1u32..10).prop_flat_map(|(dimensions, tenths)| {
        let graph = Graph::new(dimensions);
        prop::collection::vec(prop::bool::weighted(f64::from(tenths) / 10.0), graph.edge_count()).prop_map(
            move |kept| {
                let edges = graph.edges().iter().zip(kept).filter_map(|(edge, kept)| kept.then_some(*edge));
                (graph.clone(), EdgeMask::of(&graph, edges))
            },
        )
    })
}

/// Whether something flows into a node and out of it, or need not.
fn has_in_and_out(graph: &Graph, mask: &EdgeMask, node: Node) -> (bool, bool) {
    let edges = mask.edges(graph);
    let into = edges.iter().any(|edge| graph.readers(graph.slot(edge.destination)).contains(&node));
    let out = edges.iter().any(|edge| graph.node(edge.source) == node);
    (into || node == Node::Input, out || node == Node::Logits)
}

/// Pruning as it is defined: drop the edges of dead ends until nothing changes.
fn prune_by_definition(graph: &Graph, mask: &EdgeMask) -> EdgeMask {
    let mut mask = mask.clone();
    loop {
        let alive: Vec<Node> =
            graph.nodes().filter(|node| has_in_and_out(graph, &mask, *node) == (true, true)).collect();
        let edges = mask.edges(graph).into_iter().filter(|edge| {
            alive.contains(&graph.node(edge.source))
                && graph.readers(graph.slot(edge.destination)).iter().any(|reader| alive.contains(reader))
        });
        let next = EdgeMask::of(graph, edges);
        if next == mask {
            return mask;
        }
        mask = next;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_closed_form_counts_the_edges(dimensions in dimensions()) {
        let Dimensions { layers, heads, kv_slots, parallel, mlps } = dimensions;
        let graph = Graph::new(dimensions);
        let mlp = usize::from(mlps);
        let before: usize = (0..layers).map(|layer| 1 + layer * (heads + mlp)).sum();
        let own = if parallel { 0 } else { layers * heads * mlp };
        let slots = heads + 2 * kv_slots + mlp;
        prop_assert_eq!(graph.edge_count(), slots * before + own + 1 + layers * (heads + mlp));
        prop_assert_eq!(graph.edge_count(), dimensions.edges());
        let columns: usize = (0..graph.destinations()).map(|index| graph.sources_before(Destination(index))).sum();
        prop_assert_eq!(graph.edge_count(), columns);
    }

    #[test]
    fn names_round_trip(dimensions in dimensions()) {
        let graph = Graph::new(dimensions);
        for edge in graph.edges() {
            prop_assert_eq!(graph.parse_edge(&graph.name(*edge)), Ok(*edge));
        }
        for node in graph.nodes() {
            prop_assert_eq!(node.to_string().parse::<Node>(), Ok(node));
        }
        for index in 0..graph.destinations() {
            let slot = graph.slot(Destination(index));
            prop_assert_eq!(slot.to_string().parse::<Slot>(), Ok(slot));
            prop_assert_eq!(graph.destination(slot), Destination(index));
        }
        for index in 0..graph.sources() {
            prop_assert_eq!(graph.source(graph.node(Source(index))), Some(Source(index)));
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "(input|a[0-9]{1,3}|m|logits|->|<[qkvx]>|\\.h|[0-9]|é){0,6}") {
        let graph = graph(2, 3, false);
        if let Ok(edge) = graph.parse_edge(&text) {
            prop_assert_eq!(graph.name(edge), text);
        }
    }

    #[test]
    fn selections_grow_with_their_size((graph, scores) in scored(), sizes in (0.0..1.0f64, 0.0..1.0f64)) {
        let size = |share: f64| 1 + (share * (graph.edge_count() - 1) as f64) as usize;
        let (small, large) = (size(sizes.0.min(sizes.1)), size(sizes.0.max(sizes.1)));
        for rank in [Rank::Absolute, Rank::Signed] {
            for select in [top_n, greedy_by] {
                let less = select(&graph, &scores, small, rank).unwrap();
                let more = select(&graph, &scores, large, rank).unwrap();
                prop_assert_eq!(less.count(), small);
                prop_assert_eq!(more.count(), large);
                prop_assert!(less.is_subset(&more));
            }
            let less = threshold(&graph, &scores, 1.0, rank);
            prop_assert!(less.is_subset(&threshold(&graph, &scores, 0.5, rank)));
            if less.count() > 0 {
                prop_assert_eq!(top_n(&graph, &scores, less.count(), rank).unwrap(), less);
            }
        }
    }

    #[test]
    fn greedy_edges_lead_to_the_logits((graph, scores) in scored(), share in 0.0..1.0f64) {
        let size = 1 + (share * (graph.edge_count() - 1) as f64) as usize;
        let mask = greedy(&graph, &scores, size).unwrap();
        for node in mask.nodes(&graph) {
            prop_assert!(has_in_and_out(&graph, &mask, node).1, "{} leads nowhere", node);
        }
    }

    #[test]
    fn pruning_keeps_exactly_what_leads_from_input_to_logits((graph, mask) in masked()) {
        let pruned = prune(&graph, &mask);
        prop_assert!(pruned.is_subset(&mask));
        prop_assert_eq!(&prune(&graph, &pruned), &pruned);
        for node in pruned.nodes(&graph) {
            prop_assert_eq!(has_in_and_out(&graph, &pruned, node), (true, true), "{}", node);
        }
        prop_assert_eq!(prune_by_definition(&graph, &mask), pruned);
    }

    #[test]
    fn masks_are_sets((graph, mask) in masked()) {
        let rest = mask.complement(&graph);
        prop_assert_eq!(mask.union(&rest), EdgeMask::full(&graph));
        prop_assert_eq!(mask.intersection(&rest), EdgeMask::empty(&graph));
        prop_assert_eq!(mask.count() + rest.count(), graph.edge_count());
        prop_assert_eq!(EdgeMask::of(&graph, mask.edges(&graph)), mask);
    }

    #[test]
    fn circuit_and_scores_files_round_trip((graph, scores) in scored(), scale in -1e30..1e30f32) {
        let scores = Scores { values: scores.values * (scale / 3.0) };
        let mask = top_n(&graph, &scores, graph.edge_count() / 2 + 1, Rank::Absolute).unwrap();
        let circuit = example(graph, scores, mask);
        let json = file::to_json(&circuit).unwrap();
        let read = file::parse(&json).unwrap();
        prop_assert_eq!(&read.mask, &circuit.mask);
        prop_assert_eq!(&read.report, &circuit.report);
        prop_assert_eq!(&read.provenance, &circuit.provenance);
        for edge in circuit.mask.edges(&circuit.graph) {
            prop_assert_eq!(read.scores.get(edge), circuit.scores.get(edge));
        }
        prop_assert_eq!(file::to_json(&read).unwrap(), json);

        let Circuit { provenance, graph, scores, .. } = circuit;
        let json = scores_file::to_json(&Table::new(&graph, Level::Edge, 0), &scores, &provenance).unwrap();
        let read = scores_file::parse(&json).unwrap();
        prop_assert_eq!(&read.scores, &scores);
        prop_assert_eq!(scores_file::to_json(&read.table(), &read.scores, &read.provenance).unwrap(), json);
    }
}

fn example(graph: Graph, scores: Scores, mask: EdgeMask) -> Circuit {
    let minimality = mask.edges(&graph).into_iter().map(|edge| EdgeCost { edge, cost: 0.1 / 3.0 }).collect();
    Circuit {
        provenance: Provenance {
            task: TaskRecord { name: "ioi".into(), hash: "5d41402a".into(), corruption: "s2-to-io".into() },
            model: ModelRecord { id: "toy-2l".into(), config_hash: "7d793037".into(), d_model: None },
            method: MethodRecord { name: "eap-ig".into(), options: IndexMap::from([("steps".into(), 5.into())]) },
            selection: Some(SelectionRecord { rule: "top-n".into(), options: IndexMap::new() }),
            ablation: "counterfactual".into(),
            seed: 7,
            pairs: 64,
            threads: 2,
            penjing: "0.1.0".into(),
        },
        report: Some(Report {
            pairs: 100,
            metric: "logit-difference".into(),
            metric_model: 3.1,
            metric_ablated: -2.9,
            metric_circuit: 2.7,
            faithfulness: 5.6 / 6.0,
            faithfulness_interval: [0.9, 0.95],
            completeness: 0.05,
            accuracy_model: 1.0,
            accuracy_ablated: 0.02,
            accuracy_circuit: 0.98,
            kl: 1e-3,
            minimality,
            minimality_of_nodes: Vec::new(),
            random: Some(RandomBaseline {
                circuits: 20,
                edges: mask.count(),
                mean: 0.01,
                max: 0.2,
                min: -f64::EPSILON,
            }),
            random_of_degree: Some(RandomBaseline {
                circuits: 20,
                edges: mask.count(),
                mean: 0.02,
                max: 0.3,
                min: 0.0,
            }),
            metric_model_error: 0.1 / 7.0,
            tests: Hypothesis::ALL
                .map(|hypothesis| Test { hypothesis, count: 7, of: 50, p: 0.1 / 3.0, p_adjusted: 1.0 / 6.0 })
                .to_vec(),
            stability: Some(Stability {
                resamples: 200,
                jaccard: 0.9,
                jaccard_range: [0.8, 1.0],
                jaccard_with_all: 0.95,
                one_sign: 3,
                scored: 5,
                edges: mask
                    .edges(&graph)
                    .into_iter()
                    .map(|edge| EdgeStability { edge, interval: [-0.1 / 3.0, 0.7], selected: 0.995 })
                    .collect(),
            }),
            held_out: Some(HeldOut {
                pairs: 60,
                faithfulness: 0.91,
                interval: [0.88, 0.93],
                faithfulness_of_all: 0.92,
                templates: vec![Template {
                    name: "abba".into(),
                    pairs: 30,
                    faithfulness: 0.9,
                    interval: [0.87, 0.94],
                    faithfulness_of_all: 0.93,
                    jaccard: 2.0 / 3.0,
                }],
            }),
        }),
        graph,
        scores,
        mask,
        roles: vec![
            Found {
                node: Node::Head(Layer(0), Head(0)),
                role: Role::Mover,
                value: 0.625,
                evidence: vec![("copies".into(), 0.75)],
            },
            Found {
                node: Node::Head(Layer(0), Head(0)),
                role: Role::Attends("S2".into()),
                value: 0.5,
                evidence: vec![],
            },
        ],
    }
}

fn small_example() -> Circuit {
    let graph = graph(1, 1, false);
    let mut scores = Scores::zeros(&graph);
    for (edge, score) in graph.edges().iter().zip([0.25, -0.125, 0.5, 1e-7, 3.0]) {
        scores.set(*edge, score);
    }
    let mask = EdgeMask::of(&graph, ["input->m0", "m0->logits"].map(|name| graph.parse_edge(name).unwrap()));
    example(graph, scores, mask)
}

#[test]
fn circuit_file_as_written() {
    insta::assert_snapshot!(file::to_json(&small_example()).unwrap());
}

#[test]
fn damaged_circuit_files_are_refused() {
    let good = file::to_json(&small_example()).unwrap();
    assert!(file::parse(&good).is_ok());
    let check = |from: &str, to: &str, message: &str| {
        assert!(good.contains(from), "{from}");
        let error = file::parse(&good.replacen(from, to, 1)).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.hint().is_some(), "{error} has no hint");
    };
    check("penjing.circuit/1", "penjing.circuit/2", "the schema is `penjing.circuit/2`, not `penjing.circuit/1`");
    check("\"input->m0\"", "\"input-m0\"", "`input-m0` is not the name of an edge");
    check("\"input->m0\"", "\"input->m1\"", "there is no m1 in a model of 1 layers with 1 heads");
    check("\"input->m0\"", "\"m0->m0\"", "there is no edge m0->m0");
    check("\"input->m0\"", "\"m0->logits\"", "edge m0->logits is listed twice");
    check("\"sources\": 3", "\"sources\": 4", "`graph.sources` is 4, but 1 layers with 1 heads have 3");
    check("\"destinations\": 5", "\"destinations\": 6", "`graph.destinations` is 6");
    check("\"edges\": 8", "\"edges\": 9", "`graph.edges` is 9");
    check("\"layers\": 1", "\"layers\": 4000000000000000000", "`graph.sources` is 3");
    check("\"input\",", "", "`nodes` does not list the nodes that the edges touch");
    check("\"seed\"", "\"sed\"", "missing field `seed`");
    let error = file::parse(&good[..good.len() / 2]).unwrap_err();
    assert!(error.to_string().contains("line"), "{error}");
}

#[test]
fn a_report_without_numbers_survives() {
    let mut circuit = small_example();
    let report = circuit.report.as_mut().unwrap();
    report.faithfulness = f64::NAN;
    report.faithfulness_interval = [f64::NEG_INFINITY, 1.0];
    let read = file::parse(&file::to_json(&circuit).unwrap()).unwrap().report.unwrap();
    assert!(read.faithfulness.is_nan() && read.faithfulness_interval[0].is_nan());
    assert_eq!(read.faithfulness_interval[1], 1.0);
}

#[test]
fn score_files_must_be_whole() {
    let Circuit { provenance, graph, scores, .. } = small_example();
    let good = scores_file::to_json(&Table::new(&graph, Level::Edge, 0), &scores, &provenance).unwrap();
    let check = |from: &str, to: &str, message: &str| {
        assert!(good.contains(from), "{from}");
        let error = scores_file::parse(&good.replacen(from, to, 1)).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.hint().is_some());
    };
    check("\"a0.h0->m0\"", "\"input->m0\"", "1 of the graph's 8 edges have no score, the first is a0.h0->m0");
    check("0.25", "null", "line");
    check("penjing.scores/1", "penjing.circuit/1", "the schema is `penjing.circuit/1`, not `penjing.scores/1`");
}

#[test]
fn scores_above_edge_level_round_trip_with_their_level() {
    let Circuit { provenance, .. } = small_example();
    for kv_slots in [2, 4] {
        let graph = Graph::new(Dimensions { kv_slots, ..Dimensions::new(2, 4) });
        for level in Level::ALL {
            let units = Table::new(&graph, level, 3);
            let mut scores = Scores { values: ndarray::Array2::zeros(units.shape()) };
            for (index, cell) in units.cells().into_iter().enumerate() {
                scores.values[cell] = index as f32 / 3.0 - 1.0;
            }
            let json = scores_file::to_json(&units, &scores, &provenance).unwrap();
            assert_eq!(json.contains("\"level\""), level != Level::Edge);
            assert_eq!(json.contains("\"neurons\""), level == Level::Neuron);
            let read = scores_file::parse(&json).unwrap();
            assert_eq!((&read.scores, read.level), (&scores, level));
            assert_eq!(scores_file::to_json(&read.table(), &read.scores, &read.provenance).unwrap(), json);
            if level == Level::Edge {
                continue;
            }
            let check = |from: &str, to: &str, message: &str| {
                let error = scores_file::parse(&json.replacen(from, to, 1)).unwrap_err();
                assert!(error.to_string().contains(message), "{error}");
                assert!(error.hint().is_some());
            };
            let count = units.count();
            let missing = format!("1 of the graph's {count} units have no score, the first is a0.h1");
            check("\"a0.h1\"", "\"a0.h2\"", &missing);
            check("\"a0.h1\"", "\"a0.h4\"", "there is no a0.h4 in a model");
            check("\"a0.h1\"", "\"logits\"", "there is no logits in a model");
            check(&format!("\"{level}\""), "\"layer\"", "`layer` is no level");
            if level == Level::Neuron {
                check("\"neurons\": 3", "\"neurons\": 18446744073709551615", "is too large");
            }
        }
    }
}

#[test]
fn files_are_written_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("circuit.json");
    let circuit = small_example();
    for _ in 0..2 {
        file::write(&path, &circuit).unwrap();
        assert_eq!(file::read(&path).unwrap().mask, circuit.mask);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    let error = file::write(&folder.path().join("missing/circuit.json"), &circuit).unwrap_err();
    assert!(error.to_string().starts_with("cannot write"), "{error}");
    let error = file::read(&folder.path().join("other.json")).unwrap_err();
    assert!(error.to_string().starts_with("cannot read") && error.hint().is_some(), "{error}");
    std::fs::write(&path, "{").unwrap();
    assert!(file::read(&path).unwrap_err().to_string().contains("circuit.json: not the expected JSON"));
}

#[test]
fn eap_ig_files_round_trip() {
    let graph = graph(2, 2, false);
    let mut scores = Scores::zeros(&graph);
    for (index, edge) in graph.edges().iter().enumerate() {
        scores.set(*edge, index as f32 / 7.0 - 1.0);
    }
    let mask = prune(&graph, &top_n(&graph, &scores, 20, Rank::Absolute).unwrap());
    let json = eap_json::EapJson::new(&graph, &mask, &scores, 16).to_json().unwrap();
    let start = concat!(
        r#"{"cfg":{"n_layers":2,"n_heads":2,"parallel_attn_mlp":false,"d_model":16},"#,
        r#""nodes":{"input":{"in_graph":true},"a0.h0""#
    );
    assert!(json.starts_with(start), "{json}");
    let read = eap_json::parse(&json).unwrap();
    let built = read.build().unwrap();
    assert_eq!((built.graph.dimensions, &built.mask, &built.scores), (graph.dimensions, &mask, &scores));
    assert_eq!(read.to_json().unwrap(), json);
}

#[test]
fn eap_ig_files_keep_what_penjing_does_not_know() {
    let text = concat!(
        r#"{"cfg":{"n_layers":1,"n_heads":1,"parallel_attn_mlp":false,"d_model":4,"seed":"x"},"#,
        r#""nodes":{"input":{"in_graph":true},"a0.h0":true,"m0":{"in_graph":false,"score":0.5}},"#,
        r#""edges":{"input->m0":{"score":-0.0002955848758574575,"in_graph":false,"weight":1},"#,
        r#""input->logits":{"score":-3.661245955299819e-6,"in_graph":true}},"note":[1,null]}"#,
    );
    let read = eap_json::parse(text).unwrap();
    assert_eq!(read.to_json().unwrap(), text);
    let built = read.build().unwrap();
    assert_eq!(built.mask.edges(&built.graph), [built.graph.parse_edge("input->logits").unwrap()]);
    let check = |from: &str, to: &str, message: &str| {
        let error = eap_json::parse(&text.replacen(from, to, 1)).and_then(|read| read.build()).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    };
    check("input->m0", "input->m3", "there is no m3");
    check("\"n_layers\":1", "\"n_layers\":9999999", "is too large");
    check("-0.0002955848758574575", "NaN", "not the expected JSON");
}
