//! Opening a log: what stands in its directory becomes what the owner sees.
//!
//! Below the recovery point everything is known to be on disk and is not looked at. Behind it every batch
//! is checked, both checksums; the first bad one and all after it go. What was kept is synced, so that
//! after opening all of the log is durable. Recovering again finds nothing to do.
//!
//! Cost: a partition that was never written, one failed directory listing; one that was flushed before the
//! end, however that came, some fifteen system calls.

mod tail;

use crate::checkpoint::{self, CleanerCheckpoint, OffsetCheckpoint, RecoveryPoint};
use crate::cleaning;
use crate::damage::{Damage, Evidence};
use crate::disk::Disk;
use crate::epochs::Epochs;
use crate::flush::{FlushPoint, Flushing};
use crate::flushed_end::FlushedEnd;
use crate::listing::Listing;
use crate::log::Presence;
use crate::place::{Kind, Place};
use crate::retention::{DELETED, Deleted, is_deleted_segment};
use crate::segment::Segment;
use crate::txn_index::FoundAborted;
use crate::{Log, LogConfig, LogError};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tail::Scan;
use troupe_proto::ids::{Offset, PartitionKey};

/// What opening a log found.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// Nothing had to be looked through.
    pub clean: bool,
    /// Bytes behind the recovery point that were looked through.
    pub scanned_bytes: u64,
    /// Bytes that were cut off: never flushed, so never promised.
    pub truncated_bytes: u64,
    /// The newest producer snapshot and its offset.
    pub snapshot: Option<(Offset, Bytes)>,
    /// From here to the log's end the owner has to replay headers on top of the snapshot. It may lie below
    /// the log's start.
    pub replay_from: Offset,
    /// The directory was there, and said which partition it is of.
    pub had_directory: bool,
    /// As it was checkpointed, but within the log (S13).
    pub high_watermark: Option<Offset>,
    /// Something was on disk for good and is not, now or when the log was opened before.
    pub damage: Option<Damage>,
    /// What else was not as it should be, in words: set aside, or made again from the batches.
    pub notices: Vec<String>,
}

/// A segment's file as it was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FoundSegment {
    pub(crate) base: Offset,
    pub(crate) size: u64,
}

impl<D: Disk> Log<D> {
    /// Opens or recovers the log of a partition in `dir`, which need not exist: it is made at the first
    /// append. Afterwards `flushed_end == log_end`.
    ///
    /// # Errors
    /// [`LogError::OtherTopic`] if the directory is of another topic; errors of the disk.
    pub fn open(
        disk: D,
        dir: PathBuf,
        key: PartitionKey,
        config: LogConfig,
        now_ms: i64,
    ) -> Result<(Log<D>, Recovery), LogError> {
        let place = Place { disk, dir, key: Some(key) };
        let names = place.disk.list(&place.dir).map_err(|e| LogError::io("list", &place.dir, e))?;
        let Some(mut names) = names else {
            return Ok(Log::assemble(place, key, config, now_ms, Recovered::default()));
        };
        if cleaning::resume(&place, &names)? {
            let listed = place.disk.list(&place.dir);
            names = listed.map_err(|e| LogError::io("list", &place.dir, e))?.unwrap_or_default();
        }
        let listing = Listing::of(names);
        let mut recovered = Recovered::default();
        recovered.made_in = check_identity(&place, &listing, &key, &mut recovered.evidence)?;
        let leftovers = listing.leftovers.iter().filter(|name| !name.ends_with(DELETED));
        for name in leftovers.cloned().chain(listing.orphans()) {
            recovered.evidence.notices.extend(place.clear(&name)?);
        }
        let mut recovered = recover(&place, &key, &config, &listing, recovered)?;
        let aborted = std::mem::take(&mut recovered.aborted);
        let deleted = listing.leftovers.iter().filter(|name| name.ends_with(DELETED)).cloned();
        let (mut log, recovery) = Log::assemble(place, key, config, now_ms, recovered);
        // what cannot be read was set aside
        let log_start = log.place.read(checkpoint::LOG_START)?;
        log.presence.log_start = log_start.and_then(|c| checkpoint::decode_log_start(&c));
        log.settle(recovery, &aborted, deleted.collect())
    }

