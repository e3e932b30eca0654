use std::fs;

use sha2::{Digest as _, Sha256};

use super::*;

fn write(root: &Path, names: &[&str]) {
    for name in names {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"x").unwrap();
    }
}

const IDX: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

#[test]
fn each_format_is_known_by_its_files_at_any_depth_on_disk_and_in_a_tar() {
    let ten = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"];
    let bin: Vec<String> = ten.iter().map(|n| format!("cifar-10-batches-bin/{n}.bin")).collect();
    let png: Vec<String> = ten.iter().map(|n| format!("package/{n}.png")).collect();
    let mut png: Vec<&str> = png.iter().map(String::as_str).collect();
    png.extend(["package/train_lables.json", "package/test_lables.json", "package/package.json"]);
    let idx: Vec<String> = IDX.iter().map(|n| format!("package/data/{n}")).collect();
    let cases: [(Vec<&str>, &str, usize); 5] = [
        (bin.iter().map(String::as_str).collect(), "cifar10-binary", 6),
        (vec!["a/train.bin", "a/test.bin"], "cifar100-binary", 2),
        (png, "cifar10-png-strips", 8),
        (idx.iter().map(String::as_str).collect(), "idx", 4),
        (vec!["train/cat/1.png", "train/dog/1.jpg", "test/cat/2.png"], "image-folder", 3),
    ];
    for (files, format, entries) in cases {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &files);
        let found = Source::open(dir.path()).unwrap();
        assert_eq!((found.format().word(), found.entries().len()), (format, entries));
        assert!(found.entries().is_sorted_by(|a, b| a.name < b.name));

        let mut builder = tar::Builder::new(Vec::new());
        builder.append_dir_all("x", dir.path()).unwrap();
        let archive = dir.path().join("archive");
        fs::write(&archive, builder.into_inner().unwrap()).unwrap();
        let inside = Source::open(&archive).unwrap();
        assert_eq!(inside.format().word(), format);
        let names = |source: &Source| source.entries().iter().map(|e| e.name.clone()).collect::<Vec<_>>();
        assert_eq!((names(&inside), inside.classes()), (names(&found), found.classes()));
    }
}

#[test]
fn what_is_incomplete_ambiguous_or_unknown_is_refused() {
    let of = |files: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), files);
        Source::open(dir.path()).unwrap_err()
    };
    assert!(of(&["data_batch_1.bin", "test_batch.bin"]).to_string().contains("lacks data_batch_2.bin"));
    assert!(of(&IDX[..3]).to_string().contains("lacks t10k-labels-idx1-ubyte"));
    let several = of(&["a/train.bin", "a/test.bin", "b/train.bin", "b/test.bin"]).to_string();
    assert!(several.contains("several") && several.contains("in b/"), "{several}");
    assert!(of(&["notes.txt"]).to_string().contains("no dataset"));
    assert!(of(&[]).hint().unwrap().contains("IDX"));
    assert!(of(&["val/a/x.png", "valid/a/x.png"]).to_string().contains("several folders"));
    let dir = tempfile::tempdir().unwrap();
    let zip = dir.path().join("a.zip");
    fs::write(&zip, b"PK").unwrap();
    assert!(Source::open(&zip).unwrap_err().to_string().contains("neither"));
}

#[test]
fn splits_and_classes_of_image_folders_come_from_the_folders() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[
            "train/dog/b.png",
            "train/dog/a.JPG",
            "train/cat/x.png",
            "val/cat/y.jpeg",
            "train/cat/notes.txt",
            ".git/x/a.png",
        ],
    );
    let found = Source::open(dir.path()).unwrap();
    assert_eq!(found.classes(), ["cat", "dog"]);
    let parts: Vec<_> = found.parts().iter().map(|p| (p.split.name(), p.folders.join(","))).collect();
    assert_eq!(parts, [("train", "train".into()), ("validation", "val".into())]);
    assert!(found.notes()[0].contains("1 files") && found.notes()[1].contains("jobs cannot"));
}

