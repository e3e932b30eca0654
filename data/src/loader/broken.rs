//! Images that cannot be read: counted, named, and left out up to a share.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::error::{DataError, Result};

/// How many are named.
const NAMED: usize = 5;

/// What could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Broken {
    /// How many images.
    pub count: u64,
    /// The first of them by their order in the dataset, each with its reason.
    pub first: Vec<String>,
}

impl Broken {
    /// Counts one more.
    pub(crate) fn add(&mut self, reason: String) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(reason);
        }
    }

    /// Refuses more than `share` of `images`.
    ///
    /// # Errors
    /// If there are more; the reason names the first.
    pub fn check(&self, images: usize, share: f64) -> Result<()> {
        // A share of a whole number is as near to it as to be taken for it.
        let allowed = (share * images as f64 + 1e-9).floor() as u64;
        if self.count <= allowed {
            return Ok(());
        }
        let (count, first) = (self.count, self.first.join("; "));
        let more = if count as usize > self.first.len() { "; …" } else { "" };
        Err(DataError::hinted(
            "dataset",
            format!(
                "{count} of {images} images cannot be read, and {allowed} may be left out: {first}{more}"
            ),
            "mend or remove them, or allow a larger share of broken images",
        ))
    }
}

/// Counts each broken image once, whichever thread finds it and however often.
#[derive(Debug)]
pub(super) struct Tally {
    share: f64,
    found: Mutex<BTreeMap<usize, String>>,
}

impl Tally {
    pub(super) fn new(share: f64) -> Self {
        Tally { share, found: Mutex::default() }
    }

    pub(super) fn share(&self) -> f64 {
        self.share
    }

    /// Counts one of `images` images.
    pub(super) fn add(&self, index: usize, reason: String, images: usize) -> Result<()> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).insert(index, reason);
        self.so_far().check(images, self.share)
    }

    pub(super) fn so_far(&self) -> Broken {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let first = found.values().take(NAMED).cloned().collect();
        Broken { count: found.len() as u64, first }
    }
}
