//! `penjing bench stability`: whether edges selected under other circumstances are the same edges: on other pairs, templates,
//! seeds, ablations and corruptions, and by other methods.

use super::curve_text::method_record;
use super::stability_runs::{Ran, Runs, Setting};
use super::stability_text::{document, figure, text};
use crate::cli::Ended;
use crate::cli::choice::Choice;
use crate::cli::discover::LevelArgument;
use crate::cli::options::{Subject, ablation_parser};
use crate::cli::record::run_record;
use crate::cli::resources::Resources;
use crate::cli::results::Results;
use crate::cli::term::{Usage, make_folder, note, print, print_json, write};
use crate::cli::work::Work;
use clap::Args;
use ndarray::{Array2, ArrayView1, Axis};
use penjing::ablation::Ablation;
use penjing::circuit::select::{self, SelectError};
use penjing::circuit::{EdgeMask, prune::prune};
use penjing::compare::several::{Several, with_each};
use penjing::dataset::{Dataset, TokenPair};
use penjing::discover::DiscoverError;
use penjing::discover::resampled::OfPairs;
use penjing::graph::scores::Scores;
use penjing::graph::{Graph, Level, Table};
use penjing::render::style::Style;
use penjing::score::{Method, Settings};
use penjing::statistics::resample::{RESAMPLES, resampled_means};
use penjing::task::{Content, Task};
use rayon::prelude::*;
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

#[derive(Args)]
pub struct Stability {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    resources: Resources,
    #[command(flatten)]
    choice: Choice,
    /// A method, or several to compare; the first is that of all other rows
    #[arg(long, value_delimiter = ',', default_value = "eap-ig", value_name = "METHOD")]
    method: Vec<String>,
    /// Steps of eap-ig and eap-ig-activations
    #[arg(long, default_value_t = 5, value_name = "M")]
    steps: usize,
    /// How many edges are ranked first; dead ends are then pruned (default: 5 % of all)
    #[arg(long, value_name = "N")]
    edges: Option<usize>,
    /// How many draws of pairs, each with its own seed, are compared; 1 leaves that out
    #[arg(long, default_value_t = 5, value_name = "N")]
    seeds: usize,
    /// Which ablations are compared, beside --ablation; one leaves that out
    #[arg(
        long,
        value_delimiter = ',',
        default_values = ["counterfactual", "zero", "mean", "mean-positional"],
        value_parser = ablation_parser(),
        value_name = "ABLATION"
    )]
    ablations: Vec<Ablation>,
    /// Folder for stability.json, stability.svg and stability.html (default: runs/TASK-MODEL)
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// The share of all edges that are ranked first where nothing else is asked for.
const SHARE: f64 = 0.05;

/// A template that is scored alone has as many pairs or more.
const FEWEST_OF_TEMPLATE: usize = 4;

/// What differs between circuits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Changed {
    Resamples,
    Seeds,
    TemplateLeftOut,
    TemplateAlone,
    Ablation,
    Corruption,
    Method,
}

impl Changed {
    pub fn name(self) -> &'static str {
        match self {
            Changed::Resamples => "resamples",
            Changed::Seeds => "seeds",
            Changed::TemplateLeftOut => "template-left-out",
            Changed::TemplateAlone => "template-alone",
            Changed::Ablation => "ablation",
            Changed::Corruption => "corruption",
            Changed::Method => "method",
        }
    }

    pub fn words(self) -> &'static str {
        match self {
            Changed::Resamples => "pairs, resampled",
            Changed::Seeds => "pairs, other seeds",
            Changed::TemplateLeftOut => "one template left out",
            Changed::TemplateAlone => "one template alone",
            Changed::Ablation => "ablation",
            Changed::Corruption => "corruption",
            Changed::Method => "method",
        }
    }
}

/// Circuits that differ in one thing.
pub struct Row {
    pub changed: Changed,
    /// Of each circuit; none of resamples.
    pub names: Vec<String>,
    /// How many pairs each was selected on.
    pub pairs: Vec<usize>,
    pub several: Several,
    /// The Jaccard index of each with the circuit of the command's own options.
    pub with_base: Vec<f64>,
}

