//! `report.html`: one page to explore a circuit with, in one file, without a network.
//!
//! [`neuron`] is the page of a single neuron. [`data`] is what the page shows; `page.html`, `page.css` and `page.js` show it.
//! The verdict of [`evidence`] is there without the script.

pub mod data;
mod evidence;
pub mod neuron;
pub mod result;

use crate::render::svg::escape;
use data::Page;

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page as a file.
///
/// # Errors
/// None in practice: the data hold nothing that JSON has not.
pub fn html(page: &Page) -> serde_json::Result<String> {
    // Inside of a script element only `<` could end it.
    let data = serde_json::to_string(&page.data())?.replace('<', "\\u003c");
    let report = page.circuit.report.as_ref();
    let pairs = report.map_or(0, |report| report.pairs).to_string();
    let parts = [
        ("title", escape(&page.title)),
        ("subtitle", escape(&page.subtitle)),
        ("description", escape(&page.description)),
        ("pairs", pairs),
        ("verdict", evidence::verdict(report, &page.findings)),
        ("templates", evidence::templates(report.and_then(|report| report.held_out.as_ref()))),
        ("command", escape(&page.command)),
        ("css", STYLE.to_owned()),
        ("data", data),
        ("js", SCRIPT.to_owned()),
    ];
    let mut out = String::with_capacity(TEMPLATE.len() + STYLE.len() + SCRIPT.len() + (1 << 16));
    // One pass: what is put in is not looked through again.
    let mut rest = TEMPLATE;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        out.push_str(before);
        out.push_str(parts.iter().find(|(known, _)| *known == name).map_or("", |(_, text)| text));
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}
