//! Comparisons as rows of text, for the terminal and for pages.

use super::matching::Matching;
use super::overlap::Overlap;
use super::{Compared, PARTS, Pair, SameGraph, Summary};
use crate::graph::Node;

/// A heading, rows below it, and sentences that go with them. All but the first column hold numbers.
#[derive(Clone, PartialEq, Debug)]
pub struct Grid {
    pub heading: Vec<String>,
    pub rows: Vec<Vec<String>>,
    pub sentences: Vec<String>,
}

fn texts<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

/// What each circuit is like.
pub fn summaries(all: &[Compared]) -> Grid {
    let found: Vec<Summary> = all.iter().map(Summary::new).collect();
    let row = |name: &str, value: &dyn Fn(&Summary) -> String| -> Vec<String> {
        std::iter::once(name.to_owned()).chain(found.iter().map(value)).collect()
    };
    let share = |shares: &[f64], index: usize| match shares.iter().sum::<f64>() {
        sum if sum > 0.0 => format!("{:.0} %", 100.0 * shares[index]),
        _ => "no scores".into(),
    };
    let mut rows = vec![
        row("layers × heads", &|of| format!("{} × {}", of.layers, of.heads_of_model)),
        row("heads", &|of| of.heads.to_string()),
        row("MLPs", &|of| of.mlps.to_string()),
        row("edges", &|of| format!("{} ({:.1} %)", of.edges, 100.0 * of.share_of_edges)),
        row("faithfulness", &|of| match of.faithfulness {
            Some((value, [low, high])) => format!("{value:.3} [{low:.3}, {high:.3}]"),
            None => "not measured".into(),
        }),
    ];
    for (index, writer) in ["input", "heads", "MLPs"].into_iter().enumerate() {
        rows.push(row(&format!("|score| from {writer}"), &|of| share(&of.written_by, index)));
    }
    for part in 0..PARTS {
        rows.push(row(&format!("|score| from depth {}/{PARTS}", part + 1), &|of| share(&of.by_depth, part)));
    }
    let heading = std::iter::once(String::new()).chain(all.iter().map(|one| one.name.clone())).collect();
    Grid { heading, rows, sentences: Vec::new() }
}

/// What two circuits have in common; `by_edges`: edge by edge, where edges correspond.
pub fn pair(pair: &Pair, by_edges: bool) -> Grid {
    match &pair.same_graph {
        Some(same) if by_edges => same_graph(same),
        _ => matching(&pair.matching),
    }
}

fn same_graph(same: &SameGraph) -> Grid {
    let row = |name: &str, overlap: &Overlap| {
        let Overlap { a, b, both, jaccard, interval: [low, high], chance, chance_interval: [least, most], p, .. } =
            overlap;
        vec![
            name.to_owned(),
            a.to_string(),
            b.to_string(),
            both.to_string(),
            format!("{jaccard:.3} [{low:.3}, {high:.3}]"),
            format!("{chance:.3} [{least:.3}, {most:.3}]"),
            if *p < 1e-4 { format!("{p:.0e}") } else { format!("{p:.4}") },
        ]
    };
    let (correlation, common) = same.rank_correlation;
    let said = correlation
        .map(|correlation| format!("rank correlation of the scores of {common} common edges: {correlation:.3}"));
    Grid {
        heading: texts(["", "first", "second", "both", "Jaccard", "by chance", "p"]),
        rows: vec![row("edges", &same.edges), row("nodes", &same.nodes)],
        sentences: said.into_iter().collect(),
    }
}

fn matching(matching: &Matching) -> Grid {
    let row = |pair: &super::matching::Match| {
        let numbers = [pair.cost.sum(), pair.cost.depth, pair.cost.profile, pair.cost.role];
        let names = [pair.a, pair.b].map(|node| node.to_string());
        names.into_iter().chain(numbers.map(|number| format!("{number:.3}"))).collect()
    };
    let alone = |nodes: &[Node]| match nodes {
        [] => "none".to_owned(),
        nodes => nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    Grid {
        heading: texts(["first", "second", "cost", "depth", "effect", "role"]),
        rows: matching.pairs.iter().map(row).collect(),
        sentences: vec![
            format!("only in the first: {}", alone(&matching.only_a)),
            format!("only in the second: {}", alone(&matching.only_b)),
            format!("cost of the matching: {:.3}", matching.cost),
        ],
    }
}
