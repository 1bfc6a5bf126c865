//! `penjing task`: list, show, check and start tasks.

use super::Ended;
use super::term::{Usage, note, print, print_json};
use clap::Subcommand;
use penjing::dataset::TokenPair;
use penjing::error::FileError;
use penjing::task::check::{CheckOptions, Checked, Example, check};
use penjing::task::{self, Capacity, Content, Frame, Split, Task};
use penjing::tokenizer::Tokenizer;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub enum TaskCommand {
    /// List the built-in tasks
    List,
    /// Show a task's frames, corruptions and answers
    Show {
        /// A built-in task's name or a TOML file
        task: String,
    },
    /// Expand a task, tokenise it and report problems
    Check {
        /// A built-in task's name or a TOML file
        task: String,
        /// Check against this model's tokenizer
        #[arg(long, short, value_name = "MODEL", conflicts_with = "tokenizer")]
        model: Option<String>,
        /// Check against a tokenizer.json
        #[arg(long, value_name = "FILE")]
        tokenizer: Option<PathBuf>,
        /// How many prompt pairs to look at under each corruption
        #[arg(long, default_value_t = 1000, value_name = "N")]
        pairs: usize,
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Check one of the task's corruptions (default: all)
        #[arg(long, value_name = "NAME")]
        corruption: Option<String>,
    },
    /// Write a commented task to start from
    New {
        /// The task's name: lower-case letters, digits and hyphens
        name: String,
        /// The file to write (default: NAME.toml)
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Runs a command; `of_model` finds a model's tokenizer.
pub fn run(
    command: TaskCommand,
    as_json: bool,
    of_model: &dyn Fn(&str) -> anyhow::Result<Tokenizer>,
) -> anyhow::Result<Ended> {
    match command {
        TaskCommand::List => list(as_json),
        TaskCommand::Show { task } => show(&task::resolve(&task).map_err(penjing::Error::from)?, as_json),
        TaskCommand::Check { task, model, tokenizer, pairs, seed, corruption } => {
            let task = task::resolve(&task).map_err(penjing::Error::from)?;
            let tokenizer = match (model, tokenizer) {
                (Some(model), _) => Some(of_model(&model)?),
                (None, Some(file)) => Some(Tokenizer::from_file(&file).map_err(penjing::Error::from)?),
                (None, None) => None,
            };
            let options = CheckOptions { pairs, seed, corruption };
            let checked = check(&task, tokenizer.as_ref(), &options).map_err(penjing::Error::from)?;
            if tokenizer.is_none() {
                note("note: tokens are not checked; give --model or --tokenizer");
            }
            match as_json {
                true => print_json(&checked_json(&task, &checked, tokenizer.as_ref()))?,
                false => print(&checked_text(&task, &checked, tokenizer.as_ref()))?,
            }
            Ok(if checked.problems.is_empty() { Ended::Done } else { Ended::Failed })
        }
        TaskCommand::New { name, out } => new(&name, out, as_json),
    }
}

fn list(as_json: bool) -> anyhow::Result<Ended> {
    let tasks: Vec<Task> =
        task::built_in_names().map(task::built_in).collect::<Result<_, _>>().map_err(penjing::Error::from)?;
    if as_json {
        let tasks: Vec<Value> = tasks
            .iter()
            .map(|task| json!({ "name": task.name, "title": task.title, "metric": task.metric.name(), "paper": task.paper }))
            .collect();
        print_json(&json!({ "tasks": tasks }))?;
        return Ok(Ended::Done);
    }
    let width = tasks.iter().map(|task| task.name.len()).max().unwrap_or(0);
    let lines: Vec<String> = tasks
        .iter()
        .map(|task| format!("{:width$}  {:22}  {}", task.name, task.metric.name(), task.title).trim_end().to_owned())
        .collect();
    print(&lines.join("\n"))?;
    Ok(Ended::Done)
}

fn show(task: &Task, as_json: bool) -> anyhow::Result<Ended> {
    match as_json {
        true => print_json(&task_json(task))?,
        false => print(&task_text(task)?)?,
    }
    Ok(Ended::Done)
}

fn task_json(task: &Task) -> Value {
    let mut value = json!({
        "name": task.name, "title": task.title, "description": task.description, "paper": task.paper,
        "metric": task.metric.name(), "bos": task.bos, "hash": task.hash, "notes": task.notes,
    });
    match &task.content {
        Content::Data(pairs) => value["data_pairs"] = json!(pairs.len()),
        Content::Templates(templates) => {
            let slots: Vec<Value> = templates
                .slots
                .iter()
                .map(|slot| json!({ "name": slot.name, "values": slot.describe(&templates.slots) }))
                .collect();
            let frames: Vec<Value> = templates
                .frames
                .iter()
                .map(|frame| json!({ "name": frame.name, "text": frame.template.to_string(), "corruptions": corruptions(frame) }))
                .collect();
            value["slots"] = json!(slots);
            value["frames"] = json!(frames);
            value["corruptions"] = json!(templates.corruptions);
        }
    }
    value
}

fn corruptions(frame: &Frame) -> Vec<&str> {
    frame.variants.iter().map(|variant| variant.corruption.as_str()).collect()
}

fn task_text(task: &Task) -> anyhow::Result<String> {
    let mut text = format!("{}: {}\n", task.name, task.title);
    if !task.description.is_empty() {
        writeln!(text, "{}", task.description.trim())?;
    }
    writeln!(text)?;
    if let Some(paper) = &task.paper {
        writeln!(text, "paper        {paper}")?;
    }
    writeln!(text, "metric       {}", task.metric)?;
    match &task.content {
        Content::Data(pairs) => writeln!(text, "data         {} pairs", pairs.len())?,
        Content::Templates(templates) => {
            writeln!(text, "corruptions  {}", templates.corruptions.join(", "))?;
            writeln!(text, "\nslots")?;
            for slot in &templates.slots {
                writeln!(text, "  {:12} {}", slot.name, slot.describe(&templates.slots))?;
            }
            for frame in &templates.frames {
                let sets = [("right", &frame.right), ("wrong", &frame.wrong)].map(|(name, answers)| {
                    match answers.is_empty() {
                        true => String::new(),
                        false => format!("\n  {name}: {}", answers.describe(&templates.slots)),
                    }
                });
                let template = frame.template.to_string().replace('\n', "\n  ");
                writeln!(
                    text,
                    "\nframe {} ({})\n  {template}{}",
                    frame.name,
                    corruptions(frame).join(", "),
                    sets.concat()
                )?;
            }
        }
    }
    for (model, words) in &task.notes {
        writeln!(text, "\nnote on {model}: {words}")?;
    }
    Ok(text)
}

fn capacity_json(capacity: Capacity) -> Value {
    match capacity {
        Capacity::Exactly(pairs) => json!({ "pairs": pairs, "exact": true }),
        Capacity::AtMost(pairs) => json!({ "pairs": pairs, "exact": false }),
    }
}

fn checked_json(task: &Task, checked: &Checked, tokenizer: Option<&Tokenizer>) -> Value {
    let examples: Vec<Value> = checked.examples.iter().map(|example| example_json(example, tokenizer)).collect();
    let capacities: Vec<Value> = checked
        .capacities
        .iter()
        .map(|entry| {
            let mut value = capacity_json(entry.capacity);
            value["corruption"] = json!(entry.corruption);
            value["split"] = json!(entry.split.to_string());
            value
        })
        .collect();
    let problems: Vec<Value> = checked
        .problems
        .iter()
        .map(|problem| json!({ "message": problem.message, "hint": problem.hint, "pairs": problem.pairs }))
        .collect();
    json!({
        "task": task.name,
        "hash": task.hash,
        "pairs_checked": checked.pairs,
        "tokens_checked": tokenizer.is_some(),
        "possible": capacities,
        "lengths": checked.lengths.iter().map(|(tokens, pairs)| json!({ "tokens": tokens, "pairs": pairs })).collect::<Vec<_>>(),
        "bos": checked.bos.map(|bos| bos.to_string()),
        "examples": examples,
        "problems": problems,
    })
}

fn example_json(example: &Example, tokenizer: Option<&Tokenizer>) -> Value {
    let prompt = &example.prompt;
    let mut value = json!({
        "frame": prompt.frame, "corruption": prompt.corruption, "clean": prompt.clean, "corrupt": prompt.corrupt,
        "right": prompt.right, "wrong": prompt.wrong,
    });
    if let (Some(pair), Some(tokenizer)) = (&example.tokens, tokenizer) {
        let positions: serde_json::Map<String, Value> =
            pair.positions.iter().map(|(name, span)| (name.clone(), json!([span.start, span.end]))).collect();
        value["clean_tokens"] = json!(tokenizer.token_texts(&pair.clean));
        value["corrupt_tokens"] = json!(tokenizer.token_texts(&pair.corrupt));
        value["first_difference"] = json!(pair.first_difference);
        value["positions"] = Value::Object(positions);
    }
    value
}

fn checked_text(task: &Task, checked: &Checked, tokenizer: Option<&Tokenizer>) -> String {
    let mut text = format!("{}: {}\n\npairs\n", task.name, task.title);
    for entry in &checked.capacities {
        let pairs = match entry.capacity {
            Capacity::Exactly(pairs) => pairs.to_string(),
            Capacity::AtMost(combinations) => format!("many (from {combinations} combinations)"),
        };
        text.push_str(&format!("  {} {}: {pairs}\n", entry.corruption, split_name(entry.split)));
    }
    for example in &checked.examples {
        let prompt = &example.prompt;
        text.push_str(&format!(
            "\nframe {}, corruption {}\n  clean      {:?}\n  corrupt    {:?}\n  right      {}\n",
            prompt.frame,
            prompt.corruption,
            prompt.clean,
            prompt.corrupt,
            shortened(&prompt.right),
        ));
        if !prompt.wrong.is_empty() {
            text.push_str(&format!("  wrong      {}\n", shortened(&prompt.wrong)));
        }
        if let (Some(pair), Some(tokenizer)) = (&example.tokens, tokenizer) {
            text.push_str(&tokens_text(pair, tokenizer));
        }
    }
    let lengths: Vec<String> =
        checked.lengths.iter().map(|(tokens, pairs)| format!("{tokens} tokens ({pairs} pairs)")).collect();
    if !lengths.is_empty() {
        text.push_str(&format!("\nlengths: {}\n", lengths.join(", ")));
    }
    if let Some(bos) = checked.bos {
        text.push_str(&format!("beginning of text: {bos}\n"));
    }
    text.push('\n');
    const SHOWN: usize = 20;
    for problem in checked.problems.iter().take(SHOWN) {
        text.push_str(&format!("problem: {}\n", problem.message));
        if problem.pairs > 0 {
            text.push_str(&format!("  in {} of {} pairs\n", problem.pairs, checked.pairs));
        }
        if let Some(hint) = &problem.hint {
            text.push_str(&format!("  hint: {hint}\n"));
        }
    }
    text.push_str(&match checked.problems.len() {
        0 => format!("no problems in {} pairs\n", checked.pairs),
        problems if problems > SHOWN => format!("{problems} problems, {SHOWN} shown\n"),
        1 => "1 problem\n".into(),
        problems => format!("{problems} problems\n"),
    });
    text
}

fn split_name(split: Split) -> &'static str {
    match split {
        Split::Train => "to score on",
        Split::Test => "held out",
        Split::All => "together",
    }
}

fn shortened(answers: &[String]) -> String {
    let shown: Vec<String> = answers.iter().take(6).map(|answer| format!("{answer:?}")).collect();
    match answers.len() > shown.len() {
        true => format!("{}, ... ({} answers)", shown.join(" "), answers.len()),
        false => shown.join(" "),
    }
}

/// Clean tokens with their indices, changed ones marked, and the named positions.
fn tokens_text(pair: &TokenPair, tokenizer: &Tokenizer) -> String {
    let tokens: Vec<String> = (0..pair.len())
        .map(|at| {
            let changed = match pair.clean[at] == pair.corrupt[at] {
                true => String::new(),
                false => format!("→{:?}", tokenizer.token_text(pair.corrupt[at])),
            };
            format!("{at}:{:?}{changed}", tokenizer.token_text(pair.clean[at]))
        })
        .collect();
    let positions: Vec<String> = pair
        .positions
        .iter()
        .map(|(name, span)| match span.len() {
            1 => format!("{name} {}", span.start),
            _ => format!("{name} {}..{}", span.start, span.end),
        })
        .collect();
    format!("  tokens     {}\n  positions  {}\n", tokens.join(" "), positions.join(", "))
}

/// Writes the template under a temporary name and renames it, unless the file is there already.
fn new(name: &str, out: Option<PathBuf>, as_json: bool) -> anyhow::Result<Ended> {
    let text = task::new_task(name).map_err(penjing::Error::from)?;
    let path = out.unwrap_or_else(|| PathBuf::from(format!("{name}.toml")));
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let failed = |source| penjing::Error::from(FileError::writing(&path)(source));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Temporary files are private; a task is an ordinary file, less what the umask takes away.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.persist_noclobber(&path).map_err(|error| match error.error.kind() {
        std::io::ErrorKind::AlreadyExists => anyhow::Error::from(Usage {
            message: format!("{} exists already", path.display()),
            hint: "take another name, or another file with --out".into(),
        }),
        _ => failed(error.error).into(),
    })?;
    match as_json {
        true => print_json(&json!({ "written": path }))?,
        false => {
            print(&path.display().to_string())?;
            note(&format!("note: look at what it makes with `penjing task check {}`", shown(&path)));
        }
    }
    Ok(Ended::Done)
}

/// The path so that it is taken for one.
fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    match text.ends_with(".toml") || text.contains('/') {
        true => text,
        false => format!("./{text}"),
    }
}
