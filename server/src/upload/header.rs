//! What a header declares, checked.

use std::collections::HashSet;

use dyadic_proto::v1::FileHeader;

use super::UploadError;

/// Longest file name, in bytes.
const MAX_FILE_NAME: usize = 255;

/// Longest name of a model, dataset, experiment or served model.
const MAX_NAME: usize = 128;

/// A declared file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSpec {
    /// Base name.
    pub name: String,
    /// Exact size.
    pub size_bytes: u64,
    /// Of the whole file.
    pub sha256: [u8; 32],
}

/// Declared files, at least one, each name once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSpecs(Vec<FileSpec>);

/// Caps on a header.
#[derive(Debug, Clone, Copy)]
pub struct HeaderLimits {
    /// Most files.
    pub max_files: usize,
    /// Most bytes of all files together.
    pub max_bytes: u64,
}

impl FileSpecs {
    /// Checks names, hashes and caps.
    pub fn check(files: Vec<FileHeader>, limits: HeaderLimits) -> Result<Self, UploadError> {
        if files.is_empty() || files.len() > limits.max_files {
            let expected = format!("1 to {} are allowed", limits.max_files);
            return Err(UploadError::FileCount { actual: files.len(), expected });
        }
        let total = files.iter().fold(0u64, |total, file| total.saturating_add(file.size_bytes));
        if total > limits.max_bytes {
            return Err(UploadError::TooLarge { actual: total, limit: limits.max_bytes });
        }
        let specs = files.into_iter().map(FileSpec::try_from).collect::<Result<Vec<_>, _>>()?;
        let mut seen = HashSet::new();
        match specs.iter().find(|spec| !seen.insert(spec.name.as_str())) {
            Some(twice) => Err(UploadError::DuplicateName(twice.name.clone())),
            None => Ok(Self(specs)),
        }
    }

    /// The files in the order of the header.
    pub fn as_slice(&self) -> &[FileSpec] {
        &self.0
    }
}

impl TryFrom<FileHeader> for FileSpec {
    type Error = UploadError;

    fn try_from(file: FileHeader) -> Result<Self, UploadError> {
        check_file_name(&file.name)?;
        let sha256 = <[u8; 32]>::try_from(file.sha256.as_slice())
            .map_err(|_| UploadError::HashLength { file: file.name.clone(), actual: file.sha256.len() })?;
        Ok(Self { name: file.name, size_bytes: file.size_bytes, sha256 })
    }
}

fn check_file_name(name: &str) -> Result<(), UploadError> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_FILE_NAME {
        "it is longer than 255 bytes"
    } else if name.contains(['/', '\\']) {
        "a base name has no slash"
    } else if name == "." || name.contains("..") {
        "it points elsewhere"
    } else if name.chars().any(char::is_control) {
        "it has a NUL or control character"
    } else {
        return Ok(());
    };
    Err(UploadError::Name { what: "file name", name: name.to_owned(), reason })
}

/// Names that users choose: 1 to 128 letters, digits, '.', '_' and '-', the first a letter or digit, no "..".
pub fn check_name(what: &'static str, name: &str) -> Result<(), UploadError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_NAME {
        "it is longer than 128 characters"
    } else if !name.bytes().all(plain) {
        "only letters, digits, '.', '_' and '-' are allowed"
    } else if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        "it must begin with a letter or a digit"
    } else if name.contains("..") {
        "it points elsewhere"
    } else {
        return Ok(());
    };
    Err(UploadError::Name { what, name: name.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeaderLimits = HeaderLimits { max_files: 2, max_bytes: 100 };

    fn file(name: &str, size_bytes: u64) -> FileHeader {
        FileHeader { name: name.to_owned(), size_bytes, sha256: vec![0; 32] }
    }

    #[test]
    fn names_that_point_elsewhere_are_refused() {
        for name in ["", ".", "..", "a/b", "/a", "a\\b", "../a", "a..b", "a\0", "a\nb", "a\u{7f}", "a\u{85}"]
        {
            let refused = FileSpecs::check(vec![file(name, 1)], LIMITS);
            assert!(matches!(refused, Err(UploadError::Name { .. })), "{name:?}");
        }
        for name in ["m.onnx", "m.onnx.data", "modèle 1.onnx", ".hidden"] {
            assert!(FileSpecs::check(vec![file(name, 1)], LIMITS).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn counts_sizes_and_hashes_are_checked() {
        let two = |size| vec![file("a", size), file("b", 50)];
        assert!(FileSpecs::check(two(50), LIMITS).is_ok());
        assert!(matches!(
            FileSpecs::check(two(51), LIMITS),
            Err(UploadError::TooLarge { actual: 101, limit: 100 })
        ));
        assert!(matches!(FileSpecs::check(two(u64::MAX), LIMITS), Err(UploadError::TooLarge { .. })));
        assert!(matches!(FileSpecs::check(vec![], LIMITS), Err(UploadError::FileCount { actual: 0, .. })));
        assert!(matches!(
            FileSpecs::check(vec![file("a", 0); 3], LIMITS),
            Err(UploadError::FileCount { .. })
        ));
        assert!(matches!(
            FileSpecs::check(vec![file("a", 0); 2], LIMITS),
            Err(UploadError::DuplicateName(_))
        ));
        let short = FileHeader { sha256: vec![0; 31], ..file("a", 0) };
        assert!(matches!(
            FileSpecs::check(vec![short], LIMITS),
            Err(UploadError::HashLength { actual: 31, .. })
        ));
    }

    #[test]
    fn chosen_names_are_plain() {
        for name in ["resnet20", "Res.Net_20-b", "2"] {
            assert!(check_name("model name", name).is_ok(), "{name:?}");
        }
        let long = "a".repeat(129);
        for name in ["", "-a", ".a", "a..b", "a b", "a/b", "é", "a\n", &long] {
            assert!(check_name("model name", name).is_err(), "{name:?}");
        }
    }
}
