//! How a coordinator's actor answers what it is asked.
//!
//! Promise: no answer is given before all that it may rest on is committed.

use super::actor::CoordinatorActor;
use super::machine::{Decided, Machine};
use super::message::Reply;
use super::outbox::Answer;
use actix::Context;
use troupe_proto::error::Error;

/// An answer that is owed; it may rest on what is not committed yet.
fn later<T: Send + 'static>(reply: Reply<T>, answer: Result<T, Error>) -> Answer {
    Box::new(move |committed| {
        // Whoever asked may be gone.
        let _ = reply.send(committed.and(answer));
    })
}

impl<M: Machine> CoordinatorActor<M> {
    /// A question: its answer is told when all that it may rest on is committed.
    pub fn answer<T: Send + 'static>(
        &mut self,
        reply: Reply<T>,
        answer: Result<T, Error>,
        ctx: &mut Context<Self>,
    ) {
        // Only what is written can be refused.
        let _ = self.settle(Decided::nothing(), Some(later(reply, answer)), ctx);
    }

    /// Carries out a decision, and answers when it is committed.
    pub fn decide<T: Send + 'static>(
        &mut self,
        reply: Reply<T>,
        decided: Result<Decided<M, T>, Error>,
        ctx: &mut Context<Self>,
    ) {
        match decided {
            Ok(Decided { changes, answer, told }) => {
                let decided = Decided { changes, answer: (), told };
                // The answer tells.
                let _ = self.settle(decided, Some(later(reply, Ok(answer))), ctx);
            }
            Err(error) => self.answer(reply, Err(error), ctx),
        }
    }

    /// Whether the question can be answered now; else it has been, with the reason.
    pub fn admit<T>(&self, reply: Reply<T>) -> Option<Reply<T>> {
        match self.check_takes() {
            Ok(()) => Some(reply),
            Err(error) => {
                // Whoever asked may be gone.
                let _ = reply.send(Err(error));
                None
            }
        }
    }
}
