//! What a leader's actor pushes to its followers, and how fast.
//!
//! Promises: a follower gets each batch once, in order, and no more than it gives credit for. Who is in sync is never
//! held back; who is not, and whom the topic lists for it, gets no more than `leader.replication.throttled.rate` of this
//! node, over all of its partitions (A13).
//! Never here: who follows, and what it says.

use super::actor::{FollowerStream, PartitionActor};
use super::messages::{PushOn, Suspicion};
use super::soundness::read_again;
use crate::page_cache;
use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use bytes::Bytes;
use std::collections::BTreeSet;
use troupe_log::ReadSlice;
use troupe_proto::batch::BatchHeader;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{NodeId, Offset};
use troupe_proto::rope::Rope;

/// One push; a batch larger than that goes whole.
const PUSH_BYTES: usize = 1 << 20;
/// Pushed to one follower in one turn of the actor; then others have theirs.
const PUSH_BYTES_PER_TURN: usize = 4 << 20;

/// Why no more is pushed to a follower for now.
enum Stopped {
    /// It has all, or somebody says when it goes on.
    Done,
    /// Others have their turn first.
    Turn,
    /// The rate does not allow it yet.
    Throttled,
    Damaged(Suspicion),
}

impl PartitionActor {
    /// A batch that was just appended goes out as it lies in memory, to whoever has all before it.
    pub(super) fn push_appended(&mut self, header: &BatchHeader, payload: &Rope) {
        if self.followers.is_empty() {
            return;
        }
        let ends = self.replica.leader_ends();
        let held_back = self.held_back();
        let (replica, throttle) = (&self.replica, &self.shared.throttles.leader);
        let head = Bytes::copy_from_slice(&header.encode(replica.key()));
        for (node, stream) in &mut self.followers.streams {
            let is_next = stream.next == header.base_offset;
            let is_held_back = held_back.contains(node);
            if is_held_back && !throttle.wait().is_zero() {
                continue;
            }
            if is_next && stream.sink.has_credit() && replica.has_stream(*node, stream.session) {
                if is_held_back {
                    throttle.sent(head.len() + payload.len());
                }
                let mut pieces = Vec::with_capacity(1 + payload.pieces().len());
                pieces.push(head.clone());
                pieces.extend(payload.pieces().cloned());
                stream.sink.push(ends, stream.next, pieces);
                (stream.next, stream.told) = (header.end_offset(), ends);
            }
        }
    }

    /// Pushes to every follower what it has not got, as long as it gives credit.
    pub(super) fn push(&mut self, ctx: &mut Context<Self>) {
        if self.followers.is_empty() {
            return;
        }
        let replica = &self.replica;
        let ended = |node: &NodeId, stream: &mut FollowerStream| {
            let stands = replica.has_stream(*node, stream.session);
            if !stands {
                let message = "the leader epoch of the stream is over";
                stream.sink.refuse(Error::new(ErrorCode::FencedLeaderEpoch, message));
            }
            stands
        };
        self.followers.streams.retain(ended);
        let ends = self.replica.leader_ends();
        let round = self.replica.round();
        let held_back = self.held_back();
        let (mut streams, mut again) = (std::mem::take(&mut self.followers.streams), false);
        let (mut is_throttled, mut suspicion) = (false, None);
        for (node, stream) in &mut streams {
            // Not behind batches that wait for credit.
            if stream.asked < round {
                stream.sink.ask(ends, round);
                (stream.asked, stream.told) = (round, ends);
            }
            match self.push_to(*node, stream, held_back.contains(node), ctx) {
                Stopped::Done => {}
                Stopped::Turn => again = true,
                Stopped::Throttled => is_throttled = true,
                Stopped::Damaged(found) => suspicion = Some(found),
            }
        }
        let untold = streams.values().any(|stream| stream.told != ends);
        self.followers.streams = streams;
        if again {
            self.board.message_sent();
            ctx.notify(PushOn);
        }
        if untold && !self.followers.telling {
            self.followers.telling = true;
            ctx.run_later(self.shared.ends_delay, |actor, _| actor.tell_ends());
        }
        if is_throttled && !self.followers.is_paced {
            self.followers.is_paced = true;
            ctx.run_later(self.shared.throttles.leader.pause(), |actor, ctx| {
                actor.followers.is_paced = false;
                actor.push(ctx);
            });
        }
        if let Some(found) = suspicion {
            let told = self.explain(found, ctx);
            tracing::error!(partition = %self.board, error = %told, "cannot be replicated");
        }
    }

