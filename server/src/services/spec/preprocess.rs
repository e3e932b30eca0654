//! What is done to pictures, between the API and the data crate; stored as the latter writes it.

use dyadic_data::{Color, Interpolation, Preprocess, Resize, Training};
use dyadic_proto::v1 as pb;
use serde_json::Value;

use super::choice;
use crate::error::ApiError;

/// As it is stored, checked. A colour that is left open is RGB until the model's channels are known.
pub(super) fn settings(given: &pb::Preprocess) -> Result<Value, ApiError> {
    let field = |name: &str| format!("preprocess.{name}");
    let resize = match (given.shorter_side, given.resize) {
        (0, None) => None,
        (side, None) => Some(Resize::Shorter(side)),
        (0, Some(pb::Size { height, width })) => Some(Resize::Exact([height, width])),
        (_, Some(_)) => {
            return Err(ApiError::field(
                field("resize"),
                "one of shorter_side and resize is given, not both",
            ));
        }
    };
    let interpolation = choice(&field("interpolation"), given.interpolation, |value| match value {
        pb::Interpolation::Unspecified => None,
        pb::Interpolation::Bilinear => Some(Interpolation::Bilinear),
        pb::Interpolation::Bicubic => Some(Interpolation::Bicubic),
        pb::Interpolation::Nearest => Some(Interpolation::Nearest),
    })?;
    let color = choice(&field("color"), given.color, |value| match value {
        pb::Color::Unspecified => None,
        pb::Color::Rgb => Some(Color::Rgb),
        pb::Color::Bgr => Some(Color::Bgr),
        pb::Color::Gray => Some(Color::Gray),
    })?;
    let preprocess = Preprocess {
        resize,
        crop: given.crop.map(|pb::Size { height, width }| [height, width]),
        interpolation: interpolation.unwrap_or_default(),
        color: color.unwrap_or(Color::Rgb),
        training: training(given)?,
    };
    preprocess.shape().map_err(|error| ApiError::field("preprocess", error.to_string()))?;
    let mut value = serde_json::to_value(preprocess).map_err(ApiError::internal)?;
    if let (None, Some(fields)) = (color, value.as_object_mut()) {
        fields.remove("color");
    }
    Ok(value)
}

fn training(given: &pb::Preprocess) -> Result<Training, ApiError> {
    let kind = choice("preprocess.training", given.training, |value| match value {
        pb::TrainingImages::Unspecified => None,
        pb::TrainingImages::PadAndCrop => Some(Training::PadAndCrop),
        pb::TrainingImages::RandomResizedCrop => Some(Training::RANDOM_RESIZED_CROP),
        pb::TrainingImages::Flip => Some(Training::Flip),
        pb::TrainingImages::Plain => Some(Training::Plain),
    })?;
    let range = |field: &str, given: &[f64], usual: [f64; 2]| match *given {
        [] => Ok(usual),
        [least, most] => Ok([least, most]),
        _ => Err(ApiError::field(field, format!("{} numbers; it has two, least and most", given.len()))),
    };
    match kind.unwrap_or_default() {
        Training::RandomResizedCrop { scale, ratio } => Ok(Training::RandomResizedCrop {
            scale: range("preprocess.scale", &given.scale, scale)?,
            ratio: range("preprocess.ratio", &given.ratio, ratio)?,
        }),
        _ if !given.scale.is_empty() || !given.ratio.is_empty() => {
            Err(ApiError::field("preprocess.scale", "scale and ratio are those of random resized crops"))
        }
        other => Ok(other),
    }
}

/// The same for the API; none if another version wrote it.
pub(super) fn to_proto(stored: &Value) -> Option<pb::Preprocess> {
    let open = stored.get("color").is_none();
    let Preprocess { resize, crop, interpolation, color, training } = with_color(stored, Color::Rgb)?;
    let size = |[height, width]: [u32; 2]| pb::Size { height, width };
    let (kind, scale, ratio) = match training {
        Training::PadAndCrop => (pb::TrainingImages::PadAndCrop, vec![], vec![]),
        Training::RandomResizedCrop { scale, ratio } => {
            (pb::TrainingImages::RandomResizedCrop, scale.to_vec(), ratio.to_vec())
        }
        Training::Flip => (pb::TrainingImages::Flip, vec![], vec![]),
        Training::Plain => (pb::TrainingImages::Plain, vec![], vec![]),
    };
    Some(pb::Preprocess {
        shorter_side: if let Some(Resize::Shorter(side)) = resize { side } else { 0 },
        resize: if let Some(Resize::Exact(sides)) = resize { Some(size(sides)) } else { None },
        crop: crop.map(size),
        interpolation: match interpolation {
            Interpolation::Nearest => pb::Interpolation::Nearest,
            Interpolation::Bilinear => pb::Interpolation::Bilinear,
            Interpolation::Bicubic => pb::Interpolation::Bicubic,
        }
        .into(),
        color: match color {
            _ if open => pb::Color::Unspecified,
            Color::Rgb => pb::Color::Rgb,
            Color::Bgr => pb::Color::Bgr,
            Color::Gray => pb::Color::Gray,
        }
        .into(),
        training: kind.into(),
        scale,
        ratio,
    })
}

/// What is stored, its colour where none is written; none if it cannot be read here.
pub(crate) fn with_color(stored: &Value, usual: Color) -> Option<Preprocess> {
    let mut whole = stored.clone();
    let fields = whole.as_object_mut()?;
    if !fields.contains_key("color") {
        fields.insert("color".into(), serde_json::to_value(usual).ok()?);
    }
    serde_json::from_value(whole).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn centered() -> pb::Preprocess {
        pb::Preprocess {
            shorter_side: 256,
            crop: Some(pb::Size { height: 224, width: 224 }),
            ..pb::Preprocess::default()
        }
    }

    #[test]
    fn an_open_color_is_decided_by_the_model() {
        let stored = settings(&centered()).unwrap();
        assert_eq!(with_color(&stored, Color::Gray), Some(Preprocess::centered(256, 224, Color::Gray)));
        assert_eq!(to_proto(&stored).unwrap().color(), pb::Color::Unspecified);
        let bgr = pb::Preprocess { color: pb::Color::Bgr.into(), ..centered() };
        let stored = settings(&bgr).unwrap();
        assert_eq!(with_color(&stored, Color::Gray), Some(Preprocess::centered(256, 224, Color::Bgr)));
    }

    #[test]
    fn what_makes_no_shape_or_contradicts_itself_is_refused() {
        let size = |height, width| Some(pb::Size { height, width });
        let cases = [
            pb::Preprocess::default(),
            pb::Preprocess { crop: None, ..centered() },
            pb::Preprocess { resize: size(8, 8), ..centered() },
            pb::Preprocess { crop: size(0, 8), ..centered() },
            pb::Preprocess { crop: size(8, 100_000), ..centered() },
            pb::Preprocess { interpolation: 9, ..centered() },
            pb::Preprocess { scale: vec![0.1, 1.0], ..centered() },
            pb::Preprocess {
                training: pb::TrainingImages::RandomResizedCrop.into(),
                scale: vec![0.5],
                ..centered()
            },
            pb::Preprocess {
                training: pb::TrainingImages::RandomResizedCrop.into(),
                ratio: vec![2.0, 1.0],
                ..centered()
            },
        ];
        for case in cases {
            assert!(settings(&case).is_err(), "{case:?}");
        }
    }
}
