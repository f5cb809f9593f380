//! Deliveries out of what has been read.
//!
//! Damage is said when everything before it has been delivered and settled: the session ends with it, and what was
//! acknowledged would come to nothing. A record that is larger than the client takes is said at once.

use super::state::{News, Session};
use crate::forward::Target;
use crate::operations::delivery::{
    At, Beside, Choice, Deliveries as Drawing, Found, Notice, Space, Takes,
};
use crate::operations::subscriptions::ack_id::{AckId, MAX_TEXT};
use crate::operations::subscriptions::deliveries::{Deliveries, Verdict};
use crate::operations::subscriptions::intake::{Next, Outlook};
use crate::operations::subscriptions::response::SubscribeRest;
use std::collections::VecDeque;
use std::fmt;
use tokio::time::Instant;
use troupe_proto::error::Error;
use troupe_proto::ids::{Offset, PartitionKey};

/// Of a result, with its id at its longest.
pub const RESULT_BYTES: usize = MAX_TEXT + 8;
/// Of one answer. So many that wait, and nothing is read on that may need another one.
pub(super) const MAX_NOTICES: usize = 16;

/// What an answer may hold.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub records: usize,
    pub space: Space,
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
    TooLarge(Offset, Notice),
}

/// What decides about a record.
struct Draft<'a, D> {
    deliveries: &'a mut Deliveries,
    answer: &'a mut D,
    takes: Takes,
    auto_ack: bool,
    space: Space,
    now: Instant,
}

impl<D: Drawing> Draft<'_, D> {
    fn consider(&mut self, target: &Target, found: &Found<'_>) -> (Choice, Drawn) {
        let offset = found.record.offset;
        let at = At { topic: &target.topic, partition: target.number() };
        let len = D::bytes_of(at, &found.record);
        let is_passed = || self.deliveries.is_passed(&target.key, offset);
        if !self.takes.fits(len) && !is_passed() {
            let notice = self.takes.notice(at, offset, len);
            let choice = if self.takes.skips { Choice::Take } else { Choice::Leave };
            return (choice, Drawn::TooLarge(offset, notice));
        }
        if !self.space.takes(self.answer, len) && !is_passed() {
            return (Choice::Leave, Drawn::Full);
        }
        match self.deliveries.offer(&target.key, offset, found.size(), self.now) {
            Verdict::Wait => (Choice::Leave, Drawn::Full),
            Verdict::Closed => (Choice::Leave, Drawn::Closed),
            Verdict::Pass => (Choice::Take, Drawn::Passed),
            Verdict::Deliver(id) => {
                let shown: Option<&dyn fmt::Display> = if self.auto_ack { None } else { Some(&id) };
                self.answer.push(at, found, shown, id.attempt);
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
    pub fn respond<D: Beside<SubscribeRest>>(
        &mut self,
        bytes: usize,
    ) -> Result<Option<(D, SubscribeRest, usize)>, Error> {
        if !self.has_news() && !self.can_deliver() {
            return Ok(None);
        }
        let takes = self.options.takes;
        let (rest, rest_len) = self.take_rest::<D>(bytes.min(takes.message_bytes));
        let mut answer = D::default();
        let room = Room { records: usize::MAX, space: takes.space(bytes, rest_len) };
        match self.draw(&mut answer, room) {
            // The next call fails again: what else there is to say goes first.
            Err(error) if rest_len == 0 && !self.has_news() => return Err(error),
            Ok(_) | Err(_) => {}
        }
        let len = answer.bytes() + rest_len;
        Ok((len > 0).then_some((answer, rest, len)))
    }

    /// What the next message of about so many bytes says beside its records: before them, and so a record that does
    /// not find space beside it waits for the next one. And how long that makes it.
    fn take_rest<D: Beside<SubscribeRest>>(&mut self, bytes: usize) -> (SubscribeRest, usize) {
        let (assignment, notice) = (self.news.assignment.take(), self.news.notices.pop_front());
        let least = usize::from(assignment.is_none());
        let told = SubscribeRest { assignment, notice, ..Default::default() };
        let told_len = D::bytes_beside(&told);
        let free = (bytes / 2).saturating_sub(told_len);
        let results = &mut self.news.results;
        let count = results.len().min((free / RESULT_BYTES).max(least));
        let settle_results = results.drain(..count).collect();
        if results.is_empty() {
            // What a burst needed is not kept.
            *results = VecDeque::new();
        }
        let settled = SubscribeRest { settle_results, ..Default::default() };
        let len = told_len + D::bytes_beside(&settled);
        (SubscribeRest { settle_results: settled.settle_results, ..told }, len)
    }

    /// Adds deliveries, which are out from then on.
    ///
    /// # Errors
    /// What is stored is damaged. Every later call fails too.
    pub(super) fn draw<D: Drawing>(
        &mut self,
        answer: &mut D,
        room: Room,
    ) -> Result<Vec<AckId>, Error> {
        let drawn = self.draw_all(answer, room);
        self.intake.release();
        drawn
    }

    fn draw_all<D: Drawing>(&mut self, answer: &mut D, room: Room) -> Result<Vec<AckId>, Error> {
        let (mut ids, now) = (Vec::new(), Instant::now());
        while ids.len() < room.records && self.news.notices.len() < MAX_NOTICES {
            let mut draft = Draft {
                deliveries: &mut self.deliveries,
                answer: &mut *answer,
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
    fn on_too_large(&mut self, key: PartitionKey, offset: Offset, notice: Notice) {
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
}