/// What could not be compared, and why.
pub type LeftOut = (Changed, String);

/// What was measured.
pub struct Measured {
    /// Ranked edges, before pruning.
    pub ranked: usize,
    pub base: EdgeMask,
    pub rows: Vec<Row>,
    /// The edges of every circuit of every row.
    pub core: EdgeMask,
    /// The mean share of pairs that two seeds have in common.
    pub same_pairs: Option<f64>,
    pub left_out: Vec<LeftOut>,
}

pub fn run(command: &Stability, as_json: bool) -> anyhow::Result<Ended> {
    let start = Instant::now();
    let subject = &command.subject;
    let methods = command.methods()?;
    let Some(method) = methods.first() else { return Ok(Ended::Done) };
    let work = Work::load(subject, &command.resources)?;
    let graph = &work.graph;
    let ranked = command.edges.unwrap_or_else(|| ((graph.edge_count() as f64 * SHARE).round() as usize).max(1));
    select::check_size(graph, ranked).map_err(penjing::Error::from)?;
    let out = command.out.clone().unwrap_or_else(|| subject.default_out(&work.task.name, &work.loaded.id));
    make_folder(&out)?;

    let ranking = command.choice.ranking();
    let select = |scores: &Scores| Ok(prune(graph, &ranking.take(graph, scores, ranked)?));
    let mut runs = Runs::new(&work, subject, &command.choice, &out);
    let own = Setting {
        method: method.clone(),
        ablation: subject.ablation,
        seed: subject.seed,
        corruption: subject.corruption.clone(),
    };
    let (groups, left_out) = command.groups(&own, &methods, &work.task, &mut runs)?;
    let all: Vec<&Setting> = std::iter::once(&own).chain(groups.iter().flat_map(|group| &group.settings)).collect();
    runs.run(&all, &own, &select)?;
    let base = runs.of(&own)?;
    if base.selected.count() == 0 {
        return Err(penjing::Error::from(DiscoverError::Empty { ranking }).into());
    }
    let dataset = runs.dataset(&own)?;

    let mut found = Measured {
        ranked,
        base: base.selected.clone(),
        rows: Vec::new(),
        core: base.selected.clone(),
        same_pairs: None,
        left_out,
    };
    match &base.per_pair {
        Some(per_pair) => {
            let select = |scores: &Scores| select(&base.allowed_only(graph, scores));
            let of_pairs = OfPairs { table: Table::new(graph, Level::Edge, 0), per_pair: per_pair.view(), select };
            found.resampled(&of_pairs, subject.seed).map_err(penjing::Error::from)?;
            found.templates(&of_pairs, &dataset.pairs).map_err(penjing::Error::from)?;
        }
        None => {
            let why = match method.adds_up() {
                true => "the scores of single pairs take more room than there is".to_owned(),
                false => format!("`{}` scores all pairs together", method.name()),
            };
            for changed in [Changed::Resamples, Changed::TemplateLeftOut, Changed::TemplateAlone] {
                found.left_out.push((changed, why.clone()));
            }
        }
    }
    for group in &groups {
        let ran = group.settings.iter().map(|setting| runs.of(setting)).collect::<anyhow::Result<Vec<&Ran>>>()?;
        let datasets = group.settings.iter().map(|setting| runs.dataset(setting));
        let datasets = datasets.collect::<anyhow::Result<Vec<&Dataset>>>()?;
        if group.changed == Changed::Seeds {
            found.same_pairs = same_pairs(&datasets);
        }
        let pairs = datasets.iter().map(|dataset| dataset.pairs.len()).collect();
        let selected = ran.iter().map(|ran| ran.selected.clone()).collect();
        found.add(graph, group.changed, group.names.clone(), pairs, selected);
    }
    for (changed, why) in &found.left_out {
        note(&format!("note: {} is left out: {why}", changed.words()));
    }

    let asked = (subject, method, &command.choice);
    let mut document = document(&work, asked, dataset, &found);
    let said = text(&work, asked, dataset, &found);
    let mut results = Results::new(&out, "stability", &document)?;
    results.picture("stability.svg", &figure(&work, &found, &Style::default()))?;
    results.page(&format!("{} in {}: stability of its circuit", work.task.title, work.loaded.id), &said)?;
    let seconds = start.elapsed().as_secs_f64();
    let mut record =
        run_record(&work.provenance(subject, method, dataset), &[("score", runs.seconds), ("all", seconds)]);
    record["method"] = methods.iter().map(method_record).collect();
    write(&out, "run-stability.json", (serde_json::to_string_pretty(&record)? + "\n").as_bytes())?;
    if as_json {
        document["seconds"] = json!(seconds);
        document["out"] = json!(out);
        print_json(&document)?;
    } else {
        print(&said)?;
        print(&format!("\n{seconds:.1} s; the page is {}", out.join("stability.html").display()))?;
    }
    Ok(Ended::Done)
}

