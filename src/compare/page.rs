//! `comparison.html`: the picture and the tables of a comparison in one offline file, without a script.

use super::overlap::Overlap;
use super::{Compared, PARTS, Pair, Summary};
use crate::graph::Node;
use crate::render::svg::escape;
use std::fmt::Write;

const STYLE: &str = include_str!("../report/page.css");

/// `drawing`: the circuits side by side, as SVG. `by_edges`: whether edges are compared where they correspond.
pub fn html(all: &[Compared], pairs: &[Pair], drawing: &str, by_edges: bool) -> String {
    let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
    let title = escape(&format!("{} compared", names.join(", ")));
    let mut body =
        format!("<header><h1>{title}</h1></header>\n<section>\n<div class=\"scroll picture\">{drawing}</div>\n");
    summaries(&mut body, all);
    for pair in pairs {
        let [first, second] = pair.places.map(|place| escape(&all[place].name));
        let _ = writeln!(body, "<h2>{first} and {second}</h2>");
        match &pair.same_graph {
            Some(same) if by_edges => {
                let rows =
                    [("edges", &same.edges), ("nodes", &same.nodes)].map(|(name, overlap)| overlap_row(name, overlap));
                table(&mut body, &["", &first, &second, "both", "Jaccard", "by chance", "p"], &rows);
                if let (Some(correlation), common) = same.rank_correlation {
                    let _ = writeln!(
                        body,
                        "<p>Rank correlation of the scores of {common} common edges: {correlation:.3}</p>"
                    );
                }
            }
            _ => {
                let rows: Vec<Vec<String>> = pair
                    .matching
                    .pairs
                    .iter()
                    .map(|matched| {
                        let cost = matched.cost;
                        let numbers =
                            [cost.sum(), cost.depth, cost.profile, cost.role].map(|number| format!("{number:.3}"));
                        [matched.a.to_string(), matched.b.to_string()].into_iter().chain(numbers).collect()
                    })
                    .collect();
                table(&mut body, &[&first, &second, "cost", "depth", "effect", "role"], &rows);
                let _ = writeln!(
                    body,
                    "<p>Only in {first}: {}.</p>\n<p>Only in {second}: {}.</p>\n<p>Cost of the matching: {:.3}.</p>",
                    alone(&pair.matching.only_a),
                    alone(&pair.matching.only_b),
                    pair.matching.cost
                );
            }
        }
    }
    body.push_str("</section>\n");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n{STYLE}\n.picture {{ max-height: none; background: #fff; }}\n</style>\n</head>\n\
         <body>\n{body}</body>\n</html>\n"
    )
}

fn summaries(body: &mut String, all: &[Compared]) {
    let found: Vec<Summary> = all.iter().map(Summary::new).collect();
    let row = |name: &str, value: &dyn Fn(&Summary) -> String| -> Vec<String> {
        std::iter::once(name.to_owned()).chain(found.iter().map(value)).collect()
    };
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
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
    rows.extend(
        ["input", "heads", "MLPs"]
            .iter()
            .enumerate()
            .map(|(index, writer)| row(&format!("|score| from {writer}"), &|of| percent(of.written_by[index]))),
    );
    rows.extend(
        (0..PARTS)
            .map(|part| row(&format!("|score| from depth {}/{PARTS}", part + 1), &|of| percent(of.by_depth[part]))),
    );
    let names: Vec<String> = all.iter().map(|one| escape(&one.name)).collect();
    let heading: Vec<&str> = std::iter::once("").chain(names.iter().map(String::as_str)).collect();
    table(body, &heading, &rows);
}

fn overlap_row(name: &str, overlap: &Overlap) -> Vec<String> {
    let Overlap { a, b, both, jaccard, interval: [low, high], chance, chance_interval: [least, most], p, .. } = overlap;
    vec![
        name.to_owned(),
        a.to_string(),
        b.to_string(),
        both.to_string(),
        format!("{jaccard:.3} [{low:.3}, {high:.3}]"),
        format!("{chance:.3} [{least:.3}, {most:.3}]"),
        format!("{p:.1e}"),
    ]
}

fn alone(nodes: &[Node]) -> String {
    match nodes {
        [] => "none".to_owned(),
        nodes => nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// Cells are text that needs no escape, the heading is escaped already.
fn table(body: &mut String, heading: &[&str], rows: &[Vec<String>]) {
    body.push_str("<table><thead><tr>");
    for (column, cell) in heading.iter().enumerate() {
        let class = if column > 0 { " class=\"number\"" } else { "" };
        let _ = write!(body, "<th{class}>{cell}</th>");
    }
    body.push_str("</tr></thead><tbody>\n");
    for row in rows {
        body.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let class = if column > 0 { " class=\"number\"" } else { "" };
            let _ = write!(body, "<td{class}>{cell}</td>");
        }
        body.push_str("</tr>\n");
    }
    body.push_str("</tbody></table>\n");
}
