//! A Patchscope's affine maps, and how well it reads many sources.

use super::patchscope::{MappingArgument, Patchscope, position};
use super::progress::Progress;
use super::term::{Usage, note};
use super::texts;
use comfy_table::{CellAlignment, Table, presets};
use ndarray::Array2;
use penjing::circuit::file::write_atomically;
use penjing::inside::affine::{self, Maps, MapsV1};
use penjing::inside::backpatch::Share;
use penjing::inside::patchscope::Target;
use penjing::inside::resample::{Mean, interval, mean};
use penjing::inside::scope;
use penjing::inside::store::{Origin, Recorded};
use penjing::model::Loaded;
use penjing::render::chart::{Line, traces};
use penjing::render::heatmap::Heatmap;
use penjing::render::scene::Scene;
use penjing::render::style::Style;
use penjing::task::Split;
use serde_json::{Value, json};
use tch::Tensor;

/// Tokens of a window of the text that maps are fitted on, at most.
const WINDOW: usize = 128;

/// The maps that the mapping needs, fitted or read.
///
/// # Errors
/// No text and no file to take them from, or a file of another model or without these layers.
pub fn maps(command: &Patchscope, loaded: &Loaded, pairs: &[(usize, usize)]) -> anyhow::Result<Option<Maps>> {
    let usage = |message: String, hint: &str| Usage { message, hint: hint.to_owned() };
    if command.mapping != MappingArgument::Affine {
        return match command.fit.is_some() || command.maps.is_some() {
            true => Err(usage("affine maps are given and not used".into(), "say --mapping affine").into()),
            false => Ok(None),
        };
    }
    if let Some(path) = &command.maps {
        let (maps, _) = Maps::from_file(path, &loaded.model).map_err(penjing::Error::from)?;
        return match pairs.iter().find(|pair| !maps.0.contains_key(pair)) {
            None => Ok(Some(maps)),
            Some((source, target)) => {
                let message = format!("{} has no map from L{source} to L{target}", path.display());
                Err(usage(message, "fit all pairs of layers with --fit, --grid and --keep-maps").into())
            }
        };
    }
    let Some(path) = &command.fit else {
        let message = "an affine mapping is fitted on a text".to_owned();
        return Err(usage(message, "give --fit FILE, or --maps FILE that an earlier run kept").into());
    };
    let window = WINDOW.min(loaded.model.spec.context);
    let corpus = texts::corpus(&texts::texts(path, false)?, loaded, window, command.on.bos)?;
    let (tokens, width) = (corpus.counted().count(), loaded.model.spec.d_model);
    if tokens < 4 * width {
        note(&format!("note: {tokens} tokens are few for maps of {width} × {width}: they fit the text"));
    }
    let progress = Progress::bar("fitting maps");
    let maps = affine::fit(&loaded.model, &corpus, pairs, &mut |share| progress.set(share));
    drop(progress);
    if let Some(out) = &command.keep_maps {
        let text = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let (schema, origin) = (MapsV1::SCHEMA.into(), Origin::of(&loaded.model, &loaded.id));
        let record = MapsV1 { schema, origin, text, tokens, pairs: maps.0.keys().copied().collect() };
        write_atomically(out, &maps.to_bytes(&record)?).map_err(penjing::Error::from)?;
    }
    Ok(Some(maps))
}

/// What was found over many sources.
pub struct OverPrompts {
    pub sources: usize,
    /// The layers, how often the prediction is the source's, and the surprisal with its interval.
    pairs: Vec<((usize, usize), Share, Mean)>,
    grid: bool,
}

/// Values of a layer, as they are put into another.
type Mapped<'a> = &'a dyn Fn((usize, usize), &Tensor) -> Tensor;

