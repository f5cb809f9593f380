//! What members ask of their coordinator, and how they are heard to go.

use super::aliases::GroupActor;
use super::message::{Disconnected, Join, UpdateMember};
use crate::clock::now;
use crate::coordinator::Decided;
use actix::{Context, Handler};
use troupe_machines::group::{Decision, GroupError, SessionId};
use troupe_proto::error::Error;
use troupe_proto::log::v1 as pb;

/// Of a member's record, what all but the host and the subscription may take.
const MEMBER_BYTES: usize = 4 << 10;

impl Handler<Join> for GroupActor {
    type Result = ();

    fn handle(&mut self, join: Join, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let Join { session, new_member_id, host, start, sink } = join;
        let asked = start.subscription.as_ref();
        if let Err(error) = self.check_takes().and_then(|()| self.check_fits(asked, &host)) {
            return sink.end(Some(error));
        }
        self.audience.join(session, sink);
        let decision = self.machine.join(now(), session, new_member_id, &host, start);
        self.settle_of(session, decision, ctx);
    }
}

impl Handler<UpdateMember> for GroupActor {
    type Result = ();

    fn handle(&mut self, UpdateMember { session, request }: UpdateMember, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        if !self.audience.contains(session) {
            return;
        }
        if let Some(number) = request.applied {
            let decision = self.machine.applied(now(), session, number);
            // What cannot be written is logged; the member is told when its time is over.
            let _ = self.settle(decision.into(), None, ctx);
        }
        if let Some(subscription) = request.subscription {
            if let Err(error) = self.check_fits(Some(&subscription), "") {
                return self.expel(session, error, ctx);
            }
            let decision = self.machine.subscribe(now(), session, subscription);
            self.settle_of(session, decision, ctx);
        }
        if request.leave {
            let decision = self.machine.leave(now(), session);
            let mut decided = Decided::from(decision);
            decided.told.farewell = self.audience.remove(session);
            // What cannot be written is logged; the stream ends either way.
            let _ = self.settle(decided, None, ctx);
        }
    }
}

impl Handler<Disconnected> for GroupActor {
    type Result = ();

    fn handle(&mut self, Disconnected(session): Disconnected, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        // Also of one whose stream was ended here: if it is a member still, its time runs from now on.
        self.machine.disconnected(now(), session);
        if let Some(sink) = self.audience.remove(session) {
            sink.end(None);
        }
        self.set_alarm(ctx);
    }
}

impl GroupActor {
    /// What a member asked for: done, or its stream ends, as soon as what that rests on is committed.
    fn settle_of(
        &mut self,
        session: SessionId,
        decision: Result<Decision<()>, GroupError>,
        ctx: &mut Context<Self>,
    ) {
        let decision = decision.unwrap_or_else(|error| Decision {
            changes: Vec::new(),
            answer: (),
            pushes: Vec::new(),
            ended: vec![(session, error)],
        });
        if let Err(error) = self.settle(decision.into(), None, ctx) {
            self.expel(session, error, ctx);
        }
    }

    /// The stream ends; if it was a member's, that one is away.
    fn expel(&mut self, session: SessionId, error: Error, ctx: &mut Context<Self>) {
        self.machine.disconnected(now(), session);
        if let Some(sink) = self.audience.remove(session) {
            sink.end(Some(error));
        }
        self.set_alarm(ctx);
    }

    /// Whether a member that says so much of itself can be remembered.
    fn check_fits(&self, asked: Option<&pb::Subscription>, host: &str) -> Result<(), Error> {
        let subscription = asked.map_or(0, prost::Message::encoded_len);
        self.check_len(subscription + host.len() + MEMBER_BYTES)
    }
}
