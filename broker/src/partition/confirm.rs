//! Whether the replica leads now: the machine asks its followers, and whoever asked waits here.

use super::actor::PartitionActor;
use super::messages::Confirm;
use crate::clock::now;
use actix::{Context, Handler};
use troupe_machines::replica::Effects;
use troupe_proto::error::Error;
use troupe_proto::ids::LeaderEpoch;

/// How long followers have to answer. One that has died is out of the ISR by then.
const PATIENCE_MS: u64 = 2_500;

impl Handler<Confirm> for PartitionActor {
    type Result = ();

    fn handle(
        &mut self,
        Confirm { expected_leader_epoch, reply }: Confirm,
        ctx: &mut Context<Self>,
    ) {
        self.take_turn(ctx);
        if let Err(error) = self.check_leads_in(expected_leader_epoch) {
            // Whoever asked may be gone.
            let _ = reply.send(Err(error));
            return;
        }
        let token = self.questions.park(reply);
        let mut effects = Effects::new();
        self.replica.confirm(token, now().plus(PATIENCE_MS), &mut effects);
        self.perform(effects, ctx);
    }
}

impl PartitionActor {
    /// Whether this node may serve clients of the partition, who expect it to lead in this epoch.
    pub(super) fn check_leads_in(&self, expected: Option<LeaderEpoch>) -> Result<(), Error> {
        self.replica.check_leads_in(expected).map_err(Error::from)
    }
}
