//! One fault after the other; each begins when all replicas are in sync, every leader is the preferred one and
//! every partition takes records.

use super::kind::Kind;
use super::load::Load;
use crate::commands::bench::nodes::{Nodes, Signal};
use crate::commands::bench::temporary::configs;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::streams::notice;
use std::time::{Duration, Instant};
use tokio::time::sleep;
use troupe_client::{Admin, ClientError};
use troupe_proto::admin::v1::{
    CreateTopicRequest, ElectionType, PartitionFilter, PartitionState, ReplicaAssignment,
    TopicPartitions, UpdateTopicRequest,
};
use troupe_proto::chaos::v1alpha1::KillMode;
use troupe_proto::ids::NodeId;

/// Between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How long the cluster may take to be well again.
const TIMEOUT: Duration = Duration::from_secs(120);
/// A fault begins at a moment drawn from this, so that no heartbeat's rhythm is measured.
const LARGEST_DELAY_MS: u64 = 500;
/// The load runs on for this long behind a fault, so that what a fault does later is seen too.
const AFTERMATH: Duration = Duration::from_millis(500);

/// A fault, and the partition that is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub partition: usize,
    /// The epoch before it.
    pub leader_epoch: u32,
    /// The moment before it.
    pub at: Instant,
    /// When it was over, as far as this could be seen from outside.
    pub over: Instant,
    /// What it is about is not the partition but this: how long until metadata could be changed.
    pub metadata: Option<Duration>,
}

pub struct Rounds {
    nodes: Nodes,
    progress: bool,
    /// Makes every change of the metadata another one.
    changes: u64,
}

impl Rounds {
    pub fn new(nodes: Nodes, progress: bool) -> Rounds {
        Rounds { nodes, progress, changes: 0 }
    }

    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    pub fn report_progress(&self, what: impl FnOnce() -> String) {
        if self.progress {
            notice!("{}", what());
        }
    }