    /// What one follower has not got, as far as it may be sent in this turn.
    fn push_to(
        &mut self,
        node: NodeId,
        stream: &mut FollowerStream,
        is_held_back: bool,
        ctx: &mut Context<Self>,
    ) -> Stopped {
        let (ends, log_end) = (self.replica.leader_ends(), self.replica.log_end());
        let (mut budget, mut most) = (PUSH_BYTES_PER_TURN, PUSH_BYTES);
        while stream.next < log_end {
            if stream.waits() || !stream.sink.may_push() {
                return Stopped::Done;
            }
            if budget == 0 {
                return Stopped::Turn;
            }
            if is_held_back {
                let throttle = &self.shared.throttles.leader;
                if !throttle.wait().is_zero() {
                    return Stopped::Throttled;
                }
                most = throttle.push_bytes(PUSH_BYTES);
            }
            let read = self.read_for_follower(stream.next, log_end, most).and_then(|slice| {
                if stream.begins_to_wait(slice.is_resident()) {
                    return Ok((slice, false));
                }
                self.check_for_follower(&slice, stream.next).map(|()| (slice, true))
            });
            match read {
                Ok((slice, false)) => {
                    self.fetch(node, stream.next, slice.bytes, ctx);
                    return Stopped::Done;
                }
                Ok((slice, true)) => {
                    if is_held_back {
                        self.shared.throttles.leader.sent(slice.bytes.len());
                    }
                    budget = budget.saturating_sub(slice.bytes.len());
                    stream.sink.push(ends, stream.next, vec![slice.bytes]);
                    (stream.next, stream.told) = (slice.end, ends);
                }
                Err(found) => {
                    stream.sink.refuse(read_again());
                    return Stopped::Damaged(found);
                }
            }
        }
        Stopped::Done
    }

    /// The followers that are sent no more than the rate: of a replica that the topic lists, all that are not in sync.
    fn held_back(&self) -> BTreeSet<NodeId> {
        let listed = &self.config.leader_throttled_replicas;
        if !listed.contains(self.board.key.partition, self.shared.node_id) {
            return BTreeSet::new();
        }
        let in_sync = self.replica.isr().unwrap_or_default();
        let streams = self.followers.streams.keys().copied();
        streams.filter(|node| !in_sync.contains(node)).collect()
    }

    /// Below the high watermark nothing can change, and the mapped file is pushed as it lies, once it was checked.
    fn read_for_follower(
        &mut self,
        from: Offset,
        end: Offset,
        most: usize,
    ) -> Result<ReadSlice, Suspicion> {
        let high_watermark = self.replica.high_watermark();
        if from < high_watermark {
            let slice = self.log().read(from, high_watermark, most)?;
            // Nothing: between the two lies a gap, or the batch that holds the offset reaches further.
            if !slice.is_empty() {
                return Ok(slice);
            }
        }
        Ok(self.log().read_copy(from, end, most)?)
    }

    fn check_for_follower(&self, slice: &ReadSlice, from: Offset) -> Result<(), Suspicion> {
        let checked = troupe_log::check_batches(&slice.bytes, self.replica.key(), from);
        checked.map_err(|bad| Suspicion::At(bad.at))
    }

    /// Whoever checks a page that is not in memory waits for the disk, and the whole shard with it.
    fn fetch(&self, node: NodeId, from: Offset, bytes: Bytes, ctx: &mut Context<Self>) {
        let fetched = async move { page_cache::make_resident(&bytes).await };
        ctx.spawn(fetched.into_actor(self).map(move |(), actor, ctx| {
            actor.followers.fetched(node, from);
            actor.push(ctx);
        }));
    }

    fn tell_ends(&mut self) {
        self.followers.telling = false;
        let ends = self.replica.leader_ends();
        let replica = &self.replica;
        for (node, stream) in &mut self.followers.streams {
            if stream.told != ends && replica.has_stream(*node, stream.session) {
                stream.sink.tell(ends);
                stream.told = ends;
            }
        }
    }
}
