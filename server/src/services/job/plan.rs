//! What a job would do, for those who ask before they submit.

use dyadic_plan::{Plan, Refusal, Row, Total};
use dyadic_proto::v1 as pb;
use dyadic_store::Store;

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
    let settings = spec::settings(spec)?;
    let model = store.model(scope(caller), &spec.model).await?;
    let planned = planner.plan(&model, &settings).await?;
    let resolved = pb::JobSpec {
        model: model.id.to_string(),
        dataset: spec.dataset.clone(),
        ..spec::to_proto(&settings)
    };
    Ok(pb::PlanJobResponse { resolved: Some(resolved), ..answer(planned) })
}

fn answer(planned: Result<Plan, Vec<Refusal>>) -> pb::PlanJobResponse {
    match planned {
        Ok(plan) => pb::PlanJobResponse {
            toml: plan.to_toml(),
            units: plan.rows().into_iter().map(unit).collect(),
            total: Some(total(plan.total())),
            ..pb::PlanJobResponse::default()
        },
        Err(refusals) => {
            let refusal = |Refusal { layer, reason }| pb::LayerRefusal { layer, reason };
            let refusals = refusals.into_iter().map(refusal).collect();
            pb::PlanJobResponse { refusals, ..pb::PlanJobResponse::default() }
        }
    }
}

fn unit(row: Row) -> pb::PlannedUnit {
    pb::PlannedUnit {
        name: row.name,
        operation: row.operation.to_owned(),
        weights: row.weights.unwrap_or_default(),
        bits: row.bits.map(u32::from),
        count: row.count,
        reads: row.reads,
        writes: row.writes,
        shape: row.shape.iter().map(|&extent| i64::try_from(extent).unwrap_or(i64::MAX)).collect(),
        bytes: row.bytes,
        macs: row.macs,
        shift_adds: row.shift_adds,
        share: row.share,
    }
}

fn total(Total { weights, bytes, macs, shift_adds }: Total) -> pb::PlanTotal {
    pb::PlanTotal { weights, bytes, macs, shift_adds }
}
