//! The command line: the tree of commands. Each command's flags stand in its own file.

use crate::global::Global;
use crate::{
    actor, bench, chaos, cluster, consume, dev, group, log_files, node, partition, produce, serve,
    storage, topic,
};
use clap::{Parser, Subcommand};
use clap_complete::Shell;

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

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node
    Serve(serve::Serve),
    /// Run a node, or several, to try things out: everything on, gone when it stops
    Dev(dev::Dev),
    /// Create, list, describe, change and delete topics
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// Publish lines, or records cut by a format, from standard input or files
    Produce(produce::Produce),
    /// Read records of a topic
    Consume(consume::Consume),
    /// Consumer groups: how far they are, who is in them, and moving what they have committed
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// What the cluster consists of
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Who leads which partition, who is in sync, and electing leaders
    #[command(subcommand)]
    Partition(partition::PartitionCommand),
    /// List and describe nodes, take them out of service and back
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Look into the files of a log; needs no running node
    #[command(subcommand)]
    Log(log_files::LogCommand),
    /// The actors of the nodes
    #[command(subcommand)]
    Actor(actor::ActorCommand),
    /// Make actors fail, again and again, and measure how they recover
    Chaos(chaos::Chaos),
    /// Prepare the data directories of a cluster
    #[command(subcommand)]
    Storage(storage::StorageCommand),
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
