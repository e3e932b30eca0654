//! `dyadic model …`: float models, and the quantized versions that are served.

mod artifact;
mod bundle;
mod remove;
mod served;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use dyadic_proto::v1::download_artifact_request::Artifact as Wanted;
use dyadic_proto::v1::download_response::Part as Piece;
use dyadic_proto::v1::upload_model_request::Part;
use dyadic_proto::v1::{
    self, DeleteModelRequest, DownloadArtifactRequest, DownloadModelRequest, DownloadResponse,
    GetModelRequest, ListModelsRequest, ServedVersionName, Tag, UploadModelHeader, UploadModelRequest,
};
use tonic::Streaming;

use super::page::Page;
use super::{tag, upload};
use crate::connect::Connection;
use crate::error::{CliError, Result};
use crate::output::progress::{Progress, Unit};
use crate::output::style::safe;
use crate::output::table::{Table, pairs};
use crate::output::{Output, json, units};

const PUSH_HELP: &str = "\
Side files that the ONNX file names (PyTorch writes m.onnx and m.onnx.data) come along by themselves.
Examples:
  dyadic model push resnet20.onnx
  dyadic model push export/m.onnx --name resnet20 --tag source=torchvision";

#[derive(Debug, Subcommand)]
pub(crate) enum Model {
    /// Push an ONNX file; the server checks it and refuses what it cannot quantize
    #[command(after_help = PUSH_HELP)]
    Push(Push),
    /// Push an artifact that was made elsewhere; it becomes the next version of a served name
    #[command(after_help = artifact::HELP)]
    PushArtifact(artifact::PushArtifact),
    /// Show float models, newest first
    List {
        #[command(flatten)]
        page: Page,
        /// Only revisions of this name
        #[arg(long)]
        name: Option<String>,
    },
    /// Show one float model with its layers
    Show {
        /// Id, or name (its newest revision)
        model: String,
    },
    /// Delete a float model; what was made from it stays
    Rm {
        /// Id, or name (its newest revision)
        model: String,
    },
    /// Fetch a served artifact, or with --onnx a float model
    Pull(Pull),
    /// Show the names that are served
    Served {
        #[command(flatten)]
        page: Page,
    },
    /// Show the versions of a served name, newest first
    Versions {
        /// Served name
        name: String,
    },
    /// Make "latest" mean this version until the next promote, rollback or unpin
    Promote {
        /// Served name
        name: String,
        /// Which version
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        version: u64,
        /// Only tell what would happen
        #[arg(long)]
        dry_run: bool,
    },
    /// Make "latest" mean the live version before the one it means now
    Rollback {
        /// Served name
        name: String,
        /// Only tell what would happen
        #[arg(long)]
        dry_run: bool,
    },
    /// Give up served versions, or a whole served name
    #[command(after_help = remove::HELP)]
    Remove(remove::Remove),
    /// Let "latest" follow the newest live version again
    Unpin {
        /// Served name
        name: String,
        /// Only tell what would happen
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Push {
    /// The ONNX file
    file: PathBuf,
    /// What jobs call it [default: the file's name without .onnx]
    #[arg(long)]
    name: Option<String>,
    /// KEY=VALUE, any number of times
    #[arg(long, value_parser = tag::parse, value_name = "KEY=VALUE")]
    tag: Vec<Tag>,
}

#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// Served name; with --onnx a float model's name or id
    #[arg(required_unless_present = "job")]
    name: Option<String>,
    /// Version of the served name [default: what "latest" means]
    #[arg(long, default_value_t = 0, hide_default_value = true, conflicts_with_all = ["job", "onnx"])]
    version: u64,
    /// The artifact of this job instead
    #[arg(long, conflicts_with_all = ["name", "onnx"])]
    job: Option<String>,
    /// The float model as it was pushed, side files and all
    #[arg(long)]
    onnx: bool,
    /// Folder to put it in
    #[arg(long, short, default_value = ".", value_name = "DIR")]
    out: PathBuf,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

impl Model {
    pub(crate) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        match self {
            Model::Push(push) => push.run(connection, output).await,
            Model::PushArtifact(push) => push.run(connection, output).await,
            Model::List { page, name } => list(connection, output, &page, name).await,
            Model::Show { model } => {
                let model = connection.models().get(GetModelRequest { model }).await?.into_inner();
                output.value(&json::of(&model)?)?;
                show(output, &model)
            }
            Model::Rm { model } => {
                connection.models().delete(DeleteModelRequest { model: model.clone() }).await?;
                output.value(&serde_json::json!({ "deleted": model }))?;
                output.line(format!("deleted {model}"))
            }
            Model::Pull(pull) => pull.run(connection, output).await,
            Model::Served { page } => served::list(connection, output, &page).await,
            Model::Versions { name } => served::versions(connection, output, name).await,
            Model::Remove(remove) => remove.run(connection, output).await,
            Model::Promote { name, version, dry_run } => {
                served::Move::Promote(version).run(connection, output, name, dry_run).await
            }
            Model::Rollback { name, dry_run } => {
                served::Move::Rollback.run(connection, output, name, dry_run).await
            }
            Model::Unpin { name, dry_run } => {
                served::Move::Unpin.run(connection, output, name, dry_run).await
            }
        }
    }
}

impl Push {
    async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let name = match (&self.name, self.file.file_stem().and_then(|s| s.to_str())) {
            (Some(name), _) => name.clone(),
            (None, Some(stem)) => stem.to_owned(),
            (None, None) => {
                return Err(CliError::file(&self.file, "has no name to go by").hint("give one with --name"));
            }
        };
        let mut headers = Vec::new();
        let mut sources = Vec::new();
        for (path, name) in bundle::files(&self.file)? {
            let quiet = Progress::new(output, format!("hashing {name}"), Unit::Bytes, 0);
            let (header, source) = upload::open(&path, &name, quiet)?;
            headers.push(header);
            sources.push(source);
        }
        let side: Vec<&str> = headers.iter().skip(1).map(|h| h.name.as_str()).collect();
        if !side.is_empty() {
            output.note(format!("with side file {}", side.join(", ")));
        }
        let total = headers.iter().map(|h| h.size_bytes).sum();
        let progress = Progress::new(output, format!("pushing {name}"), Unit::Bytes, total);
        let header =
            UploadModelHeader { name: name.clone(), files: headers, tags: self.tag, list_refusals: true };
        let wrap = |part| UploadModelRequest { part: Some(part) };
        let (stream, task) =
            upload::stream(wrap(Part::Header(header)), sources, move |c| wrap(Part::Chunk(c)), progress);
        let mut client = connection.models();
        let reply = upload::settle(client.upload(stream).await, task).await?.into_inner();
        if !reply.refusals.is_empty() {
            return Err(CliError::refused(&name, reply.refusals));
        }
        output.value(&json::of(&reply)?)?;
        let model = reply.model.ok_or_else(|| CliError::protocol("an upload without a model"))?;
        let verb = if reply.existed { "was there already as" } else { "pushed" };
        output.line(format!(
            "{verb} {} {}",
            output.paint.strong(&safe(&model.name)),
            output.paint.dim(&safe(&model.id))
        ))?;
        output.line(format!(
            "  {} → {}, {} MAC, {} parameters, {} layers, {}",
            tensor(model.input.as_ref()),
            tensor(model.output.as_ref()),
            units::count(model.macs),
            units::count(model.parameters),
            model.layers.len(),
            units::bytes(model.size_bytes)
        ))
    }
}

