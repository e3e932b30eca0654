//! Labelled images: the one home of every dataset format, from what lies on disk to what a training step reads.
//!
//! The way through the modules: [`Source::open`] finds which [`format`](mod@format) a folder or archive holds, its splits,
//! classes and files; [`pack`] makes them the one deterministic tar that travels to a server; [`Dataset::load`] decodes a
//! split into memory, [`Images`] one picture at a time; [`Loader`] makes batches of a split, ahead and on several threads;
//! [`Epoch`] and [`Augment`] order and vary the images of an epoch by counting, so that any batch can be made again by
//! itself.
//!
//! Everything that a file says is checked before use, and no file can ask for more memory than the limits here.

mod archive;
mod augment;
mod contents;
mod dataset;
mod entry;
mod error;
pub mod format;
mod images;
mod listing;
mod loader;
pub mod manifest;
pub mod normalization;
mod order;
pub mod pack;
mod picture;
mod preprocess;
mod source;
mod split;

pub use augment::Augment;
pub use contents::{Contents, SplitContents};
pub use dataset::{Dataset, load, load_as, random};
pub use entry::Entry;
pub use error::DataError;
pub use format::Format;
pub use images::Images;
pub use loader::{Batch, Batches, Broken, Loader, Outputs, Reading};
pub use manifest::{Listed, Manifest};
pub use order::{EVALUATION_SEED, Epoch, sample};
pub use picture::Picture;
pub use preprocess::{Color, Interpolation, Preprocess, Resize, Training};
pub use source::{Part, Source};
pub use split::{Split, UnknownSplit};
