//! The small text files beside the segments: how they look, and when they can be trusted.
//!
//! ```text
//! version 1
//! <name> <value> …
//! crc32c <eight hexadecimal digits over all lines above>
//! ```
//!
//! A file whose checksum does not hold is as good as none, so a torn one costs a longer recovery and never
//! a wrong answer.

use crate::cleaning::Tombstones;
use crate::damage::Damage;
use crate::index::Mark;
use crate::segment::Summary;
use std::fmt::Write;
use troupe_proto::ids::{DirectoryId, LeaderEpoch, Offset, PartitionId, PartitionKey, TopicId};

/// High watermark and recovery point: [`OffsetCheckpoint`].
pub(crate) const OFFSETS: &str = "offset-checkpoint";
/// Where the log starts, if within a segment or before the first: one offset.
pub(crate) const LOG_START: &str = "log-start-checkpoint";
/// Up to where compaction has looked at the log, and what it has left there: [`CleanerCheckpoint`].
pub(crate) const CLEANER: &str = "cleaner-checkpoint";
/// Below where tombstones are gone from the log: one offset.
pub(crate) const TOMBSTONES_GONE: &str = "tombstones-gone";
/// Up to where the log was flushed last: one offset.
pub(crate) const FLUSHED_END: &str = "flushed-end";
/// The leader epochs and their first offsets.
pub(crate) const EPOCHS: &str = "leader-epoch-checkpoint";
/// What the replica lacks, as long as it does.
pub(crate) const DAMAGE: &str = "damage";
/// The topic's id (S2): a topic made anew under the same name is another one.
pub(crate) const METADATA: &str = "partition.metadata";

const VERSION: &str = "version 1";
const CHECKSUM: &str = "crc32c";
const CLOSED: &str = "closed";
const ABORTED: &str = "aborted";
const BOOT: &str = "boot";
/// In an [`OffsetCheckpoint`]: whoever wrote it keeps [`FLUSHED_END`] true.
const KEEPS_FLUSHED_END: &str = "keeps_flushed_end";

/// The text with its version line and checksum.
pub(crate) fn seal(lines: &str) -> Vec<u8> {
    let mut text = format!("{VERSION}\n{lines}");
    let crc = crc_fast::crc32_iscsi(text.as_bytes());
    let _infallible = writeln!(text, "{CHECKSUM} {crc:08x}");
    text.into_bytes()
}

/// The lines between version and checksum, if both are right.
pub(crate) fn unseal(content: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(content).ok()?;
    let body_len = text.strip_suffix('\n')?.rfind('\n')? + 1;
    let (body, last) = text.split_at(body_len);
    let stored = last.strip_suffix('\n')?.strip_prefix(CHECKSUM)?.strip_prefix(' ')?;
    if format!("{:08x}", crc_fast::crc32_iscsi(body.as_bytes())) != stored {
        return None;
    }
    body.strip_prefix(VERSION)?.strip_prefix('\n')
}

/// Whether a line is one of those around the content: version and checksum.
pub(crate) fn is_frame(line: &str) -> bool {
    line == VERSION || line.split_once(' ').is_some_and(|(name, _)| name == CHECKSUM)
}

/// The value of one `name value` line.
fn field<'a>(lines: &'a str, name: &str) -> Option<&'a str> {
    lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
}

pub(crate) fn number<T: std::str::FromStr>(lines: &str, name: &str) -> Option<T> {
    field(lines, name)?.parse().ok()
}

/// Up to where the files are known to be synced: below this no recovery needs to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecoveryPoint {
    /// First offset that recovery has to look at.
    pub(crate) offset: Offset,
    /// Base of the segment that it stands in, and where.
    pub(crate) segment: Offset,
    pub(crate) position: u64,
    /// Timestamps of the segment up to there.
    pub(crate) summary: Summary,
    /// The segment's indexes up to there.
    pub(crate) mark: Mark,
}

/// Content of [`OFFSETS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OffsetCheckpoint {
    pub(crate) high_watermark: Option<Offset>,
    pub(crate) recovery_point: Option<RecoveryPoint>,
    /// Base offsets and sizes of the segments before the one with the recovery point, ascending. Files from
    /// before there was such a list have none.
    pub(crate) closed: Vec<(Offset, u64)>,
    /// Base offsets of the segments below the recovery point that know of aborted transactions, and of how many. An
    /// earlier version passes over them.
    pub(crate) aborted: Vec<(Offset, u64)>,
    /// [`crate::disk::Disk::boot`] of when it was written, by a log that was opened in that run: all that was not
    /// synced then was written in it, or later.
    pub(crate) boot: Option<String>,
    /// Logs of earlier versions were cut off without [`FLUSHED_END`] being lowered: beside what they have written down
    /// it says nothing.
    pub(crate) keeps_flushed_end: bool,
}

