//! Bytes that change on the disks of a cluster: while it runs, while a node is stopped, and while all are without power.
//!
//! Each is found, nothing that was not written is handed out, nothing acknowledged is lost, and all of it is whole again
//! without help, while clients write and read. Chance comes from a seed that is printed; `TROUPE_TEST_SEED` plays it
//! again.

use super::{partition_where, topic_on};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::task::JoinHandle;
use troupe_client::{Client, ClientConfig, Producer, ProducerRecord, ReaderConfig};
use troupe_proto::admin::v1::{ScrubReplicasRequest, ScrubReplicasResponse};
use troupe_tests::{Cluster, eventually, eventually_or_why, seed};

const TOPIC: &str = "rotten";

/// What record `n` says; whatever else is read was never written.
fn value(n: usize) -> String {
    let mut dice = StdRng::seed_from_u64(n as u64);
    let noise: String = (0..200).map(|_| char::from(dice.random_range(b'a'..=b'z'))).collect();
    format!("{n}:{noise}")
}

fn number(value: &[u8]) -> usize {
    let text = std::str::from_utf8(value).expect("what is read was written");
    let n = text.split_once(':').expect("what is read was written").0.parse().unwrap();
    assert_eq!(text, self::value(n), "what is read was written");
    n
}

/// One who writes, a record a batch, and one who reads along from the first on.
struct Clients {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    seen: Arc<AtomicUsize>,
    writing: JoinHandle<()>,
    reading: JoinHandle<()>,
}

impl Clients {
    async fn start(cluster: &Cluster) -> Clients {
        let client = Client::connect(ClientConfig::new(cluster.addresses())).await.unwrap();
        let producer = client.producer(Default::default()).await.unwrap();
        let reader = client.reader(TOPIC, ReaderConfig::default()).await.unwrap();
        let (stop, acknowledged, seen) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default(), Arc::default());
        let writing = tokio::spawn(write(producer, Arc::clone(&stop), Arc::clone(&acknowledged)));
        let reading = tokio::spawn(read_along(reader, Arc::clone(&seen)));
        Clients { stop, acknowledged, seen, writing, reading }
    }

    async fn progress(&self, more: usize) {
        let until = self.acknowledged.load(Ordering::SeqCst) + more;
        eventually("records are acknowledged", async || {
            assert!(!self.writing.is_finished() && !self.reading.is_finished());
            (self.acknowledged.load(Ordering::SeqCst) >= until).then_some(())
        })
        .await;
    }

    /// All that was acknowledged is read; how many records that were.
    async fn finish(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        self.writing.await.unwrap();
        let all = self.acknowledged.load(Ordering::SeqCst);
        eventually("all is read along", async || {
            assert!(!self.reading.is_finished(), "the reader has ended");
            (self.seen.load(Ordering::SeqCst) == all).then_some(())
        })
        .await;
        self.reading.abort();
        all
    }
}

/// An idempotent producer: each is there once, in order.
async fn write(producer: Producer, stop: Arc<AtomicBool>, acknowledged: Arc<AtomicUsize>) {
    for n in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let record = ProducerRecord { value: Some(value(n).into()), ..ProducerRecord::new(TOPIC) };
        producer.send(record).await.unwrap().await.unwrap();
        acknowledged.store(n + 1, Ordering::SeqCst);
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

async fn read_along(mut reader: troupe_client::Reader, seen: Arc<AtomicUsize>) {
    while let Some(batch) = reader.next_batch().await {
        let batch = batch.expect("a reader goes on");
        for record in batch.records() {
            let record = record.expect("what is read is sound");
            let next = seen.load(Ordering::SeqCst);
            assert_eq!(record.offset.0 as usize, next, "each once, in order");
            assert_eq!(number(record.value.as_deref().unwrap()), next);
            seen.store(next + 1, Ordering::SeqCst);
        }
    }
}

async fn scrub(cluster: &Cluster, node: i32) -> Vec<ScrubReplicasResponse> {
    let request = ScrubReplicasRequest { topic: TOPIC.to_owned(), partitions: vec![0] };
    let server = cluster.server(node).await;
    let mut answers = server.cluster().scrub_replicas(request).await.unwrap().into_inner();
    let mut found = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        assert_eq!((answer.topic.as_str(), answer.partition), (TOPIC, 0));
        found.push(answer);
    }
    found
}

