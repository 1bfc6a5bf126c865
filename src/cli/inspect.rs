//! `penjing model show` and `penjing model check`: what a model is, and whether its numbers are right.

use super::Ended;
use super::options::KvArgument;
use super::resources::Resources;
use super::term::{Usage, print, print_json};
use clap::Args;
use comfy_table::Table;
use penjing::graph::{Dimensions, KvSlots};
use penjing::intervene::slice::site_name;
use penjing::measure::memory::{Sizes, in_words};
use penjing::model::site::Site;
use penjing::model::spec::{Branch, Layer, NormPlacement, Positions, QueryKeyNorm, Spec};
use penjing::model::{Loaded, load_with};
use penjing::parity;
use penjing::score::{Method, eap_ig};
use serde_json::json;
use std::path::PathBuf;

#[derive(Args)]
pub struct Show {
    /// An embedded toy model's name or a model folder
    model: String,
    /// Slots for keys and values where query heads share them
    #[arg(long, value_enum, default_value = "query-heads")]
    kv: KvArgument,
    /// Tokens of a prompt that the memory is estimated for
    #[arg(long, default_value_t = 20, value_name = "N")]
    tokens: usize,
    #[command(flatten)]
    resources: Resources,
}

#[derive(Args)]
pub struct Check {
    /// A model folder with a parity file
    model: String,
    /// Where expected.json and pairs.jsonl are, if not beside the model
    #[arg(long, value_name = "DIR")]
    expected: Option<PathBuf>,
    /// The largest difference that passes; for scores, relative to the score
    #[arg(long, default_value_t = 1e-4)]
    tolerance: f64,
    #[command(flatten)]
    resources: Resources,
}

fn load(model: &str, resources: &Resources) -> anyhow::Result<Loaded> {
    Ok(load_with(model, &resources.load_options()?).map_err(penjing::Error::from)?)
}

pub fn show(command: &Show, as_json: bool) -> anyhow::Result<Ended> {
    let loaded = load(&command.model, &command.resources)?;
    let spec = &loaded.model.spec;
    if !(1..=spec.context).contains(&command.tokens) {
        let message = format!("--tokens {} is no prompt of this model", command.tokens);
        return Err(Usage { message, hint: format!("it sees up to {} tokens", spec.context) }.into());
    }
    let dimensions = Dimensions::of(spec, KvSlots::from(command.kv));
    let sizes = Sizes::of(&loaded.model, dimensions, command.tokens, command.tokens);
    let needs = [("eap", Method::Eap), ("eap-ig", Method::EapIg(eap_ig::Options::default())), ("exact", Method::Exact)]
        .map(|(name, method)| (name, [1, 8].map(|pairs| sizes.peak(method.needs(), pairs, 1, 1))));
    let sites: Vec<(String, Vec<usize>)> =
        sites(spec).into_iter().map(|site| (site_name(site), site.shape(spec))).collect();
    if as_json {
        let memory: serde_json::Map<_, _> =
            needs.iter().map(|(name, [one, eight])| ((*name).to_owned(), json!({"1": one, "8": eight}))).collect();
        print_json(&json!({
            "id": loaded.id,
            "config_hash": loaded.config_hash,
            "family": spec.family,
            "layers": spec.layers,
            "heads": spec.heads,
            "kv_heads": spec.kv_heads,
            "d_model": spec.d_model,
            "d_head": spec.d_head,
            "d_mlp": spec.d_mlp,
            "vocab": spec.vocab,
            "context": spec.context,
            "choices": choices(spec),
            "nodes": dimensions.sources() + 1,
            "edges": dimensions.edges(),
            "weight_bytes": sizes.weights,
            "memory_bytes": {"tokens": command.tokens, "by_pairs": memory},
            "sites": sites.iter().map(|(name, shape)| json!({"name": name, "shape": shape})).collect::<Vec<_>>(),
        }))?;
        return Ok(Ended::Done);
    }
    let mut table = plain();
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    row("model", loaded.id.clone());
    row("family", spec.family.clone());
    row("layers", spec.layers.to_string());
    let shared = if spec.group() > 1 { format!(", keys and values in {}", spec.kv_heads) } else { String::new() };
    row("heads", format!("{} of width {}{shared}", spec.heads, spec.d_head));
    row("width", format!("{}, MLPs {}", spec.d_model, spec.d_mlp));
    row("vocabulary", spec.vocab.to_string());
    row("context", format!("{} tokens", spec.context));
    row("choices", choices(spec).join(", "));
    row("graph", format!("{} nodes, {} edges", dimensions.sources() + 1, dimensions.edges()));
    row("weights", in_words(sizes.weights));
    for (name, [one, eight]) in needs {
        let text =
            format!("{} with 1 pair of {} tokens at once, {} with 8", in_words(one), command.tokens, in_words(eight));
        row(&format!("memory, {name}"), text);
    }
    for (name, shape) in sites {
        row(&format!("site {name}"), format!("{shape:?}"));
    }
    print(&table.to_string())?;
    Ok(Ended::Done)
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table
}

