//! Artifacts that were made elsewhere: received, checked by the engine, and published as the next version of a name.

use dyadic_engine::artifact::{Accuracy, Provenance};
use dyadic_proto::v1 as pb;
use dyadic_store::Store;
use dyadic_store::blob::{BlobStore, Digest};
use dyadic_store::registry::{NewArtifact, Promote, Pushed};
use serde_json::{Map, Value, json};

use crate::config::Limits;
use crate::error::ApiError;
use crate::infer::loaded;
use crate::infer::loader::MAX_ARTIFACT_BYTES;
use crate::services::convert::promote;
use crate::services::inspect::Inspector;
use crate::services::publish::publish;
use crate::upload::{FileSpec, FileSpecs, HeaderLimits, Intake, Spool, SpoolDir, UploadError, check_name};

/// Takes artifacts in.
#[derive(Clone)]
pub(crate) struct Pusher {
    pub(crate) store: Store,
    pub(crate) blobs: BlobStore,
    pub(crate) spools: SpoolDir,
    /// Checking takes memory several times the file's size: its places are shared with imports.
    pub(crate) inspector: Inspector,
    pub(crate) limits: Limits,
}

/// A header that passed.
struct Declared {
    name: String,
    /// The artifact alone.
    files: FileSpecs,
    file: FileSpec,
    offset: u64,
    promote: Promote,
}

impl Declared {
    fn check(header: pb::UploadArtifactHeader) -> Result<Self, ApiError> {
        check_name("served name", &header.name)?;
        let file = header.file.ok_or_else(|| ApiError::field("file", "it is missing"))?;
        let files =
            FileSpecs::check(vec![file], HeaderLimits { max_files: 1, max_bytes: MAX_ARTIFACT_BYTES })?;
        let [file] = files.as_slice() else { return Err(ApiError::field("file", "it is missing")) };
        let file = file.clone();
        let promote = promote(&header.promote)?;
        Ok(Self { name: header.name, files, file, offset: header.offset, promote })
    }
}

impl Pusher {
    /// Reads the whole stream and publishes what it holds.
    pub(super) async fn push(
        &self,
        owner: String,
        stream: tonic::Streaming<pb::UploadArtifactRequest>,
    ) -> Result<Pushed, ApiError> {
        let (mut intake, header) = Intake::begin(stream, self.limits.upload_idle()).await?;
        let declared = Declared::check(header)?;
        let mut spool = self.spools.resumable(&owner, &declared.file.sha256).await?;
        let summary = match self.take_in(&mut intake, &mut spool, &declared).await {
            // Bytes that are wrong are of no use to a later upload.
            Err(
                error @ (ApiError::Artifact(_)
                | ApiError::Field { .. }
                | ApiError::Upload(UploadError::HashMismatch { .. })),
            ) => {
                spool.remove().await?;
                return Err(error);
            }
            other => other?,
        };
        let (sha256, size_bytes) = (Digest::from(declared.file.sha256), declared.file.size_bytes);
        publish(&self.store, &self.blobs, spool.path(), sha256, size_bytes).await?;
        let artifact = NewArtifact {
            owner,
            served_name: declared.name,
            sha256,
            size_bytes,
            summary,
            promote: declared.promote,
        };
        let pushed = self.store.add_artifact(&artifact).await?;
        spool.remove().await?;
        Ok(pushed)
    }

    /// Where an upload of these bytes goes on.
    pub(super) async fn offset(&self, owner: &str, sha256: &[u8]) -> Result<u64, ApiError> {
        let sha256 = <[u8; 32]>::try_from(sha256)
            .map_err(|_| ApiError::field("sha256", format!("it has 32 bytes, not {}", sha256.len())))?;
        Ok(self.spools.received(owner, &sha256).await?.unwrap_or(0))
    }

    /// What the artifact says of itself, once all of it is here and the engine has proven it.
    async fn take_in(
        &self,
        intake: &mut Intake<pb::UploadArtifactRequest>,
        spool: &mut Spool,
        declared: &Declared,
    ) -> Result<Value, ApiError> {
        intake.resume_into(spool, declared.files.clone(), declared.offset).await?;
        let permit = self.inspector.place().await?;
        let (path, limits) = (spool.path().to_owned(), self.limits.clone());
        let checked = tokio::task::spawn_blocking(move || -> Result<Provenance, ApiError> {
            // Held to the end of the check, also when nobody waits for it any more.
            let _permit = permit;
            let bytes = std::fs::read(path).map_err(UploadError::Io)?;
            Ok(loaded::check(bytes, &limits)?)
        });
        summary(&checked.await.map_err(ApiError::internal)??)
    }
}

/// With the keys of a worker's summary.
fn summary(provenance: &Provenance) -> Result<Value, ApiError> {
    let Accuracy { float, quantized, images } = provenance.accuracy.unwrap_or_default();
    for (what, share) in [("float", float), ("quantized", quantized)] {
        if let Some(share) = share.filter(|share| !(0.0..=1.0).contains(share)) {
            let reason =
                format!("the artifact says of itself that its {what} accuracy is {share}, not 0 to 1");
            return Err(ApiError::field("file", reason));
        }
    }
    let mut summary = Map::new();
    let mut put = |key: &str, value: Value| {
        if !value.is_null() {
            summary.insert(key.to_owned(), value);
        }
    };
    put("accuracy", json!(quantized));
    put("float_accuracy", json!(float));
    put("images", json!(images));
    put("provenance", serde_json::to_value(provenance).map_err(ApiError::internal)?);
    Ok(Value::Object(summary))
}
