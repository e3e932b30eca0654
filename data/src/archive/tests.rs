use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

fn header(name: &str, kind: EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
    header
}

fn tar_of(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, data) in entries {
        builder.append(&header(name, *kind, data.len() as u64), *data).unwrap();
    }
    builder.into_inner().unwrap()
}

fn tgz(path: &Path, bytes: &[u8]) {
    let mut encoder = GzEncoder::new(File::create(path).unwrap(), Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap();
}

fn unpacked(path: &Path) -> Result<tempfile::TempDir> {
    unpack(path, &mut |_| {})
}

#[test]
fn files_are_unpacked_where_they_belong_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("a.tgz");
    tgz(&good, &tar_of(&[("./package/data/x", EntryType::Regular, b"hello")]));
    let mut read = 0;
    let folder = unpack(&good, &mut |n| read += n).unwrap();
    assert_eq!(std::fs::read(folder.path().join("package/data/x")).unwrap(), b"hello");
    assert_eq!(read, good.metadata().unwrap().len());
    let evil = dir.path().join("b.tgz");
    let bytes = tar_of(&[("../outside", EntryType::Regular, b"x")]);
    tgz(&evil, &bytes);
    assert!(unpacked(&evil).unwrap_err().to_string().contains("unsafe"));
    let plain = dir.path().join("b.tar");
    std::fs::write(&plain, &bytes).unwrap();
    assert!(index(&plain, &plain).unwrap_err().to_string().contains("unsafe"));
}

#[test]
fn kinds_are_told_by_the_first_bytes_and_damage_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    for (bytes, wanted) in [
        (&b""[..], Kind::Other),
        (b"PK", Kind::Other),
        (b"PK\x03\x04", Kind::Zip),
        (&[7; 1024], Kind::Other),
        (&[0; 1024], Kind::Tar),
        (&tar_of(&[("x", EntryType::Regular, b"y")]), Kind::Tar),
        (b"\x1f\x8bnot really", Kind::Gzip),
    ] {
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(kind(&path).unwrap(), wanted);
    }
    assert!(unpacked(&path).unwrap_err().to_string().contains("cannot be unpacked"));
    let mut short = tar_of(&[("x", EntryType::Regular, &[1; 2000])]);
    short.truncate(1600);
    std::fs::write(&path, short).unwrap();
    assert!(index(&path, &path).unwrap_err().to_string().contains("cannot be unpacked"));
}

#[test]
fn long_names_of_both_kinds_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tar");
    let long = format!("{}/file", "d".repeat(150));
    let record = format!("165 path={long}\n");
    assert_eq!(record.len(), 165, "PAX records state their own length");
    let bytes = tar_of(&[
        ("././@LongLink", EntryType::GNULongName, format!("{long}1\0").as_bytes()),
        ("cut", EntryType::Regular, b"one"),
        ("pax_global_header", EntryType::XGlobalHeader, b"11 a=b\n"),
        ("x", EntryType::XHeader, record.as_bytes()),
        ("cut", EntryType::Regular, b"two"),
        ("plain", EntryType::Regular, b"three"),
    ]);
    std::fs::write(&path, bytes).unwrap();
    let folder = index(&path, &path).unwrap();
    let inner = folder.folder(&"d".repeat(150));
    assert_eq!(inner.files().unwrap(), ["file", "file1"]);
    assert_eq!(inner.file("file1").unwrap().unwrap().read(10).unwrap(), b"one");
    assert_eq!(inner.file("file").unwrap().unwrap().read(10).unwrap(), b"two");
    assert_eq!(folder.file("plain").unwrap().unwrap().read(10).unwrap(), b"three");
}

#[test]
fn an_extension_header_that_claims_gigabytes_is_refused_before_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tar");
    for kind in [EntryType::GNULongName, EntryType::XHeader] {
        // Only the header is there: reading what it claims would find nothing.
        std::fs::write(&path, header("x", kind, 60 << 20).as_bytes()).unwrap();
        assert!(index(&path, &path).unwrap_err().to_string().contains("extension header of"), "{kind:?}");
        let packed = dir.path().join("a.tgz");
        tgz(&packed, header("x", kind, 60 << 20).as_bytes());
        assert!(unpacked(&packed).unwrap_err().to_string().contains("extension header of"), "{kind:?}");
    }
}
