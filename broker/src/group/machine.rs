//! Groups as the machine of a coordinator.

use super::members::{Members, Shared, Told};
use crate::coordinator::{Decided, Machine, Record};
use crate::metrics::NodeMetrics;
use std::sync::Arc;
use std::time::Duration;
use troupe_machines::cluster::{ClusterImage, OFFSETS_TOPIC};
use troupe_machines::group::{
    Catalog, CatalogTopic, Change, Decision, Groups, ReplayError, Settings, check_group_id,
    coordinator_partition,
};
use troupe_machines::time::Time;
use troupe_proto::error::Error;
use troupe_proto::ids::PartitionId;

impl<T> From<Decision<T>> for Decided<Groups, T> {
    fn from(decision: Decision<T>) -> Self {
        let Decision { changes, answer, pushes, ended } = decision;
        Self { changes, answer, told: Told { pushes, ended, farewell: None } }
    }
}

impl Machine for Groups {
    const TOPIC: &'static str = OFFSETS_TOPIC;
    const SUBJECT: &'static str = "group";
    const CONTENT: &'static str = "what groups have committed";

    type Settings = Settings;
    type Change = Change;
    type ReplayError = ReplayError;
    type Catalog = Catalog;
    type Told = Told;
    type Audience = Members;
    type Shared = Shared;
    type Common = ();

    fn new(settings: Settings) -> Self {
        Groups::new(settings)
    }

    fn settle(&mut self, settings: Settings) {
        self.set_settings(settings);
    }

    fn check_key(group: &str) -> Result<(), Error> {
        Ok(check_group_id(group)?)
    }

    fn partition_of(group: &str, partitions: u32) -> PartitionId {
        coordinator_partition(group, partitions)
    }

    fn encode(change: &Change) -> Record {
        let (key, value) = change.encode();
        Record { key, value }
    }

    fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Change, ReplayError> {
        Change::decode(key, value)
    }

    fn replay(&mut self, change: &Change) -> Result<(), ReplayError> {
        self.replay(change)
    }

    fn loaded(&mut self, now: Time) {
        self.loaded(now);
    }

    fn note_decided(&mut self, now: Time, changes: &[Change]) {
        self.note_decided(now, changes);
    }

    fn next_deadline(&self) -> Option<Time> {
        self.next_deadline()
    }

    fn on_time(&mut self, now: Time) -> Decided<Self> {
        self.on_time(now).into()
    }

    fn catalog(image: &ClusterImage, known: &Catalog) -> Option<Catalog> {
        catalog_of(image, known)
    }

    fn catalog_changed(&mut self, now: Time, catalog: Arc<Catalog>) -> Decided<Self> {
        self.set_catalog(catalog);
        self.catalog_changed(now).into()
    }

    fn observe_load(metrics: &NodeMetrics, took: Duration) {
        metrics.group_load_seconds.record(took);
    }
}

/// The topics of an image; `None`: the same as are known.
pub fn catalog_of(image: &ClusterImage, known: &Catalog) -> Option<Catalog> {
    let same = known.topics.len() == image.topic_count()
        && image.topics().zip(&known.topics).all(|(topic, (name, known))| {
            topic.name == *name
                && topic.id == known.id
                && topic.partitions.len() == known.partitions as usize
        });
    if same {
        return None;
    }
    let topics = image.topics().map(|topic| {
        let described = CatalogTopic {
            id: topic.id,
            partitions: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
            internal: topic.is_internal(),
        };
        (Arc::clone(&topic.name), described)
    });
    Some(Catalog { topics: topics.collect() })
}
