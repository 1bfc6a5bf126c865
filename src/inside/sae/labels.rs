//! Which of several kinds of text a feature goes with: for each feature and kind the area under the ROC curve of its largest value in
//! a text, texts of that kind against all others. Every second text chooses the feature, the others measure it: the best of
//! many is good by chance on what chose it.
//!
//! A kind that is told apart by its first words is told apart by almost anything: the AUROC of the best single dimension of x, up or
//! down, stands beside each feature.

use crate::compare::reference::auroc;
use tch::{Kind, Tensor};

/// A feature and the kind of text that it goes with most.
#[derive(Clone, PartialEq, Debug, serde::Serialize)]
pub struct Label {
    pub kind: String,
    pub feature: usize,
    pub auroc: f64,
    /// Of the tokens that it is active on, the share that are of the kind.
    pub share: f64,
    /// The share of all tokens that it is active on.
    pub frequency: f64,
    /// The AUROC of the best single dimension of the activations, up or down, chosen and measured alike.
    pub dimension: f64,
}

/// The feature that goes best with each kind. `texts`: features `[position, features]` and activations `[position, width]` of each
/// text, and its kind.
pub fn labels(kinds: &[String], texts: &[(Tensor, Tensor, usize)]) -> Vec<Label> {
    let _no_grad = tch::no_grad_guard();
    let most = |of: fn(&(Tensor, Tensor, usize)) -> &Tensor, sign: f64| -> Vec<Vec<f64>> {
        let rows: Vec<Tensor> = texts.iter().map(|text| (of(text) * sign).amax(0, false)).collect();
        columns(&Tensor::stack(&rows, 0))
    };
    let features = most(|text| &text.0, 1.0); // a column of texts for each feature
    let mut dimensions = most(|text| &text.1, 1.0);
    dimensions.extend(most(|text| &text.1, -1.0));
    let mut active = vec![vec![0.0; kinds.len()]; features.len()];
    let mut tokens = 0.0;
    for (encoded, _, kind) in texts {
        tokens += encoded.size()[0] as f64;
        let count = encoded.gt(0.0).sum_dim_intlist(0, false, Kind::Double); // [features]
        for (feature, count) in Vec::<f64>::try_from(count).unwrap_or_default().into_iter().enumerate() {
            active[feature][*kind] += count;
        }
    }
    let apart = |column: &[f64], kind: usize, half: usize| {
        let of = |inside: bool| -> Vec<f64> {
            let rows = column.iter().zip(texts).skip(half).step_by(2);
            rows.filter(|(_, text)| (text.2 == kind) == inside).map(|(value, _)| *value).collect()
        };
        auroc(&of(true), &of(false))
    };
    let share = |feature: usize, kind: usize| active[feature][kind] / active[feature].iter().sum::<f64>().max(1.0);
    // Of equally good ones the one that is active on little else.
    let best = |columns: &[Vec<f64>], kind: usize, share: &dyn Fn(usize) -> f64| {
        let all = columns.iter().enumerate().map(|(index, column)| (index, apart(column, kind, 0), share(index)));
        all.fold((0, 0.0, 0.0), |best, now| if (now.1, now.2) > (best.1, best.2) { now } else { best }).0
    };
    kinds
        .iter()
        .enumerate()
        .map(|(kind, name)| {
            let feature = best(&features, kind, &|feature| share(feature, kind));
            let dimension = best(&dimensions, kind, &|_| 0.0);
            Label {
                kind: name.clone(),
                feature,
                auroc: apart(&features[feature], kind, 1),
                share: share(feature, kind),
                frequency: active[feature].iter().sum::<f64>() / f64::max(tokens, 1.0),
                dimension: apart(&dimensions[dimension], kind, 1),
            }
        })
        .collect()
}

/// The columns of a matrix.
fn columns(matrix: &Tensor) -> Vec<Vec<f64>> {
    let matrix = matrix.to_kind(Kind::Double);
    (0..matrix.size()[1])
        .map(|column| Vec::try_from(matrix.select(1, column).contiguous()).unwrap_or_default())
        .collect()
}
