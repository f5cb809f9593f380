//! Deliveries out of what has been read.
//!
//! Damage is said when everything before it has been delivered and settled: the session ends with it, and what was
//! acknowledged would come to nothing. A record that is larger than the client takes is said at once.

use super::super::ack_id::{AckId, MAX_TEXT};
use super::super::deliveries::{Deliveries, Verdict};
use super::super::jobs;
use super::super::receipts::AnswerId;
use super::super::sessions::{Answer, Draw};
use super::{News, Next, Outlook, Returned, Session};
use crate::forward::Target;
use crate::grpc::Unwritten;
use crate::service::delivery::{
    AnswerWriter, At, Choice, Found, MOST_BYTES, Space, Takes, delivery_len,
};
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
/// Of one answer. So many that wait, and nothing is read on that may need another one.
const MAX_NOTICES: usize = 16;

/// What an answer may hold.
#[derive(Clone, Copy)]
struct Room {
    records: usize,
    space: Space,
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
    space: Space,
    now: Instant,
}

impl Draft<'_> {
    fn consider(&mut self, target: &Target, found: &Found<'_>) -> (Choice, Drawn) {
        let offset = found.record.offset;
        let at = At { topic: &target.topic, partition: target.number() };
        let len = delivery_len(at, &found.record);
        let is_passed = || self.deliveries.is_passed(&target.key, offset);
        if !self.takes.fits(len) && !is_passed() {
            let notice = self.takes.notice(at, offset.to_wire(), len);
            let choice = if self.takes.skips { Choice::Take } else { Choice::Leave };
            return (choice, Drawn::TooLarge(offset, notice));
        }
        if !self.space.takes(self.writer, len) && !is_passed() {
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
        let takes = self.options.takes;
        let rest = self.take_rest(bytes.min(takes.message_bytes));
        let rest_len = rest.encoded_len();
        let mut writer = AnswerWriter::new();
        let room = Room { records: usize::MAX, space: takes.space(bytes, rest_len) };
        match self.draw(&mut writer, room) {
            // The next call fails again: what else there is to say goes first.
            Err(error) if rest_len == 0 && !self.has_news() => return Err(error),
            Ok(_) | Err(_) => {}
        }
        let len = writer.len() + rest_len;
        Ok((len > 0).then(|| (writer.finish(&rest), len)))
    }

    /// What the next message of about so many bytes says beside its records: before them, and so a record that does
    /// not find space beside it waits for the next one.
    fn take_rest(&mut self, bytes: usize) -> pb::SubscribeResponse {
        let (assignment, notice) = (self.news.assignment.take(), self.news.notices.pop_front());
        let least = usize::from(assignment.is_none());
        let rest = pb::SubscribeResponse { assignment, notice, ..Default::default() };
        let free = (bytes / 2).saturating_sub(rest.encoded_len());
        let results = &mut self.news.results;
        let count = results.len().min((free / RESULT_BYTES).max(least));
        let settle_results: Vec<_> = results.drain(..count).collect();
        if results.is_empty() {
            // What a burst needed is not kept.
            *results = VecDeque::new();
        }
        pb::SubscribeResponse { settle_results, ..rest }
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
        while ids.len() < room.records && self.news.notices.len() < MAX_NOTICES {
            let mut draft = Draft {
                deliveries: &mut self.deliveries,
                writer: &mut *writer,
                takes: self.options.takes,
                auto_ack: self.options.auto_ack,
                space: room.space,
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
            && (self.can_deliver() || !self.news.notices.is_empty())
        {
            let records = draw.max_records;
            let waiting = self.news.notices.len().min(MAX_NOTICES);
            let notices: Vec<_> = self.news.notices.drain(..waiting).collect();
            let rest = pb::PullResponse { deliveries: Vec::new(), notices };
            let space = self.options.takes.space(MOST_BYTES, rest.encoded_len());
            let mut writer = AnswerWriter::new();
            let ids = match self.draw(&mut writer, Room { records, space }) {
                Ok(ids) => ids,
                Err(error) if rest.notices.is_empty() => return Err(error),
                // The next call fails again: what else there is to say goes first.
                Err(_) => Vec::new(),
            };
            if ids.is_empty() && rest.notices.is_empty() {
                match self.news.notices.is_empty() {
                    true => break,
                    // Come up just now.
                    false => continue,
                }
            }
            let Some(draw) = self.draws.pop_front() else { break };
            let answer = self.answer(writer, ids, rest.notices, Some(&draw));
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
        let rest = pb::PullResponse { deliveries: Vec::new(), notices };
        let pieces = writer.finish(&rest);
        let Some(draw) = draw else { return Answer { pieces, unwritten: Unwritten::default() } };
        let id =
            (!ids.is_empty() && !self.options.auto_ack).then(|| self.expect_receipt(ids, draw));
        if id.is_none() && rest.notices.is_empty() {
            return Answer { pieces, unwritten: Unwritten::default() };
        }
        let back = self.returned.0.clone();
        let unwritten = Unwritten::new(move || {
            // The session may have ended, and given everything back.
            let _ = back.send(Returned { answer: id, notices: rest.notices });
        });
        Answer { pieces, unwritten }
    }

    /// These go out to somebody from whom it is not known yet whether they arrive.
    fn expect_receipt(&mut self, ids: Vec<AckId>, draw: &Draw) -> AnswerId {
        let (now, lease) = (Instant::now(), self.options.max_processing);
        let (id, closed) = self.receipts.open(ids, now, draw.deadline, lease);
        if let Some(connection) = draw.connection.clone() {
            self.jobs.push(Box::pin(jobs::connection_broke(connection, closed, id)));
        }
        id
    }

    /// An answer reached nobody: what it gave is given again, and what it said is said again.
    pub(super) fn on_returned(&mut self, Returned { answer, notices }: Returned) {
        if let Some(answer) = answer {
            let lost = self.receipts.lost(answer);
            self.take_back(lost);
        }
        for notice in notices.into_iter().rev() {
            self.news.notices.push_front(notice);
        }
    }

    /// Of what is to be told, single calls hear only what they would miss: records that do not come.
    pub fn keep_news_for_calls(&mut self) {
        let News { results, assignment, notices } = &mut self.news;
        (*results, *assignment) = (VecDeque::new(), None);
        let is_kept = |it: &pb::Notice| it.record_too_large.is_some() || it.position_lost.is_some();
        notices.retain(is_kept);
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
