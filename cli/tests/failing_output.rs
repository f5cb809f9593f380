//! Output that fails: on a full disk, in a pipe whose reader has left or has stopped. What could not be written does
//! not count as done, and a node's life depends on nobody who reads its words.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs::{File, OpenOptions};
use std::io::{PipeReader, Read, Write, pipe};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::{Dev, Heard, Ran, command, run, run_with, serve};

const LINES: usize = 100_000;

fn full_disk() -> File {
    OpenOptions::new().write(true).open("/dev/full").expect("Linux has it")
}

/// A topic that holds the numbers from 1 to [`LINES`], one to a line.
fn numbers(dev: &Dev, topic: &str) {
    let lines: String = (1..=LINES).map(|number| format!("{number}\n")).collect();
    dev.run(&["topic", "create", topic]).ok();
    dev.run_with(&["produce", topic], lines.as_bytes()).ok();
}

fn consume(dev: &Dev, topic: &str, group: &str) -> Command {
    let mut command =
        command(&["consume", topic, "-g", group, "-b", "-e", "--server", &dev.server]);
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

/// How many records of the topic's only partition the group has behind it.
fn committed(dev: &Dev, group: &str) -> usize {
    let described = dev.run(&["group", "describe", group]);
    let row = described.text().lines().next().unwrap_or_default();
    row.split('\t').nth(3).and_then(|offset| offset.parse().ok()).unwrap_or(0)
}

fn ran(child: Child) -> Ran {
    child.wait_with_output().expect("it ends").into()
}

#[test]
fn what_could_not_be_written_out_is_not_committed() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    numbers(&dev, "t");
    for (number, more) in
        [&[][..], &["-o", "json"], &["-f", "%k%v\\n"], &["--show-assignment"], &["-n", "3"]]
            .into_iter()
            .enumerate()
    {
        let group = format!("g{number}");
        let child = consume(&dev, "t", &group).args(more).stdout(full_disk()).spawn().unwrap();
        let ran = ran(child);
        assert_eq!(ran.code, 1, "{more:?}: {ran:?}");
        assert!(ran.err.contains("cannot write the output"), "{more:?}: {ran:?}");
        assert!(ran.err.contains("No space left"), "{more:?}: {ran:?}");
        assert_eq!(committed(&dev, &group), 0, "{more:?}");
    }
}

#[test]
fn what_the_reader_of_a_pipe_cannot_have_got_is_not_committed() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    numbers(&dev, "t");
    let mut child = consume(&dev, "t", "g").stdout(Stdio::piped()).spawn().unwrap();
    let mut reader = child.stdout.take().unwrap();
    reader.read_exact(&mut [0]).unwrap();
    drop(reader);
    let ended = ran(child);
    assert_eq!(ended.code, 141, "as SIGPIPE ends other tools: {ended:?}");
    assert_eq!(ended.err, "", "and as quietly");
    // As much as fits into a pipe, and a page that was read from it.
    let numbers = (1..).scan(0, |bytes, number: usize| {
        *bytes += number.to_string().len() + 1;
        (*bytes <= (64 << 10) + 4096).then_some(number)
    });
    let (at, most) = (committed(&dev, "g"), numbers.last().unwrap());
    assert!(at <= most, "{at} are committed, and {most} fit into the pipe");
    // The next member gets all the others.
    let rest = ran(consume(&dev, "t", "g").stdout(Stdio::piped()).spawn().unwrap()).ok();
    assert_eq!(rest.text().lines().next(), Some((at + 1).to_string().as_str()));
    assert_eq!(rest.text().lines().count(), LINES - at);
    assert_eq!(committed(&dev, "g"), LINES);
}

/// What stands in the file before the failure counts, and what comes next is behind it: nothing is missing.
#[test]
fn a_disk_that_fills_up_costs_no_record() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    numbers(&dev, "t");
    let out = dir.path().join("out.txt");
    // A file of this process may grow to so many blocks, and a write beyond is an error, not a signal.
    let limited = "ulimit -f 800; trap '' XFSZ; exec \"$@\"";
    let member = consume(&dev, "t", "g");
    let child = Command::new("sh")
        .args(["-c", limited, "sh"])
        .arg(member.get_program())
        .args(member.get_args())
        .env_remove("TROUPE_LOG")
        .stdout(File::create(&out).unwrap())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let ended = ran(child);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("cannot write the output"), "{ended:?}");
    let at = committed(&dev, "g");
    let whole = std::fs::read_to_string(&out).unwrap().matches('\n').count();
    assert_eq!(at, whole, "every whole line counts, and no other");
    let rest = ran(consume(&dev, "t", "g").stdout(Stdio::piped()).spawn().unwrap()).ok();
    assert_eq!(rest.text().lines().next(), Some((at + 1).to_string().as_str()));
    assert_eq!(rest.text().lines().last(), Some(LINES.to_string().as_str()));
}

