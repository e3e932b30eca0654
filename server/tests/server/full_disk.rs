//! Uploads to a server whose disk fills up: what is acknowledged comes back whole, what is refused can be sent again.

use dyadic_proto::v1 as pb;
use dyadic_store::testing::{SmallDisk, with_own_mounts};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use tonic::Code;

use crate::datasets::{self, chunk, header};
use crate::harness::Harness;

/// Bytes of the disk: room for an upload, its blob and what came before.
const DISK: usize = 96 << 20;
/// Times that it is filled.
const MOMENTS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_on_a_full_disk_is_whole_and_the_rest_can_be_sent_again() {
    if !with_own_mounts(
        "full_disk::what_is_acknowledged_on_a_full_disk_is_whole_and_the_rest_can_be_sent_again",
    ) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(&dir.path().join("data"), DISK);
    let server = Harness::start_in(dir, &[]).await;
    let mut random = StdRng::seed_from_u64(3);
    let (mut acknowledged, mut refused) = (0, 0);
    for moment in 0..MOMENTS {
        let tar = datasets::tar(random.random_range(1000..1 << 20) + moment);
        let pieces = |from: usize| {
            let ends = (from..tar.len()).step_by(65_536);
            let chunks = ends.map(|at| chunk(&tar, at, tar.len().min(at + 65_536)));
            std::iter::once(header(&tar, from)).chain(chunks).collect::<Vec<_>>()
        };
        let filled = disk.fill_but(random.random_range(0..tar.len() * 5 / 4));
        match datasets::send(&server, pieces(0)).await {
            Ok(_) => {
                acknowledged += 1;
                assert!(datasets::download(&server).await == tar, "moment {moment}: acknowledged, not whole");
            }
            Err(status) => {
                refused += 1;
                assert_eq!(status.code(), Code::ResourceExhausted, "moment {moment}: {}", status.message());
            }
        }
        drop(filled);
        let request = pb::UploadOffsetRequest { sha256: Sha256::digest(&tar).to_vec() };
        let received = server.datasets().upload_offset(request).await.unwrap().into_inner().offset;
        datasets::send(&server, pieces(received as usize)).await.expect("there is room again");
        assert!(datasets::download(&server).await == tar, "moment {moment}: with room again it is not whole");
        assert_eq!(server.spooled_files(), 0);
    }
    drop(disk);
    assert!(
        acknowledged > 2 && refused > 2,
        "{acknowledged} acknowledged, {refused} refused show too little"
    );
}
