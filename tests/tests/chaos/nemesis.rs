//! Carries out a schedule, and counts what really happened: a process that is dead, one that stands still, an
//! actor that was built again, packets that were lost or late.

use crate::schedule::{Direction, Fault, From, Schedule, Step, Target};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};
use troupe_proto::admin::v1::PartitionState;
use troupe_proto::chaos::v1alpha1::chaos_service_client::ChaosServiceClient;
use troupe_proto::chaos::v1alpha1::{Actor, KillActorRequest, KillMode, ListActorsRequest};
use troupe_tests::{Cluster, Link, Network, Picture, Place};

/// How long is asked for a target: in the middle of an election there may be none.
const TARGET_PATIENCE: Duration = Duration::from_secs(10);
/// An actor that does not come back within this is a fault of its own, which the verdict will find.
const ACTOR_PATIENCE: Duration = Duration::from_secs(20);

/// What became of the faults.
#[derive(Debug, Default)]
pub struct Faults {
    /// By kind: those that were seen to have happened.
    pub installed: BTreeMap<&'static str, usize>,
    /// With the reason: there was nobody to do it to, or it cannot be said whether it happened.
    pub skipped: Vec<String>,
    /// What a node answered to a fault as no node should.
    pub wrong: Vec<String>,
}

impl Faults {
    pub fn count(&self) -> usize {
        self.installed.values().sum()
    }

    fn installed(&mut self, fault: &Fault) {
        *self.installed.entry(fault.kind()).or_default() += 1;
    }
}

/// Carries out steps for `length`, and until there were `least` faults; then every node runs again.
pub async fn torment(
    cluster: &mut Cluster,
    network: Option<&Network>,
    schedule: Schedule,
    length: Duration,
    least: usize,
) -> Faults {
    // Much more than any schedule needs that gets through.
    const MOST: Duration = Duration::from_secs(300);
    let began = Instant::now();
    let mut faults = Faults::default();
    for step in schedule {
        let enough = began.elapsed() >= length && faults.count() >= least;
        if enough || began.elapsed() >= length + MOST {
            break;
        }
        carry_out(cluster, network, step, &mut faults, began).await;
    }
    cluster.heal().await;
    faults
}

async fn carry_out(
    cluster: &mut Cluster,
    network: Option<&Network>,
    step: Step,
    faults: &mut Faults,
    began: Instant,
) {
    // Chance decides when; nothing is waited for.
    sleep(step.gap).await;
    let say = |what: String| println!("  {:6.2} s {what}", began.elapsed().as_secs_f64());
    let Some(lasts) = step.fault.lasts() else {
        return kill_actor(cluster, &step.fault, faults, &say).await;
    };
    let Some(node) = target(cluster, &step.fault).await else {
        faults.skipped.push(format!("{}: nobody to do it to", step.fault));
        return;
    };
    say(format!("node {node}: {}", step.fault));
    match network {
        Some(network) => hurt(network, node, &step.fault),
        None => assert!(!step.fault.is_of_links(), "there is no network to be hurt"),
    }
    begin(cluster, node, &step.fault, faults).await;
    match &step.meanwhile {
        Some(meanwhile) => {
            let halves = lasts / 2;
            sleep(halves).await;
            kill_actor(cluster, meanwhile, faults, &say).await;
            sleep(lasts - halves).await;
        }
        None => sleep(lasts).await,
    }
    if step.fault.is_of_links() {
        let harmed = network.map_or(0, Network::restore);
        match harmed {
            0 => faults.skipped.push(format!("{}: nothing went that way", step.fault)),
            _ => faults.installed(&step.fault),
        }
    } else {
        end(cluster, node, &step.fault).await;
    }
    say(format!("node {node} is back"));
}

async fn begin(cluster: &mut Cluster, node: i32, fault: &Fault, faults: &mut Faults) {
    match fault {
        Fault::Kill { .. } => {
            let status = cluster.kill(node);
            match status.signal() {
                Some(libc::SIGKILL) => faults.installed(fault),
                _ => faults
                    .wrong
                    .push(format!("node {node} had ended before it was killed: {status}")),
            }
        }
        Fault::Terminate { .. } => {
            let status = cluster.terminate(node).await;
            if status.success() {
                faults.installed(fault);
            } else {
                faults.wrong.push(format!("node {node} ended with {status} at SIGTERM"));
            }
        }
        Fault::Pause { .. } => {
            // Returns when the kernel says that it stands still.
            cluster.pause(node).await;
            faults.installed(fault);
        }
        // In the network by now; counted when it is known what that did.
        Fault::Cut { .. } | Fault::Slow { .. } => {}
        Fault::KillLeader { .. } | Fault::KillFollower { .. } | Fault::KillController { .. } => {
            unreachable!("an actor's death does not last")
        }
    }
}

/// Does to the links of a node what a fault of links says; others do nothing.
fn hurt(network: &Network, node: i32, fault: &Fault) {
    /// Where clients are.
    const CLIENTS: Place = 0;
    let node = node as Place;
    let nodes = || network.places().filter(|place| *place != node && *place != CLIENTS);
    let (others, direction, link): (Vec<Place>, _, _) = match *fault {
        Fault::Cut { from, direction, .. } => {
            let others = match from {
                From::Nodes => nodes().collect(),
                From::All => nodes().chain([CLIENTS]).collect(),
                From::One(place) => nodes().cycle().skip(place).take(1).collect(),
            };
            (others, direction, Link::Cut)
        }
        Fault::Slow { delay, bytes_per_second, .. } => {
            (nodes().collect(), Direction::Both, Link::Slow { delay, bytes_per_second })
        }
        _ => return,
    };
    for other in others {
        if direction != Direction::In {
            network.set(node, other, link);
        }
        if direction != Direction::Out {
            network.set(other, node, link);
        }
    }
}

