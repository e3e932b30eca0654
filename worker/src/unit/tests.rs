//! One contract for all units: what trains, what is proven and what is served compute the same integers.

use std::sync::Arc;

use dyadic_engine::Engine;
use dyadic_graph::network::Network;
use tch::{Device, Kind, Tensor};

use super::{Fake, of};
use crate::calibrate::Calibration;
use crate::data::Loader;
use crate::export::Naming;
use crate::images::Coder;
use crate::net::{Collect, Leaves, Pass, Place, Upload};
use crate::networks;
use crate::observer::{Control, Observer, Progress};
use crate::recalibrate::{self, Folding};
use crate::simulate::Simulation;
use crate::state::{Fit, State};
use dyadic_plan::codebook::{Choice, Family, Fitter};
use dyadic_plan::{Plan, Rules, Settings, UnitOp, lower};

struct Silent;

impl Observer for Silent {
    fn progress(&mut self, _: Progress) -> Control {
        Control::Continue
    }
    fn metric(&mut self, _: &str, _: i64, _: f64) {}
    fn log(&mut self, _: &str) {}
    fn wants_checkpoint(&mut self, _: u64) -> bool {
        false
    }
    fn checkpoint(&mut self, _: Vec<u8>, _: u64) -> Control {
        Control::Continue
    }
}

struct Built {
    plan: Plan,
    state: State,
    weights: Vec<Vec<f32>>,
    model: Arc<dyadic_engine::model::Model>,
    engine: Engine,
    codes: Tensor,
}

fn build(network: &Network, method: Choice) -> Built {
    let settings = Settings { weights: method, strict: false, conv3x3_bits: 6, other_bits: 8 };
    let rules = Rules::of(&settings).expect("sound settings");
    let plan = lower(network, &rules).unwrap_or_else(|e| panic!("{}: {e:?}", network.name));
    let [c, h, w] = plan.tensors[0].shape;
    let images = networks::images(16, [h, w, c], 3);
    let normalization = dyadic_engine::model::Normalization { mean: vec![0.5; c], std: vec![0.25; c] };
    let coder = Coder::new(normalization, [h, w, c]).expect("sound");
    let place = Place { device: Device::Cpu, kind: Kind::Float };
    let indices: Vec<usize> = (0..images.len()).collect();
    let batch = Loader::in_memory(images).batch(&indices, None).expect("in memory");
    let mut calibration = Calibration::new(&plan, place);
    let _ = calibration.add(&coder.real(&batch, place));
    let mut state = calibration.finish(coder.step, false).expect("calibrated");
    let weights = state.fit(&plan, Fit::Full, &mut Fitter::default()).expect("finite");
    let codes = coder.codes(&batch, place);
    let naming = Naming::default();
    let batches = [codes.shallow_clone()];
    let folding = Folding { plan: &plan, naming: &naming, batches: &batches, memory: 1 << 30 };
    let model = recalibrate::build(&folding, &mut state, &mut Silent);
    let model = Arc::new(model.expect("folded"));
    let engine = Engine::new(Arc::clone(&model)).expect("a checked model");
    Built { plan, state, weights, model, engine, codes }
}

fn integers(t: &Tensor) -> Vec<i64> {
    let nhwc = t.permute([0, 2, 3, 1]).contiguous().view([-1]);
    Vec::try_from(nhwc.to_kind(Kind::Int64)).expect("integers")
}

