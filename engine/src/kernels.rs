//! Fast execution of single operations, exact on every machine.
//!
//! A [`Kernel`] value is the proof that this CPU can run it; one is chosen when an engine is built. It turns each
//! convolution into a [`PreparedConv`], whose weights lie in the kernel's own panels. Everything else is shared, in
//! `elementwise`, `pool` and `requantize`. No kernel saturates in between: all equal `reference`.
#![allow(
    clippy::inline_always,
    reason = "loops must be inlined into functions that have a CPU's instructions"
)]
#![allow(clippy::wildcard_imports, reason = "vector intrinsics")]
#![allow(
    clippy::cast_ptr_alignment,
    reason = "lines are aligned to 64 bytes; every other load says unaligned"
)]

pub(crate) mod codes;
pub(crate) mod crew;
pub(crate) mod elementwise;
pub(crate) mod generic;
pub(crate) mod hands;
pub(crate) mod input;
pub(crate) mod level;
pub(crate) mod levels;
mod line;
pub(crate) mod part;
pub(crate) mod pool;
pub(crate) mod requantize;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86;

use codes::Codes;
use level::Level;
pub(crate) use line::Line;
use part::{Cut, Part, Threads};

use crate::model::{Conv, Format, Shape};

/// How to execute convolutions on one kind of CPU.
pub(crate) trait Kernel: Send + Sync {
    /// The kernel, if this CPU can run it.
    fn new() -> Option<Self>
    where
        Self: Sized;

    /// Name for people and logs.
    fn name(&self) -> &'static str;

    /// The vector unit for everything but convolutions.
    fn level(&self) -> Level;

    /// Most multiply-accumulates a second that one thread can do, in 10⁹, by measuring products of registers for some
    /// milliseconds; `None` where that has not been written down.
    fn peak(&self) -> Option<f64> {
        None
    }

    /// Bytes that [`Kernel::prepare`] takes at most, known before it takes any.
    fn bytes(&self, layer: &ConvLayer) -> u64;

    /// Repacks a checked convolution for this kernel.
    fn prepare(&self, layer: &ConvLayer) -> Box<dyn PreparedConv>;
}

/// A checked convolution and the shapes it works on.
pub(crate) struct ConvLayer<'m> {
    /// The layer.
    pub(crate) conv: &'m Conv,
    /// Shape of the input.
    pub(crate) input: Shape,
    /// Whether the input's codes are signed.
    pub(crate) signed: bool,
    /// Largest byte that matrix kernels read: signed codes are read with 128 added to them.
    pub(crate) largest_byte: u8,
    /// The output's codes.
    pub(crate) codes: Format,
    /// Shape of the output, and of the residual operand.
    pub(crate) output: Shape,
}

impl ConvLayer<'_> {
    /// Whether there is one filter for each channel.
    pub(crate) fn is_depthwise(&self) -> bool {
        self.conv.groups == self.input.c && self.input.c == self.output.c
    }

    /// Multiply-accumulates of a sample.
    pub(crate) fn macs(&self) -> usize {
        let per_filter = self.conv.weights.codes.len() / self.output.c as usize;
        self.output.len() * per_filter
    }
}

/// A convolution ready to run.
pub(crate) trait PreparedConv: Send + Sync {
    /// Kernel and method, for people.
    fn method(&self) -> &'static str;

    /// Bytes of the packed weights.
    fn weight_bytes(&self) -> usize;

    /// What each part of [`PreparedConv::run`] needs; the contents do not matter.
    fn workspace(&self) -> WorkspaceSize;

    /// Into how many parts to cut the output for some threads, two or more.
    fn cut(&self, threads: Threads) -> Cut;

    /// Runs a part of one sample: all of its codes are written, and no others.
    fn run(&self, x: Codes, residual: Option<Codes>, part: Part, workspace: &mut Workspace);
}

/// Elements of each type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct WorkspaceSize {
    /// 16-bit elements.
    pub(crate) words: usize,
    /// 32-bit elements.
    pub(crate) sums: usize,
    /// Lines of 64 bytes.
    pub(crate) lines: usize,
}

impl WorkspaceSize {
    /// Enough for both.
    pub(crate) fn max(self, other: Self) -> Self {
        WorkspaceSize {
            words: self.words.max(other.words),
            sums: self.sums.max(other.sums),
            lines: self.lines.max(other.lines),
        }
    }
}

/// One thread's memory for the duration of one operation.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// 16-bit elements.
    pub(crate) words: Vec<i16>,
    /// 32-bit elements.
    pub(crate) sums: Vec<i32>,
    /// Lines of 64 bytes.
    pub(crate) lines: Vec<Line>,
}

/// Every kernel that this CPU can run, the best first; the portable one is always the last.
pub(crate) fn available() -> Vec<Box<dyn Kernel>> {
    [
        #[cfg(target_arch = "x86_64")]
        boxed::<x86::amx::Amx>(),
        #[cfg(target_arch = "x86_64")]
        boxed::<x86::avx512::Avx512>(),
        #[cfg(target_arch = "x86_64")]
        boxed::<x86::avx2::Avx2>(),
        boxed::<generic::Generic>(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn boxed<K: Kernel + 'static>() -> Option<Box<dyn Kernel>> {
    Some(Box::new(K::new()?))
}
