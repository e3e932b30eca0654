//! The cases and schemas that prepare.py writes, made once a run of the tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// One case.
pub(crate) struct Case {
    pub(crate) name: String,
    /// The operators of its nodes, each once, with `+` between them.
    pub(crate) operators: String,
    pub(crate) opset: i64,
    /// Whether its operators are in their newest version.
    pub(crate) newest: bool,
    /// Of the input that flows, with all axes.
    pub(crate) shape: Vec<usize>,
    /// Of the first output; empty where it does not hold floats.
    pub(crate) output_shape: Vec<usize>,
    pub(crate) rtol: f32,
    pub(crate) atol: f32,
    pub(crate) model: Vec<u8>,
    pub(crate) input: Vec<f32>,
    pub(crate) output: Vec<f32>,
}

/// One version of an operator, as the `onnx` package has it.
pub(crate) struct Schema {
    pub(crate) name: String,
    pub(crate) since: i64,
    pub(crate) attributes: Vec<String>,
}

pub(crate) struct Prepared {
    pub(crate) cases: Vec<Case>,
    pub(crate) schemas: Vec<Schema>,
    /// The newest opset of the package.
    pub(crate) newest: i64,
}

/// The interpreter with `onnx`: `DYADIC_PYTHON`, or the repository's own environment.
fn python() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
    let python = std::env::var_os("DYADIC_PYTHON").map_or(own, PathBuf::from);
    let place = python.display();
    assert!(
        python.exists(),
        "{place} is not there: run scripts/setup.sh, or set DYADIC_PYTHON to a Python with onnx"
    );
    python
}

pub(crate) fn prepared() -> &'static Prepared {
    static PREPARED: OnceLock<Prepared> = OnceLock::new();
    PREPARED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new(python())
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node_tests/prepare.py"))
            .arg(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        read(folder.path())
    })
}

fn read(folder: &Path) -> Prepared {
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let data = std::fs::read(folder.join("cases.bin")).unwrap();
    let mut rest = data.as_slice();
    let mut take = |length: &str| {
        let (part, after) = rest.split_at(length.parse().unwrap());
        rest = after;
        part
    };
    let numbers =
        |text: &str| text.split(',').filter(|n| !n.is_empty()).map(|n| n.parse().unwrap()).collect();
    let floats = |bytes: &[u8]| {
        bytes.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect()
    };
    let mut case = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [name, operators, opset, newest, shape, output_shape, rtol, atol, model, input, output] =
            fields[..]
        else {
            panic!("{line}")
        };
        Case {
            name: name.to_owned(),
            operators: operators.to_owned(),
            opset: opset.parse().unwrap(),
            newest: newest == "1",
            shape: numbers(shape),
            output_shape: numbers(output_shape),
            rtol: rtol.parse().unwrap(),
            atol: atol.parse().unwrap(),
            model: take(model).to_vec(),
            input: floats(take(input)),
            output: floats(take(output)),
        }
    };
    let schema = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [name, since, attributes] = fields[..] else { panic!("{line}") };
        let attributes = attributes.split_whitespace().map(str::to_owned).collect();
        Schema { name: name.to_owned(), since: since.parse().unwrap(), attributes }
    };
    Prepared {
        cases: text("cases.tsv").lines().map(&mut case).collect(),
        schemas: text("schemas.tsv").lines().map(schema).collect(),
        newest: text("newest").parse().unwrap(),
    }
}
