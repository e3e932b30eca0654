//! An operation made ready to run: what a step does.

use super::arena::{Place, Rest};
use crate::kernels::codes::Codes;
use crate::kernels::part::{Cut, Part, Threads};
use crate::kernels::{Workspace, WorkspaceSize};

/// A prepared operation. It allocates nothing when it runs.
pub(crate) trait Action: Send + Sync {
    /// What executes it, for people: a kernel and its method, or the operation.
    fn method(&self) -> &'static str;

    /// Bytes of the packed weights.
    fn weight_bytes(&self) -> usize {
        0
    }

    /// What each part of [`Action::run`] needs; the contents do not matter.
    fn workspace(&self) -> WorkspaceSize {
        WorkspaceSize::default()
    }

    /// Into how many parts to cut the output for some threads, two or more.
    fn cut(&self, rows: Rows, threads: Threads) -> Cut;

    /// Computes a part of one sample: all of its codes are written, and no others.
    fn run(&self, operands: &Operands, part: Part, workspace: &mut Workspace);
}

/// An output's rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    /// How many.
    pub(crate) height: usize,
    /// Codes of all of them.
    pub(crate) codes: usize,
}

impl Rows {
    /// Cuts between rows, into parts of at least so many codes: what takes some microseconds.
    pub(crate) fn cut(self, least: usize, threads: Threads) -> Cut {
        Cut::by_rows(self.height, threads, threads.most(self.codes, least))
    }
}

/// What a step reads, while its output is written.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a> {
    rest: Rest<'a>,
    places: &'a [Place],
}

impl<'a> Operands<'a> {
    /// The tensors at these places.
    pub(super) fn new(rest: Rest<'a>, places: &'a [Place]) -> Self {
        Operands { rest, places }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// The codes of one.
    pub(crate) fn get(&self, index: usize) -> Codes<'a> {
        self.rest.codes(self.places[index])
    }
}
