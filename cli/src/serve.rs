//! `troupe serve`: a node in the foreground, until a signal.

use crate::failure::{Context, Exit, Failure};
use crate::foreground::Foreground;
use crate::global::Global;
use crate::output::{Output, Table, text};
use crate::quantity::show_duration;
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::Instant;
use troupe_broker::{Node, NodeConfig, StartError};

/// Where a node's configuration comes from.
#[derive(Debug, Args)]
pub struct Sources {
    /// Configuration in TOML
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A key and its value, before all else; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Sources {
    pub fn load(&self) -> Result<NodeConfig, Failure> {
        let file = match &self.config {
            Some(path) => {
                let text = std::fs::read_to_string(path);
                Some(text.with_context(|| format!("cannot read {}", path.display()))?)
            }
            None => None,
        };
        load(file.as_deref(), &self.set)
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    troupe serve --set log.dir=/var/lib/troupe\n  \
    troupe serve --config /etc/troupe.toml --set listener=0.0.0.0:7070\n  \
    troupe serve --config deploy/node-1.toml      # one of a cluster: see `troupe storage --help`\n  \
    troupe serve --help-config\n\
    A key comes from, in this order: --set, the environment (TROUPE__LOG__DIR), the file.")]
pub struct Serve {
    #[command(flatten)]
    sources: Sources,
    /// Print every key with its default and meaning
    #[arg(long)]
    help_config: bool,
}

pub fn serve(global: &Global, serve: Serve) -> Result<(), Failure> {
    let output = global.output();
    if serve.help_config {
        return help_config(&output);
    }
    let config = serve.sources.load()?;
    let mut foreground = Foreground::new()?;
    let data_dir = config.log_dir.clone();
    let alone = config.controller_voters.trim().is_empty();
    let started = Instant::now();
    let node = start(config)?;
    announce(&output, &node, &data_dir, || {
        let state = match alone {
            true => format!("ready in {}", show_duration(started.elapsed())),
            false => "waiting for the cluster".to_owned(),
        };
        let (grpc, http) = (node.grpc_addr(), node.http_addr());
        let data = data_dir.display();
        format!("troupe serves gRPC on {grpc}, HTTP on {http}, data in {data} ({state})\n")
    })?;
    if !alone {
        match foreground.wait(node.ready()) {
            Ok(Ok(())) if !output.format.is_json() => {
                let took = show_duration(started.elapsed());
                output.print(&format!("the cluster has taken this node in (after {took})\n"))?;
            }
            // What failed ends the node, and is told then.
            Ok(_) => {}
            Err(_) => {
                foreground.end(node);
                return Ok(());
            }
        }
    }
    foreground.run(node)
}

/// The configuration of these sources and the environment.
pub fn load(file: Option<&str>, set: &[String]) -> Result<NodeConfig, Failure> {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    NodeConfig::load(file, environment, set).map_err(|faults| {
        Failure::new(Exit::Usage, "", faults)
            .with_hint("`troupe serve --help-config` prints every key")
    })
}

pub fn start(config: NodeConfig) -> Result<Node, Failure> {
    Node::start(config).map_err(|error| cannot_start("the node cannot start", error))
}

/// Why a node did not start, and what to do about it.
pub fn cannot_start(what: &str, error: StartError) -> Failure {
    let hint = match &error {
        StartError::Listen { .. } => Some(
            "another node may be running: choose other ports with --set, or dev's --listen and --http",
        ),
        _ => error.advice(),
    };
    let failure = Failure::new(Exit::Failed, what, error);
    match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

/// Says where the node listens: for a program one line of JSON, for a person what `text` says.
pub fn announce(
    output: &Output,
    node: &Node,
    data_dir: &Path,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    if !output.format.is_json() {
        return output.print(&text());
    }
    let line = serde_json::json!({
        "grpc": node.grpc_addr().to_string(),
        "http": node.http_addr().to_string(),
        "clusterId": node.cluster_id(),
        "dataDir": data_dir.display().to_string(),
        "pid": std::process::id(),
    });
    output.print(&format!("{line}\n"))
}

fn help_config(output: &Output) -> Result<(), Failure> {
    let keys = NodeConfig::keys();
    let views: Vec<_> = keys
        .iter()
        .map(|(key, default, doc)| {
            serde_json::json!({ "name": key, "defaultValue": default, "documentation": doc })
        })
        .collect();
    output.many("keys", &views, || {
        let mut table = Table::new(&[text("KEY"), text("DEFAULT"), text("MEANING")]);
        for (key, default, doc) in &keys {
            table.row(vec![(*key).to_owned(), default.clone(), (*doc).to_owned()]);
        }
        table
    })
}
