//! What the coordinator's actor is asked by those who are no member: offsets, and the tools' questions.

use super::aliases::GroupActor;
use super::message::{Commit, CommitAll, Delete, DeleteOffsets, Describe, Expel, Fetch, List};
use crate::clock::now;
use crate::coordinator::{Decided, RequestTime};
use actix::{Context, Handler};
use troupe_machines::group::{Change, Scope};
use troupe_proto::error::Error;

impl GroupActor {
    /// Whether a change comes in its time, and in its order.
    pub(super) fn check_order(
        &self,
        time: RequestTime,
        group: &str,
        scope: Scope<'_>,
    ) -> Result<(), Error> {
        let now = now();
        let came = time.came_before(now)?;
        Ok(self.machine.check_order(now, came, group, scope)?)
    }
}

impl GroupActor {
    /// Offsets that stand from now on.
    pub(super) fn count_commits(&self, changes: &[Change]) {
        let commits = changes.iter().filter(|change| change.is_commit()).count();
        self.home.node.metrics.offset_commits.increment(commits as u64);
    }
}

impl Handler<CommitAll> for GroupActor {
    type Result = ();

    fn handle(&mut self, CommitAll(commits): CommitAll, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        self.in_one_batch(ctx, |actor, ctx| {
            for commit in commits {
                actor.commit(commit, ctx);
            }
        });
    }
}

impl GroupActor {
    fn commit(&mut self, Commit { request, time, reply }: Commit, ctx: &mut Context<Self>) {
        let Some(reply) = self.admit(reply) else { return };
        let scope = Scope::Commits(&request);
        if let Err(error) = self.check_order(time, &request.group_id, scope) {
            return self.answer(reply, Err(error), ctx);
        }
        let decision = self.machine.commit(now(), request);
        self.count_commits(&decision.changes);
        self.decide(reply, Ok(decision.into()), ctx);
    }
}

impl Handler<Fetch> for GroupActor {
    type Result = ();

    fn handle(&mut self, Fetch { request, reply }: Fetch, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let Some(reply) = self.admit(reply) else { return };
        let answer = self.machine.fetch_offsets(&request).map_err(Error::from);
        self.answer(reply, answer, ctx);
    }
}

impl Handler<List> for GroupActor {
    type Result = ();

    fn handle(&mut self, List { reply }: List, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let Some(reply) = self.admit(reply) else { return };
        let mut groups = self.machine.list();
        for group in &mut groups {
            group.coordinator_id = self.home.node_id().0;
        }
        self.answer(reply, Ok(groups), ctx);
    }
}

impl Handler<Describe> for GroupActor {
    type Result = ();

    fn handle(&mut self, Describe { group, reply }: Describe, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let Some(reply) = self.admit(reply) else { return };
        let described = self.machine.describe(&group).map_err(Error::from).map(|mut described| {
            described.coordinator_id = self.home.node_id().0;
            described.coordinator_endpoint.clone_from(&self.home.node.endpoint);
            described
        });
        self.answer(reply, described, ctx);
    }
}

impl Handler<Delete> for GroupActor {
    type Result = ();

    fn handle(&mut self, Delete { group, time, reply }: Delete, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let Some(reply) = self.admit(reply) else { return };
        if let Err(error) = self.check_order(time, &group, Scope::Group) {
            return self.answer(reply, Err(error), ctx);
        }
        let decision = self.machine.delete_group(now(), &group);
        self.decide(reply, decision.map(Decided::from).map_err(Error::from), ctx);
    }
}

impl Handler<Expel> for GroupActor {
    type Result = ();

    fn handle(&mut self, Expel { request, reply }: Expel, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let Some(reply) = self.admit(reply) else { return };
        let decision = self.machine.expel(now(), &request);
        self.decide(reply, decision.map(Decided::from).map_err(Error::from), ctx);
    }
}

impl Handler<DeleteOffsets> for GroupActor {
    type Result = ();

    fn handle(&mut self, message: DeleteOffsets, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let Some(reply) = self.admit(message.reply) else { return };
        let scope = Scope::Partitions(&message.request.partitions);
        if let Err(error) = self.check_order(message.time, &message.request.group_id, scope) {
            return self.answer(reply, Err(error), ctx);
        }
        let decision = self.machine.delete_offsets(now(), message.request);
        self.decide(reply, decision.map(Decided::from).map_err(Error::from), ctx);
    }
}