#[test]
fn a_command_whose_output_cannot_be_written_says_so_and_fails() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "t"]).ok();
    dev.run_with(&["produce", "t"], b"a line\n").ok();
    dev.run(&["consume", "t", "-g", "g", "-b", "-e"]).ok();
    let log = dir.path().join("t-0/00000000000000000000.log").display().to_string();
    let plan = dir.path().join("plan.json");
    let text = r#"{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[1]}]}"#;
    std::fs::write(&plan, text).unwrap();
    let plan = plan.display().to_string();
    let bench = ["bench", "produce", "--records", "100", "--size", "10", "-o", "json"];
    for arguments in [
        &["topic", "list"][..],
        &["topic", "describe", "t"],
        &["topic", "create", "new", "--dry-run"],
        &["topic", "alter", "t", "--set", "retention.ms=1d"],
        &["produce", "t", "-o", "json"],
        &["consume", "t", "-e"],
        &["consume", "t", "-e", "-o", "json"],
        &["group", "list"],
        &["group", "describe", "g"],
        &["group", "lag", "g"],
        &["group", "reset", "g", "--to", "earliest", "--yes"],
        &["cluster", "info"],
        &["node", "list"],
        &["node", "describe", "1"],
        &["partition", "list"],
        &["partition", "list", "--watch"],
        &["reassign", "plan", "--topics", "t"],
        &["reassign", "plan", "--topics", "t", "-o", "json"],
        &["reassign", "execute", &plan],
        &["reassign", "verify", &plan],
        &["reassign", "list", "-o", "json"],
        &["cluster", "rebalance"],
        &["node", "config", "1", "list", "--all"],
        &["node", "logdirs"],
        &["actor", "tree"],
        &["chaos", "kill", "*/partition/t/0"],
        &bench,
        &["log", "dump", &log],
        &["log", "dump", &log, "--records", "-o", "json"],
        &["log", "verify", &log],
        &["storage", "random-uuid"],
        &["serve", "--help-config"],
        &["completion", "bash"],
        &["version"],
        &["--version"],
        &["--help"],
        &["topic", "create", "--help"],
    ] {
        let mut command = command(&[arguments, &["--server", &dev.server]].concat());
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let ended = ran(command.stdout(full_disk()).spawn().unwrap());
        assert_eq!(ended.code, 1, "{arguments:?}: {ended:?}");
        assert!(ended.err.contains("cannot write the output"), "{arguments:?}: {ended:?}");

        let (reader, pipe) = pipe().unwrap();
        drop(reader);
        let ended = ran(command.stdout(pipe).spawn().unwrap());
        assert_eq!(ended.code, 141, "{arguments:?}: {ended:?}");
        assert_eq!(ended.err, "", "{arguments:?}");
    }
}

#[test]
fn notices_that_nobody_reads_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "t"]).ok();
    dev.run_with(&["produce", "t"], b"1\n2\n").ok();
    for (number, is_gone) in [true, false].into_iter().enumerate() {
        let stderr = || match is_gone {
            true => Stdio::from(pipe().unwrap().1),
            false => Stdio::from(full_disk()),
        };
        let group = format!("g{number}");
        let mut member = consume(&dev, "t", &group);
        let member = member.arg("--show-assignment").stdout(Stdio::piped()).stderr(stderr());
        let ended = ran(member.spawn().unwrap()).ok();
        assert_eq!(ended.text(), "1\n2\n");
        assert_eq!(committed(&dev, &group), 2);
        // Failures keep their codes.
        for (arguments, code) in [
            (&["topic", "describe", "unknown"][..], 3),
            (&["topic", "create", "t"], 4),
            (&["topic", "nonsense"], 2),
            (&["topic", "delete", "t"], 2),
        ] {
            let mut command = command(&[arguments, &["--server", &dev.server]].concat());
            let status = command.stdin(Stdio::null()).stderr(stderr()).status().unwrap();
            assert_eq!(status.code(), Some(code), "{arguments:?}");
        }
    }
}

/// Who reads a node's words, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    /// Its disk is full.
    Full,
    /// It has left.
    Gone,
    /// It does not read, and its pipe is full.
    Stopped,
}

impl Reader {
    /// What is given to the node, and what has to be kept as long as it lives.
    fn make(self) -> (Stdio, Option<PipeReader>) {
        if self == Reader::Full {
            return (full_disk().into(), None);
        }
        let (reader, mut writer) = pipe().unwrap();
        if self == Reader::Gone {
            return (writer.into(), None);
        }
        // Exactly what a pipe holds.
        writer.write_all(&vec![b'.'; 64 << 10]).unwrap();
        (writer.into(), Some(reader))
    }
}

