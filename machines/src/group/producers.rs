//! What a coordinator of groups knows of the producers whose transactions have offsets in its partition of
//! `__consumer_offsets`, as other partitions do by their batches: where something of theirs is open, and what their
//! markers said last.
//!
//! Promise: what the records say is all that counts, in whatever order cleaning has left them.

use super::records::producer_id;
use super::{Change, GroupPartition, ReplayError};
use crate::producer::{ClientVersion, Producer};
use crate::time::Time;
use std::collections::BTreeMap;
use std::sync::Arc;
use troupe_proto::ids::{LeaderEpoch, ProducerEpoch, ProducerId};
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::group_record_key::Of as Key;
use troupe_proto::log::v1::group_record_value::Of as Value;

/// A partition of a group.
pub(super) type Place = (Arc<str>, GroupPartition);

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Producers {
    heard: BTreeMap<ProducerId, Heard>,
    /// Where each has offsets that are pending, and of which epoch. The offsets are with their groups.
    open: BTreeMap<ProducerId, BTreeMap<Place, ProducerEpoch>>,
}

/// The newest that a producer's markers said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub epoch: ProducerEpoch,
    /// Of the coordinator of its transactions.
    pub coordinator_epoch: LeaderEpoch,
    /// By which is told whether what is of `epoch` has ended.
    pub version: ClientVersion,
    pub at: Time,
}

impl Producers {
    pub fn is_empty(&self) -> bool {
        self.heard.is_empty()
    }

    pub fn heard(&self, id: ProducerId) -> Option<Heard> {
        self.heard.get(&id).copied()
    }

    /// What is of an older epoch comes too late.
    pub fn newest_epoch(&self, id: ProducerId) -> ProducerEpoch {
        let heard = self.heard(id).map(|heard| heard.epoch);
        let open = self.open(id).map(|(_, epoch)| epoch);
        open.chain(heard).max().unwrap_or(ProducerEpoch(0))
    }

    pub fn open(&self, id: ProducerId) -> impl Iterator<Item = (&Place, ProducerEpoch)> {
        self.open.get(&id).into_iter().flatten().map(|(place, epoch)| (place, *epoch))
    }

    /// Those that were not heard of since.
    pub fn silent_since(&self, then: Time) -> impl Iterator<Item = ProducerId> {
        let is_silent = move |(id, heard): &(&ProducerId, &Heard)| {
            heard.at <= then && !self.open.contains_key(*id)
        };
        self.heard.iter().filter(is_silent).map(|(id, _)| *id)
    }

    /// An offset is pending there from now on, or none any more.
    pub fn note(&mut self, id: ProducerId, place: Place, epoch: Option<ProducerEpoch>) {
        let open = self.open.entry(id).or_default();
        match epoch {
            Some(epoch) => open.insert(place, epoch),
            None => open.remove(&place),
        };
        if open.is_empty() {
            self.open.remove(&id);
        }
    }

    pub fn replay(
        &mut self,
        key: &pb::TransactionalProducerKey,
        value: Option<&pb::GroupRecordValue>,
    ) -> Result<(), ReplayError> {
        let id = producer_id(key.producer_id)?;
        match value.map(|value| &value.of) {
            None => self.heard.remove(&id),
            Some(Some(Value::Producer(value))) => self.heard.insert(id, Heard::from_record(value)?),
            Some(None) => return Err(ReplayError::UnknownKind),
            Some(Some(_)) => return Err(ReplayError::Malformed("pair of key and value")),
        };
        Ok(())
    }
}

impl Heard {
    fn from_record(value: &pb::TransactionalProducerValue) -> Result<Heard, ReplayError> {
        Ok(Heard {
            epoch: ProducerEpoch(value.producer_epoch),
            coordinator_epoch: LeaderEpoch(value.coordinator_epoch),
            version: match value.client_version {
                1 => ClientVersion::First,
                2 => ClientVersion::Second,
                _ => return Err(ReplayError::Malformed("version of a marker")),
            },
            at: Time(u64::try_from(value.update_time_ms).unwrap_or(0)),
        })
    }

    pub fn to_change(self, id: ProducerId) -> Change {
        let value = pb::TransactionalProducerValue {
            producer_epoch: self.epoch.0,
            coordinator_epoch: self.coordinator_epoch.0,
            client_version: self.version as u32,
            update_time_ms: self.at.as_timestamp(),
        };
        Change::put("", producer_key(id), Value::Producer(value))
    }

    /// A transaction of that epoch has ended, and the next one has the same.
    pub fn keeps_epoch_of(&self, producer: Producer) -> bool {
        self.version == ClientVersion::First && self.epoch == producer.epoch
    }
}

pub(super) fn producer_key(id: ProducerId) -> Key {
    Key::Producer(pb::TransactionalProducerKey { producer_id: id.0 })
}
