//! A group that reads while its members, its coordinator and the nodes are killed: every record reaches some
//! member, committed offsets never go back, and a hand-over between members that take their leave repeats nothing.

pub mod ledger;
mod members;

use crate::coordinators::kill_coordinators;
use crate::nemesis::torment;
use crate::schedule::Schedule;
use crate::{from_environment, workload};
use ledger::Ledger;
use members::{Members, Ways};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::time::sleep;
use troupe_client::{Admin, Client, ProducerConfig, ProducerRecord};
use troupe_tests::{Cluster, eventually_or_why, seed};

pub const TOPIC: &str = "lines";
pub const GROUP: &str = "readers";
pub const PARTITIONS: u32 = 6;
const MEMBERS: usize = 4;

/// What one run is like.
struct Run {
    seed: u64,
    length: Duration,
    /// Lines a second.
    rate: u64,
    ways: Ways,
    /// Nodes, leaders, controllers and the coordinator's actor are killed too.
    faults: bool,
}

/// What came of it.
struct Outcome {
    lines: usize,
    repeated: usize,
    wrong: Vec<String>,
    /// Members that were killed, that left, and coordinators that were killed.
    killed: usize,
    left: usize,
    coordinators: usize,
    /// Of nodes and their actors.
    faults: usize,
}

async fn run(run: Run) -> Outcome {
    let Run { seed, length, rate, ways, faults } = run;
    let mut cluster = Cluster::start(&[]).await;
    let server = cluster.server(cluster.healed().await.controller).await;
    let configs = [("segment.bytes", "1MiB"), ("min.insync.replicas", "2")];
    server.create_topic(TOPIC, PARTITIONS as i32, &configs).await;
    cluster.healed().await;
    let ledger = Arc::new(Ledger::new(PARTITIONS));
    let stop = Arc::new(AtomicBool::new(false));
    let client = workload::client(&cluster, 0).await;
    let feeding = tokio::spawn(feed(client, rate, Arc::clone(&ledger), Arc::clone(&stop)));
    let mut clients = Vec::new();
    for number in 0..MEMBERS {
        clients.push(workload::client(&cluster, number).await);
    }
    let chance = StdRng::seed_from_u64(seed);
    let servers = cluster.addresses().join(",");
    let members = Members::new(clients, servers, ways, Arc::clone(&ledger), chance);
    let turmoil = Arc::new(AtomicBool::new(true));
    let moving = tokio::spawn(members.turmoil(Arc::clone(&turmoil)));
    let watching = tokio::spawn(watch(
        workload::client(&cluster, 1).await.admin(),
        Arc::clone(&ledger),
        Arc::clone(&stop),
    ));
    ledger.progress(100).await;
    let mut outcome = Outcome {
        lines: 0,
        repeated: 0,
        wrong: Vec::new(),
        killed: 0,
        left: 0,
        coordinators: 0,
        faults: 0,
    };
    if faults {
        let admin = workload::client(&cluster, 1).await.admin();
        let coordinator = admin.find_coordinator(GROUP).await.unwrap().partition;
        let address = format!("/group-coordinator/__consumer_offsets/{coordinator}");
        let killing = tokio::spawn(kill_coordinators(
            move |actor| actor.address.ends_with(&address),
            cluster.ids().map(|id| cluster.channel(id)).collect(),
            StdRng::seed_from_u64(seed ^ 1),
            Arc::clone(&turmoil),
        ));
        let installed = torment(&mut cluster, None, Schedule::new(seed), length, 3).await;
        println!("seed {seed}: {:?}", installed.installed);
        outcome.faults = installed.count();
        outcome.wrong.extend(installed.wrong);
        turmoil.store(false, Ordering::SeqCst);
        outcome.coordinators = killing.await.unwrap().values().sum();
    } else {
        // The time that members come and go.
        sleep(length).await;
        turmoil.store(false, Ordering::SeqCst);
    }
    cluster.healed().await;
    let members = moving.await.unwrap();
    stop.store(true, Ordering::SeqCst);
    let ends = feeding.await.unwrap();
    outcome.lines = ends.values().sum::<u64>() as usize;
    let admin = workload::client(&cluster, 2).await.admin();
    all_committed(&admin, &ends).await;
    (outcome.killed, outcome.left) = members.close().await;
    watching.await.unwrap();
    all_committed(&admin, &ends).await;
    let (repeated, wrong) = ledger.judge(&ends);
    outcome.repeated = repeated;
    outcome.wrong.extend(wrong);
    println!(
        "seed {seed}: {} lines, {repeated} repeated; {} members killed, {} left, {} coordinators killed, {} faults",
        outcome.lines, outcome.killed, outcome.left, outcome.coordinators, outcome.faults
    );
    if !outcome.wrong.is_empty() {
        println!("{}", cluster.said());
    }
    cluster.stop().await;
    outcome
}

