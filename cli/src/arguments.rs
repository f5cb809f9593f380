//! The command line: global flags and the tree of commands. Each command's flags stand in its own file.

use crate::failure::{During, Failure};
use crate::output::{Format, Output};
use crate::{actor, bench, cluster, consume, log_files, node, produce, topic};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use std::io::IsTerminal;
use troupe_client::{Client, ClientConfig};

/// Where a node listens if nothing else was said.
pub const DEFAULT_SERVER: &str = "127.0.0.1:7070";

/// Troupe: an event bus of actors. One binary: the node, the client, the tools.
#[derive(Debug, Parser)]
#[command(name = "troupe", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 refused.\n\
    Start here: `troupe dev`, then `troupe topic create hello` in another terminal.")]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// How results are printed [default: table]
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    #[arg(help = "How results are printed: table, wide, json or jsonl [default: table]")]
    output: Option<Format>,
    /// A node of the cluster, or several separated by commas
    #[arg(long, global = true, env = "TROUPE_SERVER", value_name = "HOST:PORT")]
    #[arg(value_delimiter = ',', hide_env_values = true)]
    pub server: Vec<String>,
    /// No progress on standard error
    #[arg(long, global = true)]
    no_progress: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node
    Serve(node::Serve),
    /// Run a node to try things out: everything on, gone when it stops
    Dev(node::Dev),
    /// Create, list, describe, change and delete topics
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// Publish lines, or records cut by a format, from standard input or files
    Produce(produce::Produce),
    /// Read records of a topic
    Consume(consume::Consume),
    /// What the cluster consists of
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Look into the files of a log; needs no running node
    #[command(subcommand)]
    Log(log_files::LogCommand),
    /// The actors of the nodes
    #[command(subcommand)]
    Actor(actor::ActorCommand),
    /// Measure
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Print a completion script: `troupe completion bash > /etc/bash_completion.d/troupe`
    Completion {
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print the version
    Version,
}

impl Global {
    pub fn format(&self) -> Format {
        self.output.unwrap_or_default()
    }

    /// The format, if one was asked for: some commands do something else by themselves.
    pub fn chosen_format(&self) -> Option<Format> {
        self.output
    }

    pub fn output(&self) -> Output {
        Output::new(self.format())
    }

    /// Whether there is a person at standard error who wants to see how it goes.
    pub fn progress(&self) -> bool {
        !self.no_progress && std::io::stderr().is_terminal()
    }

    pub async fn connect(&self) -> Result<Client, Failure> {
        let config = if self.server.is_empty() {
            ClientConfig::new([DEFAULT_SERVER])
        } else {
            ClientConfig::new(self.server.clone())
        };
        Client::connect(config).await.during(String::new)
    }
}