/// What the model does beside plain attention and MLPs, in words.
fn choices(spec: &Spec) -> Vec<String> {
    let mut choices = Vec::new();
    let mut say = |said: bool, text: String| choices.extend(said.then_some(text));
    let attention = &spec.attention;
    say(true, format!("{:?}", spec.norm).to_lowercase());
    say(spec.placement == NormPlacement::BeforeAndAfter, "norms before and after".into());
    say(spec.placement == NormPlacement::After, "norms after".into());
    say(spec.parallel, "parallel attention and MLP".into());
    say(spec.mlp.is_none(), "attention only".into());
    say(spec.positions == Positions::Shortformer, "shortformer positions".into());
    for rotary in &attention.rotaries {
        say(true, format!("rotary in {} of {} dimensions", 2 * rotary.frequencies.len(), spec.d_head));
    }
    let windows: Vec<usize> = attention.layers.iter().filter_map(|layer| layer.window).collect();
    if let Some(window) = windows.first() {
        say(true, format!("window of {window} in {} layers", windows.len()));
    }
    say(attention.query_key_norm != QueryKeyNorm::None, "query and key norms".into());
    say(!attention.causal, "bidirectional".into());
    if let Some(mlp) = spec.mlp {
        say(true, format!("{}{:?} MLPs", if mlp.gated { "gated " } else { "" }, mlp.activation).to_lowercase());
    }
    for (cap, what) in [(attention.soft_cap, "attention"), (spec.logit_cap, "logits")] {
        if let Some(cap) = cap {
            say(true, format!("{what} capped at {cap}"));
        }
    }
    choices
}

/// The sites of the first layer and of none.
fn sites(spec: &Spec) -> Vec<Site> {
    let layer = Layer(0);
    let mut sites = vec![Site::TokenEmbedding, Site::BlockIn(layer)];
    sites.extend(Branch::ALL.map(|branch| Site::Projection(layer, branch)));
    sites.extend([
        Site::Pattern(layer),
        Site::Z(layer),
        Site::HeadOut(layer),
        Site::AttentionOut(layer),
        Site::Mid(layer),
    ]);
    if spec.mlp.is_some() {
        sites.extend([Site::MlpPre(layer), Site::MlpPost(layer), Site::MlpOut(layer)]);
    }
    sites.extend([Site::BlockOut(layer), Site::FinalIn, Site::Logits]);
    sites
}

pub fn check(command: &Check, as_json: bool) -> anyhow::Result<Ended> {
    if command.tolerance.is_nan() || command.tolerance < 0.0 {
        let message = format!("--tolerance {} is not a number from 0 up", command.tolerance);
        return Err(Usage { message, hint: "1e-4 is usual in f32".into() }.into());
    }
    let loaded = load(&command.model, &command.resources)?;
    let folder = command.expected.clone().unwrap_or_else(|| PathBuf::from(&command.model));
    let rows = parity::check(&folder, &loaded).map_err(penjing::Error::from)?;
    let passes = |row: &parity::Row| if row.of_scores { row.relative } else { row.difference } <= command.tolerance;
    let failed = rows.iter().filter(|row| !passes(row)).count();
    if as_json {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({
                    "name": row.name, "numbers": row.numbers, "largest": row.largest,
                    "difference": row.difference, "relative": row.relative, "passed": passes(row),
                })
            })
            .collect();
        print_json(&json!({"model": loaded.id, "tolerance": command.tolerance, "failed": failed, "tensors": rows}))?;
    } else {
        let mut table = plain();
        table.set_header(["tensor", "numbers", "largest", "max difference", "relative", ""]);
        for row in &rows {
            table.add_row([
                row.name.clone(),
                row.numbers.to_string(),
                format!("{:.4}", row.largest),
                format!("{:.1e}", row.difference),
                if row.of_scores { format!("{:.1e}", row.relative) } else { String::new() },
                (if passes(row) { "ok" } else { "differs" }).to_owned(),
            ]);
        }
        print(&format!("{table}\n\n{} of {} within {:e}", rows.len() - failed, rows.len(), command.tolerance))?;
    }
    Ok(if failed == 0 { Ended::Done } else { Ended::Failed })
}
