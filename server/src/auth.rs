//! Who may call what: bearer tokens, three roles, and one table of every RPC. What is not in the table is denied.

mod local;
mod policy;
mod verify;

pub(crate) use local::new_secret;
pub use local::{LocalToken, LocalTokenError};
pub use policy::{Access, access, is_long_lived, listed, services};
pub(crate) use verify::hash;
pub use verify::{Authenticator, DirectoryAway, Identity, TokenDirectory, TokenRecord};

/// What a caller may do; each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Role {
    /// Run served models.
    Infer,
    /// Push models and datasets, run jobs, read history.
    Submit,
    /// Everything, of every owner.
    Admin,
}

/// Why a call was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No token came.
    #[error("this call needs a token: send `authorization: Bearer TOKEN`")]
    Missing,
    /// The header is not a bearer token, or the token is unknown or revoked.
    #[error("the token is not valid")]
    Invalid,
    /// The token is good for less.
    #[error("this call needs the role {needed:?}, the token has {role:?}")]
    Forbidden {
        /// Least role for the call.
        needed: Role,
        /// Role of the caller.
        role: Role,
    },
    /// The token is not among those known, and the database cannot be asked.
    #[error("tokens cannot be checked: the database is away")]
    Unavailable,
}
