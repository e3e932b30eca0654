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
}

impl<'a> Simulation<'a> {
    /// Uploads the model's constants.
    pub fn new(model: &'a Model, device: Device) -> Self {
        let nodes = model.nodes.iter().map(|node| unit::exact(&Site { model, node, device })).collect();
        Simulation { model, device, nodes }
    }

    /// Runs input codes (N, C, H, W), any float kind, and returns every tensor's codes (or sums), by tensor id.
    pub fn run(&self, codes: &Tensor) -> Vec<Option<Tensor>> {
        let _guard = tch::no_grad_guard();
        let mut values: Vec<Option<Tensor>> = self.model.tensors.iter().map(|_| None).collect();
        values[self.model.input.tensor.0 as usize] = Some(codes.to_device(self.device).to_kind(Kind::Float));
        for (node, exact) in self.model.nodes.iter().zip(&self.nodes) {
            let y = exact.run(&inputs(node, &values));
            values[node.output.0 as usize] = Some(y);
        }
        values
    }
}

/// What a node reads.
fn inputs<'a>(node: &Node, values: &'a [Option<Tensor>]) -> Vec<&'a Tensor> {
    node.inputs.iter().filter_map(|i| values[i.0 as usize].as_ref()).collect()
}
