//! One pass over the closed segments of a log: first keys to their last offsets, then a copy of what stays (S22).
//!
//! A batch is unpacked to look at its keys, and packed again only if something of it goes.

use super::source::{Failure, Source, SourceBatch, Throttle, each_batch};
use super::swap::{Cleaned, Made, Unfinished};
use super::transactions::{Ended, Transactions};
use super::writer::{SegmentWriter, Shelf};
use super::{
    CleaningError, CleaningReport, CleaningRequest, OffsetMap, Pace, Tombstones, UnderWay,
};
use crate::disk::Disk;
use crate::place::Place;
use crate::txn_index::TxnIndex;
use crate::{Aborted, Log, LogConfig, LogError};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use troupe_proto::batch::{BatchError, BatchHeader, Compactor, RecordRef, RecordWalk};
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionKey};

/// Passes of this process. A pass that nobody waits for any more may still write: to files of its own.
static PASSES: AtomicU64 = AtomicU64::new(0);

/// What a pass will do. Goes to the thread that runs it.
#[must_use]
pub struct Cleaning<D: Disk> {
    place: Place<D>,
    key: PartitionKey,
    config: LogConfig,
    pass: u64,
    first_dirty: Offset,
    /// From the log's first segment on, as far as it can be cleaned.
    sources: Vec<Source>,
    /// Of which something lies in them.
    aborted: Vec<Aborted>,
    request: CleaningRequest,
    /// [`Log::tombstones_gone_below`]
    gone_before: Offset,
    under_way: Arc<UnderWay<D>>,
}

impl<D: Disk> Log<D> {
    /// Work for another thread; `None` if there is nothing to clean, or another pass is under way. Cheap, and
    /// changes no file.
    ///
    /// # Errors
    /// As [`Log::cleaning_state`]; the log is poisoned, or what a pass before has left half done cannot be settled.
    pub fn begin_cleaning(
        &mut self,
        request: CleaningRequest,
    ) -> Result<Option<Cleaning<D>>, LogError> {
        self.check_writable()?;
        if let Some(before) = &self.cleaning {
            if UnderWay::is_going_on(before) {
                return Ok(None);
            }
            before.settle()?;
        }
        let first_dirty = self.first_dirty();
        let CleaningRequest { policy, now_ms, below, tombstones_below, .. } = &request;
        let state = self.cleaning_state(policy, *now_ms, *below)?;
        let in_time = state.has_tombstones_due(*now_ms, *tombstones_below);
        let count = self.cleanable_segments(policy, *now_ms, *below)?;
        let sources: Vec<Source> = self
            .segments
            .range(..count)
            .map(|segment| {
                let needed_from = self.needed_from(segment);
                let aborted = self.aborted.get(&segment.base).map_or(0, TxnIndex::count);
                let (base, end, size) = (segment.base, segment.end, segment.size);
                Source { base, end, size, needed_from, aborted }
            })
            .collect();
        let end = sources.last().map(|last| last.end);
        let Some(end) = end.filter(|end| *end > first_dirty || in_time) else { return Ok(None) };
        let aborted = self.aborted(self.oldest(), end)?;
        let under_way = UnderWay::below(end, self.place.clone(), self.flushing.shared_poison());
        self.cleaning = Some(Arc::clone(&under_way));
        Ok(Some(Cleaning {
            place: self.place.clone(),
            key: self.key,
            config: self.config,
            pass: PASSES.fetch_add(1, Ordering::Relaxed),
            first_dirty,
            sources,
            aborted,
            request,
            gone_before: self.tombstones_gone_below,
            under_way,
        }))
    }
}

impl<D: Disk> Cleaning<D> {
    /// Where the pass begins to map keys.
    pub fn first_dirty(&self) -> Offset {
        self.first_dirty
    }

    /// Bytes of all segments that it may read, once or twice.
    pub fn bytes(&self) -> u64 {
        self.sources.iter().map(|source| source.size).sum()
    }

    /// Reads the segments and writes what is left of them, beside the log. Memory: the map, a batch, and buffers.
    ///
    /// # Errors
    /// Nothing has changed, whatever the reason.
    pub fn run(
        self,
        map: &mut OffsetMap,
        pace: &mut dyn Pace,
    ) -> Result<Cleaned<D>, CleaningError> {
        map.begin(&self.request.hash_key);
        let mut files = Unfinished::new(self.place.clone());
        let throttle = Throttle::new(pace, &self.under_way);
        let made = self.make(map, &throttle, &mut files);
        throttle.will_write();
        let made = match made {
            // what it read was about to go
            Err(_) if self.under_way.is_overtaken() => return Err(CleaningError::Overtaken),
            made => made?,
        };
        made.list(self.pass, files, self.under_way)
    }

