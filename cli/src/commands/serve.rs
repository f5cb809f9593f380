//! `troupe serve`: a node in the foreground, until a signal; or in the background, by [`daemon`].

mod daemon;

use crate::configuration::Sources;
use crate::failure::{Context, Failure};
use crate::foreground::{Foreground, announce, start};
use crate::global::Global;
use crate::output::{Output, Table, text};
use crate::pid_file::{PidFile, Started};
use crate::process;
use crate::quantity::show_duration;
use clap::Args;
use std::path::PathBuf;
use std::time::Instant;
use troupe_broker::{NodeConfig, UpdateMode};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    troupe serve --set log.dir=/var/lib/troupe\n  \
    troupe serve --config /etc/troupe.toml --set listener=0.0.0.0:7070\n  \
    troupe serve --config deploy/node-1.toml      # one of a cluster: see `troupe storage --help`\n  \
    troupe serve --daemon server.properties       # and `troupe stop server.properties`\n  \
    troupe serve --help-config\n\
    A key comes from, in this order: --set, the environment (TROUPE__LOG__DIR), the file.")]
pub struct Serve {
    #[command(flatten)]
    sources: Sources,
    /// Go to the background, and return when the node serves, or waits for the rest of its cluster
    #[arg(long)]
    daemon: bool,
    /// Where the node writes what it has to say, in the background; troupe.log in its data directory without this
    #[arg(long, value_name = "FILE", requires = "daemon")]
    log_file: Option<PathBuf>,
    /// The node that --daemon has started
    #[arg(long, hide = true, conflicts_with = "daemon")]
    detached: bool,
    /// Print every key with its default and meaning
    #[arg(long)]
    help_config: bool,
}

pub fn serve(global: &Global, serve: &Serve) -> Result<(), Failure> {
    let output = global.output();
    if serve.help_config {
        return help_config(&output);
    }
    let configuration = serve.sources.read()?;
    if serve.daemon {
        return daemon::start(&output, &configuration.config, serve.log_file.as_deref());
    }
    if serve.detached {
        process::leave_terminal().with_context(|| "cannot leave the terminal".to_owned())?;
    }
    for note in &configuration.notes {
        tracing::warn!("without effect: {note}");
    }
    run(&output, configuration.config)
}

/// A node in this process, until a signal.
fn run(output: &Output, config: NodeConfig) -> Result<(), Failure> {
    let mut foreground = Foreground::new()?;
    let data_dir = match config.log_dirs.trim() {
        "" => config.log_dir.clone(),
        several => several.into(),
    };
    let metadata_dir = config.metadata_directory();
    let alone = config.controller_voters.trim().is_empty();
    let started = Instant::now();
    let node = start(config)?;
    let mut state = Started {
        pid: std::process::id(),
        grpc: node.grpc_addr().to_string(),
        http: node.http_addr().to_string(),
        ready: alone,
    };
    let pid_file = PidFile::write(&metadata_dir, &state);
    announce(output, &node, &data_dir, || {
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
            Ok(Ok(())) => {
                state.ready = true;
                pid_file.update(&state);
                if !output.format.is_json() {
                    let took = show_duration(started.elapsed());
                    output
                        .print(&format!("the cluster has taken this node in (after {took})\n"))?;
                }
            }
            // What failed ends the node, and is told then.
            Ok(Err(_)) => {}
            Err(_) => {
                foreground.stop(node);
                return Ok(());
            }
        }
    }
    foreground.run(node)
}

fn help_config(output: &Output) -> Result<(), Failure> {
    let keys = NodeConfig::keys();
    let views: Vec<_> = keys
        .iter()
        .map(|key| {
            serde_json::json!({
                "name": key.name,
                "defaultValue": key.default,
                "needsRestart": key.update_mode == UpdateMode::Restart,
                "documentation": key.documentation,
            })
        })
        .collect();
    output.many("keys", &views, || {
        let mut table =
            Table::new(&[text("KEY"), text("DEFAULT"), text("CHANGE"), text("MEANING")]);
        for key in &keys {
            let change = match key.update_mode {
                UpdateMode::Restart => "restart",
                UpdateMode::Dynamic => "dynamic",
                UpdateMode::ClusterWide => "dynamic, for the cluster",
            };
            let cells = [key.name, &key.default, change, key.documentation];
            table.row(cells.map(str::to_owned).to_vec());
        }
        table
    })
}
