//! Rows of transactions whose commits nobody waits for, while leaders, coordinators and nodes are killed: what is said to
//! be committed is there once, as a whole and in order; what has failed or was aborted is not there; and of what nobody
//! knows there is all or nothing.

use crate::coordinators::kill_coordinators;
use crate::exactly_once::all_ended;
use crate::nemesis::torment;
use crate::schedule::Schedule;
use crate::{from_environment, workload};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use troupe_client::{
    Client, Committing, IsolationLevel, Partitions, Producer, ProducerConfig, ProducerRecord,
    ReaderConfig, TransactionError,
};
use troupe_proto::ids::PartitionId;
use troupe_tests::{Cluster, seed};

const TOPIC: &str = "rows";
const PARTITIONS: u32 = 3;
const PRODUCERS: u64 = 2;
/// Commits of a producer that are under way, at most.
const UNDER_WAY: usize = 40;

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Committed,
    /// It was aborted, or its commit has failed.
    Gone,
    /// The producer has ended before it heard.
    Unknown,
}

/// A producer of rows, and what it has heard.
struct Row {
    client: Client,
    producer: Producer,
    id: u64,
    number: u64,
    chance: StdRng,
    under_way: VecDeque<(u64, Committing)>,
    /// By number: how many records, and what became of them.
    told: BTreeMap<u64, (u64, Fate)>,
}

async fn producer(client: &Client, id: u64) -> Producer {
    let config = ProducerConfig {
        transactional_id: Some(format!("row-{id}")),
        linger: Duration::ZERO,
        transaction_timeout: Duration::from_secs(30),
        ..ProducerConfig::default()
    };
    client.producer(config).await.unwrap()
}

impl Row {
    async fn start(cluster: &Cluster, id: u64, seed: u64) -> Self {
        let client = workload::client(cluster, id as usize).await;
        let producer = producer(&client, id).await;
        let chance = StdRng::seed_from_u64(seed ^ (id + 2));
        let (under_way, told) = (VecDeque::new(), BTreeMap::new());
        Self { client, producer, id, number: 0, chance, under_way, told }
    }

    async fn run(mut self, stop: Arc<AtomicBool>) -> BTreeMap<u64, (u64, Fate)> {
        while !stop.load(Ordering::SeqCst) {
            self.number += 1;
            match self.one().await {
                Ok(()) => {}
                Err(TransactionError::Abortable(_)) => self.abort().await,
                // Asked again with the next.
                Err(TransactionError::Retriable(_)) => {}
                Err(TransactionError::Fatal(_)) => self.replace().await,
                Err(error) => panic!("{} {}: {error}", self.id, self.number),
            }
            while self.under_way.len() > UNDER_WAY {
                self.hear().await;
            }
        }
        while !self.under_way.is_empty() {
            self.hear().await;
        }
        self.told
    }

    /// Begun, written, and aborted or asked to be committed.
    async fn one(&mut self) -> Result<(), TransactionError> {
        let records = self.chance.random_range(1..9);
        self.told.insert(self.number, (records, Fate::Gone));
        let transaction = self.producer.transaction().await?;
        for n in 0..records {
            let value = format!("{} {} {n}", self.id, self.number);
            let partition = self.chance.random_range(0..PARTITIONS);
            let record = ProducerRecord::new(TOPIC).value(value).partition(partition);
            drop(transaction.send(record).await?);
        }
        if self.chance.random_range(0..16) == 0 {
            return transaction.abort().await;
        }
        let committing = transaction.start_commit().await?;
        self.under_way.push_back((self.number, committing));
        Ok(())
    }

    async fn hear(&mut self) {
        let Some((number, committing)) = self.under_way.pop_front() else { return };
        let fate = match committing.await {
            Ok(()) => Fate::Committed,
            Err(TransactionError::Abortable(_)) => Fate::Gone,
            Err(_) => Fate::Unknown,
        };
        if let Some(told) = self.told.get_mut(&number) {
            told.1 = fate;
        }
    }

    async fn abort(&mut self) {
        loop {
            match self.producer.abort_transaction().await {
                Ok(()) | Err(TransactionError::IllegalState { .. }) => return,
                Err(TransactionError::Retriable(_)) => {}
                Err(_) => return self.replace().await,
            }
        }
    }

    /// As who comes after a producer that has died. Its transaction has lasted too long, with its coordinator away.
    async fn replace(&mut self) {
        while !self.under_way.is_empty() {
            self.hear().await;
        }
        self.producer = producer(&self.client, self.id).await;
    }
}

