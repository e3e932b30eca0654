use super::*;
use crate::pack::Layout;
use crate::{Contents, Loader, Preprocess, Reading, Source, Split};

/// A picture's file: a PNG of one color.
fn picture(path: &Path, side: u32, color: u8) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut encoder = png::Encoder::new(std::fs::File::create(path).unwrap(), side, side);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(&vec![color; (3 * side * side) as usize]).unwrap();
}

/// A folder of two classes, and a manifest of it over itself.
fn dataset(folder: &Path) -> (Source, Manifest) {
    for (name, side, color) in [
        ("train/cat/a.png", 4, 1),
        ("train/dog/b.png", 6, 2),
        ("train/dog/c.png", 6, 3),
        ("test/cat/d.png", 5, 4),
    ] {
        picture(&folder.join(name), side, color);
    }
    std::fs::write(folder.join("train/cat/broken.png"), b"not a picture").unwrap();
    let source = Source::open(folder).unwrap();
    let mut bytes = 0;
    let manifest = Manifest::of(&source, None, &mut |n| bytes += n).unwrap();
    assert_eq!((manifest.base(), manifest.size_bytes()), (folder.to_str().unwrap(), bytes));
    (source, manifest)
}

fn written(manifest: &Manifest, path: &Path) {
    manifest.write(&mut std::fs::File::create(path).unwrap()).unwrap();
}

#[test]
fn a_manifest_tells_what_the_folder_does_and_reads_the_same_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().canonicalize().unwrap().join("photos");
    let (source, manifest) = dataset(&folder);
    let path = dir.path().join("photos.jsonl");
    written(&manifest, &path);
    let listed = Source::open(&path).unwrap();
    assert_eq!(listed.manifest(), Some(&manifest));
    assert_eq!(listed.classes(), source.classes());
    assert_eq!(listed.parts(), source.parts());
    // Nothing but the text is read for that.
    let away = dir.path().join("away");
    std::fs::rename(&folder, &away).unwrap();
    let contents = Contents::of(&listed).unwrap();
    let mut expected = Contents::of(&Source::open(&away).unwrap()).unwrap();
    assert_eq!(contents.broken.count, 1);
    expected.broken = contents.broken.clone();
    expected.base = Some(folder.to_str().unwrap().to_owned());
    assert_eq!(contents, expected);
    // In a tar, as it travels.
    let tar = dir.path().join("photos.tar");
    let layout = Layout::new(listed.packed()).unwrap();
    std::io::copy(&mut layout.reader(0), &mut std::fs::File::create(&tar).unwrap()).unwrap();
    let packed = Source::in_tar(&tar, source.format()).unwrap();
    assert_eq!(packed.manifest(), Some(&manifest));
    let reading = Reading {
        preprocess: Some(Preprocess::centered(4, 4, crate::Color::Rgb)),
        skip_broken: 0.5,
        ..Reading::default()
    };
    let unlocated = Loader::open(&packed, Split::Train, &reading).unwrap().batch(&[0], None).unwrap_err();
    assert!(unlocated.to_string().contains("has not been fetched"), "{unlocated}");
    let located = packed.located(&mut |name, _| Ok::<_, DataError>(away.join(name))).unwrap();
    let theirs = Loader::open(&Source::open(&away).unwrap(), Split::Train, &reading).unwrap();
    let ours = Loader::open(&located, Split::Train, &reading).unwrap();
    assert_eq!(ours.batch(&[0, 1, 2, 3], None).unwrap(), theirs.batch(&[0, 1, 2, 3], None).unwrap());
    // A picture that has changed since is no broken one: it is refused however many may be left out.
    picture(&away.join("train/dog/b.png"), 6, 9);
    let changed = ours.batch(&[2], None).unwrap_err();
    assert!(changed.to_string().contains("b.png") && changed.to_string().contains("changed"), "{changed}");
    assert!(changed.hint().is_some_and(|hint| hint.contains("manifest")));
}

#[test]
fn what_no_manifest_can_say_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.jsonl");
    let head = r#"{"dyadic_manifest":1,"base":"/data"}"#;
    let sha = "0".repeat(64);
    let line = |name: &str, sha: &str, shape: &str| {
        format!(r#"{head}{}{{"name":"{name}","size":1,"sha256":"{sha}","shape":{shape}}}"#, "\n")
    };
    let twice =
        format!("{}\n{}", line("a.png", &sha, "null"), line("a.png", &sha, "null").lines().last().unwrap());
    for (text, reason) in [
        (String::new(), "empty"),
        ("{}".into(), "line 1"),
        (r#"{"dyadic_manifest":2,"base":"/data"}"#.into(), "version is 2"),
        (r#"{"dyadic_manifest":1,"base":"data"}"#.into(), "no place"),
        (r#"{"dyadic_manifest":1,"base":"/data/../etc"}"#.into(), "no place"),
        (r#"{"dyadic_manifest":1,"base":"s3://"}"#.into(), "no place"),
        (line("../a.png", &sha, "null"), "line 2: '../a.png'"),
        (line("/a.png", &sha, "null"), "no plain relative path"),
        (line("a//b.png", &sha, "null"), "no plain relative path"),
        (line("a.png", "ABC", "null"), "sha256"),
        (line("a.png", &sha, "[0,1,3]"), "no picture is"),
        (line("a.png", &sha, "[1,1,4]"), "no picture is"),
        (line("a.png", &sha, "[18446744073709551615,2,3]"), "no picture is"),
        (line(&"x".repeat(9000), &sha, "null"), "longer than"),
        (twice, "line 3: its name comes twice"),
    ] {
        std::fs::write(&path, &text).unwrap();
        let error = Source::open(&path).unwrap_err().to_string();
        assert!(error.contains(reason), "{reason}: {error}");
    }
}
