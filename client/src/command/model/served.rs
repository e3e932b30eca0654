//! Served names, their versions, and what "latest" means.

use dyadic_proto::v1::{
    GetServedModelRequest, ListServedModelsRequest, PromoteRequest, RollbackRequest, ServedModel,
    ServedState, ServedVersion, UnpinRequest,
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
            cell(&|v| {
                let only_kept = m.latest == 0 && !v.held.is_empty();
                if only_kept { output.paint.warn("kept, not live") } else { state(v, output.paint) }
            }),
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

/// A change of what "latest" means.
#[derive(Debug, Clone, Copy)]
pub(super) enum Move {
    /// To this version.
    Promote(u64),
    /// To the one before.
    Rollback,
    /// To whatever is the newest.
    Unpin,
}

impl Move {
    pub(super) async fn run(
        self,
        connection: &Connection,
        output: Output,
        name: String,
        dry_run: bool,
    ) -> Result<()> {
        let mut client = connection.served();
        let before = client.get(GetServedModelRequest { name: name.clone() }).await?.into_inner();
        let after = match self {
            Move::Promote(version) => client.promote(PromoteRequest { name, version, dry_run }).await?,
            Move::Rollback => client.rollback(RollbackRequest { name, dry_run }).await?,
            Move::Unpin => client.unpin(UnpinRequest { name, dry_run }).await?,
        }
        .into_inner();
        if !dry_run {
            return show(&after, output);
        }
        output.value(&json::of(&after)?)?;
        output.line(would(&before, &after))
    }
}

/// What a change would do, in words.
fn would(before: &ServedModel, after: &ServedModel) -> String {
    let named = |version: u64| {
        if version == 0 {
            return "nothing".to_owned();
        }
        let accuracy = after.versions.iter().find(|v| v.version == version).and_then(|v| v.accuracy);
        let accuracy = accuracy.map(|a| format!(" ({})", units::percent(a))).unwrap_or_default();
        format!("version {version}{accuracy}")
    };
    let pinned = match (before.pinned, after.pinned) {
        (0, 0) => "; nothing is pinned",
        (_, 0) => ", and follow the newest live version from then on",
        (_, _) => ", and stay there until the next promote, rollback or unpin",
    };
    let name = safe(&after.name);
    if before.latest == after.latest {
        format!("latest of {name} would go on to mean {}{pinned}", named(after.latest))
    } else {
        format!(
            "latest of {name} would mean {} instead of {}{pinned}",
            named(after.latest),
            named(before.latest)
        )
    }
}

fn show(model: &ServedModel, output: Output) -> Result<()> {
    output.value(&json::of(model)?)?;
    let now = chrono::Utc::now();
    let mut table = Table::new([">version", "", "state", ">accuracy", ">size", "made", "job", "reason"]);
    for v in &model.versions {
        let mark = match (v.version == model.latest, v.version == model.pinned) {
            (true, true) => output.paint.good("● latest, pinned"),
            (true, false) => output.paint.good("● latest"),
            _ if !v.held.is_empty() => output.paint.warn("kept, not live"),
            _ => String::new(),
        };
        let reason = if v.reason.is_empty() { &v.held } else { &v.reason };
        table.row([
            v.version.to_string(),
            mark,
            state(v, output.paint),
            v.accuracy.map(units::percent).unwrap_or_default(),
            units::bytes(v.size_bytes),
            units::ago(v.created_at.as_ref(), now),
            output.paint.dim(&if v.job_id.is_empty() { "pushed".to_owned() } else { safe(&v.job_id) }),
            output.paint.warn(&safe(reason)),
        ]);
    }
    output.line(output.paint.strong(&safe(&model.name)))?;
    if table.is_empty() {
        return output.line("no versions");
    }
    output.table(&table)?;
    let newest = model.versions.first().map_or(0, |v| v.version);
    if model.pinned != 0 && model.pinned < newest {
        output.note(format!(
            "\"latest\" is pinned to version {}: `dyadic model unpin {}` lets it follow the newest",
            model.pinned,
            safe(&model.name)
        ));
    } else if model.latest == 0 && model.versions.iter().all(|v| !v.held.is_empty()) {
        output.note(format!(
            "nothing is live: `dyadic model promote {} {newest}` makes version {newest} live",
            safe(&model.name)
        ));
    }
    Ok(())
}

fn state(version: &ServedVersion, paint: Painter) -> String {
    match version.state() {
        ServedState::Ready => paint.good("ready"),
        ServedState::Loading => paint.busy("loading"),
        ServedState::Unavailable => paint.bad("unavailable"),
        ServedState::Unspecified => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dry_run_says_what_would_be_and_what_is() {
        let version = |version, accuracy| ServedVersion { version, accuracy, ..Default::default() };
        let model = |latest, pinned| ServedModel {
            name: "net".into(),
            versions: vec![version(2, Some(0.621)), version(1, None)],
            latest,
            pinned,
        };
        assert_eq!(
            would(&model(1, 0), &model(2, 2)),
            "latest of net would mean version 2 (62.10 %) instead of version 1, and stay there until the next promote, \
             rollback or unpin"
        );
        assert_eq!(
            would(&model(1, 1), &model(0, 0)),
            "latest of net would mean nothing instead of version 1, and follow the newest live version from then on"
        );
        assert_eq!(
            would(&model(1, 0), &model(1, 0)),
            "latest of net would go on to mean version 1; nothing is pinned"
        );
    }
}
