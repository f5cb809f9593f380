//! Runs the binary as a user would.
#![allow(dead_code)] // Each test file uses a part of it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_troupe"));
    command.args(arguments).env_remove("TROUPE_SERVER").env_remove("TROUPE_LOG");
    // By `nohup` the tests ignore it, and so would the child.
    let hear_hangups = || {
        // SAFETY: a system call on two numbers, which may be made between fork and exec.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_DFL) };
        Ok(())
    };
    // SAFETY: it does nothing but that.
    unsafe { command.pre_exec(hear_hangups) };
    command
}

/// Sends a signal to a child that has not been waited for.
pub fn kill(pid: u32, signal: libc::c_int) {
    let pid = libc::pid_t::try_from(pid).expect("process ids are small");
    // SAFETY: a system call on two numbers.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

/// What came of a command.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: Vec<u8>,
    pub err: String,
}

impl Ran {
    pub fn text(&self) -> &str {
        str::from_utf8(&self.out).expect("the output is text")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// # Panics
    /// If the command failed.
    pub fn ok(self) -> Ran {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: output.stdout,
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs a command with nothing to read.
pub fn run(arguments: &[&str]) -> Ran {
    command(arguments).stdin(Stdio::null()).output().expect("the binary runs").into()
}

/// Runs a command with something to read.
pub fn run_with(arguments: &[&str], input: &[u8]) -> Ran {
    let mut child = command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    // On a thread: the command may write before it has read everything.
    let writer = std::thread::spawn(move || {
        // A command that fails early does not read to the end.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("the binary ends");
    writer.join().expect("the writer does not panic");
    output.into()
}

/// `troupe serve` at these addresses, with its data in a directory.
pub fn serve(dir: &Path, server: &str, http: &str) -> Command {
    let settings = [
        format!("log.dir={}", dir.display()),
        format!("listener={server}"),
        format!("http.listener={http}"),
    ];
    let mut command = command(&["serve", "-o", "json"]);
    command.args(settings.iter().flat_map(|setting| ["--set", setting]));
    command
}

/// A node of `troupe serve` on free ports, of which everything is heard.
pub struct Heard {
    child: Child,
    /// What it said when it was ready.
    pub ready: serde_json::Value,
}

impl Heard {
    pub fn start(dir: &Path) -> Heard {
        let mut child = serve(dir, "127.0.0.1:0", "127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says something");
        let ready = serde_json::from_str(&line).expect("one line of JSON");
        Heard { child, ready }
    }

    /// Sends it a signal; what it said until its end, and how it ended.
    pub fn end(self, signal: libc::c_int) -> Ran {
        kill(self.child.id(), signal);
        self.child.wait_with_output().expect("it ends").into()
    }
}

/// A node of `troupe dev` on free ports, or several.
pub struct Dev {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// Of several nodes, all of them with commas between.
    pub server: String,
}

impl Dev {
    pub fn start(data_dir: &Path) -> Dev {
        Dev::start_nodes(data_dir, 1)
    }

    pub fn start_nodes(data_dir: &Path, nodes: u16) -> Dev {
        let (data_dir, nodes) = (data_dir.display().to_string(), nodes.to_string());
        let mut child = command(&["dev", "-o", "json", "--data-dir", &data_dir])
            .args(["--listen", "127.0.0.1:0", "--nodes", &nodes])
            // An actor that is killed by a panic shall not fill the test's output.
            .env("RUST_BACKTRACE", "0")
            .env("TROUPE_LOG", "error")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut dev = Dev { child, stdout, server: String::new() };
        let ready = dev.line();
        ready["grpc"].as_str().expect("an address").clone_into(&mut dev.server);
        dev
    }

    /// The next thing it says.
    fn line(&mut self) -> serde_json::Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it says something");
        serde_json::from_str(&line).expect("one line of JSON")
    }

    /// Types a command about a node, and waits for what becomes of the node.
    pub fn tell(&mut self, command: &str) -> String {
        self.say(command)["state"].as_str().expect("a state").to_owned()
    }

    /// Types a command, and waits for the next thing that is said.
    pub fn say(&mut self, command: &str) -> serde_json::Value {
        let stdin = self.child.stdin.as_mut().expect("it is piped");
        stdin.write_all(format!("{command}\n").as_bytes()).expect("it reads what is typed");
        self.line()
    }

    /// What each of three nodes is.
    pub fn nodes(&mut self) -> Vec<(i64, String)> {
        let first = self.say("nodes");
        let all = [first, self.line(), self.line()];
        let state = |node: &serde_json::Value| {
            let state = node["state"].as_str().expect("a state").to_owned();
            (node["nodeId"].as_i64().expect("a number"), state)
        };
        all.iter().map(state).collect()
    }

    /// Runs a client command against this node.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, b"")
    }

    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut all = vec!["--server", self.server.as_str()];
        all.extend(arguments);
        run_with(&all, input)
    }

    /// SIGTERM; gives the exit code.
    pub fn stop(mut self) -> i32 {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        self.child.wait().expect("the node ends").code().unwrap_or(-1)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
