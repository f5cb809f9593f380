//! What a shard's supervisor and the life of one of its actors know of each other.

use super::handle::PartitionHandle;
use super::shared::Shared;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use troupe_actor::ActorState;
use troupe_machines::config::TopicConfig;
use troupe_machines::replica::PartitionState;
use troupe_proto::ids::NodeId;

/// What a partition is started with.
#[derive(Clone)]
pub struct PartitionSetup {
    pub config: Arc<TopicConfig>,
    pub state: Arc<PartitionState>,
}

pub struct Assignment {
    pub handle: Arc<PartitionHandle>,
    /// An actor that is being built just now takes it from here.
    pub setup: RefCell<PartitionSetup>,
    /// The partition is not wanted here any more.
    pub over: Cell<bool>,
    /// The replica is offline because its disk is away.
    pub away: Cell<bool>,
    /// It went offline for a person to look at, and no actor has served since.
    pub out_of_service: Cell<bool>,
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

    /// The replica went offline for a person to look at: it is to be in no ISR, so that nobody waits for it. If it is
    /// the last one, only if its disk is away: else it may be revived and lead again.
    pub fn report_offline(&self, shared: &Shared, disk_is_away: bool) {
        self.away.set(disk_is_away);
        self.out_of_service.set(true);
        let (state, node_id) = (&self.setup.borrow().state, shared.node_id);
        let counts = state.isr.contains(&node_id) || state.leader == Some(node_id);
        let is_last = state.isr.iter().all(|node| *node == node_id);
        if state.replicas.len() > 1 && counts && (disk_is_away || !is_last) {
            self.handle.board.owe_offline_report();
            shared.controller.report_offline(self.handle.clone());
        }
    }

    /// It was withdrawn, and is in the ISR again: its leader had not heard yet that nobody follows here any more, or what
    /// was known here of the ISR was older than that. Acknowledgements wait for it, until it has lagged for too long.
    pub fn withdraw_again(&self, shared: &Shared) {
        let (counts, leads) = {
            let state = &self.setup.borrow().state;
            (state.isr.contains(&shared.node_id), state.leader == Some(shared.node_id))
        };
        let is_out = self.out_of_service.get() && self.handle.board.state() == ActorState::Offline;
        if is_out && counts && !leads {
            self.report_offline(shared, self.away.get());
        }
    }

    /// Once in a while: whose disk is away, and who was made the leader all the same, as nobody else was there then.
    /// Not at once: two such replicas of a partition would name each other without end.
    pub fn remind_if_away(&self, shared: &Shared) {
        let leads = self.setup.borrow().state.leader == Some(shared.node_id);
        if self.away.get() && leads && self.handle.board.state() == ActorState::Offline {
            self.report_offline(shared, true);
        }
    }
}