/// `input FP32 3×32×32`.
fn tensor(info: Option<&v1::TensorInfo>) -> String {
    info.map_or_else(
        || "?".into(),
        |i| format!("{} {} {}", safe(&i.name), safe(&i.datatype), units::shape(&i.shape)),
    )
}

async fn list(connection: &Connection, output: Output, page: &Page, name: Option<String>) -> Result<()> {
    let name = name.unwrap_or_default();
    let (models, more) = page
        .collect(|page_size, page_token| {
            let mut client = connection.models();
            let request = ListModelsRequest { page_size, page_token, name: name.clone() };
            async move {
                let reply = client.list(request).await?.into_inner();
                Ok((reply.models, reply.next_page_token))
            }
        })
        .await?;
    output.value(&json::list(&models)?)?;
    if models.is_empty() {
        output.note("no models yet: `dyadic model push FILE.onnx`");
        return Ok(());
    }
    let now = chrono::Utc::now();
    let mut table = Table::new(["name", "id", "input", ">MAC", ">parameters", ">size", "pushed", "tags"]);
    for m in &models {
        let input = m.input.as_ref().map(|i| units::shape(&i.shape)).unwrap_or_default();
        table.row([
            output.paint.strong(&safe(&m.name)),
            safe(&m.id),
            input,
            units::count(m.macs),
            units::count(m.parameters),
            units::bytes(m.size_bytes),
            units::ago(m.created_at.as_ref(), now),
            output.paint.dim(&tag::show(&m.tags)),
        ]);
    }
    output.table(&table)?;
    if more {
        output.note("there are more: --limit N or --all");
    }
    Ok(())
}

