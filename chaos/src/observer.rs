//! The cluster's picture: each node is asked again and again, by itself, and the freshest answer counts.
//!
//! A node that stands still holds up nobody, and one that is cut off tells old news, which has a lower metadata offset.

use crate::measure::{ClusterState, Event, PartitionState, Place};
use crate::recorder::Recorder;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use troupe_client::{Admin, Client, ClientError};
use troupe_proto::admin::v1::PartitionState as Told;
use troupe_proto::admin::v1::{GetClusterResponse, PartitionFilter};
use troupe_proto::ids::NodeId;

/// Between two questions to a node.
const INTERVAL: Duration = Duration::from_millis(50);
/// A node that does not answer within this is unreachable.
const PATIENCE: Duration = Duration::from_secs(1);
const COORDINATOR_INTERVAL: Duration = Duration::from_secs(1);

/// What is looked at.
#[derive(Clone)]
pub struct Subject {
    pub client: Client,
    pub topics: Vec<String>,
    pub group: Option<String>,
}

struct Answer {
    asked_at: Duration,
    cluster: GetClusterResponse,
    partitions: Vec<Told>,
}

#[derive(Default)]
struct Answers {
    /// By node; None: it has not answered yet.
    last: BTreeMap<i32, Option<Answer>>,
    coordinator: Option<i32>,
}

/// Looks for ever.
pub async fn observe(subject: Subject, recorder: Arc<Recorder>) {
    let answers = Arc::new(Mutex::new(Answers::default()));
    let mut tasks = JoinSet::new();
    if let Some(group) = subject.group.clone() {
        let (client, answers) = (subject.client.clone(), answers.clone());
        tasks.spawn(async move {
            loop {
                let found = timeout(PATIENCE, client.admin().find_coordinator(&group)).await;
                answers.lock().coordinator = found.ok().and_then(Result::ok).map(|it| it.node_id);
                sleep(COORDINATOR_INTERVAL).await;
            }
        });
    }
    loop {
        let known = timeout(PATIENCE, subject.client.describe_cluster()).await;
        let known = known.ok().and_then(Result::ok).map(|cluster| cluster.nodes);
        for node in known.into_iter().flatten().map(|node| node.node_id) {
            if answers.lock().last.contains_key(&node) {
                continue;
            }
            answers.lock().last.insert(node, None);
            let (subject, answers, recorder) = (subject.clone(), answers.clone(), recorder.clone());
            tasks.spawn(async move { ask_again(&subject, node, &answers, &recorder).await });
        }
        sleep(PATIENCE).await;
    }
}

async fn ask_again(subject: &Subject, node: i32, answers: &Mutex<Answers>, recorder: &Recorder) {
    let mut admin = None;
    loop {
        let asked_at = recorder.now();
        match timeout(PATIENCE, ask(subject, node, &mut admin)).await {
            Ok(Ok((cluster, partitions))) => {
                let mut answers = answers.lock();
                answers.last.insert(node, Some(Answer { asked_at, cluster, partitions }));
            }
            Ok(Err(_)) | Err(_) => admin = None,
        }
        if let Some((asked_at, state)) = freshest(&answers.lock(), recorder.now()) {
            recorder.note(Event::Seen { asked_at, state });
        }
        sleep(INTERVAL).await;
    }
}

async fn ask(
    subject: &Subject,
    node: i32,
    admin: &mut Option<Admin>,
) -> Result<(GetClusterResponse, Vec<Told>), ClientError> {
    let admin = match admin {
        Some(admin) => admin,
        None => admin.insert(subject.client.admin_of(NodeId(node)).await?),
    };
    // In this order: what is said of the cluster is not newer than what is said of its partitions.
    let cluster = admin.get_cluster().await?;
    let mut partitions = Vec::new();
    for topic in &subject.topics {
        partitions.extend(admin.list_partitions(Some(topic), PartitionFilter::Unspecified).await?);
    }
    Ok((cluster, partitions))
}

fn freshest(answers: &Answers, now: Duration) -> Option<(Duration, ClusterState)> {
    let old = |answer: &Answer| now.saturating_sub(answer.asked_at) > 2 * PATIENCE;
    let silent = answers.last.values().filter(|last| last.as_ref().is_none_or(old)).count();
    let told = answers.last.values().flatten().filter(|answer| !old(answer));
    let freshest = told.max_by_key(|answer| (answer.cluster.metadata_offset, answer.asked_at))?;
    let Answer { asked_at, cluster, partitions } = freshest;
    let count = |number: i32| u64::try_from(number).unwrap_or_default();
    let fenced = cluster.nodes.iter().filter(|node| node.fenced || node.shutting_down).count();
    let partition = |told: &Told| {
        let place = Place::new(told.topic.as_str(), u32::try_from(told.partition).ok()?);
        let state = PartitionState {
            leader: told.leader_id,
            epoch: told.leader_epoch,
            replicas: told.replicas.len() as u32,
            in_sync: told.in_sync_replicas.len() as u32,
        };
        Some((place, state))
    };
    let state = ClusterState {
        controller: (cluster.controller_id >= 0).then_some(cluster.controller_id),
        coordinator: answers.coordinator,
        offline: count(cluster.offline_partition_count),
        under_replicated: count(cluster.under_replicated_partition_count),
        fenced: fenced as u64,
        unreachable: silent as u64,
        partitions: partitions.iter().filter_map(partition).collect(),
    };
    Some((*asked_at, state))
}
