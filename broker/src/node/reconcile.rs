//! Keeps the partitions of this node in step with the cluster's image: starts what is assigned here,
//! tells what changed, retires and deletes what is gone.

use super::handles::Handles;
use crate::abort::AbortOnPanic;
use crate::partition::{
    PartitionBoard, PartitionHandle, PartitionSetup, RetirePartition, StartPartition,
    UpdatePartition,
};
use crate::registry::{TopicEntry, Topics};
use crate::topic_defaults::TopicDefaults;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use troupe_log::{DataDirectory, Inventory};
use troupe_machines::cluster::{Broker, ClusterImage, Partition, Topic};
use troupe_machines::config::TopicConfig;
use troupe_machines::replica::PartitionState;
use troupe_proto::ids::{BrokerEpoch, NodeId, PartitionId};

pub(super) struct Reconciler {
    handles: Arc<Handles>,
    /// What holds for topics that do not say it themselves.
    defaults: TopicDefaults,
    directory: Arc<DataDirectory>,
    /// Which partitions have a directory.
    inventory: Arc<Inventory>,
    /// Who may be in sync, as last told.
    eligible: Mutex<BTreeMap<NodeId, BrokerEpoch>>,
}

impl Reconciler {
    pub fn new(
        handles: Arc<Handles>,
        directory: Arc<DataDirectory>,
        inventory: Arc<Inventory>,
    ) -> Self {
        let defaults = TopicDefaults::of(&handles.config);
        Self { handles, defaults, directory, inventory, eligible: Mutex::default() }
    }

    /// Follows the image until the node stops.
    pub async fn run(self, mut images: watch::Receiver<Arc<ClusterImage>>) {
        let _guard = AbortOnPanic("the reconciler");
        loop {
            tokio::select! {
                changed = images.changed() => if changed.is_err() { return },
                () = self.handles.shutdown.cancelled() => return,
            }
            let image = images.borrow_and_update().clone();
            self.apply(&image).await;
        }
    }

    /// One image. What is deleted goes before anything is started: a topic made again under the same name
    /// uses the same directories.
    pub async fn apply(&self, image: &ClusterImage) {
        let registry = &self.handles.metadata.registry;
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
        let eligible_changed = self.note_eligible(image);
        for topic in image.topics() {
            match topics.get(&topic.name) {
                Some(entry) if Arc::ptr_eq(&entry.described, topic) && !eligible_changed => {}
                known => {
                    let entry = self.entry(image, topic, known.map(Arc::as_ref), eligible_changed);
                    topics.insert(Arc::clone(&topic.name), Arc::new(entry));
                }
            }
        }
        let partitions = topics.values().map(|topic| topic.replicas().count()).sum::<usize>();
        self.handles.metrics.topics.set(topics.len() as f64);
        self.handles.metrics.partitions.set(partitions as f64);
        registry.replace(topics, image.next_offset());
    }

    /// Whether other brokers may be in sync than before, which leaders have to know.
    fn note_eligible(&self, image: &ClusterImage) -> bool {
        let eligible: BTreeMap<NodeId, BrokerEpoch> = image
            .brokers()
            .filter(|broker| broker.is_active())
            .map(|broker| (broker.node_id, broker.epoch))
            .collect();
        let mut known = self.eligible.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *known != eligible;
        *known = eligible;
        changed
    }

    /// A topic's entry; its partitions are started, or told what changed.
    fn entry(
        &self,
        image: &ClusterImage,
        topic: &Arc<Topic>,
        known: Option<&TopicEntry>,
        eligible_changed: bool,
    ) -> TopicEntry {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        let (metrics, config) = (OnceCell::new(), self.defaults.apply(topic));
        let config_changed =
            known.is_none_or(|known| !Arc::ptr_eq(&known.described.config, &topic.config));
        for (partition, number) in topic.partitions.iter().zip(0..) {
            if !partition.replicas.contains(&self.handles.node_id) {
                partitions.push(None);
                continue;
            }
            let key = topic.key(PartitionId(number));
            let before = known.and_then(|known| known.described.partition(key.partition));
            let handle = known
                .and_then(|entry| entry.partitions.get(number as usize))
                .and_then(Option::as_ref);
            partitions.push(Some(match handle {
                Some(handle) => {
                    if eligible_changed || config_changed || before != Some(partition) {
                        self.tell(handle, Arc::clone(&config), state(image, partition));
                    }
                    Arc::clone(handle)
                }
                None => {
                    let metrics = metrics.get_or_init(|| self.handles.metrics.topic(&topic.name));
                    let board =
                        PartitionBoard::new(key, Arc::clone(&topic.name), Arc::clone(metrics));
                    let setup = PartitionSetup {
                        dir: self.directory.partition_dir(&topic.name, key.partition),
                        config: Arc::clone(&config),
                        state: state(image, partition),
                    };
                    self.start(board, setup)
                }
            }));
        }
        TopicEntry {
            id: topic.id,
            name: Arc::clone(&topic.name),
            partitions,
            described: Arc::clone(topic),
        }
    }

