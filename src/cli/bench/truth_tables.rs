//! Tables of `penjing bench truth`: a row for each method on each model, and medians over models.

use penjing::ablation::Ablation;
use penjing::truth::marks::Marks;

/// One method on one model.
pub struct Row {
    pub model: &'static str,
    pub norm: bool,
    pub ablation: Ablation,
    pub method: &'static str,
    pub marks: Marks,
    /// The names of true edges that are not among the strongest.
    pub missed: Vec<String>,
}

/// Columns of the text table; numbers from the fifth on.
pub const HEADER: [&str; 7] = ["model", "norm", "ablation", "method", "AUROC", "average precision", "precision"];
pub const SUMMARY: [&str; 6] = ["norm", "ablation", "method", "AUROC", "average precision", "precision"];

fn in_words(norm: bool) -> String {
    if norm { "with" } else { "without" }.to_owned()
}

fn numbers(marks: Marks) -> [String; 3] {
    [marks.auroc, marks.average_precision, marks.precision].map(|number| format!("{number:.3}"))
}

impl Row {
    pub fn cells(&self) -> Vec<String> {
        let names = [self.model.to_owned(), in_words(self.norm), self.ablation.to_string(), self.method.to_owned()];
        names.into_iter().chain(numbers(self.marks)).collect()
    }

    /// What rows of all models have in common.
    fn group(&self) -> (bool, usize) {
        (self.norm, Ablation::ALL.iter().position(|ablation| *ablation == self.ablation).unwrap_or(0))
    }
}

/// The median over models for each norm, ablation and method.
pub fn medians(rows: &[Row]) -> Vec<Vec<String>> {
    let mut summary = Vec::new();
    for (group, methods) in groups(rows) {
        for (method, of_models) in methods {
            let marks = median_marks(&of_models);
            let names = [in_words(group.0), Ablation::ALL[group.1].to_string(), method.to_owned()];
            summary.push(names.into_iter().chain(numbers(marks)).collect());
        }
    }
    summary
}

/// Rows by norm and ablation, and within each by method in the order of the rows.
type Groups<'a> = Vec<((bool, usize), Vec<(&'static str, Vec<&'a Row>)>)>;

fn groups(rows: &[Row]) -> Groups<'_> {
    let mut kinds: Vec<_> = rows.iter().map(Row::group).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let of_kind = |kind: (bool, usize)| {
        let mut methods: Vec<(&'static str, Vec<&Row>)> = Vec::new();
        for row in rows.iter().filter(|row| row.group() == kind) {
            match methods.iter_mut().find(|(method, _)| *method == row.method) {
                Some((_, of_models)) => of_models.push(row),
                None => methods.push((row.method, vec![row])),
            }
        }
        (kind, methods)
    };
    kinds.into_iter().map(of_kind).collect()
}

/// The median of each number.
fn median_marks(rows: &[&Row]) -> Marks {
    let of = |number: fn(&Marks) -> f64| median(rows.iter().map(|row| number(&row.marks)).collect());
    Marks {
        auroc: of(|marks| marks.auroc),
        average_precision: of(|marks| marks.average_precision),
        precision: of(|marks| marks.precision),
    }
}

/// The middle number, or the mean of the middle two; 0 of none.
fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = |index: usize| numbers.get(index).copied().unwrap_or(0.0);
    let half = numbers.len() / 2;
    if numbers.len() % 2 == 1 { middle(half) } else { (middle(half.saturating_sub(1)) + middle(half)) / 2.0 }
}

/// A table for each norm and ablation: methods down, the AUROC on each model and the medians across.
pub fn markdown(models: &[&str], rows: &[Row]) -> String {
    let mut text = String::new();
    for (group, methods) in groups(rows) {
        let norm = if group.0 { "With LayerNorm" } else { "Without norms" };
        text += &format!("### {norm}, {}\n\n", Ablation::ALL[group.1]);
        let header = models.iter().copied().chain(["median AUROC", "median average precision", "median precision"]);
        text += &format!("| method | {} |\n", header.collect::<Vec<_>>().join(" | "));
        text += &format!("|---|{}\n", "---|".repeat(models.len() + 3));
        for (method, of_models) in methods {
            let medians = median_marks(&of_models);
            let medians = [medians.auroc, medians.average_precision, medians.precision];
            let cells = of_models.iter().map(|row| row.marks.auroc).chain(medians);
            let cells: Vec<String> = cells.map(|number| format!("{number:.3}")).collect();
            text += &format!("| `{method}` | {} |\n", cells.join(" | "));
        }
        text.push('\n');
    }
    text.trim_end().to_owned() + "\n"
}