    fn make(
        &self,
        map: &mut OffsetMap,
        throttle: &Throttle<'_, D>,
        files: &mut Unfinished<D>,
    ) -> Result<Made, CleaningError> {
        let end = self.map_keys(map, throttle)?;
        let sources = &self.sources[..self.sources.partition_point(|source| source.base < end)];
        let mut copy = Copy {
            map,
            end,
            request: &self.request,
            transactions: Transactions::new(&self.aborted),
            compactor: Compactor::default(),
            unpacked: Vec::new(),
            epoch: None,
            kept: 0,
            gone: 0,
            tombstones: Tombstones::default(),
            tombstones_gone_below: Offset::ZERO,
        };
        let Cleaning { place, key, config, pass, .. } = self;
        let shelf = Shelf { place, key, config, pass: *pass, throttle };
        let mut outputs = Vec::new();
        let mut writer: Option<SegmentWriter<'_, '_, D>> = None;
        for (at, source) in sources.iter().enumerate() {
            if throttle.is_gone(source) {
                continue;
            }
            match &mut writer {
                Some(writer) if writer.has_room_for(source) => writer.join(source, files)?,
                _ => {
                    let next = SegmentWriter::begin(shelf, at, *source);
                    if let Some(full) = writer.replace(next) {
                        outputs.push(full.end(files)?);
                    }
                }
            }
            let Some(writer) = &mut writer else { continue };
            each_batch(place, key, source, source.size, throttle, |batch| {
                copy.batch(batch, writer, files)?;
                Ok(ControlFlow::Continue(()))
            })?;
        }
        if let Some(last) = writer {
            outputs.push(last.end(files)?);
        }
        let report = CleaningReport {
            first_dirty: self.first_dirty,
            end,
            records_kept: copy.kept,
            records_gone: copy.gone,
            map_was_full: self.sources.last().is_some_and(|last| end < last.end),
            tombstones: copy.tombstones,
            tombstones_gone_below: copy.tombstones_gone_below,
            ..CleaningReport::default()
        };
        let gone_before = self.gone_before;
        Ok(Made { sources: sources.to_vec(), outputs, gone_before, report })
    }

    /// Where the map ends: of every key below, it knows the last offset.
    fn map_keys(
        &self,
        map: &mut OffsetMap,
        throttle: &Throttle<'_, D>,
    ) -> Result<Offset, CleaningError> {
        let from = self.first_dirty;
        let mut end = from;
        let mut unpacked = Vec::new();
        let mut transactions = Transactions::new(&self.aborted);
        for source in self.sources.iter().filter(|source| source.end > from) {
            let mut full_at = None;
            each_batch(&self.place, &self.key, source, source.size, throttle, |batch| {
                let header = &batch.header;
                // the key of a marker is none
                let counts = header.end_offset() > from && !header.attributes.is_control();
                if counts && !transactions.is_aborted(header) {
                    full_at = map_batch(batch, from, map, &mut unpacked)?;
                }
                Ok(match full_at {
                    Some(_) => ControlFlow::Break(()),
                    None => ControlFlow::Continue(()),
                })
            })?;
            if let Some(full_at) = full_at {
                return Ok(full_at);
            }
            end = source.end;
        }
        Ok(end)
    }
}

/// Adds the keys of a batch; where the map was full, if it was.
fn map_batch(
    batch: &SourceBatch<'_>,
    from: Offset,
    map: &mut OffsetMap,
    unpacked: &mut Vec<u8>,
) -> Result<Option<Offset>, BatchError> {
    if batch.header.record_count == 0 {
        return Ok(None);
    }
    let records = batch.records(unpacked)?;
    let mut walk = RecordWalk::new(&batch.header);
    while let Some(record) = walk.next(records) {
        let record = record?;
        if record.offset < from {
            continue;
        }
        if let Some(key) = record.key
            && map.insert(key, record.offset).is_err()
        {
            return Ok(Some(record.offset));
        }
    }
    Ok(None)
}

/// Which records stay, and what becomes of their batches.
struct Copy<'a> {
    map: &'a OffsetMap,
    /// Where the map ends.
    end: Offset,
    request: &'a CleaningRequest,
    transactions: Transactions,
    compactor: Compactor,
    unpacked: Vec<u8>,
    /// Of the batch before.
    epoch: Option<LeaderEpoch>,
    kept: u64,
    gone: u64,
    tombstones: Tombstones,
    tombstones_gone_below: Offset,
}

