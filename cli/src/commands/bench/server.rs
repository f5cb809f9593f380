//! A node in a process of its own, for the time of a measurement.

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub struct Server {
    child: Child,
    pub address: String,
}

impl Server {
    /// Starts `troupe serve` of this same binary on free ports; returns when it serves, being alone.
    pub fn start(dir: &Path) -> io::Result<Server> {
        let listeners = ["listener=127.0.0.1:0", "http.listener=127.0.0.1:0"];
        Server::start_with(dir, &listeners.map(str::to_owned), "warn")
    }

    /// The same with these keys and values set: one of several nodes listens by then. `log` filters what it
    /// says on standard error.
    pub fn start_with(dir: &Path, settings: &[String], log: &str) -> io::Result<Server> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", "-o", "json", "--set", &format!("log.dir={}", dir.display())]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let mut child =
            command.env("TROUPE_LOG", log).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
        let mut server = Server { child, address: String::new() };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let ready: serde_json::Value = serde_json::from_str(&line)
            .map_err(|_| io::Error::other("the node did not start; it said why above"))?;
        ready["grpc"].as_str().unwrap_or_default().clone_into(&mut server.address);
        Ok(server)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end of a process that has been told to end.
    pub fn ended(&mut self) -> io::Result<()> {
        self.child.wait().map(drop)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its data is about to be removed: it need not close anything.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
