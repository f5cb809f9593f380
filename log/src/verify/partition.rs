//! A partition's directory: each file by itself, and all of them together.
//!
//! Segments end where the next one begins; within one, offsets may be missing. What checkpoints vouch for has to be
//! there. What stands behind the recovery point may have been torn by a crash, which is no damage.

use super::segment::{Bad, SegmentReport, walk};
use super::single::{file, index_faults};
use super::{FileReport, Remedy};
use crate::checkpoint::{self, OffsetCheckpoint};
use crate::cleaning::SWAP;
use crate::damage::{self, is_torn};
use crate::disk::{Disk, FileDisk};
use crate::dump::{FileKind, base_offset, is_leftover};
use crate::epochs::Epochs;
use crate::place::{ASIDE, Kind, Place};
use crate::recovery::FoundSegment;
use crate::retention::DELETED;
use crate::{Damage, LogError};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::{Offset, PartitionKey};

/// Looks at all files of a partition's directory, by name.
///
/// # Errors
/// Something cannot be read.
pub fn partition(dir: &Path) -> Result<Vec<FileReport>, LogError> {
    let mut look = Look::new(dir)?;
    let mut reports = Vec::new();
    if look.names.iter().any(|name| name == SWAP) {
        return look.each_alone();
    }
    look.segments(&mut reports)?;
    for name in look.names.clone() {
        let path = dir.join(&name);
        // what was set aside is nobody's any more
        let Some(kind) = FileKind::of(&path).filter(|_| !name.contains(ASIDE)) else { continue };
        if kind != FileKind::Log || Kind::parse(&name).is_none() {
            reports.push(look.other(&path, kind)?);
        }
    }
    look.missing(&mut reports);
    reports.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(reports)
}

/// What is known of a partition while its files are looked at.
struct Look {
    place: Place<FileDisk>,
    names: Vec<String>,
    key: Option<PartitionKey>,
    checkpoint: OffsetCheckpoint,
    epochs: Option<Epochs>,
    log_start: Offset,
    /// Up to where the log was flushed last, if that is known.
    flushed_end: Option<Offset>,
    /// By base offset.
    found: BTreeMap<Offset, SegmentReport>,
    /// The first batch that the file of the leader epochs knows otherwise.
    epochs_differ: Option<String>,
    end: Offset,
}

impl Look {
    fn new(dir: &Path) -> Result<Look, LogError> {
        let place = Place { disk: FileDisk, dir: dir.to_owned(), key: None };
        let names = place.disk.list(dir).map_err(|e| LogError::io("list", dir, e))?;
        let mut names = names.unwrap_or_default();
        names.sort();
        let key = place.read(checkpoint::METADATA)?;
        let key = key.and_then(|content| checkpoint::decode_metadata(&content));
        let offsets = place.read(checkpoint::OFFSETS)?;
        let offsets = offsets.and_then(|content| OffsetCheckpoint::decode(&content));
        let epochs = place.read(checkpoint::EPOCHS)?;
        let epochs = epochs.and_then(|content| checkpoint::decode_epochs(&content));
        let log_start = place.read(checkpoint::LOG_START)?;
        let log_start = log_start.and_then(|content| checkpoint::decode_log_start(&content));
        let flushed_end = place.read(checkpoint::FLUSHED_END)?;
        let flushed_end = flushed_end.and_then(|it| checkpoint::decode_flushed_end(&it));
        let is_kept = offsets.as_ref().is_none_or(|offsets| offsets.keeps_flushed_end);
        let flushed_end = flushed_end.filter(|_| is_kept);
        Ok(Look {
            place,
            names,
            key,
            checkpoint: offsets.unwrap_or_default(),
            epochs: epochs.and_then(Epochs::from_entries),
            log_start: log_start.unwrap_or_default(),
            flushed_end,
            found: BTreeMap::new(),
            epochs_differ: None,
            end: Offset::ZERO,
        })
    }

