//! `troupe compat`: Kafka's command-line tools under their own names, with their options, columns and exit codes.
//!
//! - [`tools`] is the list of them; each has a file of its own. [`install`] makes links: the name by which the binary is
//!   called says which tool it is.
//! - [`options`] reads what most of them are given, [`arguments`] what those with commands of their own are; [`properties`]
//!   reads settings of clients, [`link`] connects with them.
//! - [`ended`] is how a tool ends that has failed; [`columns`] are Kafka's ways to align; [`errors`] its names of errors.
//!
//! Promises: what is printed was asked of the cluster; what cannot be had is refused with the reason and with what to do
//! instead. Never here: a call of the API that the commands and the SDK do not have.

mod api_versions;
mod arguments;
mod cluster;
mod columns;
mod configs;
mod console_consumer;
mod console_producer;
mod consumer_groups;
mod consumer_perf;
mod delete_records;
mod dump_log;
mod elections;
mod end_to_end;
mod ended;
mod errors;
mod features;
mod get_offsets;
mod groups;
mod install;
mod link;
mod log_dirs;
mod options;
mod ours;
mod producer_perf;
mod properties;
mod quorum;
mod reassign;
mod refused;
mod server;
mod storage;
mod tools;
mod topics;
mod transactions;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::global::Global;
use crate::output::{Table, text};
use crate::streams::{write_notice, write_results};
use clap::Subcommand;
use ended::Ended;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tools::TOOLS;
pub use tools::Tool;

#[derive(Debug, Subcommand)]
pub enum CompatCommand {
    /// Link every tool's name, with and without .sh, to this binary in a directory
    #[command(after_help = "Example:\n  \
        troupe compat install ~/bin    # then `kafka-topics.sh --bootstrap-server localhost:7070 --list`\n\
        What is there already and is no such link is left alone, and told.")]
    Install {
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// List the tools, and what they are called here
    #[command(visible_alias = "ls")]
    List,
    /// One of the tools, and its own options
    #[command(external_subcommand)]
    Tool(Vec<OsString>),
}

impl CompatCommand {
    /// Whether a node runs by it.
    pub fn is_node(&self) -> bool {
        match self {
            CompatCommand::Tool(words) => {
                let name = words.first().map(|word| word.to_string_lossy());
                name.and_then(|name| tools::find(&name)).is_some_and(Tool::is_node)
            }
            CompatCommand::Install { .. } | CompatCommand::List => false,
        }
    }
}

/// The tool that this binary is called as, if it is: by a link, or by name behind `compat`.
pub fn called_as(program: Option<&OsString>) -> Option<&'static Tool> {
    let name = Path::new(program?).file_name()?.to_str()?;
    tools::find(name).filter(|tool| name.starts_with(tool.name))
}

/// Runs it with its own words, and ends as it ends.
pub fn tool(tool: &Tool, words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<String> =
        words.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
    finished((tool.run)(&words))
}

fn finished(ended: Result<(), Ended>) -> ExitCode {
    let checked = ended.and_then(|()| {
        crate::streams::check_results().map_err(|error| Failure::writing(&error).into())
    });
    match checked {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ended { code, results, notices }) => {
            // Its reader may have left: then the code tells.
            let _ = write_results(results.as_bytes());
            write_notice(format_args!("{notices}"));
            ExitCode::from(code)
        }
    }
}

/// # Errors
/// There is no such tool, the directory cannot be written; the exit code of a tool that has failed.
pub fn run(global: &Global, command: CompatCommand) -> Result<Option<ExitCode>, Failure> {
    match command {
        CompatCommand::Install { directory } => {
            install::install(global, &directory)?;
            Ok(None)
        }
        CompatCommand::List => list(global).map(|()| None),
        CompatCommand::Tool(mut words) => {
            let name = words.remove(0);
            let name = name.to_string_lossy();
            match tools::find(&name) {
                Some(found) => Ok(Some(tool(found, words))),
                None => Err(Failure::new(Exit::Usage, "", format!("there is no tool `{name}`"))
                    .with_hint("`troupe compat list` shows those that there are")),
            }
        }
    }
}

fn list(global: &Global) -> Result<(), Failure> {
    let view = |tool: &Tool| serde_json::json!({ "name": tool.name, "ours": tool.ours });
    let rows: Vec<serde_json::Value> = TOOLS.iter().map(view).collect();
    global.output().many("tools", &rows, || {
        let mut table = Table::new(&[text("TOOL"), text("HERE")]);
        for tool in TOOLS {
            table.row(vec![tool.name.to_owned(), tool.ours.to_owned()]);
        }
        table
    })
}
