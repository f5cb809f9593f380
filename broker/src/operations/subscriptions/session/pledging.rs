//! Deliveries that a transaction acknowledges: their offsets are committed by it, and not here.
//!
//! Promises: what was committed here before is known to be, when a pledge is given, so that nothing comes after it that
//! was asked before; how the transaction ended nobody needs to say: the group knows it, once it has.

use super::state::Session;
use crate::forward::Target;
use crate::operations::subscriptions::coordination::Commit;
use crate::operations::subscriptions::jobs;
use crate::operations::subscriptions::pledge::Pledge;
use crate::operations::subscriptions::pledged::{Pledged, Unpledged};
use crate::operations::subscriptions::sessions::Pledging;
use crate::partition::Isolation;
use tokio::sync::oneshot;
use tokio::time::Instant;
use troupe_proto::error::{Error, ErrorCode};

impl Session {
    pub(super) fn on_pledging(&mut self, asked: Pledging) {
        for id in &asked.ids {
            self.receipts.arrived(id);
        }
        self.pledging.push(asked);
    }

    /// Gives the pledges that can be given, and has the others wait, as far as they may.
    pub(super) fn give_pledges(&mut self, now: Instant) {
        for asked in std::mem::take(&mut self.pledging) {
            match self.pledge(&asked) {
                Ok((pledge, pledged, ended)) => match asked.reply.send(Ok(pledge)) {
                    Ok(()) => self.jobs.push(Box::pin(jobs::redeem(pledged, ended))),
                    Err(_) => self.deliveries.redeem(&pledged, false, now),
                },
                Err(unpledged) if unpledged.passes && now < asked.until => {
                    // It may wait for a commit.
                    self.commits.ask();
                    if !asked.reply.is_closed() {
                        self.pledging.push(asked);
                    }
                }
                Err(unpledged) => {
                    // Whoever asked may be gone.
                    let _ = asked.reply.send(Err(unpledged.error));
                }
            }
        }
    }

    fn pledge(
        &mut self,
        asked: &Pledging,
    ) -> Result<(Pledge, Vec<Pledged>, oneshot::Receiver<bool>), Unpledged> {
        if self.options.isolation == Isolation::Uncommitted {
            let message = "a subscription that reads uncommitted records may read again what a transaction has \
                           acknowledged: read committed ones, or settle the deliveries by themselves";
            let error = Error::new(ErrorCode::InvalidRequest, message);
            return Err(Unpledged { error, passes: false });
        }
        if self.commits.under_way {
            let message = "offsets of the subscription are being committed";
            let error = Error::new(ErrorCode::ConcurrentTransactions, message);
            return Err(Unpledged { error, passes: true });
        }
        let pledged = self.deliveries.pledge(&asked.ids)?;
        self.note_epochs();
        let epochs = &self.commits.epochs;
        let offset = |Pledged { target, end, .. }: &Pledged| {
            (target.clone(), *end, epochs.at(&target.key, *end))
        };
        let commit = Commit {
            group: self.options.group.clone(),
            member: (self.membership.member_id().to_owned(), self.membership.epoch()),
            offsets: pledged.iter().map(offset).collect(),
        };
        let (committed, ended) = oneshot::channel();
        Ok((Pledge { commit, committed }, pledged, ended))
    }

    pub(super) fn on_redeemed(&mut self, pledged: Vec<Pledged>, committed: Option<bool>) {
        match committed {
            Some(committed) => self.deliveries.redeem(&pledged, committed, Instant::now()),
            None => {
                for target in self.deliveries.still_pledged(pledged) {
                    self.begin_where_the_group_is(target);
                }
            }
        }
    }

    /// What is out of the partition is lost. It goes on where the group is when no transaction is open there.
    pub(super) fn begin_where_the_group_is(&mut self, target: Target) {
        let stays = !self.deliveries.is_revoked(&target.key);
        self.deliveries.release(&target.key);
        self.intake.remove(&target.key);
        if stays {
            self.fetch_starts(vec![target]);
        }
    }
}
