//! What the numbers support, as markup that is on the page without its script: warnings, the verdict claim by claim, and
//! templates held out.

use crate::circuit::evidence::{HeldOut, Template};
use crate::circuit::report::Report;
use crate::circuit::validity::warnings;
use crate::circuit::verdict::{Finding, STABLE};
use crate::render::svg::escape;
use std::fmt::Write;

/// Warnings and verdict; nothing without findings. A standing is said in words, and colour only repeats it.
pub(super) fn verdict(report: Option<&Report>, findings: &[Finding]) -> String {
    let Some(report) = report.filter(|_| !findings.is_empty()) else {
        return String::new();
    };
    let mut out = String::from("<h2>Verdict</h2>\n");
    let warned = warnings(report);
    if !warned.is_empty() {
        out.push_str("<div class=\"warnings\" role=\"note\" aria-label=\"warnings\">\n");
        for warning in warned {
            let _ = writeln!(out, "<p><strong>Warning:</strong> {}.</p>", escape(&warning.to_string()));
        }
        out.push_str("</div>\n");
    }
    let _ = writeln!(
        out,
        "<p class=\"faint\">Measured on {} prompt pairs that did not choose the circuit. Supported: the opposite was rejected, or the \
         numbers reach what was asked (a stable selection: a Jaccard index of {STABLE}). Not refuted: a test that could have rejected \
         the claim did not. p: the chance of such numbers if the hypothesis that is tested were true, adjusted for all tests together \
         (Holm).</p>",
        report.pairs
    );
    out.push_str("<div class=\"wide\"><table class=\"verdict\">\n");
    out.push_str("<thead><tr><th scope=\"col\">the circuit</th><th scope=\"col\">verdict</th><th scope=\"col\">because</th></tr></thead>\n<tbody>\n");
    for Finding { claim, standing, words } in findings {
        let _ = writeln!(
            out,
            "<tr class=\"{}\"><th scope=\"row\">{}</th><td class=\"standing\">{}</td><td>{}</td></tr>",
            standing.words().replace(' ', "-"),
            escape(claim),
            standing.words(),
            escape(words)
        );
    }
    out.push_str("</tbody></table></div>\n");
    out
}

/// Every template under the circuit that was selected without it; nothing where none was held out.
pub(super) fn templates(held_out: Option<&HeldOut>) -> String {
    let Some(HeldOut { pairs, faithfulness, interval, faithfulness_of_all, templates }) = held_out else {
        return String::new();
    };
    let mut out = String::from(
        "<h2>Templates held out</h2>\n<p class=\"faint\">Faithfulness on the fresh pairs of a template under the circuit that was \
         selected from the pairs of all others, and under the one selected with it, both before needless parts are removed. Jaccard: \
         the share of the edges of either that both have.</p>\n<div class=\"wide\"><table class=\"templates\">\n<thead><tr>",
    );
    for (name, class) in
        [("template", ""), ("pairs", "number"), ("without it", "number"), ("with it", "number"), ("Jaccard", "number")]
    {
        let _ = write!(out, "<th scope=\"col\" class=\"{class}\">{name}</th>");
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    let mut row = |name: &str, pairs: usize, without: f64, interval: [f64; 2], with: f64, jaccard: Option<f64>| {
        let cells = [
            pairs.to_string(),
            format!("{} [{},\u{a0}{}]", number(without, 3), number(interval[0], 3), number(interval[1], 3)),
            number(with, 3),
            jaccard.map_or(String::new(), |jaccard| number(jaccard, 2)),
        ];
        let cells: String = cells.iter().map(|cell| format!("<td class=\"number\">{cell}</td>")).collect();
        let _ = writeln!(out, "<tr><th scope=\"row\">{}</th>{cells}</tr>", escape(name));
    };
    for Template { name, pairs, faithfulness, interval, faithfulness_of_all, jaccard } in templates {
        row(name, *pairs, *faithfulness, *interval, *faithfulness_of_all, Some(*jaccard));
    }
    row("all", *pairs, *faithfulness, *interval, *faithfulness_of_all, None);
    out.push_str("</tbody></table></div>\n");
    out
}

/// A dash for what is no number.
fn number(value: f64, digits: usize) -> String {
    if value.is_finite() { format!("{value:.digits$}") } else { "–".into() }
}
