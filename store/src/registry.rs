//! What is stored and who may use it: models, datasets, blobs, served versions, tokens.

mod blobs;
mod datasets;
mod gate;
mod models;
mod pushed;
mod removal;
mod served;
mod tokens;

use uuid::Uuid;

pub use blobs::{CollectError, Collector};
pub use datasets::{Dataset, NewDataset, Split};
pub use gate::{NoPromote, Promote};
pub use models::{Model, ModelFile, NewModel};
pub use pushed::{NewArtifact, Pushed};
pub use removal::{Removal, Removed};
pub use served::{ServedModel, ServedVersion};
pub use tokens::{Role, Token};

/// Which models or datasets to list; newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageFilter {
    /// Only this owner's.
    pub owner: Option<String>,
    /// Only of this name.
    pub name: Option<String>,
    /// Only older than this one: the last one of the page before.
    pub before: Option<Uuid>,
    /// At most this many.
    pub limit: u32,
}
