//! Offsets of a partition that this node leads: its actor looks where they may be, and what has to be unpacked to know
//! is unpacked here, in the memory that all readers of the node share and on none of its shards.

use crate::partition::{Finding, FoundOffset, Isolation, OffsetQuery, PartitionHandle};
use crate::shutdown::shutting_down;
use crate::unpacker::{Packed, Unpacker};
use bytes::Bytes;
use tokio::task::spawn_blocking;
use troupe_log::{Candidate, TimestampHit};
use troupe_proto::batch::{BatchError, Limits, RecordSet};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionKey};

/// Record sets of more bytes are walked on another thread.
const ON_THE_SPOT_BYTES: usize = 256 << 10;

/// Finds an offset as far as the replica knows: it may have been replaced without having heard of it.
///
/// # Errors
/// `NOT_LEADER`; `FENCED_LEADER_EPOCH`, `UNKNOWN_LEADER_EPOCH` if it does not lead in that epoch.
pub async fn find_here(
    unpacker: &Unpacker,
    partition: &PartitionHandle,
    at: OffsetQuery,
    isolation: Isolation,
    expected_leader_epoch: Option<LeaderEpoch>,
) -> Result<FoundOffset, Error> {
    let (_, found) = search(unpacker, partition, at, isolation, expected_leader_epoch).await?;
    Ok(found)
}

/// The same, of now.
///
/// # Errors
/// Also those of [`PartitionHandle::confirm`].
pub async fn find_here_now(
    unpacker: &Unpacker,
    partition: &PartitionHandle,
    at: OffsetQuery,
    isolation: Isolation,
    expected_leader_epoch: Option<LeaderEpoch>,
) -> Result<FoundOffset, Error> {
    let (epoch, found) = search(unpacker, partition, at, isolation, expected_leader_epoch).await?;
    // Of another epoch in which it leads meanwhile, that says nothing of what was found in this one.
    partition.confirm(Some(epoch)).await.map(|()| found)
}

/// Also in which leader epoch it was found: from the first step to the last in the same.
async fn search(
    unpacker: &Unpacker,
    partition: &PartitionHandle,
    mut at: OffsetQuery,
    isolation: Isolation,
    mut expected: Option<LeaderEpoch>,
) -> Result<(LeaderEpoch, FoundOffset), Error> {
    let (mut from, key) = (Offset::ZERO, partition.key());
    loop {
        let (leader_epoch, finding) = partition.find_offset(at, from, isolation, expected).await?;
        expected = Some(leader_epoch);
        match finding {
            Finding::Found(found) => return Ok((leader_epoch, found)),
            Finding::Candidate(candidate, time) => {
                from = candidate.header.end_offset();
                let first = move |candidate: &Candidate, records: &[u8]| {
                    candidate.first_from(records, time)
                };
                let at = candidate.header.base_offset;
                let looked = look_into(unpacker, key, *candidate, first).await;
                if let Some(hit) = explained(partition, at, looked).await? {
                    return Ok((leader_epoch, found(hit)));
                }
            }
            Finding::Largest(known, ask) => {
                let mut largest = known;
                for candidate in ask {
                    let at = candidate.header.base_offset;
                    let asked = look_into(unpacker, key, candidate, Candidate::largest).await;
                    largest = largest.max(explained(partition, at, asked).await?);
                }
                match largest {
                    Some(largest) => at = OffsetQuery::Timestamp(largest),
                    None => return Ok((leader_epoch, nothing(leader_epoch))),
                }
            }
        }
    }
}

/// Of a batch that cannot be read, its replica has to know.
async fn explained<T>(
    partition: &PartitionHandle,
    at: Offset,
    looked: Result<T, Error>,
) -> Result<T, Error> {
    match looked {
        Err(error) if error.code == ErrorCode::CorruptLog => {
            Err(partition.suspect(at).await?.unwrap_or(error))
        }
        looked => looked,
    }
}

fn found(hit: TimestampHit) -> FoundOffset {
    FoundOffset {
        offset: Some(hit.offset),
        timestamp_ms: Some(hit.timestamp_ms),
        leader_epoch: hit.leader_epoch,
    }
}

fn nothing(leader_epoch: LeaderEpoch) -> FoundOffset {
    FoundOffset { offset: None, timestamp_ms: None, leader_epoch }
}

/// Has the records of a batch looked at, unpacked if need be.
async fn look_into<T: Send + 'static>(
    unpacker: &Unpacker,
    key: PartitionKey,
    candidate: Candidate,
    look: impl FnOnce(&Candidate, &[u8]) -> Result<T, BatchError> + Send + 'static,
) -> Result<T, Error> {
    let looked = match candidate.is_packed() {
        true => {
            let (header, payload) = (candidate.header, candidate.payload.clone());
            let packed = Packed { key, header, payload };
            let records = match unpacker.now(&packed) {
                Some(records) => records,
                None => unpacker.get(packed).await,
            };
            let records = records.map_err(damaged)?;
            let len = records.len();
            elsewhere_if_large(len, move || look(&candidate, &records)).await?
        }
        false => {
            let len = candidate.payload.len();
            elsewhere_if_large(len, move || look(&candidate, &plain(&candidate)?)).await?
        }
    };
    looked.map_err(damaged)
}

/// The records of a batch that is not packed, if they are what was written.
fn plain(candidate: &Candidate) -> Result<Bytes, BatchError> {
    let Candidate { header, payload, .. } = candidate;
    let set = RecordSet::decode(header, payload.clone(), Limits::default())?;
    Ok(set.payload().clone())
}

async fn elsewhere_if_large<T: Send + 'static>(
    bytes: usize,
    look: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    if bytes <= ON_THE_SPOT_BYTES {
        return Ok(look());
    }
    spawn_blocking(look).await.map_err(|_| shutting_down())
}

fn damaged(error: BatchError) -> Error {
    Error::new(ErrorCode::CorruptLog, format!("stored data is damaged: {error}"))
}
