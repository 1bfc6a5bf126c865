//! What ablated parts of the model carry. To find what harms least takes long: it is kept in `constants.safetensors`, from
//! which a stopped run goes on, other shards take it, and `evaluate` reads it beside the circuit.

use super::long_run::{CONSTANTS, Checkpoint, Keeper, LongRun};
use super::progress::Progress;
use super::signals::Signals;
use super::term::note;
use super::work::Work;
use penjing::ablation::Ablation;
use penjing::dataset::Dataset;
use penjing::error::Error;
use penjing::graph::Level;
use penjing::identity::Identity;
use penjing::measure::Constants;
use penjing::measure::constants_file;
use penjing::measure::optimal::{Descent, Fit};
use std::ops::ControlFlow;
use std::path::Path;

/// Those of an ablation, from `dataset`; none where ablated parts carry what they carry on the corrupt prompts. Where
/// constants were fitted or are to be resumed, the `scoring` that follows may have come to no checkpoint yet.
///
/// # Errors
/// When memory is short, a signal ended the run, or there is nothing to resume.
pub fn of_run(
    work: &Work,
    ablation: Ablation,
    level: Level,
    dataset: &Dataset,
    (folder, options): (&Path, &LongRun),
    scoring: &mut Checkpoint,
) -> anyhow::Result<Option<Constants>> {
    if ablation != Ablation::Optimal {
        return of_others(work, ablation, level, dataset);
    }
    let fit = fit(work, dataset);
    let checkpoint = Checkpoint::of_constants(folder, run(work, &fit, dataset)?, options);
    let path = checkpoint.path();
    let kept = match constants_file::read(&path, checkpoint.run(), fit.model) {
        Err(error) => {
            note(&format!("note: {error}; it will be replaced"));
            None
        }
        Ok(kept) => kept,
    };
    if kept.is_some() {
        scoring.allow_missing();
    }
    let mut descent = match kept {
        Some(descent) if descent.finished() => {
            note(&format!("constants are those in {}", path.display()));
            return Ok(descent.constants());
        }
        Some(descent) if checkpoint.resumes() => descent,
        _ => {
            scoring.check()?;
            Descent::start(&fit).map_err(Error::from)?
        }
    };
    let signals = Signals::listen()?;
    let mut keeper = Keeper::new(&checkpoint, &signals, "fitting constants", descent.share());
    let ended = descent.advance(&fit, &mut |descent| {
        let bytes = || Ok(constants_file::to_bytes(descent, checkpoint.run())?);
        keeper.visit(descent.share(), descent.finished(), bytes)
    });
    if ended.map_err(Error::from)?.is_break() {
        return Err(keeper.interrupted(descent.share()));
    }
    Ok(descent.constants())
}

/// Those that a circuit in `folder` was found with, from the pairs that it was found on.
///
/// # Errors
/// When memory is short.
pub fn of_circuit(
    work: &Work,
    ablation: Ablation,
    dataset: &Dataset,
    folder: &Path,
) -> anyhow::Result<Option<Constants>> {
    if ablation != Ablation::Optimal {
        return of_others(work, ablation, Level::Edge, dataset);
    }
    let fit = fit(work, dataset);
    let run = run(work, &fit, dataset)?;
    match constants_file::read(&folder.join(CONSTANTS), &run, fit.model) {
        Ok(Some(descent)) if descent.finished() => return Ok(descent.constants()),
        Ok(_) => note(&format!("fitting constants, since no {CONSTANTS} lies beside the circuit")),
        Err(error) => note(&format!("fitting constants, since {error}")),
    }
    let mut descent = Descent::start(&fit).map_err(Error::from)?;
    let progress = Progress::bar("fitting constants");
    let _ = descent.advance(&fit, &mut |descent| {
        progress.set(descent.share());
        ControlFlow::Continue(())
    });
    Ok(descent.constants())
}

fn of_others(work: &Work, ablation: Ablation, level: Level, dataset: &Dataset) -> anyhow::Result<Option<Constants>> {
    let (model, dimensions) = (&work.loaded.model, work.graph.dimensions);
    Ok(Constants::of(ablation, level, model, dimensions, &dataset.pairs, work.memory).map_err(Error::from)?)
}

fn fit<'a>(work: &'a Work, dataset: &'a Dataset) -> Fit<'a> {
    let Work { loaded, graph, memory, .. } = work;
    Fit { model: &loaded.model, dimensions: graph.dimensions, pairs: &dataset.pairs, memory: *memory }
}

/// What the constants depend on, down to the last bit.
fn run(work: &Work, fit: &Fit, dataset: &Dataset) -> anyhow::Result<Identity> {
    Ok(work
        .identity_of_runs(Identity::default(), dataset)
        .with("pairs_at_once", &fit.pairs_at_once().map_err(Error::from)?.into())
        .with("threads", &tch::get_num_threads().into())
        .with("penjing", &env!("CARGO_PKG_VERSION").into()))
}
