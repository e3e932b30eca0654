//! The integer network in libtorch, exactly: every integer is held in a float wide enough for it.
//!
//! Sums whose proven bound is below 2^24 run in f32, others in f64; with every partial sum an exact integer, the order
//! of additions (and with it the convolution algorithm and the thread count) cannot matter. This is the training
//! graph's last form, and must equal the engine bit for bit.

use dyadic_engine::model::{Model, Node};
use tch::{Device, Kind, Tensor};

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
        self.walk(codes, false).into_iter().nth(output).flatten()
    }

    /// As [`Simulation::run`], but returns every tensor's codes, by tensor id.
    pub fn trace(&self, codes: &Tensor) -> Vec<Option<Tensor>> {
        self.walk(codes, true)
    }

    fn walk(&self, codes: &Tensor, keep: bool) -> Vec<Option<Tensor>> {
        let _guard = tch::no_grad_guard();
        let mut values: Vec<Option<Tensor>> = self.model.tensors.iter().map(|_| None).collect();
        values[self.model.input.tensor.0 as usize] = Some(codes.to_device(self.device).to_kind(Kind::Float));
        for (at, (node, exact)) in self.model.nodes.iter().zip(&self.nodes).enumerate() {
            let y = exact.run(&inputs(node, &values));
            values[node.output.0 as usize] = Some(y);
            for &id in node.inputs.iter().filter(|&&id| !keep && self.last_use[id.0 as usize] == at) {
                values[id.0 as usize] = None;
            }
        }
        values
    }
}

/// What a node reads.
fn inputs<'a>(node: &Node, values: &'a [Option<Tensor>]) -> Vec<&'a Tensor> {
    node.inputs.iter().filter_map(|i| values[i.0 as usize].as_ref()).collect()
}
