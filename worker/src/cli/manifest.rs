//! `dyadic-worker manifest`: lists the pictures of a folder or an S3 prefix, so that they need not travel.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use dyadic_store::objects::Objects;

use crate::data::{Contents, Entry, Manifest, Source};
use crate::in_place::bar;

/// The most objects that a prefix may hold.
const OBJECTS: usize = 1 << 21;

/// List the pictures of a folder or an S3 prefix with their hashes: `dyadic dataset push FILE` makes it a dataset, and the
/// pictures stay where they are. Workers that may read there (--data) run jobs over it.
#[derive(Debug, Args)]
pub struct ManifestOf {
    /// Folder, or s3://bucket/prefix; credentials and endpoint from the usual `AWS_…` variables.
    place: String,
    /// Where the manifest goes, a .jsonl file.
    #[arg(long, value_name = "FILE.jsonl")]
    out: PathBuf,
}

impl ManifestOf {
    /// Runs the command.
    ///
    /// # Errors
    /// What cannot be read or written, and a place that holds no image folder.
    pub fn run(&self) -> anyhow::Result<()> {
        ensure!(
            self.out.extension().is_some_and(|ending| ending == "jsonl"),
            "{} does not end in .jsonl, by which manifests are known",
            self.out.display()
        );
        let manifest = if self.place.starts_with("s3://") { self.of_objects()? } else { self.of_folder()? };
        let mut out =
            BufWriter::new(File::create(&self.out).with_context(|| self.out.display().to_string())?);
        manifest
            .write(&mut out)
            .and_then(|()| out.flush())
            .with_context(|| self.out.display().to_string())?;
        // Read as a push reads it: whether it is an image folder shows here.
        let contents = Contents::of(&Source::open(&self.out)?)?;
        let splits = contents.splits.iter().map(|s| format!("{} {}", s.split, s.images));
        println!(
            "{}: {} in {}, {} classes",
            self.out.display(),
            splits.collect::<Vec<_>>().join(", "),
            manifest.base(),
            contents.classes.len()
        );
        if contents.broken.count > 0 {
            println!("cannot be read: {} ({})", contents.broken.count, contents.broken.first.join("; "));
        }
        Ok(())
    }

    fn of_folder(&self) -> anyhow::Result<Manifest> {
        let source = Source::open(Path::new(&self.place))?;
        let bar = bar("hashing");
        bar.set_length(source.entries().len() as u64);
        Ok(Manifest::of(&source, None, &mut |_| bar.inc(1))?)
    }

    /// Every object is fetched once, for its hash and its header.
    fn of_objects(&self) -> anyhow::Result<Manifest> {
        let mut manifest = Manifest::new(&self.place)?;
        let objects = Objects::open(manifest.base())?;
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("object");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listed = runtime.block_on(objects.list(OBJECTS))?;
        let bar = bar("hashing");
        bar.set_length(listed.len() as u64);
        for (name, _) in listed.iter().filter(|(name, _)| !name.ends_with('/')) {
            runtime.block_on(objects.fetch(name, None, &path))?;
            manifest.add(name, &Entry::file(&path, name.as_str())?)?;
            bar.inc(1);
        }
        Ok(manifest)
    }
}
