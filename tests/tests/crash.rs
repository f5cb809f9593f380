//! Death and recovery: the process by `kill -9`, a partition's actor by the chaos service, while a producer
//! with default settings runs and retries. What was acknowledged is there once, in order, and nothing that
//! was not sent.
//!
//! Chance comes from a seed that is printed; `TROUPE_TEST_SEED` plays it again.
#![allow(clippy::unwrap_used, reason = "tests")]

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use troupe_client::{
    Admin, Client, ClientConfig, Producer, ProducerConfig, ProducerRecord, Reader, ReaderConfig,
};
use troupe_proto::chaos::v1alpha1::KillMode;
use troupe_proto::ids::PartitionId;
use troupe_tests::{
    History, LocalNode, Outcome, PATIENCE, Process, Serve, Server, Stored, eventually, seed,
    temporary_directory,
};

const PARTITIONS: u32 = 3;
const TOPIC: &str = "crashed";
/// Small segments, so that a run crosses several.
const CONFIGS: [(&str, &str); 1] = [("segment.bytes", "1MiB")];

/// Sends without pause to all partitions of a topic and notes what became of every record.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    histories: Arc<Vec<Mutex<History>>>,
    producer: Producer,
    task: tokio::task::JoinHandle<()>,
    /// Reads along, from the first record on: what was readable once stays so.
    reader: tokio::task::JoinHandle<Vec<(PartitionId, Stored)>>,
    /// How many records were sent, once no more are.
    total: watch::Sender<Option<usize>>,
}

impl Load {
    async fn start(server: &str, topic: &str, seed: u64) -> Load {
        Load::start_with(ProducerConfig::default(), server, topic, seed).await
    }