    /// In the middle of a swap the files do not go together: opening the log finishes it.
    fn each_alone(&self) -> Result<Vec<FileReport>, LogError> {
        let mut reports = Vec::new();
        for name in &self.names {
            let path = self.place.path(name);
            let Some(kind) = FileKind::of(&path) else { continue };
            let mut report = FileReport::new(&path, kind);
            report.is_leftover = true;
            reports.push(if is_leftover(&path) { report } else { file(&path, kind)? });
        }
        Ok(reports)
    }

    /// All below was on disk for good.
    fn vouched_for(&self) -> Offset {
        let point = self.checkpoint.recovery_point.map(|point| point.offset);
        point.max(self.flushed_end).unwrap_or(Offset::ZERO)
    }

    fn segments(&mut self, reports: &mut Vec<FileReport>) -> Result<(), LogError> {
        let names = self.names.iter().filter_map(|name| Kind::parse(name));
        let bases: Vec<Offset> =
            names.filter(|(_, kind)| *kind == Kind::Log).map(|(base, _)| base).collect();
        let mut before: Option<SegmentReport> = None;
        for (at, base) in bases.iter().copied().enumerate() {
            let path = self.place.file_of(base, Kind::Log);
            let next = bases.get(at + 1).copied();
            let mut differs = self.epochs_differ.take();
            let segment = walk(&path, |header| {
                differs = differs.take().or_else(|| self.epoch_fault(header));
            })?;
            self.epochs_differ = differs;
            let mut report = FileReport::new(&path, FileKind::Log);
            report.entries = segment.batches;
            // of one that is not whole it is told already
            let follows = before.as_ref().is_none_or(|before| before.first_bad.is_some());
            if !follows && base != self.end {
                let (end, to) = (self.end, Some(base));
                let text = format!("it begins at {base}, and the segment before it ends at {end}");
                report.fault(Remedy::Loss { position: None, from: end, to }, text);
            }
            let remedy = self.remedy(&path, &segment, next)?;
            segment.faults.iter().for_each(|fault| report.fault(remedy, fault));
            self.end = segment.end(base);
            report.segment = Some(segment.clone());
            self.found.insert(base, segment.clone());
            before = Some(segment);
            reports.push(report);
        }
        Ok(())
    }

    /// Of a batch that was flushed, the file of the leader epochs has to say what it says itself.
    fn epoch_fault(&self, header: &BatchHeader) -> Option<String> {
        let epochs = self.epochs.as_ref()?;
        let at = header.base_offset;
        if at < self.log_start || header.end_offset() > self.vouched_for() {
            return None;
        }
        let (epoch, known) = (header.leader_epoch, epochs.at(at));
        let told = || known.map_or_else(|| "none".to_owned(), |known| known.to_string());
        (known != Some(epoch))
            .then(|| format!("it says {} at offset {at}, and the batch {epoch}", told()))
    }

    /// What is to be done about what is wrong in a segment.
    fn remedy(
        &self,
        path: &Path,
        segment: &SegmentReport,
        next: Option<Offset>,
    ) -> Result<Remedy, LogError> {
        let Some(Bad { position, offset, cause }) = &segment.first_bad else {
            return Ok(Remedy::MakeAgain);
        };
        let (position, from) = (*position, *offset);
        if let (Some(key), Some(bad)) = (self.key, cause)
            && next.is_none()
            && from >= self.vouched_for()
        {
            let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
            let (size, file) = opened.map_err(|e| LogError::io("open", path, e))?;
            let torn = is_torn(&file, &key, bad, position, size, self.memory_was_lost()?);
            if torn.map_err(|e| LogError::io("read", path, e))? {
                return Ok(Remedy::CutTail { position });
            }
        }
        let to = next.or_else(|| segment.offsets.map(|(_, end)| end).filter(|end| *end > from));
        Ok(Remedy::Loss { position: Some(position), from, to })
    }