    fn assemble(
        place: Place<D>,
        key: PartitionKey,
        config: LogConfig,
        now_ms: i64,
        found: Recovered<D>,
    ) -> (Log<D>, Recovery) {
        let damage = found.evidence.damage.map(|damage| damage.within(found.end));
        let mut log = Log {
            place,
            key,
            config,
            start: found.segments.front().map_or(found.end, |segment| segment.base),
            end: found.end,
            segments: found.segments,
            aborted: BTreeMap::new(),
            active_since_ms: now_ms,
            epochs: found.epochs,
            epochs_changed: found.epochs_changed,
            snapshots: found.snapshots,
            durable_snapshot: None,
            flushing: Flushing::new(FlushPoint::default()),
            presence: Presence { directory: found.has_directory, ..Presence::default() },
            cleaned_below: found.cleaner.first_dirty,
            tombstones: found.cleaner.tombstones,
            tombstones_gone_below: found.tombstones_gone_below,
            tombstones_gone_changed: false,
            cleaning: None,
            truncations: 0,
            damage: damage.clone(),
            deleted: Vec::new(),
        };
        log.flushing.flushed_end = Arc::new(FlushedEnd::found(found.flushed_end));
        let point = log.end_point();
        log.flushing.restart_at(point);
        let recovery = Recovery {
            clean: found.scanned_bytes == 0 && found.truncated_bytes == 0 && !found.changed,
            scanned_bytes: found.scanned_bytes,
            truncated_bytes: found.truncated_bytes,
            snapshot: None,
            replay_from: log.start,
            had_directory: found.had_directory,
            high_watermark: found.checkpoint.high_watermark,
            damage,
            notices: found.evidence.notices,
        };
        if found.checkpoint.recovery_point.is_some() && recovery.clean {
            let high_watermark = found.checkpoint.high_watermark.unwrap_or(Offset::ZERO);
            log.presence.checkpoint = log.checkpointed_at(high_watermark, point);
        }
        (log, recovery)
    }

    /// The last part of opening: the log's start, snapshots, and the files that have to follow. The files of
    /// segments that retention has `deleted` go when a checkpoint no longer names them.
    fn settle(
        mut self,
        mut recovery: Recovery,
        aborted: &FoundAborted,
        mut deleted: Vec<String>,
    ) -> Result<(Log<D>, Recovery), LogError> {
        let lost = self.find_aborted(aborted, &mut recovery.notices)?;
        if let Some(start) = self.presence.log_start {
            if start > self.end {
                // S14
                recovery.truncated_bytes += self.size_bytes();
                recovery.clean = false;
                self.truncate_fully_and_start_at(start)?;
            }
            self.start = self.start.max(start);
        }
        self.epochs_changed |= self.epochs.truncate_from_start(self.start);
        self.lower_cleaned_below(self.end)?;
        let snapshots = self.snapshots.len();
        self.remove_snapshots_above(self.end)?;
        recovery.snapshot = self.load_newest_snapshot(&mut recovery.notices)?;
        let snapshot = recovery.snapshot.as_ref().map(|(offset, _)| *offset);
        // whatever has let it survive until now will do so again, as good as surely
        self.durable_snapshot = snapshot;
        recovery.replay_from = self.replay_from(snapshot);
        recovery.high_watermark =
            recovery.high_watermark.map(|offset| offset.clamp(self.start, self.end));
        self.survey_damage()?;
        recovery.damage = self.damage.clone();
        if self.presence.directory {
            self.keep_damage()?;
        }
        self.complete_aborted(lost, &aborted.markers)?;
        recovery.clean &= self.presence.checkpoint.is_some() || !self.presence.directory;
        // what is missing is kept in mind by now
        self.flushing.flushed_end.lower(&self.place, self.end)?;
        if !deleted.is_empty() {
            self.presence.checkpoint = None;
        }
        if !recovery.clean || snapshots != self.snapshots.len() || !deleted.is_empty() {
            let high_watermark = recovery.high_watermark.unwrap_or(self.start);
            if !self.write_if_room(high_watermark, &mut deleted)? {
                let dir = self.place.dir.display();
                recovery.notices.push(format!("there is no space for the checkpoints of {dir}"));
            }
            self.flushing.owe_dir(&self.place.dir);
            // what was removed must not come back beside what is written next
            self.sync_owed()?;
            if let Some(active) = self.segments.back().filter(|_| self.presence.directory) {
                let flushed_end = &self.flushing.flushed_end;
                flushed_end.note(&self.place, self.end, active.base, flushed_end.lowered());
            }
            if let Some(parent) = self.place.dir.parent() {
                let synced = self.place.disk.sync_dir(parent);
                synced.map_err(|e| LogError::sync_dir(parent, e))?;
            }
        }
        for name in deleted {
            recovery.notices.extend(self.place.clear(&name)?);
        }
        Ok((self, recovery))
    }

