//! What a replica of this node holds, as its actor says; and how the actor is, also if it says nothing.

use crate::cleaner::{CleaningReport, CleaningTable};
use crate::metadata_cache::MetadataCache;
use crate::operations::page::Page;
use crate::partition::{Condition, Description, How, PartitionHandle};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use troupe_machines::replica::Role;
use troupe_proto::error::Error;
use troupe_proto::ids::{NodeId, Offset, PartitionId};

/// How long one replica is waited for: the others are worth showing, above all when one stands still.
const PATIENCE: Duration = Duration::from_secs(1);

/// Which replicas are asked for.
pub struct ReplicaQuery {
    /// Empty: of all topics.
    pub topic: String,
    pub page_size: i32,
    pub page_token: String,
    /// Only what is known without asking their actors.
    pub brief: bool,
    /// Actors are not waited for any longer.
    pub answer_by: Instant,
}

/// One page of the replicas of a node.
pub struct ListedReplicas {
    pub node_id: NodeId,
    pub replicas: Vec<Replica>,
    pub next_page_token: String,
}

pub struct Replica {
    pub topic: String,
    pub partition: PartitionId,
    pub role: ReplicaRole,
    pub high_watermark: Offset,
    pub condition: Condition,
    pub offline_reason: Option<String>,
    /// What its actor says of its log.
    pub held: Option<Description>,
    /// Why it says nothing, if it was asked.
    pub no_answer_reason: Option<String>,
    /// How the compaction of its log stands, if its topic is compacted.
    pub cleaning: Option<CleaningReport>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaRole {
    Leader,
    Follower,
    Offline,
}

pub(super) async fn list(
    metadata: &MetadataCache,
    cleanings: &CleaningTable,
    query: ReplicaQuery,
) -> Result<ListedReplicas, Error> {
    let mut handles: Vec<Arc<PartitionHandle>> = if query.topic.is_empty() {
        let topics = metadata.registry.topics();
        topics.values().flat_map(|topic| topic.replicas().cloned()).collect()
    } else {
        metadata.registry.topic(&query.topic)?.replicas().cloned().collect()
    };
    handles.sort_by(|a, b| (a.topic(), a.key().partition).cmp(&(b.topic(), b.key().partition)));
    let page = Page::new(query.page_size, query.page_token)?;
    let (handles, next_page_token) = page.cut(handles.into_iter(), |handle| {
        format!("{}\u{0}{:010}", handle.topic(), handle.key().partition.0)
    });
    let mut replicas: Vec<_> = if query.brief {
        handles.iter().map(|handle| brief(handle)).collect()
    } else {
        let each = handles.iter().map(|handle| describe(handle, query.answer_by));
        futures::future::join_all(each).await
    };
    let topics = metadata.registry.topics();
    for (replica, handle) in replicas.iter_mut().zip(&handles) {
        let topic =
            topics.get(replica.topic.as_str()).filter(|topic| topic.id == handle.key().topic_id);
        let compacts = topic.is_some_and(|topic| topic.config().cleanup.compact);
        replica.cleaning = compacts.then(|| cleanings.report(handle.key()));
    }
    Ok(ListedReplicas { node_id: metadata.node_id, replicas, next_page_token })
}

/// What is known of it without asking its actor.
fn brief(handle: &PartitionHandle) -> Replica {
    let condition = handle.condition();
    let offline = condition.how == How::Offline;
    let role = match (offline, handle.board.leads()) {
        (true, _) => ReplicaRole::Offline,
        (false, true) => ReplicaRole::Leader,
        (false, false) => ReplicaRole::Follower,
    };
    let reason = handle.board.cause().filter(|_| offline);
    Replica {
        topic: handle.topic().to_owned(),
        partition: handle.key().partition,
        role,
        high_watermark: handle.board.high_watermark(),
        condition,
        offline_reason: reason.map(|reason| reason.to_string()),
        held: None,
        no_answer_reason: None,
        cleaning: None,
    }
}

/// The same, and what its actor says of its log, if it says so in time.
async fn describe(handle: &PartitionHandle, answer_by: Instant) -> Replica {
    let known = brief(handle);
    if known.role == ReplicaRole::Offline {
        return known;
    }
    let until = answer_by.min(Instant::now() + PATIENCE);
    let held = match timeout_at(until, handle.describe()).await {
        Ok(Ok(held)) => held,
        Ok(Err(error)) => {
            return Replica { no_answer_reason: Some(error.to_string()), ..brief(handle) };
        }
        Err(_) => {
            // Meanwhile it may be known why.
            let known = brief(handle);
            let no_answer_reason =
                format!("the partition's actor did not answer within {} ms", PATIENCE.as_millis());
            return Replica { no_answer_reason: Some(no_answer_reason), ..known };
        }
    };
    let role = match held.role {
        Role::Leader => ReplicaRole::Leader,
        // Nobody leads: it will follow whoever comes.
        Role::Follower | Role::Idle => ReplicaRole::Follower,
        Role::Offline => ReplicaRole::Offline,
    };
    Replica { role, high_watermark: held.high_watermark, held: Some(held), ..known }
}
