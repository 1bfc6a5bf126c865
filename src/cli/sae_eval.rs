//! `penjing sae eval`: what a dictionary keeps of a text, and with several tasks which features go with which.

use super::Ended;
use super::progress::Progress;
use super::resources::Resources;
use super::results::Results;
use super::sae_train::density as density_figure;
use super::term::{make_folder, note, print, print_json};
use super::texts::{self, Reading};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use penjing::dictionary::{Dictionary, file};
use penjing::inside::sae::labels::{Label, labels};
use penjing::inside::sae::metrics::{Density, Reconstruction, measure, reconstruction};
use penjing::inside::sae::splice::{Spliced, splice};
use penjing::inside::sae::stream::{Stream, activations};
use penjing::inside::sae::{self, SaeError};
use penjing::model::site::Site;
use penjing::model::{Loaded, load_with};
use penjing::render::style::{Style, StyleError};
use penjing::render::theme::Theme;
use penjing::task::Split;
use serde_json::json;
use std::ops::Range;
use std::path::PathBuf;
use tch::{Kind, Tensor};

#[derive(Args)]
pub struct Eval {
    /// The dictionary
    file: PathBuf,
    #[command(flatten)]
    reading: Reading,
    /// An embedded toy model's name or a Hugging Face folder
    #[arg(long, short, default_value = penjing::model::embedded::DEFAULT, value_name = "MODEL")]
    model: String,
    /// Where it reads, if its file does not say
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// Tokens of the text, at most
    #[arg(long, default_value_t = 65_536, value_name = "N")]
    tokens: usize,
    #[command(flatten)]
    resources: Resources,
    /// Draws the prompts of tasks
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for sae-eval.json and sae-density.svg
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Colours of the figure: paper, dark, colour-blind-safe or greyscale
    #[arg(long, default_value = "paper", value_name = "THEME")]
    theme: String,
}

/// A style by the name of its theme.
///
/// # Errors
/// An unknown theme.
pub fn style(theme: &str) -> anyhow::Result<Style> {
    let theme = Theme::named(theme).ok_or_else(|| StyleError::Theme { name: theme.to_owned() });
    Ok(Style { theme: theme.map_err(penjing::Error::from)?, ..Style::default() })
}

pub fn run(command: &Eval, as_json: bool) -> anyhow::Result<Ended> {
    let style = style(&command.theme)?;
    let dictionary = file::read(&command.file).map_err(penjing::Error::from)?;
    let loaded = load_with(&command.model, &command.resources.load_options()?).map_err(penjing::Error::from)?;
    let site = fitting(&dictionary, command.site.as_deref(), &loaded)?;
    let dictionary = dictionary.to(loaded.model.device, Kind::Float);
    let (corpus, window) = command.reading.corpus(&loaded, (Split::Test, command.seed))?;
    if let Some(out) = &command.out {
        make_folder(out)?;
    }
    let mut count = 0;
    let within = corpus.windows.iter().take_while(|window| {
        count += window.len() - corpus.lead;
        count <= command.tokens
    });
    let windows: Vec<Range<usize>> = within.filter(|window| window.len() > corpus.lead).cloned().collect();
    if windows.is_empty() {
        let tokens = corpus.counted().count();
        return Err(penjing::Error::from(SaeError::Short { tokens, needed: 2 }).into());
    }
    let progress = Progress::bar("measuring");
    let all = activations(&loaded.model, &corpus, site, &mut windows.clone()); // [position, width]
    let mut stream = Stream::new(&loaded.model, &corpus, site, Vec::new());
    stream.measure_outliers(&all);
    let x = stream.without_outliers(all); // [position, width]
    let (x_hat, density) = measure(&dictionary, &x);
    let kept = reconstruction(&x, &x_hat);
    let mean = x.mean_dim(0, false, Kind::Double); // [width]
    let spliced = splice((&loaded.model, site), (&corpus, &windows), (&dictionary, &mean), &mut |share| {
        progress.set(share);
    });
    drop(progress);
    let labels = if command.reading.task.len() > 1 {
        labelled(command, &dictionary, &loaded, site, window)?
    } else {
        Vec::new()
    };
    if stream.outliers > 0 {
        note(&format!("{} positions were left out: more than ten times as long as the median", stream.outliers));
    }
    let document = json!({
        "schema": "penjing.sae-eval/1",
        "file": command.file,
        "model": loaded.id,
        "text": command.reading.source(),
        "outliers": stream.outliers,
        "reconstruction": kept,
        "density": density,
        "spliced": spliced,
        "labels": labels,
    });
    let text = text(&kept, &density, &spliced, &labels);
    if let Some(out) = &command.out {
        let mut results = Results::new(out, "sae-eval", &document)?;
        results.picture("sae-density.svg", &density_figure(&density, &style))?;
        results.page("What a dictionary keeps", &text)?;
    }
    match as_json {
        true => print_json(&document)?,
        false => print(&text)?,
    }
    Ok(Ended::Done)
}

