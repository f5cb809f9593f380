//! Signals end every command in order, with a code that says what happened, and nothing is left behind.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::{Dev, Heard, Ran, command, kill, run};

/// A node, or several, of `troupe dev` without a directory of its own.
struct Temporary {
    child: Child,
    ready: Value,
}

impl Temporary {
    fn start(place: &Path, nodes: &str) -> Temporary {
        Temporary::spawn(command(&[]), place, nodes)
    }

    fn spawn(mut command: Command, place: &Path, nodes: &str) -> Temporary {
        let mut child = command
            .args(["dev", "-o", "json", "--listen", "127.0.0.1:0", "--nodes", nodes])
            .env("TMPDIR", place)
            .env("TROUPE_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        Temporary { child, ready: serde_json::from_str(&line).unwrap() }
    }

    fn server(&self) -> &str {
        self.ready["grpc"].as_str().unwrap()
    }

    fn directory(&self) -> &Path {
        Path::new(self.ready["dataDir"].as_str().unwrap())
    }

    fn ended(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().next().is_none()
}

#[test]
fn every_signal_ends_dev_in_order_and_takes_its_directory_with_it() {
    for (signal, nodes) in
        [(libc::SIGHUP, "1"), (libc::SIGINT, "1"), (libc::SIGTERM, "1"), (libc::SIGHUP, "3")]
    {
        let place = tempfile::tempdir().unwrap();
        let mut dev = Temporary::start(place.path(), nodes);
        run(&["topic", "create", "t", "--server", dev.server()]).ok();
        assert!(dev.directory().starts_with(place.path()) && dev.directory().is_dir());
        kill(dev.child.id(), signal);
        assert_eq!(dev.ended(), Some(0), "signal {signal}, {nodes} nodes");
        assert!(is_empty(place.path()), "signal {signal}, {nodes} nodes");
    }
}

/// It ends at once or is just done; either way nothing is left.
#[test]
fn a_second_signal_takes_the_directory_along_too() {
    for (first, second) in [
        (libc::SIGTERM, libc::SIGTERM),
        (libc::SIGTERM, libc::SIGHUP),
        (libc::SIGHUP, libc::SIGINT),
    ] {
        // Nothing tells a process that was busy which of two came first.
        let codes = [0, 128 + first, 128 + second].map(Some);
        let place = tempfile::tempdir().unwrap();
        let mut dev = Temporary::start(place.path(), "3");
        run(&["topic", "create", "t", "-p", "20", "--server", dev.server()]).ok();
        kill(dev.child.id(), first);
        // A signal that comes while the same is waiting is one with it.
        std::thread::sleep(Duration::from_millis(5));
        kill(dev.child.id(), second);
        let ended = dev.ended();
        assert!(codes.contains(&ended), "{first}, {second}: {ended:?}");
        assert!(is_empty(place.path()), "{first}, {second}: {ended:?}");
    }
}

#[test]
fn what_a_killed_dev_has_left_goes_with_the_next_start_and_nothing_else_does() {
    let place = tempfile::tempdir().unwrap();
    let other = Temporary::start(place.path(), "1");
    let mut killed = Temporary::start(place.path(), "1");
    killed.child.kill().unwrap();
    killed.ended();
    assert!(killed.directory().is_dir());
    let next = Temporary::start(place.path(), "1");
    assert!(!killed.directory().exists());
    assert!(other.directory().is_dir() && next.directory().is_dir());
    run(&["cluster", "info", "--server", other.server()]).ok();
}

/// As `nohup` starts it.
#[test]
fn a_hangup_that_is_ignored_stays_ignored() {
    let place = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_troupe")]);
    let mut dev = Temporary::spawn(shell, place.path(), "1");
    kill(dev.child.id(), libc::SIGHUP);
    run(&["cluster", "info", "--server", dev.server()]).ok();
    kill(dev.child.id(), libc::SIGTERM);
    assert_eq!(dev.ended(), Some(0));
}

#[test]
fn every_signal_ends_a_node_in_order() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
        let dir = tempfile::tempdir().unwrap();
        let ended = Heard::start(dir.path()).end(signal);
        assert_eq!(ended.code, 0, "{signal}: {ended:?}");
        assert!(ended.err.contains("stopping"), "{signal}: {ended:?}");
    }
}

fn count(dev: &Dev, topic: &str) -> usize {
    dev.run(&["consume", topic, "-e"]).ok().text().lines().count()
}

