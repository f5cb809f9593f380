//! Answers of single calls, of which nobody knows whether they arrived.
//!
//! An answer has arrived when something of it is settled. Until then it may be given back: when its call ends before
//! it was written, when its connection breaks, or when it was written so late that its caller may have given up and
//! nothing of it is settled for [`FIRST_PATIENCE`]. With each attempt that doubles, so that who takes long is not
//! overtaken for ever. Pure: time is an argument.

use super::ack_id::AckId;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use troupe_proto::ids::Offset;

/// Less than this before its caller's deadline, an answer is late.
const LATE: Duration = Duration::from_secs(1);
/// How long a late answer of first attempts is waited for.
const FIRST_PATIENCE: Duration = Duration::from_secs(5);

/// An answer of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AnswerId(u64);

#[derive(Default)]
pub struct Receipts {
    open: BTreeMap<AnswerId, Open>,
    of: HashMap<(u32, Offset, u32), AnswerId>,
    next: u64,
}

struct Open {
    ids: Vec<AckId>,
    /// Given back then.
    until: Instant,
    /// Dropped with it: nobody waits for its connection any more.
    _watch: oneshot::Sender<()>,
}

fn key_of(id: &AckId) -> (u32, Offset, u32) {
    (id.slot, id.offset, id.attempt)
}

impl Receipts {
    /// An answer goes out, to a caller with that deadline; its deliveries have leases of `lease`. The receiver closes
    /// when the answer is closed.
    pub fn open(
        &mut self,
        ids: Vec<AckId>,
        now: Instant,
        deadline: Option<Instant>,
        lease: Duration,
    ) -> (AnswerId, oneshot::Receiver<()>) {
        let late = deadline.is_some_and(|deadline| deadline < now + LATE);
        let attempt = ids.iter().map(|id| id.attempt).max().unwrap_or(1);
        let doubled = 1 << attempt.saturating_sub(1).min(16);
        let patience = if late { lease.min(FIRST_PATIENCE * doubled) } else { lease };
        self.next += 1;
        let answer = AnswerId(self.next);
        self.of.extend(ids.iter().map(|id| (key_of(id), answer)));
        let (watch, closed) = oneshot::channel();
        self.open.insert(answer, Open { ids, until: now + patience, _watch: watch });
        (answer, closed)
    }

    /// Something of an answer is settled.
    pub fn arrived(&mut self, id: &AckId) {
        if let Some(answer) = self.of.get(&key_of(id)).copied() {
            self.close(answer);
        }
    }

    /// What of an answer has to be given back, as it did not arrive.
    pub fn lost(&mut self, answer: AnswerId) -> Vec<AckId> {
        self.close(answer)
    }

    /// What has to be given back by now.
    pub fn expired(&mut self, now: Instant) -> Vec<AckId> {
        let due = self.open.iter().filter(|(_, open)| open.until <= now);
        let due: Vec<AnswerId> = due.map(|(answer, _)| *answer).collect();
        due.into_iter().flat_map(|answer| self.close(answer)).collect()
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.open.values().map(|open| open.until).min()
    }

    fn close(&mut self, answer: AnswerId) -> Vec<AckId> {
        let Some(open) = self.open.remove(&answer) else { return Vec::new() };
        for id in &open.ids {
            self.of.remove(&key_of(id));
        }
        open.ids
    }
}

#[cfg(test)]
mod tests {
    use super::super::ack_id::SessionId;
    use super::*;
    use troupe_proto::ids::NodeId;

    const LEASE: Duration = Duration::from_secs(1_800);

    fn ids(offsets: std::ops::Range<u64>, attempt: u32) -> Vec<AckId> {
        let id = |offset| AckId {
            node: NodeId(1),
            session: SessionId(1),
            slot: 1,
            offset: Offset(offset),
            attempt,
        };
        offsets.map(id).collect()
    }

    #[test]
    fn what_was_answered_late_is_given_back_soon_unless_something_of_it_is_settled() {
        let (mut receipts, now) = (Receipts::default(), Instant::now());
        let soon = Some(now + LATE / 2);
        receipts.open(ids(0..2, 1), now, soon, LEASE);
        let (_, mut closed) = receipts.open(ids(2..4, 1), now, soon, LEASE);
        let (in_time, _) = receipts.open(ids(4..5, 1), now, Some(now + LATE), LEASE);
        receipts.open(ids(5..6, 2), now, soon, LEASE);
        receipts.arrived(&ids(3..4, 1)[0]);
        assert!(closed.try_recv().is_err(), "nobody waits for its connection");
        assert_eq!(receipts.next_deadline(), Some(now + FIRST_PATIENCE));
        assert_eq!(receipts.expired(now + FIRST_PATIENCE), ids(0..2, 1));
        assert_eq!(receipts.expired(now + FIRST_PATIENCE), []);
        assert_eq!(receipts.expired(now + FIRST_PATIENCE * 2), ids(5..6, 2), "twice as long");
        assert_eq!(receipts.lost(in_time), ids(4..5, 1));
        assert!(receipts.open.is_empty() && receipts.of.is_empty());
    }

    #[test]
    fn what_was_lost_is_given_back_once_and_what_arrived_is_not() {
        let (mut receipts, now) = (Receipts::default(), Instant::now());
        let (lost, _) = receipts.open(ids(0..2, 1), now, None, LEASE);
        let (arrived, _) = receipts.open(ids(2..4, 1), now, None, LEASE);
        receipts.arrived(&ids(2..3, 1)[0]);
        assert_eq!(receipts.lost(arrived), []);
        assert_eq!(receipts.lost(lost), ids(0..2, 1));
        assert_eq!(receipts.lost(lost), []);
        // Whatever it is that did not come, nothing is remembered beyond its lease.
        receipts.open(ids(7..8, 40), now, Some(now), LEASE);
        assert_eq!(receipts.expired(now + LEASE), ids(7..8, 40));
        assert!(receipts.open.is_empty() && receipts.of.is_empty());
    }
}
