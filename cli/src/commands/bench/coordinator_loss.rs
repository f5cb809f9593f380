//! The longest time without an acknowledged commit, while the coordinator is killed. For whoever measures groups.

use super::nodes::{Nodes, Signal};
use super::temporary::random_name;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::sleep;
use troupe_client::{Client, ClientError, ConsumerConfig, OffsetAndMetadata, TopicPartition};
use troupe_proto::admin::v1::PartitionFilter;
use troupe_proto::chaos::v1alpha1::KillMode;
use troupe_proto::ids::{NodeId, Offset};
use troupe_proto::log::v1::FindCoordinatorResponse;

const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// Between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const TIMEOUT: Duration = Duration::from_secs(60);
/// Commits go on for this long behind a fault, so that what it does later is seen too.
const AFTERMATH: Duration = Duration::from_millis(500);

/// What happens to the coordinator.
pub enum Fault<'a> {
    /// Its actor is killed; the node lives on.
    Actor,
    /// kill -9 of its node, which comes back afterwards.
    Node(&'a mut Nodes),
}

/// Commits of one group, one after the other.
struct Commits {
    /// When each was acknowledged.
    acknowledged: Arc<Mutex<Vec<Instant>>>,
    over: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Result<(), ClientError>>,
}

impl Commits {
    async fn start(client: &Client, group: &str, topic: &str) -> Result<Commits, ClientError> {
        // Nobody's member: who has the group's name may commit as long as it has no members.
        let mut consumer = client.consumer(ConsumerConfig {
            enable_auto_commit: false,
            default_api_timeout: TIMEOUT,
            ..ConsumerConfig::new(group)
        })?;
        let at = TopicPartition::new(topic, 0);
        consumer.assign([at.clone()])?;
        let nothing = || OffsetAndMetadata::new(Offset::ZERO);
        consumer.commit_sync_offsets([(at.clone(), nothing())]).await?;
        let acknowledged = Arc::new(Mutex::new(vec![Instant::now()]));
        let (told, over) = (acknowledged.clone(), Arc::new(AtomicBool::new(false)));
        let ends = over.clone();
        let task = tokio::spawn(async move {
            while !ends.load(Ordering::Relaxed) {
                consumer.commit_sync_offsets([(at.clone(), nothing())]).await?;
                told.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
            }
            Ok(())
        });
        Ok(Commits { acknowledged, over, task })
    }

    fn last(&self) -> Option<Instant> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).last().copied()
    }

    /// Until one is acknowledged after this moment.
    async fn acknowledged_after(&self, moment: Instant) -> Result<(), Failure> {
        while self.last() < Some(moment) {
            if self.task.is_finished() || moment.elapsed() > TIMEOUT {
                let cause = "nothing is committed any more";
                return Err(Failure::new(Exit::Failed, "the coordinator did not recover", cause));
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// The longest time without an acknowledgement that ended after this moment. No commit is under way then that would
    /// come between the group and its deletion.
    async fn finish(self, since: Instant) -> Result<Duration, Failure> {
        self.over.store(true, Ordering::Relaxed);
        let failed = |cause| Failure::new(Exit::Failed, "cannot commit offsets", cause);
        match self.task.await {
            Ok(committed) => committed.with_context(|| "cannot commit offsets".to_owned())?,
            Err(panic) => return Err(failed(panic)),
        }
        let acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let pauses = acknowledged.windows(2).filter(|pair| pair[1] > since);
        Ok(pauses.map(|pair| pair[1] - pair[0].max(since)).max().unwrap_or_default())
    }
}

/// Kills the coordinator of a new group; gives how long nothing was committed.
pub async fn kill_coordinator(
    client: &Client,
    topic: &str,
    fault: Fault<'_>,
) -> Result<Duration, Failure> {
    let group = random_name();
    let what = || "cannot kill a coordinator".to_owned();
    let commits = Commits::start(client, &group, topic).await.with_context(what)?;
    let coordinator = client.admin().find_coordinator(&group).await.with_context(what)?;
    let at = Instant::now();
    match fault {
        Fault::Actor => {
            kill_actor(client, &coordinator).await.with_context(what)?;
            commits.acknowledged_after(Instant::now()).await?;
            sleep(AFTERMATH).await;
        }
        Fault::Node(nodes) => {
            let node = NodeId(coordinator.node_id);
            nodes.signal(node, Signal::Kill)?;
            nodes.ended(node).await?;
            // Nobody of it is left to acknowledge anything.
            commits.acknowledged_after(Instant::now()).await?;
            sleep(AFTERMATH).await;
            nodes.restart(node).await?;
            wait_until_well(client).await?;
        }
    }
    let pause = commits.finish(at).await?;
    client.admin().delete_group(&group).await.with_context(what)?;
    Ok(pause)
}

async fn kill_actor(
    client: &Client,
    coordinator: &FindCoordinatorResponse,
) -> Result<(), ClientError> {
    let FindCoordinatorResponse { partition, node_id, .. } = coordinator;
    let admin = client.admin_of(NodeId(*node_id)).await?;
    let actors = admin.list_actors(&format!("node/{node_id}/")).await?;
    let end = format!("/group-coordinator/{OFFSETS_TOPIC}/{partition}");
    let address = actors.into_iter().map(|actor| actor.address).find(|at| at.ends_with(&end));
    // Without one, what it would be called is refused as UNKNOWN_ACTOR.
    let address = address.unwrap_or(end);
    admin.kill_actor(&address, KillMode::Stop).await.map(drop)
}

/// Until every replica is in sync again, so that the next node may go.
pub async fn wait_until_well(client: &Client) -> Result<(), Failure> {
    let started = Instant::now();
    loop {
        let listed = client.admin().list_partitions(None, PartitionFilter::UnderReplicated).await;
        if listed.is_ok_and(|partitions| partitions.is_empty()) {
            return Ok(());
        }
        if started.elapsed() > TIMEOUT {
            let cause = "some replicas are not in sync";
            return Err(Failure::new(Exit::Failed, "the node did not come back", cause));
        }
        sleep(POLL_INTERVAL).await;
    }
}
