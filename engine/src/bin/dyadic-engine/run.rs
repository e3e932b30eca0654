//! `run`: an artifact on a file of samples.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use dyadic_engine::engine::Samples;
use dyadic_engine::model::Shape;
use dyadic_engine::quantize::InputQuantizer;
use dyadic_engine::{Engine, RunError};
use serde_json::json;

use crate::Common;
use crate::failure::Failure;
use crate::npy::{self, Array};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Samples as `.npy`: float32 of shape (C, H, W) or (N, C, H, W), or uint8 of shape (H, W, C) or (N, H, W, C).
    #[arg(long)]
    input: PathBuf,
    /// How many of the largest outputs are printed for each sample.
    #[arg(long, default_value_t = 5)]
    top: usize,
    /// Writes all outputs as float32 of shape (N, outputs) to this `.npy` file.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Writes every tensor's codes as int32 of shape (N, H, W, C) into this folder, one `.npy` file each.
    #[arg(long)]
    trace: Option<PathBuf>,
    /// Threads that share the samples.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (_, engine) = arguments.common.engine()?;
    let (array, shape) = npy::read(&arguments.input)?;
    let batch = batch_of(&array, &shape, engine.input_shape())?;
    let samples = match &array {
        Array::Floats(values) => Samples::Floats(values),
        Array::Bytes(values) => Samples::Bytes(values),
    };
    if let (Samples::Bytes(_), false) = (samples, engine.accepts_bytes()) {
        return Err(RunError::NoNormalization.into());
    }
    let mut out = vec![0.0; batch * engine.output_len()];
    let mut scratches: Vec<_> = (0..arguments.threads).map(|_| engine.scratch()).collect();
    engine.run_batch(&mut scratches, samples, batch, &mut out)?;
    if let Some(folder) = &arguments.trace {
        trace(&engine, &array, batch, folder)?;
    }
    if let Some(path) = &arguments.output {
        npy::write_f32(path, &[batch, engine.output_len()], &out)?;
    }
    print(arguments, &engine, &out)?;
    Ok(())
}

/// The number of samples in an array, if its shape fits the model.
fn batch_of(array: &Array, shape: &[usize], input: Shape) -> Result<usize, Failure> {
    let [h, w, c] = [input.h, input.w, input.c].map(|dim| dim as usize);
    let sample = match array {
        Array::Floats(_) => [c, h, w],
        Array::Bytes(_) => [h, w, c],
    };
    match shape {
        dims if *dims == sample => Ok(1),
        [batch, dims @ ..] if *dims == sample => Ok(*batch),
        _ => Err(Failure::Input(format!("shape {shape:?} where {sample:?} or (N, …) of it is needed"))),
    }
}

fn print(arguments: &Arguments, engine: &Engine, out: &[f32]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for (index, values) in out.chunks_exact(engine.output_len()).enumerate() {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
        order.truncate(arguments.top);
        let label = |class: usize| engine.labels().get(class);
        if arguments.common.json {
            let top: Vec<_> = order
                .iter()
                .map(|&class| json!({ "index": class, "label": label(class), "value": values[class] }))
                .collect();
            writeln!(stdout, "{}", json!({ "sample": index, "outputs": values, "top": top }))?;
            continue;
        }
        let top: Vec<String> = order
            .iter()
            .map(|&class| match label(class) {
                Some(label) => format!("{label} {:.4}", values[class]),
                None => format!("#{class} {:.4}", values[class]),
            })
            .collect();
        writeln!(stdout, "{index}: {}", top.join(", "))?;
    }
    Ok(())
}

/// Writes every tensor's codes for all samples.
fn trace(engine: &Engine, array: &Array, batch: usize, folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|error| Failure::file(folder, error))?;
    let model = engine.model();
    let quantizer = InputQuantizer::new(model);
    let len = engine.input_shape().len();
    let mut scratch = engine.scratch();
    let mut tensors: Vec<Vec<i32>> = vec![Vec::new(); model.tensors.len()];
    for sample in 0..batch {
        let mut codes = vec![0; len];
        let range = sample * len..(sample + 1) * len;
        match array {
            Array::Floats(values) => quantizer
                .floats(&values[range], |position, code| codes[position] = code)
                .map_err(RunError::from)?,
            Array::Bytes(values) => quantizer.bytes(&values[range], |position, code| codes[position] = code),
        }
        let traced = engine.trace(&mut scratch, &codes)?;
        for (all, one) in tensors.iter_mut().zip(&traced.codes) {
            all.extend_from_slice(one);
        }
    }
    for (index, (tensor, codes)) in model.tensors.iter().zip(&tensors).enumerate() {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let name: String = tensor.name.chars().map(plain).take(100).collect();
        let shape = [batch, tensor.shape.h as usize, tensor.shape.w as usize, tensor.shape.c as usize];
        npy::write_i32(&folder.join(format!("{index:04}_{name}.npy")), &shape, codes)?;
    }
    Ok(())
}
