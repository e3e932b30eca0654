//! Pushing artifacts that were made elsewhere.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use dyadic_proto::v1::upload_artifact_request::Part;
use dyadic_proto::v1::{
    Artifact, FileHeader, UploadArtifactHeader, UploadArtifactRequest, UploadArtifactResponse,
    UploadOffsetRequest,
};

use crate::command::job::gate;
use crate::command::upload;
use crate::connect::Connection;
use crate::error::{CliError, Kind, Result};
use crate::output::progress::{Progress, Unit};
use crate::output::style::safe;
use crate::output::{Output, json, units};

pub(super) const HELP: &str = "\
The file is what `dyadic-worker quantize --out` writes, or `dyadic model pull` fetched. The server checks all of it and replays its
certificate before it keeps it. The accuracies that decide whether it goes live are those that the file says of itself. The same file
under the same name is pushed once; a push that broke goes on where it was when it is given again.
Examples:
  dyadic model push-artifact resnet20.safetensors
  dyadic model push-artifact out/net.safetensors --name resnet20 --promote never";

/// How often a connection that breaks is tried again.
const ATTEMPTS: u32 = 4;

#[derive(Debug, Args)]
pub(crate) struct PushArtifact {
    /// The artifact file
    file: PathBuf,
    /// Name to serve it under [default: the file's name without .safetensors]
    #[arg(long)]
    name: Option<String>,
    /// Whether it goes live by itself: always, never, or within:POINTS of its float network's accuracy; it is kept either way
    /// [default: within:5]
    #[arg(long, value_parser = gate::parse, value_name = "always|never|within:POINTS")]
    promote: Option<String>,
}

impl PushArtifact {
    pub(super) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let name = match (&self.name, self.file.file_stem().and_then(|stem| stem.to_str())) {
            (Some(name), _) => name.clone(),
            (None, Some(stem)) => stem.to_owned(),
            (None, None) => {
                return Err(CliError::file(&self.file, "has no name to go by").hint("give one with --name"));
            }
        };
        let promote = self.promote.clone().unwrap_or_default();
        let reply = self.upload(connection, output, &name, &promote).await?;
        output.value(&json::of(&reply)?)?;
        tell(output, &reply)
    }

    /// Uploads, going on from what the server has; a connection that breaks is tried again a few times.
    async fn upload(
        &self,
        connection: &Connection,
        output: Output,
        name: &str,
        promote: &str,
    ) -> Result<UploadArtifactResponse> {
        let mut attempt = 1;
        loop {
            let quiet = Progress::new(output, format!("hashing {name}"), Unit::Bytes, 0);
            let (file, source) = upload::open(&self.file, "artifact.safetensors", quiet)?;
            let request = UploadOffsetRequest { sha256: file.sha256.clone() };
            let there = connection.served().upload_offset(request).await?.into_inner();
            let offset = there.offset.min(file.size_bytes);
            if offset > 0 {
                output.note(format!("the server has {} of it; going on from there", units::bytes(offset)));
            }
            let header = header(name, file, offset, promote);
            match send(connection, output, header, source).await {
                Err(error) if error.kind == Kind::Unavailable && attempt < ATTEMPTS => {
                    output.note(output.paint_notes.warn(&format!("{error}; trying again")));
                    tokio::time::sleep(Duration::from_secs(1 << attempt)).await;
                    attempt += 1;
                }
                Err(error) if error.kind == Kind::Unavailable => {
                    return Err(error.hint("give the same command again: it goes on where it was"));
                }
                other => return other,
            }
        }
    }
}

fn header(name: &str, file: FileHeader, offset: u64, promote: &str) -> UploadArtifactHeader {
    UploadArtifactHeader { name: name.to_owned(), file: Some(file), offset, promote: promote.to_owned() }
}

async fn send(
    connection: &Connection,
    output: Output,
    header: UploadArtifactHeader,
    source: upload::Source,
) -> Result<UploadArtifactResponse> {
    let (offset, size) = (header.offset, source.size_bytes);
    let source = source.starting_at(offset)?;
    let progress =
        Progress::new(output, format!("pushing {}", header.name), Unit::Bytes, size).starting_at(offset);
    let wrap = |part| UploadArtifactRequest { part: Some(part) };
    let (stream, task) =
        upload::stream(wrap(Part::Header(header)), vec![source], move |c| wrap(Part::Chunk(c)), progress);
    let mut client = connection.served();
    Ok(upload::settle(client.upload(stream).await, task).await?.into_inner())
}

fn tell(output: Output, reply: &UploadArtifactResponse) -> Result<()> {
    let model = reply.model.as_ref().ok_or_else(|| CliError::protocol("an upload without a served name"))?;
    let made = model.versions.iter().find(|v| v.version == reply.version);
    let made = made.ok_or_else(|| CliError::protocol("an upload without its version"))?;
    let name = safe(&model.name);
    let verb = if reply.existed { "was there already as" } else { "pushed as" };
    let accuracy = made.accuracy.map(|a| format!(", {}", units::percent(a))).unwrap_or_default();
    output.line(format!(
        "{verb} {} version {}, {}{accuracy}",
        output.paint.strong(&name),
        reply.version,
        units::bytes(made.size_bytes)
    ))?;
    let seen = Artifact {
        served_name: model.name.clone(),
        version: reply.version,
        held: made.held.clone(),
        pinned: model.pinned,
        ..Artifact::default()
    };
    gate::obstacle(&seen).map_or(Ok(()), |why| output.line(format!("  {}", output.paint.warn(&why))))
}
