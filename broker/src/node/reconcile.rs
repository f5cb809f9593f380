//! Keeps the partitions of this node in step with the cluster's image: starts what is assigned here,
//! tells what changed, retires and deletes what is gone.

use crate::abort::AbortOnPanic;
use crate::context::Context;
use crate::partition::{
    Board, PartitionHandle, PartitionSetup, RetirePartition, StartPartition, UpdatePartition,
};
use crate::registry::{TopicEntry, Topics};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use troupe_log::DataDirectory;
use troupe_machines::cluster::{ClusterImage, Partition, Topic};
use troupe_machines::replica::LeaderState;
use troupe_proto::ids::PartitionId;

pub(super) struct Reconciler {
    context: Arc<Context>,
    directory: Arc<DataDirectory>,
}

impl Reconciler {
    pub fn new(context: Arc<Context>, directory: Arc<DataDirectory>) -> Self {
        Self { context, directory }
    }

    /// Follows the image until the node stops.
    pub async fn run(self, mut images: watch::Receiver<Arc<ClusterImage>>) {
        let _guard = AbortOnPanic("the reconciler");
        loop {
            tokio::select! {
                changed = images.changed() => if changed.is_err() { return },
                () = self.context.shutdown.cancelled() => return,
            }
            let image = images.borrow_and_update().clone();
            self.apply(&image).await;
        }
    }

    /// One image. What is deleted goes before anything is started: a topic made again under the same name
    /// uses the same directories.
    pub async fn apply(&self, image: &ClusterImage) {
        let registry = &self.context.registry;
        let mut topics = Topics::clone(&registry.topics());
        let gone: Vec<Arc<TopicEntry>> = topics
            .values()
            .filter(|entry| image.topic_by_id(entry.id).is_none())
            .cloned()
            .collect();
        if !gone.is_empty() {
            for entry in &gone {
                topics.remove(&entry.name);
            }
            registry.hide(topics.clone());
            for entry in gone {
                self.delete(&entry).await;
            }
        }
        for topic in image.topics() {
            match topics.get(&topic.name) {
                Some(entry) if Arc::ptr_eq(&entry.described, topic) => {}
                known => {
                    let entry = self.entry(topic, known.map(Arc::as_ref));
                    topics.insert(Arc::clone(&topic.name), Arc::new(entry));
                }
            }
        }
        let partitions = topics.values().map(|topic| topic.partitions.len()).sum::<usize>();
        self.context.metrics.topics.set(topics.len() as f64);
        self.context.metrics.partitions.set(partitions as f64);
        registry.replace(topics, image.next_offset());
    }

    /// A topic's entry; its partitions are started or told what changed.
    fn entry(&self, topic: &Arc<Topic>, known: Option<&TopicEntry>) -> TopicEntry {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        let metrics = Arc::new(self.context.metrics.topic(&topic.name));
        for (partition, number) in topic.partitions.iter().zip(0..) {
            let key = topic.key(PartitionId(number));
            let handle = match known
                .and_then(|entry| entry.partitions.get(number as usize))
                .and_then(Option::as_ref)
            {
                Some(handle) => {
                    self.tell(handle, topic, partition);
                    Arc::clone(handle)
                }
                None => {
                    let board = Board::new(key, Arc::clone(&topic.name), Arc::clone(&metrics));
                    self.start(board, topic, partition)
                }
            };
            partitions.push(Some(handle));
        }
        TopicEntry {
            id: topic.id,
            name: Arc::clone(&topic.name),
            partitions,
            described: Arc::clone(topic),
        }
    }

    fn start(&self, board: Board, topic: &Topic, partition: &Partition) -> Arc<PartitionHandle> {
        let key = board.key;
        // Spreads the partitions of one topic, and the first partitions of many topics.
        let spread = key.topic_id.0.as_u128() as usize;
        let shard = spread.wrapping_add(key.partition.0 as usize) % self.context.supervisors.len();
        let handle = Arc::new(PartitionHandle::new(board, shard));
        let setup = PartitionSetup {
            dir: self.directory.partition_dir(&topic.name, key.partition),
            config: Arc::clone(&topic.config),
            leader_state: leader_state(partition),
        };
        // One message for each partition, from the loop that alone starts them.
        self.context.supervisors[shard]
            .do_send(StartPartition { handle: Arc::clone(&handle), setup });
        handle
    }

    fn tell(&self, handle: &PartitionHandle, topic: &Topic, partition: &Partition) {
        self.context.supervisors[handle.shard].do_send(UpdatePartition {
            key: handle.key(),
            config: Arc::clone(&topic.config),
            leader_state: leader_state(partition),
        });
    }

    async fn delete(&self, entry: &TopicEntry) {
        let replicas: Vec<_> = entry.replicas().cloned().collect();
        retire(&self.context, &replicas, true).await;
        let mut retired = Vec::new();
        for handle in &replicas {
            match self.directory.retire(&entry.name, handle.key().partition, entry.id) {
                Ok(path) => retired.extend(path),
                // The next start finds a directory whose topic is gone, and tries again.
                Err(error) => tracing::warn!(partition = %handle.board, %error, "not renamed"),
            }
        }
        let delay = Duration::from_millis(entry.config().file_delete_delay_ms);
        tokio::spawn(delete_later(Arc::clone(&self.directory), retired, delay));
    }

    /// What earlier runs left: directories renamed but not removed, and those of topics that are gone.
    pub fn clear_leftovers(&self, image: &ClusterImage) -> Result<(), troupe_log::DirectoryError> {
        for found in self.directory.partitions()? {
            if let Some(topic_id) = found.topic_id()?
                && image.topic_by_id(topic_id).is_none()
            {
                tracing::warn!(path = %found.path.display(), "its topic was deleted");
                self.directory.retire(&found.topic, found.partition, topic_id)?;
            }
        }
        let retired = self.directory.retired()?;
        tokio::spawn(delete_later(Arc::clone(&self.directory), retired, Duration::from_secs(60)));
        Ok(())
    }
}

fn leader_state(partition: &Partition) -> LeaderState {
    LeaderState {
        leader_epoch: partition.leader_epoch,
        replicas: partition.replicas.clone(),
        isr: partition.isr.clone(),
    }
}

async fn delete_later(directory: Arc<DataDirectory>, paths: Vec<PathBuf>, delay: Duration) {
    if paths.is_empty() {
        return;
    }
    tokio::time::sleep(delay).await;
    let delete = move || {
        for path in paths {
            if let Err(error) = directory.delete_retired(&path) {
                tracing::warn!(path = %path.display(), %error, "not deleted");
            }
        }
    };
    // Fails only if the runtime is stopping; the next start deletes them.
    let _ = tokio::task::spawn_blocking(delete).await;
}

/// Stops the actors of these partitions; returns when their logs are closed.
pub(super) async fn retire(context: &Context, handles: &[Arc<PartitionHandle>], delete: bool) {
    let mut waiting = Vec::with_capacity(handles.len());
    for handle in handles {
        let (done, retired) = oneshot::channel();
        let message = RetirePartition { key: handle.key(), delete, done };
        context.supervisors[handle.shard].do_send(message);
        waiting.push(retired);
    }
    for retired in waiting {
        // A dropped sender means that there was no actor.
        let _ = retired.await;
    }
}
