//! How faithful circuits of one size are by how their edges are chosen, on the built-in tasks.
//!
//! `cargo run --release --example selection -- [MODEL...]` scores 64 training pairs with eap-ig, chooses circuits of 5 % of the
//! edges and of the size of the circuit in circuits/TASK-MODEL.json by each ranking, filled up to that size where dead ends were
//! pruned, and prints their faithfulness on 100 held-out pairs. Before that it prints what node prices do on 100 other training
//! pairs, so that a price can be chosen without the held-out ones. `--write FOLDER` writes the scores and circuits as
//! TASK-MODEL.json, for `scripts/connected_optimum.py`.

use penjing::circuit::EdgeMask;
use penjing::circuit::file::{self, Options};
use penjing::circuit::prune::prune;
use penjing::discover::parts::Parts;
use penjing::discover::{NODE_PRICE, Ranking};
use penjing::eval::Bench;
use penjing::eval::bootstrap::faithfulness;
use penjing::graph::scores::Scores;
use penjing::graph::{Dimensions, Graph, KvSlots, Level};
use penjing::model::{Loaded, load};
use penjing::score::{Method, Problem, eap_ig, score};
use penjing::task::{self, Expansion, Split, Task};
use penjing::{dataset, dataset::TokenPair};
use serde_json::json;
use std::path::{Path, PathBuf};

const PRICES: [f64; 7] = [0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 8.0];
/// How far below greedy's a faithfulness counts as no worse.
const SLACK: f64 = 0.005;

/// A task in a model: what its edges score and the circuits to choose.
struct Case {
    task: Task,
    scores: Scores,
    sizes: Vec<usize>,
}

fn pairs(task: &Task, loaded: &Loaded, split: Split, pairs: usize, seed: u64) -> Vec<TokenPair> {
    let prompts = task::expand(task, &Expansion { split, pairs, seed, corruption: None }).unwrap();
    dataset::tokenize(&prompts, &loaded.tokenizer, task.bos).unwrap().pairs
}

/// The circuit of `size` edges by a ranking, or of one less where pruning leaves no other choice.
fn circuit(graph: &Graph, case: &Case, ranking: Ranking, size: usize) -> EdgeMask {
    let parts = Parts { graph, scores: &case.scores, level: Level::Edge };
    prune(graph, &parts.fill(ranking, size).and_then(|taken| parts.take(ranking, taken)).unwrap())
}

fn label(ranking: Ranking) -> String {
    match ranking {
        Ranking::NetValue { node_price } => format!("net-value, node price {node_price}"),
        other => other.name().to_owned(),
    }
}

/// Writes scores by edge, and edges by ranking and size.
fn write(graph: &Graph, case: &Case, path: &Path) {
    let free = Ranking::NetValue { node_price: 0.0 };
    let price = Ranking::NetValue { node_price: NODE_PRICE };
    let rankings = [Ranking::Absolute, Ranking::Signed, Ranking::Greedy, free, price];
    let scores: Options = graph.edges().iter().map(|&e| (graph.name(e), json!(case.scores.get(e)))).collect();
    let names = |mask: EdgeMask| mask.edges(graph).into_iter().map(|edge| graph.name(edge)).collect::<Vec<_>>();
    let of = |ranking| -> Options {
        case.sizes.iter().map(|&n| (n.to_string(), json!(names(circuit(graph, case, ranking, n))))).collect()
    };
    let circuits: Options = rankings.iter().map(|&ranking| (label(ranking), json!(of(ranking)))).collect();
    std::fs::write(path, json!({ "scores": scores, "circuits": circuits }).to_string()).unwrap();
}

/// The faithfulness of each ranking's circuits: `[ranking][task · size]`.
fn measured(cases: &[Case], loaded: &Loaded, graph: &Graph, rankings: &[Ranking], held_out: bool) -> Vec<Vec<f64>> {
    let mut found = vec![Vec::new(); rankings.len()];
    for case in cases {
        let (split, seed) = if held_out { (Split::Test, 0) } else { (Split::Train, 1) };
        let pairs = pairs(&case.task, loaded, split, 100, seed);
        let bench = Bench::new(&Problem::new(&loaded.model, graph, &pairs, case.task.metric)).unwrap();
        let [model, ablated] = [bench.clean(), bench.ablated()].map(|outcome| outcome.mean_metric());
        for &size in &case.sizes {
            for (ranking, found) in rankings.iter().zip(&mut found) {
                let circuit = circuit(graph, case, *ranking, size);
                if circuit.count() != size {
                    eprintln!("{}: {} edges instead of {size} by {ranking:?}", case.task.name, circuit.count());
                }
                found.push(faithfulness(bench.circuit(&circuit).mean_metric(), ablated, model));
            }
        }
    }
    found
}

