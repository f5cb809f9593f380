//! What goes on in a cluster while things are done to it: producers that note every answer, readers that note
//! everything they see.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use troupe_client::{
    Acks, Client, ClientConfig, ClientError, Partitions, Producer, ProducerConfig, ProducerRecord,
    Reader, ReaderConfig, RecordMetadata, Start,
};
use troupe_proto::ids::{Offset, PartitionId};
use troupe_tests::{
    Cluster, Outcome, PATIENCE, PartitionHistory, Promise, Stored, eventually_or_why,
};

/// Replicas of each partition.
const REPLICATION: i32 = 3;

/// A producer of a workload.
#[derive(Clone)]
pub struct Sender {
    pub promise: Promise,
    pub config: ProducerConfig,
}

impl Sender {
    /// Idempotent, acks=all.
    pub fn durable() -> Sender {
        Sender { promise: Promise::Durable, config: impatient() }
    }

    /// acks=1, and no second attempt: a batch of unknown outcome stays one.
    pub fn leader_only() -> Sender {
        let config = ProducerConfig { acks: Acks::Leader, retries: 0, ..ProducerConfig::default() };
        Sender { promise: Promise::LeaderOnly, config }
    }

    /// As good as durable, it says; but it sends again what may have arrived.
    pub fn forgetful() -> Sender {
        let config = ProducerConfig { enable_idempotence: Some(false), ..impatient() };
        Sender { promise: Promise::Durable, config }
    }
}

/// A leader that stands still is given up before the schedule is over.
fn impatient() -> ProducerConfig {
    ProducerConfig { request_timeout: Duration::from_secs(5), ..ProducerConfig::default() }
}

/// Topic and partition.
pub type Place = (String, u32);
type Histories = Arc<BTreeMap<Place, Mutex<PartitionHistory>>>;

/// See the module.
pub struct Workload {
    histories: Histories,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    senders: Vec<JoinHandle<()>>,
    readers: Vec<JoinHandle<Vec<String>>>,
    /// Where each partition ends, once that is known: readers stop there.
    ends: tokio::sync::watch::Sender<Option<BTreeMap<Place, u64>>>,
}

