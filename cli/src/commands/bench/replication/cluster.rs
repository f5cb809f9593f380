//! Three nodes, topics on those of them that are wanted, and a follower that comes and goes.

use crate::commands::bench::nodes::{Nodes, Signal};
use crate::commands::bench::temporary::configs;
use crate::commands::bench::workload::FlushPolicy;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::time::sleep;
use troupe_client::{Admin, Client, ClientConfig, ClientError};
use troupe_proto::admin::v1::{
    CreateTopicRequest, DeleteTopicRequest, PartitionFilter, PartitionState, ReplicaAssignment,
};
use troupe_proto::ids::NodeId;

/// Leads every partition that is on fewer than three nodes. It is never stopped.
pub const LEADER: NodeId = NodeId(1);
/// Is stopped and started again.
pub const FOLLOWER: NodeId = NodeId(2);

/// Besides what [`Nodes`] sets: as many shards as a node has by default, and no more in-sync replicas than
/// there are while a follower is away.
pub const SETTINGS: [&str; 3] = ["shards=0", "min.insync.replicas=1", "chaos.enable=false"];

/// Between two looks at who is in sync.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// How long the cluster may take to get there.
pub const TIMEOUT: Duration = Duration::from_secs(120);

pub struct Cluster {
    nodes: Nodes,
    client: Client,
}

/// The nodes of a partition, leaders turning.
pub fn three_from(partition: u32) -> Vec<i32> {
    let first = i32::try_from(partition % 3).unwrap_or(0);
    (0..3).map(|place| (first + place) % 3 + 1).collect()
}

impl Cluster {
    pub async fn start(dir: &Path, extra: &[String]) -> Result<Cluster, Failure> {
        let mut settings: Vec<String> = SETTINGS.map(str::to_owned).into();
        settings.extend(extra.iter().cloned());
        let nodes = Nodes::start(dir, &settings).await?;
        let client = Client::connect(ClientConfig::new(nodes.servers())).await;
        let client = client.with_context(|| "cannot reach the nodes".to_owned())?;
        Ok(Cluster { nodes, client })
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Control calls to one node and no other.
    pub async fn admin(&self, node: NodeId) -> Result<Admin, ClientError> {
        self.nodes.admin(node).await
    }

    /// Where clients reach the follower, now or when it is back.
    pub fn follower_address(&self) -> String {
        let place = usize::try_from(FOLLOWER.0 - 1).expect("nodes are numbered from 1");
        self.nodes.servers().swap_remove(place)
    }

    pub fn pid(&self, node: NodeId) -> Option<u32> {
        self.nodes.pid(node)
    }

    /// A new topic with a partition on each of these lists of nodes, once all of them are in sync.
    pub async fn make_topic(
        &self,
        assignments: &[Vec<i32>],
        flush_policy: FlushPolicy,
    ) -> Result<String, Failure> {
        let name = format!("replication-{:016x}", rand::random::<u64>());
        let assignment = |nodes: &Vec<i32>| ReplicaAssignment { replicas: nodes.clone() };
        let request = CreateTopicRequest {
            name: name.clone(),
            assignments: assignments.iter().map(assignment).collect(),
            configs: configs(&[
                ("flush.policy", flush_policy.name()),
                ("file.delete.delay.ms", "0"),
            ]),
            ..CreateTopicRequest::default()
        };
        let created = self.client.admin().create_topic(request).await;
        created.with_context(|| format!("cannot create topic {name}"))?;
        let is_there = |partitions: &[PartitionState]| {
            partitions.len() == assignments.len() && partitions.iter().all(is_whole)
        };
        self.wait_until(&name, "not every replica is in sync", is_there).await?;
        Ok(name)
    }

    pub async fn delete_topic(&self, name: &str) -> Result<(), Failure> {
        let request =
            DeleteTopicRequest { name: name.to_owned(), validate_only: false, internal: false };
        let deleted = self.client.admin().delete_topic(request).await;
        deleted.map(drop).with_context(|| format!("cannot delete topic {name}"))
    }

    /// Until every replica of the topic is in sync, as the leader's node knows it from the controller.
    pub async fn wait_until_whole(&self, topic: &str) -> Result<(), Failure> {
        let whole = |partitions: &[PartitionState]| partitions.iter().all(is_whole);
        self.wait_until(topic, "not every replica is in sync", whole).await
    }

    /// Ends the follower's process; returns when the leader counts on it no more and it is gone.
    pub async fn stop_follower(&mut self, topic: &str) -> Result<(), Failure> {
        self.nodes.signal(FOLLOWER, Signal::Terminate)?;
        self.nodes.ended(FOLLOWER).await?;
        let alone = |partitions: &[PartitionState]| {
            partitions.iter().all(|partition| partition.in_sync_replicas == [LEADER.0])
        };
        self.wait_until(topic, "the follower still counts", alone).await
    }

    /// Returns when its process says that it serves.
    pub async fn start_follower(&mut self) -> Result<(), Failure> {
        self.nodes.restart(FOLLOWER).await
    }

    async fn wait_until(
        &self,
        topic: &str,
        otherwise: &str,
        reached: impl Fn(&[PartitionState]) -> bool,
    ) -> Result<(), Failure> {
        let started = Instant::now();
        while started.elapsed() < TIMEOUT {
            if let Ok(admin) = self.nodes.admin(LEADER).await
                && let Ok(seen) =
                    admin.list_partitions(Some(topic), PartitionFilter::Unspecified).await
                && !seen.is_empty()
                && reached(&seen)
            {
                return Ok(());
            }
            sleep(POLL_INTERVAL).await;
        }
        let what = format!("{topic} is not ready after {TIMEOUT:?}");
        Err(Failure::new(Exit::Failed, what, otherwise))
    }
}

/// Every replica is in sync and the first one leads.
fn is_whole(partition: &PartitionState) -> bool {
    partition.in_sync_replicas.len() == partition.replicas.len()
        && partition.leader_id == partition.replicas.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_leads_a_third_and_has_everything() {
        let all: Vec<_> = (0..4).map(three_from).collect();
        assert_eq!(all, [[1, 2, 3], [2, 3, 1], [3, 1, 2], [1, 2, 3]]);
    }
}
