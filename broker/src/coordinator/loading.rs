//! From a partition of an internal topic to what it remembers.
//!
//! The log is read a piece at a time and decoded on a blocking thread: the shard serves others meanwhile. Of a
//! key only the newest record is kept, so that what was overwritten costs time and no memory.

use super::machine::Machine;
use crate::partition::{Isolation, PartitionHandle, REBUILD_PATIENCE, ReadFrom};
use bytes::Bytes;
use tokio::sync::Semaphore;
use troupe_machines::replica::{Reader, Role};
use troupe_proto::batch::{Batches, Limits, RecordSet};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionKey};

/// Bytes of one piece.
const PIECE_BYTES: usize = 1 << 20;

/// Why a log was not loaded.
#[derive(Debug)]
pub enum LoadError {
    /// It may go better soon: the partition does not lead yet, or is being recovered.
    Passing(Error),
    /// The log holds what cannot be read.
    Corrupt(Error),
    Panicked,
}

impl From<Error> for LoadError {
    fn from(error: Error) -> Self {
        match error.code {
            ErrorCode::CorruptLog | ErrorCode::CorruptBatch => Self::Corrupt(error),
            _ => Self::Passing(error),
        }
    }
}

/// Reads all that was in the log when this began, as soon as it is committed: a leader that was just elected
/// first has to learn how far that is. `loads`: how many logs are read at the same time.
pub async fn load<M: Machine>(
    partition: &PartitionHandle,
    leader_epoch: LeaderEpoch,
    settings: M::Settings,
    loads: &Semaphore,
) -> Result<M, LoadError> {
    partition.serves(REBUILD_PATIENCE).await?;
    let found = partition.describe().await?;
    if found.role != Role::Leader || found.leader_epoch != leader_epoch {
        let message = "the replica does not lead in that epoch yet";
        return Err(Error::new(ErrorCode::NotLeader, message).into());
    }
    let (mut next, end) = (found.log_start, found.log_end);
    if let Some(last) = end.0.checked_sub(1).map(Offset) {
        partition.readable(last, &Reader::OfLeader, Isolation::Uncommitted).await;
    }
    let _permit = loads.acquire().await;
    let mut machine = M::new(settings);
    while next < end {
        let answer = partition
            .read(ReadFrom {
                from: next,
                max_bytes: PIECE_BYTES,
                expected_leader_epoch: Some(leader_epoch),
                ..ReadFrom::default()
            })
            .await?;
        if answer.bytes.is_empty() {
            let message = "the replica stopped to lead while its log was read";
            return Err(Error::new(ErrorCode::NotLeader, message).into());
        }
        let piece = Piece { key: partition.key(), bytes: answer.bytes, from: next };
        let replayed =
            tokio::task::spawn_blocking(move || piece.replay(&mut machine).map(|()| machine));
        machine = match replayed.await {
            Ok(replayed) => replayed?,
            Err(_) => return Err(LoadError::Panicked),
        };
        next = answer.next;
    }
    Ok(machine)
}

/// Whole batches as they lie in the log.
struct Piece {
    key: PartitionKey,
    bytes: Bytes,
    from: Offset,
}

impl Piece {
    fn replay<M: Machine>(self, machine: &mut M) -> Result<(), LoadError> {
        for batch in Batches::verified(self.bytes, self.key) {
            let records = batch.and_then(|(header, payload)| {
                RecordSet::decode(&header, payload, Limits::default())
            });
            for record in &records.map_err(|error| corrupt::<M>(&error))? {
                let record = record.map_err(|error| corrupt::<M>(&error))?;
                if record.offset < self.from {
                    continue;
                }
                let at = |error: &dyn std::fmt::Display| {
                    corrupt::<M>(&format_args!("record {}: {error}", record.offset))
                };
                let change = M::decode(record.key.unwrap_or_default(), record.value)
                    .map_err(|error| at(&error))?;
                machine.replay(&change).map_err(|error| at(&error))?;
            }
        }
        Ok(())
    }
}

fn corrupt<M: Machine>(error: &dyn std::fmt::Display) -> LoadError {
    let message = format!("{} cannot be read: {error}", M::CONTENT);
    LoadError::Corrupt(Error::new(ErrorCode::CorruptLog, message))
}
