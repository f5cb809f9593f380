//! Batches of transactions and their markers, and who keeps the index of those that were aborted, as an owner does.

use crate::batches::*;
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;
use troupe_log::disk::Disk;
use troupe_log::{Aborted, Log, LogError, Recovery};
use troupe_proto::batch::{BatchHeader, Compression, Marker, ProducerStamp, RecordSetBuilder};
use troupe_proto::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
use troupe_proto::log::v1::{ProducerEntry, ProducerSnapshot};
use troupe_proto::rope::Rope;

/// What the owner knows of its producers: where the open transaction of each begins.
pub type Open = BTreeMap<ProducerId, Offset>;

pub const COORDINATOR: LeaderEpoch = LeaderEpoch(3);

pub fn aborted(id: u64, first: u64, last: u64) -> Aborted {
    let (first_offset, last_offset) = (Offset(first), Offset(last));
    Aborted { producer_id: ProducerId(id), first_offset, last_offset }
}

pub type Batch = (BatchHeader, Bytes);

/// A batch of a transaction: keys and values.
pub fn data_batch(
    at: Offset,
    epoch: u32,
    id: u64,
    records: &[(Option<&str>, Option<&str>)],
) -> Batch {
    let mut builder = RecordSetBuilder::new();
    for (key, value) in records {
        builder.push(NOW, key.map(str::as_bytes), value.map(str::as_bytes), &[]);
    }
    let stamp = ProducerStamp {
        id: ProducerId(id),
        epoch: ProducerEpoch(0),
        base_sequence: Sequence(at.0 as u32),
    };
    let built = builder.finish(Compression::None, Some(stamp)).unwrap();
    let header = BatchHeader {
        base_offset: at,
        leader_epoch: LeaderEpoch(epoch),
        attributes: built.header.attributes.with_transactional(true),
        ..built.header
    };
    (header, built.payload)
}

pub fn marker_batch(at: Offset, epoch: u32, id: u64, committed: bool) -> Batch {
    let marker = Marker { committed, coordinator_epoch: COORDINATOR };
    let built = marker.batch(ProducerId(id), ProducerEpoch(0), NOW).unwrap();
    let leader_epoch = LeaderEpoch(epoch);
    (BatchHeader { base_offset: at, leader_epoch, ..built.header }, built.payload)
}

pub fn put_built<D: Disk>(
    log: &mut Log<D>,
    (header, payload): Batch,
) -> Result<BatchHeader, LogError> {
    log.append(&header, &Rope::from(payload), NOW)?;
    Ok(header)
}

pub fn data<D: Disk>(
    log: &mut Log<D>,
    epoch: u32,
    id: u64,
    records: &[(Option<&str>, Option<&str>)],
) -> Result<BatchHeader, LogError> {
    let batch = data_batch(log.log_end(), epoch, id, records);
    put_built(log, batch)
}

/// A marker; nothing is noted.
pub fn marker<D: Disk>(
    log: &mut Log<D>,
    epoch: u32,
    id: u64,
    committed: bool,
) -> Result<BatchHeader, LogError> {
    let batch = marker_batch(log.log_end(), epoch, id, committed);
    put_built(log, batch)
}

/// What this batch aborts.
pub fn next(open: &mut Open, header: &BatchHeader) -> Option<Aborted> {
    let producer_id = header.producer?.id;
    let Some(marker) = header.marker() else {
        if header.attributes.is_transactional() {
            open.entry(producer_id).or_insert(header.base_offset);
        }
        return None;
    };
    let first_offset = open.remove(&producer_id).filter(|_| !marker.committed)?;
    Some(Aborted { producer_id, first_offset, last_offset: header.last_offset() })
}

pub fn snapshot_of(open: &Open) -> Vec<u8> {
    let producers = open.iter().map(|(id, first)| ProducerEntry {
        producer_id: id.0,
        transaction_first_offset: Some(first.0),
        ..ProducerEntry::default()
    });
    let producers = producers.collect();
    ProducerSnapshot { version: 1, producers, ..ProducerSnapshot::default() }.encode_to_vec()
}

/// What an owner does with a log that it has opened.
pub fn restore<D: Disk>(log: &mut Log<D>, recovery: &Recovery) -> Result<Open, LogError> {
    let mut open = Open::new();
    if let Some((_, snapshot)) = &recovery.snapshot {
        for producer in ProducerSnapshot::decode(snapshot.clone()).unwrap().producers {
            let first = Offset(producer.transaction_first_offset.unwrap());
            open.insert(ProducerId(producer.producer_id), first);
        }
    }
    let mut found = Vec::new();
    log.replay(recovery.replay_from, |header| found.extend(next(&mut open, header)))?;
    found.into_iter().try_for_each(|it| log.note_aborted(it))?;
    Ok(open)
}

/// All that the log knows.
pub fn all<D: Disk>(log: &Log<D>) -> Vec<Aborted> {
    log.aborted(Offset::ZERO, Offset(u64::MAX)).unwrap()
}
