//! The methods: what each is called, what it costs, and the one seam between them and everything else.

use super::state::{Ledger, Stopped};
use super::{
    Problem, Run, ScoreError, acdc, activation_patching, atp_star, attribution_patching, clean_corrupted, eap, eap_ig,
    eap_ig_activations, exact, ifr, mask, random, relp,
};
use crate::ablation::Ablation;
use crate::graph::Level;
use crate::measure::Batch;
use crate::measure::memory::{Needs, Sizes};
use crate::model::Rules;
use ndarray::Array2;

/// How edges are scored.
#[derive(Clone, PartialEq, Debug)]
pub enum Method {
    Eap,
    EapIg(eap_ig::Options),
    EapIgActivations(eap_ig_activations::Options),
    CleanCorrupted,
    Relp(relp::Options),
    Exact,
    Acdc(acdc::Options),
    Mask(mask::Options),
    Ifr,
    Random(random::Options),
    AttributionPatching,
    ActivationPatching,
    AtpStar(atp_star::Options),
}

/// What `penjing score --list` says of a method.
pub struct Listing {
    pub name: &'static str,
    pub about: &'static str,
    /// Passes through the model for a batch of pairs.
    pub passes: &'static str,
    /// What is kept beside the weights.
    pub memory: &'static str,
}

/// Every method, in the order of the documentation.
pub const METHODS: [&Listing; 13] = [
    &eap::LISTING,
    &eap_ig::LISTING,
    &eap_ig_activations::LISTING,
    &clean_corrupted::LISTING,
    &relp::LISTING,
    &exact::LISTING,
    &acdc::LISTING,
    &mask::LISTING,
    &ifr::LISTING,
    &random::LISTING,
    &attribution_patching::LISTING,
    &activation_patching::LISTING,
    &atp_star::LISTING,
];

/// What the methods' names on the command line leave open.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    pub steps: usize,
    pub endpoints: eap_ig::Endpoints,
    pub seed: u64,
    pub rules: Rules,
    pub acdc: acdc::Options,
    pub atp_star: atp_star::Options,
    /// Its seed is [`Settings::seed`].
    pub mask: mask::Options,
}

impl Default for Settings {
    fn default() -> Self {
        let eap_ig::Options { steps, endpoints } = eap_ig::Options::default();
        Settings {
            steps,
            endpoints,
            seed: 0,
            rules: relp::DEFAULT,
            acdc: acdc::Options::default(),
            atp_star: atp_star::Options::default(),
            mask: mask::Options::default(),
        }
    }
}

/// Passes through the model that a method makes for a batch, for the estimate of its time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Work {
    /// Passes without gradients, clean and corrupt.
    pub recorded: usize,
    /// Passes forward and back.
    pub backward: usize,
    /// Of those, how many do not start from a recorded pass.
    pub unrecorded: usize,
    /// Passes through a single block for each position of a pair.
    pub patched: f64,
    /// Whether every unit of the level takes a pass from its layer upwards.
    pub patched_units: bool,
    /// How often the outputs of all sources are gone through.
    pub expansions: f64,
}

impl Work {
    /// Whether the model runs at all.
    pub fn runs(&self) -> bool {
        self.recorded + self.backward > 0 || self.patched > 0.0 || self.patched_units
    }

    /// A clean and a corrupt pass, and so many with gradients.
    pub fn with_backward(backward: usize) -> Work {
        Work { recorded: 2, backward, unrecorded: 0, patched: 0.0, patched_units: false, expansions: 1.0 }
    }
}

/// What a method's own file knows about it.
pub(super) trait Scorer {
    fn listing(&self) -> &'static Listing;

    /// What it keeps at the same time.
    fn needs(&self) -> Needs;

    fn work(&self, graph: &crate::graph::Graph) -> Work;

    /// Rows and columns of the sums that it keeps: `[source, destination]`, below which there may be rows of its own that the
    /// rest of its run depends on.
    fn shape(&self, graph: &crate::graph::Graph) -> (usize, usize) {
        (graph.sources(), graph.destinations())
    }

    /// What it can score.
    fn levels(&self) -> &'static [Level] {
        &[Level::Edge]
    }

    /// What sources that are ablated can carry.
    fn ablations(&self) -> &'static [Ablation] {
        &Ablation::ALL
    }

    /// Whether the metric is differentiated.
    fn uses_gradients(&self) -> bool {
        true
    }

    /// Whether it reads positions that clean and corrupt have in common.
    fn every_position(&self) -> bool {
        false
    }

    /// Whether it takes gradients at attention patterns.
    fn patterns(&self) -> bool {
        false
    }

    /// Whether it can keep the scores of positions apart.
    fn by_position(&self) -> bool {
        false
    }

    /// How gradients are taken.
    fn rules(&self) -> Rules {
        Rules::default()
    }

    /// The options that the scores depend on, as recorded in files.
    fn options(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Points on a path, or steps of learning, if there are any.
    fn steps(&self) -> Option<usize> {
        None
    }

    /// For methods that look at all pairs for each decision; others score batch by batch.
    fn search(&self) -> Option<&dyn Search> {
        None
    }

    /// Sums over the pairs of one batch, `[source, destination]`. What takes long goes by [`Ledger::steps`]. Methods with a
    /// search leave it out.
    ///
    /// # Errors
    /// [`Stopped`] where the ledger says so.
    fn score_batch(&self, run: &Run, ledger: &mut Ledger) -> Result<Array2<f64>, Stopped> {
        ledger.steps(run.problem.graph.destinations(), |_, _| ())
    }
}

