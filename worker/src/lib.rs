//! The Dyadic worker: takes a float network and a dataset, fine-tunes the network with power-of-two weights on
//! libtorch, and exports the integer network that the engine serves.
//!
//! The way through the modules: `dyadic_plan` has lowered the float network to quantized units and fits each filter's
//! levels; `unit` holds all that each operation is; [`net`] runs the units in libtorch with fake quantization; [`train`] fine-tunes; [`requantize`],
//! [`export`] and [`recalibrate`] turn the result into integers; [`simulate`] runs those integers in libtorch, exactly; [`evaluate`]
//! compares that with the engine, image by image, and with what the [`float`] network answered. [`batch`] and [`memory`] say how many images run
//! at once. [`stage`] strings these together and [`quantize`] walks the stages. [`job`] does all this for the queue.

pub mod arithmetic;
pub mod batch;
pub mod calibrate;
pub mod checkpoint;
pub mod cli;
pub mod closeness;
pub mod error;
pub mod evaluate;
pub mod export;
pub mod float;
pub mod images;
pub mod in_place;
pub mod job;
mod layout;
pub mod memory;
pub mod net;
#[cfg(test)]
#[path = "../tests/support/networks.rs"]
mod networks;
pub mod observer;
pub mod quantize;
pub mod recalibrate;
pub mod report;
pub mod requantize;
pub mod simulate;
pub mod stage;
pub mod state;
pub mod train;
mod unit;

pub use dyadic_data as data;
