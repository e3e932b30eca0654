//! Keeps the registry in step with the database: every new version loads by itself.
//!
//! A version that cannot be read stays unavailable, with its reason; one whose bytes fail their hash is set aside for all
//! servers; where only the blob store is away, the next round tries again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use dyadic_store::blob::{BlobError, BlobStore};
use dyadic_store::registry::{ServedModel, ServedVersion};
use dyadic_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use super::loaded::Loaded;
use super::registry::{Registry, State};
use crate::config::Limits;
use crate::notices::{Notice, Subscription};

/// Largest artifact file.
pub(crate) const MAX_ARTIFACT_BYTES: u64 = 1 << 30;

/// Names that are read at once.
const PAGE: u32 = 200;

const POLL: Duration = Duration::from_secs(5);

/// Loads versions.
pub(crate) struct Loader {
    pub(crate) store: Store,
    pub(crate) blobs: BlobStore,
    pub(crate) registry: Arc<Registry>,
    pub(crate) limits: Limits,
}

impl Loader {
    /// Goes on until the drain.
    pub(crate) async fn run(self, mut notices: Subscription, drain: CancellationToken) {
        loop {
            let round = async {
                if let Err(error) = self.sync().await {
                    tracing::warn!(%error, "served models cannot be listed");
                }
                notices.about(Notice::Served, POLL).await;
            };
            tokio::select! {
                () = drain.cancelled() => return,
                () = round => {}
            }
        }
    }

    /// One round: what is new loads, what is gone goes.
    pub(crate) async fn sync(&self) -> Result<(), StoreError> {
        let mut after: Option<String> = None;
        let mut seen = HashSet::new();
        loop {
            let models = self.store.served_models(None, after.as_deref(), PAGE).await?;
            let last = (models.len() as u32) < PAGE;
            after = models.last().map(|model| model.name.clone());
            for model in models {
                seen.extend(model.versions.iter().map(|version| (model.name.clone(), version.version)));
                self.sync_model(model).await;
            }
            if last {
                break;
            }
        }
        self.registry.retain(|name, version| seen.contains(&(name.to_owned(), version)));
        Ok(())
    }

    async fn sync_model(&self, model: ServedModel) {
        let pinned = model.pinned.map(i64::unsigned_abs);
        // Before anything of it is ready: what is held must not answer for the name.
        let held = model.versions.iter().filter(|version| version.held.is_some());
        self.registry.hold(&model.name, held.map(|version| version.version).collect());
        // What "latest" means now, and what it means once nothing is pinned, are kept in memory however many are newer.
        let live = model.live().next().map(|version| version.version);
        let mut room = self.limits.loaded_versions.max(1);
        let mut to_load = Vec::new();
        for version in model.versions {
            let number = version.version;
            if let Some(reason) = version.set_aside {
                self.registry.set(&model.name, number, State::Unavailable(reason));
                continue;
            }
            let state = self.registry.state(&model.name, number);
            if matches!(state, Some(State::Unavailable(_))) {
                continue;
            }
            let wanted = room > 0 || pinned == Some(number) || live == Some(number);
            room = room.saturating_sub(1);
            match (wanted, state) {
                (false, _) => self.registry.set(&model.name, number, State::Retired),
                (true, Some(State::Ready(_))) => {}
                (true, _) => {
                    self.registry.set(&model.name, number, State::Loading);
                    to_load.push(version);
                }
            }
        }
        // While the version that "latest" moves to is still loading, the one that answered so far goes on.
        let loading = to_load.iter().any(|version| pinned == Some(version.version));
        if !loading || self.registry.latest(&model.name).is_none() {
            self.registry.pin(&model.name, pinned);
        }
        let latest = pinned.or(live);
        to_load.sort_by_key(|version| latest != Some(version.version));
        for version in to_load {
            self.load(&model.name, version).await;
        }
        self.registry.pin(&model.name, pinned);
    }

    async fn load(&self, name: &str, version: ServedVersion) {
        let number = version.version;
        let bytes = match self.blobs.get(&version.sha256, MAX_ARTIFACT_BYTES).await {
            Ok(bytes) => bytes,
            Err(error @ BlobError::Damaged { .. }) => {
                let reason = error.to_string();
                tracing::error!(name, version = number, reason, "set aside");
                if let Err(error) = self.store.set_aside(version.artifact, &reason).await {
                    tracing::warn!(%error, "cannot set a damaged artifact aside");
                }
                return self.registry.set(name, number, State::Unavailable(reason));
            }
            Err(error @ (BlobError::NotFound(_) | BlobError::TooLarge { .. })) => {
                tracing::error!(name, version = number, %error, "cannot be served");
                return self.registry.set(name, number, State::Unavailable(error.to_string()));
            }
            Err(error) => {
                // It stays Loading, and the next round tries again.
                tracing::warn!(name, version = number, %error, "cannot be read now");
                return;
            }
        };
        let (owned_name, sha256, limits) = (name.to_owned(), *version.sha256.as_bytes(), self.limits.clone());
        let loaded =
            tokio::task::spawn_blocking(move || Loaded::load(&owned_name, number, sha256, &bytes, &limits))
                .await;
        let state = match loaded {
            Ok(Ok(loaded)) => {
                tracing::info!(name, version = number, "ready");
                State::Ready(Arc::new(loaded))
            }
            Ok(Err(error)) => State::Unavailable(error.to_string()),
            Err(_) => State::Unavailable("loading it failed".to_owned()),
        };
        if let State::Unavailable(reason) = &state {
            tracing::error!(name, version = number, reason, "cannot be served");
        }
        self.registry.set(name, number, state);
    }
}
