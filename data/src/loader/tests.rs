use super::*;
use crate::dataset::random;
use crate::order::Epoch;

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
