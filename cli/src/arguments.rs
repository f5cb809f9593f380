//! The command line: the tree of commands. Each command's flags stand in its own file.

use crate::commands::{
    actor, bench, chaos, cluster, config, consume, dev, group, log, node, partition, produce,
    reassign, serve, stop, storage, topic, transaction,
};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::global::Global;
use crate::streams::{self, write_notice, write_results};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command as Tree, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use std::ffi::OsString;
use std::io::IsTerminal;

/// Troupe: an event bus of actors. One binary: the node, the client, the tools.
#[derive(Debug, Parser)]
#[command(name = "troupe", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 refused; of `cluster health` also\n\
    5 degraded and 6 unhealthy; 129, 130, 141 and 143: ended by SIGHUP, SIGINT, SIGPIPE or SIGTERM before it\n\
    was done.\n\
    Start here: `troupe dev`, then `troupe topic create hello` in another terminal."
)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

impl Arguments {
    /// The tree of commands, as it is parsed.
    pub fn tree() -> Tree {
        with_hyphen_values(Arguments::command())
    }

    /// What was typed. Help is printed here: None.
    ///
    /// # Errors
    /// It makes no sense, which is told here; or help cannot be printed.
    pub fn read() -> Result<Option<Arguments>, Failure> {
        let mut tree = Arguments::tree();
        let parsed = tree.try_get_matches_from_mut(typed());
        let parsed = parsed.and_then(|found| Arguments::from_arg_matches(&found));
        let error = match parsed {
            Ok(arguments) => return Ok(Some(arguments)),
            Err(error) => error.format(&mut tree),
        };
        if error.use_stderr() {
            let text = error.render();
            let colours = std::io::stderr().is_terminal() && streams::colours();
            let text = if colours { text.ansi().to_string() } else { text.to_string() };
            write_notice(format_args!("{text}"));
            return Err(Failure::silent(Exit::Usage));
        }
        let text = error.render();
        let colours = std::io::stdout().is_terminal() && streams::colours();
        let text = if colours { text.ansi().to_string() } else { text.to_string() };
        write_results(text.as_bytes()).map_err(|error| Failure::writing(&error))?;
        match error.kind() {
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                Err(Failure::silent(Exit::Usage))
            }
            _ => Ok(None),
        }
    }
}

/// `serve -daemon` is how Kafka's own command has it.
fn typed() -> impl Iterator<Item = OsString> {
    let mut is_serve = false;
    std::env::args_os().map(move |argument| {
        is_serve |= argument == "serve";
        if is_serve && argument == "-daemon" { "--daemon".into() } else { argument }
    })
}

/// `--acks -1`, `-k -x`: the word after an option that has a value is its value, as with getopt. What makes no sense
/// there is told as such. Words of their own may only be negative numbers: others that begin with a hyphen stand
/// behind `--`.
fn with_hyphen_values(tree: Tree) -> Tree {
    let takes_values = |arg: &Arg| matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    tree.mut_args(|arg| match (takes_values(&arg), arg.is_positional()) {
        (false, _) => arg,
        (true, false) => arg.allow_hyphen_values(true),
        (true, true) => arg.allow_negative_numbers(true),
    })
    .mut_subcommands(with_hyphen_values)
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node
    Serve(serve::Serve),
    /// Stop a node of this machine, and wait until it has stopped
    Stop(stop::Stop),
    /// Check and print the configuration of a node
    #[command(subcommand)]
    Config(config::ConfigCommand),
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
    /// Transactions: what is open, what hangs, and aborting it
    #[command(subcommand)]
    Transaction(transaction::TransactionCommand),
    /// What the cluster consists of
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Who leads which partition, who is in sync, and electing leaders
    #[command(subcommand)]
    Partition(partition::PartitionCommand),
    /// Give partitions other replicas, while they are served
    #[command(subcommand)]
    Reassign(reassign::ReassignCommand),
    /// List and describe nodes, take them out of service and back
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Look into the files of a log; needs no running node
    #[command(subcommand)]
    Log(log::LogCommand),
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