/// How a node is started.
#[derive(Clone, Copy)]
enum Kind {
    Dev,
    Serve,
}

/// A node of which nobody hears anything.
struct Unheard {
    child: Child,
    server: String,
    http: String,
    _readers: [Option<PipeReader>; 2],
}

impl Unheard {
    fn start(dir: &Path, reader: Reader, kind: Kind, settings: &[String]) -> Unheard {
        // Others may take them before the node does: then it does not start, and the test says so.
        let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [server, http] = free.map(|port| port.local_addr().unwrap().to_string());
        let ((out, out_reader), (err, err_reader)) = (reader.make(), reader.make());
        let mut command = match kind {
            Kind::Dev => command(&["dev", "--listen", &server, "--http", &http]),
            Kind::Serve => {
                let mut serve = serve(dir, &server, &http);
                serve.args(["--set", "chaos.enable=true"]);
                serve
            }
        };
        for setting in settings {
            command.args(["--set", setting]);
        }
        let child = command
            .env("TROUPE_LOG", "debug,openraft=error,h2=info,hyper=info,tower=info")
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap();
        let mut node = Unheard { child, server, http, _readers: [out_reader, err_reader] };
        while node.run(&["topic", "create", "first", "--if-not-exists"]).code != 0 {
            assert!(node.child.try_wait().unwrap().is_none(), "{reader:?}: the node has ended");
            std::thread::sleep(Duration::from_millis(20));
        }
        node
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        run(&[arguments, &["--server", &self.server]].concat())
    }

    /// The first group of a node, actors that come and go, one that panics.
    fn work(&self, reader: Reader) {
        for round in 0..3 {
            let (topic, group) = (format!("t{round}"), format!("g{round}"));
            self.run(&["topic", "create", &topic]).ok();
            let line = ["produce", &topic, "--server", &self.server];
            run_with(&line, b"hello\n").ok();
            let member = ["consume", &topic, "-g", &group, "-b", "-n", "1"];
            assert_eq!(self.run(&member).ok().text(), "hello\n", "{reader:?}");
            let panic = format!("*/partition/{topic}/0");
            self.run(&["chaos", "panic", &panic]).ok();
            run_with(&line, b"again\n").ok();
            self.run(&["topic", "delete", &topic, "--yes"]).ok();
        }
    }

    /// SIGTERM; gives the exit code.
    fn stop(mut self) -> Option<i32> {
        support::kill(self.child.id(), libc::SIGTERM);
        self.child.wait().unwrap().code()
    }

    fn metrics(&self) -> String {
        let mut stream = std::net::TcpStream::connect(&self.http).unwrap();
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.http);
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const READERS: [Reader; 3] = [Reader::Full, Reader::Gone, Reader::Stopped];

#[test]
fn a_node_lives_on_and_ends_well_whoever_reads_its_words() {
    for reader in READERS {
        let dir = tempfile::tempdir().unwrap();
        let node = Unheard::start(dir.path(), reader, Kind::Serve, &[]);
        node.work(reader);
        if reader != Reader::Stopped {
            let metrics = node.metrics();
            let lost =
                metrics.lines().find_map(|line| line.strip_prefix("troupe_log_lines_lost_total "));
            let lost: f64 = lost.and_then(|lost| lost.parse().ok()).unwrap_or(0.0);
            assert!(lost > 0.0, "{reader:?}: lost lines are counted: {metrics}");
        }
        assert_eq!(node.stop(), Some(0), "{reader:?}");
    }
}

/// It has something to say on standard output when the cluster has taken it in.
#[test]
fn a_node_of_a_cluster_lives_on_whoever_reads_its_words() {
    for reader in READERS {
        let dir = tempfile::tempdir().unwrap();
        let control = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let settings = [
            "cluster.id=c".to_owned(),
            format!("controller.quorum.voters=1@{control}"),
            format!("controller.listener={control}"),
        ];
        let node = Unheard::start(dir.path(), reader, Kind::Serve, &settings);
        node.work(reader);
        assert_eq!(node.stop(), Some(0), "{reader:?}");
    }
}

#[test]
fn dev_lives_on_whoever_reads_its_words() {
    for reader in READERS {
        let dir = tempfile::tempdir().unwrap();
        let node = Unheard::start(dir.path(), reader, Kind::Dev, &[]);
        node.work(reader);
        assert_eq!(node.stop(), Some(0), "{reader:?}");
    }
}

/// What is said is still said where somebody listens, the last words too.
#[test]
fn a_node_that_is_heard_says_everything() {
    let dir = tempfile::tempdir().unwrap();
    let node = Heard::start(dir.path());
    assert!(node.ready["grpc"].is_string(), "{}", node.ready);
    let ended = node.end(libc::SIGTERM).ok();
    assert!(ended.err.contains("stopping"), "{}", ended.err);
}