/// The site that a dictionary reads, in a model that it fits.
fn fitting(dictionary: &Dictionary, site: Option<&str>, loaded: &Loaded) -> Result<Site, penjing::Error> {
    let written = site.or(dictionary.record.site.as_deref()).ok_or(SaeError::NoSite)?;
    let (site, width) = sae::site(written, &loaded.model.spec)?;
    if width != dictionary.width() {
        return Err(SaeError::Width { found: dictionary.width(), width, site: written.to_owned() }.into());
    }
    dictionary.check_weights(&loaded.model.fingerprint())?;
    Ok(site)
}

/// For each task the feature that goes with it most.
fn labelled(
    command: &Eval,
    dictionary: &Dictionary,
    loaded: &Loaded,
    site: Site,
    window: usize,
) -> anyhow::Result<Vec<Label>> {
    let mut texts: Vec<(Tensor, Tensor, usize)> = Vec::new();
    let Reading { task, pairs, bos, .. } = &command.reading;
    for (kind, name) in task.iter().enumerate() {
        let prompts = texts::clean_prompts(std::slice::from_ref(name), *pairs, (Split::Test, command.seed))?;
        let corpus = texts::corpus(&prompts, loaded, window, *bos)?;
        let mut windows = corpus.windows.clone();
        let x = activations(&loaded.model, &corpus, site, &mut windows); // [position, width]
        let mut start = 0;
        for length in windows.iter().map(|window| window.len() - corpus.lead).filter(|&length| length > 0) {
            let own = x.narrow(0, start, length as i64); // [position, width]
            texts.push((dictionary.encode(&own), own, kind));
            start += length as i64;
        }
    }
    Ok(labels(&command.reading.task, &texts))
}

fn text(kept: &Reconstruction, density: &Density, spliced: &Spliced, labels: &[Label]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let number = |value: f64| format!("{value:.4}");
    let rows = [
        ("FVU", number(kept.fvu), "Σ‖x − x̂‖² / Σ‖x − x̄‖²; explained variance is 1 less it"),
        (
            "  dictionary_learning",
            number(kept.explained_dictionary_learning),
            "explained variance, a constant error forgiven",
        ),
        ("  SAELens before 2026", number(kept.explained_sae_lens_6_18), "explained variance against zero"),
        ("  per token", number(kept.explained_per_token), "mean of each token's explained variance"),
        ("  normalised MSE", number(kept.normalised_mse), "against zero"),
        ("squared error", number(kept.squared_error), "sum over dimensions, mean over tokens"),
        ("relative bias", number(kept.relative_bias), "1: no shrinkage"),
        ("l2 ratio, cosine", format!("{}, {}", number(kept.l2_ratio), number(kept.cosine)), ""),
        ("L0, L1", format!("{:.2}, {:.2}", density.l0, density.l1), "active features of a token, and their sum"),
        ("dead", number(density.dead), "share of features active on none of these tokens"),
        ("CE clean", number(spliced.ce_clean), "nats a token"),
        ("CE spliced", number(spliced.ce_spliced), "with x̂ in the place of x"),
        ("CE zero, mean", format!("{}, {}", number(spliced.ce_zero), number(spliced.ce_mean)), "ablated"),
        (
            "recovered",
            format!("{}, {}", number(spliced.recovered_zero), number(spliced.recovered_mean)),
            "of what zero and mean ablation lose",
        ),
        (
            "KL",
            format!("{}, {}, {}", number(spliced.kl_spliced), number(spliced.kl_zero), number(spliced.kl_mean)),
            "spliced, zero, mean",
        ),
    ];
    for (name, value, meaning) in rows {
        table.add_row([name.to_owned(), value, meaning.to_owned()]);
    }
    let mut text = format!("{} tokens, {} predictions\n\n{table}", kept.tokens, spliced.predictions);
    if !labels.is_empty() {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["task", "feature", "AUROC", "of its tokens", "active on", "best dimension"]);
        for label in labels {
            table.add_row([
                label.kind.clone(),
                format!("F{}", label.feature),
                format!("{:.3}", label.auroc),
                format!("{:.2}", label.share),
                format!("{:.4}", label.frequency),
                format!("{:.3}", label.dimension),
            ]);
        }
        for column in 1..6 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        text = format!("{text}\n\n{table}");
    }
    text
}
