//! Mending what was found: what follows from the batches is made again, what is left over is cleared away.
//!
//! The rest is what opening the log does, and done by it: cutting a torn tail, clearing leftovers, writing epochs and
//! checkpoints. Before records go, the replica is made to remember that it lacks some: whoever opens it does not take
//! it for whole.

use super::{FileReport, Remedy};
use crate::checkpoint;
use crate::damage::Evidence;
use crate::disk::{Disk, DiskFile, FileDisk};
use crate::dump::{FileKind, base_offset};
use crate::place::{Kind, Place};
use crate::{Log, LogConfig, LogError};
use std::path::{Path, PathBuf};
use troupe_proto::ids::PartitionKey;

/// What was done to a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mended {
    /// In words, one for each thing.
    pub done: Vec<String>,
    /// The records that went, in words.
    pub lost: Vec<String>,
}

/// Why nothing was changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MendError {
    /// Without it nobody knows whose batches these are.
    #[error("{path} does not say which topic this is of: without it nothing can be checked or made again", path = path.display())]
    UnknownPartition { path: PathBuf },
    #[error("records are damaged or gone: {}", losses.join("; "))]
    Loss { losses: Vec<String> },
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Mends what `reports` of this partition say is wrong and can be mended. Records go only with `drop_damaged`. The
/// caller sees to it that no node uses the directory.
///
/// # Errors
/// [`MendError`]; of [`MendError::Log`], something may have been done.
pub fn mend(
    dir: &Path,
    reports: &[FileReport],
    drop_damaged: bool,
    now_ms: i64,
) -> Result<Mended, MendError> {
    let place = Place { disk: FileDisk, dir: dir.to_owned(), key: None };
    let mut mended = Mended::default();
    let is_stale =
        |report: &&FileReport| report.is_leftover || report.faults.iter().any(is_mendable);
    if !reports.iter().any(|report| is_stale(&report) || losses(report).next().is_some()) {
        return Ok(mended);
    }
    let metadata = place.read(checkpoint::METADATA)?;
    let key = metadata.and_then(|content| checkpoint::decode_metadata(&content));
    let unknown = || MendError::UnknownPartition { path: place.path(checkpoint::METADATA) };
    let key = key.ok_or_else(unknown)?;
    let all: Vec<String> = reports.iter().flat_map(losses).collect();
    if !all.is_empty() && !drop_damaged {
        return Err(MendError::Loss { losses: all });
    }
    drop_records(&place, reports)?;
    mended.lost = all;
    for report in reports.iter().filter(is_stale) {
        mended.done.extend(describe(report));
        if must_go(report) {
            remove(&place, report)?;
        }
    }
    place.sync_dir()?;
    reopen(place, key, now_ms, &mut mended)?;
    Ok(mended)
}

fn is_mendable(fault: &super::Fault) -> bool {
    matches!(fault.remedy, Remedy::MakeAgain | Remedy::Remove | Remedy::CutTail { .. })
}

/// The records that a file lacks, in words.
fn losses(report: &FileReport) -> impl Iterator<Item = String> {
    let path = report.path.display().to_string();
    let mut told = None;
    report.faults.iter().filter_map(move |fault| {
        let Remedy::Loss { position, from, to } = fault.remedy else { return None };
        if told == Some((position, from)) {
            return None;
        }
        told = Some((position, from));
        let until = to.map_or_else(|| "on".to_owned(), |to| format!("to {to}, exclusive"));
        let place =
            position.map_or_else(String::new, |position| format!(" from byte {position} on"));
        Some(format!("{path}{place}: offsets {from} {until}"))
    })
}

/// What is going to be done about a file.
fn describe(report: &FileReport) -> Option<String> {
    let path = report.path.display();
    if report.is_leftover {
        return Some(format!("{path}: a leftover, cleared away"));
    }
    let fault = report.faults.iter().find(|fault| is_mendable(fault))?;
    Some(match fault.remedy {
        Remedy::CutTail { position } => {
            format!("{path}: cut at byte {position}, behind which a write was torn")
        }
        Remedy::Remove => format!("{path}: removed"),
        _ => format!("{path}: made again"),
    })
}

/// A file that opening the log would believe, or not touch.
fn must_go(report: &FileReport) -> bool {
    let is_orphan = report.is_leftover && !crate::dump::is_leftover(&report.path);
    let is_wrong = report
        .faults
        .iter()
        .any(|fault| matches!(fault.remedy, Remedy::MakeAgain | Remedy::Remove));
    is_orphan || (is_wrong && report.kind != FileKind::Log)
}

/// Of an index, both go: they are made together.
fn remove(place: &Place<FileDisk>, report: &FileReport) -> Result<(), LogError> {
    let name = report.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    place.remove(name)?;
    let index = matches!(report.kind, FileKind::OffsetIndex | FileKind::TimeIndex);
    if let Some(base) = base_offset(&report.path).filter(|_| index) {
        place.remove(&Kind::OffsetIndex.name(base))?;
        place.remove(&Kind::TimeIndex.name(base))?;
    }
    Ok(())
}

/// Cuts damaged segments where the damage begins. That some are missing is written down before.
fn drop_records(place: &Place<FileDisk>, reports: &[FileReport]) -> Result<(), LogError> {
    let mut evidence = Evidence::default();
    evidence.recall(place, place.read(checkpoint::DAMAGE)?);
    let mut cuts: Vec<(&Path, u64)> = Vec::new();
    for report in reports {
        for fault in &report.faults {
            let Remedy::Loss { position, from, .. } = fault.remedy else { continue };
            evidence.note(from, format!("{}: {}", report.path.display(), fault.text));
            cuts.extend(position.map(|position| (report.path.as_path(), position)));
        }
    }
    if evidence.damage.is_none() {
        return Ok(());
    }
    evidence.keep(place)?;
    cuts.dedup_by_key(|(path, _)| *path);
    for (path, position) in cuts {
        let file = place.disk.open(path).map_err(|e| LogError::io("open", path, e))?;
        file.truncate(position).map_err(|e| LogError::io("truncate", path, e))?;
        file.sync().map_err(|e| LogError::failed_sync("sync", path, e))?;
    }
    Ok(())
}

/// Opens the log as a node does, has all indexes made, and closes it.
fn reopen(
    place: Place<FileDisk>,
    key: PartitionKey,
    now_ms: i64,
    mended: &mut Mended,
) -> Result<(), LogError> {
    let config = LogConfig::default();
    let (log, recovery) = Log::open(place.disk, place.dir, key, config, now_ms)?;
    mended.done.extend(recovery.notices);
    for segment in &log.segments {
        segment.indexes(&log.place, config.index_interval_bytes)?;
    }
    let high_watermark = recovery.high_watermark.unwrap_or(log.log_start());
    log.close_clean(high_watermark)
}
