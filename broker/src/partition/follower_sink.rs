//! The leader's end of a channel: what its actor pushes, and the credit it needs for that.
//!
//! Promise: who finds no credit is told when there is some, once, and behind those that have waited longer.
//! Never here: how what is pushed gets to the follower.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;
use troupe_machines::replica::{Divergence, LeaderEnds};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::Offset;
use troupe_proto::internal::v1 as pb;
use troupe_proto::internal::v1::replicate_partitions_response::Refusal;

/// Names a channel of a stream. No two streams of a node have the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelName {
    pub stream: u64,
    pub channel: u32,
}

/// What goes out on a stream.
pub enum Push {
    /// Batches, and from where they were read; or none: the ends alone, and perhaps a round.
    Slice {
        channel: u32,
        ends: LeaderEnds,
        round: u64,
        read_from: Option<Offset>,
        pieces: Vec<Bytes>,
    },
    /// The channel is over.
    End { channel: u32, refusal: Refusal },
}

/// Who pushes, and has more than there is credit for.
pub trait Pusher: Send + Sync {
    /// There is credit again.
    fn push_on(&self);
}

/// What all channels of a stream to one follower share.
pub struct PushStream {
    name: u64,
    pushes: mpsc::UnboundedSender<Push>,
    /// Bytes granted and not pushed. Below zero by at most one push.
    credit: AtomicI64,
    starved: Mutex<Starved>,
    closed: AtomicBool,
}

/// Partitions that have more than there is credit for. Who has waited longest is told first; each stands here
/// once, however often it asks.
#[derive(Default)]
struct Starved {
    /// By the turn that each drew when it first found no credit. It keeps it until it has pushed something.
    by_turn: BTreeMap<u64, Arc<dyn Pusher>>,
    next_turn: u64,
}

impl PushStream {
    pub fn new(name: u64, pushes: mpsc::UnboundedSender<Push>) -> Self {
        Self {
            name,
            pushes,
            credit: AtomicI64::new(0),
            starved: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    pub fn name(&self) -> u64 {
        self.name
    }

    /// The follower has taken something: those that waited go on, in turn.
    pub fn grant(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let before = self.credit.fetch_add(bytes, Ordering::AcqRel);
        if before.saturating_add(bytes) > 0 {
            let starved = std::mem::take(&mut self.lock_starved().by_turn);
            for pusher in starved.into_values() {
                pusher.push_on();
            }
        }
    }

    /// A channel is over before its actor has heard of it.
    pub fn end(&self, channel: u32, refusal: Refusal) {
        self.send(Push::End { channel, refusal });
    }

    /// The stream has ended: whatever is pushed goes nowhere.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.lock_starved().by_turn.clear();
    }

    fn lock_starved(&self) -> MutexGuard<'_, Starved> {
        self.starved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_credit(&self) -> bool {
        self.credit.load(Ordering::Acquire) > 0
    }

    fn send(&self, push: Push) {
        // Fails only if the stream has ended; the actor is told so by another way.
        let _ = self.pushes.send(push);
    }
}

/// What a leader's actor holds of a follower. Dropped, it tells the follower that the channel is over.
pub struct FollowerSink {
    stream: Arc<PushStream>,
    channel: u32,
    pusher: Arc<dyn Pusher>,
    /// Among those without credit.
    turn: Option<u64>,
    ended: bool,
}

impl FollowerSink {
    pub fn new(stream: Arc<PushStream>, channel: u32, pusher: Arc<dyn Pusher>) -> Self {
        Self { stream, channel, pusher, turn: None, ended: false }
    }

    pub fn name(&self) -> ChannelName {
        ChannelName { stream: self.stream.name, channel: self.channel }
    }

    /// The follower's log is the beginning of the leader's: batches will follow.
    pub fn accept(&mut self, ends: LeaderEnds) {
        self.tell(ends);
    }

    /// Whole batches in pieces, as they were read from that offset on.
    pub fn push(&mut self, ends: LeaderEnds, read_from: Offset, pieces: Vec<Bytes>) {
        let len: usize = pieces.iter().map(Bytes::len).sum();
        self.turn = None;
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        self.stream.credit.fetch_sub(len, Ordering::AcqRel);
        let (channel, read_from) = (self.channel, Some(read_from));
        self.stream.send(Push::Slice { channel, ends, round: 0, read_from, pieces });
    }

    /// The leader's ends alone.
    pub fn tell(&mut self, ends: LeaderEnds) {
        self.ask(ends, 0);
    }

