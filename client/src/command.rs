//! One file a command: its flags, its call, what it prints.

pub(crate) mod completions;
pub(crate) mod dataset;
pub(crate) mod infer;
pub(crate) mod job;
pub(crate) mod model;
pub(crate) mod names;
pub(crate) mod page;
pub(crate) mod runs;
pub(crate) mod stats;
pub(crate) mod tag;
pub(crate) mod token;
pub(crate) mod up;
pub(crate) mod upload;