/// Files of the replica, by how their names end; ascending.
fn files(directory: &Path, end: &str) -> Vec<PathBuf> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = names.filter(|path| path.to_str().unwrap().ends_with(end)).collect();
    found.sort();
    found
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Sealed,
    Active,
    Index,
    TimeIndex,
    Checkpoint,
    Epochs,
    Identity,
    FlushedEnd,
    Snapshot,
}

const KINDS: [Kind; 9] = [
    Kind::Sealed,
    Kind::Active,
    Kind::Index,
    Kind::TimeIndex,
    Kind::Checkpoint,
    Kind::Epochs,
    Kind::Identity,
    Kind::FlushedEnd,
    Kind::Snapshot,
];

/// The files of that kind with something in them.
fn victims(directory: &Path, kind: Kind) -> Vec<PathBuf> {
    let mut found = match kind {
        Kind::Sealed => {
            let mut logs = files(directory, ".log");
            logs.pop();
            logs
        }
        Kind::Active => files(directory, ".log").split_off(files(directory, ".log").len() - 1),
        Kind::Index => files(directory, ".index"),
        Kind::TimeIndex => files(directory, ".timeindex"),
        Kind::Checkpoint => files(directory, "/offset-checkpoint"),
        Kind::Epochs => files(directory, "/leader-epoch-checkpoint"),
        Kind::Identity => files(directory, "/partition.metadata"),
        Kind::FlushedEnd => files(directory, "/flushed-end"),
        Kind::Snapshot => files(directory, ".snapshot"),
    };
    if matches!(kind, Kind::Index | Kind::TimeIndex) {
        // that of the segment that takes appends is in memory
        let active = files(directory, ".log").pop().unwrap();
        found.retain(|path| path.file_stem() != active.file_stem());
    }
    // One that was removed meanwhile is none.
    found.retain(|path| fs::metadata(path).is_ok_and(|file| file.len() > 0));
    found
}

fn victim(directory: &Path, kind: Kind, dice: &mut StdRng) -> PathBuf {
    let mut found = victims(directory, kind);
    let at = dice.random_range(0..found.len());
    found.swap_remove(at)
}

/// A byte that has changed.
#[derive(Debug)]
struct Flipped {
    path: PathBuf,
    at: u64,
    byte: u8,
}

impl Flipped {
    /// The node has written the file anew meanwhile, as it does now and then.
    fn is_overwritten(&self) -> bool {
        let is_log = self.path.extension().is_some_and(|extension| extension == "log");
        let content = fs::read(&self.path).unwrap_or_default();
        !is_log && content.get(self.at as usize) != Some(&self.byte)
    }
}

/// Of a log file that is written to, within what is there by now. In place: whoever has mapped it sees it.
fn flip(path: &Path, dice: &mut StdRng) -> Flipped {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let at = dice.random_range(0..file.metadata().unwrap().len());
    let bit = dice.random_range(0..8u8);
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    let byte = byte[0] ^ 1 << bit;
    file.write_all_at(&[byte], at).unwrap();
    Flipped { path: path.to_owned(), at, byte }
}

/// How often damage of any kind was found so far, by whomever.
fn times_found(cluster: &Cluster) -> usize {
    [
        "damage was found in the log",
        "the log is damaged",
        "files that were damaged",
        "is damaged: removed",
        "damaged: made again",
    ]
    .iter()
    .map(|what| cluster.times_said(what))
    .sum()
}