#[test]
fn a_producer_that_is_told_to_end_delivers_what_it_has_read_and_says_how_much() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    for (signal, code) in [(libc::SIGTERM, 143), (libc::SIGHUP, 129), (libc::SIGINT, 130)] {
        let topic = format!("t{signal}");
        dev.run(&["topic", "create", &topic]).ok();
        // It waits for company for longer than anybody waits here.
        let mut child = command(&["produce", &topic, "-o", "json", "--server", &dev.server])
            .args(["--linger", "10m", "--delivery-timeout", "20m"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"1\n2\n3\n").unwrap();
        // Read when the pipe is empty.
        while unread(&stdin) > 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(100));
        kill(child.id(), signal);
        let ended: Ran = child.wait_with_output().unwrap().into();
        drop(stdin);
        assert_eq!(ended.code, code, "{ended:?}");
        let delivered = ended.json()["delivered"].as_u64().unwrap();
        assert_eq!(count(&dev, &topic) as u64, delivered, "{ended:?}");
        assert_eq!(delivered, 3, "{ended:?}");
        assert!(ended.err.contains("interrupted"), "{ended:?}");
    }
}

/// Bytes in a pipe that nobody has read yet.
fn unread(pipe: &impl std::os::fd::AsRawFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the call fills one number.
    let done = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    assert_eq!(done, 0);
    usize::try_from(bytes).unwrap()
}

#[test]
fn a_consumer_ends_in_order_and_says_whether_it_was_done() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "t"]).ok();
    dev.run_with(&["produce", "t"], b"1\n2\n3\n").ok();
    for (signal, code) in [(libc::SIGTERM, 143), (libc::SIGHUP, 129), (libc::SIGINT, 130)] {
        let group = format!("g{signal}");
        for (arguments, code) in [
            // Nothing else ends it.
            (&["-b"][..], 0),
            (&["-b", "-g", &group], 0),
            // It was to wait for more.
            (&["-b", "-n", "4"], code),
            (&["-b", "-n", "4", "-g", &group], code),
        ] {
            let mut child = command(&["consume", "t", "--server", &dev.server])
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap());
            let is_second = code != 0 && arguments.contains(&"-g");
            if is_second {
                // The group has all of it already; it has been given its partition.
                let members = || dev.run(&["group", "members", &group]).ok().text().lines().count();
                while members() == 0 {
                    std::thread::sleep(Duration::from_millis(20));
                }
            } else {
                for wanted in ["1\n", "2\n", "3\n"] {
                    let mut line = String::new();
                    lines.read_line(&mut line).unwrap();
                    assert_eq!(line, wanted);
                }
            }
            kill(child.id(), signal);
            let ended: Ran = child.wait_with_output().unwrap().into();
            assert_eq!(ended.code, code, "{arguments:?}: {ended:?}");
            assert_eq!(lines.read_line(&mut String::new()).unwrap(), 0, "{arguments:?}");
        }
        let lag = dev.run(&["group", "lag", &group]).ok();
        assert_eq!(lag.text().split('\t').nth(4), Some("0"), "{signal}: {lag:?}");
    }
}

/// Whoever does not read the output does not keep the process, and gets nothing committed for it.
#[test]
fn a_consumer_that_nobody_reads_from_can_be_ended() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "t"]).ok();
    let lines = "a line that is repeated\n".repeat(50_000);
    dev.run_with(&["produce", "t"], lines.as_bytes()).ok();
    for group in [None, Some("g")] {
        let mut child = command(&["consume", "t", "-b", "-e", "--server", &dev.server])
            .args(group.iter().flat_map(|group| ["-g", group]))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        while unread(&stdout) < 60 << 10 {
            std::thread::sleep(Duration::from_millis(5));
        }
        kill(child.id(), libc::SIGTERM);
        let ended: Ran = child.wait_with_output().unwrap().into();
        assert_eq!(ended.code, 143, "{ended:?}");
        let mut written = String::new();
        stdout.read_to_string(&mut written).unwrap();
        if let Some(group) = group {
            let described = dev.run(&["group", "describe", group]);
            let row = described.text().lines().next().unwrap_or_default();
            let at = row.split('\t').nth(3).and_then(|at| at.parse().ok()).unwrap_or(0);
            assert!(written.matches('\n').count() >= at, "{at}");
        }
    }
}
