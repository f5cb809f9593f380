//! Keeps the partitions of this node in step with the cluster's image: starts what is assigned here,
//! tells what changed, retires and deletes what is gone: topics, and replicas that others have now.

use super::handles::Handles;
use super::{leftovers, log_directories};
use crate::abort::AbortOnPanic;
use crate::partition::{
    PartitionBoard, PartitionHandle, PartitionSetup, RetirePartition, Retirement, StartPartition,
    UpdatePartition,
};
use crate::registry::{TopicEntry, Topics};
use crate::topic_defaults::TopicDefaults;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use troupe_log::LogDirectories;
use troupe_machines::cluster::{Broker, ClusterImage, Partition, Topic};
use troupe_machines::config::TopicConfig;
use troupe_machines::replica::PartitionState;
use troupe_proto::ids::{BrokerEpoch, NodeId, PartitionId};

pub(super) struct Reconciler {
    handles: Arc<Handles>,
    /// What holds for topics that do not say it themselves, as last told.
    defaults: Mutex<TopicDefaults>,
    directories: Arc<LogDirectories>,
    /// Who may be in sync, as last told.
    eligible: Mutex<BTreeMap<NodeId, BrokerEpoch>>,
}

impl Reconciler {
    pub fn new(handles: Arc<Handles>, directories: Arc<LogDirectories>) -> Self {
        let defaults = Mutex::new(TopicDefaults::of(&handles.settings.now()));
        Self { handles, defaults, directories, eligible: Mutex::default() }
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
                let replicas: Vec<_> = entry.replicas().cloned().collect();
                self.delete(&entry, replicas, Retirement::TopicDeleted).await;
            }
        }
        let moved = self.forget_reassigned(image, &mut topics);
        if !moved.is_empty() {
            registry.hide(topics.clone());
            for (entry, replicas) in moved {
                self.delete(&entry, replicas, Retirement::Reassigned).await;
            }
        }
        self.handles.settings.take(image);
        let (defaults, defaults_changed) = self.note_defaults();
        let eligible_changed = self.note_eligible(image) || defaults_changed;
        let changed = image.topics().filter(|topic| {
            topics.get(&topic.name).is_none_or(|entry| !Arc::ptr_eq(&entry.described, topic))
        });
        log_directories::place(&self.directories, self.handles.node_id, changed);
        for topic in image.topics() {
            match topics.get(&topic.name) {
                Some(entry) if Arc::ptr_eq(&entry.described, topic) && !eligible_changed => {}
                known => {
                    let entry = self.entry(
                        image,
                        topic,
                        (known.map(Arc::as_ref), eligible_changed),
                        &defaults,
                    );
                    topics.insert(Arc::clone(&topic.name), Arc::new(entry));
                }
            }
        }
        let partitions = topics.values().map(|topic| topic.replicas().count()).sum::<usize>();
        self.handles.metrics.topics.set(topics.len() as f64);
        self.handles.metrics.partitions.set(partitions as f64);
        registry.replace(topics, image.next_offset());
    }

    /// What this node says of topics that do not say it themselves, and whether that is new.
    fn note_defaults(&self) -> (TopicDefaults, bool) {
        let defaults = TopicDefaults::of(&self.handles.settings.now());
        let mut known = self.defaults.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *known != defaults;
        known.clone_from(&defaults);
        (defaults, changed)
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
        (known, all_are_told): (Option<&TopicEntry>, bool),
        defaults: &TopicDefaults,
    ) -> TopicEntry {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        let (metrics, config) = (OnceCell::new(), defaults.apply(topic));
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
                    if all_are_told || config_changed || before != Some(partition) {
                        self.tell(handle, Arc::clone(&config), state(image, partition));
                    }
                    Arc::clone(handle)
                }
                None => {
                    let metrics = metrics.get_or_init(|| self.handles.metrics.topic(&topic.name));
                    let board =
                        PartitionBoard::new(key, Arc::clone(&topic.name), Arc::clone(metrics));
                    let setup = PartitionSetup {
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
            config,
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

    /// Takes the replicas out of `topics` that are this node's no more (R35), each with the entry that it was in.
    fn forget_reassigned(
        &self,
        image: &ClusterImage,
        topics: &mut Topics,
    ) -> Vec<(Arc<TopicEntry>, Vec<Arc<PartitionHandle>>)> {
        let is_elsewhere = |handle: &PartitionHandle| {
            let partition = image.partition(&handle.key());
            partition.is_none_or(|partition| !partition.replicas.contains(&self.handles.node_id))
        };
        let mut moved = Vec::new();
        for entry in topics.values_mut() {
            let changed = image.topic_by_id(entry.id);
            if changed.is_none_or(|topic| Arc::ptr_eq(topic, &entry.described)) {
                continue;
            }
            let gone = entry.replicas().filter(|handle| is_elsewhere(handle));
            let gone: Vec<_> = gone.cloned().collect();
            if gone.is_empty() {
                continue;
            }
            let kept = |handle: &Option<Arc<PartitionHandle>>| {
                handle.clone().filter(|handle| !is_elsewhere(handle))
            };
            let partitions = entry.partitions.iter().map(kept).collect();
            let (name, described) = (Arc::clone(&entry.name), Arc::clone(&entry.described));
            let config = Arc::clone(&entry.config);
            let without = TopicEntry { id: entry.id, name, partitions, described, config };
            moved.push((std::mem::replace(entry, Arc::new(without)), gone));
        }
        moved
    }

    async fn delete(
        &self,
        entry: &TopicEntry,
        replicas: Vec<Arc<PartitionHandle>>,
        why: Retirement,
    ) {
        retire(&self.handles, &replicas, why).await;
        let retired = leftovers::retire(&self.directories, entry, &replicas);
        let delay = Duration::from_millis(entry.config().file_delete_delay_ms);
        tokio::spawn(leftovers::delete_later(retired, delay));
    }

    /// What earlier runs left.
    pub fn clear_leftovers(&self, image: &ClusterImage) {
        let notices = leftovers::clear(&self.directories, image, self.handles.node_id);
        self.handles.metrics.log_notices.increment(notices);
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
        least_replicas: partition.least_replicas() as u32,
        eligible: partition.replicas.iter().filter_map(active).map(named).collect(),
    })
}

/// Stops the actors of these partitions; returns when their logs are closed.
pub(super) async fn retire(handles: &Handles, replicas: &[Arc<PartitionHandle>], why: Retirement) {
    let mut waiting = Vec::with_capacity(replicas.len());
    for handle in replicas {
        let (done, retired) = oneshot::channel();
        let message = RetirePartition { key: handle.key(), why, done };
        handles.supervisors[handle.shard].do_send(message);
        waiting.push(retired);
    }
    for retired in waiting {
        // A dropped sender means that there was no actor.
        let _ = retired.await;
    }
}
