//! What may be typed while the nodes run: one command a line, on standard input.

use super::event::Event;
use std::io::{BufRead, IsTerminal};
use tokio::sync::mpsc::UnboundedSender;

pub const HELP: &str = "\
kill N     node N is gone without a goodbye, as with kill -9
stop N     node N stops as with SIGTERM: others take over first
start N    node N comes back, with what it had on disk
nodes      which nodes run
quit       stop everything, as Ctrl-C does
";

/// One line of standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Kill(i32),
    Stop(i32),
    Start(i32),
    Nodes,
    Help,
    Quit,
}

impl Command {
    /// None: an empty line.
    pub fn parse(line: &str) -> Result<Option<Command>, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let node = |text: &str| match text.parse() {
            Ok(node) => Ok(node),
            Err(_) => Err(format!("`{text}` is no node")),
        };
        Ok(Some(match words.as_slice() {
            [] => return Ok(None),
            ["kill", id] => Command::Kill(node(id)?),
            ["stop", id] => Command::Stop(node(id)?),
            ["start", id] => Command::Start(node(id)?),
            ["nodes"] => Command::Nodes,
            ["help" | "?"] => Command::Help,
            ["quit" | "exit"] => Command::Quit,
            _ => return Err(format!("`{}` is no command; `help` lists them", line.trim())),
        }))
    }
}

/// Reads commands on a thread of its own, until the end of standard input. A job in the background reads
/// nothing: the terminal would stop it.
pub fn listen(inbox: UnboundedSender<Event>) {
    let stdin = std::io::stdin();
    if stdin.is_terminal() && !in_foreground() {
        return;
    }
    std::thread::spawn(move || {
        for line in stdin.lock().lines() {
            // The end of the process, or of what can be read.
            let Ok(line) = line else { return };
            if inbox.send(Event::Line(line)).is_err() {
                return;
            }
        }
    });
}

/// Whether the terminal at standard input gives its lines to this process.
fn in_foreground() -> bool {
    // SAFETY: both calls take and give plain numbers and touch no memory of ours.
    unsafe { libc::tcgetpgrp(libc::STDIN_FILENO) == libc::getpgrp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_command_and_a_node() {
        assert_eq!(Command::parse("kill 2"), Ok(Some(Command::Kill(2))));
        assert_eq!(Command::parse("  start   3 "), Ok(Some(Command::Start(3))));
        assert_eq!(Command::parse(""), Ok(None));
        assert_eq!(Command::parse("help"), Ok(Some(Command::Help)));
        assert!(Command::parse("kill two").is_err());
        assert!(Command::parse("kill").is_err());
    }
}
