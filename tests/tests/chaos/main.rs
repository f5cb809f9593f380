//! Chaos with real processes: a cluster of three on loopback, to which things are done from a seed while
//! producers and readers note all that they are told. Afterwards nothing acknowledged is lost, nothing is
//! there twice, elsewhere, in another order or out of nowhere, and the replicas are the same byte by byte.
//!
//! A short schedule runs always. The long ones:
//! `cargo test --release -p troupe-tests --test chaos -- --ignored --nocapture schedules` (`…schedules_leave_nothing`: those
//! that leave the network alone; `…cut_and_slow`: those that do not, where the system allows network namespaces), with
//! `TROUPE_CHAOS_SCHEDULES` (20), `TROUPE_CHAOS_SECONDS` (60) and `TROUPE_CHAOS_SEED` (the first; drawn).
#![allow(clippy::unwrap_used, reason = "tests")]

mod canaries;
mod coordinators;
mod exactly_once;
mod groups;
mod nemesis;
mod rows;
mod schedule;
mod verdict;
mod workload;

use nemesis::{Faults, torment};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use schedule::Schedule;
use std::time::Duration;
use troupe_tests::{Cluster, Network, seed};
use verdict::Verdict;
use workload::{Finished, Sender, Workload};

const TOPICS: [&str; 2] = ["orders", "payments"];
const PARTITIONS: u32 = 3;
/// A schedule with fewer faults shows nothing.
const LEAST_FAULTS: usize = 5;

/// One schedule, from a new cluster to its verdict.
async fn run(
    seed: u64,
    length: Duration,
    senders: &[Sender],
    network: Option<&Network>,
) -> (Verdict, Faults, Finished) {
    println!("seed {seed}: {length:?}");
    let (mut cluster, schedule) = match network {
        Some(network) => (Cluster::on(network, &[]).await, Schedule::with_network(seed)),
        None => (Cluster::start(&[]).await, Schedule::new(seed)),
    };
    let workload = Workload::start(&cluster, &TOPICS, PARTITIONS, senders, seed, network).await;
    workload.progress(200).await;
    let faults = torment(&mut cluster, network, schedule, length, LEAST_FAULTS).await;
    let kinds: Vec<_> =
        faults.installed.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    println!("seed {seed}: {} faults: {}", faults.count(), kinds.join(", "));
    faults.skipped.iter().for_each(|skipped| println!("seed {seed}: skipped {skipped}"));
    let (mut verdict, finished) = conclude(&mut cluster, workload, seed).await;
    verdict.add_faults(&faults);
    println!("seed {seed}: {verdict}");
    if !verdict.is_clean() {
        println!("{}", cluster.said());
    }
    (verdict, faults, finished)
}

/// When all nodes run again: it goes on, then it ends, and everything is looked at.
async fn conclude(cluster: &mut Cluster, workload: Workload, seed: u64) -> (Verdict, Finished) {
    cluster.healed().await;
    workload.progress(200).await;
    let finished = workload.finish(cluster, seed as usize).await;
    let picture = cluster.healed().await;
    let mut verdict = Verdict::of(&finished);
    verdict.add_events(cluster, &picture);
    for status in cluster.stop().await {
        if !status.success() {
            verdict.wrong.push(format!("a node ended with {status} at the last SIGTERM"));
        }
    }
    verdict.compare_replicas(cluster, &finished);
    (verdict, finished)
}

