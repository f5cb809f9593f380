//! What a replica of this node holds, as its actor says; and how the actor is, also if it says nothing.

use crate::partition::{How, PartitionHandle};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use troupe_machines::replica::Role;
use troupe_proto::admin::v1 as pb;
use troupe_proto::ids::NodeId;

/// How long one replica is waited for: the others are worth showing, above all when one stands still.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is known of it without asking its actor.
pub(super) fn brief(node_id: NodeId, handle: &PartitionHandle) -> pb::Replica {
    let condition = handle.condition();
    let offline = condition.how == How::Offline;
    let role = match (offline, handle.board.leads()) {
        (true, _) => pb::ReplicaRole::Offline,
        (false, true) => pb::ReplicaRole::Leader,
        (false, false) => pb::ReplicaRole::Follower,
    };
    let reason = handle.board.cause().filter(|_| offline);
    pb::Replica {
        node_id: node_id.0,
        topic: handle.topic().to_owned(),
        partition: i32::try_from(handle.key().partition.0).unwrap_or(i32::MAX),
        role: role.into(),
        high_watermark: handle.board.high_watermark().to_wire(),
        offline_reason: reason.map_or_else(String::new, |reason| reason.to_string()),
        condition: match condition.how {
            How::Running => pb::ReplicaCondition::Running,
            How::Restarting => pb::ReplicaCondition::Restarting,
            How::Offline => pb::ReplicaCondition::Offline,
            How::Paused => pb::ReplicaCondition::Paused,
            How::Stalled => pb::ReplicaCondition::Stalled,
            How::Damaged => pb::ReplicaCondition::Damaged,
            How::Waiting => pb::ReplicaCondition::Waiting,
        }
        .into(),
        oldest_append_wait_ms: wire(condition.oldest_wait_ms),
        queued_bytes: wire(condition.queued_bytes),
        ..Default::default()
    }
}

/// The same, and what its actor says of its log, if it says so in time.
pub(super) async fn describe(
    node_id: NodeId,
    handle: &PartitionHandle,
    answer_by: Instant,
) -> pb::Replica {
    let known = brief(node_id, handle);
    if known.role() == pb::ReplicaRole::Offline {
        return known;
    }
    let until = answer_by.min(Instant::now() + PATIENCE);
    let held = match timeout_at(until, handle.describe()).await {
        Ok(Ok(held)) => held,
        Ok(Err(error)) => {
            return pb::Replica { no_answer_reason: error.to_string(), ..brief(node_id, handle) };
        }
        Err(_) => {
            // Meanwhile it may be known why.
            let known = brief(node_id, handle);
            let no_answer_reason =
                format!("the partition's actor did not answer within {} ms", PATIENCE.as_millis());
            return pb::Replica { no_answer_reason, ..known };
        }
    };
    let role = match held.role {
        Role::Leader => pb::ReplicaRole::Leader,
        // Nobody leads: it will follow whoever comes.
        Role::Follower | Role::Idle => pb::ReplicaRole::Follower,
        Role::Offline => pb::ReplicaRole::Offline,
    };
    pb::Replica {
        role: role.into(),
        leader_epoch: held.leader_epoch.0,
        log_start_offset: held.log_start.to_wire(),
        high_watermark: held.high_watermark.to_wire(),
        flushed_end_offset: held.flushed_end.to_wire(),
        log_end_offset: held.log_end.to_wire(),
        size_bytes: wire(held.size_bytes),
        segment_count: i32::try_from(held.segment_count).unwrap_or(i32::MAX),
        ..known
    }
}

fn wire(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
