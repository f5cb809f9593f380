//! `troupe serve --daemon`: a node in a process of its own, and the wait until it serves.
//!
//! Promises: this returns without an error when the node serves, or when it listens and waits for the rest of its
//! cluster; of a node that does not start it is told why, with the exit code that it had.

use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::output::Output;
use crate::pid_file::{self, Started};
use crate::streams::notice;
use serde_json::json;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use troupe_broker::NodeConfig;

const LOG: &str = "troupe.log";
/// Between two looks at how far the node is.
const POLL: Duration = Duration::from_millis(20);
/// How long a node is waited for that waits for others: they may be started only after this returns.
const PATIENCE: Duration = Duration::from_secs(3);
/// A node whose cluster runs serves by then: before it is told that one waits.
const SOON: Duration = Duration::from_millis(500);
/// Of what a node said that did not start, so much is told.
const TOLD: u64 = 16 << 10;

/// What has become of the node.
enum Outcome {
    Ready(Started),
    Waiting(Started),
    Ended(ExitStatus),
}

pub fn start(output: &Output, config: &NodeConfig, log: Option<&Path>) -> Result<(), Failure> {
    let directory = config.metadata_directory();
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let path = log.map_or_else(|| directory.join(LOG), PathBuf::from);
    let log = OpenOptions::new().create(true).append(true).open(&path);
    let log = log.with_context(|| format!("cannot write to {}", path.display()))?;
    let before = log.metadata().map_or(0, |metadata| metadata.len());
    let mut child = spawn(&log)?;
    match wait(&mut child, &directory).with_context(|| "cannot wait for the node".to_owned())? {
        Outcome::Ready(started) | Outcome::Waiting(started) => tell(output, &started, &path),
        Outcome::Ended(status) => {
            let cause = said_since(&path, before);
            let exit = match status.code() {
                Some(2) => Exit::Usage,
                Some(3) => Exit::NotFound,
                Some(4) => Exit::Refused,
                _ => Exit::Failed,
            };
            let cause = if cause.is_empty() { status.to_string() } else { cause };
            Err(Failure::new(exit, "the node did not start", cause)
                .with_hint(format!("{} has all that it said", path.display())))
        }
    }
}

/// The same command again, in a session of its own.
fn spawn(log: &File) -> Result<Child, Failure> {
    let what = || "cannot start the node".to_owned();
    let program = std::env::current_exe().with_context(what)?;
    let arguments = std::env::args_os().skip(1).map(|argument| match argument.to_str() {
        Some("--daemon" | "-daemon") => "--detached".into(),
        _ => argument,
    });
    let mut arguments: Vec<_> = arguments.collect();
    // It does not go to the background again, and needs no file to say where it speaks.
    if let Some(at) = arguments.iter().position(|argument| argument == "--log-file") {
        arguments.drain(at..(at + 2).min(arguments.len()));
    }
    arguments.retain(|argument| {
        !argument.to_str().is_some_and(|argument| argument.starts_with("--log-file="))
    });
    let (output, errors) =
        (log.try_clone().with_context(what)?, log.try_clone().with_context(what)?);
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .with_context(what)
}

fn wait(child: &mut Child, directory: &Path) -> std::io::Result<Outcome> {
    let (mut listens_since, mut told) = (None, false);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Outcome::Ended(status));
        }
        if let Some(started) = pid_file::started(directory, child.id()) {
            if started.ready {
                return Ok(Outcome::Ready(started));
            }
            let since = *listens_since.get_or_insert_with(Instant::now);
            if since.elapsed() > PATIENCE {
                return Ok(Outcome::Waiting(started));
            }
            if !told && since.elapsed() > SOON {
                let seconds = PATIENCE.as_secs();
                notice!(
                    "the node listens, and serves once a majority of its controllers runs: waiting {seconds} s for them"
                );
                told = true;
            }
        }
        std::thread::sleep(POLL);
    }
}

fn tell(output: &Output, started: &Started, log: &Path) -> Result<(), Failure> {
    let Started { pid, grpc, http, ready } = started;
    let log = log.display();
    let view = json!({
        "pid": pid, "grpc": grpc, "http": http, "ready": ready, "log": log.to_string(),
    });
    output.one(&view, || {
        let does = if *ready { "serves" } else { "listens for" };
        let waits = match ready {
            true => "",
            false => "; it serves once a majority of the controllers of its cluster runs: start the others",
        };
        format!("process {pid} {does} gRPC on {grpc}, HTTP on {http}{waits}; its log is {log}\n")
    })
}

/// What was written to the log behind `before`; of much, the end.
fn said_since(path: &Path, before: u64) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(before.max(end.saturating_sub(TOLD))))?;
        let mut said = Vec::new();
        file.read_to_end(&mut said)?;
        Ok(String::from_utf8_lossy(&said).trim().to_owned())
    };
    read().unwrap_or_default()
}
