//! Markers, as a coordinator tells them; and what is known of the partition's producers.

use super::actor::PartitionActor;
use super::messages::{DescribeProducers, WriteMarker};
use super::responder::Responder;
use crate::clock::{now, wall_clock};
use actix::{Context, Handler};
use std::time::Instant;
use troupe_machines::replica::{Effects, MarkerDecision};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::rope::Rope;

impl Handler<WriteMarker> for PartitionActor {
    type Result = ();

    fn handle(&mut self, message: WriteMarker, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let WriteMarker { producer, marker, client_version, timeout_ms, until, responder } =
            message;
        if until.is_some_and(|until| until <= Instant::now()) {
            let message = "the marker waited until its time was over; it was not written";
            return responder.answer(Err(Error::new(ErrorCode::RequestTooLate, message)));
        }
        if let Err(error) = self.check_stands_firm() {
            return responder.answer(Err(error));
        }
        let (now, wall) = (now(), wall_clock());
        let built = match marker.batch(producer.id, producer.epoch, wall.as_timestamp()) {
            Ok(built) => built,
            Err(error) => {
                return responder.answer(Err(Error::new(error.code(), error.to_string())));
            }
        };
        let decided = match self.replica.decide_marker(wall, &built.header, client_version) {
            Ok(decided) => decided,
            Err(error) => return responder.answer(Err(error.into())),
        };
        let deadline = now.plus(timeout_ms.into());
        let mut effects = Effects::new();
        if let MarkerDecision::Append(header) = decided {
            if let Err(error) = self.write(&header, &Rope::from(built.payload), ctx) {
                responder.answer(Err(error.clone().into()));
                return self.after_failed_append(error, ctx);
            }
            let token = self.park(of_marker(responder));
            self.replica.on_marker_appended(
                now,
                &header,
                client_version,
                token,
                deadline,
                &mut effects,
            );
            self.perform(effects, ctx);
            self.end_awaiting_marker(producer.id, ctx);
        } else {
            let token = self.park(of_marker(responder));
            self.replica.on_marker_found(
                now,
                producer,
                client_version,
                token,
                deadline,
                &mut effects,
            );
            self.perform(effects, ctx);
        }
    }
}

fn of_marker(responder: Responder<()>) -> Responder<super::messages::Appended> {
    Responder::new(move |answer: Result<super::messages::Appended, Error>| {
        responder.answer(answer.map(drop));
    })
}

impl Handler<DescribeProducers> for PartitionActor {
    type Result = ();

    fn handle(&mut self, message: DescribeProducers, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let DescribeProducers { reply } = message;
        let leads = self.check_leads_in(None);
        // Whoever asked may be gone.
        let _ = reply.send(leads.map(|()| self.replica.producers().collect()));
    }
}
