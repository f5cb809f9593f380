//! What is wrong, as far as this node knows: with the cluster as its metadata says, and with itself.

use super::census::Census;
use super::disk::{Disk, Room};
use crate::clock::now;
use crate::controller_channel::{AsOf, ControllerChannel};
use crate::metadata_cache::MetadataCache;
use crate::partition::PartitionHandle;
use std::sync::Arc;
use troupe_machines::cluster::{ClusterImage, Finding, Problem};
use troupe_proto::ids::NodeId;

/// Replicas that are named one by one.
const EXAMPLES: usize = 5;

pub struct Health {
    metadata: Arc<MetadataCache>,
    controller: Arc<ControllerChannel>,
    disk: Arc<Disk>,
    /// Metadata that is older is worth telling.
    session_timeout_ms: u64,
}

pub struct HealthReport {
    /// The worst of the reasons.
    pub verdict: Verdict,
    /// None: healthy.
    pub reasons: Vec<Reason>,
    pub as_of: AsOf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Healthy,
    /// All is served, with less in reserve than there should be.
    Degraded,
    /// Something that clients ask for is refused, or waits, now.
    Unhealthy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasonKind {
    NoActiveController,
    OldMetadata,
    SilentControllers,
    OfflinePartitions,
    UnderMinIsr,
    UnderReplicated,
    FencedNodes,
    DrainingNodes,
    OfflineReplicas,
    StalledReplicas,
    DamagedReplicas,
    WaitingAppends,
    DiskFull,
    OfflineLogDirectories,
}

/// Something that is not as it should be.
pub struct Reason {
    pub kind: ReasonKind,
    pub severity: Verdict,
    /// For people.
    pub message: String,
    /// The nodes that it is about; of a reason that concerns the cluster as a whole, none.
    pub nodes: Vec<NodeId>,
    /// How many partitions, replicas or nodes.
    pub count: usize,
    /// The first of them, as `topic:partition`.
    pub examples: Vec<String>,
}

impl Health {
    pub fn new(
        metadata: Arc<MetadataCache>,
        controller: Arc<ControllerChannel>,
        disk: Arc<Disk>,
        session_timeout_ms: u64,
    ) -> Self {
        Self { metadata, controller, disk, session_timeout_ms }
    }

    pub async fn report(&self) -> HealthReport {
        let silent = self.controller.silent_voters().await;
        let image = self.metadata.now();
        let mut reasons: Vec<_> = self.of_quorum(&image).into_iter().collect();
        reasons.extend(self.of_voters(silent));
        reasons.extend(image.findings().into_iter().map(of_cluster));
        reasons.extend(self.of_node(&image));
        let worst = reasons.iter().map(|reason| reason.severity).max();
        HealthReport {
            verdict: worst.unwrap_or(Verdict::Healthy),
            reasons,
            as_of: self.controller.as_of(&image),
        }
    }

    /// Whether what follows is of today.
    fn of_quorum(&self, image: &ClusterImage) -> Option<Reason> {
        let (node, as_of) = (self.metadata.node_id, self.controller.as_of(image));
        let reason = |kind, severity, message| {
            let nodes = vec![node];
            Some(Reason { kind, severity, message, nodes, count: 1, examples: Vec::new() })
        };
        if !as_of.controller_active {
            let since = match as_of.controller_silence_ms {
                None => "since it started".to_owned(),
                Some(silence) => format!("for {}", seconds(signed(silence))),
            };
            let message = format!("node {node} has heard no active controller {since}");
            return reason(ReasonKind::NoActiveController, Verdict::Unhealthy, message);
        }
        let age = now().as_timestamp().saturating_sub(signed(as_of.time.unwrap_or_default().0));
        if age > signed(self.session_timeout_ms) {
            let message = format!("what node {node} knows of the cluster is {} old", seconds(age));
            return reason(ReasonKind::OldMetadata, Verdict::Degraded, message);
        }
        None
    }

    /// A controller that is no broker has nobody else who misses it, until one more is gone.
    fn of_voters(&self, silent: Vec<NodeId>) -> Option<Reason> {
        let (all, node) = (self.controller.voters().len(), self.metadata.node_id);
        (!silent.is_empty()).then(|| Reason {
            kind: ReasonKind::SilentControllers,
            severity: Verdict::Degraded,
            message: format!("{} of {all} controllers do not answer node {node}", silent.len()),
            count: silent.len(),
            nodes: silent,
            examples: Vec::new(),
        })
    }