    /// Control calls to any node but one.
    async fn admin(&self, but: Option<NodeId>) -> Result<Admin, ClientError> {
        let mut refused = None;
        for node in self.nodes.ids().filter(|node| Some(*node) != but) {
            match self.nodes.admin(node).await {
                Ok(admin) => return Ok(admin),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.expect("there is more than one node"))
    }

    pub async fn make_topic(&self, name: &str, assignments: &[Vec<i32>]) -> Result<(), Failure> {
        let assignment = |nodes: &Vec<i32>| ReplicaAssignment { replicas: nodes.clone() };
        let request = CreateTopicRequest {
            name: name.to_owned(),
            assignments: assignments.iter().map(assignment).collect(),
            ..CreateTopicRequest::default()
        };
        let what = || format!("cannot create topic {name}");
        let admin = self.admin(None).await.with_context(what)?;
        admin.create_topic(request).await.with_context(what)?;
        self.wait_until_well(name).await.map(drop)
    }

    /// Until every replica is in sync and the first one leads; gives the partitions.
    pub async fn wait_until_well(&self, topic: &str) -> Result<Vec<PartitionState>, Failure> {
        let started = Instant::now();
        let mut last = String::new();
        while started.elapsed() < TIMEOUT {
            match self.look(topic).await {
                Ok(Some(partitions)) if partitions.iter().all(is_well) => return Ok(partitions),
                Ok(None) => "the nodes do not agree".clone_into(&mut last),
                Ok(Some(partitions)) => {
                    let ill = partitions.iter().filter(|partition| !is_well(partition)).count();
                    last = format!("{ill} of {} partitions are not well", partitions.len());
                }
                Err(error) => last = error.to_string(),
            }
            sleep(POLL_INTERVAL).await;
        }
        let what = format!("the cluster is not well after {TIMEOUT:?}");
        Err(Failure::new(Exit::Failed, what, last))
    }

    /// The partitions as every node sees them; has leaders elected where the first replica could lead and does
    /// not. A node that was away knows at first only what was so before: alone it is not believed.
    async fn look(&self, topic: &str) -> Result<Option<Vec<PartitionState>>, ClientError> {
        let mut seen = Vec::new();
        for node in self.nodes.ids() {
            let admin = self.nodes.admin(node).await?;
            let listed = admin.list_partitions(Some(topic), PartitionFilter::Unspecified).await;
            seen.push(listed?);
        }
        let partitions = seen.swap_remove(0);
        if seen.iter().any(|other| *other != partitions) {
            return Ok(None);
        }
        let wanting = partitions.iter().filter(|partition| {
            let first = partition.replicas.first();
            first.is_some_and(|first| partition.in_sync_replicas.contains(first))
                && partition.leader_id != first.copied()
        });
        let wanting: Vec<i32> = wanting.map(|partition| partition.partition).collect();
        if !wanting.is_empty() {
            let named = TopicPartitions { topic: topic.to_owned(), partitions: wanting };
            let admin = self.admin(None).await?;
            admin.elect_leaders(ElectionType::Preferred, vec![named]).await?;
        }
        Ok(Some(partitions))
    }

    /// Waits until all is well, does it, waits until it is over, and brings back who went.
    pub async fn run(
        &mut self,
        kind: Kind,
        topic: &str,
        round: usize,
        load: &Load,
    ) -> Result<Fault, Failure> {
        let (partitions, controller) = self.all_well(topic).await?;
        self.wait_until_flowing(load).await?;
        sleep(Duration::from_millis(rand::random_range(0..LARGEST_DELAY_MS))).await;
        if kind == Kind::Controller {
            return self.lose_controller(topic, &partitions, controller, round).await;
        }
        let fits = |partition: &&PartitionState| match kind.wants_controller() {
            Some(wanted) => (partition.leader_id == Some(controller.0)) == wanted,
            None => true,
        };
        let fitting: Vec<&PartitionState> = partitions.iter().filter(fits).collect();
        let Some(&partition) = fitting.get(round % fitting.len().max(1)) else {
            let cause = "no partition is led by a node that it could happen to";
            return Err(Failure::new(Exit::Failed, "", cause));
        };
        let leader = NodeId(partition.leader_id.unwrap_or_default());
        let at = self.inject(kind, partition, leader).await?;
        let but = (kind != Kind::Actor).then_some(leader);
        let over = self.wait_for_next_leader(topic, partition, load, but).await?;
        sleep(AFTERMATH).await;
        match kind {
            Kind::Actor | Kind::Controller => {}
            Kind::Stop => self.nodes.signal(leader, Signal::Continue)?,
            Kind::Sigterm | Kind::Kill | Kind::KillBoth => self.nodes.restart(leader).await?,
        }
        let number = usize::try_from(partition.partition).unwrap_or_default();
        let leader_epoch = partition.leader_epoch;
        Ok(Fault { partition: number, leader_epoch, at, over, metadata: None })
    }

    /// The partitions and the active controller, at a moment when there is nothing to wait for.
    async fn all_well(&self, topic: &str) -> Result<(Vec<PartitionState>, NodeId), Failure> {
        let started = Instant::now();
        loop {
            let partitions = self.wait_until_well(topic).await?;
            let what = || "cannot find the active controller".to_owned();
            let cluster = self
                .admin(None)
                .await
                .with_context(what)?
                .get_cluster()
                .await
                .with_context(what)?;
            let fenced = cluster.nodes.iter().any(|node| node.fenced || node.shutting_down);
            if cluster.controller_id > 0 && !fenced {
                return Ok((partitions, NodeId(cluster.controller_id)));
            }
            if started.elapsed() > TIMEOUT {
                let cause = "some node is fenced, or nobody is the active controller";
                return Err(Failure::new(Exit::Failed, what(), cause));
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Until the producer has got over the fault before, on every partition.
    async fn wait_until_flowing(&self, load: &Load) -> Result<(), Failure> {
        let well_since = Instant::now();
        while !load.flows_since(well_since) {
            if well_since.elapsed() > TIMEOUT {
                let what = format!("the cluster has been well for {TIMEOUT:?}");
                let cause = "there is a partition on which nothing is acknowledged";
                return Err(Failure::new(Exit::Failed, what, cause));
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Gives the moment before it.
    async fn inject(
        &self,
        kind: Kind,
        partition: &PartitionState,
        leader: NodeId,
    ) -> Result<Instant, Failure> {
        let signal = match kind {
            Kind::Actor => return self.kill_actor(partition, leader).await,
            Kind::Sigterm => Signal::Terminate,
            Kind::Kill | Kind::KillBoth | Kind::Controller => Signal::Kill,
            Kind::Stop => Signal::Stop,
        };
        let at = Instant::now();
        self.nodes.signal(leader, signal)?;
        Ok(at)
    }

    async fn kill_actor(
        &self,
        partition: &PartitionState,
        leader: NodeId,
    ) -> Result<Instant, Failure> {
        let PartitionState { topic, partition, .. } = partition;
        let what = || format!("cannot kill the leader of {topic}:{partition}");
        let admin = self.nodes.admin(leader).await.with_context(what)?;
        let actors = admin.list_actors(&format!("node/{leader}/")).await.with_context(what)?;
        let end = format!("/partition/{topic}/{partition}");
        let found = actors.into_iter().find(|actor| actor.address.ends_with(&end));
        let actor = found
            .ok_or_else(|| Failure::new(Exit::NotFound, what(), "it has no actor on its node"))?;
        let at = Instant::now();
        admin.kill_actor(&actor.address, KillMode::Stop).await.with_context(what)?;
        Ok(at)
    }

    /// Until a record is acknowledged after a new leader has been seen; gives the moment when that was seen.
    async fn wait_for_next_leader(
        &self,
        topic: &str,
        before: &PartitionState,
        load: &Load,
        but: Option<NodeId>,
    ) -> Result<Instant, Failure> {
        let started = Instant::now();
        let number = usize::try_from(before.partition).unwrap_or_default();
        let mut led_since = None;
        let mut admin = None;
        while started.elapsed() < TIMEOUT {
            if led_since.is_some_and(|since| load.last_ack(number) > Some(since)) {
                return Ok(Instant::now());
            }
            if led_since.is_none() {
                // A node that hangs, or does not know yet, is asked again.
                if admin.is_none() {
                    admin = self.admin(but).await.ok();
                }
                if let Some(asked) = &admin {
                    let listed =
                        asked.list_partitions(Some(topic), PartitionFilter::Unspecified).await;
                    match listed {
                        Ok(partitions) => {
                            let now =
                                partitions.iter().find(|now| now.partition == before.partition);
                            let led = now.is_some_and(|now| {
                                now.leader_id.is_some() && now.leader_epoch > before.leader_epoch
                            });
                            led_since = led.then(Instant::now);
                        }
                        Err(_) => admin = None,
                    }
                }
            }
            sleep(POLL_INTERVAL).await;
        }
        let cause = match led_since {
            Some(_) => "it has a leader, and nothing is acknowledged",
            None => "it has no new leader",
        };
        let what = format!("{topic}:{number} did not recover within {TIMEOUT:?}");
        Err(Failure::new(Exit::Failed, what, cause))
    }

    /// Kills the active controller and changes metadata until that succeeds. The partition that is looked at
    /// has no replica there.
    async fn lose_controller(
        &mut self,
        topic: &str,
        partitions: &[PartitionState],
        controller: NodeId,
        round: usize,
    ) -> Result<Fault, Failure> {
        let elsewhere: Vec<&PartitionState> = partitions
            .iter()
            .filter(|partition| !partition.replicas.contains(&controller.0))
            .collect();
        let partition = elsewhere[round % elsewhere.len()];
        let at = Instant::now();
        self.nodes.signal(controller, Signal::Kill)?;
        loop {
            self.changes += 1;
            let request = UpdateTopicRequest {
                name: topic.to_owned(),
                set_configs: configs(&[(
                    "file.delete.delay.ms",
                    &(60_000 + self.changes).to_string(),
                )]),
                unset_configs: Vec::new(),
                internal: false,
                validate_only: false,
            };
            let changed = match self.admin(Some(controller)).await {
                Ok(admin) => admin.update_topic(request).await,
                Err(error) => Err(error),
            };
            match changed {
                Ok(_) => break,
                Err(error) if at.elapsed() > TIMEOUT => {
                    return Err(error).with_context(|| "metadata cannot be changed".to_owned());
                }
                Err(_) => sleep(POLL_INTERVAL).await,
            }
        }
        let metadata = Some(at.elapsed());
        sleep(AFTERMATH).await;
        let over = Instant::now();
        self.nodes.restart(controller).await?;
        let number = usize::try_from(partition.partition).unwrap_or_default();
        Ok(Fault { partition: number, leader_epoch: partition.leader_epoch, at, over, metadata })
    }
}

fn is_well(partition: &PartitionState) -> bool {
    partition.in_sync_replicas.len() == partition.replicas.len()
        && partition.leader_id == partition.replicas.first().copied()
}