/// Each unit gets the exact codes of its inputs, so that no unit answers for another.
fn compare(name: &str, built: &Built, kind: Kind, images: i64) {
    let Built { plan, state, weights, model, engine, codes } = built;
    let codes = codes.narrow(0, 0, images);
    let exact = Simulation::new(model, Device::Cpu).trace(&codes);
    let first: Vec<i32> = integers(&codes.narrow(0, 0, 1)).into_iter().map(|v| v as i32).collect();
    let trace = engine.trace(&mut engine.scratch(), &first).expect("it runs");
    let upload =
        Upload { place: Place { device: Device::Cpu, kind }, collect: Collect::Nothing, shift_only: false };
    let leaves = Leaves::new(plan, state, weights, upload);
    let _guard = tch::no_grad_guard();
    for unit in &plan.units {
        let expected = exact[unit.output].as_ref().expect("every tensor is kept");
        let ours = integers(&expected.narrow(0, 0, 1));
        let theirs: Vec<i64> = trace.codes[unit.output].iter().map(|&c| i64::from(c)).collect();
        assert_eq!(ours, theirs, "{name}, {}: simulation and engine", unit.name);
        let inputs: Vec<Tensor> = unit
            .inputs
            .iter()
            .map(|&i| exact[i].as_ref().expect("every tensor is kept").to_kind(kind))
            .collect();
        let inputs = inputs.iter().collect();
        let fake =
            of(&unit.op).fake(&Fake { plan, state, leaves: &leaves, pass: Pass::Evaluate, unit, inputs });
        if unit.output == plan.output && matches!(unit.op, UnitOp::Conv { logits: true, .. }) {
            continue;
        }
        let apart = integers(&fake.to_kind(Kind::Float)).into_iter().zip(integers(expected));
        let apart: Vec<i64> = apart.map(|(a, b)| (a - b).abs()).collect();
        let most = apart.iter().copied().max().unwrap_or(0);
        let mean = apart.iter().sum::<i64>() as f64 / apart.len().max(1) as f64;
        if matches!(unit.op, UnitOp::Conv { .. }) {
            // A normalization's factor is rounded to seven bits, after training; bf16 holds sums to eight.
            assert!(most <= 3 && mean < 0.6, "{name}, {}: {most} codes apart, {mean} on average", unit.name);
        } else {
            assert_eq!(most, 0, "{name}, {}, {kind:?}: codes differ", unit.name);
        }
    }
}

#[test]
fn graph_simulation_and_engine_compute_the_same_integers() {
    // Maps this small take longer to share out than to compute.
    tch::set_num_threads(1);
    for network in networks::all() {
        let four = Choice::new(Family::Apq, Some("two-term"), 4, None).expect("it exists");
        for method in [Choice::linear8(), four] {
            let built = build(&network, method);
            for kind in [Kind::Float, Kind::BFloat16] {
                for images in [1, 6] {
                    compare(&network.name, &built, kind, images);
                }
            }
        }
    }
}

#[test]
fn the_gradient_passes_between_the_lowest_and_the_highest_code() {
    let network = networks::residual();
    let Built { plan, state, weights, .. } = build(&network, Choice::linear8());
    let upload = Upload {
        place: Place { device: Device::Cpu, kind: Kind::Float },
        collect: Collect::Parameters,
        shift_only: false,
    };
    let leaves = Leaves::new(&plan, &state, &weights, upload);
    for (unit, act) in [(0, dyadic_plan::Act::Relu), (0, dyadic_plan::Act::None)] {
        let quantizer = super::Quantizer::new(&plan, &state, &leaves, plan.units[unit].output);
        let (lo, hi) = plan.tensors[plan.units[unit].output].coding.range();
        let (lo, hi) = (if act == dyadic_plan::Act::Relu { 0 } else { lo }, hi);
        let values =
            [lo as f32 - 3.0, lo as f32 - 0.1, lo as f32 + 1.4, hi as f32 - 0.6, hi as f32 + 0.1, 1e4];
        let z = Tensor::from_slice(&values).set_requires_grad(true);
        let y = quantizer.apply(&z * 1.0, act);
        let codes: Vec<f32> = Vec::try_from(&y).expect("codes");
        let expected = [lo, lo, lo + 1, hi - 1, hi, hi].map(|c| c as f32);
        assert_eq!(codes, expected);
        y.sum(Kind::Float).backward();
        let gradient: Vec<f32> = Vec::try_from(z.grad()).expect("gradients");
        assert_eq!(gradient, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
    }
}
