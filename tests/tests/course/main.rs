//! The course: Kafka's commands in the order in which they are taught, as a script that anybody can read and run.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::{fs, io};
use troupe_tests::{binary, free_ports, temporary_directory};

/// Ends what a script that was ended itself has left.
struct Nodes<'a>(&'a Path);

impl Drop for Nodes<'_> {
    fn drop(&mut self) {
        for id in 1..=4 {
            let pid = fs::read_to_string(self.0.join(format!("kafka-logs-{id}/troupe.pid")));
            if let Some(pid) = pid.ok().and_then(|pid| pid.trim().parse().ok()) {
                // SAFETY: a system call on two numbers; a process that is gone is no harm.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
    }
}

fn script() -> io::Result<(bool, String)> {
    let directory = temporary_directory();
    let _nodes = Nodes(directory.path());
    let ports: Vec<String> = free_ports(7).iter().map(u16::to_string).collect();
    let output = Command::new("sh")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/course/course.sh"))
        .env("TROUPE", binary())
        .env("COURSE_DIRECTORY", directory.path())
        .env("COURSE_PORTS", ports.join(" "))
        .env_remove("TROUPE_SERVER")
        .env_remove("TROUPE_LOG")
        .stdin(Stdio::null())
        .output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

#[test]
fn every_command_of_the_course_says_and_does_what_is_taught() {
    let (mut is_right, mut said) = script().unwrap();
    // Another process may have taken a port between the moment it was found free and a node's start.
    if !is_right && said.contains("Address already in use") {
        (is_right, said) = script().unwrap();
    }
    assert!(is_right, "{said}");
}