    async fn start_with(config: ProducerConfig, server: &str, topic: &str, seed: u64) -> Load {
        let client = Client::connect(ClientConfig::new([server])).await.unwrap();
        let producer = client.producer(config).await.unwrap();
        let reader = client.reader(topic, ReaderConfig::default()).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let histories: Vec<_> = (0..PARTITIONS).map(|_| Mutex::default()).collect();
        let histories = Arc::new(histories);
        let task = tokio::spawn(send(
            producer.clone(),
            topic.to_owned(),
            StdRng::seed_from_u64(seed),
            Arc::clone(&stop),
            Arc::clone(&acknowledged),
            Arc::clone(&histories),
        ));
        let (total, until) = watch::channel(None);
        let reader = tokio::spawn(read(reader, until));
        Load { stop, acknowledged, histories, producer, task, reader, total }
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until `more` records more than now are acknowledged.
    async fn progress(&self, more: u64) {
        let until = self.acknowledged() + more;
        eventually("records are acknowledged", async || {
            assert!(!self.task.is_finished(), "the load has ended");
            (self.acknowledged() >= until).then_some(())
        })
        .await;
    }

    /// Stops sending, waits for every answer, and finds nothing wrong with what the server holds.
    async fn finish(self, server: &str, topic: &str, seed: u64) {
        let verdict = self.judge(server, topic).await;
        println!("seed {seed}: {} records sent", verdict.sent);
        let wrong = &verdict.wrong;
        assert!(wrong.is_empty(), "seed {seed}: {wrong:?}");
        // Nothing stood in the way of delivery for as long as delivery.timeout.
        assert_eq!(verdict.unacknowledged, 0, "seed {seed}: retries did not bring these through");
    }

    async fn judge(self, server: &str, topic: &str) -> Verdict {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
        self.producer.flush().await.unwrap();
        self.producer.close(Duration::from_secs(30)).await.unwrap();
        let sent = self.histories.iter().map(|history| history.lock().unwrap().sent()).sum();
        self.total.send_replace(Some(sent));
        let read = self.reader.await.unwrap();
        let server = Server::at(server).await;
        let mut verdict = Verdict::default();
        for partition in 0..PARTITIONS {
            let stored = server.read_all(topic, partition as i32).await.into_iter();
            let stored: Vec<Stored> =
                stored.map(|(offset, record)| (offset as u64, record.value.unwrap())).collect();
            let of_this = read.iter().filter(|(of, _)| of.0 == partition);
            let along: Vec<Stored> = of_this.map(|(_, stored)| stored.clone()).collect();
            let history = self.histories[partition as usize].lock().unwrap();
            verdict.sent += history.sent();
            verdict.unacknowledged += history.sent() - history.acknowledged();
            for (whose, found) in [("the log", &stored), ("the reader", &along)] {
                let anomalies = history.judge(found);
                if !anomalies.is_empty() {
                    verdict.wrong.push(format!("partition {partition}, {whose}: {anomalies}"));
                }
            }
        }
        verdict
    }
}

#[derive(Default)]
struct Verdict {
    sent: usize,
    unacknowledged: usize,
    wrong: Vec<String>,
}

/// Reads until everything that was sent has come.
async fn read(
    mut reader: Reader,
    mut total: watch::Receiver<Option<usize>>,
) -> Vec<(PartitionId, Stored)> {
    let mut read = Vec::new();
    while total.borrow_and_update().is_none_or(|sent| read.len() < sent) {
        let next = tokio::select! {
            next = tokio::time::timeout(PATIENCE, reader.next_batch()) => next,
            Ok(()) = total.changed() => continue,
        };
        let Ok(Some(batch)) = next else { return read };
        for record in batch.expect("a reader mends broken streams by itself").records() {
            let record = record.unwrap();
            let stored = (record.offset.0, record.value.unwrap().to_vec());
            read.push((record.partition, stored));
        }
    }
    read
}

async fn send(
    producer: Producer,
    topic: String,
    mut chance: StdRng,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    histories: Arc<Vec<Mutex<History>>>,
) {
    /// Unanswered records; bounds the run, not the producer.
    const AHEAD: u64 = 2_000;
    let mut sent = 0;
    while !stop.load(Ordering::SeqCst) {
        if sent - acknowledged.load(Ordering::SeqCst) >= AHEAD {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        let partition = chance.random_range(0..PARTITIONS);
        let mut value = format!("{partition}:{sent}:").into_bytes();
        value.resize(value.len() + chance.random_range(0..1_500), (sent % 251) as u8);
        let place = histories[partition as usize].lock().unwrap().sending(value.clone());
        let record = ProducerRecord::new(topic.as_str()).value(value).partition(partition);
        let (histories, acknowledged) = (Arc::clone(&histories), Arc::clone(&acknowledged));
        let answered = move |answer: Result<troupe_client::RecordMetadata, _>| {
            let outcome = match &answer {
                Ok(metadata) => Outcome::Acknowledged(metadata.offset.unwrap().0),
                Err(error) if troupe_client::ClientError::surely_not_done(error) => {
                    eprintln!("refused: {error}");
                    Outcome::Refused
                }
                Err(error) => {
                    eprintln!("unknown: {error}");
                    Outcome::Unknown
                }
            };
            histories[partition as usize].lock().unwrap().answered(place, outcome);
            acknowledged.fetch_add(1, Ordering::SeqCst);
        };
        producer.send_with(record, answered).await.unwrap();
        sent += 1;
        if sent % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
}

fn start(directory: &Path, serve: &Serve) -> Process {
    Process::start(directory, serve)
        .unwrap_or_else(|exit| panic!("the node does not start: {}\n{}", exit.status, exit.stderr))
}

/// A node that is killed at moments that chance decides.
struct Victim {
    directory: tempfile::TempDir,
    serve: Serve,
    node: Process,
    chance: StdRng,
}

impl Victim {
    async fn start(seed: u64) -> Victim {
        let directory = temporary_directory();
        let node = start(directory.path(), &Serve::default());
        let serve = Serve { listener: Some(node.server().to_owned()), ..Serve::default() };
        Server::at(node.server()).await.create_topic(TOPIC, PARTITIONS as i32, &CONFIGS).await;
        Victim { directory, serve, node, chance: StdRng::seed_from_u64(seed) }
    }

    fn address(&self) -> String {
        self.node.server().to_owned()
    }

    /// Kills it in the middle of its work, and sometimes once more while it recovers.
    async fn kill(mut self, load: &Load) -> Victim {
        load.progress(self.chance.random_range(1..3_000)).await;
        // Chance decides where in its work it dies; nothing is waited for.
        let pause = Duration::from_micros(self.chance.random_range(0..20_000));
        tokio::time::sleep(pause).await;
        self.node.kill();
        if self.chance.random_range(0..3) == 0 {
            let after = Duration::from_millis(self.chance.random_range(1..500));
            Process::start_and_kill(self.directory.path(), &self.serve, after);
        }
        let node = start(self.directory.path(), &self.serve);
        Victim { node, ..self }
    }
}

async fn survives_kills(kills: u32) {
    let seed = seed();
    println!("seed {seed}");
    let mut victim = Victim::start(seed).await;
    let address = victim.address();
    let load = Load::start(&address, TOPIC, seed).await;
    for _ in 0..kills {
        victim = victim.kill(&load).await;
        println!("up again after {:?}", victim.node.start_time());
    }
    load.progress(500).await;
    let retries = load.producer.metrics().retries;
    assert!(retries >= u64::from(kills), "seed {seed}: {retries} retries: did the kills hit?");
    load.finish(&address, TOPIC, seed).await;
    assert!(victim.node.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_records_survive_ten_kills() {
    survives_kills(10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute; ten are tried always"]
async fn acknowledged_records_survive_a_hundred_kills() {
    survives_kills(100).await;
}

/// A check that cannot fail checks nothing: with a producer that is not idempotent, kills must show.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_idempotence_the_same_kills_leave_duplicates() {
    let seed = seed();
    let mut victim = Victim::start(seed).await;
    let address = victim.address();
    let config = ProducerConfig { enable_idempotence: Some(false), ..ProducerConfig::default() };
    let load = Load::start_with(config, &address, TOPIC, seed).await;
    for _ in 0..10 {
        victim = victim.kill(&load).await;
    }
    let verdict = load.judge(&address, TOPIC).await;
    // The reader counts, and stops before the end of what there is too much of.
    let of_the_log: Vec<_> = verdict.wrong.iter().filter(|one| one.contains("the log")).collect();
    assert!(of_the_log.iter().any(|one| one.contains("duplicated")), "seed {seed}");
    assert!(of_the_log.iter().all(|one| !one.contains("lost")), "seed {seed}: {of_the_log:?}");
}

/// A crash loses the memory of producers; the log brings it back: a retry is still recognised (I10).
#[tokio::test]
async fn a_batch_sent_again_after_a_kill_is_recognised() {
    use troupe_proto::log::v1::{InitProducerRequest, RecordBatch};
    use troupe_proto::v1::Acks;
    use troupe_tests::{Sample, batch_of};
    let (directory, node) = Process::start_new(&Serve::default());
    let serve = Serve { listener: Some(node.server().to_owned()), ..Serve::default() };
    let server = Server::at(node.server()).await;
    server.create_topic(TOPIC, 1, &[]).await;
    let producer = server.log().init_producer(InitProducerRequest {}).await.unwrap().into_inner();
    let batch = |sequence: u32| RecordBatch {
        producer_id: producer.producer_id,
        base_sequence: sequence,
        ..batch_of(&[Sample::of(format!("{sequence}"), 1)])
    };
    for sequence in 0..3 {
        let result = server.produce(TOPIC, 0, batch(sequence), Acks::All).await;
        assert_eq!(result.base_offset, i64::from(sequence));
    }
    node.kill();
    let node = start(directory.path(), &serve);
    let server = Server::at(node.server()).await;
    for sequence in 0..3 {
        let result = server.produce(TOPIC, 0, batch(sequence), Acks::All).await;
        assert_eq!((result.duplicate, result.base_offset), (true, i64::from(sequence)));
    }
    let next = server.log().init_producer(InitProducerRequest {}).await.unwrap().into_inner();
    assert!(next.producer_id > producer.producer_id, "ids never come again (I1)");
    assert_eq!(server.read_all(TOPIC, 0).await.len(), 3);
}

/// Offsets, topics and configs survive a stop and a start; nothing is recovered after a clean one.
#[tokio::test]
async fn a_graceful_stop_keeps_everything() {
    let (directory, node) = Process::start_new(&Serve::default());
    let server = Server::at(node.server()).await;
    let topic = server.create_topic(TOPIC, 2, &[("retention.ms", "1h")]).await;
    let records = troupe_tests::samples(5, 100, 1_000);
    let batch = troupe_tests::batch_of(&records);
    server.produce(TOPIC, 1, batch, troupe_proto::v1::Acks::Leader).await;
    drop(server);
    assert!(node.terminate().await.success());
    let node = start(directory.path(), &Serve::default());
    let server = Server::at(node.server()).await;
    let request = troupe_proto::admin::v1::GetTopicRequest { name: TOPIC.to_owned() };
    let again = server.topics().get_topic(request).await.unwrap().into_inner().topic.unwrap();
    assert_eq!((again.topic_id, again.configs), (topic.topic_id, topic.configs));
    let read: Vec<_> = server.read_all(TOPIC, 1).await.into_iter().map(|(_, one)| one).collect();
    assert_eq!(read, records, "a graceful stop writes out what acks=leader did not wait for");
}

/// Where the actor of a partition is found.
async fn address_of(admin: &Admin, topic: &str, partition: u32) -> String {
    let actors = admin.list_actors("").await.unwrap();
    let end = format!("partition/{topic}/{partition}");
    actors.into_iter().find(|actor| actor.address.ends_with(&end)).unwrap().address
}

async fn restarts(admin: &Admin, topic: &str) -> Vec<i32> {
    let mut restarts = Vec::new();
    for partition in 0..PARTITIONS {
        let address = address_of(admin, topic, partition).await;
        restarts.push(admin.list_actors(&address).await.unwrap()[0].restarts);
    }
    restarts
}

/// Twenty times, with records on their way: what was acknowledged stays, the others do not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_an_actor_loses_nothing_that_was_acknowledged() {
    const KILLS: usize = 20;
    let seed = seed();
    let node = LocalNode::start(&[]);
    let address = node.server();
    Server::at(&address).await.create_topic(TOPIC, PARTITIONS as i32, &CONFIGS).await;
    let admin = Client::connect(ClientConfig::new([&address])).await.unwrap().admin();
    let actor = address_of(&admin, TOPIC, 0).await;
    let load = Load::start(&address, TOPIC, seed).await;
    let mut recoveries = Vec::new();
    for _ in 0..KILLS {
        load.progress(200).await;
        let began = Instant::now();
        let answer = admin.kill_actor(&actor, KillMode::Stop).await.unwrap();
        let recovery = Duration::from_micros(answer.recovery_micros.unsigned_abs());
        assert!(recovery <= began.elapsed());
        recoveries.push(recovery);
    }
    load.progress(200).await;
    assert_eq!(restarts(&admin, TOPIC).await, [KILLS as i32, 0, 0], "the others did not notice");
    recoveries.sort();
    println!(
        "recovery of a killed actor: median {:?}, worst {:?} of {KILLS}",
        recoveries[KILLS / 2],
        recoveries[KILLS - 1]
    );
    load.finish(&address, TOPIC, seed).await;
}

/// A panic is the actor's alone: the node, and the connection that asked for it, live on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_kills_its_actor_alone() {
    let seed = seed();
    let node = LocalNode::start(&[]);
    let address = node.server();
    Server::at(&address).await.create_topic(TOPIC, PARTITIONS as i32, &CONFIGS).await;
    let admin = Client::connect(ClientConfig::new([&address])).await.unwrap().admin();
    let actor = address_of(&admin, TOPIC, 1).await;
    let load = Load::start(&address, TOPIC, seed).await;
    load.progress(200).await;
    admin.kill_actor(&actor, KillMode::Panic).await.unwrap();
    load.progress(200).await;
    assert_eq!(restarts(&admin, TOPIC).await, [0, 1, 0]);
    load.finish(&address, TOPIC, seed).await;
}

/// Streams of the thin API that are open while an actor dies: they go on, or end with an error that says to
/// try again; nothing is left out.
#[tokio::test]
async fn a_tail_that_is_open_misses_nothing_when_an_actor_dies() {
    use troupe_proto::v1::{PublishRequest, TailRequest, start_position::At};
    let node = LocalNode::start(&[]);
    let server = Server::at(&node.server()).await;
    let topic = server.new_topic(2, &[]).await.name;
    let admin = Client::connect(ClientConfig::new([node.server()])).await.unwrap().admin();
    let actor = address_of(&admin, &topic, 0).await;
    let tail = async |offset: i64| {
        let request = TailRequest {
            topic: topic.clone(),
            partition: Some(0),
            start: Some(troupe_proto::v1::StartPosition { at: Some(At::Offset(offset)) }),
            ..Default::default()
        };
        eventually("the partition can be read", async || {
            let opened = server.bus().tail(request.clone()).await;
            opened.ok().map(|answer| answer.into_inner())
        })
        .await
    };
    let mut stream = tail(0).await;
    let mut next = 0;
    for n in 0..20 {
        admin.kill_actor(&actor, KillMode::Stop).await.unwrap();
        let record = troupe_tests::Sample::of(format!("{n}"), 1).to_record(0);
        let request =
            PublishRequest { topic: topic.clone(), records: vec![record], ..Default::default() };
        server.bus().publish(request).await.unwrap();
        while next <= n {
            match stream.message().await {
                Ok(Some(answer)) => {
                    for delivery in answer.deliveries {
                        assert_eq!(delivery.offset, next);
                        next += 1;
                    }
                }
                Ok(None) => panic!("the stream has no end"),
                Err(status) => {
                    let code = troupe_tests::reason_of(&status);
                    assert!(code.is_retriable(), "{status:?}");
                    stream = tail(next).await;
                }
            }
        }
    }
}

/// The controller too: topics are created as before.
#[tokio::test]
async fn the_controller_is_rebuilt_from_its_log() {
    let node = LocalNode::start(&[]);
    let server = Server::at(&node.server()).await;
    let before = server.new_topic(1, &[]).await;
    let admin = Client::connect(ClientConfig::new([node.server()])).await.unwrap().admin();
    let actors = admin.list_actors("").await.unwrap();
    let controller = actors.iter().find(|actor| actor.kind == "controller").unwrap();
    for mode in [KillMode::Stop, KillMode::Panic] {
        admin.kill_actor(&controller.address, mode).await.unwrap();
        server.new_topic(1, &[]).await;
        assert_eq!(admin.get_topic(&before.name).await.unwrap(), before);
    }
}

/// Chaos is off unless it is asked for.
#[tokio::test]
async fn actors_are_safe_where_chaos_is_off() {
    let node = LocalNode::start(&["chaos.enable=false"]);
    let server = Server::at(&node.server()).await;
    let topic = server.new_topic(1, &[]).await.name;
    let admin = Client::connect(ClientConfig::new([node.server()])).await.unwrap().admin();
    let actor = address_of(&admin, &topic, 0).await;
    let error = admin.kill_actor(&actor, KillMode::Stop).await.unwrap_err();
    assert_eq!(error.reason().reason(), "CHAOS_DISABLED");
}
