//! What goes on in a cluster while things are done to it: producers that note every answer, readers that note
//! everything they see.

mod offsets;
mod readers;
mod senders;
mod thin;

use offsets::Register;
use rand::SeedableRng;
use rand::rngs::StdRng;
use readers::{Reading, read_whole};
use senders::{Notes, Sending};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use thin::Thin;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use troupe_client::{Acks, Client, ClientConfig, ProducerConfig};
use troupe_proto::log::v1::TopicPartition;
use troupe_tests::{Cluster, Network, PartitionHistory, Promise, Stored, eventually_or_why};

/// Addresses of nodes that have links of their own, 10.77.0.x, and states of sockets, as the kernel writes them.
const NODES: &str = "004D0A:";
const ESTABLISHED: &str = "01";
const LISTENING: &str = "0A";
/// Replicas of each partition.
const REPLICATION: i32 = 3;

/// A producer of a workload.
#[derive(Clone)]
pub struct Sender {
    pub promise: Promise,
    way: Way,
}

/// How records get to the cluster.
#[derive(Clone)]
enum Way {
    /// The SDK, which goes to the leaders.
    Sdk(Box<ProducerConfig>),
    /// `Publish`, through one node after the other; each call to one partition, or to several.
    Publish { spread: bool },
    /// `PublishStream`, to several partitions.
    Stream,
}

impl Sender {
    /// Idempotent, acks=all.
    pub fn durable() -> Sender {
        Sender { promise: Promise::Durable, way: Way::Sdk(Box::new(impatient())) }
    }

    /// acks=1, and no second attempt: a batch of unknown outcome stays one.
    pub fn leader_only() -> Sender {
        let config = ProducerConfig { acks: Acks::Leader, retries: 0, ..ProducerConfig::default() };
        Sender { promise: Promise::LeaderOnly, way: Way::Sdk(Box::new(config)) }
    }

    /// As good as durable, it says; but it sends again what may have arrived.
    pub fn forgetful() -> Sender {
        let config = ProducerConfig { enable_idempotence: Some(false), ..impatient() };
        Sender { promise: Promise::Durable, way: Way::Sdk(Box::new(config)) }
    }

    /// Without an SDK, one call after the other.
    pub fn thin() -> Sender {
        Sender { promise: Promise::OneByOne, way: Way::Publish { spread: false } }
    }

    /// The same, to several partitions in one call.
    pub fn spread() -> Sender {
        Sender { promise: Promise::OneByOne, way: Way::Publish { spread: true } }
    }

    /// Without an SDK, by a stream; what became of what had no answer when it ended is not known.
    pub fn stream() -> Sender {
        Sender { promise: Promise::OneByOne, way: Way::Stream }
    }
}

/// A leader that stands still is given up before the schedule is over.
fn impatient() -> ProducerConfig {
    ProducerConfig { request_timeout: Duration::from_secs(5), ..ProducerConfig::default() }
}

/// Topic and partition.
pub type Place = (String, u32);
/// What became of each partition.
type Histories = Arc<BTreeMap<Place, Mutex<PartitionHistory>>>;

/// See the module.
pub struct Workload {
    histories: Histories,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    senders: Vec<JoinHandle<()>>,
    /// Answers to senders that are none.
    wrong: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<Vec<String>>>,
    registers: Vec<Arc<Register>>,
    /// Who commits them and reads them.
    accountants: Vec<JoinHandle<()>>,
    /// Where each partition ends, once that is known: readers stop there.
    ends: watch::Sender<Option<BTreeMap<Place, u64>>>,
}

