//! `dyadic token …`: who may do what.

use clap::{Subcommand, ValueEnum};
use dyadic_proto::v1::{self, CreateTokenRequest, ListTokensRequest, RevokeTokenRequest};

use crate::connect::Connection;
use crate::error::Result;
use crate::output::style::safe;
use crate::output::table::Table;
use crate::output::{Output, json, units};

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token; its secret is shown this once
    Create {
        /// Whom it is for: the owner of all that is done with it
        name: String,
        /// What it allows
        #[arg(long, value_enum)]
        role: Role,
    },
    /// Show tokens, without their secrets
    List,
    /// Make a token worthless
    Revoke {
        /// As `token list` shows it
        id: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Role {
    /// Run served models
    Infer,
    /// Also push models and datasets, run jobs, read history
    Submit,
    /// Everything
    Admin,
}

impl From<Role> for v1::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Infer => v1::Role::Infer,
            Role::Submit => v1::Role::Submit,
            Role::Admin => v1::Role::Admin,
        }
    }
}

impl Token {
    pub(crate) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let mut client = connection.tokens();
        match self {
            Token::Create { name, role } => {
                let request = CreateTokenRequest { name, role: v1::Role::from(role).into() };
                let made = client.create(request).await?.into_inner();
                output.value(&json::of(&made)?)?;
                output.line(&made.secret)?;
                let id = made.token.map(|t| t.id).unwrap_or_default();
                output.note(format!("this is the only time it is shown; `dyadic token revoke {id}` ends it"));
                Ok(())
            }
            Token::List => {
                let tokens = client.list(ListTokensRequest {}).await?.into_inner().tokens;
                output.value(&json::list(&tokens)?)?;
                let now = chrono::Utc::now();
                let mut table = Table::new(["id", "name", "role", "created", "state"]);
                for t in &tokens {
                    let state = match &t.revoked_at {
                        Some(at) => output.paint.dim(&format!("revoked {}", units::ago(Some(at), now))),
                        None => output.paint.good("good"),
                    };
                    let role = t.role().as_str_name().trim_start_matches("ROLE_").to_lowercase();
                    table.row([
                        safe(&t.id),
                        safe(&t.name),
                        role,
                        units::ago(t.created_at.as_ref(), now),
                        state,
                    ]);
                }
                if table.is_empty() {
                    output.note("no tokens but this machine's own: `dyadic token create NAME --role ROLE`");
                    return Ok(());
                }
                output.table(&table)
            }
            Token::Revoke { id } => {
                client.revoke(RevokeTokenRequest { id: id.clone() }).await?;
                output.value(&serde_json::json!({ "revoked": id }))?;
                output.line(format!("revoked {id}"))
            }
        }
    }
}
