//! Opening a log: what stands in its directory becomes what the owner sees.
//!
//! Below the recovery point everything is known to be on disk and is not looked at. Behind it every batch
//! is checked, both checksums; the first bad one and all after it go. What was kept is synced, so that
//! after opening all of the log is durable. Recovering again finds nothing to do.
//!
//! Cost: a partition that was never written, one failed directory listing; one that was flushed before the
//! end, however that came, some fifteen system calls.

use crate::checkpoint::{self, OffsetCheckpoint, RecoveryPoint};
use crate::damage::{Damage, Evidence, is_torn};
use crate::disk::{Disk, DiskFile};
use crate::epochs::Epochs;
use crate::flush::{FlushPoint, Flushing};
use crate::listing::Listing;
use crate::log::Presence;
use crate::place::{Kind, Place};
use crate::retention::DELETED;
use crate::scan::{Check, Found, Scanner};
use crate::segment::Segment;
use crate::{Log, LogConfig, LogError};
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use troupe_proto::batch::BatchHeader;
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
        let place = Place { disk, dir };
        let names = place.disk.list(&place.dir).map_err(|e| LogError::io("list", &place.dir, e))?;
        let Some(names) = names else {
            return Ok(Log::assemble(place, key, config, now_ms, Recovered::default()));
        };
        let listing = Listing::of(names);
        let mut recovered = Recovered::default();
        check_identity(&place, &listing, &key, &mut recovered.evidence)?;
        let leftovers = listing.leftovers.iter().filter(|name| !name.ends_with(DELETED));
        for name in leftovers.cloned().chain(listing.orphans()) {
            recovered.evidence.notices.extend(place.clear(&name)?);
        }
        let recovered = recover(&place, &key, &config, &listing, recovered)?;
        let deleted = listing.leftovers.iter().filter(|name| name.ends_with(DELETED)).cloned();
        let (mut log, recovery) = Log::assemble(place, key, config, now_ms, recovered);
        // what cannot be read was set aside
        let log_start = log.place.read(checkpoint::LOG_START)?;
        log.presence.log_start = log_start.and_then(|c| checkpoint::decode_log_start(&c));
        log.settle(recovery, deleted.collect())
    }

    fn assemble(
        place: Place<D>,
        key: PartitionKey,
        config: LogConfig,
        now_ms: i64,
        found: Recovered<D>,
    ) -> (Log<D>, Recovery) {
        let mut log = Log {
            place,
            key,
            config,
            start: found.segments.front().map_or(found.end, |segment| segment.base),
            end: found.end,
            segments: found.segments,
            active_since_ms: now_ms,
            epochs: found.epochs,
            epochs_changed: found.epochs_changed,
            snapshots: found.snapshots,
            durable_snapshot: None,
            flushing: Flushing::new(FlushPoint::default()),
            presence: Presence { directory: found.has_directory, ..Presence::default() },
            damage: found.evidence.damage.clone(),
        };
        let point = log.end_point();
        log.flushing.restart_at(point);
        let recovery = Recovery {
            clean: found.scanned_bytes == 0 && found.truncated_bytes == 0 && !found.changed,
            scanned_bytes: found.scanned_bytes,
            truncated_bytes: found.truncated_bytes,
            snapshot: None,
            replay_from: log.start,
            high_watermark: found.checkpoint.high_watermark,
            damage: found.evidence.damage,
            notices: found.evidence.notices,
        };
        if found.checkpoint.recovery_point.is_some() && recovery.clean {
            let high_watermark = found.checkpoint.high_watermark.unwrap_or(Offset::ZERO);
            log.presence.checkpoint = log.checkpointed_at(high_watermark, point);
        }
        (log, recovery)
    }

    /// The last part of opening: the log's start, snapshots, and the files that have to follow. The files of
    /// segments that retention has `deleted` go when a checkpoint no longer names them, or has no room to.
    fn settle(
        mut self,
        mut recovery: Recovery,
        deleted: Vec<String>,
    ) -> Result<(Log<D>, Recovery), LogError> {
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
        let snapshots = self.snapshots.len();
        self.remove_snapshots_above(self.end)?;
        recovery.snapshot = self.load_newest_snapshot(&mut recovery.notices)?;
        let snapshot = recovery.snapshot.as_ref().map(|(offset, _)| *offset);
        // whatever has let it survive until now will do so again, as good as surely
        self.durable_snapshot = snapshot;
        recovery.replay_from = self.replay_from(snapshot);
        recovery.high_watermark =
            recovery.high_watermark.map(|offset| offset.clamp(self.start, self.end));
        if self.presence.directory {
            self.keep_damage()?;
        }
        if !deleted.is_empty() {
            self.presence.checkpoint = None;
        }
        if !recovery.clean || snapshots != self.snapshots.len() || !deleted.is_empty() {
            match self.write_what_follows(recovery.high_watermark.unwrap_or(self.start)) {
                // The next opening has as much to do again; a log that has no room for them serves all the same.
                Err(LogError::DiskFull { .. }) => recovery.notices.push(format!(
                    "there is no space for the checkpoints of {}",
                    self.place.dir.display()
                )),
                written => written?,
            }
            self.flushing.owe_dir(&self.place.dir);
            // what was removed must not come back beside what is written next
            self.sync_owed()?;
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
    /// Something in the directory is not as it was.
    changed: bool,
    scanned_bytes: u64,
    truncated_bytes: u64,
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
            changed: false,
            scanned_bytes: 0,
            truncated_bytes: 0,
            evidence: Evidence::default(),
        }
    }
}