    /// As when the log is opened: what was written in this run of the machine is there, synced or not.
    fn memory_was_lost(&self) -> Result<bool, LogError> {
        let made_in = self.place.read(checkpoint::METADATA)?;
        let made_in = made_in.and_then(|content| checkpoint::decode_boot(&content));
        let known = [self.checkpoint.boot.clone(), made_in];
        let boot = self.place.disk.boot();
        Ok(boot.is_none() || !known.contains(&boot))
    }

    /// Every file that is no segment of the log.
    fn other(&self, path: &Path, kind: FileKind) -> Result<FileReport, LogError> {
        if is_leftover(path) {
            let mut report = FileReport::new(path, kind);
            report.is_leftover = true;
            return Ok(report);
        }
        match kind {
            FileKind::OffsetIndex | FileKind::TimeIndex | FileKind::TxnIndex => {
                self.index(path, kind)
            }
            FileKind::Snapshot => {
                let mut report = file(path, kind)?;
                let end = self.end;
                if let Some(offset) = base_offset(path).filter(|offset| *offset > end) {
                    let text = format!("it holds at {offset}, and the log ends at {end}");
                    report.fault(Remedy::Remove, text);
                }
                Ok(report)
            }
            FileKind::Epochs => {
                let mut report = file(path, kind)?;
                if self.epochs.is_none() && report.faults.is_empty() {
                    report.fault(Remedy::MakeAgain, "its entries are not in order");
                }
                let differ = self.epochs_differ.iter();
                differ.for_each(|text| report.fault(Remedy::MakeAgain, text));
                Ok(report)
            }
            FileKind::Checkpoint => self.text(path),
            FileKind::Log | FileKind::Inventory => file(path, kind),
        }
    }

    fn index(&self, path: &Path, kind: FileKind) -> Result<FileReport, LogError> {
        let mut report = FileReport::new(path, kind);
        let base = base_offset(path).unwrap_or_default();
        let Some(segment) = self.found.get(&base) else {
            report.is_leftover = true;
            return Ok(report);
        };
        let (entries, faults) = index_faults(path)?;
        report.entries = entries;
        let counted = self.checkpoint.aborted.iter().find(|(counted, _)| *counted == base);
        let counted = counted.filter(|_| kind == FileKind::TxnIndex && faults.is_empty());
        if let Some((_, count)) = counted.filter(|(_, count)| *count > entries) {
            let text = format!("it knows of {entries} aborted transactions of {count}");
            report.fault(Remedy::MakeAgain, text);
        }
        // beside a log that is damaged an index says nothing of itself; it is made again with that
        let faults = faults.into_iter().filter(|_| segment.first_bad.is_none());
        faults.for_each(|fault| report.fault(Remedy::MakeAgain, fault));
        let is_closed = self.found.keys().next_back() != Some(&base);
        if kind == FileKind::TimeIndex
            && is_closed
            && report.faults.is_empty()
            && segment.first_bad.is_none()
            && let Some(largest) = segment.largest_timestamp
        {
            let last = crate::dump::time_entries(path)?.filter_map(Result::ok).last();
            if last.is_none_or(|last| last.timestamp != largest) {
                let text = format!("it does not reach the segment's largest timestamp, {largest}");
                report.fault(Remedy::MakeAgain, text);
            }
        }
        Ok(report)
    }

    fn text(&self, path: &Path) -> Result<FileReport, LogError> {
        let mut report = file(path, FileKind::Checkpoint)?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_sound = report.faults.is_empty();
        match name {
            checkpoint::DAMAGE => {
                let content = self.place.read(checkpoint::DAMAGE)?.unwrap_or_default();
                if let Some(Damage { cause, complete_below, .. }) =
                    checkpoint::decode_damage(&content)
                {
                    let text = format!("records from {complete_below} on may be missing: {cause}");
                    report.fault(Remedy::None, text);
                }
            }
            checkpoint::OFFSETS if is_sound => self.vouching(&mut report),
            checkpoint::OFFSETS
            | checkpoint::LOG_START
            | checkpoint::CLEANER
            | checkpoint::TOMBSTONES_GONE
            | checkpoint::FLUSHED_END => {
                report.faults.iter_mut().for_each(|fault| fault.remedy = Remedy::MakeAgain);
            }
            checkpoint::METADATA => self.identity(&mut report),
            _ => {}
        }
        Ok(report)
    }

