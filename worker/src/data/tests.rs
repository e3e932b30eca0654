use std::fs;

use super::*;

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    fs::write(folder.join(name), bytes).expect("a temporary folder is writable");
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn cifar_planes_become_interleaved_pixels() {
    let dir = folder();
    let mut record = vec![7u8];
    for plane in 0..3u8 {
        record.extend((0..1024).map(|p| (p % 50) as u8 + 60 * plane));
    }
    for n in 1..=5 {
        write(dir.path(), &format!("data_batch_{n}.bin"), &record);
    }
    write(dir.path(), "test_batch.bin", &record.repeat(2));
    let train = load(dir.path(), Split::Train).expect("a sound dataset");
    assert_eq!((train.len(), train.labels[4]), (5, 7));
    assert_eq!(train.images[3 * 33..3 * 34], [33, 93, 153]);
    assert_eq!(load(dir.path(), Split::Test).expect("a sound dataset").len(), 2);
}

#[test]
fn png_strips_hold_one_image_a_row() {
    let dir = folder();
    let pixels: Vec<u8> = (0..2 * 3072).map(|i| (i % 251) as u8).collect();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 1024, 2);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().and_then(|mut w| w.write_image_data(&pixels)).expect("an encodable image");
    write(dir.path(), "test_batch.png", &bytes);
    write(dir.path(), "test_lables.json", b"[3,9]");
    let test = load(dir.path(), Split::Test).expect("a sound dataset");
    assert_eq!((test.images.as_slice(), test.labels.as_slice()), (pixels.as_slice(), [3, 9].as_slice()));
    let missing = load(dir.path(), Split::Train).expect_err("the training strips are missing");
    assert!(missing.to_string().contains("data_batch_1.png"), "{missing}");
}

fn idx(magic: u32, extents: &[u32], data: &[u8]) -> Vec<u8> {
    let head = std::iter::once(magic).chain(extents.iter().copied()).flat_map(u32::to_be_bytes);
    head.chain(data.iter().copied()).collect()
}

#[test]
fn idx_files_load_from_folders_and_archives() {
    let dir = folder();
    let images = idx(0x0803, &[2, 2, 3], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    write(dir.path(), "t10k-images-idx3-ubyte", &images);
    write(dir.path(), "t10k-labels-idx1-ubyte", &idx(0x0801, &[2], &[0, 4]));
    let plain = load(dir.path(), Split::Test).expect("a sound dataset");
    assert_eq!((plain.height, plain.width, plain.channels, plain.labels.clone()), (2, 3, 1, vec![0, 4]));

    let archive = dir.path().join("digits.tgz");
    let gzip = flate2::write::GzEncoder::new(
        fs::File::create(&archive).expect("writable"),
        flate2::Compression::fast(),
    );
    let mut builder = tar::Builder::new(gzip);
    for name in ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"] {
        builder
            .append_path_with_name(dir.path().join(name), format!("package/data/{name}"))
            .expect("appendable");
    }
    builder.into_inner().and_then(flate2::write::GzEncoder::finish).expect("finishable");
    assert_eq!(load(&archive, Split::Test).expect("a sound archive"), plain);
}

#[test]
fn damaged_files_are_refused_by_name() {
    let cases: [(&str, Vec<u8>, &str, Vec<u8>); 4] = [
        (
            "t10k-images-idx3-ubyte",
            idx(0x0803, &[2, 2, 2], &[0; 7]),
            "t10k-labels-idx1-ubyte",
            idx(0x0801, &[2], &[0, 1]),
        ),
        (
            "t10k-images-idx3-ubyte",
            idx(0x0803, &[1, 2, 2], &[0; 4]),
            "t10k-labels-idx1-ubyte",
            idx(0x0801, &[2], &[0, 1]),
        ),
        (
            "t10k-images-idx3-ubyte",
            idx(0x0803, &[u32::MAX; 3], &[0; 4]),
            "t10k-labels-idx1-ubyte",
            idx(0x0801, &[2], &[0, 1]),
        ),
        ("test_batch.bin", vec![1; 3000], "readme", vec![]),
    ];
    for (first, first_bytes, second, second_bytes) in cases {
        let dir = folder();
        write(dir.path(), first, &first_bytes);
        write(dir.path(), second, &second_bytes);
        let error = load(dir.path(), Split::Test).expect_err("damaged");
        assert!(matches!(error, DataError::Malformed { .. }), "{error}");
    }
    let empty = load(folder().path(), Split::Test).expect_err("nothing there");
    assert!(matches!(empty, DataError::Unknown { .. }), "{empty}");
}

#[test]
fn an_epoch_is_a_permutation_that_its_numbers_decide() {
    let order = |seed, epoch| -> Vec<usize> {
        let e = Epoch::new(1000, seed, epoch);
        (0..1000).map(|i| e.index(i)).collect()
    };
    let mut sorted = order(1, 0);
    sorted.sort_unstable();
    assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
    assert_eq!(order(1, 0), order(1, 0));
    assert_ne!(order(1, 0), order(1, 1));
    assert_ne!(order(1, 0), order(2, 0));
}

#[test]
fn augmentation_only_shifts_and_mirrors() {
    let mut set = random(64, [8, 8, 3], 5);
    for mirrors in [true, false] {
        set.mirrors = mirrors;
        let mut seen_mirrored = false;
        for index in 0..64 {
            let mut out = vec![0; set.image_len()];
            set.fill(&[index], Some(Augment { seed: 3, epoch: 2 }), &mut out);
            let pixel = |image: &[u8], y: i64, x: i64| -> [u8; 3] {
                if !(0..8).contains(&y) || !(0..8).contains(&x) {
                    return [0; 3];
                }
                let at = ((y * 8 + x) * 3) as usize;
                [image[at], image[at + 1], image[at + 2]]
            };
            let source = &set.images[index * 192..(index + 1) * 192];
            let matches = |dy: i64, dx: i64, flip: bool| {
                (0..8).all(|y| {
                    (0..8).all(|x| {
                        let tx = if flip { 7 - x } else { x };
                        pixel(&out, y, tx) == pixel(source, y + dy, x + dx)
                    })
                })
            };
            let found = (-4..=4).flat_map(|dy| (-4..=4).map(move |dx| (dy, dx)));
            let kinds: Vec<bool> = [false, true]
                .into_iter()
                .filter(|&flip| found.clone().any(|(dy, dx)| matches(dy, dx, flip)))
                .collect();
            assert!(!kinds.is_empty(), "image {index} is no shift of its source");
            seen_mirrored |= kinds == [true];
        }
        assert_eq!(seen_mirrored, mirrors);
    }
}
