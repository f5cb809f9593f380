//! Consume, transform, produce, exactly once: three transformers take lines from one topic to another in transactions,
//! while they, the coordinators of groups and transactions, leaders and nodes are killed. Every line has one committed
//! image, in its order, for those who read meanwhile and for those who come afterwards; and no transaction stays open.

mod images;
mod transformers;

use crate::coordinators::kill_coordinators;
use crate::groups::ledger::Ledger;
use crate::groups::{PARTITIONS, TOPIC, committed, feed, watch};
use crate::nemesis::torment;
use crate::schedule::Schedule;
use crate::{from_environment, verdict, workload};
use images::{Images, images};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::time::sleep;
use transformers::{Tally, Transformers};
use troupe_client::{Admin, Client, IsolationLevel, OffsetSpec};
use troupe_proto::admin::v1::TransactionState;
use troupe_proto::ids::{Offset, PartitionId};
use troupe_tests::{Cluster, PATIENCE, eventually_or_why, seed};

/// Where the images are.
const IMAGES: &str = "images";
/// Of the images.
const OUTPUTS: u32 = 4;

/// What one run is like.
struct Run {
    seed: u64,
    length: Duration,
    /// Lines a second.
    rate: u64,
    /// Lines of a transaction, at most.
    lines: usize,
}

/// What came of it.
#[derive(Debug)]
struct Outcome {
    lines: usize,
    /// Images in transactions that were aborted.
    aborted: usize,
    tally: Tally,
    /// By kind.
    coordinators: BTreeMap<String, usize>,
    /// Of nodes and their actors.
    faults: usize,
    wrong: Vec<String>,
}

async fn run(run: Run) -> Outcome {
    let Run { seed, length, rate, lines } = run;
    println!("seed {seed}: {length:?}, {rate} lines a second, {lines} a transaction");
    let mut cluster = Cluster::start(&[]).await;
    let server = cluster.server(cluster.healed().await.controller).await;
    let configs = [("segment.bytes", "256KiB"), ("min.insync.replicas", "2")];
    server.create_topic(TOPIC, PARTITIONS as i32, &configs).await;
    server.create_topic(IMAGES, OUTPUTS as i32, &configs).await;
    cluster.healed().await;
    let ledger = Arc::new(Ledger::new(PARTITIONS));
    let (turmoil, stop, end) = (flag(true), flag(false), flag(false));
    let feeding = workload::client(&cluster, 0).await;
    let feeding = tokio::spawn(feed(feeding, rate, Arc::clone(&ledger), Arc::clone(&stop)));
    let client = workload::client(&cluster, 1).await;
    let transformers = Transformers::new(
        workload::client(&cluster, 2).await,
        cluster.addresses().join(","),
        lines,
        Arc::clone(&ledger),
        StdRng::seed_from_u64(seed),
    );
    let moving = tokio::spawn(transformers.run(Arc::clone(&turmoil), Arc::clone(&end)));
    let watching = tokio::spawn(watch(client.admin(), Arc::clone(&ledger), Arc::clone(&end)));
    let live = Arc::new(Images::default());
    let reading = workload::client(&cluster, 0).await;
    let reading = tokio::spawn(Arc::clone(&live).read(reading, IMAGES, Arc::clone(&end)));
    let admin = client.admin();
    work_begins(&admin).await;
    let killing = tokio::spawn(kill_coordinators(
        |actor| actor.kind.ends_with("-coordinator") && !actor.detail.starts_with("0 "),
        cluster.ids().map(|id| cluster.channel(id)).collect(),
        StdRng::seed_from_u64(seed ^ 1),
        Arc::clone(&turmoil),
    ));
    let faults = torment(&mut cluster, None, Schedule::new(seed), length, 3).await;
    println!("seed {seed}: {:?}", faults.installed);
    turmoil.store(false, Ordering::SeqCst);
    let coordinators = killing.await.unwrap();
    cluster.healed().await;
    stop.store(true, Ordering::SeqCst);
    let ends = feeding.await.unwrap();
    let mut wrong = faults.wrong.clone();
    wrong.extend(all_committed(&admin, &ends).await);
    wrong.extend(all_ended(&client, (IMAGES, OUTPUTS)).await);
    end.store(true, Ordering::SeqCst);
    let tally = moving.await.unwrap();
    watching.await.unwrap();
    wrong.extend(reading.await.unwrap());
    let stored = images(&client, IMAGES, OUTPUTS, IsolationLevel::ReadCommitted).await;
    let written = images(&client, IMAGES, OUTPUTS, IsolationLevel::ReadUncommitted).await;
    wrong.extend(stored.judge(&ends, |partition, offset| {
        ledger.lines.at(partition, offset).to_ascii_uppercase().into_bytes()
    }));
    wrong.extend(live.is_beginning_of(&stored));
    cluster.healed().await;
    cluster.stop().await;
    let data: Vec<(i32, &Path)> = cluster.ids().map(|id| (id, cluster.data(id))).collect();
    for partition in 0..OUTPUTS {
        let same = verdict::same(&data, &format!("{IMAGES}-{partition}"));
        wrong.extend(same.err().into_iter().flatten());
    }
    wrong.extend(ledger.found());
    let outcome = Outcome {
        lines: ends.values().sum::<u64>() as usize,
        aborted: written.count() - stored.count(),
        tally,
        coordinators,
        faults: faults.count(),
        wrong,
    };
    println!("seed {seed}: {outcome:?}");
    if !outcome.wrong.is_empty() {
        println!("{}", cluster.said());
    }
    outcome
}

