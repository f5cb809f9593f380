//! The command line: the tree of commands. Each command's flags stand in its own file.

use crate::commands::{
    actor, bench, chaos, cluster, config, consume, dev, group, log, node, partition, produce,
    reassign, serve, stop, storage, topic, transaction,
};
use crate::compat::CompatCommand;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::global::Global;
use crate::live_names;
use crate::streams::{self, write_notice, write_results};
use crate::typed;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command as Tree, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use clap_complete::env::{CompleteEnv, Shells};
use std::io::{self, IsTerminal};
use std::path::PathBuf;

/// In whose environment it is, a shell asks what may come next.
const COMPLETE: &str = "TROUPE_COMPLETE";

/// Troupe: an event bus of actors. One binary: the node, the client, the tools.
#[derive(Debug, Parser)]
#[command(name = "troupe", version, max_term_width = 100)]
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

    /// Completes what a shell asks for by [`COMPLETE`], as the script of [`Arguments::registration`] does. False: it is
    /// no such question.
    ///
    /// # Errors
    /// It is one that makes no sense.
    pub fn complete() -> Result<bool, Failure> {
        let asked =
            CompleteEnv::with_factory(|| live_names::completed(Arguments::tree())).var(COMPLETE);
        let here = std::env::current_dir().ok();
        let answered = asked.try_complete(std::env::args_os(), here.as_deref());
        answered.map_err(|error| Failure::usage(error.to_string().trim()))
    }

    /// The script that makes a shell ask.
    ///
    /// # Errors
    /// Of writing it.
    pub fn registration(shell: Shell) -> io::Result<String> {
        let shells = Shells::builtins();
        let name = shell.to_string();
        let missing = || io::Error::other(format!("no completion for {name}"));
        let shell = shells.completer(&name).ok_or_else(missing)?;
        // The one that was called: it may not be in PATH.
        let called =
            std::env::args_os().next().map(PathBuf::from).unwrap_or_else(|| "troupe".into());
        let called = match called.components().count() {
            0 | 1 => called,
            _ => std::env::current_dir()?.join(called),
        };
        let mut script = Vec::new();
        shell.write_registration(
            COMPLETE,
            "troupe",
            "troupe",
            &called.to_string_lossy(),
            &mut script,
        )?;
        Ok(String::from_utf8_lossy(&script).into_owned())
    }

    /// What was typed. Help is printed here: None.
    ///
    /// # Errors
    /// It makes no sense, which is told here; or help cannot be printed.
    pub fn read() -> Result<Option<Arguments>, Failure> {
        let mut tree = Arguments::tree();
        tree.build();
        let words = typed::rewritten(&tree, std::env::args_os());
        let parsed = tree.try_get_matches_from_mut(&words);
        let parsed = parsed.and_then(|found| Arguments::from_arg_matches(&found));
        let mut error = match parsed {
            Ok(arguments) => return Ok(Some(arguments)),
            Err(error) => error.format(&mut tree),
        };
        typed::explain(&mut error, &tree, &words);
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
    #[command(alias = "topics")]
    Topic(topic::TopicCommand),
    /// Publish lines, or records cut by a format, from standard input or files
    Produce(produce::Produce),
    /// Read records of a topic
    Consume(consume::Consume),
    /// Consumer groups: how far they are, who is in them, and moving what they have committed
    #[command(subcommand)]
    #[command(aliases = ["groups", "consumer-groups", "consumer-group"])]
    Group(group::GroupCommand),
    /// Transactions: what is open, what hangs, and aborting it
    #[command(subcommand)]
    #[command(aliases = ["transactions", "txn", "txns"])]
    Transaction(transaction::TransactionCommand),
    /// What the cluster consists of
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Who leads which partition, who is in sync, and electing leaders
    #[command(subcommand)]
    #[command(alias = "partitions")]
    Partition(partition::PartitionCommand),
    /// Give partitions other replicas, while they are served
    #[command(subcommand)]
    #[command(aliases = ["reassign-partitions", "reassignment", "reassignments"])]
    Reassign(reassign::ReassignCommand),
    /// List and describe nodes, take them out of service and back
    #[command(subcommand)]
    #[command(aliases = ["nodes", "broker", "brokers"])]
    Node(node::NodeCommand),
    /// Look into the files of a log; needs no running node
    #[command(subcommand)]
    Log(log::LogCommand),
    /// The actors of the nodes
    #[command(subcommand)]
    #[command(alias = "actors")]
    Actor(actor::ActorCommand),
    /// Make actors fail, again and again, and measure how they recover
    Chaos(chaos::Chaos),
    /// Prepare the data directories of a cluster
    #[command(subcommand)]
    Storage(storage::StorageCommand),
    /// Measure
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Kafka's command-line tools, with their names, options and columns
    #[command(subcommand)]
    #[command(after_help = "Examples:\n  \
        troupe compat install ~/bin      # kafka-topics.sh, kafka-console-producer.sh, …: links to this binary\n  \
        troupe compat kafka-topics --bootstrap-server localhost:7070 --list\n  \
        troupe compat list\n\
        Exit codes are those of the tools. docs/compat.md tells tool by tool what differs.")]
    Compat(CompatCommand),
    /// Print a completion script; it completes names of topics, groups and nodes too
    #[command(after_help = "Examples, for the shell's start file:\n  \
        source <(troupe completion bash)             # also zsh\n  \
        troupe completion fish | source\n\
        Names are asked for at --server, or TROUPE_SERVER; for a second at most.")]
    Completion {
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print the version
    Version,
}
