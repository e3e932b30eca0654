//! The integer network: number format, artifact file and shift-add execution.
//!
//! No async, no I/O beyond bytes in and bytes out; floats appear only at the input's and the output's edge.

pub mod check;
pub mod digits;
pub mod model;
pub mod quantize;
pub mod reference;
