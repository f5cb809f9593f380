//! What the coordinator's actor is asked, and told of markers.

use super::aliases::TxnActor;
use super::message::{Abort, Add, Describe, Described, End, Init, List, Marked, Verify};
use crate::clock::now;
use crate::coordinator::{Decided, Reply};
use actix::{AsyncContext, Context, Handler};
use std::time::Duration;
use tokio::time::Instant;
use troupe_machines::txn::{AddRequest, EndRequest, InitRequest, Producer, TxnPartition};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{PartitionId, ProducerId, TopicId};
use troupe_proto::log::v1 as pb;

/// How long what is to become part of a transaction waits for the one before to be completed.
const COMPLETION_PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked at meanwhile.
const WAITING: Duration = Duration::from_millis(100);

impl TxnActor {
    fn supply(&mut self, ids: Vec<ProducerId>) {
        let wanted = self.machine.wanted_ids();
        self.machine.supply(ids.into_iter().take(wanted));
    }

    /// Whoever asks next looks there whether ids are needed.
    fn tell_spare_ids(&self) {
        self.home.shared.set_spare_ids(self.machine.spare_ids());
    }
}

impl Handler<Init> for TxnActor {
    type Result = ();

    fn handle(&mut self, message: Init, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let Some(reply) = self.admit(message.reply) else { return };
        self.supply(message.ids);
        let (now, request) = (now(), message.request);
        let decided = message.time.came_before(now).and_then(|began| {
            let request = InitRequest {
                transactional_id: &request.transactional_id,
                timeout_ms: request.timeout_ms,
                version: request.version,
                known: request.known,
                once: request.once,
            };
            let decided: Decided<_, _> = self.machine.init(now, began, request)?.into();
            let Decided { changes, answer, told } = decided;
            Ok(Decided { changes, answer: answer.map_err(Error::from), told })
        });
        self.decide(reply, decided, ctx);
        self.tell_spare_ids();
    }
}

impl Handler<Add> for TxnActor {
    type Result = ();

    fn handle(&mut self, add: Add, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        self.add(add, Instant::now() + COMPLETION_PATIENCE, ctx);
    }
}

impl TxnActor {
    /// While the transaction before is being completed it waits for that: it is but a moment, and whoever asked would only
    /// ask again.
    fn add(&mut self, add: Add, until: Instant, ctx: &mut Context<Self>) {
        let Add { request, time, reply } = add;
        let Some(reply) = self.admit(reply) else { return };
        let now = now();
        let groups: Vec<&str> = request.groups.iter().map(String::as_str).collect();
        let decided = time.came_before(now).and_then(|began| {
            let request = AddRequest {
                transactional_id: &request.transactional_id,
                producer: request.producer,
                version: request.version,
                partitions: &request.partitions,
                groups: &groups,
            };
            let decided: Decided<_> = self.machine.add(now, began, request)?.into();
            let Decided { changes, told, .. } = decided;
            Ok(Decided { answer: !changes.is_empty(), changes, told })
        });
        match decided {
            Err(error)
                if error.code == ErrorCode::ConcurrentTransactions && Instant::now() < until =>
            {
                if self.audience.waiting.push(Add { request, time, reply }, until) {
                    // Also if it was completed by what tells nobody here, and to be refused in time.
                    ctx.run_later(WAITING, |actor, ctx| {
                        let waiting = actor.audience.waiting.take_all();
                        waiting.into_iter().for_each(|(add, until)| actor.add(add, until, ctx));
                    });
                }
            }
            decided => self.decide(reply, decided, ctx),
        }
    }

    /// Its transaction was completed, or may have been.
    fn go_on_with(&mut self, transactional_id: &str, ctx: &mut Context<Self>) {
        for (add, until) in self.audience.waiting.take(transactional_id) {
            self.add(add, until, ctx);
        }
    }
}

impl Handler<Verify> for TxnActor {
    type Result = ();

    fn handle(&mut self, Verify { request, reply }: Verify, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let Some(reply) = self.admit(reply) else { return };
        let verified = request.partitions.iter().try_for_each(|asked| {
            let partition = named(asked)?;
            let id = &request.transactional_id;
            Ok(self.machine.verify(id, request.producer, &partition)?)
        });
        self.answer(reply, verified, ctx);
    }
}

/// # Errors
/// `INVALID_REQUEST`: it does not say which.
fn named(asked: &pb::TopicPartition) -> Result<TxnPartition, Error> {
    let number = u32::try_from(asked.partition).ok();
    match (TopicId::from_wire(&asked.topic_id), number) {
        (Some(topic_id), Some(number)) => Ok(TxnPartition {
            topic: asked.topic.as_str().into(),
            topic_id,
            partition: PartitionId(number),
        }),
        _ => {
            let message = "the request names a partition without the id of its topic";
            Err(Error::new(ErrorCode::InvalidRequest, message))
        }
    }
}

impl Handler<End> for TxnActor {
    type Result = ();

    fn handle(&mut self, message: End, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let reply: Option<Reply<Producer>> = self.admit(message.reply);
        let Some(reply) = reply else { return };
        self.supply(message.ids);
        let now = now();
        let decided = message.time.came_before(now).and_then(|began| {
            let request = EndRequest {
                transactional_id: &message.transactional_id,
                producer: message.producer,
                outcome: message.outcome,
            };
            Ok(self.machine.end(now, began, request)?.into())
        });
        self.decide(reply, decided, ctx);
        self.tell_spare_ids();
    }
}

impl Handler<Marked> for TxnActor {
    type Result = ();

    fn handle(&mut self, Marked { life, words }: Marked, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        if life != self.audience.life() {
            return;
        }
        self.in_one_batch(ctx, |actor, ctx| {
            for word in words {
                let id = &word.transactional_id;
                let decided = actor.machine.marked(now(), id, word.ticket, word.partition);
                let completes = !decided.changes.is_empty();
                // What cannot be written is logged; the partition is told again, and says it again.
                if actor.settle(decided.into(), None, ctx).is_ok() && completes {
                    actor.go_on_with(id, ctx);
                }
            }
        });
    }
}

impl Handler<List> for TxnActor {
    type Result = ();

    fn handle(&mut self, List { reply }: List, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let Some(reply) = self.admit(reply) else { return };
        let listed = self.machine.list();
        self.answer(reply, Ok(listed), ctx);
    }
}

impl Handler<Describe> for TxnActor {
    type Result = ();

    fn handle(&mut self, Describe { transactional_id, reply }: Describe, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let Some(reply) = self.admit(reply) else { return };
        let coordinator = self.home.node_id();
        let described = self.machine.describe(&transactional_id).map_err(Error::from);
        let described = described.map(|known| Described { transactional_id, coordinator, known });
        self.answer(reply, described, ctx);
    }
}

impl Handler<Abort> for TxnActor {
    type Result = ();

    fn handle(&mut self, message: Abort, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let Some(reply) = self.admit(message.reply) else { return };
        let now = now();
        let decided = message.time.came_before(now);
        let decided =
            decided.and_then(|_| Ok(self.machine.abort(now, &message.transactional_id)?.into()));
        self.decide(reply, decided, ctx);
    }
}
