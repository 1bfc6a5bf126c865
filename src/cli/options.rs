//! Options that several commands share, and their checks.

use super::term::Usage;
use super::work::BOS_ASKED;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use penjing::ablation::Ablation;
use penjing::circuit::file::Options;
use penjing::graph::{KvSlots, Level};
use penjing::model::Rules;
use penjing::score::{Method, Settings, acdc, atp_star, eap_ig, mask};
use std::path::PathBuf;

/// Which pairs of which task on which model.
#[derive(Args, Clone)]
pub struct Subject {
    /// A built-in task's name or a TOML file
    pub task: String,
    /// An embedded toy model's name or a Hugging Face folder
    #[arg(long, short, default_value = penjing::model::embedded::DEFAULT, value_name = "MODEL")]
    pub model: String,
    /// How many prompt pairs to score on
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub pairs: usize,
    /// Which of the task's corruptions (default: its first)
    #[arg(long, value_name = "NAME")]
    pub corruption: Option<String>,
    /// What ablated parts of the model carry: what they carry on the corrupt prompt, nothing, a mean over the clean prompts
    /// that are scored on (of all tokens, or at the same position), or what harms least
    #[arg(long, default_value = "counterfactual", value_parser = ablation_parser())]
    pub ablation: Ablation,
    /// Seed of the pairs, of what methods draw, of the bootstrap and of random circuits
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Threads of libtorch (default: one for narrow models, whose operations are too small to share, else one a core)
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// The beginning-of-text token: as the tokenizer or the task says, before every prompt, or before none
    #[arg(long, value_enum, default_value = "auto")]
    pub bos: BosArgument,
    /// Slots for keys and values where query heads share them: one for every query head, or only those the model has
    #[arg(long, value_enum, default_value = "query-heads")]
    pub kv: KvArgument,
}

/// Parses the name of an ablation.
pub fn ablation_parser() -> impl TypedValueParser<Value = Ablation> {
    PossibleValuesParser::new(Ablation::ALL.map(Ablation::name)).try_map(|name| name.parse::<Ablation>())
}

/// Parses the name of a level.
pub fn level_parser() -> impl TypedValueParser<Value = Level> {
    let names = PossibleValuesParser::new(Level::ALL.map(Level::name));
    names.map(|name| Level::parse(&name).unwrap_or_default())
}

