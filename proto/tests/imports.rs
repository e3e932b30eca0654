//! Who may import whom: the table of docs/architecture.md, read out of `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// What each crate may import of ours.
const MAY_IMPORT: [(&str, &[&str]); 9] = [
    ("dyadic-proto", &[]),
    ("dyadic-graph", &[]),
    ("dyadic-plan", &["dyadic-graph", "dyadic-engine"]),
    ("dyadic-data", &[]),
    ("dyadic-engine", &[]),
    ("dyadic-store", &[]),
    (
        "dyadic-server",
        &["dyadic-proto", "dyadic-graph", "dyadic-plan", "dyadic-data", "dyadic-engine", "dyadic-store"],
    ),
    ("dyadic-worker", &["dyadic-graph", "dyadic-plan", "dyadic-data", "dyadic-engine", "dyadic-store"]),
    ("dyadic-cli", &["dyadic-proto", "dyadic-data"]),
];

/// Foreign crates that only these of ours may build on.
const BELONGS_TO: [(&str, &[&str]); 4] = [
    ("tonic", &["dyadic-proto", "dyadic-server", "dyadic-cli"]),
    ("sqlx", &["dyadic-store"]),
    ("tch", &["dyadic-worker"]),
    ("tokio", &["dyadic-store", "dyadic-server", "dyadic-worker", "dyadic-cli"]),
];

/// Dependencies of each of our crates, development ones left out unless asked for.
fn dependencies(with_development: bool) -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let listed = package["dependencies"].as_array().expect("dependencies").iter();
            let kept = listed.filter(|d| with_development || d["kind"] != "dev");
            let names = kept.map(|d| d["name"].as_str().expect("a name").to_owned()).collect();
            (package["name"].as_str().expect("a name").to_owned(), names)
        })
        .collect()
}

#[test]
fn every_crate_of_the_workspace_is_in_the_table() {
    let known: BTreeSet<&str> = MAY_IMPORT.iter().map(|(name, _)| *name).collect();
    let found = dependencies(false);
    assert_eq!(found.keys().map(String::as_str).collect::<BTreeSet<_>>(), known);
}

#[test]
fn a_crate_imports_only_what_the_table_allows() {
    let found = dependencies(true);
    for (name, allowed) in MAY_IMPORT {
        for dependency in &found[name] {
            let ours = dependency.starts_with("dyadic-") && dependency != name;
            assert!(!ours || allowed.contains(&dependency.as_str()), "{name} must not import {dependency}");
        }
    }
}

#[test]
fn foreign_crates_stay_where_they_belong() {
    let found = dependencies(false);
    for (foreign, owners) in BELONGS_TO {
        for (name, dependencies) in &found {
            assert!(
                owners.contains(&name.as_str()) || !dependencies.contains(foreign),
                "{name} must not build on {foreign}"
            );
        }
    }
}
