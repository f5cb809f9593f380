//! What to do with a batch that asks to be appended. Reads the replica, changes nothing.

use super::leading::Leadership;
use super::producers::Verdict;
use super::role::RoleState;
use super::{Acks, AppendDecision, AppendError, AppendFacts, Origin, Replica};
use crate::config::TimestampType;
use crate::time::Time;
use crate::txn::Producer;
use troupe_proto::batch::{BatchHeader, ProducerStamp};
use troupe_proto::ids::{LeaderEpoch, ProducerEpoch, Sequence};

impl Replica {
    /// What to do with a batch; changes nothing. The leader's own conditions come first (R1, P15), then
    /// whether the batch is here already (I4), then of which transaction it is (X11), and what it holds (T13–T15, T18):
    /// a batch that was accepted once is a success again, even if the rules have changed.
    pub fn decide_append(
        &self,
        now: Time,
        facts: &AppendFacts,
    ) -> Result<AppendDecision, AppendError> {
        let leadership = self.leading(facts.expected_leader_epoch)?;
        if facts.acks == Acks::All {
            self.enough_replicas(leadership)?;
        }
        check_shape(facts)?;
        let mut opens = None;
        if let Some(stamp) = &facts.producer {
            match self.producers.judge(stamp, facts.record_count, facts.transaction)? {
                Verdict::Duplicate(duplicate) => return Ok(AppendDecision::Duplicate(duplicate)),
                Verdict::New { open_in } => opens = opens_transaction(facts, stamp, open_in)?,
            }
        }
        self.check_content(now, facts)?;
        if let Some(producer) = opens {
            match facts.verified {
                None => return Ok(AppendDecision::Verify(producer)),
                Some(ticket) if self.is_verified(producer, ticket) => {}
                Some(_) => return Err(AppendError::TransactionEnded { producer: producer.id }),
            }
        }
        let (attributes, max_timestamp) = match self.config.timestamp_type {
            TimestampType::CreateTime => (facts.attributes, facts.max_timestamp),
            TimestampType::LogAppendTime => {
                (facts.attributes.with_log_append_time(true), now.as_timestamp())
            }
        };
        Ok(AppendDecision::Append(BatchHeader {
            base_offset: self.log_end,
            leader_epoch: leadership.state.leader_epoch,
            last_offset_delta: facts.record_count - 1,
            base_timestamp: facts.base_timestamp,
            max_timestamp,
            producer: facts.producer,
            record_count: facts.record_count,
            attributes,
            payload_crc: facts.payload_crc,
            payload_len: facts.payload_len,
        }))
    }

    pub(super) fn leading(
        &self,
        expected: Option<LeaderEpoch>,
    ) -> Result<&Leadership, AppendError> {
        let leadership = match &self.role {
            RoleState::Offline => return Err(AppendError::Offline),
            RoleState::Leading(leadership) => leadership,
            RoleState::Idle | RoleState::Following(_) => return Err(AppendError::NotLeader),
        };
        let current = leadership.state.leader_epoch;
        match expected {
            Some(expected) if expected < current => {
                Err(AppendError::FencedLeaderEpoch { expected, current })
            }
            Some(expected) if expected > current => {
                Err(AppendError::UnknownLeaderEpoch { expected, current })
            }
            Some(_) | None => Ok(leadership),
        }
    }

    /// P15, with the minimum of R10.
    pub(super) fn enough_replicas(&self, leadership: &Leadership) -> Result<(), AppendError> {
        let required = self.required_replicas(leadership);
        let in_sync = leadership.state.isr.len() as u32;
        if in_sync < required {
            return Err(AppendError::NotEnoughReplicas { in_sync, required });
        }
        Ok(())
    }

    pub(super) fn required_replicas(&self, leadership: &Leadership) -> u32 {
        let managed = leadership.managed.as_ref();
        let most = managed.map_or(leadership.state.replicas.len() as u32, |it| it.least_replicas);
        self.config.min_insync_replicas.min(most)
    }

    fn check_content(&self, now: Time, facts: &AppendFacts) -> Result<(), AppendError> {
        let limit = self.config.max_message_bytes.min(self.config.segment_bytes);
        if facts.encoded_len() > limit {
            return Err(AppendError::RecordTooLarge { limit, actual: facts.encoded_len() });
        }
        if self.config.compacted && facts.keyless && !facts.attributes.is_control() {
            return Err(AppendError::MissingKey);
        }
        match self.config.timestamp_type {
            TimestampType::CreateTime => self.check_timestamps(now, facts),
            TimestampType::LogAppendTime => Ok(()),
        }
    }

    /// T14.
    fn check_timestamps(&self, now: Time, facts: &AppendFacts) -> Result<(), AppendError> {
        let now = now.as_timestamp();
        let earliest = now.saturating_sub_unsigned(self.config.timestamp_before_max_ms);
        let latest = now.saturating_add_unsigned(self.config.timestamp_after_max_ms);
        let outside = |timestamp: &i64| *timestamp < earliest || *timestamp > latest;
        match [facts.min_timestamp, facts.max_timestamp].into_iter().find(outside) {
            Some(timestamp) => {
                Err(AppendError::TimestampOutOfRange { timestamp, earliest, latest })
            }
            None => Ok(()),
        }
    }
}

/// What no batch may be, whatever the topic.
fn check_shape(facts: &AppendFacts) -> Result<(), AppendError> {
    if facts.record_count == 0 {
        return Err(AppendError::NoRecords);
    }
    if facts.record_count > Sequence::MODULUS {
        return Err(AppendError::NotAllowed { what: "more records than sequence numbers" });
    }
    if facts.producer.is_some_and(|stamp| stamp.base_sequence.0 >= Sequence::MODULUS) {
        return Err(AppendError::NotAllowed { what: "a sequence beyond 2^31 - 1" });
    }
    if facts.attributes.is_log_append_time() {
        return Err(AppendError::SentAsLogAppendTime);
    }
    if facts.origin == Origin::Client && facts.attributes.is_control() {
        return Err(AppendError::NotAllowed { what: "control batches are the broker's to write" });
    }
    let refuse = |what| Err(AppendError::NotAllowed { what });
    match (facts.attributes.is_transactional(), facts.transaction.is_some()) {
        (true, _) if facts.producer.is_none() => refuse("a transactional batch without a producer"),
        (true, false) => refuse("a transactional batch without a transactional id"),
        (false, true) => refuse("a batch of no transaction with a transactional id"),
        (true, true) | (false, false) => Ok(()),
    }
}

/// Whose transaction opens with this batch, if one does. `open_in`: the epoch of that which is open.
fn opens_transaction(
    facts: &AppendFacts,
    stamp: &ProducerStamp,
    open_in: Option<ProducerEpoch>,
) -> Result<Option<Producer>, AppendError> {
    let producer = stamp.id;
    match (facts.attributes.is_transactional(), open_in) {
        (false, None) => Ok(None),
        (false, Some(_)) => Err(AppendError::InOpenTransaction { producer }),
        (true, None) => Ok(Some(Producer { id: stamp.id, epoch: stamp.epoch })),
        (true, Some(open)) if open == stamp.epoch => Ok(None),
        // Its marker is on its way, or was lost: what comes now is not part of it.
        (true, Some(open)) => Err(AppendError::EarlierTransactionOpen { producer, open }),
    }
}
