use std::fs;

use super::*;
use crate::contents::Contents;

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    fs::write(folder.join(name), bytes).expect("a temporary folder is writable");
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// CIFAR-10 whose every file holds the record so many times.
fn cifar10(folder: &Path, record: &[u8], times: usize) {
    for n in 1..=5 {
        write(folder, &format!("data_batch_{n}.bin"), record);
    }
    write(folder, "test_batch.bin", &record.repeat(times));
}

#[test]
fn cifar_planes_become_interleaved_pixels() {
    let dir = folder();
    let mut record = vec![7u8];
    for plane in 0..3u8 {
        record.extend((0..1024).map(|p| (p % 50) as u8 + 60 * plane));
    }
    cifar10(dir.path(), &record, 2);
    let train = load(dir.path(), Split::Train).expect("a sound dataset");
    assert_eq!((train.len(), train.labels[4], train.classes[7].as_str()), (5, 7, "horse"));
    assert_eq!(train.images[3 * 33..3 * 34], [33, 93, 153]);
    assert_eq!(load(dir.path(), Split::Test).expect("a sound dataset").len(), 2);
    let none = load(dir.path(), Split::Validation).expect_err("no such split");
    assert!(none.to_string().contains("train and test"), "{none}");
}

#[test]
fn of_cifar_100_the_fine_label_and_its_names_count() {
    let dir = folder();
    let record = [&[9, 42][..], &[1; 3072]].concat();
    write(dir.path(), "train.bin", &record);
    write(dir.path(), "test.bin", &record);
    write(dir.path(), "fine_label_names.txt", b"apple\nbaby\n\n");
    let test = load(dir.path(), Split::Test).expect("a sound dataset");
    assert_eq!(
        (test.labels.as_slice(), test.classes.as_slice()),
        ([42].as_slice(), ["apple".into(), "baby".into()].as_slice())
    );
}

fn strip(pixels: &[u8], rows: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 1024, rows);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().and_then(|mut w| w.write_image_data(pixels)).expect("an encodable image");
    bytes
}

/// PNG strips of two images a file.
fn strips(folder: &Path, pixels: &[u8], test_labels: &[u8]) {
    let bytes = strip(pixels, 2);
    for n in 1..=5 {
        write(folder, &format!("data_batch_{n}.png"), &bytes);
    }
    write(folder, "test_batch.png", &bytes);
    write(folder, "train_lables.json", b"[0,1,2,3,4,5,6,7,8,9]");
    write(folder, "test_lables.json", test_labels);
}

#[test]
fn png_strips_hold_one_image_a_row() {
    let dir = folder();
    let pixels: Vec<u8> = (0..2 * 3072).map(|i| (i % 251) as u8).collect();
    strips(dir.path(), &pixels, b"[3,9]");
    let test = load(dir.path(), Split::Test).expect("a sound dataset");
    assert_eq!((test.images.as_slice(), test.labels.as_slice()), (pixels.as_slice(), [3, 9].as_slice()));
    let train = load(dir.path(), Split::Train).expect("a sound dataset");
    assert_eq!((train.len(), train.labels[9]), (10, 9));
    for labels in [&b"[3]"[..], b"[3,9,1]", b"[3,10]", b"[3,"] {
        strips(dir.path(), &pixels, labels);
        let error = load(dir.path(), Split::Test).expect_err("labels that do not fit");
        assert!(matches!(error, DataError::Malformed { .. }), "{error}");
    }
}

fn idx(magic: u32, extents: &[u32], data: &[u8]) -> Vec<u8> {
    let head = std::iter::once(magic).chain(extents.iter().copied()).flat_map(u32::to_be_bytes);
    head.chain(data.iter().copied()).collect()
}

/// Both splits' files.
fn digits(folder: &Path, images: &[u8], labels: &[u8]) {
    for prefix in ["train", "t10k"] {
        write(folder, &format!("{prefix}-images-idx3-ubyte"), images);
        write(folder, &format!("{prefix}-labels-idx1-ubyte"), labels);
    }
}

