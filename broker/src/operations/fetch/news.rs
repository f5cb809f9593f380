//! What is waited for at the end of a partition.

use crate::metadata_cache::MetadataCache;
use crate::partition::{Isolation, PartitionHandle};
use std::sync::Arc;
use std::time::Duration;
use troupe_machines::cluster::ClusterImage;
use troupe_machines::replica::Reader;
use troupe_proto::ids::Offset;

/// How often a replica is asked that has not heard yet that it does not lead.
const NEWS_INTERVAL: Duration = Duration::from_millis(20);

/// Returns when there is something to read, or somebody else leads, of which a reader at the end of a partition
/// would otherwise not hear.
pub async fn worth_reading(
    metadata: &MetadataCache,
    handle: Arc<PartitionHandle>,
    next: Offset,
    reader: Reader,
    isolation: Isolation,
) {
    let (key, mut images) = (handle.key(), metadata.image.clone());
    let led_here = |image: &ClusterImage| {
        image.partition(&key).is_none_or(|partition| partition.leader == Some(metadata.node_id))
    };
    if reader != Reader::OfLeader && !led_here(&metadata.now()) {
        // Of a follower the replica alone says whether it serves.
        return handle.readable(next, &reader, isolation).await;
    }
    let led_elsewhere = async {
        if images.wait_for(|image| !led_here(image)).await.is_err() {
            // Nobody writes images any more: there is no news.
            std::future::pending::<()>().await;
        }
        // The replica hears of it at about the same time; until then it finds nothing to read.
        tokio::time::sleep(NEWS_INTERVAL).await;
    };
    tokio::select! {
        () = handle.readable(next, &reader, isolation) => {}
        () = led_elsewhere => {}
    }
}
