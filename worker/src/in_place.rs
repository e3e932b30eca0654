//! Pictures that stayed where they were: found below folders that this worker may read, or fetched from S3 prefixes.
//!
//! A manifest names any place, and whoever may push one may name it: a worker reads only below the places that whoever runs
//! it has named.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use dyadic_store::blob::Digest;
use dyadic_store::objects::{FetchError, Objects};
use futures::{StreamExt as _, TryStreamExt as _};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::data::{Manifest, Source};
use crate::job::default_cache;

/// What jobs over such pictures require of a worker.
pub const CAPABILITY: &str = "in-place";
/// Objects that are fetched at once.
const AT_ONCE: usize = 16;
/// Files that are named where many are missing.
const NAMED: usize = 5;

/// Places whose pictures may be read.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// Absolute folders, and `s3://bucket/prefix`.
    roots: Vec<String>,
}

/// Why pictures cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Not here, or not as they are.
    #[error("{0}")]
    Refused(String),
    /// The object store or the disk failed; they may be had another time.
    #[error("{0}")]
    Away(#[from] dyadic_store::blob::BlobError),
}

impl Places {
    /// These places.
    ///
    /// # Errors
    /// If one is neither an absolute folder nor an S3 prefix, in words.
    pub fn new<'a>(roots: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let root = |root: &str| Manifest::new(root).map(|m| m.base().to_owned()).map_err(|e| e.to_string());
        Ok(Places { roots: roots.into_iter().map(root).collect::<Result<_, _>>()? })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// The dataset with its files at hand, if a manifest lists them: under their place, or fetched into `cache`, each under its
    /// hash. `told` is given how many of how many are.
    ///
    /// # Errors
    /// [`PlaceError`]: the place is not among these, files are missing or of another size, or the store failed.
    pub async fn locate(
        &self,
        source: Source,
        cache: &Path,
        told: &mut dyn FnMut(usize, usize),
    ) -> Result<Source, PlaceError> {
        let Some(manifest) = source.manifest().cloned() else { return Ok(source) };
        if manifest.base().starts_with("s3://") {
            self.fetch(source, &manifest, cache, told).await
        } else {
            self.find(source, &manifest, told)
        }
    }

    fn refused(&self, base: &str) -> PlaceError {
        let may = if self.roots.is_empty() {
            "no place at all; start it with --data or DYADIC_WORKER_DATA".to_owned()
        } else {
            self.roots.join(", ")
        };
        PlaceError::Refused(format!("the pictures are in {base}, and this worker may read below {may}"))
    }

    /// Files in a folder; links do not lead out of what may be read.
    fn find(
        &self,
        source: Source,
        manifest: &Manifest,
        told: &mut dyn FnMut(usize, usize),
    ) -> Result<Source, PlaceError> {
        let base = manifest.base();
        let below = |path: &Path| {
            let real = |root: &String| fs::canonicalize(root).is_ok_and(|root| path.starts_with(root));
            self.roots.iter().any(real)
        };
        // What is refused does not tell whether it is there.
        let folder = fs::canonicalize(base).ok().filter(|folder| below(folder));
        let folder = folder.ok_or_else(|| self.refused(base))?;
        let mut missing = Missing::default();
        let (mut done, all) = (0, manifest.files().len());
        let located = source.located(&mut |name, listed| {
            let path = folder.join(name);
            match fs::canonicalize(&path).and_then(|real| Ok((fs::metadata(&real)?.len(), real))) {
                Ok((size, real)) if real.starts_with(&folder) && size == listed.size_bytes => {}
                Ok((_, real)) if !real.starts_with(&folder) => missing.add(name, "leads out of the folder"),
                Ok((size, _)) => missing.add(name, format!("has {size} bytes, not {}", listed.size_bytes)),
                Err(error) => missing.add(name, error),
            }
            done += 1;
            told(done, all);
            Ok::<PathBuf, PlaceError>(path)
        })?;
        missing.none(base).map(|()| located)
    }

    async fn fetch(
        &self,
        source: Source,
        manifest: &Manifest,
        cache: &Path,
        told: &mut dyn FnMut(usize, usize),
    ) -> Result<Source, PlaceError> {
        let base = manifest.base();
        let below = |root: &String| {
            base.strip_prefix(root.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('/'))
        };
        if !self.roots.iter().any(below) {
            return Err(self.refused(base));
        }
        let objects = Objects::open(base)?;
        let folder = cache.join("in-place");
        let place = |sha256: &str| folder.join(&sha256[..2]).join(sha256);
        for (name, listed) in manifest.files() {
            let path = place(&listed.sha256);
            let made = path.parent().map_or(Ok(()), fs::create_dir_all);
            made.map_err(|e| PlaceError::Refused(format!("{}: {e}, for {name}", path.display())))?;
        }
        let wanted = manifest.files().iter().map(|(name, listed)| {
            let (path, objects) = (place(&listed.sha256), &objects);
            async move {
                if fs::metadata(&path).is_ok_and(|meta| meta.len() == listed.size_bytes) {
                    return Ok(None);
                }
                let digest: Digest =
                    listed.sha256.parse().map_err(|e| PlaceError::Refused(format!("{name}: {e}")))?;
                match objects.fetch(name, Some(digest), &path).await {
                    Ok(()) => Ok(None),
                    Err(FetchError::Store(error)) => Err(PlaceError::Away(error)),
                    Err(error) => Ok(Some((name, error))),
                }
            }
        });
        let (mut done, all) = (0, manifest.files().len());
        let mut missing = Missing::default();
        let mut fetched = futures::stream::iter(wanted).buffer_unordered(AT_ONCE);
        while let Some(outcome) = fetched.try_next().await? {
            if let Some((name, error)) = outcome {
                missing.add(name, error);
            }
            done += 1;
            told(done, all);
        }
        drop(fetched);
        missing.none(base)?;
        source.located(&mut |_, listed| Ok(place(&listed.sha256)))
    }
}

/// The dataset with its files at hand, for whoever runs the offline command: any place that a manifest names.
///
/// # Errors
/// As [`Places::locate`].
pub fn located_here(source: Source) -> anyhow::Result<Source> {
    let Some(base) = source.manifest().map(|manifest| manifest.base().to_owned()) else { return Ok(source) };
    let places = Places::new([base.as_str()]).map_err(anyhow::Error::msg)?;
    let bar = bar("looking for the pictures");
    let mut told = |done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(places.locate(source, &default_cache(), &mut told))?)
}

/// A bar of pictures on the terminal.
pub(crate) fn bar(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    bar.with_message(what)
}

/// Files that are not as the manifest says.
#[derive(Default)]
struct Missing {
    count: usize,
    first: Vec<String>,
}

impl Missing {
    fn add(&mut self, name: &str, reason: impl Display) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(format!("{name}: {reason}"));
        }
    }

    fn none(self, base: &str) -> Result<(), PlaceError> {
        if self.count == 0 {
            return Ok(());
        }
        let more = if self.count > self.first.len() { "; …" } else { "" };
        Err(PlaceError::Refused(format!(
            "{} of the manifest's pictures are not in {base} as it says ({}{more}); make a new manifest and push it",
            self.count,
            self.first.join("; ")
        )))
    }
}
