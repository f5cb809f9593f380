//! The examples that stand beside the calls of the contract, typed as they stand there.

use super::{prepared, said};
use std::process::Command;
use troupe_tests::workspace;
use troupe_tests::{Process, Serve, Server, clients_directory};

/// One call's.
struct Example {
    rpc: String,
    typed: String,
    answers: String,
}

/// What is said before each `rpc` of a file, as its examples; and the names of those that have none.
fn examples(proto: &str) -> (Vec<Example>, Vec<String>) {
    let (mut examples, mut without) = (Vec::new(), Vec::new());
    let mut comment = Vec::new();
    for line in proto.lines().map(str::trim) {
        match line.strip_prefix("//") {
            Some(said) => comment.push(said),
            None => {
                let comment = std::mem::take(&mut comment);
                let Some(rpc) = line.strip_prefix("rpc ") else { continue };
                let rpc = rpc.split('(').next().unwrap().to_owned();
                let example = comment.iter().position(|line| line.starts_with(" Example"));
                let Some(from) = example else {
                    without.push(rpc);
                    continue;
                };
                let lines = &comment[from + 1..];
                let end = lines.iter().position(|line| *line == " answers").unwrap();
                let indented = |line: &&&str| line.starts_with("   ");
                let join = |lines: &[&str]| -> String {
                    lines.iter().filter(indented).map(|line| format!("{} ", line.trim())).collect()
                };
                let (typed, answers) = (join(&lines[..end]), join(&lines[end..]));
                examples.push(Example { rpc, typed, answers });
            }
        }
    }
    (examples, without)
}

/// Both without blanks; `…` stands for anything.
fn shows(shown: &str, output: &str) -> bool {
    let bare = |text: &str| text.split_whitespace().collect::<String>();
    let (shown, output) = (bare(shown), bare(output));
    let mut parts = shown.split('…');
    let Some(mut rest) = output.strip_prefix(parts.next().unwrap()) else { return false };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty() || shown.ends_with('…')
}

#[tokio::test]
async fn every_call_of_the_event_bus_has_an_example_that_can_be_typed() {
    const TEST: &str = "every_call_of_the_event_bus_has_an_example_that_can_be_typed";
    let proto = workspace::read("proto/troupe/v1/event_bus.proto").unwrap();
    let (examples, without) = examples(&proto);
    assert_eq!(without, Vec::<String>::new(), "calls without an example");
    assert!(!shows("{…}", "[]") && shows("{\"a\": …}", "{\"a\":[1,2]}"));
    if !prepared(TEST, "grpcurl") {
        return;
    }
    let (_directory, process) = Process::start_new(&Serve::default());
    Server::at(process.server()).await.create_topic("orders", 1, &[]).await;
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", clients_directory().display());
    let mut ack_id = String::new();
    for Example { rpc, typed, answers } in examples {
        assert!(typed.contains("127.0.0.1:7070"), "{rpc}: {typed}");
        let typed = typed.replace("127.0.0.1:7070", process.server()).replace("ACK_ID", &ack_id);
        let mut command = Command::new("bash");
        command.args(["-c", &typed]).env("PATH", &path);
        let run = tokio::task::spawn_blocking(move || command.output());
        let output = run.await.unwrap().unwrap();
        let shown = String::from_utf8(output.stdout.clone()).unwrap();
        assert!(shows(&answers, &shown), "{rpc}: `{typed}` answers\n{}", said(&output));
        if let Some((_, rest)) = shown.split_once("\"ackId\":") {
            ack_id = rest.split('"').nth(1).unwrap().to_owned();
        }
    }
}
