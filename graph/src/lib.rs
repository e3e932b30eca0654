//! The float network: ONNX import, shape inference, constant folding, support check and a naive evaluator.
//!
//! [`import`](import::import) turns the bytes of an ONNX file into a [`Network`]; [`evaluate`](evaluate::evaluate) runs it.

pub mod evaluate;
pub mod fold;
mod forms;
pub mod import;
pub mod network;
pub mod onnx;
mod selection;

pub use evaluate::{EvaluateError, evaluate, evaluate_all};
pub use import::{Bundle, ErrorKind, Group, ImportError, Unsupported, import, import_bytes};
pub use network::{BatchNorm, Conv, Layer, Linear, Network, Op, Tensor, Value, ValueId, Window};
