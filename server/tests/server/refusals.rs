//! Jobs that a worker could only fail: refused before they are queued, with every reason at once.

use dyadic_proto::v1 as pb;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::datasets::{Digits, push, tar_of};
use crate::harness::Harness;
use crate::models;

/// A server with a LeNet of one channel, 20 × 20 pixels and 10 outputs.
async fn with_lenet() -> Harness {
    let server = Harness::start().await;
    let files = [("lenet.onnx", models::fixture("lenet_relu_script16_one.onnx"))];
    models::send(&server, models::upload("lenet", &files)).await.unwrap();
    server
}

async fn submit(server: &Harness, spec: pb::JobSpec) -> Result<pb::JobSpec, Status> {
    let spec = pb::JobSpec { model: "lenet".into(), dataset: "digits".into(), ..spec };
    let request = pb::SubmitJobRequest { spec: Some(spec), idempotency_key: String::new() };
    let reply = server.jobs().submit(request).await?.into_inner();
    Ok(reply.job.unwrap().resolved.unwrap())
}

/// The fields that a submission is refused for; the message must name each of them.
async fn fields(server: &Harness, spec: pb::JobSpec) -> Vec<String> {
    let status = submit(server, spec).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{}", status.message());
    let violations = status.get_details_bad_request().expect("details").field_violations;
    for violation in &violations {
        assert!(status.message().contains(&violation.description), "{}", status.message());
    }
    violations.into_iter().map(|violation| violation.field).collect()
}

async fn queued(server: &Harness) -> usize {
    server.jobs().list(pb::ListJobsRequest::default()).await.unwrap().into_inner().jobs.len()
}

#[tokio::test]
async fn doomed_jobs_are_refused_with_all_reasons_before_they_are_queued() {
    let server = with_lenet().await;
    let cases: [(Digits, pb::JobSpec, &[&str]); 6] = [
        (Digits { side: 28, ..Digits::GOOD }, pb::JobSpec::default(), &["dataset"]),
        (Digits { highest: 10, ..Digits::GOOD }, pb::JobSpec::default(), &["dataset"]),
        (Digits { test: 0, ..Digits::GOOD }, pb::JobSpec::default(), &["splits.eval"]),
        (Digits { train: 20, ..Digits::GOOD }, pb::JobSpec::default(), &["batch_size"]),
        (
            Digits::GOOD,
            pb::JobSpec {
                splits: Some(pb::Splits { train: String::new(), eval: "validation".into() }),
                normalization: Some(pb::Normalization { mean: vec![0.5; 3], std: vec![0.5; 3] }),
                train_limit: Some(100),
                ..pb::JobSpec::default()
            },
            &["splits.eval", "normalization", "batch_size"],
        ),
        (
            Digits { side: 28, highest: 99, train: 5, test: 0 },
            pb::JobSpec::default(),
            &["splits.eval", "dataset", "dataset", "batch_size"],
        ),
    ];
    for (digits, spec, wanted) in cases {
        push(&server, "digits", "idx", &digits.tar()).await.unwrap();
        assert_eq!(fields(&server, spec).await, wanted, "{digits:?}");
    }
    assert_eq!(queued(&server).await, 0);
    push(&server, "digits", "idx", &Digits { train: 129, ..Digits::GOOD }.tar()).await.unwrap();
    submit(&server, pb::JobSpec::default()).await.unwrap();
}

#[tokio::test]
async fn a_normalization_that_is_not_given_is_resolved_by_the_channels() {
    let server = with_lenet().await;
    push(&server, "digits", "idx", &Digits::GOOD.tar()).await.unwrap();
    let resolved = submit(&server, pb::JobSpec::default()).await.unwrap();
    let mnist = pb::Normalization { mean: vec![0.1307], std: vec![0.3081] };
    assert_eq!(resolved.normalization, Some(mnist));
}

#[tokio::test]
async fn image_folders_are_kept_and_jobs_on_broken_pictures_refused() {
    let server = with_lenet().await;
    let files = [("train/cat/1.png", &b"x"[..]), ("train/dog/1.png", b"y"), ("test/cat/2.png", b"z")];
    let reply = push(&server, "digits", "image-folder", &tar_of(&files)).await.unwrap();
    let dataset = reply.dataset.unwrap();
    let contents = dataset.contents.unwrap();
    assert_eq!((contents.broken, contents.classes), (3, vec!["cat".to_owned(), "dog".to_owned()]));
    let train = &contents.splits[0];
    assert_eq!(
        (train.name.as_str(), train.images, train.height, train.highest_label),
        ("train", 2, 0, Some(1))
    );
    assert_eq!(
        fields(&server, pb::JobSpec::default()).await,
        ["preprocess", "labels", "dataset", "batch_size"]
    );
}

/// A black picture.
fn bmp(height: u32, width: u32) -> Vec<u8> {
    let row = (width * 3).next_multiple_of(4);
    let mut file = b"BM".to_vec();
    for value in
        [54 + row * height, 0, 54, 40, width, height, 1 | 24 << 16, 0, row * height, 2835, 2835, 0, 0]
    {
        file.extend(value.to_le_bytes());
    }
    file.resize((54 + row * height) as usize, 0);
    file
}