/// What is committed, by producer and transaction: how many records. And what is out of order.
async fn committed(client: &Client) -> (BTreeMap<(u64, u64), u64>, Vec<String>) {
    let (mut found, mut wrong) = (BTreeMap::new(), Vec::new());
    for partition in 0..PARTITIONS {
        let config = ReaderConfig {
            partitions: Partitions::Only(vec![PartitionId(partition)]),
            isolation_level: IsolationLevel::ReadCommitted,
            until_end: true,
            ..ReaderConfig::default()
        };
        let mut reader = client.reader(TOPIC, config).await.unwrap();
        let mut last = BTreeMap::new();
        while let Some(batch) = reader.next_batch().await {
            for record in batch.unwrap().records() {
                let value = record.unwrap().value.unwrap();
                let text = std::str::from_utf8(&value).unwrap();
                let numbers: Vec<u64> = text.split(' ').map(|it| it.parse().unwrap()).collect();
                let place = (numbers[1], numbers[2]);
                if last.insert(numbers[0], place).is_some_and(|before| before >= place) {
                    wrong.push(format!("{TOPIC}-{partition}: {text} is out of order"));
                }
                *found.entry((numbers[0], numbers[1])).or_default() += 1;
            }
        }
    }
    (found, wrong)
}

async fn run(seed: u64, length: Duration) -> (Vec<String>, BTreeMap<String, usize>) {
    let mut cluster = Cluster::start(&[]).await;
    let server = cluster.server(cluster.healed().await.controller).await;
    let configs = [("segment.bytes", "256KiB"), ("min.insync.replicas", "2")];
    server.create_topic(TOPIC, PARTITIONS as i32, &configs).await;
    cluster.healed().await;
    let (turmoil, stop) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let mut rows = Vec::new();
    for id in 0..PRODUCERS {
        rows.push(tokio::spawn(Row::start(&cluster, id, seed).await.run(Arc::clone(&stop))));
    }
    let killing = tokio::spawn(kill_coordinators(
        |actor| actor.kind.ends_with("-coordinator") && !actor.detail.starts_with("0 "),
        cluster.ids().map(|id| cluster.channel(id)).collect(),
        StdRng::seed_from_u64(seed ^ 1),
        Arc::clone(&turmoil),
    ));
    let faults = torment(&mut cluster, None, Schedule::new(seed), length, 3).await;
    turmoil.store(false, Ordering::SeqCst);
    let coordinators: usize = killing.await.unwrap().values().sum();
    cluster.healed().await;
    stop.store(true, Ordering::SeqCst);
    let mut told = BTreeMap::new();
    for (id, row) in (0..).zip(rows) {
        let row = row.await.unwrap();
        told.extend(row.into_iter().map(|(number, one)| ((id, number), one)));
    }
    let client = workload::client(&cluster, 0).await;
    let mut wrong = faults.wrong.clone();
    wrong.extend(all_ended(&client, (TOPIC, PARTITIONS)).await);
    let (found, out_of_order) = committed(&client).await;
    wrong.extend(out_of_order);
    let mut fates: BTreeMap<String, usize> = BTreeMap::new();
    for (one, (records, fate)) in &told {
        *fates.entry(format!("{fate:?}")).or_default() += 1;
        let there = found.get(one).copied().unwrap_or(0);
        let fits = match fate {
            Fate::Committed => there == *records,
            Fate::Gone => there == 0,
            Fate::Unknown => there == 0 || there == *records,
        };
        if !fits {
            wrong.push(format!("{one:?} is {fate:?}: {there} of {records} records are there"));
        }
    }
    wrong.extend(found.keys().filter(|it| !told.contains_key(it)).map(|it| format!("{it:?}?")));
    println!("seed {seed}: {fates:?}, {coordinators} coordinators killed, {:?}", faults.installed);
    if !wrong.is_empty() {
        println!("{}", cluster.said());
    }
    (wrong, fates)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_transactions_are_whole_while_coordinators_and_nodes_die() {
    let seed = seed();
    let (wrong, fates) = run(seed, Duration::from_secs(10)).await;
    assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
    assert!(fates.get("Committed").is_some_and(|it| *it > 50), "seed {seed}: {fates:?}");
}

/// As the long schedules.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes some minutes a run; a short one is tried always"]
async fn long_schedules_leave_rows_of_transactions_whole() {
    let schedules = from_environment("TROUPE_CHAOS_SCHEDULES", 1);
    let length = Duration::from_secs(from_environment("TROUPE_CHAOS_SECONDS", 300));
    let first = from_environment("TROUPE_CHAOS_SEED", seed());
    for seed in first..first + schedules {
        let (wrong, _) = run(seed, length).await;
        assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
    }
}