    /// False: there is no room for it. The next opening has as much to do again, and a log serves all the same.
    /// What is deleted has given up its space by then, and its name tells why it is gone.
    fn write_if_room(
        &mut self,
        high_watermark: Offset,
        deleted: &mut Vec<String>,
    ) -> Result<bool, LogError> {
        match self.write_what_follows(high_watermark) {
            Err(LogError::DiskFull { .. }) => {}
            written => return written.map(|()| true),
        }
        let names = std::mem::take(deleted).into_iter();
        let (segments, others): (Vec<_>, _) = names.partition(|name| is_deleted_segment(name));
        *deleted = others;
        if segments.is_empty() {
            return Ok(false);
        }
        for name in &segments {
            // what cannot be emptied takes its space as before
            let _ = self.place.empty(name);
        }
        self.deleted = segments.into_iter().map(|name| Deleted::new(name, true)).collect();
        match self.write_what_follows(high_watermark) {
            Err(LogError::DiskFull { .. }) => Ok(false),
            written => written.map(|()| true),
        }
    }

    fn write_what_follows(&mut self, high_watermark: Offset) -> Result<(), LogError> {
        self.make_directory()?;
        self.epochs_changed = true;
        self.write_epochs()?;
        self.sync_owed()?;
        self.checkpoint(high_watermark)
    }
}

/// What [`recover`] found in the files.
struct Recovered<D: Disk> {
    segments: VecDeque<Segment<D>>,
    end: Offset,
    epochs: Epochs,
    /// Their file says more than is true.
    epochs_changed: bool,
    snapshots: Vec<Offset>,
    checkpoint: OffsetCheckpoint,
    has_directory: bool,
    /// See [`Recovery::had_directory`].
    had_directory: bool,
    /// The run of the machine in which the directory was made.
    made_in: Option<String>,
    /// Something in the directory is not as it was.
    changed: bool,
    scanned_bytes: u64,
    truncated_bytes: u64,
    /// What compaction has looked at, as it was written down.
    cleaner: CleanerCheckpoint,
    tombstones_gone_below: Offset,
    /// Up to where the log was flushed last, if that is known.
    flushed_end: Option<Offset>,
    aborted: FoundAborted,
    evidence: Evidence,
}

impl<D: Disk> Default for Recovered<D> {
    fn default() -> Self {
        Recovered {
            segments: VecDeque::new(),
            end: Offset::ZERO,
            epochs: Epochs::default(),
            epochs_changed: false,
            snapshots: Vec::new(),
            checkpoint: OffsetCheckpoint::default(),
            has_directory: false,
            had_directory: false,
            made_in: None,
            changed: false,
            scanned_bytes: 0,
            truncated_bytes: 0,
            cleaner: CleanerCheckpoint::default(),
            tombstones_gone_below: Offset::ZERO,
            flushed_end: None,
            aborted: FoundAborted::default(),
            evidence: Evidence::default(),
        }
    }
}

