//! The actor's part in replication: as a leader it pushes, as a follower it takes over.

use super::actor::{FollowerStream, PartitionActor};
use super::messages::{
    CloseFollower, FollowerReport, FromLeader, IsrAnswer, LeaderSays, OpenFollower, PushOn, Slice,
    Suspicion,
};
use super::opening::decode_snapshot;
use super::soundness::read_again;
use crate::clock::now;
use crate::page_cache;
use actix::{ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use bytes::Bytes;
use std::sync::Arc;
use troupe_log::{LogError, ReadSlice};
use troupe_machines::replica::{
    Effects, FollowSession, LeaderEnds, Opening, ReplicationEffect, SliceError,
};
use troupe_proto::batch::{BatchHeader, Batches};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{NodeId, Offset};
use troupe_proto::rope::Rope;

/// One push; a batch larger than that goes whole.
const PUSH_BYTES: usize = 1 << 20;
/// Pushed to one follower in one turn of the actor; then others have theirs.
const PUSH_BYTES_PER_TURN: usize = 4 << 20;

impl Handler<OpenFollower> for PartitionActor {
    type Result = ();

    fn handle(&mut self, open: OpenFollower, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let OpenFollower { follower, position, mut sink } = open;
        let node = follower.node;
        let end = position.end.log_end;
        let epoch_end =
            position.last_epoch.and_then(|epoch| self.log().end_offset_for_follower(epoch, end));
        let mut effects = Effects::new();
        let opened =
            self.replica.on_follower_opened(now(), follower, &position, epoch_end, &mut effects);
        match opened {
            Ok(Opening::Stream { session, from, ends }) => {
                sink.accept(ends);
                let stream = FollowerStream::new(session, sink, from, ends);
                self.followers.streams.insert(node, stream);
            }
            Ok(Opening::Diverging(divergence)) => sink.diverge(divergence),
            Ok(Opening::OutOfRange { log_start, log_end }) => sink.out_of_range(log_start, log_end),
            Err(error) => sink.refuse(error.into()),
        }
        self.perform(effects, ctx);
    }
}

impl Handler<CloseFollower> for PartitionActor {
    type Result = ();

    fn handle(&mut self, CloseFollower { node, name }: CloseFollower, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let Some(stream) = self.followers.of(node, name) else { return };
        let session = stream.session;
        self.followers.streams.remove(&node);
        let mut effects = Effects::new();
        self.replica.on_follower_closed(now(), node, session, &mut effects);
        self.perform(effects, ctx);
    }
}

impl Handler<FollowerReport> for PartitionActor {
    type Result = ();

    fn handle(&mut self, report: FollowerReport, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let FollowerReport { node, name, end, round } = report;
        let Some(stream) = self.followers.of(node, name) else { return };
        let session = stream.session;
        let mut effects = Effects::new();
        self.replica.on_follower_end(now(), node, session, end, &mut effects);
        self.replica.on_follower_confirmed(node, session, round, &mut effects);
        self.board.publish_lag(self.followers.lag(self.replica.log_end()));
        self.perform(effects, ctx);
    }
}

impl Handler<PushOn> for PartitionActor {
    type Result = ();

    fn handle(&mut self, _: PushOn, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        self.push(ctx);
    }
}

impl Handler<IsrAnswer> for PartitionActor {
    type Result = ();

    fn handle(&mut self, IsrAnswer { request, result }: IsrAnswer, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let before = self.replica.isr().map_or(0, <[NodeId]>::len);
        let mut effects = Effects::new();
        self.replica.on_alter_partition_answer(now(), &request, result, &mut effects);
        let after = self.replica.isr().map_or(0, <[NodeId]>::len);
        if before != after && after > 0 {
            tracing::info!(partition = %self.board, before, after, "the ISR changed");
            self.shared.metrics.isr_changed(before, after);
        }
        self.perform(effects, ctx);
    }
}

impl Handler<FromLeader> for PartitionActor {
    type Result = ();

    fn handle(&mut self, FromLeader { session, says }: FromLeader, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let mut effects = Effects::new();
        match says {
            LeaderSays::Batches { slices, ends, round, credit } => {
                let taken = self.take_over(session, slices, ends, &mut effects);
                drop(credit);
                if let Err(error) = taken {
                    self.perform(effects, ctx);
                    return self.go_offline(error, ctx);
                }
                self.replica.on_asked(session, round, &mut effects);
            }
            LeaderSays::Diverging(divergence) => {
                let own = divergence
                    .leader_epoch
                    .and_then(|epoch| self.log().end_offset_for_epoch(epoch));
                tracing::info!(partition = %self.board, ?divergence, "parts from its leader");
                self.replica.on_diverged(now(), session, divergence, own, &mut effects);
            }
            LeaderSays::OutOfRange { log_start, log_end } => {
                self.replica.on_out_of_range(now(), session, log_start, log_end, &mut effects);
            }
            LeaderSays::Closed(error) => {
                tracing::debug!(partition = %self.board, ?error, "its leader's stream is closed");
                self.replica.on_stream_closed(now(), session, &mut effects);
            }
        }
        self.perform(effects, ctx);
    }
}

impl PartitionActor {
    /// A batch that was just appended goes out as it lies in memory, to whoever has all before it.
    pub(super) fn push_appended(&mut self, header: &BatchHeader, payload: &Rope) {
        if self.followers.is_empty() {
            return;
        }
        let ends = self.replica.leader_ends();
        let replica = &self.replica;
        let head = Bytes::copy_from_slice(&header.encode(replica.key()));
        for (node, stream) in &mut self.followers.streams {
            let is_next = stream.next == header.base_offset;
            if is_next && stream.sink.has_credit() && replica.has_stream(*node, stream.session) {
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
        let (ends, log_end) = (self.replica.leader_ends(), self.replica.log_end());
        let round = self.replica.round();
        let (mut streams, mut again) = (std::mem::take(&mut self.followers.streams), false);
        let mut suspicion = None;
        for (node, stream) in &mut streams {
            // Not behind batches that wait for credit.
            if stream.asked < round {
                stream.sink.ask(ends, round);
                (stream.asked, stream.told) = (round, ends);
            }
            let mut budget = PUSH_BYTES_PER_TURN;
            while stream.next < log_end {
                if stream.waits() || !stream.sink.may_push() {
                    break;
                }
                if budget == 0 {
                    again = true;
                    break;
                }
                let read = self.read_for_follower(stream.next, log_end).and_then(|slice| {
                    if stream.begins_to_wait(slice.is_resident()) {
                        return Ok((slice, false));
                    }
                    self.check_for_follower(&slice, stream.next).map(|()| (slice, true))
                });
                match read {
                    Ok((slice, false)) => {
                        self.fetch(*node, stream.next, slice.bytes, ctx);
                        break;
                    }
                    Ok((slice, true)) => {
                        budget = budget.saturating_sub(slice.bytes.len());
                        stream.sink.push(ends, stream.next, vec![slice.bytes]);
                        (stream.next, stream.told) = (slice.end, ends);
                    }
                    Err(found) => {
                        stream.sink.refuse(read_again());
                        suspicion = Some(found);
                        break;
                    }
                }
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
        if let Some(told) = suspicion.and_then(|found| self.examine(found, ctx)) {
            tracing::error!(partition = %self.board, error = %told, "cannot be replicated");
        }
    }

    /// Below the high watermark nothing can change, and the mapped file is pushed as it lies, once it was checked.
    fn read_for_follower(&mut self, from: Offset, end: Offset) -> Result<ReadSlice, Suspicion> {
        let high_watermark = self.replica.high_watermark();
        if from < high_watermark {
            let slice = self.log().read(from, high_watermark, PUSH_BYTES)?;
            // Nothing: between the two lies a gap, or the batch that holds the offset reaches further.
            if !slice.is_empty() {
                return Ok(slice);
            }
        }
        Ok(self.log().read_copy(from, end, PUSH_BYTES)?)
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

    /// Appends what the leader sent. An error is the disk's: the replica goes offline.
    fn take_over(
        &mut self,
        session: FollowSession,
        slices: Vec<Slice>,
        ends: LeaderEnds,
        effects: &mut Effects,
    ) -> Result<(), LogError> {
        let now = now();
        for Slice { read_from, batches } in slices {
            if batches.is_empty() {
                continue;
            }
            let headers = match headers(&batches) {
                Ok(headers) => headers,
                Err(error) => {
                    self.leave_stream(session, &error, effects);
                    return Ok(());
                }
            };
            match self.replica.check_slice(session, read_from, &headers) {
                Ok(()) => {}
                Err(SliceError::StaleSession) => return Ok(()),
                Err(error) => {
                    self.leave_stream(session, &error, effects);
                    return Ok(());
                }
            }
            let bytes = batches.len();
            let appended = match self.try_append_frames(batches) {
                Ok(appended) => appended,
                Err(
                    error @ (LogError::BadFrames { .. }
                    | LogError::NotNext { .. }
                    | LogError::EpochWentBack { .. }),
                ) => {
                    self.leave_stream(session, &error, effects);
                    return Ok(());
                }
                Err(error) if error.is_temporary() && !self.log().is_poisoned() => {
                    return self.fall_behind(session, &error, effects);
                }
                Err(error) => return Err(error),
            };
            self.note_appended(bytes);
            let records = headers.iter().map(|header| header.record_count).sum();
            self.board.metrics.replicated(records, bytes);
            self.replicated(session, &headers, ends, appended.rolled, effects);
        }
        self.replica.on_replicated(now, session, &[], ends, effects);
        Ok(())
    }

    /// A snapshot of the producers belongs before the batch that opened a segment.
    fn replicated(
        &mut self,
        session: FollowSession,
        headers: &[BatchHeader],
        ends: LeaderEnds,
        rolled: Option<Offset>,
        effects: &mut Effects,
    ) {
        let now = now();
        let split = rolled.map_or(0, |offset| {
            headers.iter().take_while(|header| header.base_offset < offset).count()
        });
        let (before, after) = headers.split_at(split);
        if let Some(offset) = rolled {
            self.replica.on_replicated(now, session, before, ends, effects);
            self.snapshot_producers(offset);
        }
        self.replica.on_replicated(now, session, after, ends, effects);
    }

    fn leave_stream(
        &mut self,
        session: FollowSession,
        error: &dyn std::fmt::Display,
        effects: &mut Effects,
    ) {
        tracing::warn!(partition = %self.board, %error, "what the leader sent is not taken");
        self.shared.leader_streams.close(self.board.key, session);
        self.replica.on_stream_closed(now(), session, effects);
    }

    /// What the machine wants of other nodes, or of the log on their account.
    pub(super) fn perform_replication(
        &mut self,
        effect: ReplicationEffect,
        ctx: &mut Context<Self>,
    ) -> Result<Effects, LogError> {
        let mut effects = Effects::new();
        match effect {
            ReplicationEffect::AlterPartition(request) => {
                self.shared.controller.alter_partition(&self.handle, request);
            }
            ReplicationEffect::ElectionNeeded { leader_epoch } => {
                self.shared.controller.report_failed_leader(self.board.key, leader_epoch);
            }
            ReplicationEffect::Open { leader, session } => {
                if let Some(from) = self.gap_to_drop() {
                    self.replica.on_stream_closed(now(), session, &mut effects);
                    self.drop_behind_gap(from)?;
                    return Ok(effects);
                }
                let log_end = self.log().log_end();
                let last_epoch = (log_end > self.log().log_start())
                    .then(|| self.log().epoch_at(Offset(log_end.0 - 1)))
                    .flatten();
                match self.replica.position(last_epoch) {
                    Some(position) => {
                        let leader_streams = Arc::clone(&self.shared.leader_streams);
                        leader_streams.open(leader, &self.handle, session, position);
                    }
                    None => self.replica.on_stream_closed(now(), session, &mut effects),
                }
            }
            ReplicationEffect::Close { session } => {
                self.shared.leader_streams.close(self.board.key, session);
            }
            ReplicationEffect::ReportEnd { session, end } => {
                self.shared.leader_streams.report(self.board.key, session, end, 0);
            }
            ReplicationEffect::Confirm { session, round, end } => {
                self.shared.leader_streams.report(self.board.key, session, end, round);
            }
            ReplicationEffect::Truncate { to } => {
                self.truncate(to, ctx);
            }
            ReplicationEffect::ResetTo { offset } => {
                self.reset(offset, ctx);
            }
            ReplicationEffect::DeleteBefore { offset } => {
                return self.delete_before(offset, ctx);
            }
        }
        Ok(effects)
    }

    fn truncate(&mut self, to: Offset, ctx: &mut Context<Self>) {
        let high_watermark = self.replica.high_watermark();
        let before = self.log().log_end();
        if to < high_watermark {
            tracing::warn!(
                partition = %self.board, to = to.0, high_watermark = high_watermark.0,
                "cuts off records that were committed, after an unclean election"
            );
        }
        match self.truncate_to(to, high_watermark) {
            Ok(()) => {
                let after = self.log().log_end();
                tracing::info!(partition = %self.board, from = before.0, to = after.0, "cut its log");
                self.follow_on(ctx);
            }
            Err(error) => self.go_offline(error, ctx),
        }
    }

    pub(super) fn truncate_to(
        &mut self,
        to: Offset,
        high_watermark: Offset,
    ) -> Result<(), LogError> {
        let log_start = self.replica.log_start();
        let log_end = self.log().truncate_to(to, high_watermark)?;
        if log_end <= log_start {
            // It is truncated within the first batch, of which the beginning was deleted: nothing is left to read.
            if log_end < log_start {
                self.log().truncate_fully_and_start_at(log_start)?;
            }
            self.replica.on_reset(log_start);
            self.board.set_dirty();
            self.board.publish_high_watermark(log_start);
            return Ok(());
        }
        let snapshot = self.log().newest_producer_snapshot()?;
        let decoded = snapshot.as_ref().and_then(|(_, bytes)| decode_snapshot(bytes));
        let usable = snapshot.as_ref().filter(|_| decoded.is_some());
        let replay_from = self.log().replay_from(usable.map(|(offset, _)| *offset));
        self.replica.on_truncated(log_end, decoded.as_ref());
        let (now, replica) = (now(), &mut self.replica);
        if let Some(log) = &self.log {
            log.replay(replay_from, |header| replica.on_recovered_batch(now, header))?;
        }
        self.board.set_dirty();
        self.board.publish_high_watermark(self.replica.high_watermark());
        Ok(())
    }

    fn reset(&mut self, offset: Offset, ctx: &mut Context<Self>) {
        tracing::warn!(partition = %self.board, offset = offset.0, "drops its log and starts anew");
        match self.log().truncate_fully_and_start_at(offset) {
            Ok(()) => {
                self.replica.on_reset(offset);
                self.follow_on(ctx);
            }
            Err(error) => self.go_offline(error, ctx),
        }
    }

    fn follow_on(&mut self, ctx: &mut Context<Self>) {
        self.board.publish_high_watermark(self.replica.high_watermark());
        let mut effects = Effects::new();
        self.replica.continue_following(now(), &mut effects);
        self.perform(effects, ctx);
    }
}

fn headers(batches: &Bytes) -> Result<Vec<BatchHeader>, troupe_proto::batch::BatchError> {
    let batches = Batches::new(batches.clone());
    batches.map(|batch| batch.map(|(header, _)| header)).collect()
}
