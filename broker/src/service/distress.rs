//! What is wrong, as far as this node knows: with the cluster as its metadata says, and with itself.

use crate::census::{self, Census, Room};
use crate::context::Context;
use crate::partition::PartitionHandle;
use pb::HealthReasonKind as Kind;
use pb::HealthVerdict as Verdict;
use std::sync::Arc;
use troupe_machines::cluster::{Ailment, ClusterImage, Finding};
use troupe_proto::admin::v1 as pb;
use troupe_proto::ids::NodeId;

/// Replicas that are named one by one.
const EXAMPLES: usize = 5;

pub(super) async fn health(context: &Context) -> pb::GetHealthResponse {
    let silent = context.controller.silent_voters().await;
    let image = context.metadata.now();
    let mut reasons: Vec<_> = of_quorum(context, &image).into_iter().collect();
    reasons.extend(of_voters(context, &silent));
    reasons.extend(image.findings().into_iter().map(of_cluster));
    reasons.extend(of_node(context, &image));
    let worst = reasons.iter().map(|reason| reason.severity).max();
    pb::GetHealthResponse {
        verdict: worst.unwrap_or(Verdict::Healthy.into()),
        reasons,
        as_of: Some(context.controller.as_of(&image).into()),
    }
}

/// Whether what follows is of today.
fn of_quorum(context: &Context, image: &ClusterImage) -> Option<pb::HealthReason> {
    let (node, as_of) = (context.node_id, context.controller.as_of(image));
    let reason = |kind: Kind, severity: Verdict, message| {
        Some(pb::HealthReason {
            kind: kind.into(),
            severity: severity.into(),
            message,
            node_ids: vec![node.0],
            count: 1,
            examples: Vec::new(),
        })
    };
    if !as_of.controller_active {
        let since = match as_of.controller_silence_ms {
            None => "since it started".to_owned(),
            Some(silence) => format!("for {}", seconds(signed(silence))),
        };
        let message = format!("node {node} has heard no active controller {since}");
        return reason(Kind::NoActiveController, Verdict::Unhealthy, message);
    }
    let age =
        crate::clock::now().as_timestamp().saturating_sub(signed(as_of.time.unwrap_or_default().0));
    if age > i64::try_from(context.config.session_timeout.0).unwrap_or(i64::MAX) {
        let message = format!("what node {node} knows of the cluster is {} old", seconds(age));
        return reason(Kind::OldMetadata, Verdict::Degraded, message);
    }
    None
}

/// A controller that is no broker has nobody else who misses it, until one more is gone.
fn of_voters(context: &Context, silent: &[NodeId]) -> Option<pb::HealthReason> {
    let (all, node) = (context.controller.voters().len(), context.node_id);
    (!silent.is_empty()).then(|| pb::HealthReason {
        kind: Kind::SilentControllers.into(),
        severity: Verdict::Degraded.into(),
        message: format!("{} of {all} controllers do not answer node {node}", silent.len()),
        node_ids: silent.iter().map(|node| node.0).collect(),
        count: i32::try_from(silent.len()).unwrap_or(i32::MAX),
        examples: Vec::new(),
    })
}

fn of_cluster(finding: Finding) -> pb::HealthReason {
    let (kind, severity, what) = match finding.ailment {
        Ailment::OfflinePartitions => {
            (Kind::OfflinePartitions, Verdict::Unhealthy, "partitions have no leader")
        }
        Ailment::UnderMinIsr => (
            Kind::UnderMinIsr,
            Verdict::Unhealthy,
            "partitions have fewer replicas in sync than min.insync.replicas: acks=all is refused",
        ),
        Ailment::UnderReplicated => (
            Kind::UnderReplicated,
            Verdict::Degraded,
            "partitions have a replica that is not in sync",
        ),
        Ailment::FencedNodes => {
            (Kind::FencedNodes, Verdict::Degraded, "nodes are not heard by the controller (fenced)")
        }
        Ailment::DrainingNodes => {
            (Kind::DrainingNodes, Verdict::Degraded, "nodes are drained, or stopping")
        }
    };
    pb::HealthReason {
        kind: kind.into(),
        severity: severity.into(),
        message: format!("{} {what}", finding.count),
        node_ids: finding.nodes.iter().map(|node| node.0).collect(),
        count: i32::try_from(finding.count).unwrap_or(i32::MAX),
        examples: finding.examples,
    }
}

/// What this node alone knows.
fn of_node(context: &Context, image: &ClusterImage) -> Vec<pb::HealthReason> {
    let node = context.node_id;
    let census = Census::take(context);
    let of = |kind: Kind, severity: Verdict, ill: &[Arc<PartitionHandle>], what: &str| {
        let name = |handle: &Arc<PartitionHandle>| {
            format!("{}:{}", handle.topic(), handle.key().partition)
        };
        (!ill.is_empty()).then(|| pb::HealthReason {
            kind: kind.into(),
            severity: severity.into(),
            message: format!("{} replicas of node {node} {what}", ill.len()),
            node_ids: vec![node.0],
            count: i32::try_from(ill.len()).unwrap_or(i32::MAX),
            examples: ill.iter().take(EXAMPLES).map(name).collect(),
        })
    };
    let longest = seconds(i64::try_from(census.oldest_wait_ms).unwrap_or(i64::MAX));
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
    let lacks = "lack records that they had acknowledged";
    let replicas = [
        of(Kind::OfflineReplicas, leads(&census.offline), &census.offline, "are offline"),
        of(Kind::StalledReplicas, leads(&census.still), &census.still, "handle no message"),
        of(Kind::DamagedReplicas, Verdict::Degraded, &census.damaged, lacks),
        of(Kind::WaitingAppends, Verdict::Degraded, &census.waiting, &waits),
    ];
    let full = match census::room(context) {
        Room::Enough => None,
        Room::Low(left) => {
            Some((Verdict::Degraded, format!("its disk has {} MiB left", left >> 20)))
        }
        Room::None => {
            let why = "its disk is full: appends are refused, or were in the last minute";
            Some((Verdict::Unhealthy, why.to_owned()))
        }
    };
    let full = full.map(|(severity, why)| pb::HealthReason {
        kind: Kind::DiskFull.into(),
        severity: severity.into(),
        message: format!("node {node}: {why}"),
        node_ids: vec![node.0],
        count: 1,
        examples: Vec::new(),
    });
    replicas.into_iter().flatten().chain(full).collect()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn seconds(millis: i64) -> String {
    format!("{}.{} s", millis / 1000, millis % 1000 / 100)
}
