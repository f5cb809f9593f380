//! From a directory to a replica that can serve: recovery, then what the machine must know of the past.
//! Runs on a blocking thread: recovery may have gigabytes to read.

use super::shared::ReplicaTimes;
use crate::clock::{now, wall_clock};
use bytes::Bytes;
use prost::Message;
use std::ops::Range;
use std::path::PathBuf;
use troupe_log::disk::FileDisk;
use troupe_log::{Aborted, Damage, Inventory, Log, LogConfig, LogError, Recovery};
use troupe_machines::config::TopicConfig;
use troupe_machines::replica::{Completed, LogEnds, Replica, ReplicaConfig};
use troupe_proto::ids::{NodeId, Offset, PartitionKey};
use troupe_proto::log::v1::ProducerSnapshot;

/// Odd, with its bits well mixed: neighbouring partitions come to lie far apart.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Of a partition: `segment.jitter.ms` is shared out by name, so that all its replicas roll alike.
pub fn log_config(config: &TopicConfig, key: PartitionKey) -> LogConfig {
    LogConfig {
        segment_bytes: config.segment_bytes,
        segment_ms: config.segment_ms,
        segment_jitter_ms: jitter_of(config, key),
        index_interval_bytes: config.index_interval_bytes,
        segment_index_bytes: config.segment_index_bytes,
    }
}

/// Less than `segment.ms`, which would close a segment with each record.
fn jitter_of(config: &TopicConfig, key: PartitionKey) -> u64 {
    let most = config.segment_jitter_ms.min(config.segment_ms.saturating_sub(1));
    let drawn = key.topic_id.0.as_u128() as u64 ^ u64::from(key.partition.0).rotate_right(16);
    drawn.wrapping_mul(SPREAD) % most.saturating_add(1)
}

pub fn replica_config(config: &TopicConfig, times: ReplicaTimes) -> ReplicaConfig {
    let config = ReplicaConfig::from_topic(config, times.producer_id_expiration_ms);
    ReplicaConfig { replica_lag_time_max_ms: times.lag_max_ms, ..config }
}

/// A log and the machine that knows what is in it; the machine leads nothing yet.
pub struct Opened {
    pub log: Log<FileDisk>,
    pub replica: Replica,
    /// What was set aside or made again, and has been told.
    pub notices: u64,
}

pub fn open(
    dir: PathBuf,
    key: PartitionKey,
    node_id: NodeId,
    config: &TopicConfig,
    times: ReplicaTimes,
    inventory: &Inventory,
) -> Result<Opened, LogError> {
    let wall_ms = wall_clock().as_timestamp();
    let (mut log, mut recovery) =
        Log::open(FileDisk::new(), dir, key, log_config(config, key), wall_ms)?;
    let name = log.dir().file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !recovery.had_directory && inventory.has(name, key.topic_id) {
        let cause = format!("the directory {} is gone", log.dir().display());
        let damage = Damage::from(Offset::ZERO, cause);
        log.note_damage(damage.clone())?;
        recovery.damage = Some(damage);
    }
    report(&log, &recovery);
    let replica = loop {
        let config = replica_config(config, times);
        match restore(&mut log, &recovery, Replica::new(key, node_id, config)) {
            Err(error @ LogError::CorruptLog { .. }) => {
                // found now; what is sound behind it counts all the same
                let Some(damage) = log.examine_error(&error)? else { return Err(error) };
                log.note_damage(damage)?;
                log.survey_damage()?;
                recovery.damage = log.damage().cloned();
                report(&log, &recovery);
            }
            restored => break restored?,
        }
    };
    Ok(Opened { log, replica, notices: recovery.notices.len() as u64 })
}

/// Makes the log in `dir` sound without what is damaged; says which offsets that were. `lost_end`: what is known to be
/// lost behind where the log ended.
pub fn give_up_damage(
    dir: PathBuf,
    key: PartitionKey,
    config: &TopicConfig,
    lost_end: Option<Range<Offset>>,
) -> Result<Vec<Range<Offset>>, LogError> {
    let wall_ms = wall_clock().as_timestamp();
    let (log, recovery) = Log::open(FileDisk::new(), dir, key, log_config(config, key), wall_ms)?;
    let high_watermark = recovery.high_watermark.unwrap_or(log.log_start());
    let missing_end = log.damage().and_then(|damage| damage.missing_end.clone());
    let mut lost = log.accept_loss(high_watermark)?;
    lost.extend(missing_end.or(lost_end));
    Ok(lost)
}