impl Workload {
    /// Creates the topics and begins.
    pub async fn start(
        cluster: &Cluster,
        topics: &[&str],
        partitions: u32,
        senders: &[Sender],
        seed: u64,
        network: Option<&Network>,
    ) -> Workload {
        let server = cluster.server(cluster.healed().await.controller).await;
        let mut histories = BTreeMap::new();
        for topic in topics {
            // Several segments in a run.
            let configs = [("segment.bytes", "256KiB"), ("min.insync.replicas", "2")];
            let made = server.create_topic(topic, partitions as i32, &configs).await;
            assert_eq!(made.replication_factor, REPLICATION);
            for partition in 0..partitions {
                let mut history = PartitionHistory::default();
                senders.iter().for_each(|sender| {
                    history.add_producer(sender.promise);
                });
                histories.insert(((*topic).to_owned(), partition), Mutex::new(history));
            }
        }
        cluster.healed().await;
        let histories = Arc::new(histories);
        let (ends, told) = watch::channel(None);
        let mut workload = Workload {
            histories: Arc::clone(&histories),
            stop: Arc::default(),
            acknowledged: Arc::default(),
            senders: Vec::new(),
            wrong: Arc::default(),
            readers: Vec::new(),
            registers: Vec::new(),
            accountants: Vec::new(),
            ends,
        };
        for (number, sender) in senders.iter().enumerate() {
            let notes = Notes {
                number,
                chance: StdRng::seed_from_u64(seed ^ ((number as u64 + 1) << 32)),
                histories: Arc::clone(&histories),
                stop: Arc::clone(&workload.stop),
                acknowledged: Arc::clone(&workload.acknowledged),
                sequence: 0,
                wrong: Arc::clone(&workload.wrong),
            };
            workload.senders.push(match &sender.way {
                Way::Sdk(config) => {
                    let client = client(cluster, number).await;
                    let producer = client.producer(ProducerConfig::clone(config)).await.unwrap();
                    let sending = Sending { notes, producer, unanswered: Arc::default() };
                    tokio::spawn(sending.run())
                }
                Way::Publish { spread } => {
                    let nodes = cluster.ids().map(|id| cluster.channel(id)).collect();
                    tokio::spawn(Thin { notes, nodes }.publish(*spread))
                }
                Way::Stream => {
                    let nodes = cluster.ids().map(|id| cluster.channel(id)).collect();
                    tokio::spawn(Thin { notes, nodes }.stream())
                }
            });
        }
        for (number, topic) in topics.iter().enumerate() {
            // One that reads on and on, and one that comes back again and again.
            for returns in [None, Some(500)] {
                let reading = Reading {
                    client: client(cluster, number + 1).await,
                    topic: (*topic).to_owned(),
                    returns,
                    histories: Arc::clone(&histories),
                    ends: told.clone(),
                    next: BTreeMap::new(),
                    told: None,
                    wrong: Vec::new(),
                };
                workload.readers.push(tokio::spawn(reading.run()));
            }
        }
        workload.keep_accounts(cluster, topics, seed, network);
        workload
    }

    /// Some groups whose offsets are committed by one and read by two.
    fn keep_accounts(
        &mut self,
        cluster: &Cluster,
        topics: &[&str],
        seed: u64,
        network: Option<&Network>,
    ) {
        const GROUPS: u64 = 4;
        for number in 0..GROUPS {
            let partition = TopicPartition {
                topic: topics[0].to_owned(),
                partition: (number % 3) as i32,
                ..TopicPartition::default()
            };
            let nodes = cluster.ids().map(|id| cluster.channel(id)).collect();
            let group = format!("account-{number}");
            let (stop, numbered) = (Arc::clone(&self.stop), number % 2 == 1);
            let register = Register::new(group, partition, nodes, stop, numbered, network.cloned());
            let register = Arc::new(register);
            let chance = |role: u64| StdRng::seed_from_u64(seed ^ (number * 3 + role + 1) << 48);
            self.accountants.extend([
                tokio::spawn(Arc::clone(&register).commit(chance(0))),
                tokio::spawn(Arc::clone(&register).read(chance(1))),
                tokio::spawn(Arc::clone(&register).read(chance(2))),
            ]);
            self.registers.push(register);
        }
    }

