//! Flags for what is done to pictures before a network reads them.

use std::path::Path;

use clap::{Args, ValueEnum};
use dyadic_data::Outputs;
use dyadic_proto::v1::{Color, Interpolation, Preprocess, Size, TrainingImages};

/// The longest list of output names that is read, bytes.
const NAMES: u64 = 16 << 20;

/// How pictures become what a network reads; the same numbers as Pillow and torchvision.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Pictures {
    /// Bring the shorter side of a picture to N pixels first, or the whole to HxW
    #[arg(long, value_parser = sides, value_name = "N|HxW")]
    resize: Option<Sides>,
    /// Then cut N × N pixels, or HxW, from the middle
    #[arg(long, value_parser = sides, value_name = "N|HxW")]
    crop: Option<Sides>,
    /// How pixels between pixels are made [default: bilinear]
    #[arg(long, value_enum)]
    interpolation: Option<Between>,
    /// Channels and their order [default: gray for a model of one channel, rgb for three]
    #[arg(long, value_enum)]
    channels: Option<Channels>,
    /// How training images vary [default: pad-and-crop]
    #[arg(long, value_enum)]
    training_images: Option<Vary>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Between {
    Bilinear,
    Bicubic,
    Nearest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Channels {
    Rgb,
    Bgr,
    Gray,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Vary {
    /// Shifted by up to 4 pixels each way, half of them mirrored
    PadAndCrop,
    /// torchvision's RandomResizedCrop, half of them mirrored
    RandomResizedCrop,
    /// Half of them mirrored
    Flip,
    /// As they are evaluated
    Plain,
}

/// One side, or height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sides {
    One(u32),
    Both(u32, u32),
}

fn sides(text: &str) -> Result<Sides, String> {
    let side = |text: &str| match text.parse::<u32>() {
        Ok(side) if (1..=8192).contains(&side) => Ok(side),
        _ => Err(format!("{text:?} is not a number of pixels from 1 to 8192")),
    };
    match text.split_once(['x', '×']) {
        Some((height, width)) => Ok(Sides::Both(side(height)?, side(width)?)),
        None => side(text).map(Sides::One),
    }
}

impl Pictures {
    /// The message, or what is wrong with the flags; none if nothing is asked for.
    pub(crate) fn build(&self) -> Result<Option<Preprocess>, String> {
        let size = |height, width| Some(Size { height, width });
        if self.resize.is_none() && self.crop.is_none() {
            if self.interpolation.is_some() || self.channels.is_some() || self.training_images.is_some() {
                return Err(
                    "--interpolation, --channels and --training-images need --resize or --crop".into()
                );
            }
            return Ok(None);
        }
        if matches!((self.resize, self.crop), (Some(Sides::One(_)), None)) {
            return Err("--resize N leaves the longer side open: give --crop too, or --resize HxW".into());
        }
        let interpolation = match self.interpolation {
            None => Interpolation::Unspecified,
            Some(Between::Bilinear) => Interpolation::Bilinear,
            Some(Between::Bicubic) => Interpolation::Bicubic,
            Some(Between::Nearest) => Interpolation::Nearest,
        };
        let color = match self.channels {
            None => Color::Unspecified,
            Some(Channels::Rgb) => Color::Rgb,
            Some(Channels::Bgr) => Color::Bgr,
            Some(Channels::Gray) => Color::Gray,
        };
        let training = match self.training_images {
            None => TrainingImages::Unspecified,
            Some(Vary::PadAndCrop) => TrainingImages::PadAndCrop,
            Some(Vary::RandomResizedCrop) => TrainingImages::RandomResizedCrop,
            Some(Vary::Flip) => TrainingImages::Flip,
            Some(Vary::Plain) => TrainingImages::Plain,
        };
        Ok(Some(Preprocess {
            shorter_side: if let Some(Sides::One(side)) = self.resize { side } else { 0 },
            resize: if let Some(Sides::Both(h, w)) = self.resize { size(h, w) } else { None },
            crop: match self.crop {
                None => None,
                Some(Sides::One(side)) => size(side, side),
                Some(Sides::Both(height, width)) => size(height, width),
            },
            interpolation: interpolation.into(),
            color: color.into(),
            training: training.into(),
            ..Preprocess::default()
        }))
    }
}

/// The names of a model's outputs that a file holds, in their order: a name a line, or JSON.
pub(crate) fn names(path: &Path) -> Result<Vec<String>, String> {
    let wrong = |reason: String| format!("{}: {reason}", path.display());
    let size = std::fs::metadata(path).map_err(|e| wrong(e.to_string()))?.len();
    if size > NAMES {
        return Err(wrong(format!("{size} bytes; names of outputs take up to {NAMES}")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
    Outputs::names_in(&text).map_err(|e| wrong(e.to_string()))
}

/// `shorter side 256, center 224 × 224, bilinear, rgb` for people.
pub(crate) fn told(preprocess: &Preprocess) -> String {
    let size = |size: &Size| format!("{} × {}", size.height, size.width);
    let mut parts = Vec::new();
    if preprocess.shorter_side > 0 {
        parts.push(format!("shorter side {}", preprocess.shorter_side));
    }
    parts.extend(preprocess.resize.as_ref().map(|s| format!("to {}", size(s))));
    parts.extend(preprocess.crop.as_ref().map(|s| format!("center {}", size(s))));
    let word = |name: &str, prefix: &str| name.trim_start_matches(prefix).to_lowercase().replace('_', "-");
    let words = [
        word(preprocess.interpolation().as_str_name(), "INTERPOLATION_"),
        word(preprocess.color().as_str_name(), "COLOR_"),
        word(preprocess.training().as_str_name(), "TRAINING_IMAGES_"),
    ];
    parts.extend(words.into_iter().filter(|word| word != "unspecified"));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        pictures: Pictures,
    }

    fn build(flags: &str) -> Result<Option<Preprocess>, String> {
        let words = std::iter::once("x").chain(flags.split_whitespace());
        Line::try_parse_from(words).map_err(|e| e.to_string())?.pictures.build()
    }

    #[test]
    fn one_side_is_the_shorter_one_and_a_crop_is_square() {
        let made = build("--resize 256 --crop 224 --channels bgr").unwrap().unwrap();
        assert_eq!((made.shorter_side, made.resize), (256, None));
        assert_eq!(made.crop, Some(Size { height: 224, width: 224 }));
        assert_eq!(told(&made), "shorter side 256, center 224 × 224, bgr");
        let both = build("--resize 48x64 --training-images flip").unwrap().unwrap();
        assert_eq!(both.resize, Some(Size { height: 48, width: 64 }));
        assert_eq!(told(&both), "to 48 × 64, flip");
        assert_eq!(build(""), Ok(None));
    }

    #[test]
    fn flags_that_leave_the_size_open_are_refused() {
        for flags in ["--resize 256", "--resize 0 --crop 8", "--resize ax9", "--channels rgb", "--crop 9000"]
        {
            assert!(build(flags).is_err(), "{flags}");
        }
    }
}
