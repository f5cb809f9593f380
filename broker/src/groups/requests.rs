//! What the coordinator's actor is asked by those who are no member: offsets, and the tools' questions.

use super::actor::CoordinatorActor;
use super::message::{
    Commit, CommitAll, Delete, DeleteOffsets, Describe, Fetch, List, Order, Reply,
};
use super::outbox::Answer;
use crate::clock::now;
use actix::{Context, Handler};
use tokio::time::Instant;
use troupe_machines::group::{Decision, GroupError, Scope};
use troupe_machines::time::Time;
use troupe_proto::error::{Error, ErrorCode};

/// An answer that is owed; it may rest on what is not committed yet.
fn later<T: Send + 'static>(reply: Reply<T>, answer: Result<T, Error>) -> Answer {
    Box::new(move |committed| {
        // Whoever asked may be gone.
        let _ = reply.send(committed.and(answer));
    })
}

impl CoordinatorActor {
    /// A question: its answer is told when all that it may rest on is committed.
    fn answer<T: Send + 'static>(
        &mut self,
        reply: Reply<T>,
        answer: Result<T, Error>,
        ctx: &mut Context<Self>,
    ) {
        let nothing =
            Decision { changes: Vec::new(), answer: (), pushes: Vec::new(), ended: Vec::new() };
        // Only what is written can be refused.
        let _ = self.settle(nothing, Some(later(reply, answer)), None, ctx);
    }

    fn decide<T: Clone + Send + 'static>(
        &mut self,
        reply: Reply<T>,
        decision: Result<Decision<T>, GroupError>,
        ctx: &mut Context<Self>,
    ) {
        match decision {
            Ok(decision) => {
                let answer = later(reply, Ok(decision.answer.clone()));
                // The answer tells.
                let _ = self.settle(decision, Some(answer), None, ctx);
            }
            Err(error) => self.answer(reply, Err(error.into()), ctx),
        }
    }

    /// Whether a change comes in its time, and in its order.
    fn check_order(&self, order: Order, group: &str, scope: Scope<'_>) -> Result<(), Error> {
        let now = now();
        if order.until <= Instant::now() {
            let message =
                "the request waited for the coordinator until its time was over; nothing was done";
            return Err(Error::new(ErrorCode::RequestTooLate, message));
        }
        let age = u64::try_from(order.came.elapsed().as_millis()).unwrap_or(u64::MAX);
        let came = Time(now.0.saturating_sub(age));
        Ok(self.groups.check_order(now, came, group, scope)?)
    }

    /// Whether the question can be answered now; else it has been, with the reason.
    fn admit<T>(&self, reply: Reply<T>) -> Option<Reply<T>> {
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

impl Handler<CommitAll> for CoordinatorActor {
    type Result = ();

    fn handle(&mut self, CommitAll(commits): CommitAll, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        self.outbox.hold();
        for commit in commits {
            self.commit(commit, ctx);
        }
        self.outbox.release();
        self.append(ctx);
    }
}

impl CoordinatorActor {
    fn commit(&mut self, Commit { request, order, reply }: Commit, ctx: &mut Context<Self>) {
        let Some(reply) = self.admit(reply) else { return };
        let scope = Scope::Commits(&request);
        if let Err(error) = self.check_order(order, &request.group_id, scope) {
            return self.answer(reply, Err(error), ctx);
        }
        let decision = self.groups.commit(now(), request);
        self.handle.metrics.offset_commits.increment(decision.changes.len() as u64);
        self.decide(reply, Ok(decision), ctx);
    }
}

impl Handler<Fetch> for CoordinatorActor {
    type Result = ();

    fn handle(&mut self, Fetch { request, reply }: Fetch, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let Some(reply) = self.admit(reply) else { return };
        let answer = self.groups.fetch_offsets(&request).map_err(Error::from);
        self.answer(reply, answer, ctx);
    }
}

impl Handler<List> for CoordinatorActor {
    type Result = ();

    fn handle(&mut self, List { reply }: List, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let Some(reply) = self.admit(reply) else { return };
        let mut groups = self.groups.list();
        for group in &mut groups {
            group.coordinator_id = self.handle.node_id.0;
        }
        self.answer(reply, Ok(groups), ctx);
    }
}

impl Handler<Describe> for CoordinatorActor {
    type Result = ();

    fn handle(&mut self, Describe { group, reply }: Describe, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let Some(reply) = self.admit(reply) else { return };
        let described = self.groups.describe(&group).map_err(Error::from).map(|mut described| {
            described.coordinator_id = self.handle.node_id.0;
            described.coordinator_endpoint.clone_from(&self.handle.endpoint);
            described
        });
        self.answer(reply, described, ctx);
    }
}

impl Handler<Delete> for CoordinatorActor {
    type Result = ();

    fn handle(&mut self, Delete { group, order, reply }: Delete, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let Some(reply) = self.admit(reply) else { return };
        if let Err(error) = self.check_order(order, &group, Scope::Group) {
            return self.answer(reply, Err(error), ctx);
        }
        let decision = self.groups.delete_group(now(), &group);
        self.decide(reply, decision, ctx);
    }
}

impl Handler<DeleteOffsets> for CoordinatorActor {
    type Result = ();

    fn handle(&mut self, message: DeleteOffsets, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let Some(reply) = self.admit(message.reply) else { return };
        let scope = Scope::Partitions(&message.request.partitions);
        if let Err(error) = self.check_order(message.order, &message.request.group_id, scope) {
            return self.answer(reply, Err(error), ctx);
        }
        let decision = self.groups.delete_offsets(now(), message.request);
        self.decide(reply, decision, ctx);
    }
}