/// A file that is damaged was never synced: it is written anew.
fn check_identity<D: Disk>(
    place: &Place<D>,
    listing: &Listing,
    key: &PartitionKey,
    evidence: &mut Evidence,
) -> Result<(), LogError> {
    let found = match listing.read(place, checkpoint::METADATA) {
        Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::IsADirectory => {
            evidence.notices.push(place.set_aside(checkpoint::METADATA, &source)?);
            None
        }
        found => found?,
    };
    match found.and_then(|content| checkpoint::decode_metadata(&content)) {
        Some(found) if found != *key => Err(LogError::OtherTopic {
            path: place.dir.clone(),
            expected: key.topic_id,
            found: found.topic_id,
        }),
        _ => Ok(()),
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
    let files = find_segments(place, listing, evidence)?;
    let checkpoint = listing.read_derived(place, checkpoint::OFFSETS, evidence)?;
    let checkpoint = checkpoint.and_then(|content| OffsetCheckpoint::decode(&content));
    let checkpoint = checkpoint.unwrap_or_default();
    let epochs = listing.read_derived(place, checkpoint::EPOCHS, evidence)?;
    let epochs = epochs.and_then(|content| checkpoint::decode_epochs(&content));
    let epochs = epochs.and_then(Epochs::from_entries);
    let log_start = listing.read_derived(place, checkpoint::LOG_START, evidence)?;
    let log_start = log_start.and_then(|content| checkpoint::decode_log_start(&content));
    let log_start = log_start.unwrap_or_default();
    evidence.compare(place, &checkpoint, &files, |base, end| {
        end <= log_start || listing.was_deleted(base)
    });
    for (base, kind) in listing.missing_indexes(&checkpoint) {
        let path = place.file_of(base, kind);
        evidence.notices.push(format!("{} is missing: made again", path.display()));
    }
    if checkpoint.recovery_point.is_some() && epochs.is_none() {
        let name = place.path(checkpoint::EPOCHS);
        evidence.notices.push(format!("{} is missing or damaged: made again", name.display()));
    }
    // the epochs below the recovery point stand in their file only; without it, all batches are looked at
    let trusted = checkpoint.recovery_point;
    let trusted = trusted.filter(|_| epochs.is_some() && evidence.damage.is_none());
    let start = trusted.and_then(|point| {
        let at = files.iter().position(|file| file.base == point.segment)?;
        (point.position <= files[at].size).then_some((at, point))
    });
    recovered.epochs = epochs.unwrap_or_default();
    recovered.snapshots = listing.snapshots.iter().copied().collect();
    // without a segment the rest may not be durable: the first append makes it all anew
    recovered.has_directory = !files.is_empty() && listing.has(checkpoint::METADATA);
    recovered.changed = start.is_none() && !files.is_empty();
    let first_scanned = start.map_or(0, |(at, _)| at);
    for (i, file) in files[..first_scanned].iter().enumerate() {
        let end = files[i + 1].base;
        recovered.segments.push_back(Segment::closed(file.base, end, file.size));
    }
    let vouched_for = checkpoint.recovery_point.map_or(Offset::ZERO, |point| point.offset);
    recovered.checkpoint = checkpoint;
    let mut scan = Scan { place, key, config, vouched_for, recovered: &mut recovered };
    scan.run(&files[first_scanned..], start.map(|(_, point)| point))?;
    let Recovered { evidence, checkpoint, end, .. } = &mut recovered;
    evidence.compare_end(place, checkpoint, *end, log_start);
    let kept = listing.read_derived(place, checkpoint::DAMAGE, evidence)?;
    evidence.recall(place, kept, *end);
    Ok(recovered)
}

/// What has a segment's name and is no file is set aside: the segment is lost.
fn find_segments<D: Disk>(
    place: &Place<D>,
    listing: &Listing,
    evidence: &mut Evidence,
) -> Result<Vec<FoundSegment>, LogError> {
    let mut files = Vec::with_capacity(listing.logs.len());
    for base in &listing.logs {
        let path = place.file_of(*base, Kind::Log);
        match place.disk.size(&path) {
            Ok(size) => files.push(FoundSegment { base: *base, size }),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                let cause = place.set_aside(&Kind::Log.name(*base), &error)?;
                evidence.note(*base, cause);
            }
            Err(error) => return Err(LogError::io("look at", &path, error)),
        }
    }
    Ok(files)
}