impl Workload {
    /// Creates the topics and begins.
    pub async fn start(
        cluster: &Cluster,
        topics: &[&str],
        partitions: u32,
        senders: &[Sender],
        seed: u64,
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
        let (ends, told) = tokio::sync::watch::channel(None);
        let mut workload = Workload {
            histories: Arc::clone(&histories),
            stop: Arc::default(),
            acknowledged: Arc::default(),
            senders: Vec::new(),
            readers: Vec::new(),
            ends,
        };
        for (number, sender) in senders.iter().enumerate() {
            let client = client(cluster, number).await;
            let sending = Sending {
                number,
                producer: client.producer(sender.config.clone()).await.unwrap(),
                chance: StdRng::seed_from_u64(seed ^ ((number as u64 + 1) << 32)),
                histories: Arc::clone(&histories),
                stop: Arc::clone(&workload.stop),
                acknowledged: Arc::clone(&workload.acknowledged),
                unanswered: Arc::default(),
            };
            workload.senders.push(tokio::spawn(sending.run()));
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
        workload
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
        let client = client(cluster, first).await;
        let mut stored = BTreeMap::new();
        for (topic, partition) in self.histories.keys() {
            let records = read_whole(&client, topic, *partition).await;
            stored.insert((topic.clone(), *partition), records);
        }
        let end = |records: &Vec<Stored>| records.last().map_or(0, |(offset, _)| offset + 1);
        let ends = stored.iter().map(|(place, records)| (place.clone(), end(records)));
        self.ends.send_replace(Some(ends.collect()));
        let mut readers = Vec::new();
        for reader in self.readers.drain(..) {
            readers.extend(reader.await.unwrap());
        }
        let histories =
            Arc::try_unwrap(self.histories).unwrap_or_else(|_| panic!("all have ended"));
        let whole = |(place, history): (Place, Mutex<_>)| (place, history.into_inner().unwrap());
        Finished { histories: histories.into_iter().map(whole).collect(), stored, readers }
    }
}

/// A workload that is over.
pub struct Finished {
    pub histories: BTreeMap<Place, PartitionHistory>,
    /// What each partition holds: offsets and values.
    pub stored: BTreeMap<Place, Vec<Stored>>,
    /// What readers met that they must not.
    pub readers: Vec<String>,
}

/// Each asks another node first.
async fn client(cluster: &Cluster, number: usize) -> Client {
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

/// Everything in a partition.
async fn read_whole(client: &Client, topic: &str, partition: u32) -> Vec<Stored> {
    let config = ReaderConfig {
        partitions: Partitions::Only(vec![PartitionId(partition)]),
        until_end: true,
        ..ReaderConfig::default()
    };
    let mut reader = client.reader(topic, config).await.unwrap();
    let mut stored = Vec::new();
    while let Some(batch) = timeout(PATIENCE, reader.next_batch()).await.unwrap() {
        let records = batch.unwrap().records().map(Result::unwrap);
        stored.extend(records.map(|one| (one.offset.0, one.value.unwrap().to_vec())));
    }
    stored
}

/// One producer.
struct Sending {
    number: usize,
    producer: Producer,
    chance: StdRng,
    histories: Histories,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    unanswered: Arc<AtomicU64>,
}

impl Sending {
    /// Sends to all partitions at a pace that leaves room for everything else, and waits for the answers.
    async fn run(mut self) {
        /// Bounds the run, not the producer.
        const AHEAD: u64 = 500;
        const PACE: Duration = Duration::from_millis(10);
        let places: Vec<Place> = self.histories.keys().cloned().collect();
        let mut sequence = 0_u64;
        while !self.stop.load(Ordering::SeqCst) {
            if self.unanswered.load(Ordering::SeqCst) < AHEAD {
                for _ in 0..self.chance.random_range(1..8) {
                    let place = &places[self.chance.random_range(0..places.len())];
                    self.send(place, sequence).await;
                    sequence += 1;
                }
            }
            sleep(PACE).await;
        }
        self.producer.flush().await.unwrap();
        self.producer.close(PATIENCE).await.unwrap();
    }

    async fn send(&mut self, (topic, partition): &Place, sequence: u64) {
        let number = self.number;
        let mut value = format!("{topic}/{partition}/{number}/{sequence}:").into_bytes();
        value.resize(value.len() + self.chance.random_range(0..400), (sequence % 251) as u8);
        let key = (topic.clone(), *partition);
        let place = self.history(&key, |history| history.sending(number, value.clone()));
        let record = ProducerRecord::new(topic.as_str())
            .key(format!("{number}"))
            .value(value)
            .partition(*partition);
        let histories = Arc::clone(&self.histories);
        let answered = move |outcome: Outcome| {
            histories[&key].lock().unwrap().answered(number, place, outcome);
        };
        let (acknowledged, unanswered) =
            (Arc::clone(&self.acknowledged), Arc::clone(&self.unanswered));
        let of_callback = answered.clone();
        let callback = move |answer: Result<RecordMetadata, ClientError>| {
            let outcome = outcome(&answer);
            if matches!(outcome, Outcome::Acknowledged(_)) {
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            of_callback(outcome);
            unanswered.fetch_sub(1, Ordering::SeqCst);
        };
        self.unanswered.fetch_add(1, Ordering::SeqCst);
        if let Err(error) = self.producer.send_with(record, callback).await {
            // Then the callback does not run.
            answered(outcome(&Err(error)));
            self.unanswered.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn history<T>(&self, place: &Place, note: impl FnOnce(&mut PartitionHistory) -> T) -> T {
        note(&mut self.histories[place].lock().unwrap())
    }
}

fn outcome(answer: &Result<RecordMetadata, ClientError>) -> Outcome {
    match answer {
        Ok(metadata) => Outcome::Acknowledged(metadata.offset.unwrap().0),
        Err(error) if error.surely_not_done() => Outcome::Refused,
        Err(_) => Outcome::Unknown,
    }
}

/// One reader of a topic.
struct Reading {
    client: Client,
    topic: String,
    /// After so many records it is closed, and another begins a little before that place.
    returns: Option<usize>,
    histories: Histories,
    ends: tokio::sync::watch::Receiver<Option<BTreeMap<Place, u64>>>,
    /// By partition, the offset that has to come next.
    next: BTreeMap<PartitionId, u64>,
    /// Since when it has known where the end is.
    told: Option<Instant>,
    wrong: Vec<String>,
}

impl Reading {
    async fn run(mut self) -> Vec<String> {
        /// It hears of the end in time.
        const GLANCE: Duration = Duration::from_millis(200);
        let mut reader = self.open().await;
        let mut read = 0;
        while !self.is_at_end() {
            if self.returns.is_some_and(|most| read >= most) {
                reader = self.come_back().await;
                read = 0;
            }
            let Ok(next) = timeout(GLANCE, reader.next_batch()).await else {
                if self.gives_up() {
                    break;
                }
                continue;
            };
            match next {
                Some(Ok(batch)) => {
                    for record in batch.records() {
                        let record = record.unwrap();
                        read += 1;
                        self.note(record.partition, record.offset.0, &record.value.unwrap());
                    }
                }
                Some(Err(error)) => {
                    // It mends what can be mended by itself.
                    self.wrong.push(format!("{}: a reader ended: {error}", self.topic));
                    reader = self.open().await;
                }
                None => {
                    self.wrong.push(format!("{}: a reader of everything has an end", self.topic));
                    return self.wrong;
                }
            }
        }
        self.wrong
    }

    /// In the midst of a fault nobody may answer.
    async fn open(&self) -> Reader {
        const AGAIN: Duration = Duration::from_millis(50);
        let start = |(partition, next): (&PartitionId, &u64)| (*partition, Offset(*next));
        let start = Start::Each(self.next.iter().map(start).collect());
        let config = ReaderConfig { start, ..ReaderConfig::default() };
        let began = Instant::now();
        loop {
            match self.client.reader(&self.topic, config.clone()).await {
                Ok(reader) => return reader,
                Err(error) => {
                    assert!(began.elapsed() < PATIENCE, "a reader does not open: {error}")
                }
            }
            sleep(AGAIN).await;
        }
    }

    async fn come_back(&mut self) -> Reader {
        const BACK: u64 = 100;
        self.next.values_mut().for_each(|next| *next = next.saturating_sub(BACK));
        self.open().await
    }

    fn note(&mut self, partition: PartitionId, offset: u64, value: &[u8]) {
        let expected = self.next.insert(partition, offset + 1).unwrap_or(0);
        if offset != expected {
            let topic = &self.topic;
            self.wrong.push(format!("{topic}-{partition}: offset {offset} came for {expected}"));
        }
        let place = (self.topic.clone(), partition.0);
        self.histories[&place].lock().unwrap().saw(offset, value.to_vec());
    }

    /// The end is there, everything is whole, and it does not come.
    fn gives_up(&mut self) -> bool {
        let Some(missing) = self.missing() else { return false };
        if self.told.get_or_insert_with(Instant::now).elapsed() < PATIENCE {
            return false;
        }
        self.wrong.extend(missing);
        true
    }

    fn is_at_end(&self) -> bool {
        self.missing().is_some_and(|missing| missing.is_empty())
    }

    /// Partitions whose end is known and was not reached.
    fn missing(&self) -> Option<Vec<String>> {
        let ends = self.ends.borrow();
        let own = ends.as_ref()?.iter().filter(|((topic, _), _)| *topic == self.topic);
        let missing = own.filter_map(|((topic, partition), end)| {
            let next = self.next.get(&PartitionId(*partition)).copied().unwrap_or(0);
            (next < *end).then(|| format!("{topic}-{partition}: a reader is at {next} of {end}"))
        });
        Some(missing.collect())
    }
}
