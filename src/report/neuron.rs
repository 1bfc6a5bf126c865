//! The page of a neuron: where it is active in a text, token by token, and what it writes. One file without scripts.

use crate::render::svg::escape;
use std::fmt::Write;

/// How many bars the histogram has.
const BARS: usize = 48;

/// A piece of text around a token, with the neuron's value at every token.
#[derive(Clone, PartialEq, Debug)]
pub struct Snippet {
    pub tokens: Vec<(String, f64)>,
    /// Which of them it is shown for.
    pub focus: usize,
}

/// What the page shows.
#[derive(Clone, PartialEq, Debug)]
pub struct NeuronPage {
    /// Such as `L1.N17`.
    pub name: String,
    /// Model and text.
    pub subtitle: String,
    /// Names and numbers, in order.
    pub figures: Vec<(String, String)>,
    /// Sampled values.
    pub sample: Vec<f64>,
    /// Tokens whose logits it raises and lowers most, and neurons that go with it, each with a number.
    pub lists: Vec<(String, Vec<(String, f64)>)>,
    /// Examples under their headings.
    pub groups: Vec<(String, Vec<Snippet>)>,
}

const STYLE: &str = "
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2330; --faint: #5f6673; --rule: #d9dde4; --up: 11, 79, 156; --down: 194, 86, 10; }
@media (prefers-color-scheme: dark) { :root { --paper: #12161d; --ink: #e8ebf0; --faint: #a3acba; --rule: #2f3743; --up: 108, 180, 255; --down: 255, 154, 77; } }
body { margin: 0 auto; max-width: 60em; padding: 16px; background: var(--paper); color: var(--ink); font: 15px/1.55 Helvetica, Arial, 'Liberation Sans', sans-serif; }
h1 { font-size: 22px; margin: 0; } h2 { font-size: 17px; margin: 22px 0 4px; } .faint { color: var(--faint); }
table { border-collapse: collapse; } td, th { padding: 1px 14px 1px 0; text-align: left; vertical-align: top; } th { font-weight: normal; color: var(--faint); }
td.number { text-align: right; font-variant-numeric: tabular-nums; } .lists { display: flex; flex-wrap: wrap; gap: 8px 40px; }
.example { display: grid; grid-template-columns: 4.5em 1fr; border-top: 1px solid var(--rule); padding: 3px 0; }
.example .value { font-variant-numeric: tabular-nums; } .text { white-space: pre-wrap; overflow-wrap: anywhere; }
.text b { font-weight: inherit; outline: 1px solid var(--ink); } svg { max-width: 100%; } .up { fill: rgb(var(--up)); } .down { fill: rgb(var(--down)); } text { fill: var(--faint); font-size: 11px; }
";

/// The page as a file.
pub fn html(page: &NeuronPage) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
        <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{name}</title>\n\
        <style>{STYLE}</style>\n<h1>{name}</h1>\n<p class=\"faint\">{}</p>\n<table>",
        escape(&page.subtitle),
        name = escape(&page.name),
    );
    for (name, value) in &page.figures {
        let _ = write!(out, "<tr><th>{}<td>{}", escape(name), escape(value));
    }
    let _ =
        write!(out, "</table>\n<h2>Values at sampled tokens</h2>\n{}\n<div class=\"lists\">", histogram(&page.sample));
    for (title, list) in &page.lists {
        let _ = write!(out, "<div><h2>{}</h2><table>", escape(title));
        for (name, value) in list {
            let _ = write!(out, "<tr><td class=\"text\">{}<td class=\"number\">{value:.3}", escape(&visible(name)));
        }
        out.push_str("</table></div>");
    }
    out.push_str("</div>\n");
    let largest = page.groups.iter().flat_map(|(_, group)| group).flat_map(|snippet| &snippet.tokens);
    let largest = largest.map(|(_, value)| value.abs()).fold(1e-12, f64::max);
    for (title, group) in &page.groups {
        let _ = writeln!(out, "<h2>{}</h2>", escape(title));
        for snippet in group {
            out.push_str(&example(snippet, largest));
        }
    }
    out
}

/// A line feed as a sign.
fn visible(text: &str) -> String {
    text.replace('\n', "↵")
}

fn example(snippet: &Snippet, largest: f64) -> String {
    let value = snippet.tokens.get(snippet.focus).map_or(f64::NAN, |(_, value)| *value);
    let mut out = format!("<div class=\"example\"><span class=\"value\">{value:.3}</span><span class=\"text\">");
    for (index, (text, value)) in snippet.tokens.iter().enumerate() {
        let side = if *value < 0.0 { "down" } else { "up" };
        let tag = if index == snippet.focus { "b" } else { "span" };
        let share = 0.65 * value.abs() / largest;
        let text = escape(&visible(text));
        let _ = if share < 0.01 && tag == "span" {
            write!(out, "{text}")
        } else {
            write!(
                out,
                "<{tag} style=\"background: rgba(var(--{side}), {share:.2})\" title=\"{value:.3}\">{text}</{tag}>"
            )
        };
    }
    out.push_str("</span></div>\n");
    out
}

/// Heights are square roots of counts, so that rare values are seen beside the usual ones.
fn histogram(sample: &[f64]) -> String {
    let (low, high) =
        sample.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &value| (low.min(value), high.max(value)));
    if sample.is_empty() || low >= high {
        return "<p class=\"faint\">All sampled values are the same.</p>".into();
    }
    let mut bars = [0usize; BARS];
    for value in sample {
        bars[(((value - low) / (high - low) * BARS as f64) as usize).min(BARS - 1)] += 1;
    }
    let most = bars.iter().copied().max().unwrap_or(1).max(1) as f64;
    let mut out = String::from("<svg viewBox=\"0 0 480 112\" width=\"480\" height=\"112\" role=\"img\">");
    for (index, &count) in bars.iter().enumerate().filter(|(_, count)| **count > 0) {
        let height = 90.0 * (count as f64 / most).sqrt();
        let middle = low + (index as f64 + 0.5) / BARS as f64 * (high - low);
        let side = if middle < 0.0 { "down" } else { "up" };
        let (x, y) = (index * 10, 94.0 - height);
        let _ = write!(
            out,
            "<rect class=\"{side}\" x=\"{x}\" y=\"{y:.1}\" width=\"9\" height=\"{height:.1}\"><title>{count} of {}, around {middle:.3}</title></rect>",
            sample.len()
        );
    }
    let _ = write!(
        out,
        "<text x=\"0\" y=\"108\">{low:.3}</text><text x=\"480\" y=\"108\" text-anchor=\"end\">{high:.3}</text></svg>\n\
        <p class=\"faint\">{} tokens; heights are square roots of counts.</p>",
        sample.len()
    );
    out
}