impl OffsetCheckpoint {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut lines = String::new();
        let mut put = |name: &str, value: Option<i128>| {
            if let Some(value) = value {
                let _infallible = writeln!(lines, "{name} {value}");
            }
        };
        put("high_watermark", self.high_watermark.map(|offset| offset.0.into()));
        if let Some(point) = &self.recovery_point {
            put("recovery_point", Some(point.offset.0.into()));
            put("segment", Some(point.segment.0.into()));
            put("position", Some(point.position.into()));
            put("first_timestamp", point.summary.first.map(Into::into));
            put("largest_timestamp", point.summary.largest.map(|(timestamp, _)| timestamp.into()));
            put("largest_at", point.summary.largest.map(|(_, offset)| offset.0.into()));
            put("offset_entries", Some(point.mark.offsets.count.into()));
            put("offset_entries_crc32c", Some(point.mark.offsets.crc.into()));
            put("time_entries", Some(point.mark.times.count.into()));
            put("time_entries_crc32c", Some(point.mark.times.crc.into()));
        }
        for (base, size) in &self.closed {
            let _infallible = writeln!(lines, "{CLOSED} {base} {size}");
        }
        for (base, count) in &self.aborted {
            let _infallible = writeln!(lines, "{ABORTED} {base} {count}");
        }
        put_boot(&mut lines, self.boot.as_deref());
        if self.keeps_flushed_end {
            let _infallible = writeln!(lines, "{KEEPS_FLUSHED_END} 1");
        }
        seal(&lines)
    }

    pub(crate) fn decode(content: &[u8]) -> Option<OffsetCheckpoint> {
        let lines = unseal(content)?;
        let high_watermark = number(lines, "high_watermark").map(Offset);
        let pairs = |name: &str| {
            let pair = |line: &str| {
                let (base, number) = line.strip_prefix(name)?.strip_prefix(' ')?.split_once(' ')?;
                Some((Offset(base.parse().ok()?), number.parse().ok()?))
            };
            lines.lines().filter_map(pair).collect()
        };
        let (closed, aborted) = (pairs(CLOSED), pairs(ABORTED));
        let recovery_point = decode_recovery_point(lines);
        let boot = field(lines, BOOT).map(str::to_owned);
        let keeps_flushed_end = number(lines, KEEPS_FLUSHED_END) == Some(1);
        Some(OffsetCheckpoint {
            high_watermark,
            recovery_point,
            closed,
            aborted,
            boot,
            keeps_flushed_end,
        })
    }
}

fn put_boot(lines: &mut String, boot: Option<&str>) {
    if let Some(boot) = boot {
        let _infallible = writeln!(lines, "{BOOT} {boot}");
    }
}

fn decode_recovery_point(lines: &str) -> Option<RecoveryPoint> {
    let largest = number(lines, "largest_timestamp").zip(number(lines, "largest_at").map(Offset));
    let mut mark = Mark::default();
    mark.offsets.count = number(lines, "offset_entries")?;
    mark.offsets.crc = number(lines, "offset_entries_crc32c")?;
    mark.times.count = number(lines, "time_entries")?;
    mark.times.crc = number(lines, "time_entries_crc32c")?;
    Some(RecoveryPoint {
        offset: Offset(number(lines, "recovery_point")?),
        segment: Offset(number(lines, "segment")?),
        position: number(lines, "position")?,
        summary: Summary { first: number(lines, "first_timestamp"), largest },
        mark,
    })
}

pub(crate) fn encode_log_start(offset: Offset) -> Vec<u8> {
    seal(&format!("log_start_offset {offset}\n"))
}

pub(crate) fn decode_log_start(content: &[u8]) -> Option<Offset> {
    number(unseal(content)?, "log_start_offset").map(Offset)
}

/// Always of the same length.
pub(crate) fn encode_flushed_end(offset: Offset) -> Vec<u8> {
    seal(&format!("flushed_end {:020}\n", offset.0))
}

