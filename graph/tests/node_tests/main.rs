//! ONNX's own node tests, as the `onnx` package computes them, through importer and evaluator: their outputs, or a refusal with its reason.
//!
//! Every input of a case but the first one of floats is made an initializer. `cargo test -p dyadic-graph --test node_tests -- --nocapture`
//! prints the table.

mod prepared;
mod reasons;
mod schemas;

use std::collections::{BTreeMap, HashMap};

use dyadic_graph::import::OPSETS;
use dyadic_graph::onnx::ModelProto;
use dyadic_graph::{ErrorKind, ImportError, Tensor, evaluate, import_bytes};
use prepared::{Case, prepared};
use prost::Message;
use reasons::{EQUAL, JUDGED, REFUSED};

/// What became of a case.
#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Equal,
    Refused(Vec<String>),
    /// Malformed, over a limit, or another output.
    Wrong(String),
}

/// Runs a case, with another opset than it says if one is given.
fn run(case: &Case, opset: Option<i64>) -> Outcome {
    let mut model = ModelProto::decode(case.model.as_slice()).unwrap();
    for set in &mut model.opset_import {
        if let (Some(opset), None | Some("")) = (opset, set.domain.as_deref()) {
            set.version = Some(opset);
        }
    }
    let network = match import_bytes(&model.encode_to_vec(), Vec::<(String, &[u8])>::new()) {
        Ok(network) => network,
        Err(ImportError::Unsupported(list)) => {
            return Outcome::Refused(list.into_iter().map(|item| item.reason).collect());
        }
        Err(error) => {
            assert_ne!(error.kind(), ErrorKind::Unsupported);
            return Outcome::Wrong(error.to_string());
        }
    };
    let sample = network.shape(network.input).to_vec();
    let mut actual = Vec::new();
    for data in case.input.chunks_exact(sample.iter().product()) {
        let input = Tensor { shape: sample.clone(), data: data.to_vec() };
        actual.extend(evaluate(&network, &input).unwrap().data);
    }
    let mut shape = case.shape.get(..1).unwrap_or_default().to_vec();
    shape.extend(network.shape(network.output));
    if shape != case.output_shape || actual.len() != case.output.len() {
        return Outcome::Wrong(format!("an output of shape {shape:?}, not {:?}", case.output_shape));
    }
    let near = |&(&a, &b): &(&f32, &f32)| {
        a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= case.atol + case.rtol * b.abs()
    };
    match actual.iter().zip(&case.output).find(|pair| !near(pair)) {
        Some((a, b)) => Outcome::Wrong(format!("{a} where ONNX has {b}")),
        None => Outcome::Equal,
    }
}

fn outcomes() -> Vec<(&'static Case, Outcome)> {
    prepared().cases.iter().map(|case| (case, run(case, None))).collect()
}

/// Cases whose operator is judged one by one: of matrices, series and images.
fn is_judged(case: &Case) -> bool {
    JUDGED.contains(&case.operators.as_str()) && matches!(case.shape.len(), 2..=4)
}

#[test]
fn no_node_test_is_answered_wrongly_or_called_malformed() {
    let outcomes = outcomes();
    print_table(&outcomes);
    let wrong: Vec<String> = outcomes
        .iter()
        .filter_map(|(case, outcome)| match outcome {
            Outcome::Wrong(what) => Some(format!("{}: {what}", case.name)),
            _ => None,
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let refused = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Refused(_))).count();
    assert!(outcomes.len() > 1500 && refused < outcomes.len() - EQUAL.len());
}

#[test]
fn every_case_of_matrices_series_and_images_is_equal_or_has_its_reason() {
    let expected: HashMap<&str, &str> = REFUSED.iter().copied().collect();
    let (mut seen, mut faults) = (0, Vec::new());
    for (case, outcome) in outcomes().iter().filter(|(case, _)| is_judged(case)) {
        let expected = expected.get(case.name.as_str());
        seen += usize::from(expected.is_some());
        let as_expected = match (outcome, expected) {
            (Outcome::Equal, None) => true,
            (Outcome::Refused(reasons), Some(expected)) => {
                reasons.iter().any(|reason| reason.contains(expected))
            }
            _ => false,
        };
        if !as_expected {
            faults.push(format!("{}: {outcome:?}, expected is {expected:?}", case.name));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(seen, REFUSED.len(), "the table names a case that is not there");
}

#[test]
fn what_was_equal_stays_equal_in_every_opset_that_means_the_same() {
    let cases: HashMap<&str, &Case> =
        prepared().cases.iter().map(|case| (case.name.as_str(), case)).collect();
    for name in EQUAL {
        let case = cases.get(name).unwrap_or_else(|| panic!("there is no case {name}"));
        assert_eq!(run(case, None), Outcome::Equal, "{name}");
        if case.newest {
            for opset in case.opset.max(*OPSETS.start())..=*OPSETS.end() {
                assert_eq!(run(case, Some(opset)), Outcome::Equal, "{name} in opset {opset}");
            }
        }
    }
}

fn print_table(outcomes: &[(&Case, Outcome)]) {
    let mut rows: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    let mut total = [0; 3];
    for (case, outcome) in outcomes {
        let column = match outcome {
            Outcome::Equal => 0,
            Outcome::Refused(_) => 1,
            Outcome::Wrong(_) => 2,
        };
        total[column] += 1;
        if is_judged(case) {
            rows.entry(&case.operators).or_default()[column] += 1;
        }
    }
    println!("| operator, 2 to 4 axes | equal | refused | wrong |\n|---|---|---|---|");
    for (operator, [equal, refused, wrong]) in rows {
        println!("| {operator} | {equal} | {refused} | {wrong} |");
    }
    let [equal, refused, wrong] = total;
    println!("| all {} cases | {equal} | {refused} | {wrong} |", outcomes.len());
    println!("\n| refused | reason |\n|---|---|");
    for (name, reason) in REFUSED {
        println!("| {name} | {reason} |");
    }
}
