//! `penjing compare`: what circuits have in common, of one model edge by edge, across models node by node.

use super::Ended;
use super::term::{Usage, make_folder, note, print, print_json, write};
use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use penjing::circuit::file::{Circuit, MethodRecord, Options};
use penjing::circuit::import::{self, Imported};
use penjing::circuit::{file, scores_file};
use penjing::compare::matching::Matching;
use penjing::compare::overlap::Overlap;
use penjing::compare::reference::{Agreement, agreement};
use penjing::compare::{Compared, PARTS, Pair, SameGraph, Summary, figure, page};
use penjing::render::style::{Style, StyleError};
use penjing::render::svg;
use penjing::render::theme::Theme;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Compare {
    /// Two or more circuit files; or a task, with --models
    #[arg(required = true, value_name = "CIRCUIT")]
    circuits: Vec<String>,
    /// Compare the circuits of a task in these models; those that are not in runs/ yet are discovered
    #[arg(long, value_delimiter = ',', value_name = "MODEL")]
    models: Vec<String>,
    /// How nodes correspond: by their numbers, for circuits of one model, or by what they do
    #[arg(long, value_enum, value_name = "HOW")]
    by: Option<By>,
    /// A published circuit, to measure each circuit against
    #[arg(long, value_name = "CIRCUIT")]
    reference: Option<PathBuf>,
    /// Save what two circuits of one model make together: union=FILE, intersection=FILE or difference=FILE
    #[arg(long, value_name = "SET=FILE")]
    save: Vec<String>,
    /// Colours of the figure: paper, dark, colour-blind-safe, greyscale
    #[arg(long, default_value = "paper", value_name = "NAME")]
    theme: String,
    /// Folder for comparison.html, comparison.svg and comparison.json
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
enum By {
    Edges,
    Roles,
}

pub fn run(command: &Compare, as_json: bool) -> anyhow::Result<Ended> {
    let theme = Theme::named(&command.theme).ok_or_else(|| StyleError::Theme { name: command.theme.clone() });
    let theme = theme.map_err(penjing::Error::from)?;
    let all = command.circuits()?;
    let [first, others @ ..] = &all[..] else { return Ok(Ended::Done) };
    if others.is_empty() && command.reference.is_none() {
        let message = "there is nothing to compare the circuit with".to_owned();
        return Err(Usage { message, hint: "name another circuit file, or a --reference".into() }.into());
    }
    let pairs = Pair::all(&all);
    if command.by == Some(By::Edges)
        && let Some((other, _)) = others.iter().zip(&pairs).find(|(_, pair)| pair.same_graph.is_none())
    {
        let message =
            format!("{} and {} are of different models, so their edges do not correspond", first.name, other.name);
        return Err(Usage { message, hint: "take --by roles: nodes are then matched by what they do".into() }.into());
    }
    if let Some(other) = others.iter().find(|other| task(other) != task(first)) {
        note(&format!("note: {} and {} are of different tasks", first.name, other.name));
    }
    let sets = command.sets(&all, &pairs)?;
    let references = match &command.reference {
        Some(path) => Some(all.iter().map(|one| against(one, path, command)).collect::<anyhow::Result<Vec<_>>>()?),
        None => None,
    };
    let summaries: Vec<Summary> = all.iter().map(Summary::new).collect();
    let document = document(&all, &summaries, &pairs, references.as_deref(), command.by);
    for (path, circuit) in sets {
        file::write(&path, &circuit).map_err(penjing::Error::from)?;
    }
    let mut written = Vec::new();
    if let Some(out) = &command.out {
        make_folder(out)?;
        let style = Style { theme, ..Style::default() };
        let drawing = svg::draw(&figure::side_by_side(&all, &pairs, &style));
        write(out, "comparison.json", (serde_json::to_string_pretty(&document)? + "\n").as_bytes())?;
        write(out, "comparison.svg", drawing.as_bytes())?;
        let page = page::html(&all, &pairs, &drawing, command.by != Some(By::Roles));
        write(out, "comparison.html", page.as_bytes())?;
        written = ["comparison.html", "comparison.svg", "comparison.json"].map(|name| out.join(name)).to_vec();
    }
    if as_json {
        print_json(&document)?;
        return Ok(Ended::Done);
    }
    let mut text = summary_table(&all, &summaries).to_string();
    for pair in &pairs {
        let [first, second] = pair.places.map(|place| &all[place].name);
        text += &format!("\n\n{first} and {second}\n\n{}", in_words(pair, command.by));
    }
    for (one, agreement) in all.iter().zip(references.iter().flatten()) {
        text += &format!("\n\n{} against the reference\n\n{}", one.name, reference_table(agreement));
    }
    for path in written {
        text += &format!("\n\n{}", path.display());
    }
    print(&text)?;
    Ok(Ended::Done)
}

impl Compare {
    fn circuits(&self) -> anyhow::Result<Vec<Compared>> {
        let paths: Vec<(String, PathBuf)> = if self.models.is_empty() {
            self.circuits.iter().map(|path| (path.clone(), PathBuf::from(path))).collect()
        } else {
            let [task] = &self.circuits[..] else {
                let message = format!("--models takes one task, not {} circuits", self.circuits.len());
                return Err(Usage { message, hint: "penjing compare ioi --models toy-2l,toy-4l".into() }.into());
            };
            self.models
                .iter()
                .map(|model| Ok((model.clone(), discovered(task, model)?)))
                .collect::<anyhow::Result<_>>()?
        };
        paths
            .into_iter()
            .map(|(name, path)| {
                let circuit = import::read(&path).map_err(penjing::Error::from)?;
                Ok(Compared { name: short(&name), circuit })
            })
            .collect()
    }

    /// The circuits that are to be saved, with their files.
    fn sets(&self, all: &[Compared], pairs: &[Pair]) -> anyhow::Result<Vec<(PathBuf, Circuit)>> {
        let usage = |message: String, hint: &str| Usage { message, hint: hint.into() };
        let save = |asked: &String| -> anyhow::Result<(PathBuf, Circuit)> {
            let ([a, b], [pair]) = (all, pairs) else {
                return Err(usage("--save takes two circuits".into(), "name two circuit files").into());
            };
            let (set, path) = asked
                .split_once('=')
                .filter(|(_, path)| !path.is_empty())
                .ok_or_else(|| usage(format!("--save `{asked}` names no file"), "write --save union=both.json"))?;
            if pair.same_graph.is_none() {
                let message = "circuits of different models have no edges in common that could be saved".to_owned();
                return Err(usage(message, "name two circuits of one model").into());
            }
            let (Imported::Own(one), Imported::Own(other)) = (&a.circuit, &b.circuit) else {
                let message = "circuits in EAP-IG's layout do not say where they come from".to_owned();
                return Err(usage(message, "name two circuit.json files").into());
            };
            let mask = match set {
                "union" => one.mask.union(&other.mask),
                "intersection" => one.mask.intersection(&other.mask),
                "difference" => one.mask.difference(&other.mask),
                _ => {
                    let message = format!("--save knows no `{set}`");
                    return Err(usage(message, "the sets are union, intersection and difference").into());
                }
            };
            let mut scores = one.scores.clone();
            for edge in other.mask.difference(&one.mask).edges(&one.graph) {
                scores.set(edge, other.scores.get(edge));
            }
            let mut circuit = Circuit { mask, scores, report: None, ..(**one).clone() };
            let of = [&a.name, &b.name];
            circuit.provenance.method =
                MethodRecord { name: set.into(), options: Options::from([("of".to_owned(), json!(of))]) };
            circuit.provenance.selection = None;
            Ok((PathBuf::from(path), circuit))
        };
        self.save.iter().map(save).collect()
    }
}

/// The circuit of a task in a model, found now if it was not before.
#[cfg(feature = "torch")]
fn discovered(task: &str, model: &str) -> anyhow::Result<PathBuf> {
    let folder = super::discover::default_out(task, model)?;
    let path = folder.join("circuit.json");
    if !path.exists() {
        note(&format!("{} does not exist; discovering the circuit of {task} in {model}", path.display()));
        super::discover::find_by_default(task, model)?;
    }
    Ok(path)
}

#[cfg(not(feature = "torch"))]
fn discovered(task: &str, model: &str) -> anyhow::Result<PathBuf> {
    let path = PathBuf::from("runs").join(format!("{task}-{model}")).join("circuit.json");
    if path.exists() {
        return Ok(path);
    }
    let message = format!("{} does not exist, and this penjing was built without libtorch", path.display());
    Err(Usage { message, hint: "discover it with a penjing that has the feature `torch`".into() }.into())
}

/// The folder of a file that has the usual name, else the file without its ending.
fn short(name: &str) -> String {
    let path = Path::new(name);
    let stem = path.file_stem().map_or_else(|| name.to_owned(), |stem| stem.to_string_lossy().into_owned());
    if stem == "circuit"
        && let Some(folder) = path.parent().and_then(Path::file_name)
    {
        return folder.to_string_lossy().into_owned();
    }
    if path.extension().is_some_and(|ending| ending == "json") { stem } else { name.to_owned() }
}

fn task(of: &Compared) -> Option<&str> {
    of.subject().map(|(task, _)| task)
}

/// A circuit against a published one; the ranking is that of scores.json beside the circuit, if there is one.
fn against(one: &Compared, path: &Path, command: &Compare) -> anyhow::Result<[Agreement; 2]> {
    let published = import::read(path).map_err(penjing::Error::from)?;
    let graph = one.circuit.graph();
    if published.graph().dimensions != graph.dimensions {
        let message = format!("{} is a circuit of another graph than {}", path.display(), one.name);
        return Err(
            Usage { message, hint: "published circuits are of GPT-2 small, 12 layers of 12 heads".into() }.into()
        );
    }
    let beside = command
        .circuits
        .iter()
        .find(|name| short(name) == one.name)
        .map(|name| Path::new(name).with_file_name("scores.json"));
    let read = match (&one.circuit, beside.filter(|path| path.exists())) {
        (Imported::Own(_), Some(path)) => Some(scores_file::read(&path).map_err(penjing::Error::from)?),
        _ => None,
    };
    let ranked = match &one.circuit {
        Imported::Eap(file) => Some(&file.says.scores),
        Imported::Own(_) => read.as_ref().map(|read| &read.scores),
    };
    Ok(agreement(graph, one.circuit.mask(), ranked, published.mask()))
}

fn aligned(mut table: Table, columns: usize) -> Table {
    table.load_style(presets::NOTHING);
    for column in 1..columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

fn summary_table(all: &[Compared], summaries: &[Summary]) -> Table {
    let mut table = Table::new();
    table.set_header(std::iter::once(String::new()).chain(all.iter().map(|one| one.name.clone())));
    let mut row = |name: &str, value: &dyn Fn(&Summary) -> String| {
        table.add_row(std::iter::once(name.to_owned()).chain(summaries.iter().map(value)));
    };
    row("layers × heads", &|of| format!("{} × {}", of.layers, of.heads_of_model));
    row("heads", &|of| of.heads.to_string());
    row("MLPs", &|of| of.mlps.to_string());
    row("edges", &|of| format!("{} ({:.1} %)", of.edges, 100.0 * of.share_of_edges));
    row("faithfulness", &|of| match of.faithfulness {
        Some((value, [low, high])) => format!("{value:.3} [{low:.3}, {high:.3}]"),
        None => "not measured".into(),
    });
    let share = |shares: &[f64], index: usize| match shares.iter().sum::<f64>() {
        sum if sum > 0.0 => percent(shares[index]),
        _ => "no scores".into(),
    };
    for (index, writer) in ["input", "heads", "MLPs"].into_iter().enumerate() {
        row(&format!("|score| from {writer}"), &|of| share(&of.written_by, index));
    }
    for part in 0..PARTS {
        row(&format!("|score| from depth {}/{PARTS}", part + 1), &|of| share(&of.by_depth, part));
    }
    aligned(table, all.len() + 1)
}

fn in_words(pair: &Pair, by: Option<By>) -> String {
    match &pair.same_graph {
        Some(same) if by != Some(By::Roles) => same_graph_table(same).to_string(),
        _ => matching_table(&pair.matching),
    }
}

fn same_graph_table(same: &SameGraph) -> Table {
    let mut table = Table::new();
    table.set_header(["", "first", "second", "both", "Jaccard", "by chance", "p"]);
    for (name, overlap) in [("edges", &same.edges), ("nodes", &same.nodes)] {
        let Overlap { a, b, both, jaccard, interval: [low, high], chance, chance_interval: [least, most], p, .. } =
            overlap;
        table.add_row([
            name.to_owned(),
            a.to_string(),
            b.to_string(),
            both.to_string(),
            format!("{jaccard:.3} [{low:.3}, {high:.3}]"),
            format!("{chance:.3} [{least:.3}, {most:.3}]"),
            if *p < 1e-4 { format!("{p:.0e}") } else { format!("{p:.4}") },
        ]);
    }
    let (correlation, common) = same.rank_correlation;
    if let Some(correlation) = correlation {
        let cells = ["rank correlation of scores", "", "", &common.to_string(), &format!("{correlation:.3}"), "", ""];
        table.add_row(cells.map(str::to_owned));
    }
    aligned(table, 7)
}

fn matching_table(matching: &Matching) -> String {
    let mut table = Table::new();
    table.set_header(["first", "second", "cost", "depth", "effect", "role"]);
    for pair in &matching.pairs {
        let cost = pair.cost;
        let numbers = [cost.sum(), cost.depth, cost.profile, cost.role].map(|number| format!("{number:.3}"));
        table.add_row([pair.a.to_string(), pair.b.to_string()].into_iter().chain(numbers));
    }
    let alone = |nodes: &[penjing::graph::Node]| match nodes {
        [] => "none".to_owned(),
        nodes => nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    format!(
        "{}\n\nonly in the first: {}\nonly in the second: {}\ncost of the matching: {:.3}",
        aligned(table, 6),
        alone(&matching.only_a),
        alone(&matching.only_b),
        matching.cost
    )
}

fn reference_table(agreement: &[Agreement; 2]) -> Table {
    let mut table = Table::new();
    table.set_header(["", "chosen", "published", "both", "precision", "recall", "AUROC", "average precision"]);
    for (name, of) in ["edges", "nodes"].into_iter().zip(agreement) {
        let ranking = |number: fn(&penjing::compare::reference::Ranking) -> f64| {
            of.ranking.as_ref().map_or_else(|| "no scores.json".into(), |ranking| format!("{:.3}", number(ranking)))
        };
        table.add_row([
            name.to_owned(),
            of.chosen.to_string(),
            of.wanted.to_string(),
            of.both.to_string(),
            format!("{:.3}", of.precision),
            format!("{:.3}", of.recall),
            ranking(|ranking| ranking.auroc),
            ranking(|ranking| ranking.average_precision),
        ]);
    }
    aligned(table, 8)
}

/// `comparison.json`, `penjing.comparison/1`.
fn document(
    all: &[Compared],
    summaries: &[Summary],
    pairs: &[Pair],
    references: Option<&[[Agreement; 2]]>,
    by: Option<By>,
) -> Value {
    let circuits: Vec<Value> = all
        .iter()
        .zip(summaries)
        .map(|(one, of)| {
            json!({
                "name": one.name,
                "task": one.subject().map(|(task, _)| task),
                "model": one.subject().map(|(_, model)| model),
                "layers": of.layers,
                "heads_of_model": of.heads_of_model,
                "heads": of.heads,
                "mlps": of.mlps,
                "edges": of.edges,
                "share_of_edges": of.share_of_edges,
                "score_from_input_heads_mlps": of.written_by,
                "score_by_depth": of.by_depth,
                "faithfulness": of.faithfulness.map(|(value, _)| value),
                "faithfulness_interval": of.faithfulness.map(|(_, interval)| interval),
            })
        })
        .collect();
    let overlap = |of: &Overlap| {
        json!({
            "first": of.a, "second": of.b, "both": of.both, "of": of.of,
            "jaccard": of.jaccard, "interval": of.interval,
            "by_chance": of.chance, "by_chance_interval": of.chance_interval, "p": of.p,
        })
    };
    let pair = |pair: &Pair| {
        let [first, second] = pair.places.map(|place| &all[place]);
        let same = pair.same_graph.as_ref().filter(|_| by != Some(By::Roles)).map(|same| {
            let graph = second.circuit.graph();
            let names = |edges: &[penjing::graph::Edge]| edges.iter().map(|edge| graph.name(*edge)).collect::<Vec<_>>();
            json!({
                "edges": overlap(&same.edges),
                "nodes": overlap(&same.nodes),
                "rank_correlation": same.rank_correlation.0,
                "only_first": names(&same.only_a),
                "only_second": names(&same.only_b),
            })
        });
        let names = |nodes: &[penjing::graph::Node]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>();
        let matched = pair.matching.pairs.iter().map(|pair| {
            json!({
                "first": pair.a.to_string(), "second": pair.b.to_string(),
                "depth": pair.cost.depth, "effect": pair.cost.profile, "role": pair.cost.role,
            })
        });
        json!({
            "first": first.name,
            "second": second.name,
            "same_graph": same,
            "matching": {
                "pairs": matched.collect::<Vec<_>>(),
                "only_first": names(&pair.matching.only_a),
                "only_second": names(&pair.matching.only_b),
                "cost": pair.matching.cost,
            },
        })
    };
    let mut document = json!({
        "schema": "penjing.comparison/1",
        "circuits": circuits,
        "pairs": pairs.iter().map(pair).collect::<Vec<_>>(),
    });
    if let Some(references) = references {
        let of = |of: &Agreement| {
            json!({
                "chosen": of.chosen, "published": of.wanted, "both": of.both, "of": of.of,
                "precision": of.precision, "recall": of.recall,
                "auroc": of.ranking.as_ref().map(|ranking| ranking.auroc),
                "average_precision": of.ranking.as_ref().map(|ranking| ranking.average_precision),
                "roc": of.ranking.as_ref().map(|ranking| &ranking.curve),
            })
        };
        let each = references.iter().map(|[edges, nodes]| json!({ "edges": of(edges), "nodes": of(nodes) }));
        document["references"] = Value::Array(each.collect());
    }
    document
}
