//! Prints max|Δ| over max|reference| of a network's outputs: `parity MODEL.onnx`, beside which lie
//! MODEL.onnx.data (where the exporter writes it), MODEL.input and MODEL.output, raw little-endian floats of
//! one sample or more.

use std::error::Error;
use std::path::Path;

use dyadic_graph::{Tensor, evaluate, import_bytes};

fn floats(path: &Path) -> Result<Vec<f32>, Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.chunks_exact(4).map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect())
}

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args_os().nth(1).ok_or("which model?")?;
    let model = Path::new(&model);
    let side = model.with_extension("onnx.data");
    let data = std::fs::read(&side).unwrap_or_default();
    let name = side.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let network = import_bytes(&std::fs::read(model)?, [(name, data.as_slice())])?;
    let shape = network.shape(network.input).to_vec();
    let reference = floats(&model.with_extension("output"))?;
    let mut actual = Vec::with_capacity(reference.len());
    for sample in floats(&model.with_extension("input"))?.chunks_exact(shape.iter().product()) {
        actual.extend(evaluate(&network, &Tensor { shape: shape.clone(), data: sample.to_vec() })?.data);
    }
    if actual.len() != reference.len() {
        return Err(format!("{} outputs, not {}", actual.len(), reference.len()).into());
    }
    let largest = |numbers: &mut dyn Iterator<Item = f32>| numbers.fold(0.0f32, |most, x| most.max(x.abs()));
    let distance = largest(&mut actual.iter().zip(&reference).map(|(a, b)| a - b));
    println!("{:.1e}", distance / largest(&mut reference.iter().copied()));
    Ok(())
}
