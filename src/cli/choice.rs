//! Options that say which edges `penjing discover` takes first, and which it leaves out.

use super::discover::LevelArgument;
use super::term::{Usage, note};
use clap::Args;
use penjing::circuit::EdgeMask;
use penjing::circuit::consistent::consistent;
use penjing::circuit::file::Options;
use penjing::discover::{NODE_PRICE, Ranking};
use penjing::graph::Graph;
use penjing::score::{Method, State};
use penjing::statistics::interval::LEVEL;
use penjing::statistics::resample::RESAMPLES;
use serde_json::json;

#[derive(Args)]
pub struct Choice {
    /// How edges are ranked
    #[arg(long, value_enum, default_value = "absolute")]
    rank: RankArgument,
    /// What a node costs with --rank net-value, in edges (default: 2)
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    node_price: Option<f64>,
    /// Take only edges whose score has one sign when the pairs are drawn anew: its 95 % interval does not reach 0
    #[arg(long)]
    pub consistent: bool,
    /// Fill this share of a circuit, from 0 to 1, with the edges that help most and the rest with those that harm most
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    positive_share: Option<f64>,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum RankArgument {
    /// By |score|
    Absolute,
    /// By score, helpful edges first
    Signed,
    /// Best edges into what is reached, from the logits down
    Greedy,
    /// The connected circuit of largest |score| after edges and nodes are paid for
    NetValue,
}

fn usage<T>(message: String, hint: &str) -> anyhow::Result<T> {
    Err(Usage { message, hint: hint.to_owned() }.into())
}

impl Choice {
    pub fn ranking(&self) -> Ranking {
        match (self.rank, self.positive_share) {
            (_, Some(positive)) => Ranking::OfShare { positive },
            (RankArgument::Absolute, _) => Ranking::Absolute,
            (RankArgument::Signed, _) => Ranking::Signed,
            (RankArgument::Greedy, _) => Ranking::Greedy,
            (RankArgument::NetValue, _) => Ranking::NetValue { node_price: self.node_price.unwrap_or(NODE_PRICE) },
        }
    }

    /// Refuses what cannot work before anything is loaded.
    ///
    /// # Errors
    /// [`Usage`] errors.
    pub fn check(&self, level: LevelArgument, threshold: bool, method: &Method) -> anyhow::Result<()> {
        let by_edges = match self.rank {
            RankArgument::Greedy => Some("greedy"),
            RankArgument::NetValue => Some("net-value"),
            RankArgument::Absolute | RankArgument::Signed => None,
        };
        if level != LevelArgument::Edge {
            if let Some(rank) = by_edges {
                let message = format!("--rank {rank} follows edges, so it ranks no nodes");
                return usage(message, "take --rank absolute or signed");
            }
            if self.consistent || self.positive_share.is_some() {
                let option = if self.consistent { "--consistent" } else { "--positive-share" };
                return usage(format!("{option} chooses among edges"), "leave --level out");
            }
        }
        if let Some(price) = self.node_price {
            if !(price >= 0.0 && price.is_finite()) {
                let message = format!("--node-price {price} is no number of edges");
                return usage(message, "0 makes nodes free; 2 does best on the toy models");
            }
            if self.rank != RankArgument::NetValue {
                let hint = "add --rank net-value, or leave it out";
                return usage("--node-price is paid with --rank net-value alone".into(), hint);
            }
        }
        if threshold && self.rank == RankArgument::NetValue {
            let message = "--rank net-value takes no --threshold: edges stay or go together".to_owned();
            return usage(message, "say how many with --edges, or how faithful with --faithfulness");
        }
        if let Some(share) = self.positive_share {
            if !(0.0..=1.0).contains(&share) {
                return usage(format!("--positive-share {share} is not between 0 and 1"), "0.6 to 0.9 are usual");
            }
            if self.rank != RankArgument::Absolute {
                return usage("--positive-share is a ranking of its own".into(), "leave --rank out");
            }
            if threshold {
                let hint = "say how many with --edges, or how faithful with --faithfulness";
                return usage("--positive-share is a share of a number of edges".into(), hint);
            }
        }
        if self.consistent && !method.adds_up() {
            let message =
                format!("`{}` scores all pairs together, so --consistent has no pairs to draw anew", method.name());
            return usage(message, "leave --consistent out, or take another method, such as eap-ig");
        }
        Ok(())
    }

    /// # Errors
    /// [`Usage`]: features are ranked by |score|.
    pub fn check_features(&self) -> anyhow::Result<()> {
        if self.consistent || self.positive_share.is_some() || self.rank == RankArgument::NetValue {
            let message = "--rank net-value, --consistent and --positive-share choose among edges".to_owned();
            return usage(message, "leave them out with --level feature");
        }
        Ok(())
    }

    /// The edges of one sign, where only those are wanted.
    ///
    /// # Errors
    /// [`Usage`] when the run kept no scores of pairs, or no edge has one sign.
    pub fn consistent_edges(
        &self,
        graph: &Graph,
        state: &State,
        seed: u64,
        method: &Method,
    ) -> anyhow::Result<Option<EdgeMask>> {
        if !self.consistent {
            return Ok(None);
        }
        let Some(per_pair) = &state.per_pair else {
            let message = format!("`{}` kept no scores of single pairs, which --consistent draws anew", method.name());
            return usage(message, "leave --consistent out, or take another method, such as eap-ig");
        };
        let edges = consistent(graph, per_pair.view(), RESAMPLES, seed);
        if edges.count() == 0 {
            let message = format!("no edge has a score of one sign on {} pairs", state.pairs);
            return usage(message, "take more --pairs, or leave --consistent out");
        }
        note(&format!("{} of {} edges have scores of one sign", edges.count(), graph.edge_count()));
        Ok(Some(edges))
    }

    /// Adds to what a circuit file says of its selection.
    pub fn record(&self, ranking: Ranking, consistent: Option<usize>, options: &mut Options) {
        match ranking {
            Ranking::NetValue { node_price } => drop(options.insert("node_price".into(), json!(node_price))),
            Ranking::OfShare { positive } => drop(options.insert("positive_share".into(), json!(positive))),
            Ranking::Absolute | Ranking::Signed | Ranking::Greedy => {}
        }
        if let Some(edges) = consistent {
            let record = json!({ "edges": edges, "level": LEVEL, "resamples": RESAMPLES });
            options.insert("consistent".into(), record);
        }
    }
}
