//! Plans: what would become of a model's layers, so that whatever a worker could not quantize is said before a job is
//! queued.
//!
//! A plan is made anew from the stored bundle each time: it takes an import's memory and time, and shares the imports'
//! places, off the async threads.

use dyadic_graph::network::Network;
use dyadic_plan::codebook::{Choice, Family, Objective};
use dyadic_plan::{Plan, Refusal, Rules, Settings, lower};
use dyadic_store::blob::BlobStore;
use dyadic_store::registry::Model;
use dyadic_store::spec::{self, JobSpec};

use super::inspect::Inspector;
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

    /// The plan of a job with these settings, or all that stands in its way.
    pub(crate) async fn plan(
        &self,
        model: &Model,
        settings: &JobSpec,
    ) -> Result<Result<Plan, Vec<Refusal>>, ApiError> {
        let rules = rules(settings)?;
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
            Ok(lower(&network, &rules))
        });
        planned.await.map_err(ApiError::internal)?
    }
}

/// Whether a network that is being pushed can be quantized by a job's default settings.
pub(crate) fn check(network: &Network) -> Result<(), ApiError> {
    lower(network, &rules(&JobSpec::default())?).map(|_| ()).map_err(ApiError::Plan)
}

/// The rules that a job's settings come to.
fn rules(settings: &JobSpec) -> Result<Rules, ApiError> {
    let family = match settings.method {
        spec::Method::Aptq => Family::Aptq,
        spec::Method::Apq => Family::Apq,
    };
    let objective = settings.objective.map(|objective| match objective {
        spec::Objective::L2 => Objective::L2,
        spec::Objective::Angle => Objective::Angle,
    });
    let weights = Choice::new(family, settings.codebook.as_deref(), settings.bits, objective);
    let weights = weights.map_err(|error| ApiError::field("bits", error.to_string()))?;
    let spec::ActivationBits { conv3x3, other } = settings.activation_bits;
    let shape = Settings { weights, strict: settings.strict, conv3x3_bits: conv3x3, other_bits: other };
    Rules::of(&shape).map_err(|error| ApiError::field("activation_bits", error.to_string()))
}
