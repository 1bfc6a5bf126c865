//! `run.json`: what was run.

use penjing::circuit::file::Provenance;
use serde_json::{Value, json};

/// `run.json`: the exact command, versions and timings; the one file of a run that differs between two equal runs.
pub fn run_record(provenance: &Provenance, seconds: &[(&str, f64)]) -> Value {
    let timings: serde_json::Map<String, Value> =
        seconds.iter().map(|(phase, seconds)| ((*phase).to_owned(), json!(seconds))).collect();
    json!({
        "schema": "penjing.run/1",
        "command": std::env::args().collect::<Vec<_>>(),
        "penjing": env!("CARGO_PKG_VERSION"),
        "libtorch": option_env!("PENJING_LIBTORCH_VERSION"),
        "threads": provenance.threads,
        "task": provenance.task,
        "model": provenance.model,
        "method": provenance.method,
        "selection": provenance.selection,
        "seed": provenance.seed,
        "seconds": timings,
    })
}
