//! Deliveries out of what has been read.
//!
//! Damage is said when everything before it has been delivered and settled: the session ends with it, and what was
//! acknowledged would come to nothing. A record that is larger than the client takes is said at once.

use super::super::ack_id::{AckId, MAX_TEXT};
use super::super::deliveries::{Deliveries, Verdict};
use super::super::jobs;
use super::super::sessions::{Answer, Draw};
use super::{News, Next, Outlook, Session};
use crate::forward::Target;
use crate::grpc::Unwritten;
use crate::service::delivery::{AnswerWriter, At, Choice, Found, MOST_BYTES, Takes, delivery_len};
use bytes::Bytes;
use prost::Message;
use std::collections::VecDeque;
use std::fmt;
use tokio::time::Instant;
use troupe_proto::error::Error;
use troupe_proto::ids::{Offset, PartitionKey};
use troupe_proto::v1 as pb;

/// Of a result, with its id at its longest.
const RESULT_BYTES: usize = MAX_TEXT + 8;
/// Partitions of which one answer says that they stand still.
const MAX_NOTICES: usize = 16;

/// What an answer may hold.
#[derive(Clone, Copy)]
pub(in super::super) struct Room {
    pub records: usize,
    /// Or one record that is larger.
    pub bytes: usize,
}

/// What became of a record.
enum Drawn {
    Delivered(AckId),
    /// Nobody needs it.
    Passed,
    /// Nothing of its partition goes out now.
    Closed,
    /// Not in this answer.
    Full,
    TooLarge(Offset, pb::Notice),
}

/// What decides about a record.
struct Draft<'a> {
    deliveries: &'a mut Deliveries,
    writer: &'a mut AnswerWriter,
    takes: Takes,
    auto_ack: bool,
    room: usize,
    now: Instant,
}

impl Draft<'_> {
    fn consider(&mut self, target: &Target, found: &Found<'_>) -> (Choice, Drawn) {
        let offset = found.record.offset;
        let at = At { topic: &target.topic, partition: target.number() };
        let len = delivery_len(at, &found.record);
        if !self.takes.fits(len) && !self.deliveries.is_passed(&target.key, offset) {
            let notice = self.takes.notice(at, offset.to_wire(), len);
            let choice = if self.takes.skips { Choice::Take } else { Choice::Leave };
            return (choice, Drawn::TooLarge(offset, notice));
        }
        if self.writer.deliveries() > 0 && self.writer.len() + len > self.room {
            return (Choice::Leave, Drawn::Full);
        }
        match self.deliveries.offer(&target.key, offset, found.size(), self.now) {
            Verdict::Wait => (Choice::Leave, Drawn::Full),
            Verdict::Closed => (Choice::Leave, Drawn::Closed),
            Verdict::Pass => (Choice::Take, Drawn::Passed),
            Verdict::Deliver(id) => {
                let shown: Option<&dyn fmt::Display> = if self.auto_ack { None } else { Some(&id) };
                self.writer.push(at, found, shown, id.attempt);
                (Choice::Take, Drawn::Delivered(id))
            }
        }
    }
}

impl Session {
    /// Something can go out now.
    pub fn can_deliver(&self) -> bool {
        match self.intake.outlook() {
            Outlook::Nothing | Outlook::Unpacking => false,
            Outlook::Record(size) => self.deliveries.has_room(size.unwrap_or(0)),
            // What ends the stream waits until everything before it is settled, and confirmed if it is to be.
            Outlook::Damaged(key) => {
                self.deliveries.is_settled(&key) && self.commits.confirming() == 0
            }
        }
    }

    pub fn has_news(&self) -> bool {
        let News { results, assignment, notices } = &self.news;
        !results.is_empty() || assignment.is_some() || !notices.is_empty()
    }

    /// The next message of the stream, of about so many bytes, and how many it has; none if there is nothing to say.
    ///
    /// # Errors
    /// What is stored is damaged.
    pub fn respond(&mut self, bytes: usize) -> Result<Option<(Vec<Bytes>, usize)>, Error> {
        if !self.has_news() && !self.can_deliver() {
            return Ok(None);
        }
        let count = self.news.results.len().min((bytes / RESULT_BYTES / 2).max(1));
        let mut writer = AnswerWriter::new();
        let room = Room { records: usize::MAX, bytes: bytes.saturating_sub(count * RESULT_BYTES) };
        match self.draw(&mut writer, room) {
            // The next call fails again: what else there is to say goes first.
            Err(error) if !self.has_news() => return Err(error),
            Ok(_) | Err(_) => {}
        }
        let results = &mut self.news.results;
        let settle_results: Vec<_> = results.drain(..count).collect();
        if results.is_empty() {
            // What a burst needed is not kept.
            *results = VecDeque::new();
        }
        let (assignment, notice) = (self.news.assignment.take(), self.news.notices.pop_front());
        let rest =
            pb::SubscribeResponse { deliveries: Vec::new(), settle_results, assignment, notice };
        let len = writer.len() + rest.encoded_len();
        Ok((len > 0).then(|| (writer.finish(&rest), len)))
    }

    /// The message that says only that the stream lives, and how many bytes it has.
    pub fn still_there() -> (Vec<Bytes>, usize) {
        (AnswerWriter::new().finish(&pb::SubscribeResponse::default()), 0)
    }

    /// Adds deliveries, which are out from then on.
    ///
    /// # Errors
    /// What is stored is damaged. Every later call fails too.
    fn draw(&mut self, writer: &mut AnswerWriter, room: Room) -> Result<Vec<AckId>, Error> {
        let drawn = self.draw_all(writer, room);
        self.intake.release();
        drawn
    }

