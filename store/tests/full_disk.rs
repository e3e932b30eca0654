//! Storing on a disk that is full, or becomes so in the middle: what is said to be stored is whole, what is not leaves
//! nothing, and with room again everything can be stored.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use dyadic_store::blob::{BlobStore, Digest};
use dyadic_store::testing::{SmallDisk, with_own_mounts};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Bytes of the disk.
const DISK: usize = 4 << 20;
/// The largest blob: with its upload and its copy beside, the disk still has room for it.
const LARGEST: usize = 512 << 10;
/// Times that the disk is filled.
const MOMENTS: u32 = 200;

/// How bytes come into the store.
#[derive(Debug, Clone, Copy)]
enum Way {
    Bytes,
    /// From a file on the same disk.
    File,
    /// From a file on another disk.
    FileFromElsewhere,
}

struct Bench {
    disk: SmallDisk,
    elsewhere: tempfile::TempDir,
    blobs: BlobStore,
}

impl Bench {
    fn new() -> Self {
        let elsewhere = tempfile::tempdir().expect("a temporary folder");
        let disk = SmallDisk::mount(&elsewhere.path().join("disk"), DISK);
        let blobs = BlobStore::local(&disk.folder().join("blobs")).expect("a local store");
        Self { disk, elsewhere, blobs }
    }

    fn upload(&self, way: Way, content: &[u8]) -> Option<PathBuf> {
        let folder = match way {
            Way::Bytes => return None,
            Way::File => self.disk.folder(),
            Way::FileFromElsewhere => self.elsewhere.path(),
        };
        let path = folder.join("upload");
        fs::write(&path, content).expect("there is room before the disk is filled");
        Some(path)
    }

    async fn store(&self, content: &Bytes, upload: Option<&Path>) -> Result<(), String> {
        let digest = Digest::of(content);
        match upload {
            None => self.blobs.put_bytes(content.clone()).await.map(|_| ()),
            Some(path) => self.blobs.put_file(path, &digest).await,
        }
        .map_err(|error| error.to_string())
    }

    async fn is_whole(&self, content: &Bytes) -> bool {
        self.blobs.get(&Digest::of(content), u64::MAX).await.is_ok_and(|stored| stored == *content)
    }

    fn staged(&self) -> usize {
        let entries =
            fs::read_dir(self.disk.folder().join("blobs")).expect("listable").filter_map(Result::ok);
        entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file())).count()
    }
}

#[tokio::test]
async fn what_is_stored_on_a_disk_that_fills_up_is_whole_or_not_there() {
    if !with_own_mounts("what_is_stored_on_a_disk_that_fills_up_is_whole_or_not_there") {
        return;
    }
    let bench = Bench::new();
    let mut random = StdRng::seed_from_u64(7);
    let (mut stored, mut refused) = (0, 0);
    for moment in 0..MOMENTS {
        let size = random.random_range(1..LARGEST);
        let mut content = vec![0; size];
        random.fill(content.as_mut_slice());
        let content = Bytes::from(content);
        let digest = Digest::of(&content);
        let way = [Way::Bytes, Way::File, Way::FileFromElsewhere][random.random_range(0..3)];
        let upload = bench.upload(way, &content);

        let filled = bench.disk.fill_but(random.random_range(0..size + size / 4));
        let outcome = bench.store(&content, upload.as_deref()).await;
        let told = format!("moment {moment}, {way:?} of {size} bytes: {outcome:?}");
        if let Ok(()) = outcome {
            stored += 1;
            assert!(bench.is_whole(&content).await, "{told}, but the blob is not whole");
        } else {
            refused += 1;
            assert_eq!(bench.blobs.size(&digest).await.expect("askable"), None, "{told}");
        }
        assert_eq!(bench.staged(), 0, "{told}, and something is left");

        drop(filled);
        let upload = upload.filter(|path| path.exists()).or_else(|| bench.upload(way, &content));
        bench.store(&content, upload.as_deref()).await.expect("there is room again");
        assert!(bench.is_whole(&content).await, "{told}; with room again it is not whole");
        bench.blobs.delete(&digest).await.expect("removable");
        upload.map(fs::remove_file).transpose().or_else(gone).expect("removable");
    }
    assert!(stored >= 20 && refused >= 20, "{stored} stored and {refused} refused show too little");
}

fn gone(error: std::io::Error) -> Result<Option<()>, std::io::Error> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(None) } else { Err(error) }
}
