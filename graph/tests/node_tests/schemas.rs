//! The importer's table of operators against the `onnx` package's schemas.

use std::collections::BTreeSet;

use dyadic_graph::import::{OPERATORS, OPSETS, Operator};

use crate::prepared::{Schema, prepared};

/// The versions of an operator that opsets of [`OPSETS`] mean.
fn history(operator: &Operator) -> Vec<&'static Schema> {
    let all: Vec<&Schema> = prepared().schemas.iter().filter(|schema| schema.name == operator.name).collect();
    let first = all.iter().map(|schema| schema.since).filter(|since| since <= OPSETS.start()).max();
    all.into_iter().filter(|schema| Some(schema.since) >= first).collect()
}

#[test]
fn the_table_of_operators_knows_every_version_that_there_is() {
    assert_eq!(*OPSETS.end(), prepared().newest, "the newest opset of the onnx package");
    for operator in OPERATORS {
        let known: Vec<i64> = operator.versions.iter().map(|version| version.since).collect();
        let there: Vec<i64> = history(operator).iter().map(|schema| schema.since).collect();
        assert_eq!(known, there, "{}: its newer versions have to be read and judged", operator.name);
        assert!(operator.versions.iter().all(|version| !version.change.is_empty()));
    }
}

#[test]
fn the_table_of_operators_has_the_attributes_of_every_version() {
    for operator in OPERATORS {
        for schema in history(operator) {
            let opset = schema.since.max(*OPSETS.start());
            let known: BTreeSet<&str> = operator
                .attributes
                .iter()
                .map(|attribute| attribute.name)
                .filter(|name| operator.has_attribute(opset, name))
                .collect();
            let there: BTreeSet<&str> = schema.attributes.iter().map(String::as_str).collect();
            assert_eq!(known, there, "{} since {}", operator.name, schema.since);
        }
    }
}

#[test]
fn the_table_of_operators_is_in_order() {
    assert!(OPERATORS.windows(2).all(|pair| pair[0].name < pair[1].name));
}
