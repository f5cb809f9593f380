//! The coordinators of this node: one for each partition of `__consumer_offsets` that it leads.

use super::handle::CoordinatorHandle;
use super::together::Together;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;
use troupe_machines::cluster::ClusterImage;
use troupe_machines::group::Catalog;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{NodeId, PartitionId};

/// The topic that groups are remembered in.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

pub(super) type Led = BTreeMap<PartitionId, Arc<CoordinatorHandle>>;

/// Which coordinators there are. Written by the task that follows the cluster's image, read by every request
/// without a lock.
pub struct Coordinators {
    node_id: NodeId,
    image: watch::Receiver<Arc<ClusterImage>>,
    led: ArcSwap<Led>,
    changes: watch::Sender<u64>,
    /// The topics of the cluster, as all coordinators see them.
    catalog: watch::Sender<Arc<Catalog>>,
    /// What members of this node are about to commit, at whichever coordinator.
    pub(super) together: Together,
}

impl Coordinators {
    /// None yet.
    pub fn new(node_id: NodeId, image: watch::Receiver<Arc<ClusterImage>>) -> Self {
        let catalog = watch::Sender::new(Arc::new(Catalog::default()));
        let changes = watch::Sender::new(0);
        let together = Together::default();
        Self { node_id, image, led: ArcSwap::default(), changes, catalog, together }
    }

    /// The coordinator of a partition of `__consumer_offsets`, if it serves here and now.
    ///
    /// # Errors
    /// `NOT_COORDINATOR` if another node leads the partition, `COORDINATOR_NOT_AVAILABLE` if none does,
    /// `COORDINATOR_LOADING` while the one of this node reads its log.
    pub fn find(&self, partition: PartitionId) -> Result<Arc<CoordinatorHandle>, Error> {
        if let Some(handle) = self.led.load().get(&partition) {
            handle.check_serves()?;
            return Ok(Arc::clone(handle));
        }
        let image = self.image.borrow();
        let known = image.topic(OFFSETS_TOPIC).and_then(|topic| topic.partition(partition));
        let (code, message) = match known.and_then(|known| known.leader) {
            Some(leader) if leader == self.node_id => (
                ErrorCode::CoordinatorLoading,
                "the group's coordinator is being started; try again",
            ),
            Some(_) => (ErrorCode::NotCoordinator, "another node coordinates the group"),
            None => (
                ErrorCode::CoordinatorNotAvailable,
                "the group has no coordinator at the moment; try again",
            ),
        };
        Err(Error::new(code, message))
    }

    /// Those of this node, in whatever state, by partition.
    pub fn led(&self) -> Vec<Arc<CoordinatorHandle>> {
        self.led.load().values().cloned().collect()
    }

    /// Ticks when a coordinator starts, has loaded its log, or goes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn replace(&self, led: Led) {
        self.led.store(Arc::new(led));
        self.changes.send_modify(|count| *count += 1);
    }

    pub(super) fn ticker(&self) -> watch::Sender<u64> {
        self.changes.clone()
    }

    pub(super) fn catalog(&self) -> watch::Receiver<Arc<Catalog>> {
        self.catalog.subscribe()
    }

    pub(super) fn catalog_now(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.borrow())
    }

    pub(super) fn set_catalog(&self, catalog: Arc<Catalog>) {
        self.catalog.send_replace(catalog);
    }
}