/// Reads all sources that are asked for; nothing where none are.
///
/// # Errors
/// Prompts that cannot be read, or that the model cannot take.
pub fn over_prompts(
    command: &Patchscope,
    loaded: &Loaded,
    (target, into): (&Target, usize),
    pairs: &[(usize, usize)],
    mapped: Mapped,
) -> anyhow::Result<Option<OverPrompts>> {
    let mut prompts = command.prompts.as_deref().map(texts::prompts).transpose()?.unwrap_or_default();
    prompts.extend(texts::clean_prompts(command.task.as_slice(), command.pairs, (Split::Train, command.seed))?);
    if prompts.is_empty() {
        return Ok(None);
    }
    let mut sources = Vec::new();
    for text in [&command.on.prompt].into_iter().chain(&prompts) {
        let encoded = command.on.encode(text, loaded, 0)?;
        let at = position(&command.at, &encoded.1)?;
        sources.push((encoded, at));
    }
    let progress = Progress::bar("reading sources");
    let read = scope::sources(&loaded.model, &sources, &mut |share| progress.set(share));
    drop(progress);
    let progress = Progress::bar("patching sources");
    let found = pairs.iter().enumerate().map(|(done, &(source, layer))| {
        progress.set(done as f64 / pairs.len() as f64);
        let values = mapped((source, layer), &read.values[source]);
        let scores = scope::scores(target, (layer, into), &values, &read.said);
        let surprisals: Vec<f64> = scores.iter().map(|(_, surprisal)| *surprisal).collect();
        let hits = scores.iter().filter(|(hit, _)| *hit).count();
        let surprisal = (mean(&surprisals), interval(&surprisals, command.seed));
        ((source, layer), Share::new(hits, scores.len()), surprisal)
    });
    let pairs = found.collect();
    Ok(Some(OverPrompts { sources: sources.len(), pairs, grid: command.grid }))
}

fn ratio(share: &Share) -> f64 {
    share.count as f64 / share.of.max(1) as f64
}

impl OverPrompts {
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["from", "into", "precision@1", "surprisal, nats"]);
        for ((source, target), share, (mean, [low, high])) in &self.pairs {
            let [from, to] = share.interval;
            table.add_row([
                format!("L{source}"),
                format!("L{target}"),
                format!("{:.3} [{from:.3}, {to:.3}]", ratio(share)),
                format!("{mean:.3} [{low:.3}, {high:.3}]"),
            ]);
        }
        for column in 2..4 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }

    /// Precision: a line over layers, or a table with sources upwards.
    pub fn scene(&self, layers: usize, style: &Style) -> Scene {
        if !self.grid {
            let values = self.pairs.iter().map(|(_, share, _)| ratio(share)).collect();
            let line = Line { name: format!("{} sources", self.sources), values };
            let places: Vec<String> = self.pairs.iter().map(|((layer, _), ..)| format!("L{layer}")).collect();
            return traces(&places, &[line], "precision@1", style);
        }
        let value = |(row, column)| {
            let found = self.pairs.iter().find(|(pair, ..)| *pair == (layers - 1 - row, column));
            found.map_or(f64::NAN, |(_, share, _)| ratio(share))
        };
        let values = Array2::from_shape_fn((layers, layers), value);
        let map = Heatmap {
            title: String::new(),
            rows: (0..layers).rev().map(|layer| format!("from L{layer}")).collect(),
            columns: (0..layers).map(|layer| format!("L{layer}")).collect(),
            column_name: "into".into(),
            value_name: "precision@1".into(),
            texts: Some(values.map(|value| format!("{value:.2}"))),
            values,
        };
        map.scene(style)
    }

    pub fn document(&self) -> Value {
        let pairs = self.pairs.iter().map(|((source, target), share, (mean, interval))| {
            json!({
                "source_layer": source,
                "target_layer": target,
                "precision": { "mean": ratio(share), "interval": share.interval },
                "surprisal": { "mean": mean, "interval": interval },
            })
        });
        json!({ "sources": self.sources, "pairs": pairs.collect::<Vec<_>>() })
    }
}