impl Copy<'_> {
    fn batch<D: Disk>(
        &mut self,
        batch: &SourceBatch<'_>,
        writer: &mut SegmentWriter<'_, '_, D>,
        files: &mut Unfinished<D>,
    ) -> Result<(), Failure> {
        let header = &batch.header;
        // who has only what is left finds by it where the epoch before ended, as everybody else does (R21)
        let before = self.epoch.replace(header.leader_epoch);
        let begins_epoch = before.is_some_and(|before| before != header.leader_epoch);
        // the segment goes on to where the next one begins; a producer is judged by its batches (S24)
        let needs_header =
            batch.is_last || begins_epoch || self.request.keep.contains(&header.base_offset);
        if header.attributes.is_control() {
            return self.marker(batch, needs_header, writer, files);
        }
        let is_aborted = self.transactions.is_aborted(header);
        if header.base_offset >= self.end {
            self.transactions.stays(header);
            return writer.keep(batch).map_err(Failure::Other);
        }
        if header.record_count == 0 {
            // for the sake of a header alone no segment is written again
            if !needs_header && writer.is_new() {
                return Ok(());
            }
            self.transactions.stays(header);
            return writer.keep(batch).map_err(Failure::Other);
        }
        if is_aborted {
            self.gone += u64::from(header.record_count);
            return self.give_up(header, needs_header, writer, files);
        }
        let records = batch.records(&mut self.unpacked)?;
        let (map, end, request) = (self.map, self.end, self.request);
        let horizon = header.delete_horizon_ms();
        let (mut waits, mut gone_below) = (false, Offset::ZERO);
        let selected = self.compactor.select(header, records, |record| {
            if record.offset >= end {
                return true;
            }
            if !is_last_of_key(map, record) {
                return false;
            }
            let stays = stays_for_now(request, horizon, record);
            waits |= stays && record.value.is_none();
            if !stays {
                gone_below = record.offset.plus(1);
            }
            stays
        })?;
        self.tombstones_gone_below = self.tombstones_gone_below.max(gone_below);
        self.kept += u64::from(selected.kept);
        self.gone += u64::from(selected.gone);
        // Of a batch that reaches beyond the end, some records were seen by no pass: their time has not begun, and it is
        // one for all of a batch.
        let is_seen = waits && header.end_offset() <= end;
        if is_seen {
            let due_ms = horizon.unwrap_or_else(|| horizon_from(request));
            self.tombstones.note(header.end_offset(), due_ms);
        }
        let horizon = (is_seen && horizon.is_none()).then(|| horizon_from(request));
        if selected.kept == 0 {
            return self.give_up(header, needs_header, writer, files);
        }
        self.transactions.stays(header);
        if selected.gone == 0 && horizon.is_none() {
            return writer.keep(batch).map_err(Failure::Other);
        }
        let (left, payload) = self.compactor.rewrite(header, records, &selected, horizon)?;
        writer.put(&left, payload, files).map_err(Failure::Other)
    }
}

impl Copy<'_> {
    /// All of the batch's records go.
    fn give_up<D: Disk>(
        &mut self,
        header: &BatchHeader,
        needs_header: bool,
        writer: &mut SegmentWriter<'_, '_, D>,
        files: &mut Unfinished<D>,
    ) -> Result<(), Failure> {
        if !needs_header {
            return writer.leave_out(files).map_err(Failure::Other);
        }
        self.transactions.stays(header);
        writer.put(&header.emptied(), &[], files).map_err(Failure::Other)
    }

    /// How a transaction ended.
    fn marker<D: Disk>(
        &mut self,
        batch: &SourceBatch<'_>,
        needs_header: bool,
        writer: &mut SegmentWriter<'_, '_, D>,
        files: &mut Unfinished<D>,
    ) -> Result<(), Failure> {
        let (header, request) = (&batch.header, self.request);
        let Ended { has_data, aborted } = self.transactions.end(header);
        let horizon = header.delete_horizon_ms();
        let is_empty = header.record_count == 0;
        if has_data || header.base_offset >= self.end {
            writer.note_aborted(aborted);
            return writer.keep(batch).map_err(Failure::Other);
        }
        if is_empty {
            return match needs_header || !writer.is_new() {
                true => writer.keep(batch).map_err(Failure::Other),
                false => Ok(()),
            };
        }
        let is_due = horizon.is_some_and(|horizon| request.now_ms >= horizon)
            && header.last_offset() < request.tombstones_below;
        if is_due {
            self.gone += u64::from(header.record_count);
            if !needs_header {
                self.tombstones_gone_below = self.tombstones_gone_below.max(header.end_offset());
            }
            return self.give_up(header, needs_header, writer, files);
        }
        self.kept += u64::from(header.record_count);
        let due_ms = horizon.unwrap_or_else(|| horizon_from(request));
        self.tombstones.note(header.end_offset(), due_ms);
        writer.note_aborted(aborted);
        if horizon.is_some() {
            return writer.keep(batch).map_err(Failure::Other);
        }
        let records = batch.records(&mut self.unpacked)?;
        let selected = self.compactor.select(header, records, |_| true)?;
        let (left, payload) = self.compactor.rewrite(header, records, &selected, Some(due_ms))?;
        writer.put(&left, payload, files).map_err(Failure::Other)
    }
}

/// Nothing newer of its key is known. Without a key, a record is of no use to anybody (S25).
fn is_last_of_key(map: &OffsetMap, record: &RecordRef<'_>) -> bool {
    record.key.is_some_and(|key| map.get(key).is_none_or(|last| record.offset >= last))
}

/// A value stays; a tombstone until its time has come, everywhere (S23).
fn stays_for_now(request: &CleaningRequest, horizon: Option<i64>, record: &RecordRef<'_>) -> bool {
    record.value.is_some()
        || horizon.is_none_or(|horizon| request.now_ms < horizon)
        || record.offset >= request.tombstones_below
}

/// Until when a tombstone stays that no pass has seen before.
fn horizon_from(request: &CleaningRequest) -> i64 {
    let retention = i64::try_from(request.policy.delete_retention_ms).unwrap_or(i64::MAX);
    request.now_ms.saturating_add(retention)
}