/// A file that is damaged was never synced: it is written anew. Says in which run of the machine it was made.
fn check_identity<D: Disk>(
    place: &Place<D>,
    listing: &Listing,
    key: &PartitionKey,
    evidence: &mut Evidence,
) -> Result<Option<String>, LogError> {
    let found = match listing.read(place, checkpoint::METADATA) {
        Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::IsADirectory => {
            evidence.notices.push(place.set_aside(checkpoint::METADATA, &source)?);
            None
        }
        found => found?,
    };
    let made_in = found.as_ref().and_then(|content| checkpoint::decode_boot(content));
    match found.and_then(|content| checkpoint::decode_metadata(&content)) {
        Some(found) if found != *key => Err(LogError::OtherTopic {
            path: place.dir.clone(),
            expected: key.topic_id,
            found: found.topic_id,
        }),
        _ => Ok(made_in),
    }
}

fn recover<D: Disk>(
    place: &Place<D>,
    key: &PartitionKey,
    config: &LogConfig,
    listing: &Listing,
    mut recovered: Recovered<D>,
) -> Result<Recovered<D>, LogError> {
    let evidence = &mut recovered.evidence;
    let log_start = listing.read_derived(place, checkpoint::LOG_START, evidence)?;
    let log_start = log_start.and_then(|content| checkpoint::decode_log_start(&content));
    evidence.log_start = log_start.unwrap_or_default();
    let files = find_segments(place, listing, evidence)?;
    let checkpoint = listing.read_derived(place, checkpoint::OFFSETS, evidence)?;
    let checkpoint = checkpoint.and_then(|content| OffsetCheckpoint::decode(&content));
    let flushed_end = read_flushed_end(place, listing, checkpoint.as_ref(), evidence)?;
    let checkpoint = checkpoint.unwrap_or_default();
    let epochs = listing.read_derived(place, checkpoint::EPOCHS, evidence)?;
    let epochs = epochs.and_then(|content| checkpoint::decode_epochs(&content));
    let epochs = epochs.and_then(Epochs::from_entries);
    let cleaner = listing.read_derived(place, checkpoint::CLEANER, evidence)?;
    let cleaner = cleaner.and_then(|content| CleanerCheckpoint::decode(&content));
    recovered.cleaner = cleaner.unwrap_or_default();
    let gone = listing.read_derived(place, checkpoint::TOMBSTONES_GONE, evidence)?;
    recovered.tombstones_gone_below =
        cleaning::gone::found(gone.as_deref(), recovered.cleaner.first_dirty);
    let evidence = &mut recovered.evidence;
    let log_start = evidence.log_start;
    evidence.compare(place, &checkpoint, &files, |base, end| {
        end <= log_start || listing.was_deleted(base)
    });
    evidence.compare_unlisted(place, config.index_interval_bytes, &checkpoint, &files)?;
    for (base, kind) in listing.missing_indexes(&checkpoint) {
        let path = place.file_of(base, kind);
        evidence.notices.push(format!("{} is missing: made again", path.display()));
    }
    if checkpoint.recovery_point.is_some() && epochs.is_none() {
        let name = place.path(checkpoint::EPOCHS);
        evidence.notices.push(format!("{} is missing or damaged: made again", name.display()));
    }
    // the epochs below the recovery point stand in their file only; without it, all batches are looked at
    let trusts = epochs.is_some() && evidence.damage.is_none();
    let start = trusts.then(|| place_of_recovery_point(&checkpoint, &files)).flatten();
    recovered.epochs = epochs.unwrap_or_default();
    recovered.snapshots = listing.snapshots.iter().copied().collect();
    // without a segment the rest may not be durable: the first append makes it all anew
    recovered.had_directory = listing.has(checkpoint::METADATA);
    recovered.has_directory = !files.is_empty() && recovered.had_directory;
    recovered.changed = start.is_none() && !files.is_empty();
    let first_scanned = start.map_or(0, |(at, _)| at);
    for (i, file) in files[..first_scanned].iter().enumerate() {
        let end = files[i + 1].base;
        recovered.segments.push_back(Segment::closed(file.base, end, file.size));
    }
    recovered.flushed_end = flushed_end;
    let vouched_for = checkpoint.recovery_point.map(|point| point.offset);
    let vouched_for = vouched_for.max(flushed_end).unwrap_or(Offset::ZERO);
    // what was not synced was written since the log was opened in this run of the machine, if it was
    let boot = place.disk.boot().filter(|boot| {
        [&checkpoint.boot, &recovered.made_in].into_iter().flatten().any(|known| known == boot)
    });
    recovered.aborted.files = listing.txn_indexes();
    recovered.aborted.counted.clone_from(&checkpoint.aborted);
    recovered.checkpoint = checkpoint;
    let memory_was_lost = boot.is_none();
    let recovered_so_far = &mut recovered;
    let mut scan =
        Scan { place, key, config, vouched_for, memory_was_lost, recovered: recovered_so_far };
    scan.run(&files[first_scanned..], start.map(|(_, point)| point))?;
    let Recovered { evidence, checkpoint, end, .. } = &mut recovered;
    evidence.compare_end(place, checkpoint, *end, flushed_end);
    let kept = listing.read_derived(place, checkpoint::DAMAGE, evidence)?;
    let was_damaged = kept.is_some();
    evidence.recall(place, kept);
    if was_damaged && evidence.damage.is_none() {
        // all that it was about was deleted since
        place.remove(checkpoint::DAMAGE)?;
    }
    Ok(recovered)
}

