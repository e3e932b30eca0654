//! Every setting of the server, read once from flags and environment before anything binds.

mod limits;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use limits::Limits;

use crate::auth::Role;

/// The Dyadic server: uploads, quantization jobs, history and inference over gRPC.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "dyadic-server", version, about)]
pub struct Config {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, env = "DYADIC_LISTEN", default_value = "127.0.0.1:8470")]
    pub listen: SocketAddr,

    /// PostgreSQL URL.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, conflicts_with = "private_database")]
    pub database_url: Option<String>,

    /// Start a private PostgreSQL cluster in this folder from the installed binaries.
    #[arg(long, env = "DYADIC_PRIVATE_DATABASE", value_name = "DIR")]
    pub private_database: Option<PathBuf>,

    /// Where blobs lie: file:///… or s3://…; the default is `blobs` in the data folder.
    #[arg(long, env = "DYADIC_BLOBS", value_name = "URL")]
    pub blobs: Option<String>,

    /// Folder for the token file, broken-off uploads and local blobs; the default is ~/.local/share/dyadic.
    #[arg(long, env = "DYADIC_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Write the bound address to this file once the server is ready.
    #[arg(long, env = "DYADIC_PORT_FILE", value_name = "PATH")]
    pub port_file: Option<PathBuf>,

    /// Allow an address other than loopback without TLS or with anonymous callers.
    #[arg(long, env = "DYADIC_INSECURE")]
    pub insecure: bool,

    /// Role of callers that bring no token.
    #[arg(long, env = "DYADIC_ANONYMOUS", value_name = "ROLE")]
    pub anonymous: Option<Role>,

    /// PEM file of the certificate chain; turns TLS on.
    #[arg(long, env = "DYADIC_TLS_CERT", value_name = "PATH", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// PEM file of the certificate's private key.
    #[arg(long, env = "DYADIC_TLS_KEY", value_name = "PATH", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Seconds that calls in flight get to finish after SIGTERM or SIGINT.
    #[arg(long, env = "DYADIC_DRAIN_SECS", default_value_t = 20)]
    pub drain_secs: u64,

    /// Log lines as JSON.
    #[arg(long, env = "DYADIC_LOG_JSON")]
    pub log_json: bool,

    /// What to log, in tracing's filter language.
    #[arg(long, env = "DYADIC_LOG", default_value = "info")]
    pub log: String,

    /// Caps and time-outs.
    #[command(flatten)]
    pub limits: Limits,
}

/// A configuration that the server refuses to start with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// An address that others can reach, without protection.
    #[error(
        "{listen} can be reached from other machines, and {missing}; give --tls-cert and --tls-key and leave --anonymous \
         away, or say --insecure"
    )]
    Exposed {
        /// Where it would listen.
        listen: SocketAddr,
        /// What protection is missing.
        missing: &'static str,
    },
    /// Neither a URL nor a folder for a database.
    #[error("no database: set DATABASE_URL, or give --private-database DIR")]
    NoDatabase,
    /// No data folder given, and no home to put it in.
    #[error("no data folder: HOME is not set; give --data-dir DIR")]
    NoDataDir,
}

impl Config {
    /// Refuses what would be unsafe or cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.database_url.is_none() && self.private_database.is_none() {
            return Err(ConfigError::NoDatabase);
        }
        if self.insecure || self.listen.ip().is_loopback() {
            return Ok(());
        }
        let missing = match (self.tls_cert.is_some(), self.anonymous.is_none()) {
            (true, true) => return Ok(()),
            (false, true) => "there is no TLS",
            (true, false) => "callers need no token",
            (false, false) => "there is no TLS and callers need no token",
        };
        Err(ConfigError::Exposed { listen: self.listen, missing })
    }

    /// The data folder: as given, or `$XDG_DATA_HOME/dyadic`, or `~/.local/share/dyadic`.
    pub fn data_dir(&self) -> Result<PathBuf, ConfigError> {
        if let Some(dir) = &self.data_dir {
            return Ok(dir.clone());
        }
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let share = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")));
        Ok(share.ok_or(ConfigError::NoDataDir)?.join("dyadic"))
    }

    /// How long calls in flight get after the signal.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn config(arguments: &[&str]) -> Config {
        let base = ["dyadic-server", "--database-url", "postgres://x"];
        Config::try_parse_from(base.iter().chain(arguments)).unwrap()
    }

    #[test]
    fn only_loopback_may_go_without_tls_and_tokens() {
        let cases: [(&[&str], bool); 8] = [
            (&[], true),
            (&["--anonymous", "admin"], true),
            (&["--listen", "[::1]:0"], true),
            (&["--listen", "0.0.0.0:8470"], false),
            (&["--listen", "0.0.0.0:8470", "--insecure"], true),
            (&["--listen", "[::]:8470", "--tls-cert", "c", "--tls-key", "k"], true),
            (&["--listen", "[::]:8470", "--tls-cert", "c", "--tls-key", "k", "--anonymous", "infer"], false),
            (&["--listen", "192.0.2.1:1", "--anonymous", "infer"], false),
        ];
        for (arguments, allowed) in cases {
            assert_eq!(config(arguments).check().is_ok(), allowed, "{arguments:?}");
        }
    }

    #[test]
    fn leases_last_a_minute_unless_set_within_an_hour() {
        assert_eq!(config(&[]).limits.lease_secs, 60);
        for refused in ["0", "3601", "-1", "soon"] {
            let lease = format!("--lease-secs={refused}");
            assert!(
                Config::try_parse_from(["dyadic-server", "--database-url", "x", &lease]).is_err(),
                "{refused}"
            );
        }
    }

    #[test]
    fn leases_are_looked_at_often_enough_to_be_reaped_whatever_their_length() {
        for secs in [1, 2, 9, 10, 60, 3600] {
            let limits = config(&[&format!("--lease-secs={secs}")]).limits;
            assert!(limits.reap_every() <= Duration::from_secs(secs) / 4, "{secs}");
            assert!(limits.reap_every() <= Duration::from_secs(5), "{secs}");
        }
    }

    #[test]
    fn a_certificate_needs_its_key() {
        assert!(Config::try_parse_from(["dyadic-server", "--database-url", "x", "--tls-cert", "c"]).is_err());
    }
}
