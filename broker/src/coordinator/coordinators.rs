//! The coordinators of this node: one for each partition of an internal topic that it leads.

use super::handle::CoordinatorHandle;
use super::machine::Machine;
use super::refusal::no_coordinator;
use crate::metadata_cache::MetadataCache;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;
use troupe_machines::cluster::ClusterImage;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::PartitionId;

pub(super) type Led<M> = BTreeMap<PartitionId, Arc<CoordinatorHandle<M>>>;

/// Which coordinators there are. Written by the task that follows the cluster's image, read by every request
/// without a lock.
pub struct Coordinators<M: Machine> {
    metadata: Arc<MetadataCache>,
    led: ArcSwap<Led<M>>,
    changes: watch::Sender<u64>,
    /// The cluster, as all coordinators see it.
    catalog: watch::Sender<Arc<M::Catalog>>,
    pub common: Arc<M::Common>,
}

impl<M: Machine> Coordinators<M> {
    /// None yet.
    pub fn new(metadata: Arc<MetadataCache>) -> Self {
        let catalog = watch::Sender::new(Arc::default());
        let changes = watch::Sender::new(0);
        Self { metadata, led: ArcSwap::default(), changes, catalog, common: Arc::default() }
    }

    /// The coordinator of a partition of the topic, if it serves here and now.
    ///
    /// # Errors
    /// `NOT_COORDINATOR` if another node leads the partition, `COORDINATOR_NOT_AVAILABLE` if none does,
    /// `COORDINATOR_LOADING` while the one of this node reads its log.
    pub fn find(&self, partition: PartitionId) -> Result<Arc<CoordinatorHandle<M>>, Error> {
        if let Some(handle) = self.led.load().get(&partition) {
            handle.check_serves()?;
            return Ok(Arc::clone(handle));
        }
        let image = self.metadata.image.borrow();
        let known = image.topic(M::TOPIC).and_then(|topic| topic.partition(partition));
        Err(match known.and_then(|known| known.leader) {
            Some(leader) if leader == self.metadata.node_id => {
                let message =
                    format!("the {}'s coordinator is being started; try again", M::SUBJECT);
                Error::new(ErrorCode::CoordinatorLoading, message)
            }
            Some(_) => {
                let message = format!("another node coordinates the {}", M::SUBJECT);
                Error::new(ErrorCode::NotCoordinator, message)
            }
            None => no_coordinator::<M>(),
        })
    }

    /// Those of this node, in whatever state, by partition.
    pub fn led(&self) -> Vec<Arc<CoordinatorHandle<M>>> {
        self.led.load().values().cloned().collect()
    }

    /// Ticks when a coordinator starts, has loaded its log, or goes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn tick(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    pub(super) fn replace(&self, led: Led<M>) {
        self.led.store(Arc::new(led));
        self.tick();
    }

    pub(super) fn catalog(&self) -> watch::Receiver<Arc<M::Catalog>> {
        self.catalog.subscribe()
    }

    /// The same for all coordinators, and the same as before unless what they know of has changed.
    pub(super) fn take_catalog(&self, image: &ClusterImage) {
        let known = Arc::clone(&self.catalog.borrow());
        if let Some(catalog) = M::catalog(image, &known) {
            self.catalog.send_replace(Arc::new(catalog));
        }
    }
}
