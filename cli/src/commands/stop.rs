//! `troupe stop`: tells a node of this machine to stop, and waits until it has.
//!
//! Promise: no other process is told anything than one that runs on the directory, or that was named.

use crate::configuration::Sources;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::output::Output;
use crate::quantity::{parse_duration, show_duration};
use crate::streams::notice;
use crate::{pid_file, process};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use troupe_log::DataDirectory;

/// Between two looks at whether it has ended.
const POLL: Duration = Duration::from_millis(20);

#[derive(Debug, Args)]
#[command(
    after_help = "The node hands over what it leads, answers what it was asked, and closes its logs.\n\
    Exit codes: 0 it has stopped, 1 it has not in time, 3 none runs there.\n\
    Examples:\n  \
    troupe stop --config server-1.properties\n  \
    troupe stop --data-dir /var/lib/troupe"
)]
pub struct Stop {
    #[command(flatten)]
    sources: Sources,
    /// The node's data directory, in place of a configuration that names it
    #[arg(long, value_name = "DIR", conflicts_with_all = ["file", "config", "set"])]
    data_dir: Option<PathBuf>,
    /// The node's process
    #[arg(long, conflicts_with_all = ["file", "config", "set", "data_dir"])]
    pid: Option<u32>,
    /// Longest wait; the node stops all the same
    #[arg(long, default_value = "2m", value_parser = parse_duration)]
    timeout: Duration,
}

pub fn run(global: &Global, stop: &Stop) -> Result<(), Failure> {
    let pid = match (stop.pid, &stop.data_dir) {
        (Some(pid), _) => named(pid)?,
        (None, Some(directory)) => of_directory(directory)?,
        (None, None) => of_directory(&stop.sources.load()?.metadata_directory())?,
    };
    end(&global.output(), pid, stop.timeout)
}

fn named(pid: u32) -> Result<u32, Failure> {
    if !process::is_running(pid) {
        let cause = format!("there is no process {pid}");
        return Err(Failure::new(Exit::NotFound, "nothing to stop", cause));
    }
    if process::is_troupe(pid) == Some(false) {
        let cause = format!("process {pid} is no troupe");
        return Err(Failure::new(Exit::Refused, "cannot stop the node", cause));
    }
    Ok(pid)
}

fn of_directory(directory: &Path) -> Result<u32, Failure> {
    let none = |cause: String| Failure::new(Exit::NotFound, "nothing to stop", cause);
    let shown = directory.display();
    let is_used = DataDirectory::is_in_use(directory);
    if !is_used.with_context(|| format!("cannot tell whether a node runs on {shown}"))? {
        return Err(none(format!("no node runs on {shown}")));
    }
    let pid = pid_file::read(directory).filter(|pid| process::is_running(*pid));
    pid.ok_or_else(|| {
        none(format!("a node runs on {shown}, and does not say which process it is"))
            .with_hint("name it with --pid, or end it where it was started")
    })
}

fn end(output: &Output, pid: u32, timeout: Duration) -> Result<(), Failure> {
    let begun = Instant::now();
    process::terminate(pid).with_context(|| format!("cannot stop process {pid}"))?;
    if !output.format.is_json() {
        notice!(
            "stopping process {pid}: others take over what it leads, then it answers what it was asked and closes its logs"
        );
    }
    while process::is_running(pid) {
        if begun.elapsed() > timeout {
            let cause = format!("process {pid} is still at it after {}", show_duration(timeout));
            return Err(Failure::new(Exit::Failed, "the node has not stopped", cause)
                .with_hint("its log says what it waits for; `troupe stop` again ends it at once"));
        }
        std::thread::sleep(POLL);
    }
    let took = show_duration(begun.elapsed());
    let view = json!({ "pid": pid, "stopped": true });
    output.one(&view, || format!("process {pid} has stopped (after {took})\n"))
}
