use std::fs;
use std::path::Path;

use super::*;
use crate::dataset::random;
use crate::order::Epoch;
use crate::preprocess::{Color, Preprocess, Training};

fn numbered(count: usize) -> Dataset {
    let mut set = random(count, [8, 6, 3], 7);
    set.labels = (0..count as u32).collect();
    set
}

/// An epoch's batches.
fn order(count: usize, size: usize) -> Vec<Vec<usize>> {
    let epoch = Epoch::new(count, 3, 1);
    (0..count).map(|at| epoch.index(at)).collect::<Vec<_>>().chunks(size).map(<[_]>::to_vec).collect()
}

#[test]
fn batches_are_the_same_for_every_number_of_threads_and_as_the_dataset_fills_them() {
    let set = numbered(50);
    let loader = Loader::in_memory(set.clone());
    for augment in [None, Some(Augment { seed: 5, epoch: 2 })] {
        let batches = |threads| -> Vec<Batch> {
            loader.batches(order(50, 8), augment, threads).map(|batch| batch.unwrap()).collect()
        };
        let wanted = batches(0);
        for threads in [1, 2, 7] {
            assert_eq!(batches(threads), wanted);
        }
        for (batch, indices) in wanted.iter().zip(order(50, 8)) {
            let mut pixels = vec![0; indices.len() * set.image_len()];
            set.fill(&indices, augment, &mut pixels);
            assert_eq!((&batch.pixels, &batch.indices), (&pixels, &indices));
            assert_eq!(batch.labels, indices.iter().map(|&i| Some(i as u32)).collect::<Vec<_>>());
        }
    }
}

#[test]
fn only_a_few_batches_are_made_ahead() {
    let loader = Loader::in_memory(numbered(10));
    let asked = std::cell::Cell::new(0);
    let order = (0..1000).map(|n| {
        asked.set(asked.get() + 1);
        vec![n % 10]
    });
    let mut batches = loader.batches(order, None, 3);
    for taken in 1..100 {
        batches.next().unwrap().unwrap();
        assert!(asked.get() <= taken + 6, "{} after {taken}", asked.get());
    }
}

#[test]
fn an_image_that_is_not_there_is_an_error_and_the_end() {
    let loader = Loader::in_memory(numbered(4));
    for threads in [0, 2] {
        let mut batches = loader.batches([vec![0], vec![4], vec![1]], None, threads);
        assert!(batches.next().unwrap().is_ok());
        assert!(batches.next().unwrap().unwrap_err().to_string().contains("no image 4; they are 4"));
        assert!(batches.next().is_none());
    }
}

#[test]
fn samples_and_digests_are_those_of_the_dataset() {
    let set = numbered(40);
    let loader = Loader::in_memory(set.clone());
    let sample = loader.sample(Some(9), 3);
    assert_eq!((0..9).map(|i| sample.label(i)).collect::<Vec<_>>(), {
        order::sample(40, 9, 3).iter().map(|&i| Some(i as u32)).collect::<Vec<_>>()
    });
    assert_eq!(sample.sha256(&loader).unwrap(), set.sample(Some(9), 3).sha256(&set));
    assert_eq!(loader.sample(None, 3).len(), 40);
    assert_eq!((loader.shape(), loader.highest_label()), ([8, 6, 3], Some(39)));
}

fn picture(path: &Path, [height, width]: [u32; 2], value: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), width, height);
    encoder.set_color(png::ColorType::Rgb);
    let pixels: Vec<u8> = (0..height * width * 3).map(|at| (at * 7) as u8 ^ value).collect();
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
}

/// Three classes of pictures of many sizes, 40 of each.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (label, class) in ["ant", "bee", "cow"].into_iter().enumerate() {
        for number in 0..40u32 {
            let size = [10 + number % 7, 9 + number % 11];
            picture(
                &dir.path().join(format!("{class}/{number:02}.png")),
                size,
                (label * 40) as u8 + number as u8,
            );
        }
    }
    dir
}

fn reading() -> Reading {
    Reading { preprocess: Some(Preprocess::centered(10, 8, Color::Rgb)), ..Reading::default() }
}

fn all(loader: &Loader, augment: Option<Augment>, threads: usize) -> Vec<Batch> {
    loader.batches(order(loader.len(), 16), augment, threads).map(|batch| batch.unwrap()).collect()
}

