//! Records deleted on request, as an operator asks the leader for it, and what the answers promise.

use crate::invariants;
use crate::violation::Checked;
use crate::world::{At, World};
use troupe_machines::replica::{DeleteUpTo, DeletionError, Role, Token};
use troupe_proto::ids::Offset;

impl World {
    /// Wherever between the log's start and `limit`: a log may start within a batch. Sometimes what cannot be.
    pub fn ask_to_delete(&mut self, at: At, start: Offset, limit: Offset) -> Checked {
        let Some(host) = self.see_host(at) else { return Ok(()) };
        let (leads, high_watermark) =
            (host.replica.role() == Role::Leader, host.replica.high_watermark());
        let offset = match leads {
            true => Offset(self.fate.between(start.0 + 1, limit.0)),
            false if self.rot.one_in(4) => limit,
            false => return Ok(()),
        };
        let up_to = match self.rot.below(8) {
            0 if limit == high_watermark => DeleteUpTo::HighWatermark,
            1 => DeleteUpTo::Offset(high_watermark.plus(self.rot.between(1, 4))),
            _ => DeleteUpTo::Offset(offset),
        };
        let token = Token(self.take_id());
        let patience = self.rot.between(300, 3_000);
        let Some(host) = self.host(at) else { return Ok(()) };
        let before = host.replica.check_deletion(up_to);
        host.deletions.insert(token, (up_to, before));
        if let Ok(before) = before {
            invariants::only_what_is_committed_is_deleted(before, high_watermark)?;
            self.note_deletion(at, before);
            self.counts.deletions += 1;
        }
        self.drive(at, |replica, now, out| {
            replica.delete_records(token, up_to, now.plus(patience), out);
        })
    }

    pub fn deletion_answered(
        &mut self,
        at: At,
        token: Token,
        result: Result<Offset, DeletionError>,
    ) -> Checked {
        let Some(host) = self.host(at) else { return Ok(()) };
        let Some((up_to, before)) = host.deletions.remove(&token) else { return Ok(()) };
        let (start, high_watermark) = (host.replica.log_start(), host.replica.high_watermark());
        let low_watermark = match (result, before) {
            (Ok(low_watermark), Ok(before)) => {
                self.counts.deletions_answered += 1;
                invariants::deletion_is_answered(before, low_watermark, start, high_watermark)?;
                low_watermark
            }
            (Err(DeletionError::TimedOut { .. }), _) => {
                self.counts.deletions_timed_out += 1;
                return Ok(());
            }
            (Err(_), Ok(_)) => {
                self.counts.deletions_of_unknown_outcome += 1;
                return Ok(());
            }
            (result, Err(_)) => {
                self.counts.deletions_refused += 1;
                return invariants::impossible_deletion_is_refused(up_to, result, high_watermark);
            }
        };
        if !self.is_strict(&at.1) {
            return Ok(());
        }
        let in_sync = self.truth.partition(&at.1).map(|partition| partition.isr.clone());
        for node in in_sync.unwrap_or_default() {
            let site = self.site_of(node);
            if let Some(known) = self.flushed((site, at.1)).filter(|_| !self.sites[site].wiped) {
                invariants::in_sync_replica_has_deleted(low_watermark, node, known.start)?;
            }
        }
        if let Some(ledger) = self.ledgers.get_mut(&at.1) {
            ledger.answered_start = ledger.answered_start.max(low_watermark);
        }
        Ok(())
    }
}
