//! `troupe dev --nodes 3`, and the tools that `troupe compat install` makes.

use super::list::Step;
use super::{Cluster, Said, write_files};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use troupe_tests::{binary, temporary_directory};

pub struct Ours {
    directory: TempDir,
    node: Child,
    server: String,
}

impl Drop for Ours {
    fn drop(&mut self) {
        let _ = self.node.kill();
        let _ = self.node.wait();
    }
}

/// The tools' names, as they are installed, without `.sh`.
pub fn tools() -> Vec<String> {
    let directory = temporary_directory();
    install(directory.path());
    let mut names: Vec<String> = fs::read_dir(directory.path().join("bin"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    let with_ending = names.iter().filter(|name| name.ends_with(".sh")).count();
    assert_eq!(with_ending * 2, names.len(), "each has both of its names");
    names.retain(|name| !name.ends_with(".sh"));
    names.sort();
    names
}

fn install(directory: &Path) {
    let installed = Command::new(binary())
        .args(["compat", "install"])
        .arg(directory.join("bin"))
        .env_remove("TROUPE_SERVER")
        .output()
        .unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
}

impl Ours {
    pub fn start() -> Ours {
        let directory = temporary_directory();
        write_files(directory.path());
        install(directory.path());
        let mut node = Command::new(binary())
            .args(["dev", "--nodes", "3", "-o", "json", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(directory.path().join("data"))
            // Each topic of a course has the replicas that it is given.
            .args(["--set", "offsets.topic.num.partitions=3"])
            .env_remove("TROUPE_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(directory.path().join("dev.log")).unwrap())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(node.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
        let server = ready["grpc"].as_str().unwrap().to_owned();
        let ours = Ours { directory, node, server };
        ours.wait_until_healthy();
        ours
    }

    fn wait_until_healthy(&self) {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let health = Command::new(binary())
                .args(["cluster", "health", "--server", &self.server])
                .output()
                .unwrap();
            if health.status.success() {
                return;
            }
            assert!(Instant::now() < until, "{health:?}");
        }
    }
}

impl Cluster for Ours {
    fn server(&self) -> String {
        self.server.clone()
    }

    fn partition_directory(&self, topic: &str) -> String {
        find(&self.directory.path().join("data"), topic).unwrap().display().to_string()
    }

    fn run(&mut self, step: &Step, words: &[String]) -> Said {
        let input = match &step.input {
            Some(name) => Stdio::from(File::open(self.directory.path().join(name)).unwrap()),
            None => Stdio::null(),
        };
        let mut child = Command::new(self.directory.path().join("bin").join(&words[0]))
            .args(&words[1..])
            .current_dir(self.directory.path())
            .env_remove("TROUPE_SERVER")
            .env_remove("TROUPE_LOG")
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        if step.is_endless() {
            // It has caught the signal once it listens for it, which is before it connects; until then it would end by it.
            let until = Instant::now() + Duration::from_secs(30);
            while !catches_interrupts(child.id()) && Instant::now() < until {
                std::thread::yield_now();
            }
            // SAFETY: a system call on two numbers: a child of ours.
            unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
        }
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let notices = std::thread::spawn(move || std::io::read_to_string(stderr).unwrap());
        let results = std::io::read_to_string(stdout).unwrap();
        let code = child.wait().unwrap().code().unwrap_or(-1);
        Said { code, results, notices: notices.join().unwrap() }
    }
}

/// By what the system says of the process.
fn catches_interrupts(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask & (1 << (libc::SIGINT - 1)) != 0)
}

/// A directory `TOPIC-N` with a log that is not empty.
pub fn find(data: &Path, topic: &str) -> Option<PathBuf> {
    let mut directories = vec![data.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).ok()?.flatten() {
            let path = entry.path();
            if !path.is_dir() {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            let number = name.strip_prefix(topic).and_then(|rest| rest.strip_prefix('-'));
            let is_it = number.is_some_and(|number| number.parse::<u32>().is_ok());
            let log = path.join("00000000000000000000.log");
            if is_it && fs::metadata(log).is_ok_and(|log| log.len() > 0) {
                return Some(path);
            }
            directories.push(path);
        }
    }
    None
}
