//! Which of this node's logs could be cleaned, and why the others have to wait.

use crate::metadata_cache::MetadataCache;
use crate::partition::{LogLook, PartitionHandle};
use futures::future::join_all;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use troupe_machines::cleaning::{Candidate, Rules};
use troupe_machines::cluster::{ClusterImage, LOG_VERSION};
use troupe_proto::ids::PartitionKey;

/// How long one actor is waited for: the next look comes soon.
const PATIENCE: Duration = Duration::from_secs(1);

/// A replica whose topic is compacted.
struct Compacted {
    handle: Arc<PartitionHandle>,
    rules: Rules,
}

/// What was found at a look at all logs.
#[derive(Default)]
pub struct Found {
    /// Every log that was looked at; with why it has to wait, if it has to.
    pub logs: Vec<(Candidate, Option<String>)>,
    /// All replicas whose topics are compacted.
    pub handles: HashMap<PartitionKey, Arc<PartitionHandle>>,
    /// Some segment was closed just now, and can be cleaned as soon as it is on disk.
    pub rolled: bool,
}

impl Found {
    /// Asks the actors of all replicas whose topics are compacted.
    pub async fn look(metadata: &MetadataCache) -> Found {
        let compacted = compacted(metadata);
        let held_up = held_up(&metadata.now());
        let looks = compacted.iter().map(|it| timeout(PATIENCE, it.look()));
        let mut found = Found::default();
        for (it, look) in compacted.iter().zip(join_all(looks).await) {
            // Its actor is away or busy: later, then.
            let Ok(Some(look)) = look else { continue };
            found.rolled |= look.rolled;
            let waits = match it.handle.board.is_damaged() {
                true => Some(DAMAGED.to_owned()),
                false => held_up.clone(),
            };
            let key = it.handle.key();
            let candidate = Candidate { key, standing: look.standing, rules: it.rules };
            found.logs.push((candidate, waits));
        }
        found.handles = compacted.into_iter().map(|it| (it.handle.key(), it.handle)).collect();
        found
    }

    /// Those that need not wait.
    pub fn candidates(&self) -> Vec<Candidate> {
        let free = self.logs.iter().filter(|(_, waits)| waits.is_none());
        free.map(|(candidate, _)| *candidate).collect()
    }
}

fn compacted(metadata: &MetadataCache) -> Vec<Compacted> {
    let topics = metadata.registry.topics();
    let topics = topics.values().filter(|topic| topic.config().cleanup.compact);
    let replicas = topics.flat_map(|topic| {
        let rules = Rules::of(topic.config(), topic.described.is_internal());
        topic.replicas().map(move |handle| Compacted { handle: Arc::clone(handle), rules })
    });
    replicas.collect()
}

impl Compacted {
    async fn look(&self) -> Option<LogLook> {
        match self.handle.look_at_log(self.rules.is_read_whole).await {
            Ok(look) => look,
            Err(error) => {
                tracing::debug!(partition = %self.handle, %error, "its log was not looked at");
                None
            }
        }
    }
}

const DAMAGED: &str =
    "its log is damaged: it is cleaned when it has been filled again from another replica";

/// Whoever cannot read what compaction leaves must not be sent it.
fn held_up(image: &ClusterImage) -> Option<String> {
    let behind: Vec<_> = image.behind_log_version(LOG_VERSION).map(|id| id.to_string()).collect();
    (!behind.is_empty()).then(|| {
        format!(
            "nodes that cannot read compacted logs yet: {}; update them, or remove those that are gone for good \
             (`troupe node remove`)",
            behind.join(", ")
        )
    })
}
