//! What `penjing sweep` shows: a table, marks on the doses, JSON.

use comfy_table::{CellAlignment, Table, presets};
use penjing::inside::doses::Curve;
use penjing::inside::natural::{self, Natural};
use penjing::inside::resample::Mean;
use penjing::render::response::Marks;
use serde_json::{Value, json};

/// What is shown of a sweep.
pub struct Seen<'a> {
    pub curve: &'a Curve,
    pub natural: Option<&'a Natural>,
    /// The cross-entropy of each dose, and last without an edit.
    pub text: Option<&'a [Mean]>,
    pub prompts: usize,
}

impl Seen<'_> {
    pub fn marks(&self) -> Marks {
        let Some(natural) = self.natural else { return Marks::default() };
        let name = |share: f64| if share < 1.0 { format!("{:.0} %", 100.0 * share) } else { "max".into() };
        let mark = |(share, value): (f64, f64)| Some((natural.dose(value)?, name(share)));
        let mut at: Vec<(f64, String)> = natural::SHARES.into_iter().zip(natural.quantiles).filter_map(mark).collect();
        at.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let ends = natural.range.map(|end| natural.dose(end));
        let range = if let [Some(a), Some(b)] = ends { Some([a.min(b), a.max(b)]) } else { None };
        Marks { at, range }
    }

    /// One prompt says nothing of others.
    fn number(&self, (mean, [low, high]): Mean) -> String {
        if self.prompts == 1 { format!("{mean:.4}") } else { format!("{mean:.4} [{low:.4}, {high:.4}]") }
    }

    pub fn text(&self) -> String {
        let Seen { curve, natural, text, prompts } = self;
        let mut table = Table::new();
        let price = text.map(|_| "cross-entropy");
        let mark = natural.map(|_| "");
        let heading = ["a", "probability", "KL"].into_iter().chain(price).chain(mark);
        table.load_style(presets::NOTHING).set_header(heading);
        for (index, dose) in curve.doses.iter().enumerate() {
            let numbers = [format!("{:.3}", dose.a), self.number(dose.probability), self.number(dose.divergence)];
            let price = text.map(|text| format!("{:.4}", text[index].0));
            let mark = natural.map(|natural| if natural.off(dose.a) { "off-distribution" } else { "" }.to_owned());
            table.add_row(numbers.into_iter().chain(price).chain(mark));
        }
        for column in 0..4 {
            if let Some(column) = table.column_mut(column).filter(|_| column < 3 || text.is_some()) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let half = curve.half_effect.map_or("none".to_owned(), |a| format!("{a:.3}"));
        let order = curve.monotonicity.map_or("none".to_owned(), |order| format!("{order:+.3}"));
        let mut said = format!(
            "{table}\n\n{prompts} prompts; unedited probability {:.4}\nslope {:+.4} a unit of a, rank correlation {order}, half of the effect at a = {half}",
            curve.unedited, curve.slope
        );
        if let Some((unedited, _)) = text.and_then(<[_]>::last) {
            said.push_str(&format!("\nunedited cross-entropy of the text {unedited:.4}"));
        }
        if let Some(natural) = natural {
            let [low, high] = natural.range;
            let quantiles = natural.quantiles.map(|value| format!("{value:.3}")).join(", ");
            said.push_str(&format!(
                "\nby itself {low:.3} to {high:.3} at {} tokens (1, 10, 50, 90, 99 %, max: {quantiles}), {:.3} where it is dosed",
                natural.tokens, natural.mean
            ));
        }
        said
    }
}

/// `sweep.json`, `penjing.sweep/1`.
pub fn document((edit, watched): (&str, &[&String]), seen: &Seen, model: &str) -> Value {
    let Seen { curve, natural, text, prompts } = seen;
    let number = |(mean, interval): Mean| json!({ "mean": mean, "interval": (*prompts > 1).then_some(interval) });
    let price = |(mean, interval): Mean| json!({ "mean": mean, "interval": interval });
    let doses = curve.doses.iter().enumerate().map(|(index, dose)| {
        let mut one = json!({ "a": dose.a, "probability": number(dose.probability), "kl": number(dose.divergence) });
        if let Some(text) = text {
            one["cross_entropy"] = price(text[index]);
        }
        if let Some(natural) = natural {
            one["value"] = json!(natural.value(dose.a));
            one["off_distribution"] = json!(natural.off(dose.a));
        }
        one
    });
    let marks = natural.map(|natural| {
        let marks = natural::SHARES.into_iter().zip(natural.quantiles);
        let marks = marks.map(|(share, value)| json!({ "share": share, "value": value, "dose": natural.dose(value) }));
        json!({
            "tokens": natural.tokens,
            "range": natural.range,
            "mean_where_dosed": natural.mean,
            "quantiles": marks.collect::<Vec<_>>(),
        })
    });
    json!({
        "schema": "penjing.sweep/1",
        "model": model,
        "edit": edit,
        "watched": watched,
        "prompts": prompts,
        "unedited": curve.unedited,
        "unedited_cross_entropy": text.and_then(<[_]>::last).map(|of| price(*of)),
        "natural": marks,
        "doses": doses.collect::<Vec<_>>(),
        "slope": curve.slope,
        "monotonicity": curve.monotonicity,
        "half_effect": curve.half_effect,
    })
}