#[test]
fn idx_files_load_from_folders_and_archives_and_compressed() {
    let dir = folder();
    let images = idx(0x0803, &[2, 2, 3], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    digits(dir.path(), &images, &idx(0x0801, &[2], &[0, 4]));
    let plain = load(dir.path(), Split::Test).expect("a sound dataset");
    assert_eq!((plain.height, plain.width, plain.channels, plain.labels.clone()), (2, 3, 1, vec![0, 4]));
    assert_eq!((plain.mirrors, plain.classes.join("")), (false, "01234".into()));

    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all("package/data", dir.path()).expect("appendable");
    let tar = builder.into_inner().expect("finishable");
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, bytes).and_then(|()| encoder.finish()).expect("packable")
    };
    let other = folder();
    for (name, bytes) in [("digits", tar.clone()), ("digits.tgz", gzip(&tar))] {
        write(other.path(), name, &bytes);
        assert_eq!(load(&other.path().join(name), Split::Test).expect("a sound archive"), plain);
    }

    let packed = folder();
    for entry in fs::read_dir(dir.path()).expect("listable") {
        let path = entry.expect("readable").path();
        let name = format!("{}.gz", path.file_name().and_then(|n| n.to_str()).expect("a name"));
        write(packed.path(), &name, &gzip(&fs::read(&path).expect("readable")));
    }
    assert_eq!(load(packed.path(), Split::Test).expect("sound files"), plain);
}

#[test]
fn damaged_files_are_refused_by_name() {
    let labels = idx(0x0801, &[2], &[0, 1]);
    for images in [
        idx(0x0803, &[2, 2, 2], &[0; 7]),
        idx(0x0803, &[2, 2, 2], &[0; 9]),
        idx(0x0803, &[1, 2, 2], &[0; 4]),
        idx(0x0803, &[u32::MAX; 3], &[0; 4]),
        idx(0x0803, &[2, 0, 2], &[]),
        idx(0x0801, &[2], &[0, 1]),
        vec![0; 3],
    ] {
        let dir = folder();
        digits(dir.path(), &images, &labels);
        let error = load(dir.path(), Split::Test).expect_err("damaged");
        assert!(matches!(&error, DataError::Malformed { file, .. } if file.contains("t10k")), "{error}");
    }
    for record in [vec![1; 3000], [&[10][..], &[0; 3072]].concat(), vec![]] {
        let dir = folder();
        cifar10(dir.path(), &record, 1);
        let error = load(dir.path(), Split::Test).expect_err("damaged");
        assert!(
            matches!(&error, DataError::Malformed { file, .. } if file.contains("test_batch")),
            "{error}"
        );
    }
    let empty = load(folder().path(), Split::Test).expect_err("nothing there");
    assert!(matches!(empty, DataError::Unknown { .. }), "{empty}");
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

#[test]
fn a_limited_set_is_the_images_of_the_sample_and_an_unlimited_one_is_itself() {
    let mut set = random(100, [2, 2, 3], 9);
    set.labels = (0..100).collect();
    let chosen = order::sample(100, 10, 4);
    let limited = set.sample(Some(10), 4);
    assert_eq!(limited.labels, chosen.iter().map(|&i| i as u32).collect::<Vec<_>>());
    for (at, &index) in chosen.iter().enumerate() {
        assert_eq!(limited.images[at * 12..(at + 1) * 12], set.images[index * 12..(index + 1) * 12]);
    }
    for limit in [None, Some(100), Some(101)] {
        assert!(matches!(set.sample(limit, 4), Cow::Borrowed(same) if *same == set));
    }
}

#[test]
fn contents_are_what_would_be_loaded() {
    let dir = folder();
    digits(dir.path(), &idx(0x0803, &[2, 2, 3], &[5; 12]), &idx(0x0801, &[2], &[0, 4]));
    let contents = Contents::of(&Source::open(dir.path()).expect("found")).expect("sound");
    let test = contents.split(Split::Test).expect("there");
    assert_eq!((test.images, test.shape, test.highest_label), (2, Some([2, 3, 1]), Some(4)));
    assert!(contents.uniform && contents.split(Split::Validation).is_none());
    digits(dir.path(), &idx(0x0803, &[0, 2, 3], &[]), &idx(0x0801, &[0], &[]));
    let contents = Contents::of(&Source::open(dir.path()).expect("found")).expect("sound");
    let test = contents.split(Split::Test).expect("there");
    assert_eq!((test.images, test.shape, test.highest_label), (0, Some([2, 3, 1]), None));
    let folder = folder();
    for name in ["train/a", "train/b", "test/b"] {
        fs::create_dir_all(folder.path().join(name)).expect("made");
        write(folder.path(), &format!("{name}/x.png"), b"");
    }
    let contents = Contents::of(&Source::open(folder.path()).expect("found")).expect("sound");
    let train = contents.split(Split::Train).expect("there");
    assert_eq!((train.images, train.shape, train.highest_label), (2, None, Some(1)));
    assert!(!contents.uniform);
    assert_eq!(contents.broken.count, 3);
    assert!(contents.broken.first[0].contains("x.png: is no PNG"), "{:?}", contents.broken);
}