pub(crate) fn decode_flushed_end(content: &[u8]) -> Option<Offset> {
    number(unseal(content)?, "flushed_end").map(Offset)
}

/// Content of [`CLEANER`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CleanerCheckpoint {
    pub(crate) first_dirty: Offset,
    /// Files from before this was written down do not tell.
    pub(crate) tombstones: Option<Tombstones>,
}

impl CleanerCheckpoint {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut lines = format!("first_dirty_offset {}\n", self.first_dirty);
        if let Some(Tombstones { end, due_ms }) = self.tombstones {
            let _infallible = writeln!(lines, "tombstones_below {end}\ntombstones_due_ms {due_ms}");
        }
        seal(&lines)
    }

    pub(crate) fn decode(content: &[u8]) -> Option<CleanerCheckpoint> {
        let lines = unseal(content)?;
        let first_dirty = number(lines, "first_dirty_offset").map(Offset)?;
        let end = number(lines, "tombstones_below").map(Offset);
        let tombstones = end.zip(number(lines, "tombstones_due_ms"));
        let tombstones = tombstones.map(|(end, due_ms)| Tombstones { end, due_ms });
        Some(CleanerCheckpoint { first_dirty, tombstones })
    }
}

pub(crate) fn encode_epochs(entries: &[(LeaderEpoch, Offset)]) -> Vec<u8> {
    let mut lines = String::new();
    for (epoch, start) in entries {
        let _infallible = writeln!(lines, "{epoch} {start}");
    }
    seal(&lines)
}

pub(crate) fn decode_epochs(content: &[u8]) -> Option<Vec<(LeaderEpoch, Offset)>> {
    let entry = |line: &str| {
        let (epoch, start) = line.split_once(' ')?;
        Some((LeaderEpoch(epoch.parse().ok()?), Offset(start.parse().ok()?)))
    };
    unseal(content)?.lines().map(entry).collect()
}

pub(crate) fn encode_damage(damage: &Damage) -> Vec<u8> {
    let cause = damage.cause.replace('\n', " ");
    let mut lines = format!("complete_below {}\ncause {cause}\n", damage.complete_below);
    if let Some(resumes_at) = damage.resumes_at {
        let _infallible = writeln!(lines, "resumes_at {resumes_at}");
    }
    if let Some(missing) = &damage.missing_end {
        let _infallible =
            writeln!(lines, "missing_from {}\nmissing_to {}", missing.start, missing.end);
    }
    seal(&lines)
}

/// Without content: there was no room to say more than that there is one.
pub(crate) fn decode_damage(content: &[u8]) -> Option<Damage> {
    if content.is_empty() {
        return Some(Damage::from(Offset::ZERO, "a damage that there was no room to describe"));
    }
    let lines = unseal(content)?;
    let complete_below = number(lines, "complete_below").map(Offset)?;
    let resumes_at = number(lines, "resumes_at").map(Offset);
    let missing = number(lines, "missing_from").zip(number(lines, "missing_to"));
    let missing_end = missing.map(|(from, to)| Offset(from)..Offset(to));
    let cause = field(lines, "cause")?.to_owned();
    Some(Damage { cause, complete_below, resumes_at, missing_end })
}

/// `boot`: of when the directory was made.
pub(crate) fn encode_metadata(key: &PartitionKey, boot: Option<&str>) -> Vec<u8> {
    let mut lines = format!("topic_id {}\npartition {}\n", key.topic_id, key.partition);
    put_boot(&mut lines, boot);
    seal(&lines)
}

/// See [`encode_metadata`].
pub(crate) fn decode_boot(content: &[u8]) -> Option<String> {
    field(unseal(content)?, BOOT).map(str::to_owned)
}

pub(crate) fn decode_metadata(content: &[u8]) -> Option<PartitionKey> {
    let lines = unseal(content)?;
    let topic_id = decode_topic_id(field(lines, "topic_id")?)?;
    Some(PartitionKey { topic_id, partition: PartitionId(number(lines, "partition")?) })
}

/// A topic id as it is displayed: hexadecimal, with hyphens.
pub(crate) fn decode_topic_id(text: &str) -> Option<TopicId> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    if digits.len() != 32 {
        return None;
    }
    TopicId::from_wire(&u128::from_str_radix(&digits, 16).ok()?.to_be_bytes())
}

