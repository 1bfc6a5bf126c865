//! `penjing discover --level feature`: circuits of the features of dictionaries.

use super::Ended;
use super::inside::dictionary;
use super::options::{Scoring, Subject};
use super::progress::Progress;
use super::resources::Resources;
use super::results::Results;
use super::term::{Usage, make_folder, note, print, print_json};
use super::work::{Work, warn_if_poor};
use comfy_table::{CellAlignment, Table, presets};
use penjing::ablation::Ablation;
use penjing::features::edges::{self, Edge};
use penjing::features::evidence::{self, Evidence};
use penjing::features::runs::{Runs, in_order};
use penjing::features::scores::{self, Scored};
use penjing::features::search;
use penjing::features::{Kept, Node, Placed, Setting, Unit};
use penjing::inside::{generate::likeliest, said};
use penjing::intervene::features::site;
use penjing::model::Loaded;
use penjing::render::features::{FeatureBox, Link, Row, picture};
use penjing::render::style::Style;
use penjing::task::Split;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tch::Tensor;

/// What of the command matters here.
pub struct Question<'a> {
    pub subject: &'a Subject,
    pub scoring: &'a Scoring,
    pub resources: &'a Resources,
    /// `NAME=FILE` or `FILE`.
    pub dictionaries: &'a [String],
    /// Of this many nodes, or as faithful as this.
    pub size: Option<usize>,
    pub faithfulness: f64,
    pub evidence_pairs: usize,
    pub random_circuits: usize,
    pub out: Option<&'a Path>,
}

/// Pairs that run together if nobody says.
const AT_ONCE: usize = 32;
/// Tokens that say what a feature is about.
const TOKENS: usize = 5;
/// Nodes that are printed.
const PRINTED: usize = 20;

pub fn run(question: &Question, as_json: bool) -> anyhow::Result<Ended> {
    let Question { subject, scoring, .. } = question;
    question.check()?;
    let work = Work::load(subject, question.resources)?;
    let Work { task, loaded, .. } = &work;
    if !task.metric.differentiable() {
        let message = format!("features are scored by gradients, and {} has none", task.metric);
        return Err(Usage { message, hint: "take a task with another metric, such as logit-difference".into() }.into());
    }
    let placed = placed(question.dictionaries, loaded)?;
    let out = question.out.map_or_else(
        || PathBuf::from(format!("{}-features", subject.default_out(&task.name, &loaded.id).display())),
        Path::to_owned,
    );
    make_folder(&out)?;
    let corruption = subject.corruption.as_deref();
    let chosen_on = work.pairs(Split::Train, subject.pairs, subject.seed, corruption)?;
    let fresh = work.pairs(Split::Test, question.evidence_pairs, subject.seed, corruption)?;
    let setting = Setting {
        model: &loaded.model,
        pairs: &chosen_on.pairs,
        metric: task.metric,
        placed: &placed,
        at_once: scoring.batch.unwrap_or(AT_ONCE),
    };
    let progress = Progress::bar("scoring");
    let ranked = scores::score(&setting, scoring.steps, &mut |share| progress.set(share));
    let ranked = ranked.map_err(penjing::Error::from)?;
    drop(progress);
    let kept = match question.size {
        Some(size) => search::of_size(&ranked, size).map_err(penjing::Error::from)?,
        None => {
            let runs = Runs::new(setting).map_err(penjing::Error::from)?;
            let progress = Progress::text("selecting");
            search::smallest(&runs, &ranked, question.faithfulness, &mut |text| progress.say(text))
                .map_err(penjing::Error::from)?
        }
    };
    let progress = Progress::bar("following edges");
    let links = edges::edges(&setting, &kept, scoring.steps, &mut |share| progress.set(share));
    let links = links.map_err(penjing::Error::from)?;
    drop(progress);
    let runs = Runs::new(Setting { pairs: &fresh.pairs, ..setting }).map_err(penjing::Error::from)?;
    let progress = Progress::bar("measuring evidence");
    let evidence = evidence::evidence(&runs, &kept, &ranked, (question.random_circuits, subject.seed), &mut |share| {
        progress.set(share);
    });
    drop(progress);
    warn_if_poor(evidence.accuracy[0], &loaded.id, &task.name);
    let shown = Shown { loaded, placed: &placed, ranked: &ranked, kept: &kept, evidence: &evidence };
    let document = shown.document(question, &task.name, &links);
    let text = shown.text();
    let mut results = Results::new(&out, "features", &document)?;
    results.picture("features.svg", &shown.picture(&links))?;
    results.page(&format!("Features of {} for {}", loaded.id, task.name), &text)?;
    if as_json {
        print_json(&document)?;
    } else {
        print(&text)?;
        print(&format!("\nthe page is {}", out.join("features.html").display()))?;
    }
    if question.size.is_none() && evidence.faithfulness < question.faithfulness {
        note(&format!(
            "the circuit reached faithfulness {} on the pairs that chose it, but only {:.3} on fresh ones\n\nhint: choose on more --pairs",
            question.faithfulness, evidence.faithfulness
        ));
        return Ok(Ended::Failed);
    }
    Ok(Ended::Done)
}