fn no_worse(ours: &[f64], theirs: &[f64]) -> usize {
    ours.iter().zip(theirs).filter(|(ours, theirs)| **ours >= **theirs - SLACK).count()
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

fn cases(name: &str, loaded: &Loaded, graph: &Graph) -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let case = |task: &str| {
        let task = task::built_in(task).unwrap();
        let pairs = pairs(&task, loaded, Split::Train, 64, 0);
        let problem = Problem::new(&loaded.model, graph, &pairs, task.metric);
        let scores = score(&problem, &Method::EapIg(eap_ig::Options::default()), &mut |_| ()).unwrap();
        let circuit = file::read(&root.join(format!("circuits/{}-{name}.json", task.name))).unwrap();
        Case { task, scores, sizes: vec![graph.edge_count() / 20, circuit.mask.count()] }
    };
    task::built_in_names().map(case).collect()
}

fn main() {
    tch::set_num_threads(1);
    let (mut models, mut folder) = (Vec::new(), None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--write" { folder = arguments.next().map(PathBuf::from) } else { models.push(argument) }
    }
    if models.is_empty() {
        models.push("toy-4l".to_owned());
    }
    for name in &models {
        let loaded = load(name).unwrap();
        let graph = Graph::new(Dimensions::of(&loaded.model.spec, KvSlots::default()));
        let cases = cases(name, &loaded, &graph);
        let count = cases.len();

        println!("\n{name}, {} edges: node prices on training pairs\n", graph.edge_count());
        println!(
            "| ranking | mean, 5 % | mean, found size | no worse than greedy, 5 % | found size |\n|---|---|---|---|---|"
        );
        let mut rankings = vec![Ranking::Greedy];
        rankings.extend(PRICES.map(|node_price| Ranking::NetValue { node_price }));
        let found = measured(&cases, &loaded, &graph, &rankings, false);
        let of_size = |values: &[f64], size: usize| values.iter().copied().skip(size).step_by(2).collect::<Vec<f64>>();
        for (ranking, values) in rankings.iter().zip(&found) {
            let [five, own] = [0, 1].map(|size| of_size(values, size));
            let label = label(*ranking);
            let [wins, own_wins] =
                [(&five, 0), (&own, 1)].map(|(ours, size)| no_worse(ours, &of_size(&found[0], size)));
            let (five, own) = (mean(five.into_iter()), mean(own.into_iter()));
            println!("| {label} | {five:.4} | {own:.4} | {wins} of {count} | {own_wins} of {count} |");
        }

        println!("\n{name}: rankings on held-out pairs, node price {NODE_PRICE}\n");
        let price = Ranking::NetValue { node_price: NODE_PRICE };
        let rankings = [Ranking::Absolute, Ranking::Signed, Ranking::Greedy, price];
        if let Some(folder) = &folder {
            for case in &cases {
                write(&graph, case, &folder.join(format!("{}-{name}.json", case.task.name)));
            }
        }
        let found = measured(&cases, &loaded, &graph, &rankings, true);
        println!("| task | edges | absolute | signed | greedy | net-value |\n|---|---|---|---|---|---|");
        for size in 0..2 {
            for (task, case) in cases.iter().enumerate() {
                let row: Vec<String> = found.iter().map(|values| format!("{:.3}", values[2 * task + size])).collect();
                println!("| {} | {} | {} |", case.task.name, case.sizes[size], row.join(" | "));
            }
            let columns: Vec<Vec<f64>> = found.iter().map(|values| of_size(values, size)).collect();
            let row: Vec<String> =
                columns.iter().map(|values| format!("{:.3}", mean(values.iter().copied()))).collect();
            println!("| mean | | {} |", row.join(" | "));
            println!("\nno worse than greedy: {} of {count}\n", no_worse(&columns[3], &columns[2]));
        }
    }
}
