use std::io::{Cursor, Write as _};
use std::path::Path;

use zip::write::SimpleFileOptions;

use crate::dataset::{Dataset, load};
use crate::source::Source;
use crate::split::Split;

/// An array as numpy.save writes it.
fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let padded = format!("{header:<117}\n");
    let length = (padded.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], padded.as_bytes(), data].concat()
}

fn npz(path: &Path, arrays: &[(&str, Vec<u8>)]) {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in arrays {
        zip.start_file(format!("{name}.npy"), SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    std::fs::write(path, zip.finish().unwrap().into_inner()).unwrap();
}

/// (name, type, shape, data), one behind the other.
fn safetensors(path: &Path, arrays: &[(&str, &str, &[usize], Vec<u8>)]) {
    let mut at = 0;
    let mut header = serde_json::Map::new();
    for (name, dtype, shape, data) in arrays {
        let offsets = [at, at + data.len()];
        header.insert(
            (*name).into(),
            serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}),
        );
        at += data.len();
    }
    let text = serde_json::to_vec(&header).unwrap();
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text);
    for (_, _, _, data) in arrays {
        bytes.extend(data);
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn images_and_labels_are_read_by_their_names_from_both_kinds_of_file() {
    let dir = tempfile::tempdir().unwrap();
    let pixels: Vec<u8> = (0..24).collect();
    let labels = [1i64, 0].iter().flat_map(|label| label.to_le_bytes()).collect::<Vec<u8>>();
    let packed = dir.path().join("a/set.npz");
    std::fs::create_dir_all(packed.parent().unwrap()).unwrap();
    npz(
        &packed,
        &[
            ("x_train", npy("|u1", "(2, 2, 2, 3)", &pixels)),
            ("y_train", npy("<i8", "(2,)", &labels)),
            ("x_test", npy("|u1", "(2, 3, 4)", &pixels)),
            ("y_test", npy("|u1", "(2, 1)", &[7, 9])),
        ],
    );
    let flat = dir.path().join("b/set.safetensors");
    std::fs::create_dir_all(flat.parent().unwrap()).unwrap();
    safetensors(
        &flat,
        &[
            ("train_labels", "I64", &[2], labels),
            ("train_images", "U8", &[2, 2, 2, 3], pixels.clone()),
            ("test_images", "U8", &[2, 3, 4], pixels.clone()),
            ("test_labels", "U8", &[2, 1], vec![7, 9]),
        ],
    );
    for (path, word) in [(&packed, "npz"), (&flat, "safetensors")] {
        let train = load(path.parent().unwrap(), Split::Train).unwrap();
        assert_eq!((train.height, train.width, train.channels, &train.labels[..]), (2, 2, 3, &[1, 0][..]));
        assert!(train.images == pixels && !train.mirrors);
        // The file itself can be named, too, and what is packed of it is found again.
        let source = Source::open(path).unwrap();
        assert_eq!((source.format().word(), source.parts().len()), (word, 2));
        let tar = tempfile::NamedTempFile::new().unwrap();
        let layout = crate::pack::Layout::new(source.entries().to_vec()).unwrap();
        std::io::copy(&mut layout.reader(0), &mut tar.as_file()).unwrap();
        let test = Dataset::load(&Source::in_tar(tar.path(), source.format()).unwrap(), Split::Test).unwrap();
        assert_eq!((test.height, test.width, test.channels, &test.labels[..]), (3, 4, 1, &[7, 9][..]));
    }
}

#[test]
fn a_series_is_an_image_of_one_row() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("set.npz");
    for (shape, expected) in
        [("(2, 60)", [1, 60, 1]), ("(2, 1, 20, 3)", [1, 20, 3]), ("(2, 1, 80, 6)", [1, 80, 6])]
    {
        let pixels: Vec<u8> = (0..2 * expected.iter().product::<usize>()).map(|i| i as u8).collect();
        npz(&path, &[("x_train", npy("|u1", shape, &pixels)), ("y_train", npy("|u1", "(2,)", &[0, 1]))]);
        let set = load(dir.path(), Split::Train).unwrap();
        assert_eq!([set.height, set.width, set.channels], expected);
        assert!(set.images == pixels && set.len() == 2);
    }
}

#[test]
fn arrays_that_do_not_fit_are_refused_with_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("set.npz");
    let labels = || npy("|u1", "(2,)", &[0, 1]);
    let images = || npy("|u1", "(2, 2, 2)", &[0; 8]);
    for (x, y, word) in [
        (npy("<f4", "(2, 2, 2)", &[0; 32]), labels(), "f4"),
        (npy("<u2", "(2, 2, 2)", &[0; 16]), labels(), "uint8"),
        (npy("|u1", "(2, 3, 8, 8)", &[0; 384]), labels(), "channels come last"),
        (npy("|u1", "(2, 1, 8, 8)", &[0; 128]), labels(), "channels come last"),
        (npy("|u1", "(2,)", &[0; 2]), labels(), "series N × L"),
        (npy("|u1", "(3, 2, 2)", &[0; 12]), labels(), "3 images for 2 labels"),
        (npy("|u1", "(2, 2, 2)", &[0; 7]), labels(), "ends before its image 1"),
        (npy("|u1", "(2, 0, 2)", &[]), labels(), "bytes are read"),
        (npy("|u1", "(2, 99999999, 99999999)", &[]), labels(), "bytes are read"),
        (npy("|u1", "(2, 9999999999, 9999999999)", &[]), labels(), "too large"),
        (images(), npy("|i1", "(2,)", &[0, 255]), "label 1"),
        (images(), npy("<i8", "(2,)", &[255; 16]), "label 0"),
        (images(), npy("<f8", "(2,)", &[0; 16]), "f8"),
        (images(), npy("|u1", "(2, 2)", &[0; 4]), "labels have N"),
        (images(), npy("|u1", "(2,)", &[0]), "ends before label 1"),
        (b"no array at all".to_vec(), labels(), "no .npy"),
    ] {
        npz(&path, &[("x_train", x), ("y_train", y)]);
        let refusal = load(dir.path(), Split::Train).map(|_| ()).unwrap_err().to_string();
        assert!(refusal.contains(word) && refusal.contains("_train"), "{word}: {refusal}");
    }
    npz(&path, &[("x_train", images())]);
    assert!(load(dir.path(), Split::Train).unwrap_err().to_string().contains("without labels"));
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(Source::open(dir.path()).unwrap_err().to_string().contains("no .npz"));
    std::fs::remove_file(&path).unwrap();
    let path = dir.path().join("set.safetensors");
    safetensors(&path, &[("x_train", "F32", &[2], vec![0; 8]), ("y_train", "U8", &[2], vec![0; 2])]);
    assert!(load(dir.path(), Split::Train).unwrap_err().to_string().contains("F32"));
    for bytes in [&b""[..], &[255; 20], &[2, 0, 0, 0, 0, 0, 0, 0, b'{', b'}', 1]] {
        std::fs::write(&path, bytes).unwrap();
        assert!(Source::open(dir.path()).unwrap_err().to_string().contains("no safetensors"));
    }
    // Weights of a network are no dataset.
    safetensors(&path, &[("conv.weight", "F32", &[2], vec![0; 8])]);
    assert!(Source::open(dir.path()).unwrap_err().to_string().contains("no dataset"));
}
