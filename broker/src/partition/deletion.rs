//! Records deleted on request: the machine decides up to where, the log forgets them, and whoever asked waits here.

use super::actor::PartitionActor;
use super::messages::DeleteRecords;
use crate::clock::now;
use actix::{Context, Handler};
use troupe_log::LogError;
use troupe_machines::replica::Effects;
use troupe_proto::error::Error;
use troupe_proto::ids::Offset;

impl Handler<DeleteRecords> for PartitionActor {
    type Result = ();

    fn handle(&mut self, message: DeleteRecords, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let DeleteRecords { up_to, timeout_ms, expected_leader_epoch, validate_only, responder } =
            message;
        if let Err(error) = self.check_leads_in(expected_leader_epoch) {
            return responder.answer(Err(error));
        }
        if validate_only {
            let checked = self.replica.check_deletion(up_to);
            return responder.answer(checked.map_err(Error::from));
        }
        tracing::info!(
            partition = %self.board, ?up_to, log_start = self.replica.log_start().0,
            "records are to be deleted on request"
        );
        let token = self.deletions.park(responder);
        let deadline = now().plus(timeout_ms.into());
        let mut effects = Effects::new();
        self.replica.delete_records(token, up_to, deadline, &mut effects);
        self.perform(effects, ctx);
    }
}

impl PartitionActor {
    /// Moves the log's start, durably. For want of room or descriptors it stays, and nothing is deleted.
    pub(super) fn delete_before(
        &mut self,
        offset: Offset,
        ctx: &mut Context<Self>,
    ) -> Result<Effects, LogError> {
        let mut effects = Effects::new();
        match self.log().set_log_start(offset) {
            Ok(removals) => self.after_removal(removals, ctx),
            Err(error) if error.is_temporary() && !self.log().is_poisoned() => {
                self.put_off(&error);
                self.replica.on_log_start_kept(&mut effects);
            }
            Err(error) => return Err(error),
        }
        Ok(effects)
    }
}
