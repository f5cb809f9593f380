//! What the controller says of the partition: who leads it, in which epoch, who is in sync, and how it is configured.
//! Every change of leader comes to a replica here.

use super::actor::PartitionActor;
use super::messages::Update;
use super::opening::{log_config, replica_config};
use crate::clock::now;
use actix::{Actor, Handler};
use std::sync::Arc;
use troupe_machines::replica::{Effects, has_others};

impl Handler<Update> for PartitionActor {
    type Result = ();

    fn handle(&mut self, Update { config, state }: Update, ctx: &mut <Self as Actor>::Context) {
        self.take_turn(ctx);
        let mut effects = Effects::new();
        let now = now();
        let key = self.board.key;
        self.log().set_config(log_config(&config, key));
        let times = self.shared.times;
        self.replica.reconfigure(now, replica_config(&config, times), &mut effects);
        self.config = config;
        self.state = state;
        self.learn_state(&mut effects);
        self.follow_at_its_pace(&mut effects);
        self.perform(effects, ctx);
        self.forget_damage_if_filled();
    }
}

impl PartitionActor {
    /// The machine hears what the controller says of the partition, unless that does not go by a damage yet that
    /// was found here: then the replica keeps still, and somebody else is to lead.
    pub(super) fn learn_state(&mut self, effects: &mut Effects) {
        let (state, node_id) = (Arc::clone(&self.state), self.shared.node_id);
        if !self.repair.withholds(&state, node_id) {
            self.replica.on_partition_state(now(), &state, effects);
        } else if state.leader == Some(node_id) && has_others(&state, node_id) {
            self.shared.controller.report_failed_leader(self.board.key, state.leader_epoch);
        }
    }
}
