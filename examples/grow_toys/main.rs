//! Grows the embedded toy models from the tasks: `cargo run --release --example grow_toys -- toy-4l`.
//!
//! Each task's taught combinations are sentences to learn, its held-out ones are the test. A checkpoint is written after
//! every chapter, and the same command goes on from it. The result is a Hugging Face folder in `models/`.

mod accuracy;
mod export;
mod network;
mod recipe;
mod sentences;
mod training;
mod vocabulary;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use penjing::task::{self, Task};

use accuracy::accuracy;
use recipe::RECIPES;
use sentences::Lessons;
use training::Training;

#[derive(Parser)]
struct Arguments {
    /// toy-2l, toy-4l or toy-6l
    name: String,
    /// Where the model's folder is written
    #[arg(long, default_value = "models")]
    out: PathBuf,
    /// Where the checkpoint is kept
    #[arg(long, default_value = "target/grow")]
    checkpoints: PathBuf,
    /// Other than the recipe's number of steps
    #[arg(long)]
    steps: Option<i64>,
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let recipe = RECIPES.iter().find(|recipe| recipe.name == arguments.name);
    let mut recipe = *recipe.context("the models are toy-2l, toy-4l and toy-6l")?;
    recipe.steps = arguments.steps.unwrap_or(recipe.steps);

    let tasks = task::built_in_names().map(task::built_in).collect::<Result<Vec<Task>, _>>()?;
    let specimens = tasks.iter().map(sentences::specimens).collect::<Result<Vec<_>>>()?.concat();
    let bytes = vocabulary::build(specimens.iter().map(String::as_str))?;
    let tokenizer = vocabulary::load(&bytes)?;
    eprintln!("{} tasks, {} pieces", tasks.len(), tokenizer.get_vocab_size(true));

    let checkpoint = arguments.checkpoints.join(format!("{}.safetensors", recipe.name));
    let mut training = Training::new(recipe, &tokenizer, arguments.seed, checkpoint)?;
    eprintln!("{} parameters, from step {}", training.parameters(), training.step);
    while training.step < recipe.steps {
        let chapter = training.chapter();
        let lessons = tasks.iter().map(|task| Lessons::new(task, &tokenizer, chapter)).collect::<Result<Vec<_>>>()?;
        training.run_chapter(&lessons)?;
        let report = lessons
            .iter()
            .map(|lesson| format!("{} {:.3}", lesson.task, accuracy(&training.network, &lesson.held_out).over_wrong));
        eprintln!("  held out: {}", report.collect::<Vec<_>>().join(", "));
    }

    // What is reported is measured on the weights as they are stored.
    training.round(recipe.half);
    println!(
        "| task | held out | taught | held out, over all answers | taught, over all answers |\n|---|---|---|---|---|"
    );
    for task in &tasks {
        let lessons = Lessons::new(task, &tokenizer, 0)?;
        let taught = &lessons.taught[..lessons.taught.len().min(1000)];
        let [held_out, taught] = [&lessons.held_out, taught].map(|sentences| accuracy(&training.network, sentences));
        let shares = [held_out.over_wrong, taught.over_wrong, held_out.over_all, taught.over_all];
        println!("| {} | {} |", task.name, shares.map(|share| format!("{share:.3}")).join(" | "));
    }
    let folder = arguments.out.join(recipe.name);
    export::export(&training.store, &recipe, &bytes, tokenizer.get_vocab_size(true), &folder)?;
    let worst = export::compare(&folder, &training.network, &tasks, &tokenizer)?;
    eprintln!("written: {}; as penjing reads it, logits differ by at most {worst:.1e}", folder.display());
    Ok(())
}