/// Scoring runs that differ in one thing.
struct Group {
    changed: Changed,
    names: Vec<String>,
    settings: Vec<Setting>,
}

impl Stability {
    /// The methods, each once.
    fn methods(&self) -> anyhow::Result<Vec<Method>> {
        if self.seeds == 0 {
            let message = "--seeds 0 leaves not even the pairs of --seed".to_owned();
            return Err(Usage { message, hint: "take 2 or more, or 1 to compare no seeds".into() }.into());
        }
        let settings = Settings { steps: self.steps, seed: self.subject.seed, ..Settings::default() };
        let mut methods: Vec<Method> = Vec::new();
        for name in &self.method {
            let method = Method::parse(name, &settings).map_err(penjing::Error::from)?;
            method.check_level(Level::Edge, self.subject.ablation).map_err(penjing::Error::from)?;
            self.choice.check(LevelArgument::Edge, false, &method)?;
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        Ok(methods)
    }

    /// The scoring runs to compare, and what there is nothing to compare of.
    fn groups(
        &self,
        own: &Setting,
        methods: &[Method],
        task: &Task,
        runs: &mut Runs,
    ) -> anyhow::Result<(Vec<Group>, Vec<LeftOut>)> {
        let mut left_out = Vec::new();
        let last = self.subject.seed.checked_add(self.seeds as u64 - 1).ok_or_else(|| Usage {
            message: format!("there are no {} seeds from {} on", self.seeds, self.subject.seed),
            hint: "take a smaller --seed".into(),
        })?;
        let seeds = (self.subject.seed..=last).map(|seed| (seed.to_string(), Setting { seed, ..own.clone() }));
        let seeds = (Changed::Seeds, seeds.collect::<Vec<_>>());

        let mut ablations: Vec<(String, Setting)> = Vec::new();
        for &ablation in std::iter::once(&own.ablation).chain(&self.ablations) {
            let setting = Setting { ablation, ..own.clone() };
            if ablations.iter().any(|(name, _)| name == ablation.name()) {
                continue;
            }
            match own.method.check_level(Level::Edge, ablation) {
                Ok(()) => ablations.push((ablation.name().to_owned(), setting)),
                Err(error) => left_out.push((Changed::Ablation, error.to_string())),
            }
        }

        let mut corruptions: Vec<(String, Setting)> = Vec::new();
        let names: &[String] = match &task.content {
            Content::Templates(templates) => &templates.corruptions,
            Content::Data(_) => &[],
        };
        for name in names {
            let setting = Setting { corruption: Some(name.clone()), ..own.clone() };
            if corruptions.iter().any(|(known, _)| known == name) {
                continue;
            }
            match runs.prepare(&setting) {
                Ok(()) => corruptions.push((name.clone(), setting)),
                Err(error) => left_out.push((Changed::Corruption, format!("`{name}`: {error}"))),
            }
        }

        let by_method = |method: &Method| (method.name().to_owned(), Setting { method: method.clone(), ..own.clone() });
        let methods = methods.iter().map(by_method).collect();

        let all =
            [seeds, (Changed::Ablation, ablations), (Changed::Corruption, corruptions), (Changed::Method, methods)];
        let mut groups = Vec::new();
        for (changed, settings) in all {
            if settings.len() < 2 {
                continue;
            }
            let (names, settings): (Vec<String>, Vec<Setting>) = settings.into_iter().unzip();
            for setting in &settings {
                runs.prepare(setting)?;
            }
            groups.push(Group { changed, names, settings });
        }
        runs.prepare(own)?;
        Ok((groups, left_out))
    }
}

impl Measured {
    fn add(&mut self, graph: &Graph, changed: Changed, names: Vec<String>, pairs: Vec<usize>, selected: Vec<EdgeMask>) {
        match Several::of(graph, &selected) {
            None => self.left_out.push((changed, "there is only one".into())),
            Some(several) => {
                self.core = self.core.intersection(&several.core);
                let with_base = with_each(graph, &self.base, &selected);
                self.rows.push(Row { changed, names, pairs, several, with_base });
            }
        }
    }

