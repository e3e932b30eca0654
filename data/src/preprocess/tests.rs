use std::path::{Path, PathBuf};

use super::*;
use crate::entry::Entry;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn picture(name: &str) -> Picture {
    Picture::decode(&Entry::file(&golden(name), name).unwrap()).unwrap()
}

fn index() -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(golden("index.json")).unwrap()).unwrap()
}

/// Bilinear at most one unit of 255 apart, bicubic at most three, both on average a fifth of one: Pillow's weights have 22
/// bits of fraction, the resizer's fewer.
fn assert_close(found: &Picture, wanted: &Picture, name: &str) {
    let allowed = if name.contains("bicubic") { 3 } else { 1 };
    let shape = |picture: &Picture| [picture.height, picture.width, picture.channels];
    assert_eq!(shape(found), shape(wanted), "{name}");
    let apart = || found.pixels.iter().zip(&wanted.pixels).map(|(a, b)| a.abs_diff(*b));
    let (most, mean) = (apart().max(), apart().map(f64::from).sum::<f64>() / found.pixels.len() as f64);
    assert!(most <= Some(allowed) && mean <= 0.2, "{name}: {most:?}, {mean}");
}

#[test]
fn resized_and_cropped_pictures_are_those_of_pillow_and_torchvision() {
    let index = index();
    let cases = index["transforms"].as_array().unwrap();
    assert_eq!(cases.len(), 15);
    for case in cases {
        let preprocess: Preprocess = serde_json::from_value(case["preprocess"].clone()).unwrap();
        let name = case["result"].as_str().unwrap();
        let (found, wanted) = (preprocess.apply(picture("scene.png")).unwrap(), picture(name));
        assert_eq!([found.height, found.width, found.channels], preprocess.shape().unwrap());
        assert_close(&found, &wanted, name);
        if preprocess.interpolation == Interpolation::Nearest || preprocess.resize.is_none() {
            assert!(found == wanted, "{name}");
        }
    }
}

#[test]
fn a_random_part_is_resized_as_torchvision_does() {
    let index = index();
    let case = &index["resized_crop"];
    let numbers = |name: &str| {
        case[name].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect::<Vec<_>>()
    };
    let (of, size) = (numbers("box"), numbers("size"));
    let cut = geometry::Cut { top: of[0], left: of[1], height: of[2], width: of[3] };
    let part = geometry::part(&picture("scene.png"), cut);
    let size = [size[0], size[1]];
    let found = geometry::resized(part, size, Interpolation::Bilinear, &mut Resizer::new()).unwrap();
    assert_close(&found, &picture(case["result"].as_str().unwrap()), "a part");
}

#[test]
fn blue_comes_first_where_asked_for() {
    let rgb = Preprocess::centered(30, 20, Color::Rgb);
    let bgr = Preprocess { color: Color::Bgr, ..rgb.clone() };
    let (rgb, bgr) = (rgb.apply(picture("scene.png")).unwrap(), bgr.apply(picture("scene.png")).unwrap());
    let swapped: Vec<u8> = rgb.pixels.chunks_exact(3).flat_map(|p| [p[2], p[1], p[0]]).collect();
    assert_eq!(*bgr.pixels, swapped);
}

#[test]
fn what_leaves_the_size_open_or_out_of_range_is_refused() {
    let good = Preprocess::centered(72, 64, Color::Rgb);
    assert_eq!(good.shape().unwrap(), [64, 64, 3]);
    let random = |scale, ratio| Training::RandomResizedCrop { scale, ratio };
    for (bad, word) in [
        (Preprocess { crop: None, ..good.clone() }, "give a crop"),
        (Preprocess { crop: None, resize: None, ..good.clone() }, "give a size"),
        (Preprocess { crop: Some([0, 5]), ..good.clone() }, "0 pixels"),
        (Preprocess { resize: Some(Resize::Exact([5, 9000])), ..good.clone() }, "9000 pixels"),
        (Preprocess { training: random([0.5, 0.1], [1.0, 1.0]), ..good.clone() }, "least comes first"),
        (Preprocess { training: random([f64::NAN, 1.0], [1.0, 1.0]), ..good.clone() }, "least comes first"),
        (Preprocess { training: random([0.1, 1.0], [0.0, 1.0]), ..good.clone() }, "least comes first"),
    ] {
        let refusal = bad.shape().unwrap_err().to_string();
        assert!(refusal.contains(word), "{refusal}");
    }
    // A hair of a picture does not ask for gigabytes.
    let hair = Picture { height: 1, width: 2_000_000, channels: 1, pixels: vec![0; 2_000_000].into() };
    assert!(good.apply(hair).unwrap_err().to_string().contains("would become"));
}

#[test]
fn it_is_kept_as_plain_text_and_unknown_words_are_refused() {
    let kept =
        Preprocess { training: Training::RANDOM_RESIZED_CROP, ..Preprocess::centered(256, 224, Color::Bgr) };
    let text = serde_json::to_string(&kept).unwrap();
    assert_eq!(
        text,
        r#"{"resize":{"shorter":256},"crop":[224,224],"interpolation":"bilinear","color":"bgr","training":{"random_resized_crop":{"scale":[0.08,1.0],"ratio":[0.75,1.3333333333333333]}}}"#
    );
    assert_eq!(serde_json::from_str::<Preprocess>(&text).unwrap(), kept);
    assert!(serde_json::from_str::<Preprocess>(r#"{"color":"rgb","rotate":90}"#).is_err());
}

#[test]
fn random_parts_keep_to_their_bounds_and_follow_from_their_numbers() {
    let scene = Picture { height: 60, width: 90, channels: 1, pixels: vec![0; 5400].into() };
    let (scale, ratio) = ([0.08, 1.0], [3.0 / 4.0, 4.0 / 3.0]);
    let cuts: Vec<_> =
        (0..500).map(|index| training::cut(&scene, scale, ratio, &mut Draws::new(7, 1, index))).collect();
    let mean = cuts.iter().map(|cut| (cut.height * cut.width) as f64 / 5400.0).sum::<f64>() / 500.0;
    // Uniform from 0.08 to 1, less what does not fit.
    assert!((0.35..0.55).contains(&mean), "{mean}");
    for (index, cut) in cuts.iter().enumerate() {
        assert!(cut.top + cut.height <= 60 && cut.left + cut.width <= 90, "{cut:?}");
        let aspect = cut.width as f64 / cut.height as f64;
        assert!((0.7..1.45).contains(&aspect), "{cut:?}");
        assert_eq!(*cut, training::cut(&scene, scale, ratio, &mut Draws::new(7, 1, index)));
    }
    let other = training::cut(&scene, scale, ratio, &mut Draws::new(7, 2, 0));
    assert_ne!(cuts[0], other);
    // Nothing fits into a line: the middle of it.
    let line = Picture { height: 1, width: 90, channels: 1, pixels: vec![0; 90].into() };
    let cut = training::cut(&line, [1.0, 1.0], ratio, &mut Draws::new(7, 1, 0));
    assert_eq!((cut.height, cut.width, cut.left), (1, 1, 44));
}

#[test]
fn the_nearest_pixels_are_those_that_pillow_takes() {
    let index = index();
    let cases = index["nearest"].as_array().unwrap();
    assert!(cases.len() > 100);
    for case in cases {
        let [from, to] = ["from", "to"].map(|name| case[name].as_u64().unwrap() as usize);
        let found: Vec<usize> = geometry::nearest_of(from, to).collect();
        let wanted = case["taken"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize);
        assert!(found.iter().copied().eq(wanted), "{from} to {to}");
    }
}
