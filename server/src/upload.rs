//! Receiving files: what a header declares, chunk by chunk, hashed while they are written.

mod error;
mod header;
mod intake;
mod receiver;
mod spool;
mod tar;

pub use error::UploadError;
pub(crate) use error::hex;
pub use header::{FileSpec, FileSpecs, HeaderLimits, check_name};
pub use intake::{Intake, Part, UploadMessage};
pub use receiver::Receiver;
pub use spool::{Spool, SpoolDir};
pub use tar::check_tar;