/// Three that are sure of what they are told, one that is not, and some without an SDK.
fn senders() -> Vec<Sender> {
    let mut senders = vec![Sender::durable(); 3];
    senders.extend([Sender::leader_only(), Sender::thin(), Sender::spread()]);
    senders.extend([Sender::stream(), Sender::stream()]);
    senders
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_schedule_leaves_nothing_wrong() {
    let seed = seed();
    let (verdict, faults, finished) = run(seed, Duration::from_secs(12), &senders(), None).await;
    assert!(verdict.is_clean(), "seed {seed}: {verdict}");
    assert!(faults.count() >= LEAST_FAULTS, "seed {seed}: {faults:?}");
    assert!(faults.installed.len() >= 3, "seed {seed}: faults of one kind show little: {faults:?}");
    assert!(verdict.compared > 0 && verdict.seen > 0, "seed {seed}: {verdict}");
    canaries::every_damage_is_noticed(&finished);
}

/// The same where links between nodes fail too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_schedule_with_cut_and_slow_links_leaves_nothing_wrong() {
    const NAME: &str = "a_short_schedule_with_cut_and_slow_links_leaves_nothing_wrong";
    let Some(network) = network(NAME) else { return };
    let seed = seed();
    let length = Duration::from_secs(20);
    let (verdict, faults, _) = run(seed, length, &senders(), Some(&network)).await;
    assert!(verdict.is_clean(), "seed {seed}: {verdict}");
    assert!(faults.count() >= LEAST_FAULTS, "seed {seed}: {faults:?}");
    assert!(verdict.commits > 0 && verdict.reads > 0, "seed {seed}: {verdict}");
}

/// The network of a test that runs in a namespace; none where it was run in a process that has one, or cannot be.
fn network(test: &str) -> Option<Network> {
    match troupe_tests::in_a_namespace(test) {
        Ok(true) => Some(Network::new(3).expect("in a namespace there can be a network")),
        Ok(false) => None,
        Err(why) => {
            troupe_tests::skip(test, &why);
            None
        }
    }
}

/// More than a cluster of three is there for: nobody serves, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_death_of_all_nodes_at_once_loses_nothing() {
    const DEATHS: usize = 3;
    let seed = seed();
    let mut chance = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::start(&[]).await;
    let workload = Workload::start(&cluster, &TOPICS, PARTITIONS, &senders(), seed, None).await;
    for _ in 0..DEATHS {
        workload.progress(chance.random_range(100..1_000)).await;
        for node in cluster.ids() {
            cluster.kill(node);
        }
        cluster.heal().await;
    }
    let (verdict, _) = conclude(&mut cluster, workload, seed).await;
    println!("seed {seed}: {verdict}");
    assert!(verdict.is_clean(), "seed {seed}: {verdict}");
}

fn from_environment(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number")),
        Err(_) => default,
    }
}

/// All run to their end, whatever the others came to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes half an hour; a short one is tried always"]
async fn long_schedules_leave_nothing_wrong() {
    many_schedules(None).await;
}

/// The same where links between nodes fail too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes half an hour; a short one is tried always"]
async fn long_schedules_with_cut_and_slow_links_leave_nothing_wrong() {
    const NAME: &str = "long_schedules_with_cut_and_slow_links_leave_nothing_wrong";
    if let Some(network) = network(NAME) {
        many_schedules(Some(&network)).await;
    }
}

async fn many_schedules(network: Option<&Network>) {
    let schedules = from_environment("TROUPE_CHAOS_SCHEDULES", 20);
    let length = Duration::from_secs(from_environment("TROUPE_CHAOS_SECONDS", 60));
    let first = from_environment("TROUPE_CHAOS_SEED", seed());
    let (mut failed, mut acknowledged, mut installed) = (Vec::new(), 0, 0);
    let (mut elections, mut truncations) = (0, 0);
    for seed in first..first + schedules {
        let (verdict, faults, _) = run(seed, length, &senders(), network).await;
        if !verdict.is_clean() || faults.count() < LEAST_FAULTS {
            failed.push(seed);
        }
        acknowledged += verdict.acknowledged;
        installed += faults.count();
        elections += verdict.elections;
        truncations += verdict.truncations;
    }
    println!(
        "{schedules} schedules, {installed} faults, {elections} elections, {truncations} truncations, \
         {acknowledged} records acknowledged"
    );
    assert!(failed.is_empty(), "schedules {failed:?} of {schedules} left something wrong");
    assert!(elections > 0 && truncations > 0, "nothing had to be survived");
}
