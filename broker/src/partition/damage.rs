//! Damage that was found in the log: until the controller knows of it nobody leads here, and a leader fills it again.

use super::actor::{PartitionActor, Report};
use super::messages::LossKnown;
use actix::{Context, Handler};
use troupe_log::LogError;
use troupe_machines::replica::{Effects, Role};

impl Handler<LossKnown> for PartitionActor {
    type Result = ();

    fn handle(&mut self, LossKnown { from }: LossKnown, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        self.repair.report = from.map_or(Report::Heard, Report::KnownFrom);
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
            self.repair.report = Report::Owed;
        }
    }

    /// Once the controller has heard of it, who is in sync has been filled again; and whoever leads has all that
    /// there is. What a leader lacks that nobody has sent anything is lost: then the log is sound as it is, and the
    /// loss stays on the board for as long as this process lives, because no repair will ever end it. Unless it lies
    /// within the log: that is kept until somebody gives it up.
    pub(super) fn forget_damage_if_filled(&mut self) {
        let leads_by_it = self.replica.role() == Role::Leader && !self.repair.followed;
        if !self.board.is_damaged() || self.repair.lost && leads_by_it {
            return;
        }
        let alone = self.state.replicas.len() == 1;
        let is_over = self.repair.report.is_over(&self.state, self.shared.node_id);
        if !(alone && self.replica.role() == Role::Leader || is_over) {
            return;
        }
        if leads_by_it && let Some(from) = self.log().damaged_from() {
            // Kept in mind: nobody reads over it before somebody has said so.
            self.repair.lost = true;
            let to = self.log().damage().and_then(|damage| damage.resumes_at);
            tracing::error!(
                partition = %self.board, %from, ?to,
                "what its log lacks no other replica has: it serves what is below until `troupe partition recover`"
            );
            return;
        }
        match self.log().forget_damage() {
            Ok(()) if leads_by_it => {
                self.repair.lost = true;
                tracing::error!(partition = %self.board, "what its log lacks no other replica has: it is lost");
            }
            Ok(()) => {
                tracing::info!(partition = %self.board, "filled again");
                if self.board.set_damaged(false) {
                    self.shared.metrics.damaged_replicas.decrement(1);
                }
            }
            Err(error) => tracing::warn!(partition = %self.board, %error, "its damage stays noted"),
        }
    }

    /// What this log has behind a gap is sent again by a leader: the gap cannot be filled where it is. If it is
    /// compacted, all of it: what it has could lack tombstones that the leader has dropped, since this replica had
    /// them.
    pub(super) fn has_gap_to_truncate(&mut self) -> bool {
        let compacts = self.config.cleanup.compact;
        let (start, end) = (self.log().log_start(), self.log().log_end());
        let gap = self
            .log()
            .damage()
            .is_some_and(|damage| damage.complete_below < end || compacts && start < end);
        gap && !self.repair.gap_truncated
    }

    pub(super) fn truncate_gap(&mut self) -> Result<(), LogError> {
        let Some(complete) = self.log().damage().map(|damage| damage.complete_below) else {
            return Ok(());
        };
        self.repair.gap_truncated = true;
        let (start, to) = (self.log().log_start(), self.log().log_end());
        let from = if self.config.cleanup.compact { start } else { complete.max(start) };
        let board = &self.board;
        tracing::warn!(partition = %board, %from, %to, "drops what lies behind a gap, to be filled again");
        let high_watermark = self.replica.high_watermark();
        self.truncate_to(from, high_watermark)
    }
}
