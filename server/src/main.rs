//! The `dyadic-server` program: reads its configuration, starts the database if it is to be private, serves until SIGTERM or
//! SIGINT, drains.

use std::fs;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;
use clap::Parser;
use dyadic_server::Config;
use dyadic_server::start::Server;
use dyadic_store::cluster::Cluster;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The database inside a private cluster.
const DATABASE: &str = "postgres";

fn main() -> anyhow::Result<()> {
    let mut config = Config::parse();
    log(&config)?;
    config.check()?;
    // Started from this thread, which lives as long as the process: the cluster ends with whoever started it.
    let cluster = private_cluster(&mut config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(config));
    drop(runtime);
    drop(cluster);
    result
}

fn log(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log).context("--log")?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    if config.log_json {
        builder.json().init();
    } else {
        builder.init();
    }
    Ok(())
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = Server::start(config).await?;
    println!("listening on {}", server.address());
    let mut finished = std::pin::pin!(server.until_finished());
    tokio::select! {
        result = &mut finished => return Ok(result?),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("draining");
    server.drain();
    tokio::select! {
        result = &mut finished => Ok(result?),
        _ = interrupt.recv() => anyhow::bail!("interrupted while draining"),
    }
}

/// Starts the private cluster, if one is asked for, and leaves its URL beside it for workers of this machine.
fn private_cluster(config: &mut Config) -> anyhow::Result<Option<Cluster>> {
    let Some(folder) = config.private_database.clone() else { return Ok(None) };
    let data_dir = config.data_dir()?;
    let private = |folder: &Path| fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    private(&data_dir).with_context(|| data_dir.display().to_string())?;
    private(&folder).with_context(|| folder.display().to_string())?;
    let folder = folder.canonicalize()?;
    let_through(&data_dir, &folder)?;
    let cluster = Cluster::start(&folder).context("private database")?;
    let url = cluster.url(DATABASE);
    let path = folder.join("url");
    write_private(&path, &url).with_context(|| path.display().to_string())?;
    config.database_url = Some(url);
    Ok(Some(cluster))
}

/// As root the cluster runs as another user, who must be able to pass through the data folder to its own (though not to
/// read what else is there).
fn let_through(data_dir: &Path, database: &Path) -> anyhow::Result<()> {
    let root = fs::metadata("/proc/self")?.uid() == 0;
    let Ok(data_dir) = data_dir.canonicalize() else { return Ok(()) };
    if !root || !database.starts_with(&data_dir) {
        return Ok(());
    }
    for folder in database.ancestors().skip(1).take_while(|folder| folder.starts_with(&data_dir)) {
        let mode = fs::metadata(folder)?.permissions().mode();
        fs::set_permissions(folder, fs::Permissions::from_mode(mode | 0o111))?;
    }
    Ok(())
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let aside = path.with_extension("new");
    let _ = fs::remove_file(&aside);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&aside, path)
}
