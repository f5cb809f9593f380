//! A segment by itself: every batch, its checksums, and that they follow each other.

use super::single::index_faults;
use crate::LogError;
use crate::dump::{DumpError, DumpedBatch, LogFile, base_offset};
use crate::place::Kind;
use std::path::Path;
use troupe_proto::batch::{BatchError, BatchHeader};
use troupe_proto::ids::{LeaderEpoch, Offset};

/// What was found in a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentReport {
    pub batches: u64,
    pub records: u64,
    /// Bytes that whole batches take up.
    pub bytes: u64,
    /// Offset of the first batch, and behind the last.
    pub offsets: Option<(Offset, Offset)>,
    pub largest_timestamp: Option<i64>,
    /// Whether header checksums could be checked: that takes the partition's identity.
    pub identity_known: bool,
    /// Everything that is wrong, in words.
    pub faults: Vec<String>,
    /// Where the first of them stands.
    pub(super) first_bad: Option<Bad>,
    epoch: Option<LeaderEpoch>,
}

/// A place in a segment up to which all is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub position: u64,
    /// First offset that is not known to be sound.
    pub offset: Offset,
    /// What is wrong with the batch there, if it is none.
    pub cause: Option<BatchError>,
}

/// Checks a `.log` file, and the indexes beside it if there are any. Of the segment that takes appends on a
/// running node, the indexes in the files lag behind; that is no fault.
///
/// # Errors
/// A file cannot be read. What is wrong with their content is in the report.
pub fn verify_segment(path: &Path) -> Result<SegmentReport, LogError> {
    let mut report = walk(path, |_| {})?;
    for kind in Kind::INDEXES {
        if let Some(index) = crate::dump::beside(path, kind).filter(|index| index.exists()) {
            let (_, faults) = index_faults(&index)?;
            report.faults.extend(faults);
        }
    }
    Ok(report)
}

/// Checks the batches alone, and shows each header.
pub(super) fn walk(
    path: &Path,
    mut each: impl FnMut(&BatchHeader),
) -> Result<SegmentReport, LogError> {
    let mut file = LogFile::open(path)?;
    let mut report =
        SegmentReport { identity_known: file.key().is_some(), ..SegmentReport::default() };
    let base = base_offset(path).unwrap_or_default();
    for batch in &mut file {
        match batch {
            Ok(batch) => {
                report.note(&batch, base);
                each(&batch.header);
            }
            Err(DumpError::Log(error)) => return Err(error),
            Err(DumpError::BadBatch { position, left, cause }) => {
                let error = DumpError::BadBatch { position, left, cause: cause.clone() };
                report.bad(position, base, Some(cause));
                report.faults.push(error.to_string());
            }
            Err(error @ (DumpError::TornEntry { .. } | DumpError::BadEntry { .. })) => {
                report.faults.push(error.to_string())
            }
        }
    }
    Ok(report)
}

impl SegmentReport {
    fn note(&mut self, batch: &DumpedBatch, base: Offset) {
        let (header, position) = (&batch.header, batch.position);
        if let Some(fault) = &batch.fault {
            self.bad(position, base, Some(fault.clone()));
            self.faults.push(format!("batch at byte {position}: {fault}"));
        }
        let expected = self.end(base);
        if header.base_offset < expected {
            let found = header.base_offset;
            self.bad(position, base, None);
            self.faults.push(format!("batch at byte {position}: offset {found} after {expected}"));
        }
        if let Some(before) = self.epoch.filter(|before| header.leader_epoch < *before) {
            let epoch = header.leader_epoch;
            self.bad(position, base, None);
            self.faults
                .push(format!("batch at byte {position}: leader epoch {epoch} after {before}"));
        }
        self.epoch = Some(header.leader_epoch);
        let first = self.offsets.map_or(header.base_offset, |(first, _)| first);
        self.offsets = Some((first, header.end_offset()));
        if header.record_count > 0 {
            self.largest_timestamp = self.largest_timestamp.max(Some(header.max_timestamp));
        }
        self.batches += 1;
        self.records += u64::from(header.record_count);
        self.bytes += header.encoded_len() as u64;
    }

    fn bad(&mut self, position: u64, base: Offset, cause: Option<BatchError>) {
        let offset = self.end(base);
        self.first_bad.get_or_insert(Bad { position, offset, cause });
    }

    /// Where the next batch goes.
    pub(super) fn end(&self, base: Offset) -> Offset {
        self.offsets.map_or(base, |(_, end)| end)
    }
}
