//! `troupe`: the node, the client and the tools, in one binary.
//!
//! - Grammars: [`mod@format`] (`-f`), [`offsets`] (`--offset`), [`quantity`], [`timestamp`]. [`group_records`]
//!   decodes `__consumer_offsets`.
//! - Commands: one file each; [`arguments`] is the tree. [`mod@bench`] measures.
//! - [`output`] and [`failure`]: everything that is printed goes through these two, and through [`streams`].
//! - [`signals`] ask a command to end.
//!
//! Promises: results on standard output, the rest on standard error; the exit code tells what happened.

mod actor;
mod arguments;
mod as_of;
mod bench;
mod chaos;
mod cluster;
mod condition;
mod confirm;
mod consume;
mod dev;
mod failure;
mod foreground;
mod format;
mod global;
mod group;
mod group_records;
mod log_files;
mod node;
mod offsets;
mod output;
mod partition;
mod produce;
mod quantity;
mod readiness;
mod serve;
mod signals;
mod storage;
mod streams;
mod timestamp;
mod topic;
mod waiting;
mod watch;

use arguments::{Arguments, Command};
use failure::{Context, Failure};
use global::Global;
use output::Format;
use std::future::Future;
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    troupe_broker::tune_allocator();
    let _finish = streams::Finish;
    let arguments = match Arguments::read() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => return checked(Ok(()), Format::Table),
        Err(failure) => return failure.report(Format::Table),
    };
    start_tracing(&arguments.command);
    let format = arguments.global.format();
    checked(run(arguments), format)
}

/// How it ended. Only what is written is done.
fn checked(outcome: Result<(), Failure>, format: Format) -> ExitCode {
    let written = || streams::check_results().map_err(|error| Failure::writing(&error));
    match outcome.and_then(|()| written()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(format),
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let global = arguments.global;
    match arguments.command {
        Command::Serve(serve) => serve::serve(&global, serve),
        Command::Dev(dev) => dev::run(&global, dev),
        Command::Topic(command) => block_on(topic::run(&global, command)),
        Command::Produce(produce) => block_on(produce::run(&global, produce)),
        Command::Consume(consume) => block_on(consume::run(&global, consume)),
        Command::Group(command) => block_on(group::run(&global, command)),
        Command::Cluster(command) => block_on(cluster::run(&global, command)),
        Command::Partition(command) => block_on(partition::run(&global, command)),
        Command::Node(command) => block_on(node::run(&global, command)),
        Command::Log(command) => log_files::run(&global, command),
        Command::Actor(command) => block_on(actor::run(&global, command)),
        Command::Chaos(chaos) => block_on(chaos::run(&global, chaos)),
        Command::Storage(command) => storage::run(&global, command),
        Command::Bench(command) => bench::run(&global, command),
        Command::Completion { shell } => completion(&global, shell),
        Command::Version => version(&global),
    }
}

/// Runs a command of the client: the main thread does the command's work, the runtime's the network's.
fn block_on<F: Future<Output = Result<(), Failure>>>(command: F) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .with_context(|| "cannot start threads".to_owned())?;
    let result = runtime.block_on(command);
    // A thread may still sit in a read of the terminal; nobody waits for it.
    runtime.shutdown_background();
    result
}

/// Events go to standard error, filtered by TROUPE_LOG.
fn start_tracing(command: &Command) {
    let default = match command {
        // Raft tells every step of its own as information, and every message to a node that is away as a warning.
        Command::Serve(_) => "info,openraft=error",
        _ => "warn,openraft=error",
    };
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

fn completion(global: &Global, shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::tree(), "troupe", &mut script);
    global.output().print(&String::from_utf8_lossy(&script))
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
