//! `troupe storage`: giving a data directory to a node of a cluster before its first start (K2).

use crate::configuration::Sources;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::global::Global;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::Path;
use troupe_log::{DataDirectory, MetaProperties};
use troupe_proto::ids::NodeId;

#[derive(Debug, Subcommand)]
pub enum StorageCommand {
    /// Print a new id for a cluster
    RandomUuid,
    /// Write down whose the data directories are: the cluster, and the node.id of the configuration
    #[command(after_help = "Example, on each of three machines:\n  \
        troupe storage format --cluster-id $ID --config /etc/troupe/node-1.toml\n\
        where ID is the same on all: `troupe storage random-uuid` draws one.\n\
        A configuration that has cluster.id needs no formatting, but for the new disk of a directory that was in use:\n  \
        a node takes its empty place for a disk that is not mounted.")]
    Format(FormatDirectory),
}

#[derive(Debug, Args)]
pub struct FormatDirectory {
    /// The same on every node of the cluster
    #[arg(long, value_name = "ID", value_parser = parse_cluster_id)]
    cluster_id: String,
    #[command(flatten)]
    sources: Sources,
    /// Be content with directories that are formatted already, for this node of this cluster
    #[arg(long)]
    ignore_formatted: bool,
}

/// It stands in a line of its own, and in file names.
fn parse_cluster_id(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() || !text.chars().all(allowed) {
        return Err("use a-z, A-Z, 0-9, `.`, `_` and `-`".to_owned());
    }
    Ok(text.to_owned())
}

pub fn run(global: &Global, command: StorageCommand) -> Result<(), Failure> {
    match command {
        StorageCommand::RandomUuid => {
            let id = random_id();
            global.output().one(&json!({ "clusterId": id }), || format!("{id}\n"))
        }
        StorageCommand::Format(format) => run_format(global, &format),
    }
}

/// 128 random bits, as Kafka writes them; none that would be taken for a flag.
fn random_id() -> String {
    loop {
        let id = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>());
        if !id.starts_with('-') {
            return id;
        }
    }
}

fn run_format(global: &Global, format: &FormatDirectory) -> Result<(), Failure> {
    let config = format.sources.load()?;
    let wanted = &format.cluster_id;
    let mut paths = config.log_directories();
    let metadata = config.metadata_log_dir.trim();
    if !metadata.is_empty() && !paths.iter().any(|path| path == Path::new(metadata)) {
        paths.push(metadata.into());
    }
    if !config.cluster_id.is_empty() && config.cluster_id != *wanted {
        let what = format!("cannot format {}", paths[0].display());
        let cause =
            format!("the configuration says cluster.id={}, not {wanted}", config.cluster_id);
        return Err(Failure::new(Exit::Refused, what, cause));
    }
    let meta = MetaProperties { cluster_id: wanted.clone(), node_id: NodeId(config.node_id) };
    // All of them or none: what is refused is refused before anything is written.
    let found: Vec<Found> = paths.iter().map(|path| look(path, &meta)).collect::<Result<_, _>>()?;
    let is_new = found.iter().any(|found| !found.is_formatted);
    if !is_new && !format.ignore_formatted {
        let what = format!("cannot format {}", paths[0].display());
        let node = config.node_id;
        let cause = format!("it is formatted already, for node {node} of cluster {wanted}");
        return Err(Failure::new(Exit::Refused, what, cause)
            .with_hint("--ignore-formatted is content with that"));
    }
    let mut text = String::new();
    for Found { directory, is_formatted } in &found {
        let path = directory.path().display();
        let verb = if *is_formatted { "was already formatted:" } else { "formatted" };
        if !is_formatted {
            let what = format!("cannot format {path}");
            directory.write_meta(&meta).map_err(|error| Failure::new(Exit::Failed, what, error))?;
        }
        text.push_str(&format!("{verb} {path} for node {} of cluster {wanted}\n", config.node_id));
    }
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    let view = json!({
        "logDir": paths[0], "logDirs": paths, "clusterId": wanted, "nodeId": config.node_id,
        "formatted": is_new,
    });
    global.output().one(&view, || text)
}

/// A directory as it was before.
struct Found {
    directory: DataDirectory,
    is_formatted: bool,
}

fn look(path: &Path, meta: &MetaProperties) -> Result<Found, Failure> {
    let what = format!("cannot format {}", path.display());
    let failed = |error| Failure::new(Exit::Failed, what.clone(), error);
    let directory = DataDirectory::open(path).map_err(failed)?;
    let found = directory.read_meta().map_err(failed)?;
    if let Some(found) = found.as_ref().filter(|found| *found != meta) {
        let MetaProperties { cluster_id, node_id } = found;
        let cause = format!("it belongs to node {node_id} of cluster {cluster_id}");
        return Err(Failure::new(Exit::Refused, what, cause)
            .with_hint("another log.dir; or remove the directory, and with it what it holds"));
    }
    Ok(Found { directory, is_formatted: found.is_some() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_id_is_an_id() {
        let id = random_id();
        assert_eq!(id.len(), 22);
        assert_eq!(parse_cluster_id(&id), Ok(id));
    }

    #[test]
    fn an_id_is_one_word() {
        assert!(parse_cluster_id("two words").is_err());
        assert!(parse_cluster_id("").is_err());
        assert!(parse_cluster_id("a\nnode.id 3").is_err());
    }
}
