//! Fully connected layers.

use super::{Call, Lowering, Refusal, Slot, unsupported};
use crate::network::{Linear, Op, Tensor};

impl<'a> Lowering<'a> {
    pub(super) fn gemm(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        let (alpha, beta) = (call.attributes.float("alpha", 1.0)?, call.attributes.float("beta", 1.0)?);
        if call.attributes.flag("transA")? {
            return unsupported("transA: it would move the batch axis");
        }
        let transposed = call.attributes.flag("transB")?;
        let (shape, data) = call.weights(1)?;
        let mut weight = self.linear_weight(shape, data, transposed)?;
        scale(&mut weight.data, alpha);
        let bias = match call.optional_weights(2)? {
            Some((shape, data)) => {
                let outputs = weight.shape[0];
                let row = match *shape {
                    [] | [1] | [1, 1] => vec![data[0]; outputs],
                    [columns] | [1, columns] if columns == outputs => data.to_vec(),
                    [_, columns] if columns == outputs || columns == 1 => {
                        return unsupported("a bias that differs within the batch");
                    }
                    _ => return Err(format!("a bias of shape {shape:?} for {outputs} outputs").into()),
                };
                Some(row).map(|mut row| {
                    scale(&mut row, beta);
                    row
                })
            }
            None => None,
        };
        let input = self.settled(call.view(0)?)?;
        self.layer(call, Op::Linear(Linear { weight, bias }), vec![input])
    }

    pub(super) fn matmul(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        let view = call.view(0)?;
        if view.shape.len() != 1 {
            return unsupported(format!("a product with a value of rank {}", view.shape.len() + 1));
        }
        let (shape, data) = call.weights(1)?;
        if shape.len() != 2 {
            return unsupported(format!("a product with weights of shape {shape:?}"));
        }
        let weight = self.linear_weight(shape, data, false)?;
        let input = self.settled(view)?;
        self.layer(call, Op::Linear(Linear { weight, bias: None }), vec![input])
    }

    /// Weights as `[outputs, inputs]`.
    fn linear_weight(&mut self, shape: &[usize], data: &[f32], transposed: bool) -> Result<Tensor, Refusal> {
        let &[rows, columns] = shape else {
            return Err(format!("weights of shape {shape:?}, not of rank 2").into());
        };
        if data.is_empty() {
            return unsupported(format!("weights of shape {shape:?}: no elements"));
        }
        // Outputs, for a bias that may be one number.
        self.charge(4 * (data.len() + rows + columns) as u64)?;
        if transposed {
            return Ok(Tensor { shape: shape.to_vec(), data: data.to_vec() });
        }
        let data = (0..columns).flat_map(|column| data[column..].iter().step_by(columns).copied()).collect();
        Ok(Tensor { shape: vec![columns, rows], data })
    }
}

fn scale(numbers: &mut [f32], factor: f32) {
    if factor != 1.0 {
        for number in numbers {
            *number *= factor;
        }
    }
}
