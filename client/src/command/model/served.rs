//! Served names, their versions, and what "latest" means.

use dyadic_proto::v1::{
    GetServedModelRequest, ListServedModelsRequest, PromoteRequest, RollbackRequest, ServedModel,
    ServedState, ServedVersion,
};

use crate::command::page::Page;
use crate::connect::Connection;
use crate::error::Result;
use crate::output::style::{Painter, safe};
use crate::output::table::Table;
use crate::output::{Output, json, units};

pub(super) async fn list(connection: &Connection, output: Output, page: &Page) -> Result<()> {
    let (models, more) = page
        .collect(|page_size, page_token| {
            let mut client = connection.served();
            async move {
                let reply =
                    client.list(ListServedModelsRequest { page_size, page_token }).await?.into_inner();
                Ok((reply.models, reply.next_page_token))
            }
        })
        .await?;
    output.value(&json::list(&models)?)?;
    if models.is_empty() {
        output.note("nothing is served yet: `dyadic job submit` makes the first version");
        return Ok(());
    }
    let now = chrono::Utc::now();
    let mut table = Table::new(["name", ">latest", ">versions", ">accuracy", ">size", "state", "made"]);
    for m in &models {
        let latest = m.versions.iter().find(|v| v.version == m.latest).or(m.versions.first());
        let cell = |f: &dyn Fn(&ServedVersion) -> String| latest.map(f).unwrap_or_default();
        table.row([
            output.paint.strong(&safe(&m.name)),
            if m.latest == 0 { "–".into() } else { m.latest.to_string() },
            m.versions.len().to_string(),
            cell(&|v| v.accuracy.map(units::percent).unwrap_or_default()),
            cell(&|v| units::bytes(v.size_bytes)),
            cell(&|v| state(v, output.paint)),
            cell(&|v| units::ago(v.created_at.as_ref(), now)),
        ]);
    }
    output.table(&table)?;
    if more {
        output.note("there are more: --limit N or --all");
    }
    Ok(())
}

pub(super) async fn versions(connection: &Connection, output: Output, name: String) -> Result<()> {
    let model = connection.served().get(GetServedModelRequest { name }).await?.into_inner();
    show(&model, output)
}

pub(super) async fn promote(
    connection: &Connection,
    output: Output,
    name: String,
    version: u64,
) -> Result<()> {
    let model = connection.served().promote(PromoteRequest { name, version }).await?.into_inner();
    show(&model, output)
}

pub(super) async fn rollback(connection: &Connection, output: Output, name: String) -> Result<()> {
    let model = connection.served().rollback(RollbackRequest { name }).await?.into_inner();
    show(&model, output)
}

fn show(model: &ServedModel, output: Output) -> Result<()> {
    output.value(&json::of(model)?)?;
    let now = chrono::Utc::now();
    let mut table = Table::new([">version", "", "state", ">accuracy", ">size", "made", "job", "reason"]);
    for v in &model.versions {
        let mark = match (v.version == model.latest, v.version == model.pinned) {
            (true, true) => output.paint.good("● latest, pinned"),
            (true, false) => output.paint.good("● latest"),
            _ => String::new(),
        };
        table.row([
            v.version.to_string(),
            mark,
            state(v, output.paint),
            v.accuracy.map(units::percent).unwrap_or_default(),
            units::bytes(v.size_bytes),
            units::ago(v.created_at.as_ref(), now),
            output.paint.dim(&safe(&v.job_id)),
            output.paint.warn(&safe(&v.reason)),
        ]);
    }
    output.line(output.paint.strong(&safe(&model.name)))?;
    if table.is_empty() { output.line("no versions") } else { output.table(&table) }
}

fn state(version: &ServedVersion, paint: Painter) -> String {
    match version.state() {
        ServedState::Ready => paint.good("ready"),
        ServedState::Loading => paint.busy("loading"),
        ServedState::Unavailable => paint.bad("unavailable"),
        ServedState::Unspecified => String::new(),
    }
}