    /// Asks the follower whether it still follows.
    pub fn ask(&mut self, ends: LeaderEnds, round: u64) {
        let (channel, pieces) = (self.channel, Vec::new());
        self.stream.send(Push::Slice { channel, ends, round, read_from: None, pieces });
    }

    /// Whether the follower has room for a push.
    pub fn has_credit(&self) -> bool {
        !self.ended && self.stream.has_credit()
    }

    /// The same; if it has none, the pusher is told as soon as there is some.
    pub fn may_push(&mut self) -> bool {
        if self.ended || self.stream.closed.load(Ordering::Acquire) {
            return false;
        }
        if self.stream.has_credit() {
            return true;
        }
        let mut starved = self.stream.lock_starved();
        let turn = *self.turn.get_or_insert(starved.next_turn);
        starved.next_turn = starved.next_turn.max(turn + 1);
        starved.by_turn.insert(turn, Arc::clone(&self.pusher));
        drop(starved);
        // It may have come before that; then the message comes for nothing.
        self.stream.has_credit()
    }

    pub fn diverge(mut self, divergence: Divergence) {
        self.end(Refusal::Divergence(pb::Divergence {
            leader_epoch: divergence.leader_epoch.map(|epoch| epoch.0),
            end_offset: divergence.end_offset.0,
        }));
    }

    pub fn out_of_range(mut self, log_start: Offset, log_end: Offset) {
        self.end(Refusal::OutOfRange(pb::OutOfRange {
            log_start_offset: log_start.0,
            log_end_offset: log_end.0,
        }));
    }

    pub fn begin_anew(mut self, log_start: Offset) {
        self.end(Refusal::BeginAnew(pb::BeginAnew { log_start_offset: log_start.0 }));
    }

    /// The channel is over, and why.
    pub fn refuse(&mut self, error: Error) {
        self.end(Refusal::Error(error.into()));
    }

    fn end(&mut self, refusal: Refusal) {
        if !self.ended {
            self.ended = true;
            self.stream.send(Push::End { channel: self.channel, refusal });
        }
    }
}

impl Drop for FollowerSink {
    fn drop(&mut self) {
        // A follower that grants nothing any more would keep what was deleted long ago.
        if let Some(turn) = self.turn {
            self.stream.lock_starved().by_turn.remove(&turn);
        }
        let message = "the leader replica has stopped";
        self.end(Refusal::Error(Error::new(ErrorCode::LeaderNotAvailable, message).into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    const ENDS: LeaderEnds = LeaderEnds {
        high_watermark: Offset(0),
        log_start: Offset(0),
        everyone_has: Offset(0),
        tombstones_gone_below: Offset(0),
    };

    struct Partition {
        channel: u32,
        told: Sender<u32>,
    }

    impl Pusher for Partition {
        fn push_on(&self) {
            self.told.send(self.channel).unwrap();
        }
    }

    fn sink(stream: &Arc<PushStream>, channel: u32, told: &Sender<u32>) -> FollowerSink {
        let pusher = Partition { channel, told: told.clone() };
        FollowerSink::new(Arc::clone(stream), channel, Arc::new(pusher))
    }

    fn starved(stream: &PushStream, heard: &Receiver<u32>) -> Vec<u32> {
        stream.lock_starved().by_turn.values().for_each(|pusher| pusher.push_on());
        heard.try_iter().collect()
    }

    /// Or a follower that hangs would cost memory for every append, and then as many messages.
    #[test]
    fn a_partition_without_credit_waits_once_and_behind_those_that_have_waited_longer() {
        let (pushes, _pushed) = mpsc::unbounded_channel();
        let stream = Arc::new(PushStream::new(1, pushes));
        let (told, heard) = channel();
        let (mut first, mut second) = (sink(&stream, 1, &told), sink(&stream, 2, &told));
        for _ in 0..1_000 {
            assert!(!first.may_push() && !second.may_push());
        }
        assert_eq!(starved(&stream, &heard), [1, 2]);
        stream.grant(10);
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), [1, 2], "in turn");
        assert_eq!(starved(&stream, &heard), [0; 0]);
        assert!(first.may_push());
        first.push(ENDS, Offset(0), vec![Bytes::from_static(&[0; 10])]);
        assert!(!first.may_push() && !second.may_push());
        assert_eq!(starved(&stream, &heard), [2, 1], "the second has got nothing yet");
        second.tell(ENDS);
        assert!(!second.may_push());
        assert_eq!(starved(&stream, &heard), [2, 1], "ends alone are no turn");
        drop(second);
        assert_eq!(
            starved(&stream, &heard),
            [1],
            "who is gone is not kept for a follower that grants nothing"
        );
    }
}
