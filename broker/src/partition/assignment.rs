//! What a shard's supervisor and the life of one of its actors know of each other.

use super::handle::PartitionHandle;
use super::shared::Shared;
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;
use troupe_actor::ActorState;
use troupe_machines::config::TopicConfig;
use troupe_machines::replica::PartitionState;
use troupe_proto::ids::NodeId;

/// What a partition is started with.
#[derive(Clone)]
pub struct PartitionSetup {
    pub dir: PathBuf,
    pub config: Arc<TopicConfig>,
    pub state: Arc<PartitionState>,
}

pub struct Assignment {
    pub handle: Arc<PartitionHandle>,
    /// An actor that is being built just now takes it from here.
    pub setup: RefCell<PartitionSetup>,
    /// The partition is not wanted here any more.
    pub over: Cell<bool>,
}

impl Assignment {
    /// A replica that is offline does not notice that it was made the leader: another one is asked for, if any
    /// is in sync. Else the controller could only name this one again.
    pub fn pass_on(&self, shared: &Shared) {
        let (state, node_id) = (&self.setup.borrow().state, shared.node_id);
        let in_its_place = |node: &NodeId| *node != node_id && state.eligible.contains_key(node);
        if self.handle.board.state() == ActorState::Offline
            && state.leader == Some(node_id)
            && state.isr.iter().any(in_its_place)
        {
            shared.controller.report_failed_leader(self.handle.key(), state.leader_epoch);
        }
    }
}