/// Sends lines until it is told to stop and has sent all of the file, if there is one; where each partition ends. The key of
/// a line is its partition.
pub async fn feed(
    client: Client,
    rate: u64,
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
) -> BTreeMap<u32, u64> {
    const PACE: Duration = Duration::from_millis(10);
    let config = ProducerConfig { request_timeout: Duration::from_secs(5), ..Default::default() };
    let producer = client.producer(config).await.unwrap();
    let mut ends: BTreeMap<u32, u64> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
    let began = Instant::now();
    let mut sent = 0;
    while !stop.load(Ordering::SeqCst) || sent < ledger.lines.count() {
        let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
        while sent < due {
            let partition = (sent % u64::from(PARTITIONS)) as u32;
            let end = ends.get_mut(&partition).unwrap();
            let value = ledger.lines.at(partition, *end);
            *end += 1;
            sent += 1;
            let record = ProducerRecord::new(TOPIC).key(partition.to_string()).value(value);
            let record = record.partition(partition);
            let answered = |answer: Result<troupe_client::RecordMetadata, _>| {
                if let Err(error) = answer {
                    panic!("a line was not taken: {error}");
                }
            };
            producer.send_with(record, answered).await.unwrap();
        }
        sleep(PACE).await;
    }
    producer.flush().await.unwrap();
    producer.close(Duration::from_secs(30)).await.unwrap();
    ends
}

/// I12: what is committed never goes back.
pub async fn watch(admin: Admin, ledger: Arc<Ledger>, stop: Arc<AtomicBool>) {
    const GLANCE: Duration = Duration::from_millis(50);
    let mut highest: BTreeMap<u32, i64> = BTreeMap::new();
    while !stop.load(Ordering::SeqCst) {
        // In the midst of a fault nobody may answer.
        for (partition, offset) in committed(&admin).await.unwrap_or_default() {
            let before = highest.entry(partition).or_insert(offset);
            if offset < *before {
                ledger.wrong(format!("partition {partition}: committed {before}, then {offset}"));
            }
            *before = offset;
        }
        sleep(GLANCE).await;
    }
}

/// By partition, if there is an answer.
pub async fn committed(admin: &Admin) -> Option<BTreeMap<u32, i64>> {
    let offsets = admin.list_group_offsets(GROUP, vec![]).await.ok()?;
    let pairs = offsets.into_iter().map(|one| {
        let partition = one.partition.unwrap_or_default().partition;
        (partition as u32, one.offset.unwrap_or_default().offset)
    });
    Some(pairs.collect())
}

/// Waits until the group has committed everything.
async fn all_committed(admin: &Admin, ends: &BTreeMap<u32, u64>) {
    eventually_or_why("the group commits all that there is", async || {
        let Some(committed) = committed(admin).await else { return Err("no answer".to_owned()) };
        let behind = ends.iter().filter(|(partition, end)| {
            committed.get(partition).is_none_or(|offset| *offset < **end as i64)
        });
        let behind: Vec<_> = behind.collect();
        if behind.is_empty() { Ok(()) } else { Err(format!("{committed:?} of {ends:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_misses_nothing_while_members_coordinators_and_nodes_die() {
    let seed = seed();
    let length = Duration::from_secs(10);
    let outcome = run(Run { seed, length, rate: 2_000, ways: Ways::Any, faults: true }).await;
    assert!(outcome.wrong.is_empty(), "seed {seed}: {:?}", outcome.wrong);
    assert!(outcome.killed > 0, "seed {seed}: no member was killed");
    assert!(outcome.faults + outcome.coordinators >= 3, "seed {seed}: too few faults");
}

/// G17, C14, C20: what a member has processed is committed before its partitions go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_take_their_leave_repeat_nothing() {
    let seed = seed();
    let length = Duration::from_secs(6);
    let outcome = run(Run { seed, length, rate: 2_000, ways: Ways::Leaving, faults: false }).await;
    assert!(outcome.wrong.is_empty(), "seed {seed}: {:?}", outcome.wrong);
    assert!(outcome.left > 0, "seed {seed}: nobody left");
    assert_eq!(outcome.repeated, 0, "seed {seed}");
}

/// All run to their end, whatever the others came to. As the long schedules; `TROUPE_CHAOS_RATE` lines a
/// second, of `TROUPE_CHAOS_FILE` if it names a file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes three quarters of an hour; a short one is tried always"]
async fn long_group_schedules_leave_nothing_wrong() {
    let schedules = from_environment("TROUPE_CHAOS_SCHEDULES", 20);
    let length = Duration::from_secs(from_environment("TROUPE_CHAOS_SECONDS", 120));
    let first = from_environment("TROUPE_CHAOS_SEED", seed());
    let rate = from_environment("TROUPE_CHAOS_RATE", 10_000);
    let (mut failed, mut lines, mut repeated) = (Vec::new(), 0, 0);
    for seed in first..first + schedules {
        let outcome = run(Run { seed, length, rate, ways: Ways::Any, faults: true }).await;
        if !outcome.wrong.is_empty() {
            println!("seed {seed}: {:?}", outcome.wrong);
            failed.push(seed);
        }
        lines += outcome.lines;
        repeated += outcome.repeated;
    }
    println!("{schedules} schedules, {lines} lines, {repeated} repeated");
    assert!(failed.is_empty(), "schedules {failed:?} of {schedules} left something wrong");
}
