//! NVIDIA's own Python client, unchanged.

use std::path::{Path, PathBuf};

use crate::harness::{Harness, NORMALIZED, float_bytes, float_sample, image_sample};

const BATCH: usize = 6;

/// The interpreter with `tritonclient[grpc]`: `DYADIC_PYTHON`, or the repository's own environment.
fn python() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
    let python = std::env::var_os("DYADIC_PYTHON").map_or(own, PathBuf::from);
    assert!(
        python.exists(),
        "{} is not there: run scripts/setup.sh, or set DYADIC_PYTHON to a Python with tritonclient[grpc]",
        python.display()
    );
    python
}

#[tokio::test]
async fn tritonclient_gets_the_engines_answers() {
    let server = Harness::serving().await;
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    let floats: Vec<f32> = (0..BATCH).flat_map(float_sample).collect();
    let images: Vec<u8> = (0..BATCH).flat_map(image_sample).collect();
    write("batch", BATCH.to_string().as_bytes());
    write("labels", (0..10).map(|class| format!("class{class}")).collect::<Vec<_>>().join("\n").as_bytes());
    write("floats.out", &float_bytes(&server.engine_floats(NORMALIZED, &floats)));
    write("bytes.out", &float_bytes(&server.engine_bytes(NORMALIZED, &images)));
    write("floats.bin", &float_bytes(&floats));
    write("bytes.bin", &images);
    let output = tokio::process::Command::new(python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tritonclient_check.py"))
        .args([server.address(), server.local_token(), NORMALIZED.to_owned()])
        .arg(dir.path())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
