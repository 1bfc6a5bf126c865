//! `comparison.html`: the picture and the tables of a comparison in one offline file, without a script.

use super::grid::{self, Grid};
use super::{Compared, Pair};
use crate::render::svg::escape;
use crate::report::result::shell;
use std::fmt::Write;

/// `drawing`: the circuits side by side, as SVG. `by_edges`: whether edges are compared where they correspond.
pub fn html(all: &[Compared], pairs: &[Pair], drawing: &str, by_edges: bool) -> String {
    let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
    let title = format!("{} compared", names.join(", "));
    let mut body =
        format!("<header><h1>{}</h1></header>\n<section>\n<div class=\"picture\">{drawing}</div>\n", escape(&title));
    table(&mut body, &grid::summaries(all));
    for pair in pairs {
        let [first, second] = pair.places.map(|place| escape(&all[place].name));
        let _ = writeln!(body, "<h2>{first} and {second}</h2>");
        table(&mut body, &grid::pair(pair, by_edges));
    }
    body.push_str("</section>\n");
    shell(&title, &body)
}

fn table(body: &mut String, grid: &Grid) {
    body.push_str("<table>\n");
    for (cells, element) in std::iter::once((&grid.heading, "th")).chain(grid.rows.iter().map(|row| (row, "td"))) {
        body.push_str("<tr>");
        for (column, cell) in cells.iter().enumerate() {
            let class = if column > 0 { " class=\"number\"" } else { "" };
            let _ = write!(body, "<{element}{class}>{}</{element}>", escape(cell));
        }
        body.push_str("</tr>\n");
    }
    body.push_str("</table>\n");
    for sentence in &grid.sentences {
        let _ = writeln!(body, "<p>{}</p>", escape(sentence));
    }
}