fn show(output: Output, model: &v1::Model) -> Result<()> {
    let files = model.files.iter().map(|f| format!("{} ({})", safe(&f.name), units::bytes(f.size_bytes)));
    output.table(&pairs(
        output.paint,
        [
            ("model", output.paint.strong(&safe(&model.name))),
            ("id", safe(&model.id)),
            ("owner", safe(&model.owner)),
            ("pushed", units::local_time(model.created_at.as_ref())),
            ("files", files.collect::<Vec<_>>().join(", ")),
            ("input", tensor(model.input.as_ref())),
            ("output", tensor(model.output.as_ref())),
            ("MAC", units::count(model.macs)),
            ("parameters", units::count(model.parameters)),
            ("tags", tag::show(&model.tags)),
        ],
    ))?;
    if model.layers.is_empty() {
        return Ok(());
    }
    output.line("")?;
    let mut table = Table::new(["layer", "op", "output", ">MAC", ">parameters"]);
    for l in &model.layers {
        let none_if_zero = |n: u64| if n == 0 { String::new() } else { units::count(n) };
        table.row([
            safe(&l.name),
            safe(&l.op),
            units::shape(&l.shape),
            none_if_zero(l.macs),
            none_if_zero(l.parameters),
        ]);
    }
    output.table(&table)
}

impl Pull {
    async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let name = self.name.clone().unwrap_or_default();
        let stream = match (&self.job, self.onnx) {
            (None, true) => {
                connection.models().download(DownloadModelRequest { model: name }).await?.into_inner()
            }
            (Some(job), _) => self.artifact(connection, Wanted::JobId(job.clone())).await?,
            (None, false) => {
                let wanted = Wanted::Served(ServedVersionName { name, version: self.version });
                self.artifact(connection, wanted).await?
            }
        };
        let written = self.receive(stream, output).await?;
        let names: Vec<String> = written.iter().map(|p| p.display().to_string()).collect();
        output.value(&serde_json::json!({ "files": names }))?;
        names.iter().try_for_each(|name| output.line(name))
    }

    async fn artifact(&self, connection: &Connection, wanted: Wanted) -> Result<Streaming<DownloadResponse>> {
        let request = DownloadArtifactRequest { artifact: Some(wanted) };
        Ok(connection.served().download(request).await?.into_inner())
    }

    async fn receive(&self, mut stream: Streaming<DownloadResponse>, output: Output) -> Result<Vec<PathBuf>> {
        let mut receiver = None;
        while let Some(message) = stream.message().await? {
            match (message.part, &mut receiver) {
                (Some(Piece::Header(header)), None) => {
                    let total = header.files.iter().map(|f| f.size_bytes).sum();
                    let progress = Progress::new(output, "pulling", Unit::Bytes, total);
                    receiver = Some(upload::Receiver::new(header.files, &self.out, self.force, progress)?);
                }
                (Some(Piece::Chunk(chunk)), Some(receiver)) => receiver.chunk(&chunk)?,
                _ => return Err(CliError::protocol("a download begins with one header, chunks follow")),
            }
        }
        receiver.ok_or_else(|| CliError::protocol("an empty download"))?.finish()
    }
}
