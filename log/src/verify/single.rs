//! A file by itself, but for the log that an index is of.

use super::segment::walk;
use super::{FileReport, Remedy};
use crate::dump::{
    self, DumpError, FileKind, checkpoint_lines, inventory_lines, leader_epochs, offset_entries,
    producer_snapshot, time_entries, txn_entries,
};
use crate::{Aborted, LogError};
use std::path::Path;

/// Of one file more faults than this are not listed: they are one.
const LISTED: usize = 10;

/// Looks at a file.
///
/// # Errors
/// It cannot be read.
pub fn file(path: &Path, kind: FileKind) -> Result<FileReport, LogError> {
    let mut report = FileReport::new(path, kind);
    report.is_leftover = dump::is_leftover(path);
    match kind {
        FileKind::Log => {
            let segment = walk(path, |_| {})?;
            report.entries = segment.batches;
            segment.faults.iter().for_each(|fault| report.fault(Remedy::None, fault));
            report.segment = Some(segment);
        }
        FileKind::OffsetIndex | FileKind::TimeIndex | FileKind::TxnIndex => {
            let (entries, faults) = index_faults(path)?;
            report.entries = entries;
            faults.into_iter().for_each(|fault| report.fault(Remedy::MakeAgain, fault));
        }
        FileKind::Snapshot => {
            report.entries = 1;
            let fault = producer_snapshot(path)?.1;
            fault.iter().for_each(|fault| report.fault(Remedy::Remove, cause(fault)));
        }
        FileKind::Epochs => match leader_epochs(path) {
            Ok(epochs) => report.entries = epochs.len() as u64,
            Err(fault @ LogError::CorruptLog { .. }) => {
                report.fault(Remedy::MakeAgain, cause(&fault));
            }
            Err(error) => return Err(error),
        },
        FileKind::Checkpoint => {
            let (lines, fault) = checkpoint_lines(path)?;
            report.entries = lines.len() as u64;
            fault.iter().for_each(|fault| report.fault(Remedy::None, cause(fault)));
        }
        FileKind::Inventory => {
            for line in inventory_lines(path)? {
                report.entries += 1;
                if let Err(line) = line {
                    let text = format!("`{}` says nothing", line.escape_debug());
                    report.fault(Remedy::None, text);
                }
            }
        }
    }
    Ok(report)
}

/// How many entries an index has, and what is wrong with them.
pub(super) fn index_faults(path: &Path) -> Result<(u64, Vec<String>), LogError> {
    let mut found = Found::default();
    match FileKind::of(path) {
        Some(FileKind::TimeIndex) => {
            for entry in time_entries(path)? {
                found.note(entry.map(|entry| {
                    let name = format!("time index entry {} at {}", entry.timestamp, entry.offset);
                    entry.mismatch.map(|mismatch| format!("{name}: {mismatch}"))
                }))?;
            }
        }
        Some(FileKind::TxnIndex) => {
            for entry in txn_entries(path)? {
                found.note(entry.map(|entry| {
                    let Aborted { producer_id, last_offset, .. } = entry.aborted;
                    let name = format!("aborted transaction of {producer_id} at {last_offset}");
                    entry.mismatch.map(|mismatch| format!("{name}: {mismatch}"))
                }))?;
            }
        }
        _ => {
            for entry in offset_entries(path)? {
                found.note(entry.map(|entry| {
                    let name = format!("index entry {} at byte {}", entry.offset, entry.position);
                    entry.mismatch.map(|mismatch| format!("{name}: {mismatch}"))
                }))?;
            }
        }
    }
    if found.unlisted > 0 {
        found.faults.push(format!("and {} more like that", found.unlisted));
    }
    Ok((found.entries, found.faults))
}

#[derive(Default)]
struct Found {
    entries: u64,
    faults: Vec<String>,
    unlisted: u64,
}

impl Found {
    fn note(&mut self, entry: Result<Option<String>, DumpError>) -> Result<(), LogError> {
        let fault = match entry {
            Err(DumpError::Log(error)) => return Err(error),
            Err(error) => Some(error.to_string()),
            Ok(fault) => {
                self.entries += 1;
                fault
            }
        };
        match fault {
            Some(fault) if self.faults.len() < LISTED => self.faults.push(fault),
            Some(_) => self.unlisted += 1,
            None => {}
        }
        Ok(())
    }
}

/// Without the file's name, which whoever prints it has.
pub(super) fn cause(error: &LogError) -> String {
    match error {
        LogError::CorruptLog { cause, .. } => cause.clone(),
        other => other.to_string(),
    }
}
