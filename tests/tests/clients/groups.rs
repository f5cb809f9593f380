//! Groups from generated stubs alone: one publishes, two consume, one is killed, and nothing is lost.

use crate::{clients_directory, prepared, python, root, script};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use troupe_tests::{Process, Serve, Server, eventually};

/// A process that prints every record that it has handled.
struct Subscriber {
    child: Child,
    handled: Arc<Mutex<Vec<String>>>,
}

impl Subscriber {
    fn start(mut command: Command) -> Subscriber {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let handled: Arc<Mutex<Vec<String>>> = Arc::default();
        let sink = Arc::clone(&handled);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Subscriber { child, handled }
    }

    fn handled(&self) -> MutexGuard<'_, Vec<String>> {
        self.handled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `kill -9`.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // It may have been killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two of them share a topic; one is killed in the middle.
async fn nothing_is_lost(subscriber: impl Fn(&str) -> Command) {
    let (_directory, process) = Process::start_new(&Serve::default());
    let server = process.server();
    Server::at(server).await.create_topic("lines", 6, &[]).await;
    let mut one = Subscriber::start(subscriber(server));
    let two = Subscriber::start(subscriber(server));
    let mut published = 0;
    let mut publish = |count: u32| {
        let (from, to) = (published.to_string(), (published + count).to_string());
        python("publish.py", &[server, "lines", &from, &to]);
        published += count;
        published
    };
    // Whoever is there first has everything until the other one comes.
    eventually("both handle records", async || {
        publish(100);
        (!one.handled().is_empty() && !two.handled().is_empty()).then_some(())
    })
    .await;
    publish(2000);
    one.kill();
    let published = publish(1000);
    let expected: BTreeSet<String> = (0..published).map(|n| format!("line {n}")).collect();
    let missing = eventually("every line is handled", async || {
        let handled: BTreeSet<String> =
            one.handled().iter().chain(two.handled().iter()).cloned().collect();
        expected.is_subset(&handled).then(|| handled.len() - expected.len())
    })
    .await;
    assert_eq!(missing, 0, "lines that nobody published");
}

#[tokio::test]
async fn two_subscribers_in_python_lose_nothing_when_one_is_killed() {
    if !prepared("two_subscribers_in_python_lose_nothing_when_one_is_killed", "python") {
        return;
    }
    let clients = clients_directory();
    nothing_is_lost(|server| {
        let mut command = Command::new(clients.join("venv/bin/python"));
        command.arg("-B").arg(script("ten_lines_group.py")).args([server, "lines", "readers"]);
        command.env("PYTHONPATH", clients.join("stubs"));
        command
    })
    .await;
}

#[tokio::test]
async fn two_subscribers_in_node_lose_nothing_when_one_is_killed() {
    for language in ["node", "python"] {
        if !prepared("two_subscribers_in_node_lose_nothing_when_one_is_killed", language) {
            return;
        }
    }
    let packages = clients_directory().join("node/node_modules");
    nothing_is_lost(|server| {
        let mut command = Command::new("node");
        command.arg(script("ten_lines_group.js")).args([server, "lines", "readers"]);
        command.arg(root().join("proto")).env("NODE_PATH", &packages);
        command
    })
    .await;
}

/// The example of the SDK.
#[tokio::test]
async fn two_consumers_in_rust_lose_nothing_when_one_is_killed() {
    if !prepared("two_consumers_in_rust_lose_nothing_when_one_is_killed", "python") {
        return;
    }
    let example = troupe_tests::example("group");
    nothing_is_lost(|server| {
        let mut command = Command::new(&example);
        command.args([server, "lines", "readers"]);
        command
    })
    .await;
}