/// What the machine must know of the past.
fn restore(
    log: &mut Log<FileDisk>,
    recovery: &Recovery,
    mut replica: Replica,
) -> Result<Replica, LogError> {
    let now = now();
    let ends = LogEnds {
        log_start: log.log_start(),
        // Of a checkpoint from before a cleaning that has left a gap there: readers would wait within it.
        high_watermark: log.behind_gap(recovery.high_watermark.unwrap_or(log.log_start())),
        flushed_end: log.flushed_end(),
        log_end: log.log_end(),
    };
    let snapshot = recovery.snapshot.as_ref().and_then(|(_, bytes)| decode_snapshot(bytes));
    // A snapshot that cannot be read means: as if there were none, from the first batch on.
    let usable = recovery.snapshot.as_ref().filter(|_| snapshot.is_some());
    let replay_from = log.replay_from(usable.map(|(offset, _)| *offset));
    replica.restore(ends, snapshot.as_ref());
    replica.restore_leader_epoch(log.latest_epoch());
    replica.on_tombstones_gone(log.tombstones_gone_below());
    let mut completed = Vec::new();
    log.replay(replay_from, |header| {
        completed.extend(replica.on_recovered_batch(now, header));
    })?;
    completed.iter().try_for_each(|completed| note_completed(log, completed))?;
    Ok(replica)
}

/// The log keeps which transactions were aborted.
pub(super) fn note_completed(
    log: &mut Log<FileDisk>,
    completed: &Completed,
) -> Result<(), LogError> {
    let Completed { producer_id, first_offset, last_offset, committed } = *completed;
    match committed {
        true => Ok(()),
        false => log.note_aborted(Aborted { producer_id, first_offset, last_offset }),
    }
}

pub(super) fn decode_snapshot(bytes: &Bytes) -> Option<ProducerSnapshot> {
    let decoded = ProducerSnapshot::decode(bytes.clone())
        .inspect_err(|error| tracing::warn!(%error, "a producer snapshot cannot be read"))
        .ok()?;
    if !Replica::knows_snapshot(&decoded) {
        let version = decoded.version;
        tracing::warn!(version, "a producer snapshot is of a later version, and is not used");
        return None;
    }
    Some(decoded)
}

fn report(log: &Log<FileDisk>, recovery: &Recovery) {
    for notice in &recovery.notices {
        tracing::warn!(dir = %log.dir().display(), "{notice}");
    }
    if let Some(damage) = &recovery.damage {
        tracing::error!(
            dir = %log.dir().display(),
            complete_below = damage.complete_below.0,
            truncated_bytes = recovery.truncated_bytes,
            log_end = log.log_end().0,
            cause = %damage.cause,
            "the log is damaged: records that were acknowledged may be missing here"
        );
    } else if recovery.truncated_bytes > 0 {
        tracing::warn!(
            dir = %log.dir().display(),
            truncated_bytes = recovery.truncated_bytes,
            log_end = log.log_end().0,
            "cut off a torn tail, which was never flushed"
        );
    } else if !recovery.clean {
        tracing::info!(
            dir = %log.dir().display(),
            scanned_bytes = recovery.scanned_bytes,
            log_end = log.log_end().0,
            "recovered"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use troupe_proto::ids::{PartitionId, TopicId};

    fn jitters(segment_ms: u64, segment_jitter_ms: u64) -> Vec<u64> {
        let config = TopicConfig { segment_ms, segment_jitter_ms, ..TopicConfig::default() };
        let topic_id = TopicId::from_wire(&[7; 16]).unwrap();
        let key = |number| PartitionKey { topic_id, partition: PartitionId(number) };
        (0..100).map(|number| log_config(&config, key(number)).segment_jitter_ms).collect()
    }

    #[test]
    fn each_partition_has_its_own_share_of_the_jitter() {
        assert_eq!(jitters(604_800_000, 0), [0; 100]);
        let drawn = jitters(604_800_000, 3_600_000);
        assert!(drawn.iter().all(|share| *share <= 3_600_000));
        assert!(drawn.iter().copied().collect::<BTreeSet<_>>().len() > 90, "{drawn:?}");
        let (early, late) = (drawn.iter().min(), drawn.iter().max());
        assert!(early < Some(&400_000) && late > Some(&3_200_000), "{drawn:?}");
    }

    #[test]
    fn no_jitter_is_as_long_as_a_segment() {
        assert!(jitters(10, 1_000).iter().all(|share| *share < 10));
    }
}
