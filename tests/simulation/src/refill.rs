//! Replicas that begin anew, because tombstones that they need are gone.

use crate::chance::Chance;
use crate::invariants;
use crate::settings::{Bug, HostBug};
use crate::streams::StreamId;
use crate::violation::Checked;
use crate::world::{At, Event, World};
use troupe_log::LogError;
use troupe_machines::replica::planted::Bug as MachineBug;
use troupe_machines::replica::{FollowSession, LeaderEnds};
use troupe_proto::ids::Offset;

/// Whether in a run with reassignments replicas are filled slowly; of a seed's own chance.
pub fn draw(seed: u64, bug: Option<Bug>) -> bool {
    match bug {
        None => Chance::new(seed ^ 0xF111_0F11).one_in(2),
        Some(bug) => matches!(
            bug,
            Bug::Host(HostBug::ForgetWhoLacksTombstones)
                | Bug::Machine(MachineBug::FillOnWithoutTombstones)
        ),
    }
}

/// Between two slices of a stream by which a log is filled slowly.
#[derive(Debug, Default)]
pub struct Pause {
    until: u64,
    /// Somebody looks again then.
    due: bool,
}

impl World {
    /// Whether the follower has to wait for more.
    pub fn pauses(&mut self, id: StreamId) -> bool {
        if !self.settings.slow_fills || self.healing {
            return false;
        }
        let Some(stream) = self.streams.get(&id) else { return false };
        let node = self.sites[stream.follower].node.unwrap_or_default();
        let host = self.see_host((stream.leader, stream.key));
        let in_sync = host.and_then(|host| host.replica.isr());
        if in_sync.is_none_or(|isr| isr.contains(&node)) {
            return false;
        }
        let (now, wait) = (self.now, self.net.between(20, 200));
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        let (leader, pause) = (stream.leader, &mut stream.pause);
        if pause.until <= now {
            *pause = Pause { until: now + wait, due: false };
            return false;
        }
        if !std::mem::replace(&mut pause.due, true) {
            let wait = pause.until - now;
            self.schedule(leader, wait, Event::Pump { stream: id });
        }
        true
    }

    /// A follower hears that its stream is accepted: what its log has to say from now on is noted first.
    pub fn accepted(
        &mut self,
        id: StreamId,
        at: At,
        session: FollowSession,
        ends: LeaderEnds,
    ) -> Checked {
        let Some(host) = self.host(at) else { return Ok(()) };
        if let Some(below) = host.replica.tombstones_to_note(session, ends) {
            match host.log.note_tombstones_gone(below) {
                Ok(()) => host.replica.on_tombstones_gone(below),
                Err(error) => return self.not_noted(id, at, session, &error),
            }
            self.counts.fills_noted += 1;
        }
        self.drive(at, |replica, now, out| replica.on_replicated(now, session, &[], ends, out))
    }

    fn not_noted(
        &mut self,
        id: StreamId,
        at: At,
        session: FollowSession,
        error: &LogError,
    ) -> Checked {
        self.break_stream(id, false, true);
        self.append_failed(at, error)?;
        self.drive(at, |replica, now, out| replica.on_stream_closed(now, session, out))
    }

    /// A log is dropped: below its high watermark only that of a replica which nobody counts on.
    pub fn check_reset(&mut self, at: At, offset: Offset) -> Checked {
        let Some(host) = self.see_host(at) else { return Ok(()) };
        let high_watermark = host.replica.high_watermark();
        if self.settings.unclean || high_watermark <= offset {
            return Ok(());
        }
        self.counts.begun_anew += 1;
        let node = self.sites[at.0].node.unwrap_or_default();
        let Some(partition) = self.truth.partition(&at.1) else { return Ok(()) };
        invariants::nobody_drops_what_counts(node, &partition.isr, &partition.elr)
    }
}
