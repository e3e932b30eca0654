//! Where the offline command's images come from, and what is done to them before a network reads them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use dyadic_graph::network::Network;

use super::array;
use crate::data::{self, Color, Interpolation, Loader, Outputs, Preprocess, Reading, Resize, Source, Split};
use crate::in_place;

/// Random images where nothing else is given.
const RANDOM: usize = 64;
/// The longest list of output names that is read, bytes.
const NAMES: u64 = 16 << 20;

/// Images and their preprocessing.
#[derive(Debug, Clone, Args)]
pub(super) struct Pictures {
    /// Dataset: image folders (train/CLASS, test/CLASS or CLASS), CIFAR, IDX, npz, an archive of one, or a manifest (.jsonl).
    #[arg(long, conflicts_with = "calibration")]
    dataset: Option<PathBuf>,
    /// Instead of a dataset, images without labels: a folder of pictures, an .npy file of uint8 (N, H, W, C), or `random` for
    /// random ones, which are good for speed figures only. No accuracy is told, but how close the outputs are to the float
    /// network's, and how often their largest is the same.
    #[arg(long, value_name = "FOLDER|FILE.npy|random")]
    calibration: Option<PathBuf>,
    /// Of pictures: resize the shorter side to this first.
    #[arg(long, value_name = "PIXELS")]
    resize: Option<u32>,
    /// Of pictures: cut this square from the middle [default with --resize: the network's input size].
    #[arg(long, value_name = "PIXELS")]
    crop: Option<u32>,
    /// Of pictures: how they are resized [default: bilinear].
    #[arg(long, value_enum)]
    interpolation: Option<Filter>,
    /// Of an image folder: hold out this share of the training images to judge on.
    #[arg(long, value_name = "SHARE")]
    validation: Option<f64>,
    /// Names of the network's outputs in their order, one a line, each as its class folder is called.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// The share of pictures that may be left out because they cannot be read [default: 0.01].
    #[arg(long, value_name = "SHARE")]
    skip_broken: Option<f64>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Filter {
    Nearest,
    Bilinear,
    Bicubic,
}

/// Training images, those for the figures where they are others, and what was done to them.
pub(super) struct Found {
    pub(super) train: Loader,
    pub(super) test: Option<Loader>,
    pub(super) preprocess: Option<Preprocess>,
}

impl Pictures {
    /// Whether the images have no labels.
    pub(super) fn unlabelled(&self) -> bool {
        self.calibration.is_some()
    }

    /// Whether they are random.
    pub(super) fn random(&self) -> bool {
        self.calibration.as_ref().is_some_and(|path| path.as_os_str() == "random")
    }

    /// Opens them for a network.
    ///
    /// # Errors
    /// What is missing or cannot be read.
    pub(super) fn open(&self, network: &Network, seed: u64) -> anyhow::Result<Found> {
        let shape = &network.values[network.input.0].shape;
        let Some([channels, height, width]) = dyadic_graph::network::image(shape) else {
            bail!(
                "the network's input has shape {shape:?}, not channels × height × width or channels × width"
            );
        };
        let in_memory = |set| Found { train: Loader::in_memory(set), test: None, preprocess: None };
        let path = match (&self.dataset, &self.calibration) {
            (None, Some(_)) if self.random() => {
                return Ok(in_memory(data::random(RANDOM, [height, width, channels], seed)));
            }
            (None, Some(path)) if fs::metadata(path).is_ok_and(|meta| meta.is_file()) && is_array(path) => {
                return Ok(in_memory(array::read(path)?));
            }
            (Some(path), _) | (None, Some(path)) => path,
            (None, None) => bail!(
                "give --dataset PATH, or --calibration FOLDER, FILE.npy or random for a model without accuracy"
            ),
        };
        let source = in_place::located_here(Source::open(path)?)?;
        let mut reading = Reading {
            preprocess: self.preprocess([channels, height, width])?,
            validation: self.validation,
            skip_broken: self.skip_broken.unwrap_or(Reading::SKIP_BROKEN),
            ..Reading::default()
        };
        let preprocess = reading.preprocess.clone();
        if self.unlabelled() {
            let train = Loader::open(&source, first_split(&source)?, &reading)?;
            return Ok(Found { train, test: None, preprocess });
        }
        reading.outputs = self.outputs(&source)?;
        let train = Loader::open(&source, Split::Train, &reading)?;
        let test = Loader::open(&source, reading.evaluation(&source)?, &reading)?;
        Ok(Found { train, test: Some(test), preprocess })
    }

    fn preprocess(&self, [channels, height, width]: [usize; 3]) -> anyhow::Result<Option<Preprocess>> {
        if self.resize.is_none() && self.crop.is_none() {
            ensure!(self.interpolation.is_none(), "--interpolation is for --resize");
            return Ok(None);
        }
        let color = Color::usual(channels)
            .with_context(|| format!("the network reads {channels} channels; pictures have 1 or 3"))?;
        let crop = self.crop.map_or([height as u32, width as u32], |side| [side, side]);
        let interpolation = match self.interpolation {
            None | Some(Filter::Bilinear) => Interpolation::Bilinear,
            Some(Filter::Nearest) => Interpolation::Nearest,
            Some(Filter::Bicubic) => Interpolation::Bicubic,
        };
        let resize = self.resize.map(Resize::Shorter);
        Ok(Some(Preprocess { resize, crop: Some(crop), interpolation, ..Preprocess::centered(1, 1, color) }))
    }

    /// Which output stands for each class; the order of folders says nothing about that.
    fn outputs(&self, source: &Source) -> anyhow::Result<Option<Outputs>> {
        let Some(path) = &self.labels else {
            ensure!(
                source.format().orders_classes() || source.classes().is_empty(),
                "which output stands for which class folder? Give --labels FILE, the names of the network's outputs in \
                 their order, one a line, or --calibration instead of --dataset to do without labels"
            );
            return Ok(None);
        };
        let size = fs::metadata(path).with_context(|| path.display().to_string())?.len();
        ensure!(size <= NAMES, "{} has {size} bytes, more than {NAMES}", path.display());
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let names = Outputs::names_in(&text)?;
        Ok(Some(Outputs::matching(source.classes(), &names)?))
    }
}

fn is_array(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npy"))
}

/// Images without labels may be any split's: the training images where there are some.
fn first_split(source: &Source) -> anyhow::Result<Split> {
    let splits = source.parts().iter().map(|part| part.split);
    splits.min_by_key(|&split| split != Split::Train).context("there is no image")
}
