//! The scoring runs of `penjing bench stability`, each done once however many rows it stands in.

use crate::cli::choice::Choice;
use crate::cli::constants;
use crate::cli::options::Subject;
use crate::cli::progress::Progress;
use crate::cli::term::note;
use crate::cli::work::{Work, at_once};
use ndarray::Array2;
use penjing::ablation::Ablation;
use penjing::circuit::EdgeMask;
use penjing::circuit::consistent::only;
use penjing::circuit::select::SelectError;
use penjing::dataset::Dataset;
use penjing::graph::Graph;
use penjing::graph::scores::Scores;
use penjing::score::{self, Method, Problem, State, cost};
use penjing::task::Split;
use std::path::Path;
use std::time::Instant;

/// What a scoring run depends on, beside the command's own options.
#[derive(Clone, PartialEq, Debug)]
pub struct Setting {
    pub method: Method,
    pub ablation: Ablation,
    /// Of the pairs.
    pub seed: u64,
    pub corruption: Option<String>,
}

/// A run that is done.
pub struct Ran {
    pub selected: EdgeMask,
    /// The edges that were let in, where not all were.
    allowed: Option<EdgeMask>,
    /// `[pair, edge]`, of the command's own run alone.
    pub per_pair: Option<Array2<f32>>,
}

impl Ran {
    /// Scores of the edges that were let in.
    pub fn allowed_only(&self, graph: &Graph, scores: &Scores) -> Scores {
        self.allowed.as_ref().map_or_else(|| scores.clone(), |edges| only(graph, scores, edges))
    }
}

pub struct Runs<'a> {
    work: &'a Work,
    subject: &'a Subject,
    choice: &'a Choice,
    out: &'a Path,
    /// Pairs by the seed and the corruption that was asked for, with their hashes.
    datasets: Vec<(u64, Option<String>, Dataset, String)>,
    ran: Vec<(Method, Ablation, String, Ran)>,
    /// What all scoring took.
    pub seconds: f64,
}

impl<'a> Runs<'a> {
    pub fn new(work: &'a Work, subject: &'a Subject, choice: &'a Choice, out: &'a Path) -> Runs<'a> {
        Runs { work, subject, choice, out, datasets: Vec::new(), ran: Vec::new(), seconds: 0.0 }
    }

    /// Draws the pairs of a run.
    ///
    /// # Errors
    /// When the task cannot make that many, or they do not fit the model.
    pub fn prepare(&mut self, setting: &Setting) -> Result<(), penjing::Error> {
        if self.place(setting).is_none() {
            let Setting { seed, corruption, .. } = setting;
            let dataset = self.work.pairs(Split::Train, self.subject.pairs, *seed, corruption.as_deref())?;
            let hash = dataset.hash();
            self.datasets.push((*seed, corruption.clone(), dataset, hash));
        }
        Ok(())
    }

    fn place(&self, setting: &Setting) -> Option<&(u64, Option<String>, Dataset, String)> {
        self.datasets.iter().find(|(seed, corruption, ..)| (*seed, corruption) == (setting.seed, &setting.corruption))
    }

    fn prepared(&self, setting: &Setting) -> anyhow::Result<&(u64, Option<String>, Dataset, String)> {
        self.place(setting).ok_or_else(|| anyhow::anyhow!("the pairs of seed {} were not drawn", setting.seed))
    }

    /// # Errors
    /// None once [`Runs::prepare`] has drawn them.
    pub fn dataset(&self, setting: &Setting) -> anyhow::Result<&Dataset> {
        Ok(&self.prepared(setting)?.2)
    }

    /// # Errors
    /// None once [`Runs::run`] has done it.
    pub fn of(&self, setting: &Setting) -> anyhow::Result<&Ran> {
        let hash = &self.prepared(setting)?.3;
        let is = |(method, ablation, of, _): &&(Method, Ablation, String, Ran)| {
            (method, ablation, of) == (&setting.method, &setting.ablation, hash)
        };
        let found = self.ran.iter().find(is).map(|(.., ran)| ran);
        found.ok_or_else(|| anyhow::anyhow!("nothing was scored by {}", setting.method.name()))
    }

    /// Scores all settings and selects from their scores; the scores of every pair are kept of `own` alone.
    ///
    /// # Errors
    /// When a method cannot work on the task, or memory is short.
    pub fn run(
        &mut self,
        settings: &[&Setting],
        own: &Setting,
        select: &dyn Fn(&Scores) -> Result<EdgeMask, SelectError>,
    ) -> anyhow::Result<()> {
        let mut different: Vec<(&Setting, String)> = Vec::new();
        for setting in settings {
            let hash = self.prepared(setting)?.3.clone();
            let is = |(other, of): &(&Setting, String)| {
                (&other.method, other.ablation, of) == (&setting.method, setting.ablation, &hash)
            };
            if !different.iter().any(is) {
                different.push((setting, hash));
            }
        }
        let mut estimate = 0.0;
        for (setting, _) in &different {
            let problem = self.work.problem(&self.dataset(setting)?.pairs, None);
            let division = problem.division(&setting.method).map_err(penjing::Error::from)?;
            estimate += cost::seconds(&problem, &setting.method, &division);
        }
        if estimate >= 2.0 {
            note(&format!("scoring {} times takes about {estimate:.0} s", different.len()));
        }
        let progress = Progress::bar("scoring");
        let total = different.len() as f64;
        let start = Instant::now();
        for (done, (setting, hash)) in different.into_iter().enumerate() {
            let state = self.score(setting, &mut |said| match said {
                score::Progress::Done(share) => progress.set((done as f64 + share) / total),
                score::Progress::SmallerBatch(pairs) => {
                    progress.note(&format!("note: out of memory; goes on with {}", at_once(pairs)));
                }
            })?;
            let (scores, state) = state;
            let allowed = self.choice.consistent_edges(&self.work.graph, &state, self.subject.seed, &setting.method)?;
            let mut ran = Ran { selected: EdgeMask::empty(&self.work.graph), allowed, per_pair: None };
            ran.selected = select(&ran.allowed_only(&self.work.graph, &scores)).map_err(penjing::Error::from)?;
            ran.per_pair = if setting == own { state.per_pair } else { None };
            self.ran.push((setting.method.clone(), setting.ablation, hash, ran));
        }
        self.seconds += start.elapsed().as_secs_f64();
        Ok(())
    }

    fn score(
        &self,
        setting: &Setting,
        mut progress: &mut dyn FnMut(score::Progress),
    ) -> anyhow::Result<(Scores, State)> {
        let dataset = self.dataset(setting)?;
        let constants = constants::of_circuit(self.work, setting.ablation, dataset, self.out)?;
        let problem = self.work.problem(&dataset.pairs, constants.as_ref());
        // As in `discover`, whose scores these are to the last bit.
        let per_pair = setting.method.adds_up() && (self.choice.consistent || problem.has_room_for_pairs());
        let problem = Problem { per_pair, ..problem };
        let mut state = State::start(&problem, &setting.method).map_err(penjing::Error::from)?;
        score::advance(&problem, &setting.method, &mut state, &mut progress).map_err(penjing::Error::from)?;
        let scores = state.scores(&problem).map_err(penjing::Error::from)?;
        Ok((scores, state))
    }
}
