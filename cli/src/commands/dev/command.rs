//! What may be typed while the nodes run: one command a line, on standard input.

use super::event::Event;
use crate::node_faults::{NodeFaultCommand, NodeFaultKind, parse_node};
use crate::quantity::parse_duration;
use clap::Parser;
use std::io::{BufRead, IsTerminal};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

pub const HELP: &str = "\
kill N     node N is gone without a goodbye, as with kill -9
stop N     node N stops as with SIGTERM: others take over first
start N    node N comes back, with what it had on disk
nodes      which nodes run

cut 1 2 [10s]         nothing passes between nodes 1 and 2; `cut 1` cuts it off from all
slow 1 2 50ms [10s]   what they send each other takes longer
pause 2 [10s]         node 2 stands still
slow-disk 1 200ms     its flushes take longer; full-disk 1, fsync-error 1: they fail
clock 2 +5s           its clock is wrong
faults                what lasts
heal [ID]             that ends, or all does; each ends by itself, after 10s if nothing is said

quit       stop everything, as Ctrl-C does
";

/// One line of standard input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Fault(NodeFaultKind, Option<Duration>),
    Faults,
    /// Empty: all.
    Heal(String),
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
            ["faults"] => Command::Faults,
            ["heal"] => Command::Heal(String::new()),
            ["heal", id] => Command::Heal((*id).to_owned()),
            [name, ..] if FaultLine::knows(name) => FaultLine::parse(&words)?,
            _ => return Err(format!("`{}` is no command; `help` lists them", line.trim())),
        }))
    }
}

/// The words of `troupe chaos` for a node, which may end with how long: `cut 1 2 10s`.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct FaultLine {
    #[command(subcommand)]
    command: NodeFaultCommand,
}

impl FaultLine {
    fn knows(name: &str) -> bool {
        ["cut", "slow", "slow-disk", "full-disk", "fsync-error", "clock", "pause"].contains(&name)
    }

    fn parse(words: &[&str]) -> Result<Command, String> {
        // How many words say what, in front of the one that says for how long.
        let needed = match words[0] {
            "slow" => 4,
            "slow-disk" | "clock" => 3,
            _ => 2,
        };
        let (mut words, mut lasts) = (words.to_vec(), None);
        if words.len() > needed
            && let Some(last) = words.last()
            && last.ends_with(|c: char| c.is_ascii_alphabetic())
            && let Ok(duration) = parse_duration(last)
            && !words[words.len() - 2].starts_with("--")
        {
            lasts = Some(duration);
            words.pop();
        }
        if let ["pause", node] = words.as_slice() {
            let node = parse_node(node).map_err(|why| format!("`{node}`: {why}"))?;
            return Ok(Command::Fault(NodeFaultKind::Pause { node }, lasts));
        }
        if words[0] == "pause" {
            return Err("pause what? `pause 2 5s` pauses node 2 for five seconds".to_owned());
        }
        let line = FaultLine::try_parse_from(&words).map_err(|error| {
            let told = error.to_string();
            let first = told.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            format!("{}; `help` shows how it is said", first.trim_start_matches("error: "))
        })?;
        let (kind, duration) = line.command.into_kind();
        Ok(Command::Fault(kind, duration.or(lasts)))
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

    #[test]
    fn a_fault_is_said_as_on_the_command_line_and_may_end_with_its_time() {
        let cut = |others: &[i32]| NodeFaultKind::Cut {
            node: 1,
            others: others.to_vec(),
            one_way: false,
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (line, kind, lasts) in [
            ("cut 1 2", cut(&[2]), None),
            ("cut 1 2 5s", cut(&[2]), seconds(5)),
            ("cut 1 2,3 --for 5s", cut(&[2, 3]), seconds(5)),
            ("cut 1", cut(&[]), None),
            ("pause 2 5s", NodeFaultKind::Pause { node: 2 }, seconds(5)),
            ("clock 2 -5s 1m", NodeFaultKind::Clock { node: 2, offset_ms: -5_000 }, seconds(60)),
            (
                "slow-disk 1 200ms",
                NodeFaultKind::SlowDisk {
                    node: 1,
                    delay: Duration::from_millis(200),
                    dir: String::new(),
                },
                None,
            ),
        ] {
            assert_eq!(Command::parse(line), Ok(Some(Command::Fault(kind, lasts))), "{line}");
        }
        assert_eq!(Command::parse("heal"), Ok(Some(Command::Heal(String::new()))));
        for wrong in ["pause", "cut", "slow 1 2", "clock 2 soon", "cut one two"] {
            let told = Command::parse(wrong).unwrap_err();
            assert!(!told.is_empty() && !told.contains('\n'), "{wrong}: {told}");
        }
    }
}