    fn start(&self, board: PartitionBoard, setup: PartitionSetup) -> Arc<PartitionHandle> {
        let key = board.key;
        // Spreads the partitions of one topic, and the first partitions of many topics.
        let spread = key.topic_id.0.as_u128() as usize;
        let shard = spread.wrapping_add(key.partition.0 as usize) % self.handles.supervisors.len();
        let handle = Arc::new(PartitionHandle::new(board, shard));
        // One message for each partition, from the loop that alone starts them.
        self.handles.supervisors[shard]
            .do_send(StartPartition { handle: Arc::clone(&handle), setup });
        handle
    }

    fn tell(&self, handle: &PartitionHandle, config: Arc<TopicConfig>, state: Arc<PartitionState>) {
        self.handles.supervisors[handle.shard].do_send(UpdatePartition {
            key: handle.key(),
            config,
            state,
        });
    }

    async fn delete(&self, entry: &TopicEntry) {
        let replicas: Vec<_> = entry.replicas().cloned().collect();
        retire(&self.handles, &replicas, true).await;
        let mut retired = Vec::new();
        for handle in &replicas {
            self.inventory
                .remove(&self.directory.partition_dir(&entry.name, handle.key().partition));
            match self.directory.retire(&entry.name, handle.key().partition, entry.id) {
                Ok(path) => retired.extend(path),
                // The next start finds a directory whose topic is gone, and tries again.
                Err(error) => tracing::warn!(partition = %handle.board, %error, "not renamed"),
            }
        }
        let delay = Duration::from_millis(entry.config().file_delete_delay_ms);
        tokio::spawn(delete_later(Arc::clone(&self.directory), retired, delay));
    }

    /// What earlier runs left: directories renamed but not removed, and those of topics that are gone. What
    /// cannot be read or renamed stays where it is, and keeps nobody from starting.
    pub fn clear_leftovers(&self, image: &ClusterImage) -> Result<(), troupe_log::DirectoryError> {
        for found in self.directory.partitions()? {
            let retired = found.topic_id().and_then(|topic_id| {
                let gone = topic_id.filter(|id| image.topic_by_id(*id).is_none());
                let Some(topic_id) = gone else {
                    topic_id.into_iter().for_each(|id| self.inventory.find(&found.path, id));
                    return Ok(());
                };
                self.inventory.remove(&found.path);
                tracing::warn!(path = %found.path.display(), "its topic was deleted");
                self.directory.retire(&found.topic, found.partition, topic_id).map(drop)
            });
            if let Err(error) = retired {
                self.handles.metrics.log_notices.increment(1);
                tracing::error!(path = %found.path.display(), %error, "left alone; the node starts without it");
            }
        }
        self.inventory.retain(|topic_id| image.topic_by_id(topic_id).is_some());
        let retired = self.directory.retired()?;
        tokio::spawn(delete_later(Arc::clone(&self.directory), retired, Duration::from_secs(60)));
        Ok(())
    }
}

/// What the machine has to know of a partition.
fn state(image: &ClusterImage, partition: &Partition) -> Arc<PartitionState> {
    let active = |node: &NodeId| image.broker(*node).filter(|broker| broker.is_active());
    let named = |broker: &Broker| (broker.node_id, broker.epoch);
    Arc::new(PartitionState {
        leader: partition.leader,
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        replicas: partition.replicas.clone(),
        isr: partition.isr.clone(),
        eligible: partition.replicas.iter().filter_map(active).map(named).collect(),
    })
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
pub(super) async fn retire(handles: &Handles, replicas: &[Arc<PartitionHandle>], delete: bool) {
    let mut waiting = Vec::with_capacity(replicas.len());
    for handle in replicas {
        let (done, retired) = oneshot::channel();
        let message = RetirePartition { key: handle.key(), delete, done };
        handles.supervisors[handle.shard].do_send(message);
        waiting.push(retired);
    }
    for retired in waiting {
        // A dropped sender means that there was no actor.
        let _ = retired.await;
    }
}