#[test]
fn files_are_decoded_to_the_same_batches_by_every_number_of_threads_from_disk_and_from_a_tar() {
    let dir = folder();
    let source = Source::open(dir.path()).unwrap();
    let packed = tempfile::NamedTempFile::new().unwrap();
    let layout = crate::pack::Layout::new(source.entries().to_vec()).unwrap();
    std::io::copy(&mut layout.reader(0), &mut packed.as_file()).unwrap();
    let tar = Source::in_tar(packed.path(), source.format()).unwrap();
    for training in [Training::PadAndCrop, Training::RANDOM_RESIZED_CROP, Training::Flip, Training::Plain] {
        let mut reading = reading();
        reading.preprocess.as_mut().unwrap().training = training;
        let loader = Loader::open(&source, Split::Train, &reading).unwrap();
        assert_eq!((loader.len(), loader.shape(), loader.highest_label()), (120, [8, 8, 3], Some(2)));
        let augment = Some(Augment { seed: 4, epoch: 1 });
        let (plain, varied) = (all(&loader, None, 0), all(&loader, augment, 0));
        for threads in [1, 3] {
            assert!(all(&loader, None, threads) == plain && all(&loader, augment, threads) == varied);
        }
        assert_eq!(plain == varied, training == Training::Plain, "{training:?}");
        assert!(
            all(&loader, Some(Augment { seed: 4, epoch: 2 }), 2) != varied || training == Training::Plain
        );
        let inside = Loader::open(&tar, Split::Train, &reading).unwrap();
        assert!(all(&inside, augment, 2) == varied);
        assert_eq!(inside.sha256(&inside).unwrap(), loader.sha256(&loader).unwrap());
        for batch in &plain {
            for (&index, label) in batch.indices.iter().zip(&batch.labels) {
                assert_eq!(*label, Some(index as u32 / 40));
            }
        }
    }
}

#[test]
fn pictures_without_a_preprocessing_must_be_of_one_size() {
    let dir = folder();
    let refusal =
        Loader::open(&Source::open(dir.path()).unwrap(), Split::Train, &Reading::default()).unwrap_err();
    assert!(refusal.to_string().contains("differ in size") && refusal.hint().is_some(), "{refusal}");
    let dir = tempfile::tempdir().unwrap();
    for (name, value) in [("a/1.png", 1), ("b/1.png", 2)] {
        picture(&dir.path().join(name), [5, 4], value);
    }
    let loader = Loader::open(&Source::open(dir.path()).unwrap(), Split::Train, &Reading::default()).unwrap();
    let batch = loader.batch(&[1, 0], None).unwrap();
    assert_eq!((loader.shape(), batch.labels), ([5, 4, 3], vec![Some(1), Some(0)]));
    assert_eq!(batch.pixels[..3], [2, 5, 12]);
}

#[test]
fn sets_in_memory_can_be_preprocessed_too() {
    let set = numbered(6);
    let mut store = Store::of_memory(set.clone());
    let preprocess = Preprocess::centered(8, 4, Color::Gray);
    store.settle(Some(preprocess.clone())).unwrap();
    let loader = Loader::of(store, None, 0.0);
    let batch = loader.batch(&[3], None).unwrap();
    assert_eq!(
        (loader.shape(), *batch.pixels == *preprocess.apply(set.picture(3)).unwrap().pixels),
        ([4, 4, 1], true)
    );
    assert_eq!(loader.sample(Some(2), 1).len(), 2);
}

#[test]
fn what_is_held_out_is_of_every_class_and_never_trained_on() {
    let dir = folder();
    let source = Source::open(dir.path()).unwrap();
    let reading = Reading { validation: Some(0.1), ..reading() };
    let open = |split| Loader::open(&source, split, &reading).unwrap();
    let (train, held) = (open(Split::Train), open(Split::Validation));
    assert_eq!((train.len(), held.len()), (108, 12));
    for class in 0..3 {
        assert_eq!((0..12).filter(|&i| held.label(i) == Some(class)).count(), 4);
    }
    let mut names: Vec<_> = (0..108).map(|i| train.name(i)).chain((0..12).map(|i| held.name(i))).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 120);
    assert_eq!(reading.evaluation(&source).unwrap(), Split::Validation);
    assert!(Reading::default().evaluation(&source).unwrap_err().hint().unwrap().contains("--validation"));
    assert!(Loader::open(&source, Split::Test, &reading).is_err());
    picture(&dir.path().join("set/val/ant/1.png"), [9, 9], 1);
    picture(&dir.path().join("set/train/ant/1.png"), [9, 9], 1);
    let own = Source::open(&dir.path().join("set")).unwrap();
    assert!(Loader::open(&own, Split::Train, &reading).unwrap_err().to_string().contains("of its own"));
    for share in [0.0, -1.0, 0.6, f64::NAN] {
        assert!(Reading { validation: Some(share), ..Reading::default() }.check().is_err());
    }
}