/// A directory's id, which is displayed like a topic's.
pub(crate) fn decode_directory_id(text: &str) -> Option<DirectoryId> {
    decode_topic_id(text).map(|id| DirectoryId(id.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::EntriesMark;
    use proptest::prelude::*;

    fn summaries() -> impl Strategy<Value = Summary> {
        (any::<Option<i64>>(), any::<Option<(i64, u64)>>()).prop_map(|(first, largest)| Summary {
            first,
            largest: largest.map(|(timestamp, offset)| (timestamp, Offset(offset))),
        })
    }

    proptest! {
        #[test]
        fn an_offset_checkpoint_reads_as_it_was_written(
            high_watermark in any::<Option<u64>>(),
            point in any::<Option<(u64, u64, u64, u64, u32, u64, u32)>>(),
            summary in summaries(),
            closed in prop::collection::vec(any::<(u64, u64)>(), 0..5),
            aborted in prop::collection::vec(any::<(u64, u64)>(), 0..5),
            boot in prop::option::of("[0-9a-f-]{1,36}"),
            keeps_flushed_end: bool,
        ) {
            let written = OffsetCheckpoint {
                high_watermark: high_watermark.map(Offset),
                recovery_point: point.map(|(offset, segment, position, a, b, c, d)| RecoveryPoint {
                    offset: Offset(offset),
                    segment: Offset(segment),
                    position,
                    summary,
                    mark: Mark {
                        offsets: EntriesMark { count: a, crc: b },
                        times: EntriesMark { count: c, crc: d },
                    },
                }),
                closed: closed.into_iter().map(|(base, size)| (Offset(base), size)).collect(),
                aborted: aborted.into_iter().map(|(base, it)| (Offset(base), it)).collect(),
                boot,
                keeps_flushed_end,
            };
            prop_assert_eq!(OffsetCheckpoint::decode(&written.encode()), Some(written));
        }

        #[test]
        fn a_damaged_file_is_no_file(
            entries in prop::collection::vec((any::<u32>(), any::<u64>()), 0..9),
            at in any::<prop::sample::Index>(),
            bit in 0u32..8,
            cut in any::<prop::sample::Index>(),
        ) {
            let entries: Vec<_> =
                entries.into_iter().map(|(e, o)| (LeaderEpoch(e), Offset(o))).collect();
            let mut content = encode_epochs(&entries);
            prop_assert_eq!(decode_epochs(&content), Some(entries.clone()));
            prop_assert_eq!(decode_epochs(&content[..cut.index(content.len())]), None);
            let at = at.index(content.len());
            content[at] ^= 1u8 << bit;
            // a digit's other case is the same number
            prop_assert!(decode_epochs(&content).is_none_or(|found| found == entries));
        }

        #[test]
        fn no_bytes_are_trusted_or_make_it_panic(content in prop::collection::vec(any::<u8>(), 0..99)) {
            prop_assert_eq!(OffsetCheckpoint::decode(&content), None);
            prop_assert_eq!(decode_metadata(&content), None);
        }
    }

    #[test]
    fn a_partitions_identity_reads_as_it_was_written() {
        let key = PartitionKey { topic_id: TopicId::random(), partition: PartitionId(7) };
        for boot in [None, Some("1f-2e")] {
            let written = encode_metadata(&key, boot);
            assert_eq!(decode_metadata(&written), Some(key));
            assert_eq!(decode_boot(&written).as_deref(), boot);
        }
        assert_eq!(decode_log_start(&encode_log_start(Offset(12))), Some(Offset(12)));
        for offset in [0, 9, u64::MAX].map(Offset) {
            assert_eq!(decode_flushed_end(&encode_flushed_end(offset)), Some(offset));
            assert_eq!(encode_flushed_end(offset).len(), encode_flushed_end(Offset(7)).len());
        }
        for tombstones in [None, Some(Tombstones { end: Offset(7), due_ms: -3 })] {
            let written = CleanerCheckpoint { first_dirty: Offset(9), tombstones };
            assert_eq!(CleanerCheckpoint::decode(&written.encode()), Some(written));
        }
        for (resumes_at, missing_end) in
            [(None, None), (Some(Offset(9)), None), (None, Some(Offset(9)..Offset(12)))]
        {
            let damage = Damage::from(Offset(7), "a disk, and a cause");
            let damage = Damage { resumes_at, missing_end, ..damage };
            assert_eq!(decode_damage(&encode_damage(&damage)), Some(damage));
        }
        assert_eq!(decode_damage(&[]).unwrap().complete_below, Offset::ZERO);
    }
}
