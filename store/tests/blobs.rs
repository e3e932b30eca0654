//! Blobs on a local disk: whole or absent, verified, and clean after a crash.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use dyadic_store::blob::{BlobError, BlobStore, Digest};
use futures::TryStreamExt;

struct Fixture {
    folder: tempfile::TempDir,
    store: BlobStore,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = BlobStore::open(&format!("file://{}/blobs", folder.path().display())).expect("a local store");
    Fixture { folder, store }
}

impl Fixture {
    fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_string();
        self.folder.path().join("blobs").join(&hex[..2]).join(&hex[2..])
    }
}

#[tokio::test]
async fn bytes_come_back_under_their_digest() {
    let f = fixture();
    let digest = f.store.put_bytes(&b"abc"[..]).await.expect("a writable folder");
    assert_eq!(digest, Digest::of(b"abc"));
    assert_eq!(f.store.put_bytes(&b"abc"[..]).await.expect("again"), digest);
    assert_eq!(f.store.get(&digest, 3).await.expect("it is there").as_ref(), b"abc");
    assert_eq!(f.store.size(&digest).await.expect("askable"), Some(3));
    let mode = fs::metadata(f.path(&digest)).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "blobs are private");
    assert!(matches!(f.store.get(&digest, 2).await, Err(BlobError::TooLarge { size: 3, .. })));
    f.store.delete(&digest).await.expect("removable");
    f.store.delete(&digest).await.expect("and removable again");
    assert!(matches!(f.store.get(&digest, 3).await, Err(BlobError::NotFound(d)) if d == digest));
}

#[tokio::test]
async fn files_are_moved_in_only_under_their_own_digest() {
    let f = fixture();
    let content = vec![7u8; 3 << 20];
    let path = f.folder.path().join("upload");
    fs::write(&path, &content).expect("writable");
    let digest = Digest::of(&content);
    f.store.put_file(&path, &digest).await.expect("a sound file");
    let copy = f.folder.path().join("copy");
    f.store.fetch(&digest, &copy).await.expect("a sound blob");
    assert!(fs::read(&copy).expect("readable") == content);
    let streamed: Vec<_> =
        f.store.stream(&digest).await.expect("there").try_collect().await.expect("readable");
    assert_eq!(streamed.iter().map(bytes::Bytes::len).sum::<usize>(), content.len());

    fs::write(&path, b"something else").expect("writable");
    let wrong = Digest::of(b"what it claims to be");
    assert!(matches!(f.store.put_file(&path, &wrong).await, Err(BlobError::Damaged { .. })));
    assert_eq!(f.store.size(&wrong).await.expect("askable"), None);
}

#[tokio::test]
async fn damage_on_disk_is_seen_before_use() {
    let f = fixture();
    let digest = f.store.put_bytes(&b"precious"[..]).await.expect("a writable folder");
    fs::write(f.path(&digest), b"precioux").expect("writable");
    assert!(
        matches!(f.store.get(&digest, 100).await, Err(BlobError::Damaged { expected, .. }) if expected == digest)
    );
    let copy = f.folder.path().join("copy");
    assert!(matches!(f.store.fetch(&digest, &copy).await, Err(BlobError::Damaged { .. })));
    assert!(!copy.exists(), "nothing unverified is left behind");
}

#[tokio::test]
async fn bytes_that_are_stored_again_heal_a_damaged_blob() {
    let f = fixture();
    let content = b"precious bytes";
    let digest = f.store.put_bytes(&content[..]).await.expect("a writable folder");
    let upload = f.folder.path().join("upload");
    for damaged in [&b""[..], b"precious", b"precious bytez", b"precious bytes and more"] {
        fs::write(f.path(&digest), damaged).expect("writable");
        f.store.put_bytes(&content[..]).await.expect("storable");
        assert_eq!(f.store.get(&digest, 100).await.expect("whole").as_ref(), content, "{damaged:?}");

        fs::write(f.path(&digest), damaged).expect("writable");
        fs::write(&upload, content).expect("writable");
        f.store.put_file(&upload, &digest).await.expect("storable");
        assert_eq!(f.store.get(&digest, 100).await.expect("whole").as_ref(), content, "{damaged:?}");
    }
}

#[tokio::test]
async fn a_blob_that_is_there_does_not_excuse_a_file_with_other_bytes() {
    let f = fixture();
    let digest = f.store.put_bytes(&b"precious"[..]).await.expect("a writable folder");
    let upload = f.folder.path().join("upload");
    fs::write(&upload, b"something else").expect("writable");
    assert!(matches!(f.store.put_file(&upload, &digest).await, Err(BlobError::Damaged { .. })));
    assert_eq!(f.store.get(&digest, 100).await.expect("whole").as_ref(), b"precious");
}

#[tokio::test]
async fn what_a_crash_left_is_cleared() {
    let f = fixture();
    let left = f.folder.path().join("blobs/.staged-left");
    fs::write(&left, b"half").expect("writable");
    let digest = f.store.put_bytes(&b"whole"[..]).await.expect("a writable folder");
    f.store.clear_staging().await.expect("listable");
    assert!(!left.exists());
    assert_eq!(f.store.size(&digest).await.expect("askable"), Some(5));
}

#[test]
fn unknown_urls_are_refused_in_words() {
    for url in ["", "blobs", "file://relative", "ftp://x/y", "s3://"] {
        let error = BlobStore::open(url).expect_err(url);
        assert!(matches!(error, BlobError::Url { .. }), "{error}");
    }
}
