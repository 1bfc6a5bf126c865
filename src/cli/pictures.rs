//! What `discover` leaves to look at: the figure, the charts and the page of a circuit, and what is measured for them alone.

use super::evidence::{findings, level_of};
use super::long_run::command_line;
use super::progress::Progress;
use super::term::write;
use super::work::Work;
use penjing::circuit::EdgeMask;
use penjing::circuit::file::Circuit;
use penjing::circuit::report::{Card, Example, Stop};
use penjing::circuit::roles::Found;
use penjing::dataset::{Dataset, TokenPair};
use penjing::eval::{Bench, curve};
use penjing::graph::scores::Scores;
use penjing::render::picture::Content;
use penjing::render::style::Style;
use penjing::render::{self, Caption, attention, chart, svg};
use penjing::report::data::Page;
use penjing::{report, roles};
use std::path::Path;

/// Pairs on which roles are measured, at most.
const ROLE_PAIRS: usize = 32;

/// Prompts whose attention patterns the page shows.
const PATTERNS: usize = 3;

/// Prompts that it shows.
const EXAMPLES: usize = 6;

/// Answers of an example, where there are many.
const MOST_ANSWERS: usize = 6;

/// The most edges that the page shows.
const MOST_EDGES: usize = 10_000;

/// Heads whose attention is drawn.
const HEADS: usize = 6;

/// What was measured of a circuit to be looked at.
pub struct Seen {
    pub roles: Vec<Found>,
    stops: Vec<Stop>,
    cards: Vec<Card>,
    examples: Vec<Example>,
}

/// Measures on the pairs of a bench, which are `fresh`.
pub fn measure(work: &Work, bench: &Bench, fresh: &Dataset, circuit: &EdgeMask, scores: &Scores, seed: u64) -> Seen {
    let Work { loaded, graph, .. } = work;
    let progress = Progress::bar("measuring sizes");
    let stops = curve::stops(bench, graph, scores, circuit, MOST_EDGES, seed, &mut |share| progress.set(share));
    drop(progress);
    let content = Content { graph, mask: circuit, scores, roles: &[] };
    let shown = &fresh.pairs[..fresh.pairs.len().min(ROLE_PAIRS)];
    let progress = Progress::bar("measuring roles");
    let prompts = roles::Prompts::run(&loaded.model, shown, &mut |share| progress.set(share));
    let roles = roles::roles(&loaded.model, &content, &prompts, seed);
    let cards = roles::cards(&loaded.model, &loaded.tokenizer, &content, &prompts, PATTERNS, &roles);
    drop(progress);
    Seen { roles, stops, cards, examples: examples(work, bench, circuit, fresh) }
}

/// The first of the fresh pairs, with what the model and the circuit make of them.
fn examples(work: &Work, bench: &Bench, circuit: &EdgeMask, fresh: &Dataset) -> Vec<Example> {
    let tokenizer = &work.loaded.tokenizer;
    let (model, circuit) = (bench.clean(), bench.circuit(circuit));
    let words = |ids: &[u32]| {
        let shown: Vec<String> = ids.iter().take(MOST_ANSWERS).map(|&id| tokenizer.token_text(id)).collect();
        if ids.len() > MOST_ANSWERS { shown.join(",") + " …" } else { shown.join(",") }
    };
    let example = |(index, pair): (usize, &TokenPair)| Example {
        clean: pair.prompt.clean.clone(),
        corrupt: pair.prompt.corrupt.clone(),
        right: words(&pair.right),
        wrong: words(&pair.wrong),
        tokens: tokenizer.token_texts(&pair.clean),
        metric: [model.metric[index], circuit.metric[index]],
    };
    fresh.pairs.iter().take(EXAMPLES).enumerate().map(example).collect()
}

/// Writes it all into the output folder; `scores`: of all edges.
///
/// # Errors
/// When a file cannot be written.
pub fn write_all(out: &Path, work: &Work, circuit: &Circuit, scores: &Scores, seen: Seen) -> anyhow::Result<()> {
    let Work { task, loaded, graph, .. } = work;
    let faithfulness = circuit.report.as_ref().map_or(f64::NAN, |report| report.faithfulness);
    let caption = Caption {
        title: task.title.clone(),
        subtitle: format!(
            "{}: {} of {} edges, faithfulness {faithfulness:.2}",
            loaded.id,
            circuit.mask.count(),
            graph.edge_count()
        ),
    };
    let content = Content { graph, mask: &circuit.mask, scores: &circuit.scores, roles: &circuit.roles };
    let style = Style::default();
    write(out, "circuit.dot", render::dot(&content, &style, &caption).as_bytes())?;
    write(out, "circuit.svg", render::svg(&content, &style, &caption).as_bytes())?;
    let random = circuit.report.as_ref().and_then(|report| report.random.as_ref()).map(|random| random.mean);
    let curve = chart::curve(&seen.stops, circuit.mask.count(), random, &style);
    write(out, "faithfulness.svg", svg::draw(&curve).as_bytes())?;
    let stability = circuit.report.as_ref().and_then(|report| report.stability.as_ref());
    let stability = stability.map_or(&[][..], |stability| &stability.edges);
    let picture = render::scores::picture(graph, &circuit.mask, scores, level_of(circuit), stability, &style);
    write(out, "scores.svg", svg::draw(&picture).as_bytes())?;
    if let Some(example) = seen.examples.first() {
        let heads = attention::strongest(&content, &seen.cards, HEADS);
        write(out, "attention.svg", svg::draw(&attention::scene(&heads, &example.tokens, &style)).as_bytes())?;
    }
    let page = Page {
        title: caption.title.clone(),
        subtitle: caption.subtitle.clone(),
        description: task.description.clone(),
        command: command_line(),
        circuit,
        findings: circuit.report.as_ref().map_or(Vec::new(), |report| findings(circuit, report)),
        scores,
        stops: seen.stops,
        examples: seen.examples,
        cards: seen.cards,
    };
    write(out, "report.html", report::html(&page)?.as_bytes())
}