/// A method that looks at all pairs for each of its decisions.
pub(super) trait Search {
    /// Sums over all pairs, `[source, destination]`. What takes long goes by [`Ledger::steps`].
    ///
    /// # Errors
    /// [`Stopped`] where the ledger says so.
    fn search(&self, problem: &Problem, batches: Vec<Batch>, ledger: &mut Ledger) -> Result<Array2<f64>, Stopped>;

    /// The peak of its memory in bytes, with so many pairs of which so many run at once.
    fn peak(&self, sizes: &Sizes, pairs: usize, at_once: usize) -> usize;

    /// More pairs at once than this do it no good.
    fn most_pairs(&self) -> usize {
        usize::MAX
    }

    /// About how many seconds it takes, if it can say so better than [`Scorer::work`] does.
    fn seconds(&self, _problem: &Problem, _batches: Vec<Batch>) -> Option<f64> {
        None
    }
}

impl Method {
    /// The method of that name.
    ///
    /// # Errors
    /// [`ScoreError::UnknownMethod`].
    pub fn parse(name: &str, settings: &Settings) -> Result<Method, ScoreError> {
        Method::all(settings)
            .into_iter()
            .find(|method| method.name() == name)
            .ok_or_else(|| ScoreError::UnknownMethod(name.to_owned()))
    }

    /// Every method, in the order of [`METHODS`].
    pub fn all(settings: &Settings) -> Vec<Method> {
        let &Settings { steps, endpoints, seed, rules, ref acdc, atp_star, ref mask } = settings;
        vec![
            Method::Eap,
            Method::EapIg(eap_ig::Options { steps, endpoints }),
            Method::EapIgActivations(eap_ig_activations::Options { steps }),
            Method::CleanCorrupted,
            Method::Relp(relp::Options { rules }),
            Method::Exact,
            Method::Acdc(acdc.clone()),
            Method::Mask(mask::Options { seed, ..mask.clone() }),
            Method::Ifr,
            Method::Random(random::Options { seed }),
            Method::AttributionPatching,
            Method::ActivationPatching,
            Method::AtpStar(atp_star),
        ]
    }

    /// Refuses what the method cannot ablate with.
    ///
    /// # Errors
    /// [`ScoreError::Ablation`].
    pub fn check_ablation(&self, ablation: Ablation) -> Result<(), ScoreError> {
        match self.scorer().ablations().contains(&ablation) {
            true => Ok(()),
            false => Err(ScoreError::Ablation { method: self.name(), ablation }),
        }
    }

    /// Refuses what cannot keep the scores of positions apart.
    ///
    /// # Errors
    /// [`ScoreError::Positions`].
    pub fn check_positions(&self) -> Result<(), ScoreError> {
        if self.scorer().by_position() { Ok(()) } else { Err(ScoreError::Positions { method: self.name() }) }
    }

    pub(super) fn scorer(&self) -> &dyn Scorer {
        match self {
            Method::Eap => &eap::Eap,
            Method::EapIg(options) => options,
            Method::EapIgActivations(options) => options,
            Method::CleanCorrupted => &clean_corrupted::CleanCorrupted,
            Method::Relp(options) => options,
            Method::Exact => &exact::Exact,
            Method::Acdc(options) => options,
            Method::Mask(options) => options,
            Method::Ifr => &ifr::Ifr,
            Method::Random(options) => options,
            Method::AttributionPatching => &attribution_patching::AttributionPatching,
            Method::ActivationPatching => &activation_patching::ActivationPatching,
            Method::AtpStar(options) => options,
        }
    }

    pub fn name(&self) -> &'static str {
        self.scorer().listing().name
    }

    /// What it can score.
    pub fn levels(&self) -> &'static [Level] {
        self.scorer().levels()
    }

    /// Refuses a level that it has no scores for, or none with an ablation.
    ///
    /// # Errors
    /// [`ScoreError::Level`], [`ScoreError::Ablation`] and [`ScoreError::OptimalUnits`].
    pub fn check_level(&self, level: Level, ablation: Ablation) -> Result<(), ScoreError> {
        if !self.levels().contains(&level) {
            return Err(ScoreError::Level { method: self.name(), level });
        }
        self.check_ablation(ablation)?;
        if level != Level::Edge && ablation == Ablation::Optimal {
            return Err(ScoreError::OptimalUnits { level });
        }
        Ok(())
    }

    /// What it keeps at the same time.
    pub fn needs(&self) -> Needs {
        self.scorer().needs()
    }

    /// Whether scores are means over pairs that can be scored apart from each other.
    pub fn adds_up(&self) -> bool {
        self.scorer().search().is_none()
    }

    /// The options that the scores depend on, as recorded in files.
    pub fn options(&self) -> Vec<(&'static str, String)> {
        self.scorer().options()
    }
}
