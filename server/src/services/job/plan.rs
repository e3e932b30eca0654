//! What a job would do, for those who ask before they submit.

use dyadic_plan::{Plan, Refusal};
use dyadic_proto::v1 as pb;
use dyadic_store::Store;

use super::{convert, refusals};
use crate::auth::Identity;
use crate::error::ApiError;
use crate::services::convert::scope;
use crate::services::planning::Planner;
use crate::services::spec;

/// The plan of a spec, or all that stands in its way.
pub(crate) async fn of(
    store: &Store,
    planner: &Planner,
    caller: &Identity,
    spec: &pb::JobSpec,
) -> Result<pb::PlanJobResponse, ApiError> {
    if spec.model.is_empty() {
        return Err(ApiError::field("model", "it is missing"));
    }
    let mut settled = spec::settle(spec)?;
    let model = store.model(scope(caller), &spec.model).await?;
    let planned = planner.plan(&model, &settled).await?;
    if !settled.mistakes.is_empty() {
        settled.mistakes.extend(refusals::of_layers(&planned.err().unwrap_or_default()));
        return Err(ApiError::Refused(settled.mistakes));
    }
    let resolved = pb::JobSpec {
        model: model.id.to_string(),
        dataset: spec.dataset.clone(),
        ..spec::to_proto(&settled.settings)
    };
    Ok(pb::PlanJobResponse { resolved: Some(resolved), ..answer(planned) })
}

fn answer(planned: Result<Plan, Vec<Refusal>>) -> pb::PlanJobResponse {
    match planned {
        Ok(plan) => pb::PlanJobResponse {
            toml: plan.to_toml(),
            units: plan.rows().into_iter().map(convert::unit).collect(),
            total: Some(convert::total(plan.total())),
            ..pb::PlanJobResponse::default()
        },
        Err(refusals) => {
            let refusal = |Refusal { layer, reason, rule: _ }| pb::LayerRefusal { layer, reason };
            let refusals = refusals.into_iter().map(refusal).collect();
            pb::PlanJobResponse { refusals, ..pb::PlanJobResponse::default() }
        }
    }
}
