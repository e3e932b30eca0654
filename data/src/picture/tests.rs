use std::path::{Path, PathBuf};

use super::*;
use crate::preprocess::Color;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn decode(path: &Path) -> Result<Picture> {
    Picture::decode(&Entry::file(path, "a.png").unwrap())
}

fn refusal(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.png");
    std::fs::write(&path, bytes).unwrap();
    let refusal = decode(&path).map(|_| ()).unwrap_err();
    assert!(matches!(refusal, DataError::Malformed { .. }) && refusal.to_string().contains("a.png"));
    refusal.to_string()
}

/// The pictures of `make.py`.
fn pictures() -> Vec<(String, [String; 2])> {
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(golden("index.json")).unwrap()).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let all = index["pictures"].as_array().unwrap();
    all.iter().map(|p| (text(&p["file"]), [text(&p["RGB"]), text(&p["L"])])).collect()
}

/// Largest and mean difference.
fn difference(a: &[u8], b: &[u8]) -> (u8, f64) {
    assert_eq!(a.len(), b.len());
    let all = a.iter().zip(b).map(|(&a, &b)| a.abs_diff(b));
    let sum: f64 = all.clone().map(f64::from).sum();
    (all.max().unwrap(), sum / a.len() as f64)
}

#[test]
fn every_kind_of_file_becomes_what_pillow_makes_of_it() {
    let all = pictures();
    assert_eq!(all.len(), 30);
    for (file, results) in all {
        let entry = Entry::file(&golden(&file), file.as_str()).unwrap();
        let picture = Picture::decode(&entry).unwrap();
        let shape = [picture.height, picture.width, picture.channels];
        assert_eq!(Picture::shape(&entry).unwrap(), shape, "{file}");
        for (result, color) in results.iter().zip([Color::Rgb, Color::Gray]) {
            let wanted = decode(&golden(result)).unwrap();
            let found = color.of(picture.clone());
            assert_eq!((found.height, found.width), (wanted.height, wanted.width), "{file}");
            let (most, mean) = difference(&found.pixels, &wanted.pixels);
            // Lossless kinds are the same to the last bit; of lossy ones, the decoders' rounding differs.
            let lossy = file.ends_with("jpg") || file == "lossy.webp";
            let (most_allowed, mean_allowed) = if lossy { (6, 0.7) } else { (0, 0.0) };
            assert!(most <= most_allowed && mean <= mean_allowed, "{file} {color:?}: {most}, {mean}");
        }
    }
}

#[test]
fn what_is_not_read_is_refused_by_name() {
    assert!(decode(&golden("bit.bmp")).unwrap_err().to_string().contains("1 bits a pixel"));
    assert!(decode(&golden("cmyk.jpg")).unwrap_err().to_string().contains("CMYK"));
    assert!(Picture::shape(&Entry::file(&golden("cmyk.jpg"), "c").unwrap()).is_err());
}

#[test]
fn other_files_and_headers_that_ask_for_gigabytes_are_refused() {
    for bytes in
        [&b""[..], b"GIF89a", b"\x89PNG\r\n\x1a\nbroken", b"BM", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP"]
    {
        refusal(bytes);
    }
    // Sound headers of 16,000 × 16,000 pixels and more, and nothing behind them.
    let mut png = Vec::new();
    let encoder = ::png::Encoder::new(&mut png, 16_000, 16_000);
    encoder.write_header().unwrap().write_chunk(::png::chunk::IDAT, b"").unwrap();
    let mut bmp = std::fs::read(golden("rgb.bmp")).unwrap();
    bmp[18..22].copy_from_slice(&16_000u32.to_le_bytes());
    bmp[22..26].copy_from_slice(&16_000u32.to_le_bytes());
    let mut jpeg = std::fs::read(golden("rgb-444.jpg")).unwrap();
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].fill(0xf0);
    let mut webp = std::fs::read(golden("lossless.webp")).unwrap();
    let bits = 15_999u32 * (1 + (1 << 14));
    webp[21..25].copy_from_slice(&bits.to_le_bytes());
    for bytes in [png, bmp, jpeg, webp] {
        let reason = refusal(&bytes);
        assert!(reason.contains("too large") || reason.contains("last row"), "{reason}");
    }
}

#[test]
fn files_that_are_cut_short_are_refused() {
    for (file, _) in pictures() {
        let whole = std::fs::read(golden(&file)).unwrap();
        for part in [10, 40, 70] {
            let reason = refusal(&whole[..whole.len() * part / 100]);
            assert!(reason.contains("decoded") || reason.contains("no PNG"), "{file} {part}: {reason}");
        }
    }
}

#[test]
fn no_damage_brings_a_decoder_down() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let mut refused = 0;
    for (file, _) in pictures() {
        let whole = std::fs::read(golden(&file)).unwrap();
        for round in 0..60 {
            let mut bytes = whole.clone();
            for hit in 0..4 {
                let bits = crate::order::mix(round * 4 + hit);
                let at = 2 + bits as usize % (bytes.len() - 2);
                bytes[at] = (bits >> 32) as u8;
            }
            std::fs::write(&path, &bytes).unwrap();
            let entry = Entry::file(&path, "a").unwrap();
            // A header that is taken may still be of a picture that is not; the other way round cannot be.
            match (Picture::shape(&entry), Picture::decode(&entry)) {
                (Ok(shape), Ok(picture)) => {
                    assert_eq!(shape, [picture.height, picture.width, picture.channels], "{file} {round}");
                }
                (_, Err(_)) => refused += 1,
                (Err(error), Ok(_)) => panic!("{file} {round}: {error}"),
            }
        }
    }
    assert!(refused > 100, "{refused}");
}
