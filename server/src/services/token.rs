//! `dyadic.v1.TokenService`, and the directory that the auth layer asks.

use dyadic_proto::v1 as pb;
use dyadic_proto::v1::token_service_server::TokenService;
use dyadic_store::Store;
use dyadic_store::blob::Digest;
use dyadic_store::registry::{Role as StoredRole, Token};
use futures::future::BoxFuture;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::convert::timestamp;
use crate::auth::{DirectoryAway, Role, TokenDirectory, TokenRecord, hash, new_secret};
use crate::error::ApiError;
use crate::upload::check_name;

/// Names that no token may have: they own what this machine's user and callers without a token do.
const RESERVED: [&str; 2] = ["local", "anonymous"];

/// The tokens on record.
pub(crate) struct StoredTokens(pub(crate) Store);

impl TokenDirectory for StoredTokens {
    fn find(&self, sha256: [u8; 32]) -> BoxFuture<'_, Result<Option<TokenRecord>, DirectoryAway>> {
        Box::pin(async move {
            match self.0.find_token(Digest::from(sha256)).await {
                Ok(found) => Ok(found.map(|token| TokenRecord { name: token.name, role: role(token.role) })),
                Err(error) => {
                    tracing::warn!(%error, "tokens cannot be looked up");
                    Err(DirectoryAway)
                }
            }
        })
    }
}

/// The service.
#[derive(Clone)]
pub(crate) struct TokenApi {
    store: Store,
}

impl TokenApi {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }
}

fn role(role: StoredRole) -> Role {
    match role {
        StoredRole::Admin => Role::Admin,
        StoredRole::Submit => Role::Submit,
        StoredRole::Infer => Role::Infer,
    }
}

fn to_proto(token: Token) -> pb::Token {
    pb::Token {
        id: token.id.to_string(),
        name: token.name,
        role: match token.role {
            StoredRole::Admin => pb::Role::Admin,
            StoredRole::Submit => pb::Role::Submit,
            StoredRole::Infer => pb::Role::Infer,
        }
        .into(),
        created_at: Some(timestamp(token.created_at)),
        revoked_at: token.revoked_at.map(timestamp),
    }
}

#[tonic::async_trait]
impl TokenService for TokenApi {
    async fn create(
        &self,
        request: Request<pb::CreateTokenRequest>,
    ) -> Result<Response<pb::CreateTokenResponse>, Status> {
        let request = request.into_inner();
        check_name("token name", &request.name).map_err(ApiError::from)?;
        if RESERVED.contains(&request.name.as_str()) {
            return Err(ApiError::field("name", format!("{:?} is reserved", request.name)).into());
        }
        let role = match request.role() {
            pb::Role::Admin => StoredRole::Admin,
            pb::Role::Submit => StoredRole::Submit,
            pb::Role::Infer => StoredRole::Infer,
            pb::Role::Unspecified => return Err(ApiError::field("role", "it is missing or unknown").into()),
        };
        let secret = new_secret().map_err(ApiError::internal)?;
        let sha256 = Digest::from(hash(&secret));
        let token = self.store.create_token(&request.name, role, sha256).await.map_err(ApiError::from)?;
        Ok(Response::new(pb::CreateTokenResponse { token: Some(to_proto(token)), secret }))
    }

    async fn list(
        &self,
        _: Request<pb::ListTokensRequest>,
    ) -> Result<Response<pb::ListTokensResponse>, Status> {
        let tokens = self.store.tokens().await.map_err(ApiError::from)?;
        Ok(Response::new(pb::ListTokensResponse { tokens: tokens.into_iter().map(to_proto).collect() }))
    }

    async fn revoke(
        &self,
        request: Request<pb::RevokeTokenRequest>,
    ) -> Result<Response<pb::RevokeTokenResponse>, Status> {
        let id = &request.get_ref().id;
        let unknown = |_| ApiError::NotFound { what: "token", name: id.chars().take(80).collect() };
        let id: Uuid = id.parse().map_err(unknown)?;
        self.store.revoke_token(id).await.map_err(ApiError::from)?;
        Ok(Response::new(pb::RevokeTokenResponse {}))
    }
}
