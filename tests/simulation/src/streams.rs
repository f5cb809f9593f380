//! Streams between followers and leaders: what is sent on one arrives in its order, or never.

use crate::broker::Host;
use crate::damage::{Finder, Suspicion};
use crate::refill::Pause;
use crate::settings::HostBug;
use crate::violation::{Checked, Violation};
use crate::world::{At, Event, World};
use bytes::Bytes;
use troupe_log::{ReadSlice, check_batches};
use troupe_machines::replica::{
    Divergence, Effects, FollowSession, Follower, LeaderEnds, OpenError, Opening, Position,
    ReplicaEnd, Role, SliceError,
};
use troupe_proto::batch::{BatchHeader, Batches};
use troupe_proto::ids::{BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionKey};

pub type StreamId = u64;

/// Slices on their way, at most: what a follower's credits allow.
const MOST_IN_FLIGHT: u32 = 3;

#[derive(Debug)]
pub struct Stream {
    pub key: PartitionKey,
    pub follower: usize,
    follower_host: u64,
    follower_session: FollowSession,
    pub leader: usize,
    /// Once the leader has accepted.
    leader_host: Option<(u64, FollowSession)>,
    next: Offset,
    told: Option<LeaderEnds>,
    in_flight: u32,
    pump_due: bool,
    /// Of one that is filled slowly.
    pub pause: Pause,
    broken: bool,
    /// Broken without a trace of what was under way.
    dropped: bool,
    broken_at: u64,
    up_at: u64,
    down_at: u64,
}

#[derive(Clone, Debug)]
pub enum ToLeader {
    Open(Position, BrokerEpoch),
    Report(ReplicaEnd),
    Closed,
}

#[derive(Clone, Debug)]
pub enum ToFollower {
    Accepted(LeaderEnds),
    Slice(Offset, Bytes, LeaderEnds),
    Diverging(Divergence),
    OutOfRange(Offset, Offset),
    BeginAnew(Offset),
    Closed,
}

impl World {
    pub fn open_stream(&mut self, at: At, leader: NodeId, session: FollowSession) -> Checked {
        if let Some(from) = self.gap_to_drop(at) {
            let (now, mut out) = (self.steady(at.0), Effects::new());
            let Some(host) = self.host(at) else { return Ok(()) };
            host.replica.on_stream_closed(now, session, &mut out);
            self.cut_log(at, from)?;
            return self.perform(at, out);
        }
        let forgets = self.settings.has_host_bug(HostBug::ForgetLastEpoch);
        let leader = self.site_of(leader);
        let id = self.take_id();
        let now = self.now;
        let Some(broker) = &mut self.sites[at.0].broker else { return Ok(()) };
        let epoch = broker.last_epoch;
        let Some(host) = broker.hosts.get_mut(&at.1) else { return Ok(()) };
        let Some(position) = host.replica.position(last_epoch(host)) else { return Ok(()) };
        let position = if forgets { Position { last_epoch: None, ..position } } else { position };
        host.streams.insert(session, id);
        let stream = Stream {
            key: at.1,
            follower: at.0,
            follower_host: host.id,
            follower_session: session,
            leader,
            leader_host: None,
            next: position.end.log_end,
            told: None,
            in_flight: 0,
            pump_due: false,
            pause: Pause::default(),
            broken: false,
            dropped: false,
            broken_at: 0,
            up_at: now,
            down_at: now,
        };
        self.streams.insert(id, stream);
        self.send_up(id, ToLeader::Open(position, epoch));
        if !self.sites[leader].up {
            self.break_stream(id, false, true);
        }
        Ok(())
    }