/// The scan behind the recovery point.
struct Scan<'a, D: Disk> {
    place: &'a Place<D>,
    key: &'a PartitionKey,
    config: &'a LogConfig,
    /// Up to here, everything was known to be on disk.
    vouched_for: Offset,
    recovered: &'a mut Recovered<D>,
}

impl<D: Disk> Scan<'_, D> {
    /// Looks through `files`, from the recovery point on if there is one, which stands in the first.
    fn run(
        &mut self,
        files: &[FoundSegment],
        point: Option<RecoveryPoint>,
    ) -> Result<(), LogError> {
        let Some(first) = files.first() else { return Ok(()) };
        let begin = point.map_or(first.base, |point| point.offset);
        self.recovered.end = begin;
        // also in the file, with the next batch: an older epoch may go on where a newer one got no batch
        self.recovered.epochs_changed = self.recovered.epochs.truncate_from_end(begin);
        for (i, file) in files.iter().enumerate() {
            let is_whole = match point.filter(|_| i == 0) {
                Some(point) => self.resume(file, point, &files[i + 1..])?,
                None if file.base > self.recovered.end && file.base > self.vouched_for => {
                    // what stood between is lost
                    self.remove(&files[i..])?;
                    return Ok(());
                }
                None if file.base < self.recovered.end => {
                    self.remove(&files[i..])?;
                    return Ok(());
                }
                None => {
                    // a segment is missing between two that were flushed: what is left stays readable
                    self.recovered.end = file.base;
                    if let Some(before) = self.recovered.segments.back_mut() {
                        before.end = file.base;
                    }
                    let segment = Segment::begun(file.base);
                    self.look_through(segment, file, &files[i + 1..])?
                }
            };
            if !is_whole {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The segment with the recovery point: nothing is opened if nothing stands behind it.
    fn resume(
        &mut self,
        file: &FoundSegment,
        point: RecoveryPoint,
        later: &[FoundSegment],
    ) -> Result<bool, LogError> {
        let segment = Segment::closed(file.base, point.offset, point.position);
        let segment = segment.with_mark(point.summary, point.mark);
        if point.position == file.size && later.is_empty() {
            self.recovered.segments.push_back(segment);
            return Ok(true);
        }
        self.look_through(segment, file, later)
    }

    /// Takes over what is good behind the segment's end. False if something was not; then that and all
    /// that is `later` is gone.
    fn look_through(
        &mut self,
        mut segment: Segment<D>,
        file: &FoundSegment,
        later: &[FoundSegment],
    ) -> Result<bool, LogError> {
        let interval = self.config.index_interval_bytes;
        segment.prepare(self.place, interval, 0)?;
        let path = segment.log_path(self.place);
        let handle = segment.file(self.place)?.clone();
        let mut scanner = Scanner::new(handle.as_ref(), segment.size, file.size);
        self.recovered.scanned_bytes += file.size - segment.size;
        let failed = |e| LogError::io("read", &path, e);
        let is_whole = loop {
            let check = Check::Checksums(Some(*self.key));
            match scanner.next(check).map_err(failed)? {
                Found::Batch(header) if self.fits(&header, segment.end) => {
                    self.recovered.epochs.assign(header.leader_epoch, header.base_offset);
                    segment.note(&header, interval);
                }
                Found::Bad(bad) => {
                    let (at, size) = (segment.size, file.size);
                    if !is_torn(handle.as_ref(), self.key, &bad, at, size).map_err(failed)? {
                        let cause = format!("{} is damaged at byte {at}: {bad}", path.display());
                        self.recovered.evidence.note(segment.end, cause);
                        // kept in mind before what proves it is cut off
                        self.recovered.evidence.keep(self.place)?;
                    }
                    break false;
                }
                Found::Batch(_) => break false,
                Found::End => break true,
            }
        };
        // what was flushed behind it is good for whoever reads, whatever is missing here
        let goes_on = later.first().is_some_and(|next| next.base <= self.vouched_for);
        if !is_whole {
            // the later ones first: should this be interrupted, the bad batch is still there to be found
            if !goes_on {
                self.remove(later)?;
            }
            self.recovered.truncated_bytes += file.size - segment.size;
            handle.truncate(segment.size).map_err(|e| LogError::io("truncate", &path, e))?;
        }
        self.recovered.changed = true;
        self.recovered.end = segment.end;
        handle.sync().map_err(|e| LogError::failed_sync("sync", &path, e))?;
        let is_last = later.is_empty() || !(is_whole || goes_on);
        if !is_last {
            segment.note_largest();
            match self.sync_indexes(&mut segment) {
                // made again when they are needed
                Err(LogError::DiskFull { .. }) => {}
                synced => synced?,
            }
        }
        // all of it is in files again; only of the last one appends will want the indexes
        segment.release(is_last);
        self.recovered.segments.push_back(segment);
        Ok(!is_last)
    }

    fn fits(&self, header: &BatchHeader, end: Offset) -> bool {
        let latest = self.recovered.epochs.latest();
        header.base_offset >= end && latest.is_none_or(|latest| header.leader_epoch >= latest)
    }

    fn sync_indexes(&self, segment: &mut Segment<D>) -> Result<(), LogError> {
        let mut written = Vec::new();
        segment.persist_indexes(self.place, true, |path, file| written.push((path, file)))?;
        for (path, file) in written {
            file.sync().map_err(|e| LogError::failed_sync("sync", &path, e))?;
        }
        Ok(())
    }

    /// The newest first, so that an interruption leaves no gap.
    fn remove(&mut self, files: &[FoundSegment]) -> Result<(), LogError> {
        for file in files.iter().rev() {
            for kind in [Kind::Log, Kind::OffsetIndex, Kind::TimeIndex] {
                self.place.remove(&kind.name(file.base))?;
            }
            self.recovered.truncated_bytes += file.size;
            self.recovered.changed = true;
        }
        if !files.is_empty() {
            self.place.sync_dir()?;
        }
        Ok(())
    }
}
