//! Deliveries out of what has been read.
//!
//! Damage is said when everything before it has been delivered and settled: the session ends with it, and what was
//! acknowledged would come to nothing.

use super::super::ack_id::MAX_TEXT;
use super::super::deliveries::Verdict;
use super::{News, Next, Session, size_of};
use crate::service::delivery;
use std::collections::VecDeque;
use tokio::time::Instant;
use troupe_proto::error::Error;
use troupe_proto::v1 as pb;

/// Records of one message; generated clients refuse messages over 4 MiB.
const MESSAGE_BYTES: usize = 1 << 20;
/// Of a delivery, beside topic and record.
const OVERHEAD: usize = 96;
/// Of a result, with its id at its longest.
const RESULT_BYTES: usize = MAX_TEXT + 8;
const RESULTS: usize = MESSAGE_BYTES / RESULT_BYTES / 2;

impl Session {
    /// Something can go out now.
    pub fn can_deliver(&mut self) -> bool {
        match self.intake.next() {
            Next::Nothing => false,
            Next::Record(_, record) => {
                let size = size_of(record);
                self.deliveries.has_room(size)
            }
            Next::End(..) => true,
            Next::Damaged(key, _) => self.deliveries.is_settled(&key),
        }
    }

    pub fn has_news(&self) -> bool {
        let News { results, assignment, notices } = &self.news;
        !results.is_empty() || assignment.is_some() || !notices.is_empty()
    }

    /// The next message of the stream; none if there is nothing to say.
    ///
    /// # Errors
    /// What is stored is damaged.
    pub fn respond(&mut self) -> Result<Option<pb::SubscribeResponse>, Error> {
        if !self.has_news() && !self.can_deliver() {
            return Ok(None);
        }
        let count = self.news.results.len().min(RESULTS);
        let deliveries = match self.draw(usize::MAX, MESSAGE_BYTES - count * RESULT_BYTES) {
            // The next call fails again: what else there is to say goes first.
            Err(_) if self.has_news() => Vec::new(),
            drawn => drawn?,
        };
        let results = &mut self.news.results;
        let settle_results: Vec<_> = results.drain(..count).collect();
        if results.is_empty() {
            // What a burst needed is not kept.
            *results = VecDeque::new();
        }
        let assignment = self.news.assignment.take();
        let notice = self.news.notices.pop_front();
        let response = pb::SubscribeResponse { deliveries, settle_results, assignment, notice };
        Ok((response != pb::SubscribeResponse::default()).then_some(response))
    }

    /// Takes deliveries, which are out from then on: so many at most, and so many bytes, or one that is larger.
    ///
    /// # Errors
    /// What is stored is damaged. Every later call fails too.
    pub fn draw(
        &mut self,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<pb::Delivery>, Error> {
        let (mut drawn, mut bytes, now) = (Vec::new(), 0, Instant::now());
        while drawn.len() < max_records {
            let (key, offset, size, len) = match self.intake.next() {
                Next::Nothing => {
                    if !self.deliveries.has_room(0) || !self.fill_now()? {
                        break;
                    }
                    continue;
                }
                Next::Record(target, record) => {
                    let size = size_of(record);
                    let len = size + target.topic.len() + OVERHEAD + 8 * record.headers.len();
                    (target.key, record.offset, size, len)
                }
                Next::End(key, next) => {
                    self.deliveries.pass(&key, next);
                    self.intake.end();
                    continue;
                }
                Next::Damaged(key, error) => {
                    if drawn.is_empty() && self.deliveries.is_settled(&key) {
                        return Err(error.clone());
                    }
                    break;
                }
            };
            if !drawn.is_empty() && bytes + len > max_bytes {
                break;
            }
            match self.deliveries.offer(&key, offset, size, now) {
                Verdict::Wait => break,
                Verdict::Closed => self.intake.remove(&key),
                Verdict::Pass => drop(self.intake.take()),
                Verdict::Deliver(id) => {
                    let topic = self.deliveries.get(&key).map(|held| held.target.topic.to_string());
                    let Some(record) = self.intake.take() else { continue };
                    let partition = i32::try_from(key.partition.0).unwrap_or(i32::MAX);
                    let mut delivery =
                        delivery::delivery(topic.unwrap_or_default(), partition, record);
                    delivery.attempt = i32::try_from(id.attempt).unwrap_or(i32::MAX);
                    if !self.options.auto_ack {
                        delivery.ack_id = id.to_text();
                    }
                    bytes += len;
                    drawn.push(delivery);
                }
            }
        }
        Ok(drawn)
    }

    fn fill_now(&mut self) -> Result<bool, Error> {
        match self.intake.fill_now() {
            Ok(filled) => Ok(filled),
            Err(failed) => {
                self.on_not_read(failed)?;
                Ok(!matches!(self.intake.next(), Next::Nothing))
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
        while !self.draws.is_empty() && self.can_deliver() {
            let max_records = self.draws.front().map_or(0, |draw| draw.max_records);
            let deliveries = self.draw(max_records, MESSAGE_BYTES)?;
            if deliveries.is_empty() {
                break;
            }
            let Some(draw) = self.draws.pop_front() else { break };
            if let Err(Ok(lost)) = draw.reply.send(Ok(deliveries)) {
                // Whoever asked is gone: the next one gets them.
                for id in lost.iter().filter_map(|delivery| delivery.ack_id.parse().ok()) {
                    self.deliveries.take_back(&id);
                }
                self.tend();
            }
        }
        while let Some(at) = self.draws.iter().position(|draw| draw.until <= now) {
            if let Some(draw) = self.draws.remove(at) {
                // Nothing came in time; whoever asked may be gone.
                let _ = draw.reply.send(Ok(Vec::new()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::subscription::ack_id::echo;
    use prost::Message;

    #[test]
    fn no_result_is_larger_than_it_counts() {
        let ack_id = echo("x".repeat(3 << 20));
        let result = pb::SettleResult { ack_id, outcome: pb::SettleOutcome::UnknownId.into() };
        let response =
            pb::SubscribeResponse { settle_results: vec![result; RESULTS], ..Default::default() };
        assert!(response.encoded_len() <= RESULTS * RESULT_BYTES);
    }
}
