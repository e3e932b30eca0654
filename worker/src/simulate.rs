//! The integer network in libtorch, exactly: every integer is held in a float wide enough for it.
//!
//! Sums whose proven bound is below 2^24 run in f32, others in f64; with every partial sum an exact integer, the order
//! of additions (and with it the convolution algorithm and the thread count) cannot matter. This is the training
//! graph's last form, and must equal the engine bit for bit.

use dyadic_engine::certificate::See;
use dyadic_engine::model::{Model, Node, TensorId};
use tch::{Device, Kind, Tensor};

use crate::error::WorkerError;
use crate::evaluate::integers;
use crate::unit::{self, Exact, Site};

/// A model's nodes, their constants on a device.
pub struct Simulation<'a> {
    model: &'a Model,
    device: Device,
    nodes: Vec<Box<dyn Exact>>,
    /// The last node that reads each tensor; none reads the output last.
    last_use: Vec<usize>,
}

impl<'a> Simulation<'a> {
    /// Uploads the model's constants.
    pub fn new(model: &'a Model, device: Device) -> Self {
        let nodes = model.nodes.iter().map(|node| unit::exact(&Site { model, node, device })).collect();
        let mut last_use = vec![usize::MAX; model.tensors.len()];
        for (at, node) in model.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|id| last_use[id.0 as usize] = at);
        }
        if let Some(output) = last_use.get_mut(model.output.tensor.0 as usize) {
            *output = usize::MAX;
        }
        Simulation { model, device, nodes, last_use }
    }

    /// Runs input codes (N, C, H, W), any float kind, and returns the output's codes (or sums).
    pub fn run(&self, codes: &Tensor) -> Option<Tensor> {
        let output = self.model.output.tensor.0 as usize;
        self.walk(codes, false, &mut |_, _| Ok(())).ok()?.into_iter().nth(output).flatten()
    }

    /// Runs one image's NHWC codes and shows every tensor's, the input's first.
    ///
    /// # Errors
    /// If the codes are not as many as the input has.
    pub fn show(&self, codes: &[i32], see: &mut See) -> Result<(), WorkerError> {
        let shape = self.model.tensor(self.model.input.tensor).shape;
        let [h, w, c] = [shape.h, shape.w, shape.c].map(i64::from);
        let codes =
            Tensor::from_slice(codes).to_kind(Kind::Float).f_view([1, h, w, c])?.permute([0, 3, 1, 2]);
        let mut show = |id: TensorId, value: &Tensor| {
            let codes: Vec<i32> = integers(&value.get(0))?.into_iter().map(|v| v as i32).collect();
            see(id, &codes);
            Ok(())
        };
        self.walk(&codes, false, &mut show).map(|_| ())
    }

    /// As [`Simulation::run`], but returns every tensor's codes, by tensor id.
    pub fn trace(&self, codes: &Tensor) -> Vec<Option<Tensor>> {
        self.walk(codes, true, &mut |_, _| Ok(())).unwrap_or_default()
    }

    fn walk(&self, codes: &Tensor, keep: bool, see: &mut Look) -> Result<Vec<Option<Tensor>>, WorkerError> {
        let _guard = tch::no_grad_guard();
        let mut values: Vec<Option<Tensor>> = self.model.tensors.iter().map(|_| None).collect();
        let codes = codes.to_device(self.device).to_kind(Kind::Float);
        see(self.model.input.tensor, &codes)?;
        values[self.model.input.tensor.0 as usize] = Some(codes);
        for (at, (node, exact)) in self.model.nodes.iter().zip(&self.nodes).enumerate() {
            let y = exact.run(&inputs(node, &values));
            see(node.output, &y)?;
            values[node.output.0 as usize] = Some(y);
            for &id in node.inputs.iter().filter(|&&id| !keep && self.last_use[id.0 as usize] == at) {
                values[id.0 as usize] = None;
            }
        }
        Ok(values)
    }
}

/// Is shown a tensor's codes (N, C, H, W).
type Look<'a> = dyn FnMut(TensorId, &Tensor) -> Result<(), WorkerError> + 'a;

/// What a node reads.
fn inputs<'a>(node: &Node, values: &'a [Option<Tensor>]) -> Vec<&'a Tensor> {
    node.inputs.iter().filter_map(|i| values[i.0 as usize].as_ref()).collect()
}
