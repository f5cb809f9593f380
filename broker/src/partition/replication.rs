//! The actor's part in replication: what followers say to it, and what its leader sends, which it takes over.
//!
//! Never here: what a leader pushes; see `pushing`.

use super::actor::{FollowerStream, PartitionActor};
use super::messages::{
    CloseFollower, FollowerReport, FromLeader, IsrAnswer, LeaderSays, OpenFollower, PushOn, Slice,
};
use super::opening::{decode_snapshot, note_completed};
use crate::clock::now;
use actix::{Context, Handler};
use bytes::Bytes;
use std::sync::Arc;
use troupe_log::LogError;
use troupe_machines::replica::{
    Effects, FollowSession, LeaderEnds, Opening, ReplicationEffect, SliceError,
};
use troupe_proto::batch::{BatchHeader, Batches};
use troupe_proto::ids::{NodeId, Offset};

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
            Ok(Opening::BeginAnew { log_start }) => sink.begin_anew(log_start),
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
            LeaderSays::BeginAnew { log_start } => {
                tracing::info!(partition = %self.board, "needs tombstones that its leader has not got any more");
                self.replica.on_begin_anew(session, log_start, &mut effects);
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
    /// Appends what the leader sent. An error is the disk's: the replica goes offline.
    fn take_over(
        &mut self,
        session: FollowSession,
        slices: Vec<Slice>,
        ends: LeaderEnds,
        effects: &mut Effects,
    ) -> Result<(), LogError> {
        let now = now();
        if let Some(below) = self.replica.tombstones_to_note(session, ends) {
            match self.log().note_tombstones_gone(below) {
                Ok(()) => self.replica.on_tombstones_gone(below),
                Err(error) if error.is_temporary() && !self.log().is_poisoned() => {
                    return self.fall_behind(session, &error, effects);
                }
                Err(error) => return Err(error),
            }
        }
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

    /// Whether it is filled no faster than `follower.replication.throttled.rate`: the topic lists it for that, and it is
    /// not in sync.
    fn is_throttled_follower(&self) -> bool {
        let (partition, node_id) = (self.board.key.partition, self.shared.node_id);
        self.config.follower_throttled_replicas.contains(partition, node_id)
            && !self.state.isr.contains(&node_id)
    }

    /// Who has come to be in sync is held back no longer, and who is listed or not by now neither waits.
    pub(super) fn follow_at_its_pace(&mut self, effects: &mut Effects) {
        if self.follows_throttled != self.is_throttled_follower() {
            self.replica.follow_anew(effects);
        }
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
                        self.follows_throttled = self.is_throttled_follower();
                        let throttled = self.follows_throttled;
                        leader_streams.open(leader, &self.handle, session, position, throttled);
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
            self.publish_ends();
            return Ok(());
        }
        let snapshot = self.log().newest_producer_snapshot()?;
        let decoded = snapshot.as_ref().and_then(|(_, bytes)| decode_snapshot(bytes));
        let usable = snapshot.as_ref().filter(|_| decoded.is_some());
        let replay_from = self.log().replay_from(usable.map(|(offset, _)| *offset));
        self.replica.on_truncated(log_end, decoded.as_ref());
        let (now, replica) = (now(), &mut self.replica);
        if let Some(log) = &mut self.log {
            let mut completed = Vec::new();
            log.replay(replay_from, |header| {
                completed.extend(replica.on_recovered_batch(now, header));
            })?;
            completed.iter().try_for_each(|completed| note_completed(log, completed))?;
        }
        self.board.set_dirty();
        self.publish_ends();
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
        self.publish_ends();
        let mut effects = Effects::new();
        self.replica.continue_following(now(), &mut effects);
        self.perform(effects, ctx);
    }
}

fn headers(batches: &Bytes) -> Result<Vec<BatchHeader>, troupe_proto::batch::BatchError> {
    let batches = Batches::new(batches.clone());
    batches.map(|batch| batch.map(|(header, _)| header)).collect()
}