    fn draw_all(&mut self, writer: &mut AnswerWriter, room: Room) -> Result<Vec<AckId>, Error> {
        let (mut ids, now) = (Vec::new(), Instant::now());
        while ids.len() < room.records {
            let mut draft = Draft {
                deliveries: &mut self.deliveries,
                writer: &mut *writer,
                takes: self.options.takes,
                auto_ack: self.options.auto_ack,
                room: room.bytes,
                now,
            };
            match self.intake.visit(|target, found| draft.consider(target, found)) {
                Next::Nothing if !self.deliveries.has_room(0) || !self.fill_now()? => break,
                Next::Nothing | Next::Seen(_, Drawn::Passed) => {}
                Next::Packed | Next::Seen(_, Drawn::Full) => break,
                Next::End(key, next) => {
                    self.deliveries.pass(&key, next);
                    self.intake.end();
                }
                Next::Damaged(key) => {
                    let last = ids.is_empty() && self.deliveries.is_settled(&key);
                    match self.intake.damage().filter(|_| last) {
                        Some(error) => return Err(error.clone()),
                        None => break,
                    }
                }
                Next::Seen(_, Drawn::Delivered(id)) => ids.push(id),
                Next::Seen(key, Drawn::Closed) => self.intake.remove(&key),
                Next::Seen(key, Drawn::TooLarge(offset, notice)) => {
                    self.on_too_large(key, offset, notice);
                }
            }
        }
        Ok(ids)
    }

    /// A record does not fit into what the client takes: its partition stands still there, unless it is passed over.
    fn on_too_large(&mut self, key: PartitionKey, offset: Offset, notice: pb::Notice) {
        if self.options.takes.skips {
            self.deliveries.pass(&key, offset.plus(1));
            self.news.notices.push_back(notice);
            return;
        }
        self.intake.remove(&key);
        // What was delivered before may be delivered again, and then it is the same record.
        if self.blocked.get(&key) != Some(&notice) {
            self.news.notices.push_back(notice.clone());
            self.blocked.insert(key, notice);
        }
    }

    fn fill_now(&mut self) -> Result<bool, Error> {
        match self.intake.fill_now() {
            Ok(filled) => Ok(filled),
            Err(failed) => {
                self.on_not_read(failed)?;
                Ok(!matches!(self.intake.outlook(), Outlook::Nothing))
            }
        }
    }

    /// Has those who wait for deliveries get some.
    ///
    /// # Errors
    /// What is stored is damaged.
    pub fn serve_draws(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        self.draws.retain(|draw| !draw.reply.is_closed());
        // To those whose callers are about to give up, nothing is given any more.
        self.answer_overdue(|draw| draw.answer_by.is_some_and(|by| by <= now));
        while let Some(draw) = self.draws.front()
            && self.can_deliver()
        {
            let (records, bytes) =
                (draw.max_records, MOST_BYTES.min(self.options.takes.message_bytes));
            let mut writer = AnswerWriter::new();
            let ids = self.draw(&mut writer, Room { records, bytes })?;
            let notices = std::mem::take(&mut self.news.notices);
            let told = notices.into_iter().filter(|notice| notice.record_too_large.is_some());
            let notices: Vec<_> = told.take(MAX_NOTICES).collect();
            if ids.is_empty() && notices.is_empty() {
                break;
            }
            let Some(draw) = self.draws.pop_front() else { break };
            let answer = self.answer(writer, ids, notices, Some(&draw));
            // Whoever asked may be gone: then the answer comes back.
            let _ = draw.reply.send(Ok(answer));
        }
        self.answer_overdue(|draw| draw.until <= now);
        Ok(())
    }

    /// Nothing came in time.
    fn answer_overdue(&mut self, is_overdue: impl Fn(&Draw) -> bool) {
        while let Some(at) = self.draws.iter().position(&is_overdue) {
            let Some(draw) = self.draws.remove(at) else { return };
            let notices = self.blocked.values().take(MAX_NOTICES).cloned().collect();
            let answer = self.answer(AnswerWriter::new(), Vec::new(), notices, None);
            // Whoever asked may be gone.
            let _ = draw.reply.send(Ok(answer));
        }
    }

    /// An answer that tells if it does not reach whoever asked.
    fn answer(
        &mut self,
        writer: AnswerWriter,
        ids: Vec<AckId>,
        notices: Vec<pb::Notice>,
        draw: Option<&Draw>,
    ) -> Answer {
        let pieces = writer.finish(&pb::PullResponse { deliveries: Vec::new(), notices });
        let Some(draw) = draw.filter(|_| !ids.is_empty() && !self.options.auto_ack) else {
            return Answer { pieces, unwritten: Unwritten::default() };
        };
        let (now, lease) = (Instant::now(), self.options.max_processing);
        let (id, closed) = self.receipts.open(ids, now, draw.deadline, lease);
        if let Some(connection) = draw.connection.clone() {
            self.jobs.push(Box::pin(jobs::connection_broke(connection, closed, id)));
        }
        let returned = self.returned.0.clone();
        let unwritten = Unwritten::new(move || {
            // The session may have ended, and given everything back.
            let _ = returned.send(id);
        });
        Answer { pieces, unwritten }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::subscription::ack_id::echo;

    #[test]
    fn no_result_is_larger_than_it_counts() {
        let ack_id = echo("x".repeat(3 << 20));
        let result = pb::SettleResult { ack_id, outcome: pb::SettleOutcome::UnknownId.into() };
        let response =
            pb::SubscribeResponse { settle_results: vec![result; 100], ..Default::default() };
        assert!(response.encoded_len() <= 100 * RESULT_BYTES);
    }
}
