//! `troupe`: the node, the client and the tools, in one binary.
//!
//! - [`arguments`] is the tree of commands; [`commands`] has a file or folder for each of them. What follows is what they
//!   share, and knows none of them.
//! - [`compat`]: Kafka's tools under their own names, over what the commands are made of.
//! - What was typed: [`typed`] reads it, [`foreign_words`] knows what Kafka's users call it, [`nearest`] what may have
//!   been meant, [`endpoints`] addresses.
//!   [`live_names`] completes and suggests names of what is there.
//! - Connecting: [`global`] options, and [`waiting`] for answers, which asks for the cluster's [`health`]; [`fan_out`] asks
//!   several nodes. [`runtime`] runs it. [`producer`] sends, to a schedule by [`pace`].
//! - What there is in a cluster: [`node_view`], [`replica_condition`], [`actors`] ([`address_pattern`], [`roles`]), [`assignment`], [`reassignment`]; [`as_of`]
//!   when that is true. [`placement`]: who has what, and had better.
//! - A node in this process: [`configuration`], [`ports`], [`foreground`], [`readiness`]; in one of its own: [`pid_file`],
//!   [`process`].
//! - Values and grammars: [`quantity`], [`timestamp`], [`offset_range`] (`--offset`), [`record_format`] (`-f`); [`decoder`],
//!   [`group_records`] and [`transaction_records`] tell what stands in internal topics, [`metadata_records`] what in the metadata log; [`latency`] keeps percentiles.
//! - Printing: [`output`] and [`failure`], and [`watch`] again and again; all of it goes through [`streams`]. [`confirm`]
//!   asks.
//! - Ending: [`signals`] ask a command to end, [`mod@exit`] tells how it did.
//!
//! Promises: results on standard output, the rest on standard error; the exit code tells what happened.

mod actors;
mod address_pattern;
mod arguments;
mod as_of;
mod assignment;
mod commands;
mod compat;
mod configuration;
mod confirm;
mod decoder;
mod endpoints;
mod exit;
mod failure;
mod fan_out;
mod foreground;
mod foreign_words;
mod global;
mod group_records;
mod health;
mod latency;
mod live_names;
mod metadata_records;
mod nearest;
mod node_view;
mod offset_range;
mod output;
mod pace;
mod pid_file;
mod placement;
mod ports;
mod process;
mod producer;
mod quantity;
mod readiness;
mod reassignment;
mod record_format;
mod replica_condition;
mod roles;
mod runtime;
mod settings;
mod signals;
mod streams;
mod timestamp;
mod topic_partitions;
mod topic_selection;
mod transaction_records;
mod typed;
mod waiting;
mod watch;

use arguments::{Arguments, Command};
use commands::{
    actor, bench, chaos, cluster, config, consume, dev, group, log, node, partition, produce,
    reassign, serve, stop, storage, topic, transaction,
};
use failure::Failure;
use global::Global;
use output::{Format, report};
use runtime::block_on;
use std::io::IsTerminal;
use std::process::ExitCode;
use streams::notice;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    troupe_broker::tune_allocator();
    let _finish = streams::FinishGuard;
    let mut typed = std::env::args_os();
    if let Some(tool) = compat::called_as(typed.next().as_ref()) {
        start_tracing(if tool.is_node() { NODE_EVENTS } else { EVENTS });
        return compat::tool(tool, typed);
    }
    match Arguments::complete() {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => {}
        Err(failure) => return report(&failure, Format::Table),
    }
    let arguments = match Arguments::read() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => return checked(Ok(()), Format::Table),
        Err(failure) => return report(&failure, Format::Table),
    };
    start_tracing(arguments.command.events());
    let (global, format) = (arguments.global.clone(), arguments.global.format());
    let outcome = match arguments.command {
        Command::Compat(command) => match compat::run(&global, command) {
            Ok(Some(code)) => return code,
            other => other.map(drop),
        },
        _ => run(arguments).map_err(|failure| live_names::with_suggestion(failure, &global)),
    };
    checked(outcome, format)
}

/// How it ended. Only what is written is done.
fn checked(outcome: Result<(), Failure>, format: Format) -> ExitCode {
    let written = || streams::check_results().map_err(|error| Failure::writing(&error));
    match outcome.and_then(|()| written()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure, format),
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let global = arguments.global;
    match arguments.command {
        Command::Serve(serve) => serve::serve(&global, &serve),
        Command::Stop(stop) => stop::run(&global, &stop),
        Command::Config(command) => config::run(&global, command),
        Command::Dev(dev) => dev::run(&global, dev),
        Command::Topic(command) => block_on(topic::run(&global, command)),
        Command::Produce(produce) => block_on(produce::run(&global, produce)),
        Command::Consume(consume) => block_on(consume::run(&global, consume)),
        Command::Group(command) => block_on(group::run(&global, command)),
        Command::Transaction(command) => block_on(transaction::run(&global, command)),
        Command::Cluster(command) => block_on(cluster::run(&global, command)),
        Command::Partition(command) => block_on(partition::run(&global, command)),
        Command::Reassign(command) => block_on(reassign::run(&global, command)),
        Command::Node(command) => block_on(node::run(&global, command)),
        Command::Log(command) => log::run(&global, command),
        Command::Actor(command) => block_on(actor::run(&global, command)),
        Command::Chaos(chaos) => block_on(chaos::run(&global, chaos)),
        Command::Storage(command) => storage::run(&global, command),
        Command::Bench(command) => bench::run(&global, command),
        // It ends with codes of its own.
        Command::Compat(command) => compat::run(&global, command).map(drop),
        Command::Completion { shell } => completion(&global, shell),
        Command::Version => version(&global),
    }
}

/// Raft tells every step of its own as information, and every message to a node that is away as a warning.
const NODE_EVENTS: &str = "info,openraft=error";
const EVENTS: &str = "warn,openraft=error";

impl Command {
    /// Which events are told, unless TROUPE_LOG says.
    fn events(&self) -> &'static str {
        match self {
            Command::Serve(_) => NODE_EVENTS,
            Command::Compat(command) if command.is_node() => NODE_EVENTS,
            _ => EVENTS,
        }
    }
}

/// Events go to standard error, filtered by TROUPE_LOG.
fn start_tracing(default: &str) {
    let asked = std::env::var("TROUPE_LOG").ok().filter(|asked| !asked.trim().is_empty());
    let filter = EnvFilter::try_new(asked.as_deref().unwrap_or(default)).unwrap_or_else(|error| {
        notice!("note: TROUPE_LOG cannot be used, it is `{default}` instead: {error}");
        EnvFilter::new(default)
    });
    let colours = std::io::stderr().is_terminal() && streams::colours();
    let events = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    // What cannot be told is not told on standard error either: that is what cannot be written.
    events.log_internal_errors(false).with_writer(|| streams::Notices).init();
}

/// The script asks this binary, each time something is completed.
fn completion(global: &Global, shell: clap_complete::Shell) -> Result<(), Failure> {
    let script = Arguments::registration(shell).map_err(|error| Failure::writing(&error))?;
    global.output().print(&script)
}

fn version(global: &Global) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let view = serde_json::json!({ "version": version });
    global.output().one(&view, || format!("troupe {version}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_of_commands_is_sound() {
        Arguments::tree().debug_assert();
    }
}