/// How edges, nodes or neurons are scored.
#[derive(Args, Clone)]
pub struct Scoring {
    /// A method; `penjing score --list` says which there are
    #[arg(long, default_value = "eap-ig")]
    pub method: String,
    /// Steps of eap-ig and eap-ig-activations
    #[arg(long, default_value_t = 5, value_name = "M")]
    pub steps: usize,
    /// Which end of the line from corrupt to clean eap-ig includes
    #[arg(long, value_enum, default_value = "corrupt")]
    pub endpoints: EndpointsArgument,
    /// What relp takes for constant: none, or some of ln, identity, half and attention
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["ln", "identity", "half"], value_name = "RULES")]
    pub rules: Vec<RuleArgument>,
    /// How much the loss may grow when acdc removes an edge
    #[arg(long, default_value_t = acdc::Options::default().tau, value_name = "T")]
    pub tau: f64,
    /// The loss that acdc keeps from growing and mask makes small
    #[arg(long, value_enum, default_value = "kl")]
    pub loss: LossArgument,
    /// In which order acdc visits the heads of a layer and the sources of a head
    #[arg(long, value_enum, default_value = "last-first")]
    pub order: OrderArgument,
    /// Let atp-star take the plain gradient at queries and keys, not what the attention pattern changes
    #[arg(long)]
    pub no_qk_fix: bool,
    /// Let atp-star take the whole gradient, not leave each layer out of it in turn
    #[arg(long)]
    pub no_grad_drop: bool,
    /// Which edges acdc tries: those of the graph, or also those from a head's q, k and v to the head, as in its paper
    #[arg(long, value_enum, default_value = "eap")]
    pub nodes: NodesArgument,
    /// The share of all edges that mask leaves out, between 0 and 1
    #[arg(long, default_value_t = mask::Options::default().sparsity, value_name = "T")]
    pub sparsity: f64,
    /// How many steps mask learns for
    #[arg(long, default_value_t = mask::Options::default().steps, value_name = "N")]
    pub mask_steps: usize,
    /// How far a step of mask moves what it learns of an edge (log alpha), at most about
    #[arg(long, default_value_t = mask::Options::default().rate, value_name = "R")]
    pub mask_rate: f64,
    /// Pairs run at once (default: as many as are fast and fit into --memory)
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum EndpointsArgument {
    Corrupt,
    Clean,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum RuleArgument {
    None,
    /// The scale of norms
    Ln,
    /// The ratio of an activation's output to its input
    Identity,
    /// Half of each product
    Half,
    /// Attention patterns
    Attention,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum LossArgument {
    /// KL divergence from the clean model
    Kl,
    /// Minus the task's metric
    Metric,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum OrderArgument {
    LastFirst,
    FirstFirst,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum NodesArgument {
    Eap,
    Acdc,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum BosArgument {
    Auto,
    Always,
    Never,
}

impl BosArgument {
    /// What was asked for here, else by the task.
    pub fn or(self, task: Option<bool>) -> Option<bool> {
        match self {
            BosArgument::Auto => task,
            BosArgument::Always => Some(true),
            BosArgument::Never => Some(false),
        }
    }

    /// What was asked for here, else when a circuit was found.
    pub fn or_as_recorded(self, options: &Options) -> BosArgument {
        match (self, options.get(BOS_ASKED).and_then(serde_json::Value::as_bool)) {
            (BosArgument::Auto, Some(true)) => BosArgument::Always,
            (BosArgument::Auto, Some(false)) => BosArgument::Never,
            (asked, _) => asked,
        }
    }
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum KvArgument {
    QueryHeads,
    Native,
}

impl From<KvArgument> for KvSlots {
    fn from(argument: KvArgument) -> KvSlots {
        match argument {
            KvArgument::QueryHeads => KvSlots::PerQueryHead,
            KvArgument::Native => KvSlots::Native,
        }
    }
}

impl Scoring {
    /// # Errors
    /// An unknown method, with the nearest one.
    pub fn method(&self, seed: u64) -> anyhow::Result<Method> {
        let endpoints = match self.endpoints {
            EndpointsArgument::Corrupt => eap_ig::Endpoints::Corrupt,
            EndpointsArgument::Clean => eap_ig::Endpoints::Clean,
        };
        let rule = |rule| self.rules.contains(&rule);
        if rule(RuleArgument::None) && self.rules.len() > 1 {
            let message = "--rules none leaves no place for others".to_owned();
            return Err(Usage { message, hint: "leave `none` out, or the others".into() }.into());
        }
        let rules = Rules {
            norms: rule(RuleArgument::Ln),
            activations: rule(RuleArgument::Identity),
            products: rule(RuleArgument::Half),
            patterns: rule(RuleArgument::Attention),
        };
        if !(self.tau > 0.0 && self.tau.is_finite()) {
            let message = format!("--tau {} is not a positive number", self.tau);
            return Err(
                Usage { message, hint: "it is in nats for --loss kl; the paper takes 0.0575 for ioi".into() }.into()
            );
        }
        if !(self.sparsity > 0.0 && self.sparsity < 1.0) {
            let message = format!("--sparsity {} is not between 0 and 1", self.sparsity);
            return Err(Usage { message, hint: "0.95 leaves one edge of twenty".into() }.into());
        }
        if !(self.mask_rate > 0.0 && self.mask_rate.is_finite()) {
            let message = format!("--mask-rate {} is not a positive number", self.mask_rate);
            return Err(Usage { message, hint: "the paper takes 0.8".into() }.into());
        }
        let loss = match self.loss {
            LossArgument::Kl => acdc::Loss::Kl,
            LossArgument::Metric => acdc::Loss::Metric,
        };
        let mask = mask::Options { sparsity: self.sparsity, steps: self.mask_steps, rate: self.mask_rate, loss, seed };
        let acdc = acdc::Options {
            tau: self.tau,
            loss,
            order: match self.order {
                OrderArgument::LastFirst => acdc::Order::LastFirst,
                OrderArgument::FirstFirst => acdc::Order::FirstFirst,
            },
            nodes: match self.nodes {
                NodesArgument::Eap => acdc::Nodes::Eap,
                NodesArgument::Acdc => acdc::Nodes::Acdc,
            },
        };
        let atp_star = atp_star::Options { qk_fix: !self.no_qk_fix, grad_drop: !self.no_grad_drop };
        let settings = Settings { steps: self.steps, endpoints, seed, rules, acdc, atp_star, mask };
        Ok(Method::parse(&self.method, &settings).map_err(penjing::Error::from)?)
    }
}

impl Subject {
    /// Refuses what cannot work before anything is loaded.
    ///
    /// # Errors
    /// [`Usage`] errors.
    pub fn check(&self) -> anyhow::Result<()> {
        let usage = |message: String, hint: &str| Err(Usage { message, hint: hint.to_owned() }.into());
        if self.pairs == 0 {
            return usage("--pairs 0 leaves nothing to work on".into(), "take 32 or more");
        }
        if self.threads == Some(0) {
            return usage("--threads 0 cannot work".into(), "leave --threads out");
        }
        Ok(())
    }

    /// Sets libtorch's threads for a model of this width.
    pub fn set_threads(&self, d_model: usize) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.unwrap_or(if d_model < 512 { 1 } else { cores });
        tch::set_num_threads(i32::try_from(threads).unwrap_or(1));
    }

    /// Where a command writes when `--out` is not given: `runs/<task>-<model>`.
    pub fn default_out(&self, task: &str, model: &str) -> PathBuf {
        // A name of the hub holds a slash.
        PathBuf::from("runs").join(format!("{task}-{}", model.replace(['/', '\\'], "-")))
    }
}