async fn whole(cluster: &Cluster) {
    partition_where(cluster, TOPIC, |one| {
        one.leader_id.is_some() && one.in_sync_replicas.len() == 3
    })
    .await;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum When {
    Running,
    Stopped,
    Blackout,
}

/// One byte of one file on one node, and all is whole again. False: it was overwritten before anybody has read it.
async fn rot_once(
    cluster: &mut Cluster,
    when: When,
    kind: Kind,
    leads: bool,
    dice: &mut StdRng,
) -> bool {
    let state = partition_where(cluster, TOPIC, |one| {
        one.leader_id.is_some() && one.in_sync_replicas.len() == 3
    })
    .await;
    let leader = state.leader_id.unwrap();
    let others: Vec<i32> = cluster.ids().filter(|id| *id != leader).collect();
    let node = if leads { leader } else { others[dice.random_range(0..others.len())] };
    let directory = cluster.data(node).join(format!("{TOPIC}-0"));
    let ids: Vec<i32> = cluster.ids().collect();
    eventually_or_why("there is such a file", async || {
        (!victims(&directory, kind).is_empty()).then_some(()).ok_or_else(|| format!("{kind:?}"))
    })
    .await;
    let before = times_found(cluster);
    let what = match when {
        When::Running => flip(&victim(&directory, kind, dice), dice),
        When::Stopped => {
            assert!(cluster.terminate(node).await.success());
            let what = flip(&victim(&directory, kind, dice), dice);
            cluster.restart(&[node]).await;
            what
        }
        When::Blackout => {
            for &id in &ids {
                cluster.pause(id).await;
            }
            for &id in &ids {
                cluster.kill(id);
            }
            let what = flip(&victim(&directory, kind, dice), dice);
            cluster.restart(&ids).await;
            what
        }
    };
    let found = eventually_or_why("it is found", async || {
        let answers = scrub(cluster, node).await;
        let told = answers.iter().any(|one| one.damaged || !one.repaired_files.is_empty());
        if told || times_found(cluster) > before {
            return Ok(true);
        }
        if what.is_overwritten() {
            return Ok(false);
        }
        Err(format!("{when:?}, {kind:?} of node {node} (leads: {leads}): {what:?}: {answers:?}"))
    })
    .await;
    whole(cluster).await;
    eventually_or_why("nothing is left of it", async || {
        let answers = scrub(cluster, node).await;
        match &answers[..] {
            [one] if !one.damaged && one.repaired_files.is_empty() && one.error.is_none() => Ok(()),
            _ => Err(format!("{when:?}, {kind:?} of node {node}: {what:?}: {answers:?}")),
        }
    })
    .await;
    found
}

async fn rotten_cluster() -> Cluster {
    // What is found is found by reading, or by who asks for it.
    let cluster = Cluster::start(&["log.scrub.bytes.per.second=0"]).await;
    topic_on(&cluster, TOPIC, &[1, 2, 3], &[("segment.bytes", "16384")]).await;
    cluster
}

async fn rot(flips: usize, seed: u64, whens: &[When]) {
    eprintln!("TROUPE_TEST_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let mut cluster = rotten_cluster().await;
    whole(&cluster).await;
    let clients = Clients::start(&cluster).await;
    clients.progress(200).await;
    let (mut found, mut in_combination) = (0, BTreeMap::<_, usize>::new());
    for n in 0..flips {
        let kind = KINDS[n % KINDS.len()];
        let when = whens[n / KINDS.len() % whens.len()];
        // of an odd number of kinds and times each comes upon both
        let leads = n % 2 == 0;
        found += usize::from(rot_once(&mut cluster, when, kind, leads, &mut dice).await);
        *in_combination.entry((when, leads)).or_default() += 1;
        clients.progress(10).await;
        if (n + 1) % 20 == 0 {
            eprintln!("{} flips: {found} found, the others overwritten by the node", n + 1);
        }
    }
    let all = clients.finish().await;
    let leader = cluster.server(1).await;
    let read = leader.read_all(TOPIC, 0).await;
    assert_eq!(read.len(), all, "all that was acknowledged, each once");
    for (n, (offset, sample)) in read.iter().enumerate() {
        assert_eq!((*offset as usize, number(sample.value.as_deref().unwrap())), (n, n));
    }
    let lost = flips - found;
    eprintln!(
        "{flips} flips ({in_combination:?}): {found} found, {lost} overwritten by the node before anybody read them; \
         {all} records written and read meanwhile"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_of_any_file_is_found_and_repaired_while_all_runs() {
    rot(KINDS.len(), seed(), &[When::Running]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_changed_while_a_node_or_all_were_down_is_found_and_repaired() {
    for (when, kind) in [(When::Stopped, Kind::Sealed), (When::Blackout, Kind::Active)] {
        let mut dice = StdRng::seed_from_u64(seed());
        let mut cluster = rotten_cluster().await;
        whole(&cluster).await;
        let clients = Clients::start(&cluster).await;
        clients.progress(100).await;
        rot_once(&mut cluster, when, kind, true, &mut dice).await;
        clients.progress(10).await;
        clients.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes many minutes: cargo test -p troupe-tests --test cluster -- --ignored two_hundred_flips"]
async fn two_hundred_flips_are_found_and_repaired() {
    rot(200, seed(), &[When::Running, When::Running, When::Stopped, When::Running, When::Blackout])
        .await;
}

/// As `truncate` does it. Whoever touches a page that is gone would be sent a signal that ends a process.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_made_shorter_while_all_runs_costs_its_replica_and_no_node() {
    let mut dice = StdRng::seed_from_u64(seed());
    let cluster = rotten_cluster().await;
    whole(&cluster).await;
    let clients = Clients::start(&cluster).await;
    clients.progress(200).await;
    for (kind, leads) in [
        (Kind::Sealed, true),
        (Kind::Active, true),
        (Kind::Index, true),
        (Kind::TimeIndex, false),
        (Kind::Sealed, false),
        (Kind::Active, false),
    ] {
        let state = partition_where(&cluster, TOPIC, |one| {
            one.leader_id.is_some() && one.in_sync_replicas.len() == 3
        })
        .await;
        let leader = state.leader_id.unwrap();
        let other = cluster.ids().find(|id| *id != leader).unwrap();
        let node = if leads { leader } else { other };
        // so that all of it is mapped, wherever that is read from
        cluster.server(leader).await.read_all(TOPIC, 0).await;
        let directory = cluster.data(node).join(format!("{TOPIC}-0"));
        let before = times_found(&cluster);
        let path = victim(&directory, kind, &mut dice);
        let file = fs::File::options().write(true).open(&path).unwrap();
        let size = file.metadata().unwrap().len();
        file.set_len(dice.random_range(0..size)).unwrap();
        eventually_or_why("it is found", async || {
            let answers = scrub(&cluster, node).await;
            let told = answers.iter().any(|one| one.damaged || !one.repaired_files.is_empty());
            // An index that only lacks entries at its end leads to the same records.
            let is_index = matches!(kind, Kind::Index | Kind::TimeIndex);
            if told || is_index || times_found(&cluster) > before {
                return Ok(());
            }
            Err(format!("{kind:?} of node {node} (leads: {leads}): {path:?}: {answers:?}"))
        })
        .await;
        // nobody starts a node again that has ended
        whole(&cluster).await;
        clients.progress(10).await;
    }
    let all = clients.finish().await;
    assert_eq!(cluster.server(1).await.read_all(TOPIC, 0).await.len(), all);
}

/// Nobody reads it, and nobody asks.
#[tokio::test(flavor = "multi_thread")]
async fn rot_in_what_nobody_reads_is_found_in_the_background() {
    let cluster =
        Cluster::start(&["log.scrub.interval.ms=200", "log.scrub.bytes.per.second=100MiB"]).await;
    topic_on(&cluster, TOPIC, &[1, 2, 3], &[("segment.bytes", "16384")]).await;
    whole(&cluster).await;
    let clients = Clients::start(&cluster).await;
    clients.progress(200).await;
    let mut dice = StdRng::seed_from_u64(seed());
    for node in [2, 3] {
        let directory = cluster.data(node).join(format!("{TOPIC}-0"));
        let before = cluster.times_said("damage was found in the log");
        let what = flip(&victim(&directory, Kind::Sealed, &mut dice), &mut dice);
        eventually_or_why("a pass over all finds it", async || {
            let found = cluster.times_said("damage was found in the log") > before;
            found.then_some(()).ok_or_else(|| format!("{what:?}"))
        })
        .await;
        whole(&cluster).await;
    }
    clients.finish().await;
}
