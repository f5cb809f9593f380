//! `__consumer_offsets`: held back from being cleaned, cleaned, and how large it is.

use crate::commands::bench::nodes::Nodes;
use crate::commands::bench::temporary::configs;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use std::time::{Duration, Instant};
use tokio::time::sleep;
use troupe_client::{Client, ClientError};
use troupe_proto::admin::v1::{CleaningState, Replica, ReplicaRole, UpdateTopicRequest};

const OFFSETS_TOPIC: &str = "__consumer_offsets";
const RATIO: &str = "min.cleanable.dirty.ratio";
/// Nothing is dirtier than this.
const NEVER: &str = "1";
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Nodes look at their logs every second.
const STABLE: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(1800);

/// It is not cleaned from now on.
pub async fn hold(client: &Client) -> Result<(), Failure> {
    let set_configs = configs(&[(RATIO, NEVER)]);
    update(client, UpdateTopicRequest { set_configs, ..UpdateTopicRequest::default() }).await
}

/// Lets it be cleaned as any other; returns when it is on all nodes.
pub async fn clean(client: &Client, nodes: &Nodes) -> Result<(), Failure> {
    let unset_configs = vec![RATIO.to_owned()];
    update(client, UpdateTopicRequest { unset_configs, ..UpdateTopicRequest::default() }).await?;
    let what = || format!("{OFFSETS_TOPIC} is not cleaned");
    let (started, mut calm) = (Instant::now(), Instant::now());
    while calm.elapsed() < STABLE {
        for replica in replicas(nodes).await.with_context(what)? {
            let cleaning = replica.cleaning.unwrap_or_default();
            match cleaning.state() {
                CleaningState::Idle if cleaning.dirty_ratio <= 0.5 => {}
                CleaningState::Uncleanable => {
                    return Err(Failure::new(Exit::Failed, what(), cleaning.reason));
                }
                _ => calm = Instant::now(),
            }
        }
        if started.elapsed() > TIMEOUT {
            let cause = format!("it takes more than {} s", TIMEOUT.as_secs());
            return Err(Failure::new(Exit::Failed, what(), cause));
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

async fn update(client: &Client, request: UpdateTopicRequest) -> Result<(), Failure> {
    let request = UpdateTopicRequest { name: OFFSETS_TOPIC.to_owned(), internal: true, ..request };
    let updated = client.admin().update_topic(request).await;
    updated.map(drop).with_context(|| format!("cannot change a setting of {OFFSETS_TOPIC}"))
}

/// Bytes on the leaders' disks: of all partitions, and of the largest one.
pub async fn sizes(client: &Client, nodes: &Nodes) -> Result<(u64, u64), Failure> {
    // They may just have moved.
    super::super::coordinator_loss::wait_until_well(client).await?;
    let what = || format!("cannot tell how large {OFFSETS_TOPIC} is");
    let replicas = replicas(nodes).await.with_context(what)?;
    let leaders = replicas.iter().filter(|replica| replica.role() == ReplicaRole::Leader);
    let sizes: Vec<u64> = leaders.map(|leader| leader.size_bytes.unsigned_abs()).collect();
    Ok((sizes.iter().sum(), sizes.iter().copied().max().unwrap_or(0)))
}

async fn replicas(nodes: &Nodes) -> Result<Vec<Replica>, ClientError> {
    let mut all = Vec::new();
    for node in nodes.ids() {
        let admin = nodes.admin(node).await?;
        all.extend(admin.list_replicas(Some(OFFSETS_TOPIC)).await?);
    }
    Ok(all)
}