    /// What this node alone knows.
    fn of_node(&self, image: &ClusterImage) -> Vec<Reason> {
        let node = self.metadata.node_id;
        let census = Census::take(&self.metadata.registry);
        let longest = seconds(signed(census.oldest_wait_ms));
        let waits = format!("have appends that wait, the oldest for {longest}");
        // What the controller still sends clients to.
        let leads = |handles: &[Arc<PartitionHandle>]| {
            let leader = |it: &PartitionHandle| {
                image.partition(&it.key()).and_then(|partition| partition.leader)
            };
            match handles.iter().any(|it| leader(it) == Some(node)) {
                true => Verdict::Unhealthy,
                false => Verdict::Degraded,
            }
        };
        let of = |kind, severity, ill: &[Arc<PartitionHandle>], what: &str| {
            of_replicas(node, (kind, severity), ill, what)
        };
        let lacks = "lack records that they had acknowledged";
        let replicas = [
            of(ReasonKind::OfflineReplicas, leads(&census.offline), &census.offline, "are offline"),
            of(
                ReasonKind::StalledReplicas,
                leads(&census.still),
                &census.still,
                "handle no message",
            ),
            of(ReasonKind::DamagedReplicas, Verdict::Degraded, &census.damaged, lacks),
            of(ReasonKind::WaitingAppends, Verdict::Degraded, &census.waiting, &waits),
        ];
        let offline = self.of_directories(leads(&census.offline));
        replicas.into_iter().flatten().chain(self.of_disk()).chain(offline).collect()
    }

    fn of_directories(&self, severity: Verdict) -> Option<Reason> {
        let (node, offline) = (self.metadata.node_id, self.disk.offline());
        (!offline.is_empty()).then(|| Reason {
            kind: ReasonKind::OfflineLogDirectories,
            severity,
            message: format!(
                "log directories of node {node} are offline: {}; mount them, repair or replace their disks, and start \
                 the node again",
                offline.join(", ")
            ),
            nodes: vec![node],
            count: offline.len(),
            examples: Vec::new(),
        })
    }

    fn of_disk(&self) -> Option<Reason> {
        let node = self.metadata.node_id;
        let (severity, why) = match self.disk.room() {
            Room::Enough => return None,
            Room::Low(left) => (Verdict::Degraded, format!("its disk has {} MiB left", left >> 20)),
            Room::None => {
                let why = "its disk is full: appends are refused, or were in the last minute";
                (Verdict::Unhealthy, why.to_owned())
            }
        };
        Some(Reason {
            kind: ReasonKind::DiskFull,
            severity,
            message: format!("node {node}: {why}"),
            nodes: vec![node],
            count: 1,
            examples: Vec::new(),
        })
    }
}

fn of_replicas(
    node: NodeId,
    (kind, severity): (ReasonKind, Verdict),
    ill: &[Arc<PartitionHandle>],
    what: &str,
) -> Option<Reason> {
    let name =
        |handle: &Arc<PartitionHandle>| format!("{}:{}", handle.topic(), handle.key().partition);
    (!ill.is_empty()).then(|| Reason {
        kind,
        severity,
        message: format!("{} replicas of node {node} {what}", ill.len()),
        nodes: vec![node],
        count: ill.len(),
        examples: ill.iter().take(EXAMPLES).map(name).collect(),
    })
}

fn of_cluster(finding: Finding) -> Reason {
    let (kind, severity, what) = match finding.problem {
        Problem::OfflinePartitions => {
            (ReasonKind::OfflinePartitions, Verdict::Unhealthy, "partitions have no leader")
        }
        Problem::UnderMinIsr => (
            ReasonKind::UnderMinIsr,
            Verdict::Unhealthy,
            "partitions have fewer replicas in sync than min.insync.replicas: acks=all is refused",
        ),
        Problem::UnderReplicated => (
            ReasonKind::UnderReplicated,
            Verdict::Degraded,
            "partitions have a replica that is not in sync",
        ),
        Problem::FencedNodes => (
            ReasonKind::FencedNodes,
            Verdict::Degraded,
            "nodes are not heard by the controller (fenced)",
        ),
        Problem::DrainingNodes => {
            (ReasonKind::DrainingNodes, Verdict::Degraded, "nodes are drained, or stopping")
        }
    };
    Reason {
        kind,
        severity,
        message: format!("{} {what}", finding.count),
        nodes: finding.nodes,
        count: finding.count,
        examples: finding.examples,
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn seconds(millis: i64) -> String {
    format!("{}.{} s", millis / 1000, millis % 1000 / 100)
}