impl Question<'_> {
    fn check(&self) -> anyhow::Result<()> {
        let usage =
            |message: &str, hint: &str| Err(Usage { message: message.to_owned(), hint: hint.to_owned() }.into());
        if self.dictionaries.is_empty() {
            return usage(
                "circuits of features need a dictionary",
                "give one with --sae FILE; `penjing sae train` makes them",
            );
        }
        if self.scoring.method != "eap-ig" {
            return usage("features are scored by integrated gradients", "leave --method out; --steps says how many");
        }
        if self.subject.ablation != Ablation::Counterfactual {
            return usage("features outside of a circuit have the corrupt prompt's values", "leave --ablation out");
        }
        if self.size == Some(0) {
            return usage("--edges 0 keeps no nodes", "take 1 or more");
        }
        if self.evidence_pairs == 0 || self.scoring.steps == 0 {
            return usage("no steps or no pairs leave nothing to measure", "leave --steps and --evidence-pairs out");
        }
        if !(self.faithfulness > 0.0 && self.faithfulness <= 1.0) {
            return usage(
                "--faithfulness lies between 0 and 1",
                "0.9 asks for a circuit that does 90 % of what the model does",
            );
        }
        Ok(())
    }
}

/// The dictionaries at their sites, in the order of the forward pass.
pub fn placed(dictionaries: &[String], loaded: &Loaded) -> anyhow::Result<Vec<Placed>> {
    let spec = &loaded.model.spec;
    let mut all: Vec<Placed> = Vec::new();
    for named in dictionaries {
        let path = Path::new(named.split_once('=').map_or(named.as_str(), |(_, path)| path));
        let stem = path.file_stem().map_or("sae".into(), |stem| stem.to_string_lossy());
        let name = named.split_once('=').map_or(stem.as_ref(), |(name, _)| name);
        let dictionary = dictionary(path, &loaded.model)?;
        let Some(site) = site(&dictionary, spec) else {
            let message = format!("{} does not say which site it is of", path.display());
            return Err(
                Usage { message, hint: "`penjing sae convert` with --site writes a file that does".into() }.into()
            );
        };
        let site_name = penjing::intervene::slice::site_name(site);
        if all.iter().any(|other| other.site == site) {
            let message = format!("two dictionaries are of {site_name}");
            return Err(Usage { message, hint: "give one for each site".into() }.into());
        }
        all.push(Placed { name: format!("{site_name}.sae({name})"), called: name.to_owned(), site, dictionary });
    }
    Ok(in_order(&loaded.model, all).map_err(penjing::Error::from)?)
}

/// What was found, to be shown.
struct Shown<'a> {
    loaded: &'a Loaded,
    placed: &'a [Placed],
    ranked: &'a [Scored],
    kept: &'a Kept,
    evidence: &'a Evidence,
}