    /// What the offset checkpoint knows to be there.
    fn vouching(&self, report: &mut FileReport) {
        let size = |base: &Offset| self.place.disk.size(&self.place.file_of(*base, Kind::Log));
        let files: Vec<FoundSegment> = self
            .found
            .keys()
            .filter_map(|base| Some(FoundSegment { base: *base, size: size(base).ok()? }))
            .collect();
        let was_deleted = |base, end| {
            let name = Kind::Log.name(base) + DELETED;
            end <= self.log_start || self.names.contains(&name)
        };
        for (from, text) in damage::missing(&self.place, &self.checkpoint, &files, was_deleted) {
            report.fault(Remedy::Loss { position: None, from, to: None }, text);
        }
        if !report.faults.is_empty() {
            return;
        }
        let (end, needed) = (self.end, self.end.max(self.log_start));
        let is_known = self.found.values().any(|segment| segment.first_bad.is_some());
        let flushed = Some(("flushed", self.vouched_for()));
        let committed = self.checkpoint.high_watermark.filter(|_| self.log_start <= end);
        let committed = committed.map(|offset| ("committed", offset));
        for (what, offset) in flushed.into_iter().chain(committed) {
            if offset > needed && !is_known {
                let text = format!("the log ends at {end} and was {what} up to {offset}");
                report.fault(Remedy::Loss { position: None, from: needed, to: Some(offset) }, text);
                return;
            }
        }
    }

    fn identity(&self, report: &mut FileReport) {
        let named = self.place.dir.file_name().and_then(|name| name.to_str());
        let named = named.and_then(|name| name.rsplit_once('-')).map(|(_, number)| number);
        let named = named.and_then(|number| number.parse::<u32>().ok());
        if let (Some(key), Some(named)) = (self.key, named)
            && key.partition.0 != named
        {
            let text =
                format!("it says partition {}, and the directory is of {named}", key.partition);
            report.fault(Remedy::None, text);
        }
    }

    /// Files that should be there.
    fn missing(&self, reports: &mut Vec<FileReport>) {
        let has = |name: &str| self.names.iter().any(|found| found == name);
        for (base, _) in &self.checkpoint.closed {
            if !self.found.contains_key(base) {
                continue;
            }
            for (kind, named) in
                [(Kind::OffsetIndex, FileKind::OffsetIndex), (Kind::TimeIndex, FileKind::TimeIndex)]
            {
                if !has(&kind.name(*base)) {
                    let mut report = FileReport::new(&self.place.file_of(*base, kind), named);
                    report.fault(Remedy::MakeAgain, "is gone; a node makes it again");
                    reports.push(report);
                }
            }
        }
        for (base, count) in &self.checkpoint.aborted {
            let name = Kind::TxnIndex.name(*base);
            if self.found.contains_key(base) && !has(&name) {
                let mut report = FileReport::new(&self.place.path(&name), FileKind::TxnIndex);
                let text =
                    format!("is gone, with {count} aborted transactions; a node makes it again");
                report.fault(Remedy::MakeAgain, text);
                reports.push(report);
            }
        }
        if self.found.is_empty() {
            return;
        }
        if !has(checkpoint::METADATA) {
            let path = self.place.path(checkpoint::METADATA);
            let mut report = FileReport::new(&path, FileKind::Checkpoint);
            report.fault(Remedy::None, "is gone: nothing else says which topic this is of");
            reports.push(report);
        }
        if self.checkpoint.recovery_point.is_some() && !has(checkpoint::EPOCHS) {
            let path = self.place.path(checkpoint::EPOCHS);
            let mut report = FileReport::new(&path, FileKind::Epochs);
            report.fault(Remedy::MakeAgain, "is gone; a node makes it again");
            reports.push(report);
        }
    }
}
