//! What `penjing observe` shows of neurons: a table, JSON, CSV and a page.

use comfy_table::{CellAlignment, Table, presets};
use penjing::inside::corpus::Corpus;
use penjing::inside::observe::{self, Example, Neuron, Observed, Watched};
use penjing::model::Loaded;
use penjing::report::neuron::{NeuronPage, Snippet};
use serde_json::{Value, json};

/// How many tokens stand before and after one that is shown.
const AROUND: usize = 16;

/// How many neurons the table has, and how many tokens and neighbours a list.
const LISTED: usize = 12;

/// Of the sampled values, at which shares an example is shown.
const MIDDLING: [f64; 5] = [0.99, 0.95, 0.9, 0.75, 0.5];

/// What was seen, and of what.
pub struct Shown<'a> {
    pub loaded: &'a Loaded,
    pub watched: Watched<'a>,
    pub corpus: &'a Corpus,
    pub observed: &'a Observed,
    /// What the text is called.
    pub source: String,
}

impl Shown<'_> {
    pub fn kind(&self) -> &'static str {
        match self.watched {
            Watched::Neurons => "neuron",
            Watched::Features(_) => "feature",
        }
    }

    /// The neurons whose strongest value is the most deviations above their mean, or the features with the strongest value: layer
    /// or dictionary, and number. (By deviations, features that are hardly ever active would come first.)
    pub fn most_peaked(&self) -> Vec<(usize, usize)> {
        let height = |neuron: &Neuron| {
            let strongest = neuron.strongest.first().map_or(f64::NAN, |(value, _)| *value);
            match self.watched {
                Watched::Neurons => (strongest - neuron.mean) / neuron.deviation.max(1e-12),
                Watched::Features(_) => strongest,
            }
        };
        let of_layer = |layer: usize| {
            let neurons = self.observed.layer(layer).into_iter().enumerate();
            neurons.map(move |(index, neuron)| (height(&neuron), layer, index))
        };
        let mut all: Vec<(f64, usize, usize)> =
            (0..self.watched.sites(&self.loaded.model)).flat_map(of_layer).collect();
        all.sort_by(|(a, ..), (b, ..)| b.total_cmp(a));
        all.into_iter().take(LISTED).map(|(_, layer, index)| (layer, index)).collect()
    }

    fn token(&self, token: usize) -> String {
        self.text(self.corpus.tokens[token])
    }

    /// Bytes that are a character by themselves as that character.
    fn text(&self, id: u32) -> String {
        let tokenizer = &self.loaded.tokenizer;
        let bytes = tokenizer.token_bytes(id).and_then(|bytes| String::from_utf8(bytes).ok());
        bytes.unwrap_or_else(|| tokenizer.token_text(id))
    }

    /// The text around a token.
    fn context(&self, token: usize) -> std::ops::Range<usize> {
        let window = self.corpus.around(token);
        let first = window.start + self.corpus.lead;
        token.saturating_sub(AROUND).max(first)..(token + AROUND + 1).min(window.end)
    }

    /// The tokens whose logits a neuron raises most, then those that it lowers most.
    fn written(&self, layer: usize, index: usize) -> [Vec<(String, f64)>; 2] {
        let Some(logits) = observe::written(&self.loaded.model, self.watched, layer, index) else {
            return Default::default();
        };
        [true, false].map(|largest| {
            let (values, ids) = logits.topk((LISTED as i64).min(logits.numel() as i64), 0, largest, true);
            let text = |at: i64| self.text(u32::try_from(ids.int64_value(&[at])).unwrap_or(0));
            (0..values.numel() as i64).map(|at| (text(at), values.double_value(&[at]))).collect()
        })
    }

    fn neighbours(&self, layer: usize, index: usize) -> Vec<(String, f64)> {
        let near = self.observed.neighbours(layer, index, LISTED);
        near.into_iter().map(|(layer, index, value)| (self.watched.name(layer, index), value)).collect()
    }

    pub fn document(&self, layer: usize, index: usize, neuron: &Neuron) -> Value {
        let example = |&(value, token): &Example| {
            let text: String = self.context(token).map(|token| self.token(token)).collect();
            json!({ "value": value, "token": self.token(token), "text": text })
        };
        let [raises, lowers] = self.written(layer, index);
        let quantiles = [0.0, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0].map(|share| [share, neuron.quantile(share)]);
        json!({
            self.kind(): self.watched.name(layer, index),
            "mean": neuron.mean,
            "deviation": neuron.deviation,
            "active": neuron.active,
            "kinds": neuron.kinds(self.corpus),
            "quantiles": quantiles,
            "strongest": neuron.strongest.iter().map(example).collect::<Vec<_>>(),
            "weakest": neuron.weakest.iter().map(example).collect::<Vec<_>>(),
            "raises": raises,
            "lowers": lowers,
            "neighbours": self.neighbours(layer, index),
        })
    }

    pub fn page(&self, layer: usize, index: usize, neuron: &Neuron) -> NeuronPage {
        let snippet = |&(_, token): &Example| {
            let window = self.corpus.around(token);
            let values =
                observe::values(&self.loaded.model, self.watched, &self.corpus.tokens[window.clone()], layer, index);
            let context = self.context(token);
            let tokens = context.clone().map(|at| (self.token(at), values[at - window.start])).collect();
            Snippet { tokens, focus: token - context.start }
        };
        let snippets = |examples: &[Example]| examples.iter().map(snippet).collect::<Vec<_>>();
        let last = neuron.sample.len().saturating_sub(1) as f64;
        let middling: Vec<Example> =
            MIDDLING.iter().filter_map(|share| neuron.sample.get((share * last).round() as usize).copied()).collect();
        let [raises, lowers] = self.written(layer, index);
        let quantiles = [0.01, 0.1, 0.5, 0.9, 0.99].map(|share| format!("{:.3}", neuron.quantile(share))).join(", ");
        let figures = [
            ("mean and standard deviation", format!("{:.4}, {:.4}", neuron.mean, neuron.deviation)),
            ("above 0", format!("{:.2} % of {} tokens", 100.0 * neuron.active, self.observed.count)),
            ("1, 10, 50, 90 and 99 %", quantiles),
            (
                "kinds of token",
                format!("{:.1} among the strongest {}", neuron.kinds(self.corpus), neuron.strongest.len()),
            ),
        ];
        NeuronPage {
            name: self.watched.name(layer, index),
            subtitle: format!("a {} of {}, over {}", self.kind(), self.loaded.id, self.source),
            figures: figures.map(|(name, value)| (name.to_owned(), value)).into(),
            sample: neuron.sample.iter().map(|(value, _)| *value).collect(),
            lists: vec![
                ("Raises".into(), raises),
                ("Lowers".into(), lowers),
                ("Goes with (correlation)".into(), self.neighbours(layer, index)),
            ],
            groups: vec![
                ("Strongest, one a window".into(), snippets(&neuron.strongest)),
                ("At 99, 95, 90, 75 and 50 % of the sampled values".into(), snippets(&middling)),
                ("Weakest".into(), snippets(&neuron.weakest)),
            ],
        }
    }

    /// A line for every neuron.
    pub fn table(&self) -> anyhow::Result<Vec<u8>> {
        let mut table = csv::Writer::from_writer(Vec::new());
        table.write_record([
            self.kind(),
            "mean",
            "deviation",
            "active",
            "weakest",
            "q01",
            "q50",
            "q99",
            "strongest",
            "strongest_token",
            "kinds",
        ])?;
        for layer in 0..self.watched.sites(&self.loaded.model) {
            for (index, neuron) in self.observed.layer(layer).iter().enumerate() {
                let end = |examples: &[Example]| examples.first().copied().unwrap_or((f64::NAN, 0));
                let (strongest, token) = end(&neuron.strongest);
                let numbers = [neuron.mean, neuron.deviation, neuron.active, end(&neuron.weakest).0];
                let quantiles = [0.01, 0.5, 0.99].map(|share| neuron.quantile(share));
                let numbers = numbers.into_iter().chain(quantiles).chain([strongest]).map(|value| value.to_string());
                let rest = [self.token(token), neuron.kinds(self.corpus).to_string()];
                table.write_record(std::iter::once(self.watched.name(layer, index)).chain(numbers).chain(rest))?;
            }
        }
        Ok(table.into_inner().map_err(|error| error.into_error())?)
    }

    pub fn listed(&self, which: &[(usize, usize)]) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([self.kind(), "mean", "deviation", "above 0", "strongest", "at", "kinds", "raises"]);
        for &(layer, index) in which {
            let Some(neuron) = self.observed.neuron(layer, index) else { continue };
            let (strongest, token) = neuron.strongest.first().copied().unwrap_or((f64::NAN, 0));
            let [raises, _] = self.written(layer, index);
            let raises: Vec<String> = raises.iter().take(4).map(|(token, _)| format!("{token:?}")).collect();
            table.add_row([
                self.watched.name(layer, index),
                format!("{:.3}", neuron.mean),
                format!("{:.3}", neuron.deviation),
                format!("{:.1} %", 100.0 * neuron.active),
                format!("{strongest:.3}"),
                format!("{:?}", self.token(token)),
                format!("{:.1}", neuron.kinds(self.corpus)),
                raises.join(" "),
            ]);
        }
        for column in [1, 2, 3, 4, 6] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}
