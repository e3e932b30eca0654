//! Turns a call's `authorization` header into an identity.
//!
//! Secrets are only ever compared by their sha256. What the database said about a token stays good for
//! [`FRESH`], and for as long as the database is away.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use sha2::{Digest, Sha256};
use tonic::codegen::http::HeaderMap;

use super::{Access, AuthError, LocalToken, Role, access};

/// How long an answer of the directory is used without asking again; a revoked token works at most that long.
const FRESH: Duration = Duration::from_secs(10);

/// Tokens that are remembered; beyond, the oldest answer goes.
const REMEMBERED: usize = 10_000;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Whose things these are: the token's name.
    pub owner: String,
    /// What the caller may do.
    pub role: Role,
}

/// What is on record about a token that is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// The token's name.
    pub name: String,
    /// What it is good for.
    pub role: Role,
}

/// Where tokens are on record.
pub trait TokenDirectory: Send + Sync {
    /// The token with this hash, or `None` if it is unknown or revoked; an error if that cannot be found out now.
    fn find(&self, sha256: [u8; 32]) -> BoxFuture<'_, Result<Option<TokenRecord>, DirectoryAway>>;
}

/// The directory cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token directory cannot be asked")]
pub struct DirectoryAway;

#[derive(Clone)]
struct Remembered {
    record: TokenRecord,
    asked_at: Instant,
}

/// Decides about calls.
pub struct Authenticator {
    local: [u8; 32],
    anonymous: Option<Role>,
    directory: Box<dyn TokenDirectory>,
    remembered: Mutex<HashMap<[u8; 32], Remembered>>,
}

impl Authenticator {
    /// Knows this machine's token, the role of callers without one, and where to look up the rest.
    pub fn new(local: &LocalToken, anonymous: Option<Role>, directory: Box<dyn TokenDirectory>) -> Self {
        Self { local: hash(&local.secret), anonymous, directory, remembered: Mutex::default() }
    }

    /// Who makes a call of this path with these headers, if that caller may make it. `Ok(None)` for anyone's calls.
    pub async fn authorize(&self, path: &str, headers: &HeaderMap) -> Result<Option<Identity>, AuthError> {
        let needed = match access(path) {
            Some(Access::Open) => return Ok(None),
            Some(Access::AtLeast(role)) => role,
            // Not a call of ours: only who could call everything learns so.
            None => Role::Admin,
        };
        let identity = self.identify(headers).await?;
        if identity.role < needed {
            return Err(AuthError::Forbidden { needed, role: identity.role });
        }
        Ok(Some(identity))
    }

    async fn identify(&self, headers: &HeaderMap) -> Result<Identity, AuthError> {
        let Some(header) = headers.get("authorization") else {
            let role = self.anonymous.ok_or(AuthError::Missing)?;
            return Ok(Identity { owner: "anonymous".to_owned(), role });
        };
        let text = header.to_str().map_err(|_| AuthError::Invalid)?;
        // Some clients leave the blank after a header's colon in its value.
        let (scheme, secret) = text.trim().split_once(' ').ok_or(AuthError::Invalid)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(AuthError::Invalid);
        }
        let sha256 = hash(secret.trim());
        if sha256 == self.local {
            return Ok(Identity { owner: "local".to_owned(), role: Role::Admin });
        }
        let record = self.record(sha256).await?;
        Ok(Identity { owner: record.name, role: record.role })
    }

    async fn record(&self, sha256: [u8; 32]) -> Result<TokenRecord, AuthError> {
        let known = self.lock().get(&sha256).cloned();
        if let Some(known) = &known
            && known.asked_at.elapsed() < FRESH
        {
            return Ok(known.record.clone());
        }
        match self.directory.find(sha256).await {
            Ok(Some(record)) => {
                self.remember(sha256, record.clone());
                Ok(record)
            }
            Ok(None) => {
                self.lock().remove(&sha256);
                Err(AuthError::Invalid)
            }
            Err(DirectoryAway) => known.map(|known| known.record).ok_or(AuthError::Unavailable),
        }
    }

    fn remember(&self, sha256: [u8; 32], record: TokenRecord) {
        let mut remembered = self.lock();
        if remembered.len() >= REMEMBERED && !remembered.contains_key(&sha256) {
            let oldest = remembered.iter().min_by_key(|(_, entry)| entry.asked_at).map(|(key, _)| *key);
            oldest.and_then(|key| remembered.remove(&key));
        }
        remembered.insert(sha256, Remembered { record, asked_at: Instant::now() });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Remembered>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is stored and compared instead of the secret.
pub(crate) fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}
