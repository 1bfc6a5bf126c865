//! One direction from values `[row, width]` of two kinds, in f64.
//!
//! - `mean-difference`: θ = μ₊ − μ₋.
//! - `pca`: the first right singular vector of the differences x₊ − x₋ of the pairs; `--centred` takes their mean away first,
//!   which is another direction (the one along which pairs differ from each other). It points to where most pairs do.
//! - `probe`: the normal of a logistic regression, the minimum of mean log(1 + exp(−y(w·x + b))) + λ‖w‖²/2 over values centred
//!   and divided by their root mean square length, λ = 0.01; by Newton's method.
//! - `mass-mean`: Σ⁺θ with the covariance Σ within the classes, the classifier of Marks and Tegmark (arXiv:2310.06824), whose
//!   vector to add is θ itself. Singular values below 10⁻³ count as 0, as there.
//!
//! All but the first are scaled to the length of θ, so that doses compare. A probe and Σ⁺ tell classes apart by whatever does; on
//! few prompts that is often no direction that the model uses. Cost: a decomposition of a `[row, width]` matrix, `mass-mean` of
//! a `[width, width]` one.

use super::VectorError;
use tch::{Kind, Tensor};

/// How a direction is taken from two sets of values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    MeanDifference,
    Pca { centred: bool },
    Probe,
    MassMean,
}

impl Method {
    pub fn name(self) -> &'static str {
        match self {
            Method::MeanDifference => "difference-of-means",
            Method::Pca { centred: false } => "pca",
            Method::Pca { centred: true } => "pca-centred",
            Method::Probe => "probe",
            Method::MassMean => "mass-mean",
        }
    }
}

/// The weight of the probe's regularisation.
pub const LAMBDA: f64 = 0.01;
/// Singular values of the covariance that count as none.
const ATOL: f64 = 1e-3;

/// The difference of the means `[width]` of rows of two kinds.
///
/// # Errors
/// [`VectorError::Nothing`] where the means are equal.
pub fn mean_difference([positive, negative]: &[Tensor; 2]) -> Result<Tensor, VectorError> {
    let mean = |rows: &Tensor| rows.mean_dim(0, false, Kind::Double); // [width]
    some(mean(positive) - mean(negative))
}

/// A direction `[width]` by a method, as long as the difference of means.
///
/// # Errors
/// [`VectorError`]: no direction, or rows that should be pairs and are not as many.
pub fn direction(method: Method, rows: &[Tensor; 2]) -> Result<Tensor, VectorError> {
    let difference = mean_difference(rows)?;
    let found = match method {
        Method::MeanDifference => return Ok(difference),
        Method::Pca { centred } => pca(rows, centred)?,
        Method::Probe => probe(rows, LAMBDA).0,
        Method::MassMean => mass_mean(rows, &difference),
    };
    let found = some(found)?;
    Ok(&found * (difference.norm() / found.norm()))
}

fn some(direction: Tensor) -> Result<Tensor, VectorError> {
    let norm = direction.norm().double_value(&[]);
    if norm.is_finite() && norm > 0.0 { Ok(direction) } else { Err(VectorError::Nothing) }
}

fn pca([positive, negative]: &[Tensor; 2], centred: bool) -> Result<Tensor, VectorError> {
    let [one, other] = [positive, negative].map(|rows| rows.size()[0]);
    if one != other {
        return Err(VectorError::Unpaired { positive: one as usize, negative: other as usize });
    }
    let differences = (positive - negative).to_kind(Kind::Double); // [pair, width]
    let spread = if centred { &differences - differences.mean_dim(0, true, Kind::Double) } else { differences.copy() };
    if spread.abs().max().double_value(&[]) == 0.0 {
        return Err(VectorError::Nothing);
    }
    let (_, _, directions) = spread.svd(true, true); // [width, ..]
    let first = directions.select(1, 0);
    let along = differences.matmul(&first); // [pair]
    let against = along.lt(0.0).sum(Kind::Int64).int64_value(&[]) - along.gt(0.0).sum(Kind::Int64).int64_value(&[]);
    let turned = against > 0 || against == 0 && along.sum(Kind::Double).double_value(&[]) < 0.0;
    Ok(if turned { -first } else { first })
}

/// Normal and offset of the probe: in the values as they are, w · x + b > 0 says positive.
pub fn probe([positive, negative]: &[Tensor; 2], lambda: f64) -> (Tensor, f64) {
    let rows = Tensor::cat(&[positive, negative], 0).to_kind(Kind::Double); // [row, width]
    let [ones, others] = [positive, negative].map(|rows| rows.size()[0]);
    let centre = rows.mean_dim(0, true, Kind::Double); // [1, width]
    let centred = &rows - &centre;
    let scale = centred.square().sum_dim_intlist(1, false, Kind::Double).mean(Kind::Double).sqrt().double_value(&[]);
    // The optimum lies in the span of the rows: as many unknowns as there are rows, whatever the width.
    let (left, sizes, right) = (&centred / scale.max(f64::MIN_POSITIVE)).svd(true, true);
    let values = left * sizes; // [row, rank]
    let count = ones + others;
    let with_offset = Tensor::cat(&[&values, &Tensor::ones([count, 1], (Kind::Double, values.device()))], 1);
    let labels = Tensor::cat(
        &[
            Tensor::ones([ones], (Kind::Double, values.device())),
            -Tensor::ones([others], (Kind::Double, values.device())),
        ],
        0,
    ); // [row]
    let unknowns = with_offset.size()[1];
    let penalty = Tensor::ones([unknowns], (Kind::Double, values.device())) * lambda;
    let _ = penalty.get(unknowns - 1).fill_(0.0);
    let loss = |w: &Tensor| {
        let margins = &labels * with_offset.matmul(w);
        ((&penalty * w.square()).sum(Kind::Double) * 0.5 - margins.log_sigmoid().mean(Kind::Double)).double_value(&[])
    };
    let mut w = Tensor::zeros([unknowns], (Kind::Double, values.device()));
    for _ in 0..100 {
        let share = (-(&labels * with_offset.matmul(&w))).sigmoid(); // [row]
        let gradient = with_offset.tr().matmul(&(&labels * &share)) / -(count as f64) + &penalty * &w; // [unknown]
        if gradient.norm().double_value(&[]) < 1e-13 {
            break;
        }
        let curved = (&share - share.square()).unsqueeze(1) / count as f64; // [row, 1]
        // Where all rows are told apart, or a size is 0, the curvature can vanish but for rounding.
        let hessian = with_offset.tr().matmul(&(&with_offset * curved)) + (&penalty + 1e-14).diag(0);
        let step = Tensor::linalg_solve(&hessian, &gradient, true);
        let (before, mut length) = (loss(&w), 1.0);
        while loss(&(&w - &step * length)) > before && length > 1e-10 {
            length /= 2.0;
        }
        w -= step * length;
    }
    let normal = right.matmul(&w.narrow(0, 0, unknowns - 1)) / scale; // [width]
    let offset = (w.get(unknowns - 1) - centre.squeeze_dim(0).dot(&normal)).double_value(&[]);
    (normal, offset)
}

fn mass_mean(rows: &[Tensor; 2], difference: &Tensor) -> Tensor {
    let centred: Vec<Tensor> = rows.iter().map(|rows| rows - rows.mean_dim(0, true, Kind::Double)).collect();
    let centred = Tensor::cat(&centred, 0).to_kind(Kind::Double); // [row, width]
    let covariance = centred.tr().matmul(&centred) / centred.size()[0] as f64; // [width, width]
    covariance.linalg_pinv_atol_rtol_float(ATOL, None::<f64>, true).matmul(difference)
}
