//! The float network: ONNX import, shape inference, constant folding, support check and a naive evaluator.

pub mod network;
