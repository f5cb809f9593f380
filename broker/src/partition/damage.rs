//! Damage that was found in the log: until the controller knows of it nobody leads here, and a leader fills it again.
//! What is to be done about it [`troupe_machines::replica::Repair`] decides.

use super::actor::PartitionActor;
use super::messages::LossKnown;
use actix::{Context, Handler};
use troupe_log::LogError;
use troupe_machines::replica::{Conclusion, Effects, Role};
use troupe_proto::ids::Offset;

impl Handler<LossKnown> for PartitionActor {
    type Result = ();

    fn handle(&mut self, LossKnown { from }: LossKnown, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        self.repair.hear_known(from);
        let mut effects = Effects::new();
        self.learn_state(&mut effects);
        self.perform(effects, ctx);
        self.forget_damage_if_filled();
    }
}

impl PartitionActor {
    /// Before the machine hears anything of the controller.
    pub(super) fn note_report_owed(&mut self) {
        if self.board.owes_report() {
            self.repair.owe();
        }
    }

    /// What is lost stays on the board for as long as this process lives, because no repair will ever end it.
    pub(super) fn forget_damage_if_filled(&mut self) {
        if !self.board.is_damaged() {
            return;
        }
        let leads = self.replica.role() == Role::Leader;
        let damaged_from = self.log().damaged_from();
        match self.repair.conclude(&self.state, self.shared.node_id, leads, damaged_from) {
            Conclusion::Keep => {}
            Conclusion::KeepInMind => {
                let damage = self.log().damage();
                let to = damage.and_then(|damage| damage.resumes_at);
                tracing::error!(
                    partition = %self.board, from = ?damaged_from, ?to,
                    "what its log lacks no other replica has: it serves what is below until `troupe partition recover`"
                );
            }
            Conclusion::HandOver => {
                tracing::warn!(partition = %self.board, "another replica is in sync, and has what is damaged here");
                self.board.owe_report();
                self.shared.controller.report_lost_data(self.handle.clone());
            }
            Conclusion::Filled => self.forget_damage(false),
            Conclusion::Lost => self.forget_damage(true),
        }
    }

    fn forget_damage(&mut self, is_lost: bool) {
        let missing_end = self.log().damage().and_then(|damage| damage.missing_end.clone());
        match self.log().forget_damage() {
            Ok(()) if is_lost => {
                tracing::error!(
                    partition = %self.board, offsets = ?missing_end,
                    "what its log lacks no other replica has: it is lost"
                );
                self.board.lose_end(missing_end);
            }
            Ok(()) => {
                tracing::info!(partition = %self.board, "filled again");
                self.board.lose_end(None);
                if self.board.set_damaged(false) {
                    self.shared.metrics.damaged_replicas.decrement(1);
                }
            }
            Err(error) => tracing::warn!(partition = %self.board, %error, "its damage stays noted"),
        }
    }

    /// From where on the log is to be dropped before a leader fills it again.
    pub(super) fn gap_to_drop(&mut self) -> Option<Offset> {
        let log = self.log().log_start()..self.log().log_end();
        let complete_below = self.log().damage()?.complete_below;
        self.repair.drop_behind_gap(complete_below, log, self.config.cleanup.compact)
    }

    pub(super) fn drop_behind_gap(&mut self, from: Offset) -> Result<(), LogError> {
        let (to, board) = (self.log().log_end(), &self.board);
        tracing::warn!(partition = %board, %from, %to, "drops what lies behind a gap, to be filled again");
        let high_watermark = self.replica.high_watermark();
        self.truncate_to(from, high_watermark)
    }
}