impl Shown<'_> {
    fn name(&self, node: Node) -> String {
        format!("{}.{}", self.placed[node.dictionary].name, node.unit)
    }

    /// The nodes of the circuit, the strongest first.
    fn nodes(&self) -> impl Iterator<Item = &Scored> {
        self.ranked.iter().filter(|scored| self.kept.contains(&scored.node))
    }

    /// Tokens whose logits a feature raises most by itself.
    fn raises(&self, node: Node) -> Vec<String> {
        let Unit::Feature(feature) = node.unit else { return Vec::new() };
        let direction = self.placed[node.dictionary].dictionary.direction(feature);
        let direction = direction.to_kind(self.loaded.model.kind());
        let logits = said(&self.loaded.model, &Tensor::stack(&[&direction, &-&direction], 0));
        likeliest(&logits, TOKENS).into_iter().map(|(id, _)| self.loaded.tokenizer.token_text(id)).collect()
    }

    fn cost(&self, node: Node) -> f64 {
        self.evidence.minimality.iter().find(|(other, _)| *other == node).map_or(f64::NAN, |(_, cost)| *cost)
    }

    /// `features.json`, `penjing.features/1`.
    fn document(&self, question: &Question, task: &str, links: &[Edge]) -> Value {
        let Evidence {
            pairs, metric, accuracy, kl, faithfulness, interval, completeness, features_alone, random, ..
        } = self.evidence;
        let node = |scored: &Scored| {
            json!({
                "node": self.name(scored.node),
                "score": scored.score,
                "clean": scored.clean,
                "corrupt": scored.corrupt,
                "cost": self.cost(scored.node),
                "raises": self.raises(scored.node),
            })
        };
        json!({
            "schema": "penjing.features/1",
            "task": task,
            "model": self.loaded.id,
            "dictionaries": question.dictionaries,
            "seed": question.subject.seed,
            "pairs": question.subject.pairs,
            "steps": question.scoring.steps,
            "ranked": self.ranked.len(),
            "nodes": self.nodes().map(node).collect::<Vec<_>>(),
            "edges": links.iter().map(|edge| json!({
                "from": self.name(edge.from), "to": self.name(edge.to), "weight": edge.weight,
            })).collect::<Vec<_>>(),
            "evidence": {
                "pairs": pairs,
                "metric": { "model": metric[0], "ablated": metric[1], "circuit": metric[2] },
                "accuracy": { "model": accuracy[0], "ablated": accuracy[1], "circuit": accuracy[2] },
                "kl": kl,
                "faithfulness": faithfulness,
                "faithfulness_interval": interval,
                "completeness": completeness,
                "features_alone": features_alone,
                "random": random.map(|[mean, least, largest]| json!({ "mean": mean, "min": least, "max": largest })),
            },
        })
    }

    fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["node", "score", "cost", "clean", "corrupt", "raises"]);
        for scored in self.nodes().take(PRINTED) {
            let tokens: Vec<String> = self.raises(scored.node).iter().map(|token| format!("{token:?}")).collect();
            table.add_row([
                self.name(scored.node),
                format!("{:+.4}", scored.score),
                format!("{:.3}", self.cost(scored.node)),
                format!("{:.2}", scored.clean),
                format!("{:.2}", scored.corrupt),
                tokens.join(" "),
            ]);
        }
        for column in 1..5 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let Evidence { pairs, faithfulness, interval: [low, high], completeness, features_alone, random, .. } =
            self.evidence;
        let more = self.kept.len().saturating_sub(PRINTED);
        let more = if more > 0 { format!("\nand {more} more\n") } else { String::new() };
        let random = random.map_or(String::new(), |[mean, least, largest]| {
            format!("\nas many nodes at random: {mean:.3}, between {least:.3} and {largest:.3}")
        });
        format!(
            "{} of {} nodes that differ between clean and corrupt prompts\n\n{table}\n{more}\n\
             faithfulness {faithfulness:.3} [{low:.3}, {high:.3}] on {pairs} fresh pairs, without errors {features_alone:.3}, \
             of all else {completeness:.3}{random}",
            self.kept.len(),
            self.ranked.len(),
        )
    }

    fn picture(&self, links: &[Edge]) -> penjing::render::scene::Scene {
        let of = |dictionary| -> Vec<&Scored> {
            self.nodes().filter(|scored| scored.node.dictionary == dictionary).collect()
        };
        let boxed = |scored: &&Scored| FeatureBox {
            label: scored.node.unit.to_string(),
            note: self.raises(scored.node).first().map_or(String::new(), |token| token.trim().to_owned()),
            score: scored.score,
        };
        let row = |(index, placed): (usize, &Placed)| Row {
            name: placed.name.clone(),
            boxes: of(index).iter().map(boxed).collect(),
        };
        let rows: Vec<Row> = self.placed.iter().enumerate().map(row).collect();
        let place = |node: Node| of(node.dictionary).iter().position(|scored| scored.node == node);
        let link = |edge: &Edge| {
            let (from, to) = (place(edge.from)?, place(edge.to)?);
            Some(Link { row: edge.from.dictionary, from, to, weight: edge.weight })
        };
        picture(&rows, &links.iter().filter_map(link).collect::<Vec<_>>(), &Style::default())
    }
}