#[test]
fn one_level_of_classes_or_of_images_is_a_dataset_where_nothing_else_is() {
    let of = |files: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), files);
        Source::open(dir.path())
    };
    let names = |source: &Source| source.entries().iter().map(|e| e.name.clone()).collect::<Vec<_>>();
    let classes =
        of(&["pets/dog/a.webp", "pets/cat/b.BMP", "pets/cat/.DS_Store", "pets/cat/old/c.png", "pets/x.txt"])
            .unwrap();
    assert_eq!(
        (names(&classes), classes.classes().join(",")),
        (vec!["cat/b.BMP".into(), "dog/a.webp".into()], "cat,dog".into())
    );
    assert_eq!(classes.parts(), [Part { split: Split::Train, folders: vec![] }]);
    let notes = classes.notes().join("; ");
    for part in ["1 files that are no", "1 hidden", "1 folders inside class folders"] {
        assert!(notes.contains(part), "{notes}");
    }
    let plain = of(&["a/photos/1.jpg", "a/photos/2.jpg"]).unwrap();
    assert_eq!((names(&plain), plain.classes().len()), (vec!["1.jpg".into(), "2.jpg".into()], 0));
    assert!(plain.notes().join("").contains("2 images have no class"));
    // A picture beside a real dataset is none.
    let real = of(&["logo.png", "deep/train/cat/1.png", "deep/test/cat/2.png"]).unwrap();
    assert_eq!((real.parts().len(), real.entries().len()), (2, 2));
    let split = of(&["train/1.png", "test/2.png"]).unwrap();
    assert_eq!((split.parts().len(), split.classes().len()), (2, 0));
    let mixed = of(&["train/cat/1.png", "train/2.png"]).unwrap_err().to_string();
    assert!(mixed.contains("1 images outside of class folders beside 1 classes"), "{mixed}");
}

#[test]
fn idx_files_keep_their_proper_names_dotted_or_compressed() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &IDX.map(|name| name.replace("-idx", ".idx")).each_ref().map(String::as_str));
    let names = |source: Source| source.entries().iter().map(|e| e.name.clone()).collect::<Vec<_>>();
    let mut wanted = IDX.map(str::to_owned);
    wanted.sort();
    assert_eq!(names(Source::open(dir.path()).unwrap()), wanted);
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &IDX.map(|name| format!("{name}.gz")).each_ref().map(String::as_str));
    assert_eq!(names(Source::open(dir.path()).unwrap()), wanted.map(|name| format!("{name}.gz")));
}

#[test]
fn the_same_files_make_the_same_bytes_as_ever() {
    let images: Vec<u8> = [0x803u32, 2, 2, 3].into_iter().flat_map(u32::to_be_bytes).chain(0..12).collect();
    let labels: Vec<u8> = [0x801u32, 2].into_iter().flat_map(u32::to_be_bytes).chain([0, 4]).collect();
    let folder: [(&str, &[u8]); 4] = [
        ("train/dog/b.png", b"dog b"),
        ("train/cat/a.JPG", b"cat a"),
        ("val/cat/y.jpeg", &[b'y'; 700]),
        ("train/cat/notes.txt", b"n"),
    ];
    let dotted = IDX.map(|name| name.replace("-idx", ".idx"));
    let digits = dotted.each_ref().map(|name| {
        (name.as_str(), if name.contains("images") { images.as_slice() } else { labels.as_slice() })
    });
    for (files, wanted) in [
        (folder, "4bc528e61bc760e391c4da6006ac5327ded01c008a55c85aa966b8cd2f49e7a2"),
        (digits, "7bbacaa2e0a7339fd03ab4ec379088998db79ab5df7e885c761662efff9c2543"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
            builder.append_path_with_name(&path, format!("deep/{name}")).unwrap();
        }
        let archive = tempfile::NamedTempFile::new().unwrap();
        fs::write(archive.path(), builder.into_inner().unwrap()).unwrap();
        for path in [dir.path(), archive.path()] {
            let source = Source::open(path).unwrap();
            let layout = crate::pack::Layout::new(source.entries().to_vec()).unwrap();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut layout.reader(0), &mut bytes).unwrap();
            let digest = Sha256::digest(&bytes);
            let hex = digest.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
            assert_eq!(hex, wanted, "{}", path.display());
        }
    }
}
