//! Giving up served versions and names.

use clap::Args;
use dyadic_proto::v1::{GetServedModelRequest, RemoveServedRequest};

use crate::connect::Connection;
use crate::error::{CliError, Result};
use crate::output::style::safe;
use crate::output::{Output, json};

pub(super) const HELP: &str = "\
What the runs say of a version stays; its bytes go, and its number is not used again.
Examples:
  dyadic model remove resnet20:3
  dyadic model remove resnet20:1 resnet20:2 --dry-run
  dyadic model remove resnet20 --yes                     the name with all its versions";

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// NAME:VERSION, or NAME with all its versions
    #[arg(required = true, value_name = "NAME[:VERSION]", value_parser = parse)]
    what: Vec<What>,
    /// Confirm that a whole name, or its only version, goes
    #[arg(long)]
    yes: bool,
    /// Remove also the version that "latest" means
    #[arg(long)]
    force: bool,
    /// Only tell what would happen
    #[arg(long)]
    dry_run: bool,
}

/// A served name and a version of it, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
struct What {
    name: String,
    version: Option<u64>,
}

fn parse(text: &str) -> std::result::Result<What, String> {
    let Some((name, version)) = text.split_once(':') else {
        return Ok(What { name: text.to_owned(), version: None });
    };
    match version.parse() {
        Ok(version) if version > 0 => Ok(What { name: name.to_owned(), version: Some(version) }),
        _ => Err(format!("{version:?} is no version; they are numbers from 1 on")),
    }
}

/// One request a name, in the order in which they were given.
fn by_name(what: Vec<What>) -> std::result::Result<Vec<(String, Vec<u64>)>, String> {
    let mut names: Vec<(String, Vec<u64>)> = Vec::new();
    for What { name, version } in what {
        let known = names.iter_mut().find(|(known, _)| *known == name);
        match (known, version) {
            (None, version) => names.push((name, version.into_iter().collect())),
            (Some((_, versions)), Some(version)) if !versions.is_empty() => versions.push(version),
            (Some(_), _) => return Err(format!("{name} stands for all its versions: name it once")),
        }
    }
    Ok(names)
}

impl Remove {
    pub(super) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let names = by_name(self.what.clone()).map_err(CliError::usage)?;
        let mut requests = Vec::new();
        for (name, versions) in names {
            requests.push(self.request(connection, name, versions).await?);
        }
        let mut replies = Vec::new();
        let verb = if self.dry_run { "would remove" } else { "removed" };
        for request in requests {
            let name = request.name.clone();
            let reply = connection.served().remove(request).await?.into_inner();
            let removed: Vec<String> = reply.removed.iter().map(u64::to_string).collect();
            output.line(format!(
                "{verb} {} version {}",
                output.paint.strong(&safe(&name)),
                removed.join(", ")
            ))?;
            if reply.model.is_none() {
                output.line("  nothing of it is left to serve")?;
            }
            replies.push(json::of(&reply)?);
        }
        output.value(&serde_json::Value::Array(replies))
    }

    /// What to send; an error for a whole name without --yes.
    async fn request(
        &self,
        connection: &Connection,
        name: String,
        versions: Vec<u64>,
    ) -> Result<RemoveServedRequest> {
        let model = connection.served().get(GetServedModelRequest { name: name.clone() }).await?.into_inner();
        let all = versions.is_empty() || model.versions.iter().all(|v| versions.contains(&v.version));
        if all && !self.yes && !self.dry_run {
            let count = model.versions.len();
            let plural = if count == 1 { "" } else { "s" };
            return Err(CliError::usage(format!("that is all of {name}: {count} version{plural}"))
                .hint("--yes removes it"));
        }
        Ok(RemoveServedRequest { name, versions, force: self.force || all, dry_run: self.dry_run })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions_are_told_apart() {
        let what = |name: &str, version| What { name: name.into(), version };
        assert_eq!(parse("net"), Ok(what("net", None)));
        assert_eq!(parse("net:3"), Ok(what("net", Some(3))));
        for wrong in ["net:", "net:0", "net:x", "net:-1", "net:1:2"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let given = vec![what("a", Some(1)), what("b", None), what("a", Some(2))];
        let wanted = vec![("a".to_owned(), vec![1, 2]), ("b".to_owned(), vec![])];
        assert_eq!(by_name(given), Ok(wanted));
        assert!(by_name(vec![what("a", None), what("a", Some(1))]).is_err());
        assert!(by_name(vec![what("a", Some(1)), what("a", None)]).is_err());
    }
}
