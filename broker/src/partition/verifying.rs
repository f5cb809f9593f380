//! The first batch of a transaction: the coordinator adds the partition before it is appended (X19).
//!
//! A producer is told that its transaction is committed when that is decided, and begins the next one: its first batch
//! races with the marker. It waits for that; refused, it would come again after a pause that is longer by far.

use super::actor::{Asked, PartitionActor};
use super::messages::{Append, Verified};
use super::responder::Responder;
use actix::{AsyncContext, Context, Handler};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use troupe_machines::replica::{AppendError, Role};
use troupe_machines::time::Time;
use troupe_machines::txn::Producer;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::ProducerId;

/// How long a batch waits for the marker of the transaction before, which is on its way.
const MARKER_PATIENCE: Duration = Duration::from_millis(500);

impl PartitionActor {
    /// Has the coordinator asked; the batch waits for its word, and all later ones of its producer behind it.
    pub(super) fn verify(
        &mut self,
        producer: Producer,
        append: Append,
        deadline: Time,
        ctx: &mut Context<Self>,
    ) {
        let Some(id) = append.transactional_id.clone() else {
            let message = "a transactional batch without a transactional id";
            return append.responder.answer(Err(Error::new(ErrorCode::InvalidRecord, message)));
        };
        let ticket = self.replica.begin_verifying(producer);
        let handle = Arc::clone(&self.handle);
        // Also if it is forgotten.
        let word = Responder::new(move |result| {
            handle.hear_verified(Verified { producer, ticket, result });
        });
        let timeout = Duration::from_millis(append.timeout_ms.into());
        let alarm = ctx.run_later(timeout, move |actor, ctx| {
            let message =
                "the transaction's coordinator did not say in time whether it may open here";
            let error = Error::new(ErrorCode::CoordinatorNotAvailable, message);
            actor.verified(Verified { producer, ticket, result: Err(error) }, ctx);
        });
        let waiting = VecDeque::from([(append, deadline)]);
        self.verifications.begin(Asked { producer, ticket, waiting, alarm, asks: true });
        let partition = (Arc::clone(&self.board.topic), self.board.key);
        let reply = Box::new(move |result| word.answer(result));
        self.shared.transactions.add_partition(id, producer, partition, reply);
    }

    /// What comes before the marker of the transaction before waits for it, and all later ones of its producer behind it.
    pub(super) fn await_marker(
        &mut self,
        producer: Producer,
        (append, deadline): (Append, Time),
        error: AppendError,
        ctx: &mut Context<Self>,
    ) {
        let ticket = self.replica.begin_verifying(producer);
        let timeout = Duration::from_millis(append.timeout_ms.into()).min(MARKER_PATIENCE);
        let alarm = ctx.run_later(timeout, move |actor, ctx| {
            actor.verified(Verified { producer, ticket, result: Err(error.into()) }, ctx);
        });
        let waiting = VecDeque::from([(append, deadline)]);
        self.verifications.begin(Asked { producer, ticket, waiting, alarm, asks: false });
    }

    /// A marker of this producer is here.
    pub(super) fn end_awaiting_marker(&mut self, id: ProducerId, ctx: &mut Context<Self>) {
        let Some(asked) = self.verifications.end_before(id) else { return };
        ctx.cancel_future(asked.alarm);
        self.replica.end_verifying(asked.producer, asked.ticket);
        self.go_on(asked.waiting, ctx);
    }

    /// Who leads no more has nothing to wait for.
    pub(super) fn give_up_verifications(&mut self, ctx: &mut Context<Self>) {
        if self.verifications.is_empty() || self.replica.role() == Role::Leader {
            return;
        }
        for asked in self.verifications.drain() {
            ctx.cancel_future(asked.alarm);
            for (append, _) in asked.waiting {
                append.responder.answer(Err(AppendError::NotLeader.into()));
            }
        }
    }

    fn verified(&mut self, word: Verified, ctx: &mut Context<Self>) {
        let Verified { producer, ticket, result } = word;
        let Some(asked) = self.verifications.end(producer, ticket) else { return };
        ctx.cancel_future(asked.alarm);
        let mut waiting = asked.waiting;
        match result {
            Ok(()) => {
                let Some((first, deadline)) = waiting.pop_front() else { return };
                self.decide(first, deadline, Some(ticket), ctx);
            }
            Err(error) => {
                self.replica.end_verifying(producer, ticket);
                // Nothing was done, whatever became of the question.
                let error = match error.code {
                    ErrorCode::OutcomeUnknown => {
                        Error { code: ErrorCode::CoordinatorNotAvailable, ..error }
                    }
                    _ => error,
                };
                for (append, _) in waiting.drain(..) {
                    append.responder.answer(Err(error.clone()));
                }
            }
        }
        self.go_on(waiting, ctx);
    }

    fn go_on(&mut self, waiting: VecDeque<(Append, Time)>, ctx: &mut Context<Self>) {
        for (append, deadline) in waiting {
            // One before it may be waiting again.
            if let Some(append) = self.verifications.queue(append, deadline) {
                self.decide(append, deadline, None, ctx);
            }
        }
    }
}

impl Handler<Verified> for PartitionActor {
    type Result = ();

    fn handle(&mut self, word: Verified, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        self.verified(word, ctx);
    }
}
