//! Per-layer figures of a quantized network: what each filter's codebook costs and how well it fits.

use dyadic_engine::model::Model;
use serde::Serialize;

use crate::observer::Observer;
use crate::state::State;
use dyadic_plan::Plan;
use dyadic_plan::codebook::Statistics;

/// One weighted layer.
#[derive(Debug, Clone, Serialize)]
pub struct LayerReport {
    /// The source file's node name.
    pub name: String,
    /// Code width.
    pub bits: u8,
    /// Weights.
    pub weights: u64,
    /// Multiply-accumulates for one image.
    pub macs: u64,
    /// ‖w − ŵ‖² / ‖w‖² over the layer.
    pub codebook_error: f64,
    /// The same with each filter at its best real scale.
    pub scaled_error: f64,
    /// Share of weights at level 0.
    pub sparsity: f64,
    /// Signed powers of two a weight, on average: the adds it costs in hardware.
    pub shift_adds: f64,
    /// Smallest and largest filter exponent.
    pub exponents: (i32, i32),
}

/// Figures of every weighted layer, also sent to the observer as metrics named `layer/<name>/<figure>`.
pub fn layer_reports(
    plan: &Plan,
    state: &State,
    model: &Model,
    observer: &mut dyn Observer,
) -> Vec<LayerReport> {
    let mut reports = Vec::with_capacity(plan.weights.len());
    for ((weights, layer), conv) in plan.weights.iter().zip(&state.layers).zip(convolutions(model)) {
        let mut total = Statistics::default();
        let latent = layer.weight.value.chunks_exact(weights.latents_per_filter());
        for (w, filter) in latent.zip(&layer.filters) {
            total.add(&weights.method.codebook().sum(w), filter);
        }
        let exponents = layer.filters.iter().map(|f| f.exponent);
        let report = LayerReport {
            name: weights.name.clone(),
            bits: conv,
            weights: weights.data.len() as u64,
            macs: weights.macs,
            codebook_error: total.relative_error(),
            scaled_error: total.scaled_error(),
            sparsity: total.sparsity(),
            shift_adds: total.shift_adds(),
            exponents: (exponents.clone().min().unwrap_or(0), exponents.max().unwrap_or(0)),
        };
        let figures = [
            ("bits", f64::from(report.bits)),
            ("codebook_error", report.codebook_error),
            ("scaled_error", report.scaled_error),
            ("sparsity", report.sparsity),
            ("shift_adds", report.shift_adds),
            ("exponent_min", f64::from(report.exponents.0)),
            ("exponent_max", f64::from(report.exponents.1)),
        ];
        for (figure, value) in figures {
            observer.metric(&format!("layer/{}/{figure}", report.name), state.step as i64, value);
        }
        reports.push(report);
    }
    reports
}

/// Code widths of the model's convolutions, in the order of the plan's weights.
fn convolutions(model: &Model) -> impl Iterator<Item = u8> + '_ {
    model.nodes.iter().filter_map(|n| match &n.op {
        dyadic_engine::model::Op::Conv(conv) => Some(conv.weights.bits),
        _ => None,
    })
}