    fn resampled<S: Fn(&Scores) -> Result<EdgeMask, SelectError> + Sync>(
        &mut self,
        of_pairs: &OfPairs<S>,
        seed: u64,
    ) -> Result<(), SelectError> {
        let pairs = of_pairs.per_pair.nrows();
        if pairs < 2 {
            self.left_out.push((Changed::Resamples, "there is only one pair".into()));
            return Ok(());
        }
        let means = resampled_means(of_pairs.per_pair, RESAMPLES, seed); // [resample, edge]
        let rows: Vec<ArrayView1<f32>> = means.rows().into_iter().collect();
        let selected = rows.par_iter().map(|row| of_pairs.selected(row.view()));
        let selected = selected.collect::<Result<Vec<EdgeMask>, SelectError>>()?;
        self.add(of_pairs.table.graph, Changed::Resamples, Vec::new(), vec![pairs; RESAMPLES], selected);
        Ok(())
    }

    /// Selections without the pairs of each template, and from them alone where there are enough.
    fn templates<S: Fn(&Scores) -> Result<EdgeMask, SelectError> + Sync>(
        &mut self,
        of_pairs: &OfPairs<S>,
        pairs: &[TokenPair],
    ) -> Result<(), SelectError> {
        let graph = of_pairs.table.graph;
        let mut templates: Vec<&str> = Vec::new();
        for pair in pairs {
            if !templates.contains(&pair.prompt.frame.as_str()) {
                templates.push(&pair.prompt.frame);
            }
        }
        if templates.len() < 2 {
            for changed in [Changed::TemplateLeftOut, Changed::TemplateAlone] {
                self.left_out.push((changed, "the pairs have one template".into()));
            }
            return Ok(());
        }
        let (changed_least, changed_all) = (Changed::TemplateLeftOut, Changed::TemplateAlone);
        for (changed, alone, fewest) in [(changed_least, false, 1), (changed_all, true, FEWEST_OF_TEMPLATE)] {
            let (mut names, mut counts, mut selected) = (Vec::new(), Vec::new(), Vec::new());
            for &template in &templates {
                let is_in = |index: &usize| (pairs[*index].prompt.frame == template) == alone;
                let indices: Vec<usize> = (0..pairs.len()).filter(is_in).collect();
                if indices.len() < fewest {
                    continue;
                }
                let of_template: Array2<f32> = of_pairs.per_pair.select(Axis(0), &indices); // [pair, edge]
                let Some(means) = of_template.mean_axis(Axis(0)) else { continue };
                names.push(template.to_owned());
                counts.push(indices.len());
                selected.push(of_pairs.selected(means.view())?);
            }
            if alone && selected.len() < 2 {
                let why = format!("fewer than two templates have {FEWEST_OF_TEMPLATE} pairs; take more --pairs");
                self.left_out.push((changed, why));
                continue;
            }
            self.add(graph, changed, names, counts, selected);
        }
        Ok(())
    }
}

/// The share of pairs that two draws have in common, on average.
fn same_pairs(datasets: &[&Dataset]) -> Option<f64> {
    let mut shares = Vec::new();
    for (index, one) in datasets.iter().enumerate() {
        let texts: std::collections::HashSet<&str> = one.pairs.iter().map(|pair| pair.prompt.clean.as_str()).collect();
        for other in &datasets[index + 1..] {
            let common = other.pairs.iter().filter(|pair| texts.contains(pair.prompt.clean.as_str())).count();
            shares.push(common as f64 / other.pairs.len().max(1) as f64);
        }
    }
    (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
}