#[tokio::test]
async fn pictures_of_any_size_are_taken_once_it_is_said_what_becomes_of_them_and_of_their_classes() {
    let server = with_lenet().await;
    let (small, wide) = (bmp(8, 8), bmp(20, 31));
    let files = [
        ("cat/1.bmp", &small[..]),
        ("cat/2.bmp", &wide[..]),
        ("dog/1.bmp", &wide[..]),
        ("dog/2.bmp", &small[..]),
    ];
    push(&server, "digits", "image-folder", &tar_of(&files)).await.unwrap();
    let whole = pb::JobSpec {
        epochs: Some(0),
        validation: Some(0.5),
        labels: vec!["dog".into(), "cow".into(), "cat".into()],
        preprocess: Some(pb::Preprocess {
            shorter_side: 22,
            crop: Some(pb::Size { height: 20, width: 20 }),
            ..pb::Preprocess::default()
        }),
        ..pb::JobSpec::default()
    };
    let resolved = submit(&server, whole.clone()).await.unwrap();
    assert_eq!(resolved.splits, Some(pb::Splits { train: "train".into(), eval: "validation".into() }));
    assert_eq!(resolved.preprocess.unwrap().color(), pb::Color::Gray, "the model has one channel");
    assert_eq!(resolved.labels, whole.labels);

    let crop = pb::Preprocess {
        crop: Some(pb::Size { height: 20, width: 24 }),
        ..whole.preprocess.clone().unwrap()
    };
    let cases: [(pb::JobSpec, &[&str]); 6] = [
        (pb::JobSpec { preprocess: None, ..whole.clone() }, &["preprocess"]),
        (pb::JobSpec { preprocess: Some(crop), ..whole.clone() }, &["preprocess"]),
        (pb::JobSpec { labels: vec![], ..whole.clone() }, &["labels"]),
        (pb::JobSpec { labels: vec!["dog".into(), "cow".into()], ..whole.clone() }, &["labels"]),
        (pb::JobSpec { validation: None, ..whole.clone() }, &["splits.eval"]),
        (pb::JobSpec { epochs: Some(1), ..whole.clone() }, &["batch_size"]),
    ];
    for (spec, wanted) in cases {
        assert_eq!(fields(&server, spec.clone()).await, wanted, "{spec:?}");
    }
}

#[tokio::test]
async fn pictures_without_labels_train_towards_the_float_model_or_not_at_all() {
    let server = with_lenet().await;
    let picture = bmp(20, 20);
    let files = [("1.bmp", &picture[..]), ("2.bmp", &picture[..]), ("3.bmp", &picture[..])];
    push(&server, "digits", "image-folder", &tar_of(&files)).await.unwrap();
    let judged_on_them = || Some(pb::Splits { train: String::new(), eval: "train".into() });
    let gray =
        pb::Preprocess { resize: Some(pb::Size { height: 20, width: 20 }), ..pb::Preprocess::default() };
    let spec = pb::JobSpec {
        splits: judged_on_them(),
        preprocess: Some(gray),
        batch_size: Some(2),
        ..pb::JobSpec::default()
    };
    assert_eq!(fields(&server, spec.clone()).await, ["loss"]);
    submit(&server, pb::JobSpec { loss: pb::Loss::Distill.into(), ..spec.clone() }).await.unwrap();
    submit(&server, pb::JobSpec { epochs: Some(0), ..spec }).await.unwrap();
}

#[tokio::test]
async fn a_dataset_that_nobody_looked_into_is_looked_into_at_submit() {
    let server = with_lenet().await;
    server.dataset("digits", Digits { side: 28, ..Digits::GOOD }.tar()).await;
    let get = || async {
        let request = pb::GetDatasetRequest { dataset: "digits".into() };
        server.datasets().get(request).await.unwrap().into_inner()
    };
    assert_eq!(get().await.contents, None);
    assert_eq!(fields(&server, pb::JobSpec::default()).await, ["dataset"]);
    let contents = get().await.contents.unwrap();
    assert_eq!((contents.splits[0].images, contents.splits[0].height), (128, 28));
}

#[tokio::test]
async fn what_is_in_a_dataset_is_told_and_what_contradicts_its_header_refused() {
    let server = Harness::start().await;
    let good = Digits::GOOD.tar();
    let contents = push(&server, "digits", "idx", &good).await.unwrap().dataset.unwrap().contents.unwrap();
    let test = &contents.splits[1];
    assert_eq!((test.name.as_str(), test.images, test.height, test.width), ("test", 10, 20, 20));
    assert_eq!((test.channels, test.highest_label), (1, Some(9)));
    let short = tar_of(&[("train-images-idx3-ubyte", b"short")]);
    let status = push(&server, "digits", "idx", &short).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("lacks train-labels-idx1-ubyte"), "{}", status.message());
    let status = push(&server, "digits", "cifar10-binary", &good).await.unwrap_err();
    assert!(status.message().contains("the tar holds no dataset"), "{}", status.message());
}
