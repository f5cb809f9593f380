//! The leader's end of a channel: what its actor pushes, and the credit it needs for that.

use crate::partition::{PartitionHandle, PushOn};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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
pub(super) enum Push {
    /// Batches, or none: the ends alone.
    Slice { channel: u32, ends: LeaderEnds, pieces: Vec<Bytes> },
    /// The channel is over.
    End { channel: u32, refusal: Refusal },
}

/// What all channels of a stream to one follower share.
pub(super) struct SharedStream {
    name: u64,
    pushes: mpsc::UnboundedSender<Push>,
    /// Bytes granted and not pushed. Below zero by at most one push.
    credit: AtomicI64,
    /// Partitions that have more, in the order in which they ran out of credit.
    starved: Mutex<VecDeque<Arc<PartitionHandle>>>,
    closed: AtomicBool,
}

impl SharedStream {
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
            let starved = std::mem::take(&mut *self.lock_starved());
            for handle in starved {
                handle.command(PushOn);
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
        self.lock_starved().clear();
    }

    fn lock_starved(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<PartitionHandle>>> {
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
    stream: Arc<SharedStream>,
    channel: u32,
    handle: Arc<PartitionHandle>,
    ended: bool,
}

impl FollowerSink {
    pub(super) fn new(
        stream: Arc<SharedStream>,
        channel: u32,
        handle: Arc<PartitionHandle>,
    ) -> Self {
        Self { stream, channel, handle, ended: false }
    }

    pub fn name(&self) -> ChannelName {
        ChannelName { stream: self.stream.name, channel: self.channel }
    }

    /// The follower's log is the beginning of the leader's: batches will follow.
    pub fn accept(&self, ends: LeaderEnds) {
        self.push(ends, Vec::new());
    }

    /// Whole batches in pieces, or none: the leader's ends alone.
    pub fn push(&self, ends: LeaderEnds, pieces: Vec<Bytes>) {
        let len: usize = pieces.iter().map(Bytes::len).sum();
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        self.stream.credit.fetch_sub(len, Ordering::AcqRel);
        self.stream.send(Push::Slice { channel: self.channel, ends, pieces });
    }

    /// Whether the follower has room for a push.
    pub fn has_credit(&self) -> bool {
        !self.ended && self.stream.has_credit()
    }

    /// The same; if it has none, the actor gets [`PushOn`] as soon as there is some.
    pub fn may_push(&self) -> bool {
        if self.ended || self.stream.closed.load(Ordering::Acquire) {
            return false;
        }
        if self.stream.has_credit() {
            return true;
        }
        self.stream.lock_starved().push_back(Arc::clone(&self.handle));
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
        let message = "the leader replica has stopped";
        self.end(Refusal::Error(Error::new(ErrorCode::LeaderNotAvailable, message).into()));
    }
}
