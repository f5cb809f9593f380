//! Who is to be told that what was acknowledged is committed: on the stream, or as the answer of a call.
//!
//! Promises: ACCEPTED is said when the group knows of it, or where it cannot, as a record before is not acknowledged;
//! what came to nothing is said too; a call is answered in its time, whatever becomes of the commit.

use super::confirmations::Call;
use super::state::Session;
use crate::forward::{SettleAction, SettleOutcome};
use crate::operations::subscriptions::ack_id::AckId;
use crate::operations::subscriptions::deliveries::Deliveries;
use crate::operations::subscriptions::sessions::Settlements;
use tokio::time::Instant;
use troupe_proto::ids::PartitionKey;

/// Everything up to the record is settled, and the group does not know it yet.
fn waits(deliveries: &Deliveries, id: &AckId) -> bool {
    deliveries.place(id).is_some_and(|place| place.waits_for_commit(id.offset))
}

impl Session {
    /// An acknowledgement was taken: whether it is confirmed later, with its commit.
    pub(super) fn confirms_later(&mut self, id: &AckId, ack_id: &str) -> bool {
        let later = self.options.confirm && waits(&self.deliveries, id);
        if later {
            self.commits.confirmations.add(*id, ack_id.to_owned());
        }
        later
    }

    /// Settles what another call brings. It is answered when what it acknowledges is committed, if it is to be.
    pub(super) fn settle_for_call(&mut self, asked: Settlements, now: Instant) {
        let Settlements { settlements, confirm, reply } = asked;
        let (mut outcomes, mut open) = (Vec::with_capacity(settlements.len()), Vec::new());
        for (id, action) in settlements {
            self.receipts.arrived(&id);
            let outcome = self.deliveries.settle(&id, action, now);
            let is_taken = outcome == SettleOutcome::Accepted && action == SettleAction::Ack;
            if confirm.is_some() && is_taken && waits(&self.deliveries, &id) {
                open.push((id, outcomes.len()));
            }
            outcomes.push(outcome);
        }
        let until = confirm.unwrap_or(now);
        let call = Call { outcomes, open: open.len(), until, reply };
        if open.is_empty() {
            return call.answer();
        }
        self.commits.confirmations.add_call(call, open);
    }

    /// Confirms what is committed by now. What was given up before that may be delivered again.
    pub(super) fn confirm_settled(&mut self, now: Instant) {
        let deliveries = &self.deliveries;
        let told = self.commits.confirmations.close(|id| match deliveries.place(id) {
            Some(place) if place.waits_for_commit(id.offset) => None,
            Some(_) => Some(SettleOutcome::Accepted),
            None => Some(SettleOutcome::LeaseLost),
        });
        self.tell_outcomes(told);
        self.commits.confirmations.expire(|until| until <= now);
    }

    /// What waits for a commit of this partition waits in vain: it is another's, or gone.
    pub(super) fn refuse_confirmations(&mut self, key: &PartitionKey) {
        let deliveries = &self.deliveries;
        let is_lost = |id: &AckId| deliveries.is_of(id, key) && waits(deliveries, id);
        let told =
            self.commits.confirmations.close(|id| is_lost(id).then_some(SettleOutcome::LeaseLost));
        self.tell_outcomes(told);
    }

    /// Nothing is committed any more: whoever still waits is told so.
    pub(super) fn end_confirmations(&mut self) {
        self.commits.confirmations.expire(|_| true);
    }

    fn tell_outcomes(&mut self, told: Vec<(String, SettleOutcome)>) {
        for (text, outcome) in told {
            self.tell_outcome(text, outcome);
        }
    }
}
