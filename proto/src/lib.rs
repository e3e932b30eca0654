//! Dyadic's gRPC APIs: messages, clients and server traits generated from the .proto files beside this crate.
//!
//! Field names and numbers are forever; what is removed is reserved.

/// Our own API: models, datasets, jobs, experiments, tokens.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    reason = "generated; the .proto files are the documentation"
)]
pub mod v1 {
    tonic::include_proto!("dyadic.v1");
}

/// The Open Inference Protocol, version 2.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    reason = "generated; the .proto files are the documentation"
)]
pub mod inference {
    tonic::include_proto!("inference");
}

impl v1::DatasetFormat {
    /// The word that is stored for it and that `dyadic-data` knows it by, as in `cifar10-binary`.
    pub fn word(self) -> String {
        let name = self.as_str_name();
        name.strip_prefix(FORMAT_PREFIX).unwrap_or(name).to_ascii_lowercase().replace('_', "-")
    }

    /// The format that has this word; UNSPECIFIED if none has.
    pub fn of_word(word: &str) -> Self {
        let name = format!("{FORMAT_PREFIX}{}", word.to_ascii_uppercase().replace('-', "_"));
        Self::from_str_name(&name).unwrap_or_default()
    }
}

/// What the names of all formats begin with.
const FORMAT_PREFIX: &str = "DATASET_FORMAT_";

/// All files above as an encoded `google.protobuf.FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

pub use prost_types::Timestamp;

#[cfg(test)]
mod tests {
    use super::v1::DatasetFormat;

    #[test]
    fn formats_have_words_and_words_have_formats() {
        for (format, word) in [
            (DatasetFormat::Cifar10Binary, "cifar10-binary"),
            (DatasetFormat::Cifar10PngStrips, "cifar10-png-strips"),
            (DatasetFormat::Idx, "idx"),
            (DatasetFormat::ImageFolder, "image-folder"),
        ] {
            assert_eq!((format.word().as_str(), DatasetFormat::of_word(word)), (word, format));
        }
        assert_eq!(DatasetFormat::of_word("tfrecord"), DatasetFormat::Unspecified);
    }
}