/// In which file the recovery point stands, if that is as long.
fn place_of_recovery_point(
    checkpoint: &OffsetCheckpoint,
    files: &[FoundSegment],
) -> Option<(usize, RecoveryPoint)> {
    let point = checkpoint.recovery_point?;
    let at = files.iter().position(|file| file.base == point.segment)?;
    (point.position <= files[at].size).then_some((at, point))
}

/// One that a log of an earlier version has outlived is not believed, nor left to be. Where the checkpoint beside it is
/// no good, as a power cut leaves one, nobody knows which version has written that: rather is a replica filled again once
/// too often than what was flushed cut off for torn.
fn read_flushed_end<D: Disk>(
    place: &Place<D>,
    listing: &Listing,
    checkpoint: Option<&OffsetCheckpoint>,
    evidence: &mut Evidence,
) -> Result<Option<Offset>, LogError> {
    let content = listing.read_derived(place, checkpoint::FLUSHED_END, evidence)?;
    // without content: it was about to be written for the first time
    let Some(content) = content.filter(|content| !content.is_empty()) else { return Ok(None) };
    let found = checkpoint::decode_flushed_end(&content);
    let is_kept = checkpoint.is_none_or(|checkpoint| checkpoint.keeps_flushed_end);
    if found.is_some() && is_kept {
        return Ok(found);
    }
    if found.is_none() {
        let path = place.path(checkpoint::FLUSHED_END);
        evidence.notices.push(format!("{} is damaged: removed", path.display()));
    }
    place.remove(checkpoint::FLUSHED_END)?;
    Ok(None)
}

/// What has a segment's name and is no file is set aside: the segment is lost.
fn find_segments<D: Disk>(
    place: &Place<D>,
    listing: &Listing,
    evidence: &mut Evidence,
) -> Result<Vec<FoundSegment>, LogError> {
    let mut files = Vec::with_capacity(listing.logs.len());
    let ends = listing.logs.iter().skip(1).copied().chain([Offset(u64::MAX)]);
    for (base, end) in listing.logs.iter().zip(ends) {
        let path = place.file_of(*base, Kind::Log);
        match place.disk.size(&path) {
            Ok(size) => files.push(FoundSegment { base: *base, size }),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                let cause = place.set_aside(&Kind::Log.name(*base), &error)?;
                evidence.note_lost(*base..end, cause);
            }
            Err(error) => return Err(LogError::io("look at", &path, error)),
        }
    }
    Ok(files)
}
