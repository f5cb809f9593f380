//! The built command line, and plain HTTP: what people and scripts ask a node with.

use crate::process::binary;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};

fn command(server: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).env("TROUPE_SERVER", server).env_remove("TROUPE_LOG");
    command
}

/// Runs `troupe` with these arguments against a node.
pub async fn troupe(server: &str, arguments: &[&str]) -> Output {
    let mut command = command(server, arguments);
    command.stdin(Stdio::null());
    let ended = tokio::task::spawn_blocking(move || command.output());
    ended.await.expect("running a command does not panic").expect("the binary can be started")
}

/// Runs `troupe` with `input`, which stays open, until it says `wanted` on standard error; then ends it. What it
/// said until then.
///
/// # Errors
/// The same, if it ended first.
pub async fn troupe_until(
    server: &str,
    arguments: &[&str],
    input: &str,
    wanted: &str,
) -> Result<String, String> {
    let mut command = command(server, arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let (input, wanted) = (input.to_owned(), wanted.to_owned());
    let listened = tokio::task::spawn_blocking(move || {
        let mut child = Killed(command.spawn().expect("the binary can be started"));
        let mut stdin = child.0.stdin.take().expect("it was asked for");
        // It may have ended already; what it said tells why.
        let _ = stdin.write_all(input.as_bytes()).and_then(|()| stdin.flush());
        let mut said = String::new();
        let stderr = child.0.stderr.take().expect("it was asked for");
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            said += &format!("{line}\n");
            if line.contains(&wanted) {
                return Ok(said);
            }
        }
        Err(said)
    });
    listened.await.expect("listening does not panic")
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The status and the body of an answer by HTTP.
pub async fn http_get(address: &str, path: &str) -> (u16, String) {
    let (address, path) = (address.to_owned(), path.to_owned());
    let asked = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(&address).expect("somebody listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it listens");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("an answer has a status"), body.to_owned())
    });
    asked.await.expect("asking does not panic")
}