#[test]
fn broken_images_are_left_out_up_to_a_share_and_named() {
    let dir = folder();
    for name in ["ant/03.png", "cow/39.png"] {
        let path = dir.path().join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    }
    let source = Source::open(dir.path()).unwrap();
    let open =
        |skip_broken| Loader::open(&source, Split::Train, &Reading { skip_broken, ..reading() }).unwrap();
    let loader = open(0.02);
    let batches = all(&loader, None, 2);
    assert_eq!(batches, all(&loader, None, 0));
    assert_eq!(batches.iter().map(|batch| batch.indices.len()).sum::<usize>(), 118);
    assert!(
        batches
            .iter()
            .all(|batch| !batch.indices.contains(&3) && batch.pixels.len() == batch.indices.len() * 192)
    );
    let broken = loader.broken();
    assert_eq!(broken.count, 2);
    assert!(broken.first[0].contains("03.png") && broken.first[1].contains("39.png"), "{broken:?}");
    let strict = open(0.01);
    let error = strict.batches(order(120, 16), None, 2).find_map(Result::err).unwrap().to_string();
    assert!(error.contains("2 of 120") && error.contains("03.png") && error.contains("1 may"), "{error}");
    // A file that is gone is not a broken image.
    fs::remove_file(dir.path().join("bee/00.png")).unwrap();
    assert!(matches!(open(1.0).batch(&[40], None), Err(DataError::Io { .. })));
}

#[test]
fn classes_are_matched_with_outputs_by_name_or_refused() {
    let dir = folder();
    let source = Source::open(dir.path()).unwrap();
    let names = |text: &str| Outputs::names_in(text).unwrap();
    let wanted = ["cow", "dog", "ant", "bee"];
    for text in
        ["cow\ndog\n ant\nbee\n\n", r#"["cow","dog","ant","bee"]"#, r#"{"ant":2,"bee":3,"cow":0,"dog":1}"#]
    {
        assert_eq!(names(text), wanted);
    }
    for text in ["", "[1]", "{\"a\":1}", "{\"a\":0,\"b\":0}", "[\"a\"", "[]"] {
        assert!(Outputs::names_in(text).is_err(), "{text}");
    }
    let outputs = Outputs::matching(source.classes(), &names("cow\ndog\nant\nbee")).unwrap();
    assert_eq!((outputs.of_labels(), outputs.without_class()), (&[2, 3, 0][..], vec!["dog"]));
    let loader =
        Loader::open(&source, Split::Train, &Reading { outputs: Some(outputs), ..reading() }).unwrap();
    assert_eq!((loader.label(0), loader.label(119), loader.highest_label()), (Some(2), Some(0), Some(3)));
    assert_eq!(loader.classes(), wanted);
    let refusal = Outputs::matching(source.classes(), &names("cow\nAnt\nbee")).unwrap_err().to_string();
    assert!(refusal.contains("no output is named 'ant'") && refusal.contains("'Ant'"), "{refusal}");
    assert!(Outputs::matching(source.classes(), &names("ant\nant")).is_err());
    assert!(Outputs::matching(&[], &names("ant")).is_err());
}

#[test]
fn pictures_without_classes_have_no_labels() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..5 {
        picture(&dir.path().join(format!("{number}.png")), [12, 12], number);
    }
    let loader = Loader::open(&Source::open(dir.path()).unwrap(), Split::Train, &reading()).unwrap();
    assert_eq!((loader.len(), loader.label(0), loader.highest_label()), (5, None, None));
    assert_eq!(loader.batch(&[4, 0], None).unwrap().labels, [None, None]);
}