async fn end(cluster: &mut Cluster, node: i32, fault: &Fault) {
    if let Fault::Kill { again: Some(after), .. } = fault {
        cluster.start_and_kill(node, *after).await;
    }
    if cluster.is_paused(node) {
        cluster.resume(node);
    } else {
        cluster.restart(&[node]).await;
    }
}

/// The node that a fault is meant for.
async fn target(cluster: &Cluster, fault: &Fault) -> Option<i32> {
    let (Fault::Kill { target, .. }
    | Fault::Terminate { target, .. }
    | Fault::Pause { target, .. }
    | Fault::Cut { target, .. }
    | Fault::Slow { target, .. }) = fault
    else {
        return None;
    };
    match *target {
        Target::Node(place) => {
            let live = cluster.live();
            (!live.is_empty()).then(|| live[place % live.len()])
        }
        Target::LeaderOf(place) => replica(cluster, place, leader_of).await.map(|(node, _)| node),
        Target::ActiveController => controller(cluster).await,
    }
}

/// Asks live nodes until one knows.
async fn ask<T>(cluster: &Cluster, what: impl Fn(&Picture) -> Option<T>) -> Option<T> {
    let asked = timeout(TARGET_PATIENCE, async {
        loop {
            if let Ok(picture) = cluster.describe().await
                && let Some(found) = what(&picture)
            {
                return found;
            }
            sleep(Duration::from_millis(50)).await;
        }
    });
    asked.await.ok()
}

async fn controller(cluster: &Cluster) -> Option<i32> {
    let live = cluster.live();
    ask(cluster, |picture| live.contains(&picture.controller).then_some(picture.controller)).await
}

/// A replica of a partition that chance named, on a node that lives: the node, and the end of its actor's
/// address.
async fn replica(
    cluster: &Cluster,
    place: usize,
    choose: impl Fn(&PartitionState, &[i32]) -> Option<i32>,
) -> Option<(i32, String)> {
    let live = cluster.live();
    ask(cluster, |picture| {
        let one = picture.partitions.get(place % picture.partitions.len().max(1))?;
        let node = choose(one, &live)?;
        Some((node, format!("/partition/{}/{}", one.topic, one.partition)))
    })
    .await
}

fn leader_of(partition: &PartitionState, live: &[i32]) -> Option<i32> {
    partition.leader_id.filter(|node| live.contains(node))
}

fn follower_of(partition: &PartitionState, live: &[i32], place: usize) -> Option<i32> {
    let follows = |node: &&i32| Some(**node) != partition.leader_id && live.contains(node);
    let followers: Vec<&i32> = partition.replicas.iter().filter(follows).collect();
    (!followers.is_empty()).then(|| *followers[place % followers.len()])
}

/// Its supervisor must have built the actor once more than before.
async fn kill_actor(cluster: &Cluster, fault: &Fault, faults: &mut Faults, say: &impl Fn(String)) {
    let (found, mode) = match fault {
        Fault::KillLeader { partition, mode } => {
            (replica(cluster, *partition, leader_of).await, *mode)
        }
        Fault::KillFollower { partition, place, mode } => {
            let choose = |one: &PartitionState, live: &[i32]| follower_of(one, live, *place);
            (replica(cluster, *partition, choose).await, *mode)
        }
        Fault::KillController { mode } => {
            (controller(cluster).await.map(|node| (node, "/controller".to_owned())), *mode)
        }
        _ => unreachable!("this is done to nodes"),
    };
    let Some((node, suffix)) = found else {
        faults.skipped.push(format!("{fault}: nobody to do it to"));
        return;
    };
    say(format!("node {node}: {fault} {suffix}"));
    match kill_and_wait(cluster, node, &suffix, mode).await {
        Ok((before, after)) if after > before => faults.installed(fault),
        Ok((before, after)) if after == before => {
            faults.skipped.push(format!("{fault} on node {node}: it is being rebuilt already"));
        }
        Ok((before, after)) => {
            faults.wrong.push(format!("{fault} on node {node}: {before} restarts, then {after}"));
        }
        // The leader may have moved between the question and the order.
        Err(why) => faults.skipped.push(format!("{fault} on node {node}: {why}")),
    }
}

/// The restarts before and after.
async fn kill_and_wait(
    cluster: &Cluster,
    node: i32,
    suffix: &str,
    mode: KillMode,
) -> Result<(i32, i32), String> {
    let actor = actor(cluster, node, suffix).await?;
    // A connection of its own: the answer comes when the successor serves.
    let server = cluster.server(node).await;
    let request = KillActorRequest { address: actor.address.clone(), mode: mode.into() };
    let mut stub = ChaosServiceClient::new(server.channel());
    let killed = timeout(ACTOR_PATIENCE, stub.kill_actor(request)).await;
    let killed = killed.map_err(|_| format!("no answer within {ACTOR_PATIENCE:?}"))?;
    let killed = killed.map_err(|status| status.to_string())?.into_inner();
    Ok((actor.restarts, killed.restarts))
}

async fn actor(cluster: &Cluster, node: i32, suffix: &str) -> Result<Actor, String> {
    let mut stub = ChaosServiceClient::new(cluster.channel(node));
    let mut request = ListActorsRequest::default();
    loop {
        let page = stub.list_actors(request.clone()).await.map_err(|status| status.to_string())?;
        let page = page.into_inner();
        if let Some(found) = page.actors.into_iter().find(|one| one.address.ends_with(suffix)) {
            return Ok(found);
        }
        if page.next_page_token.is_empty() {
            return Err(format!("it has no actor {suffix}"));
        }
        request.page_token = page.next_page_token;
    }
}
