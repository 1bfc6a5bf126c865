//! What `penjing repair` shows: sums and compensators over prompts, as tables and bars.

use comfy_table::{CellAlignment, Table, presets};
use penjing::inside::repair::Repair;
use penjing::inside::resample::{Mean, interval, interval_of, mean};
use penjing::render::bars::Bar;
use serde_json::{Value, json};

/// What was found over all prompts.
pub struct Summary {
    pub prompts: usize,
    pub direct: Mean,
    pub total: Mean,
    pub repaired: Mean,
    /// Repaired, as a share of the direct effect: a ratio of means.
    pub share: Mean,
    pub norm: Mean,
    /// Components and rescaling together.
    pub later: Mean,
    pub rescaled: Mean,
    /// The strongest first.
    pub components: Vec<(String, Mean)>,
    /// The largest by which the parts of a prompt do not add up.
    pub residue: f64,
}

impl Summary {
    pub fn of(found: &[Repair], names: &[String], seed: u64) -> Summary {
        let over = |of: &dyn Fn(&Repair) -> f64| -> Mean {
            let values: Vec<f64> = found.iter().map(of).collect();
            (mean(&values), interval(&values, seed))
        };
        let ratio = |drawn: &[usize]| {
            let sum = |of: fn(&Repair) -> f64| drawn.iter().map(|&index| of(&found[index])).sum::<f64>();
            sum(Repair::repaired) / sum(|one| one.direct)
        };
        let every: Vec<usize> = (0..found.len()).collect();
        let of_component = |(index, name): (usize, &String)| (name.clone(), over(&|one| one.components[index]));
        let mut components: Vec<(String, Mean)> = names.iter().enumerate().map(of_component).collect();
        components.sort_by(|(_, a), (_, b)| b.0.abs().total_cmp(&a.0.abs()));
        Summary {
            prompts: found.len(),
            direct: over(&|one| one.direct),
            total: over(&|one| one.total),
            repaired: over(&Repair::repaired),
            share: (ratio(&every), interval_of(found.len(), seed, ratio)),
            norm: over(&|one| one.norm),
            later: over(&|one| one.repaired() - one.norm),
            rescaled: over(&|one| one.rescaled),
            components,
            residue: found.iter().map(|one| one.residue().abs()).fold(0.0, f64::max),
        }
    }

    /// The strongest components, what the others do together, and the norm.
    pub fn bars(&self, top: usize) -> Vec<Bar> {
        let interval = |ends: [f64; 2]| (self.prompts > 1).then_some(ends);
        let bar = |name: &str, (value, ends): Mean| Bar { name: name.to_owned(), value, interval: interval(ends) };
        let shown = self.components.iter().take(top).map(|(name, mean)| bar(name, *mean));
        let others = self.others(top).map(|value| Bar { name: "all others".into(), value, interval: None });
        let norms = [bar("final norm", self.norm), bar("final norm, again", self.rescaled)];
        shown.chain(others).chain(norms).collect()
    }

    fn others(&self, top: usize) -> Option<f64> {
        let rest = self.components.get(top..).filter(|rest| !rest.is_empty())?;
        Some(rest.iter().map(|(_, mean)| mean.0).sum())
    }

    pub fn text(&self, top: usize) -> String {
        let number = |mean: Mean| number(mean, self.prompts);
        let mut sums = table(["", "logits"]);
        sums.add_row(["direct effect".into(), number(self.direct)]);
        sums.add_row(["total effect of the ablation".into(), number(self.total)]);
        sums.add_row(["self-repair, their sum".into(), number(self.repaired)]);
        sums.add_row(["  by the final norm's scale".into(), number(self.norm)]);
        sums.add_row(["  by later components".into(), number(self.later)]);
        sums.add_row(["share repaired".into(), number(self.share)]);
        let mut compensators = table(["compensator", "repair"]);
        for (name, mean) in self.components.iter().take(top) {
            compensators.add_row([name.clone(), number(*mean)]);
        }
        if let Some(others) = self.others(top) {
            compensators.add_row(["all others".into(), format!("{others:+.4}")]);
        }
        compensators.add_row(["final norm, again".into(), number(self.rescaled)]);
        format!(
            "{sums}\n\n{compensators}\n\npositive is repair, negative a further loss; the parts add up to within {:.0e}",
            self.residue
        )
    }
}

pub fn table<const N: usize>(heading: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(heading);
    for column in (1..N).step_by(2) {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// One prompt says nothing of others.
pub fn number((mean, [low, high]): Mean, prompts: usize) -> String {
    if prompts > 1 { format!("{mean:+.4} [{low:+.4}, {high:+.4}]") } else { format!("{mean:+.4}") }
}

pub fn value((mean, interval): Mean, prompts: usize) -> Value {
    json!({ "mean": mean, "interval": (prompts > 1).then_some(interval) })
}

pub fn named(name: &str, mean: Mean, prompts: usize) -> Value {
    let mut value = value(mean, prompts);
    value["name"] = json!(name);
    value
}