    pub fn send_up(&mut self, id: StreamId, message: ToLeader) {
        let delay = self.delay();
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.broken) else {
            return;
        };
        if self.network.is_cut(stream.follower, stream.leader) {
            self.break_stream(id, true, false);
            return;
        }
        stream.up_at = stream.up_at.max(self.now + delay);
        let (to, wait) = (stream.leader, stream.up_at - self.now);
        self.schedule(to, wait, Event::ToLeader { stream: id, message });
    }

    fn send_down(&mut self, id: StreamId, message: ToFollower) {
        let delay = self.delay();
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.broken) else {
            return;
        };
        if self.network.is_cut(stream.leader, stream.follower) {
            self.break_stream(id, true, false);
            return;
        }
        stream.down_at = stream.down_at.max(self.now + delay);
        let (to, wait) = (stream.follower, stream.down_at - self.now);
        self.schedule(to, wait, Event::ToFollower { stream: id, message });
    }

    /// Nothing more is sent. What is under way arrives if `delivers`; both ends hear of it at once if the
    /// connection was reset, or when they miss each other.
    pub fn break_stream(&mut self, id: StreamId, delivers: bool, reset: bool) {
        let wait = if reset { self.delay() } else { self.net.between(200, 1_500) };
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.broken) else {
            return;
        };
        self.counts.broken_streams += 1;
        stream.broken = true;
        stream.dropped = !delivers;
        stream.broken_at = self.now;
        let (leader, follower) = (stream.leader, stream.follower);
        let up = stream.up_at.max(self.now + wait) - self.now;
        let down = stream.down_at.max(self.now + wait) - self.now;
        self.schedule(leader, up, Event::ToLeader { stream: id, message: ToLeader::Closed });
        self.schedule(
            follower,
            down,
            Event::ToFollower { stream: id, message: ToFollower::Closed },
        );
    }

    pub fn break_streams_of_host(&mut self, host: u64, reset: bool) {
        for id in self.streams_where(|stream| {
            stream.follower_host == host || stream.leader_host.is_some_and(|(id, _)| id == host)
        }) {
            let delivers = self.net.one_in(2);
            self.break_stream(id, delivers, reset);
        }
    }

    /// Streams are in the name of a registration: under a new one the node opens all of them again.
    pub fn renew_streams_of(&mut self, site: usize) {
        for id in self.streams_where(|stream| stream.follower == site) {
            self.break_stream(id, false, true);
        }
    }

    pub fn streams_where(&self, which: impl Fn(&Stream) -> bool) -> Vec<StreamId> {
        let some = self.streams.iter().filter(|(_, stream)| !stream.broken && which(stream));
        some.map(|(id, _)| *id).collect()
    }

    pub fn streams_between(&self, one: usize, other: usize) -> Vec<StreamId> {
        self.streams_where(|stream| {
            (stream.leader, stream.follower) == (one, other)
                || (stream.leader, stream.follower) == (other, one)
        })
    }

    /// Streams that nobody can hear of any more.
    pub fn forget_streams(&mut self) {
        let now = self.now;
        self.streams.retain(|_, stream| !stream.broken || now < stream.broken_at + 20_000);
    }

    pub fn at_leader(&mut self, id: StreamId, message: ToLeader) -> Checked {
        let Some(stream) = self.streams.get(&id) else { return Ok(()) };
        if stream.dropped && !matches!(message, ToLeader::Closed) {
            return Ok(());
        }
        let at = (stream.leader, stream.key);
        let node = self.sites[stream.follower].node.unwrap_or_default();
        let accepted = stream.leader_host;
        match (message, accepted) {
            (ToLeader::Open(position, epoch), _) => self.opened(id, at, node, &position, epoch),
            (ToLeader::Report(end), Some((host, session))) => {
                self.drive_host(at, host, |replica, now, out| {
                    replica.on_follower_end(now, node, session, end, out);
                })
            }
            (ToLeader::Closed, Some((host, session))) => {
                self.drive_host(at, host, |replica, now, out| {
                    replica.on_follower_closed(now, node, session, out);
                })
            }
            (ToLeader::Report(_) | ToLeader::Closed, None) => Ok(()),
        }
    }

    fn opened(
        &mut self,
        id: StreamId,
        at: At,
        node: NodeId,
        position: &Position,
        broker_epoch: BrokerEpoch,
    ) -> Checked {
        let Some(host) = self.host(at) else {
            self.break_stream(id, false, true);
            return Ok(());
        };
        let host_id = host.id;
        let end = position.end.log_end;
        let epoch_end =
            position.last_epoch.and_then(|epoch| host.log.end_offset_for_follower(epoch, end));
        let follower = Follower { node, broker_epoch, answers_rounds: false };
        let mut answer = Err(OpenError::NotLeader);
        self.step(at, |replica, now, out| {
            answer = replica.on_follower_opened(now, follower, position, epoch_end, out);
        })?;
        match answer {
            Ok(Opening::Stream { session, from, ends }) => {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.leader_host = Some((host_id, session));
                    stream.next = from;
                    stream.told = Some(ends);
                }
                self.send_down(id, ToFollower::Accepted(ends));
            }
            Ok(Opening::Diverging(divergence)) => {
                self.send_down(id, ToFollower::Diverging(divergence));
            }
            Ok(Opening::OutOfRange { log_start, log_end }) => {
                self.send_down(id, ToFollower::OutOfRange(log_start, log_end));
            }
            Ok(Opening::BeginAnew { log_start }) => {
                self.send_down(id, ToFollower::BeginAnew(log_start));
            }
            Err(_) => self.break_stream(id, true, true),
        }
        self.settle_host(at)
    }

    /// Pushes what a leader's followers lack, as far as their credits go.
    pub fn pump_streams_of(&mut self, at: At) -> Checked {
        let Some(host) = self.see_host(at) else { return Ok(()) };
        if host.replica.role() != Role::Leader {
            return Ok(());
        }
        let id = host.id;
        for stream in
            self.streams_where(|stream| stream.leader_host.is_some_and(|(leader, _)| leader == id))
        {
            self.pump(stream)?;
        }
        Ok(())
    }

    pub fn pump(&mut self, id: StreamId) -> Checked {
        if self.pauses(id) {
            return Ok(());
        }
        let most = self.net.between(1, 1_500) as usize;
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        stream.pump_due = false;
        let Some((host_id, session)) = stream.leader_host else { return Ok(()) };
        if stream.broken || stream.in_flight >= MOST_IN_FLIGHT {
            return Ok(());
        }
        let (at, next, told) = ((stream.leader, stream.key), stream.next, stream.told);
        let node = self.sites[stream.follower].node.unwrap_or_default();
        let Some(host) = self.see_host(at).filter(|host| host.id == host_id) else {
            return Ok(());
        };
        if !host.replica.has_stream(node, session) || next < host.log.log_start() {
            self.break_stream(id, true, true);
            return Ok(());
        }
        let ends = host.replica.leader_ends();
        let read = host.log.read_copy(next, host.log.log_end(), most).map_err(Suspicion::Log);
        let slice = match read.and_then(|slice| checked(slice, &at.1, next)) {
            Ok(slice) => slice,
            // the follower tries again
            Err(suspicion) => {
                self.break_stream(id, true, true);
                self.suspect(at, suspicion, Finder::Push);
                return Ok(());
            }
        };
        if slice.is_empty() && told == Some(ends) {
            return Ok(());
        }
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        stream.next = if slice.is_empty() { next } else { slice.end };
        stream.told = Some(ends);
        stream.in_flight += 1;
        self.send_down(id, ToFollower::Slice(next, slice.bytes, ends));
        Ok(())
    }

    pub fn at_follower(&mut self, id: StreamId, message: ToFollower) -> Checked {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        if stream.dropped && !matches!(message, ToFollower::Closed) {
            return Ok(());
        }
        let at = (stream.follower, stream.key);
        let (host, session, leader) =
            (stream.follower_host, stream.follower_session, stream.leader);
        if matches!(message, ToFollower::Slice(..)) {
            stream.in_flight = stream.in_flight.saturating_sub(1);
            if !std::mem::replace(&mut stream.pump_due, true) {
                let wait = self.delay();
                self.schedule(leader, wait, Event::Pump { stream: id });
            }
        }
        if self.see_host(at).is_none_or(|known| known.id != host) {
            return Ok(());
        }
        match message {
            ToFollower::Accepted(ends) => self.accepted(id, at, session, ends),
            ToFollower::BeginAnew(log_start) => self.drive(at, |replica, _, out| {
                replica.on_begin_anew(session, log_start, out);
            }),
            ToFollower::Slice(read_from, bytes, ends) => {
                self.take_slice(id, at, session, read_from, bytes, ends)
            }
            ToFollower::Diverging(divergence) => {
                let own = self.see_host(at).and_then(|host| {
                    divergence.leader_epoch.and_then(|epoch| host.log.end_offset_for_epoch(epoch))
                });
                self.drive(at, |replica, now, out| {
                    replica.on_diverged(now, session, divergence, own, out);
                })
            }
            ToFollower::OutOfRange(log_start, log_end) => self.drive(at, |replica, now, out| {
                replica.on_out_of_range(now, session, log_start, log_end, out);
            }),
            ToFollower::Closed => {
                if let Some(host) = self.host(at) {
                    host.streams.remove(&session);
                }
                self.drive(at, |replica, now, out| replica.on_stream_closed(now, session, out))
            }
        }
    }

    fn take_slice(
        &mut self,
        id: StreamId,
        at: At,
        session: FollowSession,
        read_from: Offset,
        bytes: Bytes,
        ends: LeaderEnds,
    ) -> Checked {
        let wall = self.wall(at.0).as_timestamp();
        let headers: Result<Vec<BatchHeader>, _> =
            Batches::new(bytes.clone()).map(|batch| batch.map(|(header, _)| header)).collect();
        let headers =
            headers.map_err(|error| Violation::new("I16 slices are whole", error.to_string()))?;
        let Some(host) = self.host(at) else { return Ok(()) };
        match host.replica.check_slice(session, Some(read_from), &headers) {
            Ok(()) => {}
            Err(SliceError::StaleSession) => return Ok(()),
            Err(error) => {
                let what = format!("{error} at {at:?}");
                return Err(Violation::new("slices are in order", what));
            }
        }
        let before = host.log.log_end();
        host.repair.note_followed();
        let appended = match host.log.append_frames(bytes, wall) {
            Ok(appended) => appended,
            Err(error) => return self.slice_failed(id, at, session, before, &headers, ends, error),
        };
        host.watched.written.extend(&headers);
        // a snapshot of the producers belongs before the batch that opened a segment
        let split = appended.rolled.map_or(0, |offset| {
            headers.iter().take_while(|header| header.base_offset < offset).count()
        });
        let (before, after) = headers.split_at(split);
        let (now, mut out) = (self.steady(at.0), Effects::new());
        if let Some(offset) = appended.rolled {
            let Some(host) = self.host(at) else { return Ok(()) };
            host.replica.on_replicated(now, session, before, ends, &mut out);
            self.snapshot_producers(at, offset);
        }
        let Some(host) = self.host(at) else { return Ok(()) };
        host.replica.on_replicated(now, session, after, ends, &mut out);
        self.perform(at, out)?;
        self.settle_host(at)
    }

    /// Some of the batches may stand in the log: the machine hears of those, and the stream is over.
    #[expect(clippy::too_many_arguments, reason = "the parts of one slice")]
    fn slice_failed(
        &mut self,
        id: StreamId,
        at: At,
        session: FollowSession,
        before: Offset,
        headers: &[BatchHeader],
        ends: LeaderEnds,
        error: troupe_log::LogError,
    ) -> Checked {
        let Some(host) = self.host(at) else { return Ok(()) };
        let end = host.log.log_end();
        // the first one may begin below the log's start
        let stands =
            |header: &&BatchHeader| header.end_offset() > before && header.end_offset() <= end;
        let stand: Vec<_> = headers.iter().filter(stands).copied().collect();
        host.watched.written.extend(&stand);
        host.watched.attempted = headers.to_vec();
        if !host.log.is_poisoned() {
            self.step(at, |replica, now, out| {
                replica.on_replicated(now, session, &stand, ends, out);
                replica.on_stream_closed(now, session, out);
            })?;
            if let Some(host) = self.host(at) {
                host.streams.remove(&session);
            }
            self.break_stream(id, true, true);
            return self.settle_host(at);
        }
        self.append_failed(at, &error)
    }
}

/// What was read is what was written.
pub fn checked(slice: ReadSlice, key: &PartitionKey, from: Offset) -> Result<ReadSlice, Suspicion> {
    match check_batches(&slice.bytes, key, from) {
        Ok(()) => Ok(slice),
        Err(bad) => Err(Suspicion::At(bad.at)),
    }
}

/// The epoch of the last batch, which is not always the newest that the log has been told of.
fn last_epoch(host: &Host) -> Option<LeaderEpoch> {
    let (start, end) = (host.log.log_start(), host.log.log_end());
    if end > start { host.log.epoch_at(Offset(end.0 - 1)) } else { None }
}
