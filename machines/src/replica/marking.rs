//! Markers: the coordinator tells how a transaction has ended (X5).
//!
//! A marker of the second client version has the epoch after the transaction's, so that a late one is told from that of
//! the next transaction, and moves the producer there. One of the first version has the transaction's own epoch, or a
//! newer one where a coordinator has fenced the producer.
//!
//! ```text
//!  the producer's epoch here    version 1                  version 2
//!  unknown, or older            append                     append
//!  the marker's                 append                     written already
//!  newer                        written already            written already
//! ```
//!
//! Written already: the log holds something that came after the transaction's end, and whoever asks is answered when all
//! that this leader has is committed, so that nobody trusts one that has been replaced. In version 1 nothing says that
//! the end is here already, so that the marker is appended again; where no transaction is open, it ends none.
//! Promise: of the markers of one producer, none is from an older coordinator than one before it.

use super::parked::Waiting;
use super::planted::Bug;
use super::{Acks, AppendError, Appended, Effects, Replica, Token};
use crate::config::TimestampType;
use crate::time::Time;
use crate::txn::{ClientVersion, Producer};
use troupe_proto::batch::BatchHeader;

/// What to do with a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkerDecision {
    /// Append it with this header, then tell [`Replica::on_marker_appended`].
    Append(BatchHeader),
    /// It is here: tell [`Replica::on_marker_found`].
    AlreadyWritten,
}

impl Replica {
    /// What to do with the marker in a control batch that was built for it; changes nothing. It asks for acks of all.
    ///
    /// # Errors
    /// This replica does not lead, or with too few in sync; a newer coordinator has written already.
    pub fn decide_marker(
        &self,
        now: Time,
        built: &BatchHeader,
        version: ClientVersion,
    ) -> Result<MarkerDecision, AppendError> {
        let leadership = self.leading(None)?;
        self.enough_replicas(leadership)?;
        let (Some(stamp), Some(marker)) = (built.producer, built.marker()) else {
            return Err(AppendError::NotAllowed { what: "no control batch of a producer" });
        };
        if let Some((epoch, coordinator_epoch)) = self.producers.epochs_of(stamp.id) {
            if let Some(current) = coordinator_epoch
                && marker.coordinator_epoch < current
                && !self.bugs.has(Bug::TakeOldCoordinators)
            {
                let actual = marker.coordinator_epoch;
                return Err(AppendError::CoordinatorFenced { current, actual });
            }
            let late = match version {
                ClientVersion::First => stamp.epoch < epoch,
                ClientVersion::Second => stamp.epoch <= epoch,
            };
            if late && !self.bugs.has(Bug::AnyMarkerEnds) {
                return Ok(MarkerDecision::AlreadyWritten);
            }
        }
        let (attributes, max_timestamp) = match self.config.timestamp_type {
            TimestampType::CreateTime => (built.attributes, built.max_timestamp),
            TimestampType::LogAppendTime => {
                (built.attributes.with_log_append_time(true), now.as_timestamp())
            }
        };
        let (base_offset, leader_epoch) = (self.log_end, leadership.state.leader_epoch);
        Ok(MarkerDecision::Append(BatchHeader {
            base_offset,
            leader_epoch,
            attributes,
            max_timestamp,
            ..*built
        }))
    }

    /// The marker stands in the log; answered when it is committed.
    pub fn on_marker_appended(
        &mut self,
        now: Time,
        header: &BatchHeader,
        version: ClientVersion,
        token: Token,
        deadline: Time,
        out: &mut Effects,
    ) {
        let stamp = header.producer.expect("decided for a control batch of a producer");
        self.verifying.void(Producer { id: stamp.id, epoch: stamp.epoch }, version);
        self.on_appended(now, header, Acks::All, token, deadline, out);
    }

    /// The marker of that producer was here already; answered when all that is here is committed.
    pub fn on_marker_found(
        &mut self,
        now: Time,
        producer: Producer,
        version: ClientVersion,
        token: Token,
        deadline: Time,
        out: &mut Effects,
    ) {
        self.verifying.void(producer, version);
        let appended = Appended {
            base_offset: self.log_end,
            end_offset: self.log_end,
            log_append_time: None,
            log_start: self.log_start,
            duplicate: true,
        };
        self.answer_or_park(Acks::All, Waiting { token, deadline, appended }, out);
        self.progress(now, out);
    }
}
