//! What a dataset's header declares, checked.

use std::collections::HashSet;

use dyadic_data::Format;
use dyadic_proto::v1 as pb;
use dyadic_store::blob::Digest;
use dyadic_store::job::Tags;
use dyadic_store::registry::{NewDataset, Split};

use crate::error::ApiError;
use crate::services::convert::tags;
use crate::upload::{FileSpec, FileSpecs, HeaderLimits, check_name};

const SPLITS: [&str; 3] = ["train", "validation", "test"];
const MAX_LABELS: usize = 100_000;
const MAX_LABEL: usize = 256;
const MAX_PATHS: usize = 10_000;
const MAX_PATH: usize = 1024;

/// A header that passed.
pub(super) struct Declared {
    name: String,
    pub(super) format: &'static dyn Format,
    pub(super) splits: Vec<Split>,
    pub(super) labels: Vec<String>,
    tags: Tags,
    /// The tar alone.
    pub(super) files: FileSpecs,
    file: FileSpec,
    /// Where the first chunk begins.
    pub(super) offset: u64,
}

impl Declared {
    pub(super) fn check(header: pb::UploadDatasetHeader, max_bytes: u64) -> Result<Self, ApiError> {
        check_name("dataset name", &header.name)?;
        let format = dyadic_data::format::by_word(&header.format().word())
            .ok_or_else(|| ApiError::field("format", "it is missing or unknown"))?;
        let tar = header.tar.ok_or_else(|| ApiError::field("tar", "it is missing"))?;
        let files = FileSpecs::check(vec![tar], HeaderLimits { max_files: 1, max_bytes })?;
        let [file] = files.as_slice() else { return Err(ApiError::field("tar", "it is missing")) };
        let file = file.clone();
        check_labels(&header.labels)?;
        Ok(Self {
            name: header.name,
            format,
            splits: splits(header.splits)?,
            labels: header.labels,
            tags: tags(header.tags)?,
            files,
            file,
            offset: header.offset,
        })
    }

    /// The tar.
    pub(super) fn tar(&self) -> &FileSpec {
        &self.file
    }

    /// What is registered once the bytes are there.
    pub(super) fn into_dataset(self, owner: String) -> NewDataset {
        NewDataset {
            owner,
            name: self.name,
            format: self.format.word().to_owned(),
            splits: self.splits,
            labels: self.labels,
            file_name: self.file.name,
            sha256: Digest::from(self.file.sha256),
            size_bytes: self.file.size_bytes,
            tags: self.tags,
        }
    }
}

fn splits(splits: Vec<pb::Split>) -> Result<Vec<Split>, ApiError> {
    let mut seen = HashSet::new();
    splits
        .into_iter()
        .map(|pb::Split { name, paths }| {
            if !SPLITS.contains(&name.as_str()) {
                return Err(ApiError::field("splits", format!("{name:?} is none of {}", SPLITS.join(", "))));
            }
            if !seen.insert(name.clone()) {
                return Err(ApiError::field("splits", format!("{name:?} comes twice")));
            }
            if paths.len() > MAX_PATHS {
                return Err(ApiError::field("splits", format!("{} paths are too many", paths.len())));
            }
            match paths.iter().find(|path| !plain_path(path)) {
                Some(path) => {
                    Err(ApiError::field("splits", format!("path {path:?} is not relative and plain")))
                }
                None => Ok(Split { name, paths }),
            }
        })
        .collect()
}

fn plain_path(path: &str) -> bool {
    let part = |part: &str| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control);
    path.len() <= MAX_PATH && path.trim_end_matches('/').split('/').all(part)
}

pub(crate) fn check_labels(labels: &[String]) -> Result<(), ApiError> {
    if labels.len() > MAX_LABELS {
        return Err(ApiError::field("labels", format!("{} are too many", labels.len())));
    }
    let plain = |label: &&String| {
        !label.is_empty() && label.len() <= MAX_LABEL && !label.chars().any(char::is_control)
    };
    match labels.iter().find(|label| !plain(label)) {
        Some(label) => {
            Err(ApiError::field("labels", format!("{label:?} is not 1 to {MAX_LABEL} plain characters")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> pb::UploadDatasetHeader {
        pb::UploadDatasetHeader {
            name: "cifar10".into(),
            format: pb::DatasetFormat::Cifar10Binary.into(),
            splits: vec![pb::Split { name: "train".into(), paths: vec!["a/b.bin".into(), "c/".into()] }],
            labels: vec!["cat".into()],
            tar: Some(pb::FileHeader { name: "cifar10.tar".into(), size_bytes: 10, sha256: vec![0; 32] }),
            ..pb::UploadDatasetHeader::default()
        }
    }

    #[test]
    fn headers_that_break_a_rule_are_refused() {
        assert!(Declared::check(header(), 10).is_ok());
        let split = |name: &str, path: &str| pb::Split { name: name.into(), paths: vec![path.into()] };
        let with = |splits| pb::UploadDatasetHeader { splits, ..header() };
        let cases = [
            pb::UploadDatasetHeader { name: "a/b".into(), ..header() },
            pb::UploadDatasetHeader { format: 0, ..header() },
            pb::UploadDatasetHeader { format: 99, ..header() },
            pb::UploadDatasetHeader { tar: None, ..header() },
            pb::UploadDatasetHeader { labels: vec!["a\nb".into()], ..header() },
            pb::UploadDatasetHeader { labels: vec![String::new()], ..header() },
            with(vec![split("holdout", "a")]),
            with(vec![split("train", "a"), split("train", "b")]),
            with(vec![split("train", "/a")]),
            with(vec![split("train", "a/../b")]),
            with(vec![split("train", "")]),
        ];
        for (index, case) in cases.into_iter().enumerate() {
            assert!(Declared::check(case, 10).is_err(), "{index}");
        }
        assert!(Declared::check(header(), 9).is_err());
    }

    #[test]
    fn every_format_of_the_data_has_its_value_in_the_api_and_the_other_way_round() {
        for format in dyadic_data::format::ALL {
            let value = pb::DatasetFormat::of_word(format.word());
            assert_ne!(value, pb::DatasetFormat::Unspecified, "{}", format.word());
            assert_eq!(value.word(), format.word());
        }
        let values = (1..).map_while(|number| pb::DatasetFormat::try_from(number).ok());
        assert_eq!(values.count(), dyadic_data::format::ALL.len());
    }
}