    /// What was met in the accounts that must not be; asks each once more in the end.
    async fn close_accounts(&mut self, seed: u64) -> (u64, u64, Vec<String>) {
        for accountant in self.accountants.drain(..) {
            accountant.await.unwrap();
        }
        let (mut commits, mut reads, mut wrong) = (0, 0, Vec::new());
        for register in &self.registers {
            let mut chance = StdRng::seed_from_u64(seed);
            eventually_or_why("a node says what is committed", async || {
                register.read_once(&mut chance).await.then_some(()).ok_or_else(|| "none".to_owned())
            })
            .await;
            commits += register.commits.load(Ordering::SeqCst);
            reads += register.reads.load(Ordering::SeqCst);
            wrong.extend(register.wrong());
        }
        (commits, reads, wrong)
    }

    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until `more` records more than now are acknowledged.
    pub async fn progress(&self, more: u64) {
        let until = self.acknowledged() + more;
        eventually_or_why("records are acknowledged", async || {
            assert!(self.senders.iter().all(|task| !task.is_finished()), "a sender has ended");
            match self.acknowledged() {
                now if now >= until => Ok(()),
                now => Err(format!("{now} of {until}")),
            }
        })
        .await;
    }

    /// Stops sending and waits for every answer; reads what the partitions hold, with a client that begins at
    /// node `first`; then waits for the readers to reach that end.
    pub async fn finish(mut self, cluster: &Cluster, first: usize) -> Finished {
        self.stop.store(true, Ordering::SeqCst);
        for sender in self.senders.drain(..) {
            sender.await.unwrap();
        }
        nothing_is_on_its_way().await;
        let (commits, reads, mut wrong) = self.close_accounts(first as u64).await;
        wrong.append(&mut self.wrong.lock().unwrap());
        let client = client(cluster, first).await;
        let mut stored = BTreeMap::new();
        for (topic, partition) in self.histories.keys() {
            let records = read_whole(&client, topic, *partition).await;
            stored.insert((topic.clone(), *partition), records);
        }
        let end = |records: &Vec<Stored>| records.last().map_or(0, |(offset, _)| offset + 1);
        let ends = stored.iter().map(|(place, records)| (place.clone(), end(records)));
        self.ends.send_replace(Some(ends.collect()));
        for reader in self.readers.drain(..) {
            wrong.extend(reader.await.unwrap());
        }
        let histories =
            Arc::try_unwrap(self.histories).unwrap_or_else(|_| panic!("all have ended"));
        let whole = |(place, history): (Place, Mutex<_>)| (place, history.into_inner().unwrap());
        let histories = histories.into_iter().map(whole).collect();
        Finished { histories, stored, wrong, commits, reads }
    }
}

/// What a sender gave up its kernel goes on sending when the link is mended, as long as a whole backoff later, and
/// then it is stored.
async fn nothing_is_on_its_way() {
    eventually_or_why("what was sent has arrived", async || {
        let sockets = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let given_up = sockets.lines().skip(1).filter(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let (remote, state, queues) = (fields[2], fields[3], fields[4]);
            let is_open = matches!(state, ESTABLISHED | LISTENING);
            remote[2..].starts_with(NODES) && !is_open && !queues.starts_with("00000000:")
        });
        match given_up.count() {
            0 => Ok(()),
            some => Err(format!("{some} sockets")),
        }
    })
    .await;
}

/// A workload that is over.
pub struct Finished {
    pub histories: BTreeMap<Place, PartitionHistory>,
    /// What each partition holds: offsets and values.
    pub stored: BTreeMap<Place, Vec<Stored>>,
    /// What readers met that they must not, of records and of committed offsets.
    pub wrong: Vec<String>,
    /// Commits of offsets that were acknowledged, and how often they were read.
    pub commits: u64,
    pub reads: u64,
}

/// Each asks another node first.
pub async fn client(cluster: &Cluster, number: usize) -> Client {
    let mut servers = cluster.addresses();
    let first = number % servers.len();
    servers.rotate_left(first);
    let config = ClientConfig {
        connect_timeout: Duration::from_secs(2),
        request_timeout: Duration::from_secs(5),
        keepalive_interval: Duration::from_secs(2),
        ..ClientConfig::new(servers)
    };
    Client::connect(config).await.unwrap()
}
