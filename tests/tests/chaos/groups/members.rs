//! The members of a group, and how they come and go.

use super::{GROUP, TOPIC};
use crate::groups::ledger::Ledger;
use rand::RngExt;
use rand::rngs::StdRng;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use troupe_client::{AutoOffsetReset, Client, ConsumerConfig};

/// How members end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ways {
    /// They take their leave.
    Leaving,
    /// Or are killed.
    Any,
}

/// A member commits after it has processed.
enum Member {
    /// In this process: takes its leave when it ends.
    Task { leave: oneshot::Sender<()>, task: JoinHandle<()> },
    /// The SDK's example: knows no leave.
    Process(Child),
}

impl Member {
    /// An instance makes it a static member.
    fn task(client: Client, instance: Option<String>, ledger: Arc<Ledger>) -> Member {
        let (leave, told) = oneshot::channel();
        Member::Task { leave, task: tokio::spawn(read(client, instance, ledger, told)) }
    }

    fn process(server: &str, ledger: Arc<Ledger>) -> Member {
        let mut child = Command::new(troupe_tests::example("group"))
            .args([server, TOPIC, GROUP])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                ledger.printed(&line);
            }
        });
        Member::Process(child)
    }

    /// True: it was killed.
    async fn end(self, kill: bool) -> bool {
        match self {
            Member::Task { task, .. } if kill => task.abort(),
            Member::Task { leave, task } => {
                // It may have ended by itself.
                let _ = leave.send(());
                task.await.unwrap();
                return false;
            }
            Member::Process(mut child) => child.kill().await.unwrap(),
        }
        true
    }
}

async fn read(
    client: Client,
    instance: Option<String>,
    ledger: Arc<Ledger>,
    mut told: oneshot::Receiver<()>,
) {
    const POLL: Duration = Duration::from_millis(200);
    let config = ConsumerConfig {
        group_instance_id: instance,
        auto_offset_reset: AutoOffsetReset::Earliest,
        auto_commit_interval: Duration::from_millis(300),
        ..ConsumerConfig::new(GROUP)
    };
    let mut consumer = client.consumer(config).unwrap();
    consumer.subscribe([TOPIC]).unwrap();
    while told.try_recv().is_err() {
        match consumer.poll(POLL).await {
            Ok(records) => {
                for record in records {
                    let value = record.value.clone().unwrap_or_default();
                    ledger.saw(record.partition.0, record.offset.0, &value);
                }
            }
            // It mends what can be mended by itself.
            Err(error) => ledger.wrong(format!("a member's poll failed: {error}")),
        }
    }
    if let Err(error) = consumer.close(Duration::from_secs(10)).await {
        // In the midst of a fault nobody may answer; what was not committed is repeated.
        println!("a member could not close: {error}");
    }
}

/// As many places as clients.
pub struct Members {
    clients: Vec<Client>,
    servers: String,
    ways: Ways,
    ledger: Arc<Ledger>,
    chance: StdRng,
    places: Vec<Option<Member>>,
    killed: usize,
    left: usize,
}

impl Members {
    /// As many as clients; `servers`: where their processes begin to ask.
    pub fn new(
        clients: Vec<Client>,
        servers: String,
        ways: Ways,
        ledger: Arc<Ledger>,
        chance: StdRng,
    ) -> Members {
        let places = clients.iter().map(|_| None).collect();
        let mut members =
            Members { clients, servers, ways, ledger, chance, places, killed: 0, left: 0 };
        (0..members.places.len()).for_each(|place| members.start(place));
        members
    }

    /// If members may be killed, the first one is static, and from the third on they are processes.
    fn start(&mut self, place: usize) {
        let ledger = Arc::clone(&self.ledger);
        let client = self.clients[place].clone();
        self.places[place] = Some(match (place, self.ways) {
            (0, Ways::Any) => Member::task(client, Some("first".to_owned()), ledger),
            (2.., Ways::Any) => Member::process(&self.servers, ledger),
            _ => Member::task(client, None, ledger),
        });
    }

    /// They come and go for as long as it says; in the end all are there.
    pub async fn turmoil(mut self, go_on: Arc<AtomicBool>) -> Members {
        while go_on.load(Ordering::SeqCst) {
            // Chance decides when and who.
            sleep(Duration::from_millis(self.chance.random_range(100..1_500))).await;
            let place = self.chance.random_range(0..self.places.len());
            match self.places[place].take() {
                None => self.start(place),
                Some(member) => {
                    let kill = self.ways == Ways::Any && self.chance.random_range(0..2) == 0;
                    match member.end(kill).await {
                        true => self.killed += 1,
                        false => self.left += 1,
                    }
                }
            }
        }
        for place in 0..self.places.len() {
            if self.places[place].is_none() {
                self.start(place);
            }
        }
        self
    }

    /// All leave; how many had been killed and had left before.
    pub async fn close(self) -> (usize, usize) {
        for member in self.places.into_iter().flatten() {
            member.end(false).await;
        }
        (self.killed, self.left)
    }
}
