//! `penjing compare`: what circuits have in common, of one model edge by edge, across models node by node.

use super::Ended;
use super::comparison::{document, reference_table, text};
use super::term::{Usage, make_folder, note, print, print_json, write};
use clap::{Args, ValueEnum};
use penjing::circuit::file::{Circuit, MethodRecord, Options};
use penjing::circuit::import::{self, Imported};
use penjing::circuit::{file, scores_file};
use penjing::compare::reference::{Agreement, agreement};
use penjing::compare::{Compared, Pair, Summary, figure, grid, page};
use penjing::render::style::{Style, StyleError};
use penjing::render::svg;
use penjing::render::theme::Theme;
use serde_json::json;
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
    let (pairs, by_edges) = (Pair::all(&all), command.by != Some(By::Roles));
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
    let document = document(&all, &summaries, &pairs, references.as_deref(), by_edges);
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
        let page = page::html(&all, &pairs, &drawing, by_edges);
        write(out, "comparison.html", page.as_bytes())?;
        written = ["comparison.html", "comparison.svg", "comparison.json"].map(|name| out.join(name)).to_vec();
    }
    if as_json {
        print_json(&document)?;
        return Ok(Ended::Done);
    }
    let mut said = text(&grid::summaries(&all));
    for pair in &pairs {
        let [first, second] = pair.places.map(|place| &all[place].name);
        said += &format!("\n\n{first} and {second}\n\n{}", text(&grid::pair(pair, by_edges)));
    }
    for (one, agreement) in all.iter().zip(references.iter().flatten()) {
        said += &format!("\n\n{} against the reference\n\n{}", one.name, reference_table(agreement));
    }
    for path in written {
        said += &format!("\n\n{}", path.display());
    }
    print(&said)?;
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
