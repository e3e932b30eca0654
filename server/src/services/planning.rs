//! Plans: what would become of a model's layers, so that whatever a worker could not quantize is said before a job is
//! queued.
//!
//! A plan is made anew from the stored bundle each time: it takes an import's memory and time, and shares the imports'
//! places, off the async threads.

use dyadic_graph::network::Network;
use dyadic_plan::{Plan, Refusal, lower, without_effect};
use dyadic_store::blob::BlobStore;
use dyadic_store::registry::Model;
use dyadic_store::spec::JobSpec;

use super::inspect::Inspector;
use super::spec::{self, Settled};
use crate::error::ApiError;

/// Plans stored models.
#[derive(Clone)]
pub(crate) struct Planner {
    blobs: BlobStore,
    places: Inspector,
}

impl Planner {
    pub(crate) fn new(blobs: BlobStore, places: Inspector) -> Self {
        Self { blobs, places }
    }

    /// The plan of a job with these settings, or all that stands in its way beside the mistakes that they have.
    pub(crate) async fn plan(
        &self,
        model: &Model,
        settled: &Settled,
    ) -> Result<Result<Plan, Vec<Refusal>>, ApiError> {
        let (rules, sound) = (settled.rules.clone(), settled.mistakes.is_empty());
        let permit = self.places.place().await?;
        let (mut main, mut side) = (None, Vec::new());
        for file in &model.files {
            let bytes = self.blobs.get(&file.sha256, file.size_bytes).await?;
            if file.name == model.main_file {
                main = Some(bytes);
            } else {
                side.push((file.name.clone(), bytes));
            }
        }
        let main = main.ok_or_else(|| ApiError::internal("a stored model without its main file"))?;
        let planned = tokio::task::spawn_blocking(move || -> Result<_, ApiError> {
            // Held to the end, also when nobody waits for it any more.
            let _permit = permit;
            let files = side.iter().map(|(name, bytes)| (name.clone(), bytes.as_ref()));
            let network = dyadic_graph::import_bytes(&main, files)?;
            // By rules of which a part is missing, layers could be refused that are not to blame.
            Ok(if sound { lower(&network, &rules) } else { Err(without_effect(&network, &rules)) })
        });
        planned.await.map_err(ApiError::internal)?
    }
}

/// Whether a network that is being pushed can be quantized by a job's default settings.
pub(crate) fn check(network: &Network) -> Result<(), ApiError> {
    lower(network, &spec::rules(&JobSpec::default())?).map(|_| ()).map_err(ApiError::Plan)
}
