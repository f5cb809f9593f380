//! Batches on their way into the log of a leader: the machine decides about each, in the order in which they came.

use super::actor::PartitionActor;
use super::messages::{Append, Appended};
use super::responder::Responder;
use crate::clock::{now, wall_clock};
use actix::{Context, Handler};
use troupe_log::LogError;
use troupe_machines::config::FlushPolicy;
use troupe_machines::replica::{
    Acks, AppendDecision, AppendError, AppendFacts, Effects, Origin, Token, Verification,
};
use troupe_machines::time::Time;
use troupe_machines::txn::{ClientVersion, Producer};
use troupe_proto::batch::BatchHeader;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::Offset;
use troupe_proto::rope::Rope;

impl Handler<Append> for PartitionActor {
    type Result = ();

    fn handle(&mut self, append: Append, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        append.stages.take();
        let deadline = now().plus(append.timeout_ms.into());
        // Behind a batch of its producer that waits for the coordinator, it waits as well.
        if let Some(append) = self.verifications.queue(append, deadline) {
            self.decide(append, deadline, None, ctx);
        }
    }
}

impl PartitionActor {
    pub(super) fn decide(
        &mut self,
        append: Append,
        deadline: Time,
        verified: Option<Verification>,
        ctx: &mut Context<Self>,
    ) {
        if append.chain.as_ref().is_some_and(|chain| chain.is_broken()) {
            let message = "not appended, as one before it was not";
            let error = Error::new(ErrorCode::LeaderNotAvailable, message);
            return append.responder.answer(Err(error));
        }
        if let Err(error) = self.check_stands_firm() {
            return append.responder.answer(Err(error));
        }
        let facts = facts(&append, verified);
        match self.replica.decide_append(wall_clock(), &facts) {
            Ok(AppendDecision::Append(header)) => self.append(header, append, deadline, ctx),
            Ok(AppendDecision::Duplicate(duplicate)) => {
                let (acks, token) = (append.acks, self.park(append.responder));
                let mut effects = Effects::new();
                self.replica.on_duplicate(now(), duplicate, acks, token, deadline, &mut effects);
                self.perform(effects, ctx);
                self.answer_unpromised(acks, token);
            }
            Ok(AppendDecision::Verify(producer)) => self.verify(producer, append, deadline, ctx),
            Err(error @ AppendError::EarlierTransactionOpen { .. }) => {
                let Some(stamp) = append.batch.producer else {
                    return append.responder.answer(Err(error.into()));
                };
                let producer = Producer { id: stamp.id, epoch: stamp.epoch };
                self.await_marker(producer, (append, deadline), error, ctx);
            }
            Err(error) => {
                let Append { batch, chain, responder, budget, .. } = append;
                self.refuse(error, batch, chain, responder, budget);
            }
        }
    }

    /// A node that stood still may have been replaced.
    pub(super) fn check_stands_firm(&self) -> Result<(), Error> {
        if self.state.replicas.len() <= 1 || self.shared.stall_detector.is_fit() {
            return Ok(());
        }
        let message = "this node stood still and does not know yet whether it still leads";
        Err(Error::new(ErrorCode::LeaderNotAvailable, message))
    }

    fn append(
        &mut self,
        header: BatchHeader,
        append: Append,
        deadline: Time,
        ctx: &mut Context<Self>,
    ) {
        let Append { batch, acks, chain, responder, stages, .. } = append;
        if let Some(chain) = chain {
            chain.accept();
        }
        if let Err(error) = self.write(&header, &batch.payload, ctx) {
            responder.answer(Err(error.clone().into()));
            return self.after_failed_append(error, ctx);
        }
        stages.write();
        if self.config.flush_policy == FlushPolicy::Commit {
            self.unflushed.push_back((header.end_offset(), stages));
        }
        let token = self.park(responder);
        let mut effects = Effects::new();
        self.replica.on_appended(now(), &header, acks, token, deadline, &mut effects);
        self.answer_unpromised(acks, token);
        self.perform(effects, ctx);
    }

    /// Puts a batch at the end of the log, and on the way to the followers. The machine is to be told.
    pub(super) fn write(
        &mut self,
        header: &BatchHeader,
        payload: &Rope,
        ctx: &mut Context<Self>,
    ) -> Result<(), LogError> {
        let appended = self.try_append(header, payload)?;
        self.note_appended(header.encoded_len());
        if let Some(offset) = appended.rolled {
            self.snapshot_producers(offset);
            // The policy `os` asks for no flushes; without this one, recovery would read it all (S10).
            if self.config.flush_policy == FlushPolicy::Os {
                self.start_flush(ctx);
            }
        }
        self.board.metrics.appended(header.record_count, header.encoded_len());
        self.push_appended(header, payload);
        Ok(())
    }

    pub(super) fn note_flushed(&mut self, flushed_end: Offset) {
        while let Some((_, stages)) = self.unflushed.pop_front_if(|(end, _)| *end <= flushed_end) {
            stages.flush();
        }
    }

    /// With acks none the machine owes no answer; the client still gets one, without an offset.
    fn answer_unpromised(&mut self, acks: Acks, token: Token) {
        if acks == Acks::None
            && let Some(responder) = self.parked.remove(&token)
        {
            let log_start = self.replica.log_start();
            responder.answer(Ok(Appended {
                base_offset: None,
                log_append_time_ms: None,
                log_start,
                duplicate: false,
            }));
        }
    }

    pub(super) fn park(&mut self, responder: Responder<Appended>) -> Token {
        self.next_token += 1;
        let token = Token(self.next_token);
        self.parked.insert(token, responder);
        token
    }
}

fn facts(append: &Append, ticket: Option<Verification>) -> AppendFacts {
    let Append { batch, verified, acks, expected_leader_epoch, transactional_id, .. } = append;
    AppendFacts {
        producer: batch.producer,
        record_count: batch.record_count,
        base_timestamp: batch.base_timestamp,
        min_timestamp: verified.min_timestamp,
        max_timestamp: verified.max_timestamp,
        attributes: batch.attributes,
        payload_crc: verified.payload_crc,
        payload_len: u32::try_from(batch.payload.len()).expect("the decoder refuses larger ones"),
        keyless: verified.keyless,
        acks: *acks,
        expected_leader_epoch: *expected_leader_epoch,
        origin: Origin::Client,
        // All that come by this contract speak so.
        transaction: transactional_id.as_ref().map(|_| ClientVersion::Second),
        verified: ticket,
    }
}
