//! Topics that are compacted: what is written to them, and what of it a log has left.
//!
//! A few keys are written again and again, and some of them deleted. What a record is follows from its batch alone, so
//! nobody has to remember it.

use crate::chance::Chance;
use crate::settings::{Bug, HostBug};
use crate::violation::{Checked, Violation};
use bytes::Bytes;
use troupe_log::Log;
use troupe_log::disk::FaultDisk;
use troupe_machines::replica::planted::Bug as MachineBug;
use troupe_proto::batch::{BatchHeader, Batches, Limits, RecordSet};
use troupe_proto::ids::{Offset, PartitionKey};

#[derive(Clone, Debug)]
pub struct Compaction {
    /// Written all the time.
    hot_keys: u64,
    /// Each written now and then, so that what deletes it is the last of it for long.
    cold_keys: u64,
    /// One record in so many deletes its key.
    tombstone_in: u64,
    pub delete_retention_ms: u64,
    /// Memory of a pass: sometimes too little for all keys.
    pub map_bytes: usize,
    /// Retention takes old segments all the same.
    pub deletes: bool,
}

impl Compaction {
    /// Of a seed's own chance, so that whatever else is drawn stays as it was before there was compaction. Half of
    /// the runs have none.
    pub fn draw(seed: u64, bug: Option<Bug>) -> Option<Compaction> {
        let mut chance = Chance::new(seed ^ 0x0C05_1EA2);
        let in_cleaning = matches!(
            bug,
            Some(
                Bug::Host(
                    HostBug::ForgetDeleteRetention
                        | HostBug::ForgetWhoLacksTombstones
                        | HostBug::ForgetProducersInCleaning
                ) | Bug::Machine(MachineBug::FillOnWithoutTombstones)
            )
        );
        let compacts = chance.one_in(2) && bug.is_none() || in_cleaning;
        compacts.then(|| Compaction {
            hot_keys: chance.between(1, 6),
            cold_keys: chance.between(10, 150),
            tombstone_in: chance.between(2, 5),
            delete_retention_ms: chance.between(1, 4_000),
            map_bytes: if chance.one_in(3) { chance.between(24, 400) as usize } else { 4_096 },
            deletes: chance.one_in(2),
        })
    }

    /// The record of that number in the batch of that value.
    pub fn record(&self, value: u64, number: u64) -> Written {
        let mut chance = Chance::new(value.wrapping_mul(1_000_003) ^ number);
        let key = match chance.one_in(2) {
            true => chance.below(self.hot_keys),
            false => self.hot_keys + chance.below(self.cold_keys),
        };
        Written { key, deletes: chance.one_in(self.tombstone_in) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    pub key: u64,
    /// It has no value.
    pub deletes: bool,
}

impl Written {
    pub fn key(self) -> String {
        format!("k{}", self.key)
    }
}

/// A record as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    pub offset: Offset,
    pub written: Written,
}

/// All records of these batches.
pub fn records_in(key: &PartitionKey, bytes: Bytes) -> Checked<Vec<Read>> {
    let corrupt = |error: troupe_proto::batch::BatchError| {
        Violation::new("I16 checksums hold", error.to_string())
    };
    let mut found = Vec::new();
    for batch in Batches::verified(bytes, *key) {
        let (header, payload) = batch.map_err(corrupt)?;
        if header.attributes.is_control() {
            continue;
        }
        let records = RecordSet::decode(&header, payload, Limits::default()).map_err(corrupt)?;
        for record in records.iter() {
            let record = record.map_err(corrupt)?;
            let text = record.key.and_then(|key| std::str::from_utf8(key).ok());
            let number = text.and_then(|text| text.strip_prefix('k')?.parse().ok());
            let number = number.ok_or_else(|| {
                Violation::new("I16 records are what was written", format!("{record:?}"))
            })?;
            let written = Written { key: number, deletes: record.value.is_none() };
            found.push(Read { offset: record.offset, written });
        }
    }
    Ok(found)
}

/// All records that a log has, from its start on.
pub fn records_of(log: &Log<FaultDisk>) -> Checked<Vec<Read>> {
    let mut found = Vec::new();
    let mut next = log.log_start();
    while next < log.log_end() {
        let slice = log.read_copy(next, log.log_end(), 1 << 20);
        let slice =
            slice.map_err(|error| Violation::new("I16 a log can be read", error.to_string()))?;
        let records = records_in(&log.key(), slice.bytes)?;
        found.extend(records.into_iter().filter(|record| record.offset >= next));
        next = slice.end;
    }
    Ok(found)
}

/// Whether this may be what cleaning has left of that batch.
pub fn is_left_of(whole: &BatchHeader, left: &BatchHeader) -> bool {
    let place =
        |it: &BatchHeader| (it.base_offset, it.last_offset_delta, it.leader_epoch, it.producer);
    let untouched =
        left.record_count == whole.record_count && !left.attributes.has_delete_horizon();
    place(whole) == place(left)
        && left.record_count <= whole.record_count
        && (!untouched || whole == left)
}
