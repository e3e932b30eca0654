//! The threads of a run, each with a workspace of its own, and how they share an operation.
#![expect(unsafe_code, reason = "parts of an output are given to several threads")]

use std::sync::{Mutex, PoisonError};

use super::Workspace;
use super::codes::CodesMut;
use super::crew::Lead;
use super::part::{Cut, Output, Part};

/// What the leading thread of a run works with.
pub(crate) struct Hands<'a> {
    /// One a thread, the leader's first.
    workspaces: &'a [Mutex<Workspace>],
    /// None if there are no helpers.
    lead: Option<Lead<'a>>,
}

impl<'a> Hands<'a> {
    /// The calling thread alone.
    pub(crate) fn alone(workspace: &'a Mutex<Workspace>) -> Self {
        Hands { workspaces: std::slice::from_ref(workspace), lead: None }
    }

    /// The calling thread, and helpers with the later ones of the workspaces.
    pub(crate) fn many(workspaces: &'a [Mutex<Workspace>], lead: Lead<'a>) -> Self {
        Hands { workspaces, lead: Some(lead) }
    }

    /// Threads at most.
    pub(crate) fn threads(&self) -> usize {
        self.workspaces.len()
    }

    /// Does each part of a cut of `out`, whose rows are `height`, and returns when all are done.
    pub(crate) fn share(
        &mut self,
        out: CodesMut,
        height: usize,
        cut: Cut,
        each: impl Fn(Part, &mut Workspace) + Sync,
    ) {
        let output = Output::new(out, height);
        let workspaces = self.workspaces;
        let task = |index: usize, member: usize| {
            // Never waited for: each member has its own.
            let mut workspace = workspaces[member].lock().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: all parts are of one cut, and everything that calls this does so once an index.
            each(unsafe { output.part(cut, index) }, &mut workspace);
        };
        match &mut self.lead {
            Some(lead) if cut.parts() > 1 => lead.share(cut.parts(), &task, || ()),
            _ => (0..cut.parts()).for_each(|index| task(index, 0)),
        }
    }
}
