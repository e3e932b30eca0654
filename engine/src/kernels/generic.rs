//! The portable kernel: safe Rust over multiply-add vectors of 16-bit codes.
//!
//! The input is widened to 16 bits with its padding ([`padded`]). Depthwise layers go channel by channel
//! ([`depthwise`]); all others are dot products of patches with blocks of filters ([`blocked`]).

mod blocked;
mod depthwise;
mod dot;
mod padded;
mod panels;

use super::level::Level;
use super::{ConvLayer, Kernel, PreparedConv};
use blocked::Blocked;
use depthwise::Depthwise;

/// Runs anywhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Generic;

impl Kernel for Generic {
    fn new() -> Option<Self> {
        Some(Generic)
    }

    fn name(&self) -> &'static str {
        "generic"
    }

    fn level(&self) -> Level {
        Level::PORTABLE
    }

    fn bytes(&self, layer: &ConvLayer) -> u64 {
        if layer.is_depthwise() { Depthwise::bytes(layer) } else { Blocked::bytes(layer) }
    }

    fn prepare(&self, layer: &ConvLayer) -> Box<dyn PreparedConv> {
        if layer.is_depthwise() { Box::new(Depthwise::new(layer)) } else { Box::new(Blocked::new(layer)) }
    }
}
