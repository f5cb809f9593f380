//! A node in a process of its own, for the time of a measurement.

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub struct Server {
    child: Child,
    pub address: String,
}

impl Server {
    /// Starts `troupe serve` of this same binary on free ports; returns when it serves.
    pub fn start(dir: &Path) -> io::Result<Server> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "-o", "json"])
            .args(["--set", "listener=127.0.0.1:0", "--set", "http.listener=127.0.0.1:0", "--set"])
            .arg(format!("log.dir={}", dir.display()))
            .env("TROUPE_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let ready: serde_json::Value = serde_json::from_str(&line)
            .map_err(|_| io::Error::other("the node did not start; it said why above"))?;
        let address = ready["grpc"].as_str().unwrap_or_default().to_owned();
        Ok(Server { child, address })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its data is about to be removed: it need not close anything.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
