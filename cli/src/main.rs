//! `troupe`: the node, the client and the tools, in one binary.
//!
//! - Grammars: [`mod@format`] (`-f`), [`offsets`] (`--offset`), [`quantity`], [`timestamp`]. [`group_records`]
//!   decodes `__consumer_offsets`.
//! - Commands: one file each; [`arguments`] is the tree. [`mod@bench`] measures.
//! - [`output`] and [`failure`]: everything that is printed goes through these two.
//!
//! Promises: results on standard output, the rest on standard error; the exit code tells what happened.

mod actor;
mod arguments;
mod bench;
mod chaos;
mod cluster;
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
mod storage;
mod timestamp;
mod topic;
mod watch;

use arguments::{Arguments, Command};
use clap::{CommandFactory, Parser};
use failure::{During, Failure};
use global::Global;
use std::future::Future;
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    troupe_broker::tune_allocator();
    let arguments = Arguments::parse();
    start_tracing(&arguments.command);
    let format = arguments.global.format();
    match run(arguments) {
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
        .during(|| "cannot start threads".to_owned())?;
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
    let filter = EnvFilter::try_from_env("TROUPE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let events = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    events.with_writer(std::io::stderr).init();
}

fn completion(global: &Global, shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "troupe", &mut script);
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
        Arguments::command().debug_assert();
    }
}