fn flag(is: bool) -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(is))
}

/// Waits until something is committed: from then on faults hit something.
async fn work_begins(admin: &Admin) {
    eventually_or_why("lines are transformed", async || {
        let committed = committed(admin).await.unwrap_or_default();
        if committed.is_empty() { Err("nothing is committed".to_owned()) } else { Ok(()) }
    })
    .await;
}

/// Waits until the group has committed everything, for as long as it goes on; what is left.
async fn all_committed(admin: &Admin, ends: &BTreeMap<u32, u64>) -> Option<String> {
    const GLANCE: Duration = Duration::from_millis(100);
    let (mut before, mut since) = (BTreeMap::new(), Instant::now());
    loop {
        let now = committed(admin).await.unwrap_or_default();
        let is_at_end = |(partition, end): (&u32, &u64)| {
            now.get(partition).copied().unwrap_or(0) == *end as i64
        };
        if ends.iter().all(is_at_end) {
            return None;
        }
        if now != before {
            (before, since) = (now, Instant::now());
        } else if since.elapsed() > PATIENCE {
            return Some(format!("the group stays at {now:?} of {ends:?}"));
        }
        sleep(GLANCE).await;
    }
}

/// Waits until nothing is open any more, at any partition or coordinator; what stays so.
pub async fn all_ended(client: &Client, written: (&str, u32)) -> Option<String> {
    const GLANCE: Duration = Duration::from_millis(100);
    let began = Instant::now();
    loop {
        let open = open(client, written).await;
        match open {
            Ok(()) => return None,
            Err(why) if began.elapsed() > PATIENCE => return Some(why),
            Err(_) => sleep(GLANCE).await,
        }
    }
}

async fn open(client: &Client, (topic, partitions): (&str, u32)) -> Result<(), String> {
    let ends = async |isolation| {
        let queries: Vec<_> =
            (0..partitions).map(|it| (PartitionId(it), OffsetSpec::Latest)).collect();
        let ends = client.list_offsets_as(topic, &queries, isolation).await;
        let ends = ends.map_err(|error| error.to_string())?.into_iter();
        Ok::<_, String>(ends.map(|end| end.offset).collect::<Vec<Option<Offset>>>())
    };
    let stable = ends(IsolationLevel::ReadCommitted).await?;
    let end = ends(IsolationLevel::ReadUncommitted).await?;
    if stable != end {
        return Err(format!("{topic}: stable up to {stable:?}, with ends at {end:?}"));
    }
    let states = [
        TransactionState::Ongoing,
        TransactionState::PrepareCommit,
        TransactionState::PrepareAbort,
    ];
    let listed = client.admin().list_transactions(&states, None, Duration::ZERO).await;
    let listed = listed.map_err(|error| error.to_string())?;
    if listed.is_empty() { Ok(()) } else { Err(format!("still open: {listed:?}")) }
}

fn assert_clean(seed: u64, outcome: &Outcome) {
    assert!(outcome.wrong.is_empty(), "seed {seed}: {:#?}", outcome.wrong);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_has_one_image_while_transformers_coordinators_and_nodes_die() {
    let seed = seed();
    let length = Duration::from_secs(10);
    let outcome = run(Run { seed, length, rate: 300, lines: 50 }).await;
    assert_clean(seed, &outcome);
    let killed = outcome.tally.killed + outcome.tally.stalled;
    assert!(killed > 0, "seed {seed}: no transformer was hurt");
    let coordinators: usize = outcome.coordinators.values().sum();
    assert!(outcome.faults + coordinators >= 3, "seed {seed}: too few faults");
}

/// All run to their end, whatever the others came to. 200,000 lines a run, 50 in a transaction; as the long schedules, with
/// `TROUPE_CHAOS_RATE` lines a second, `TROUPE_CHAOS_LINES` in a transaction, of `TROUPE_CHAOS_FILE` if it names a file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes some minutes a run; a short one is tried always"]
async fn long_schedules_leave_one_image_of_every_line() {
    let schedules = from_environment("TROUPE_CHAOS_SCHEDULES", 1);
    let length = Duration::from_secs(from_environment("TROUPE_CHAOS_SECONDS", 300));
    let first = from_environment("TROUPE_CHAOS_SEED", seed());
    let rate = from_environment("TROUPE_CHAOS_RATE", 200_000 / 300 + 1);
    let lines = from_environment("TROUPE_CHAOS_LINES", 50) as usize;
    let (mut failed, mut images, mut aborted) = (Vec::new(), 0, 0);
    for seed in first..first + schedules {
        let outcome = run(Run { seed, length, rate, lines }).await;
        if !outcome.wrong.is_empty() {
            failed.push(seed);
        }
        images += outcome.lines;
        aborted += outcome.aborted;
    }
    println!("{schedules} schedules, {images} lines, {aborted} images aborted");
    assert!(failed.is_empty(), "schedules {failed:?} of {schedules} left something wrong");
}
