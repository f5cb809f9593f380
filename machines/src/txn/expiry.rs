//! What time does: transactions that last too long are aborted, markers are told again, ids that nobody uses go (X3,
//! X10).

use super::planted::Bug;
use super::state::{Event, path};
use super::{Decision, Transactions};
use crate::time::Time;

/// How often ids are looked for that nobody uses.
pub(super) const SWEEP_INTERVAL_MS: u64 = 3_600_000;

impl Transactions {
    /// Transactions that have lasted too long are aborted, in an epoch that fences their producers. Partitions that owe a
    /// marker are told again. Now and then ids expire.
    pub fn on_time(&mut self, now: Time) -> Decision<()> {
        let due = self.alarms.due(now);
        let mut told = Vec::new();
        let mut draft = self.draft(now);
        for id in &due {
            let Some((id, known)) = self.get(id) else { continue };
            if path(Some(known.state), Event::Fence).is_some() {
                let mut fenced = known.fenced(now, None);
                if self.bugs.has(Bug::TimeOutWithoutFence) {
                    fenced.producer = known.producer;
                }
                draft.decide(id, &fenced);
            } else if let Some(marker) = self.owed(id, known) {
                draft.tell(marker);
                told.push(id.clone());
            }
        }
        let sweeps = self.next_sweep.is_some_and(|at| at <= now);
        if sweeps {
            for (id, known) in &self.by_id {
                let is_idle = known.updated.plus(self.settings.expiration_ms) <= now;
                if is_idle && path(Some(known.state), Event::Expire).is_some() {
                    draft.expire(id);
                }
            }
        }
        let decision = draft.answer(());
        for id in &told {
            self.alarms.set(id, now.plus(super::markers::RETRY_MS));
        }
        if sweeps {
            self.next_sweep = Some(now.plus(SWEEP_INTERVAL_MS));
        }
        decision
    }

    /// When [`Transactions::on_time`] has something to do; calling it earlier does no harm.
    pub fn next_deadline(&self) -> Option<Time> {
        let sweep = self.next_sweep.filter(|_| !self.by_id.is_empty());
        self.alarms.next().into_iter().chain(sweep).min()
    }
}
