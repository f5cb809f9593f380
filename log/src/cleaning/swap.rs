//! How what a pass has made takes the place of what it was made from: at once, whatever interrupts it.
//!
//! ```text
//! 1. files of the pass, the next cleaner checkpoint, and a list of what goes where: written as *.cleaned, synced
//! 2. the list takes its name, cleaner-swap: from here on it will be done, unless it is taken back
//! 3. old files out of the way, new ones in, and a checkpoint that says so
//! 4. all that is synced; then the list goes
//! ```
//!
//! The third step is the owner's, and waits for no disk; the others are the pass's. Opening a log with a list does all of
//! it that is left; without one, it forgets what is named *.cleaned. From the second step on nothing needs space.

use super::plan::Plan;
use super::source::Source;
use super::writer::{Output, cleaned_name};
use super::{CLEANED, CleaningError, CleaningReport, Finished, UnderWay, gone};
use crate::checkpoint::{self, CleanerCheckpoint};
use crate::disk::Disk;
use crate::place::{Kind, Place, is_unreadable};
use crate::retention::{DELETED, Removal};
use crate::segment::Segment;
use crate::txn_index::{List, TxnIndex};
use crate::{Log, LogError};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use troupe_proto::ids::Offset;

/// The list of what goes where.
pub(crate) const SWAP: &str = "cleaner-swap";
/// What was replaced is named so until it is removed; the name of a deleted segment would say that it is missed by
/// nobody.
pub(crate) const REPLACED: &str = ".replaced";
const KINDS: [Kind; 3] = [Kind::Log, Kind::OffsetIndex, Kind::TimeIndex];

/// What a pass has made: files beside the log, and a list that has its name. They go when this is dropped.
#[must_use]
pub struct Cleaned<D: Disk> {
    made: Made,
    plan: Plan,
    /// Before the files: what is dropped first is the list.
    under_way: Listed<D>,
    files: Unfinished<D>,
}

impl<D: Disk> Cleaned<D> {
    pub fn report(&self) -> &CleaningReport {
        &self.made.report
    }
}

/// A list that stands until it is carried out, or this is dropped.
struct Listed<D: Disk>(Arc<UnderWay<D>>);

impl<D: Disk> Drop for Listed<D> {
    fn drop(&mut self) {
        self.0.withdraw();
    }
}

/// What is left to do behind a pass: it waits for the disk. Dropped, whatever comes next does it.
#[must_use]
pub struct Ending<D: Disk>(Arc<UnderWay<D>>);

impl<D: Disk> Ending<D> {
    /// What has taken its place is there for good.
    ///
    /// # Errors
    /// The disk refuses. The log is poisoned then; opening it anew finishes what was begun.
    pub fn run(self) -> Result<(), LogError> {
        self.0.settle()
    }
}

/// What a pass has made of what.
pub(super) struct Made {
    pub(super) sources: Vec<Source>,
    pub(super) outputs: Vec<Output>,
    /// [`Log::tombstones_gone_below`] when the pass began.
    pub(super) gone_before: Offset,
    pub(super) report: CleaningReport,
}

impl Made {
    /// Writes the list. What has gone from the log meanwhile is left out.
    pub(super) fn list<D: Disk>(
        mut self,
        pass: u64,
        mut files: Unfinished<D>,
        under_way: Arc<UnderWay<D>>,
    ) -> Result<Cleaned<D>, CleaningError> {
        let place = files.place.clone();
        loop {
            let gone_below = under_way.gone_below();
            if !self.leave_out(gone_below) {
                return Err(CleaningError::Overtaken);
            }
            let plan = self.plan(pass, &place)?;
            files.keep_only(&plan);
            let checkpoints = self.checkpoints();
            let checkpoints =
                checkpoints.into_iter().map(|(name, content)| (cleaned_name(name, pass), content));
            for (name, content) in checkpoints.chain([(listed_name(), plan.encode())]) {
                files.add(&name);
                drop(place.replace(&name, &content, true)?);
            }
            place.sync_dir()?;
            if under_way.list(gone_below)? {
                return Ok(Cleaned { made: self, plan, under_way: Listed(under_way), files });
            }
        }
    }

    /// Retention takes segments from the front. False: a segment that was made holds some of what is gone.
    fn leave_out(&mut self, gone_below: Offset) -> bool {
        let gone = self.sources.partition_point(|source| source.end <= gone_below);
        self.outputs.retain(|output| output.sources.end > gone);
        if self.outputs.iter().any(|output| output.sources.start < gone) {
            return false;
        }
        self.sources.drain(..gone);
        for output in &mut self.outputs {
            output.sources = output.sources.start - gone..output.sources.end - gone;
        }
        self.report.bytes_before = self.sources.iter().map(|source| source.size).sum();
        self.report.bytes_after = self.outputs.iter().map(|output| output.size).sum();
        self.report.segments_before = self.sources.len();
        self.report.segments_after = self.outputs.len();
        true
    }

    fn plan<D: Disk>(&self, pass: u64, place: &Place<D>) -> Result<Plan, LogError> {
        let mut plan = Plan::default();
        for output in self.outputs.iter().filter(|output| output.is_new) {
            let sources = &self.sources[output.sources.clone()];
            let merged = sources.iter().skip(1);
            plan.remove.extend(merged.flat_map(|source| KINDS.map(|kind| kind.name(source.base))));
            // what is put in the place of one replaces it
            let knows_aborted = !output.aborted.is_empty();
            let aborted = sources.iter().skip(usize::from(knows_aborted));
            let aborted = aborted.filter(|source| source.aborted > 0);
            plan.remove.extend(aborted.map(|source| Kind::TxnIndex.name(source.base)));
            let kinds = KINDS.into_iter().chain(knows_aborted.then_some(Kind::TxnIndex));
            for kind in kinds {
                let to = kind.name(output.base);
                let from = cleaned_name(&to, pass);
                let path = place.path(&from);
                let size = place.disk.size(&path).map_err(|e| LogError::io("look at", &path, e))?;
                plan.install.push((from, to, size));
            }
        }
        for (name, content) in self.checkpoints() {
            plan.install.push((cleaned_name(name, pass), name.to_owned(), content.len() as u64));
        }
        Ok(plan)
    }

    /// What the log writes down of the pass: names, and what is there.
    fn checkpoints(&self) -> Vec<(&'static str, Vec<u8>)> {
        let CleaningReport { end, tombstones, .. } = self.report;
        let cleaner = CleanerCheckpoint { first_dirty: end, tombstones: Some(tombstones) };
        let mut written = vec![(checkpoint::CLEANER, cleaner.encode())];
        let gone_below = self.gone_afterwards();
        if gone_below != self.gone_before {
            written.push((checkpoint::TOMBSTONES_GONE, gone::encode(gone_below)));
        }
        written
    }

    fn gone_afterwards(&self) -> Offset {
        self.gone_before.max(self.report.tombstones_gone_below)
    }
}

/// The list, before it has its name.
pub(super) fn listed_name() -> String {
    format!("{SWAP}{CLEANED}")
}

/// Files that nobody wants unless they take the place of others.
pub(super) struct Unfinished<D: Disk> {
    place: Place<D>,
    names: Vec<String>,
}

impl<D: Disk> Unfinished<D> {
    pub(super) fn new(place: Place<D>) -> Self {
        Unfinished { place, names: Vec::new() }
    }

    /// Before the file is made.
    pub(super) fn add(&mut self, name: &str) {
        self.names.push(name.to_owned());
    }

    /// Of what takes nobody's place.
    fn keep_only(&mut self, plan: &Plan) {
        let is_wanted = |name: &String| plan.install.iter().any(|(from, ..)| from == name);
        for name in self.names.iter().filter(|name| !is_wanted(name)) {
            // what stays goes with the next opening
            let _ = self.place.remove(name);
        }
        self.names.retain(is_wanted);
    }
}

impl<D: Disk> Drop for Unfinished<D> {
    fn drop(&mut self) {
        for name in &self.names {
            // what stays goes with the next opening
            let _ = self.place.remove(name);
        }
    }
}

/// A swap that a crash interrupted is finished, or one that cannot be is forgotten: then what was lost shows when
/// the log is looked at. False: there was none.
pub(crate) fn resume<D: Disk>(place: &Place<D>, names: &[String]) -> Result<bool, LogError> {
    if !names.iter().any(|name| name == SWAP) {
        return Ok(false);
    }
    let content = match place.read(SWAP) {
        Err(LogError::Io { source, .. }) if is_unreadable(&source) => {
            place.set_aside(SWAP, &source)?;
            None
        }
        read => read?,
    };
    let plan = content.and_then(|content| Plan::decode(&content));
    if let Some(plan) = plan.filter(|plan| plan.is_complete(place)) {
        for name in &plan.remove {
            place.remove(name)?;
        }
        for (from, to, _) in &plan.install {
            rename(place, from, to)?;
        }
        plan.amend_checkpoint(place)?;
    }
    place.sync_dir()?;
    remove_list(place)?;
    Ok(true)
}

/// Durably.
pub(super) fn remove_list<D: Disk>(place: &Place<D>) -> Result<(), LogError> {
    place.remove(SWAP)?;
    place.sync_dir()
}

/// False if there is no such file.
fn rename<D: Disk>(place: &Place<D>, from: &str, to: &str) -> Result<bool, LogError> {
    let (from, to) = (place.path(from), place.path(to));
    match place.disk.rename(&from, &to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(LogError::io("rename", &from, error)),
    }
}

impl<D: Disk> Log<D> {
    /// Puts what a pass has made in the place of what it was made from. `None`: the log was cut or shortened meanwhile,
    /// or tombstones would go that not every replica has any more: some have come since the pass began. Then nothing
    /// has changed, and the files of the pass are gone.
    ///
    /// `tombstones_below` as in [`super::CleaningRequest`], but as it is now.
    ///
    /// # Errors
    /// Errors of the disk. Unless the log is poisoned, nothing has changed; if it is, opening it anew finishes what
    /// was begun.
    pub fn finish_cleaning(
        &mut self,
        mut cleaned: Cleaned<D>,
        high_watermark: Offset,
        tombstones_below: Offset,
    ) -> Result<Option<Finished<D>>, LogError> {
        self.check_writable()?;
        if cleaned.made.report.tombstones_gone_below > tombstones_below
            || !self.is_current(&cleaned)
        {
            return Ok(None);
        }
        let under_way = Arc::clone(&cleaned.under_way.0);
        under_way.carry_out();
        // from here on it will be done: by opening the log anew, if by nobody else
        cleaned.files.names.clear();
        match self.swap(&cleaned) {
            Ok(removals) => {
                self.replace_segments(&cleaned.made);
                self.cleaned_below = cleaned.made.report.end;
                self.tombstones = Some(cleaned.made.report.tombstones);
                self.tombstones_gone_below = cleaned.made.gone_afterwards();
                under_way.carried_out(self.checkpoint_after_swap(high_watermark)?);
                let ending = Ending(under_way);
                Ok(Some(Finished { removals, report: cleaned.made.report, ending }))
            }
            Err(error) => {
                self.flushing.poison(&error);
                Err(error)
            }
        }
    }

    /// Whether the log still has what the pass was made from.
    fn is_current(&self, cleaned: &Cleaned<D>) -> bool {
        let (under_way, sources) = (&cleaned.under_way.0, &cleaned.made.sources);
        let is_expected = self.cleaning.as_ref().is_some_and(|it| Arc::ptr_eq(it, under_way));
        let mut pairs = self.segments.iter().zip(sources);
        is_expected
            && !under_way.is_overtaken()
            && cleaned.made.gone_before == self.tombstones_gone_below
            && sources.len() < self.segments.len()
            && pairs.all(|(segment, source)| {
                let aborted = self.aborted.get(&segment.base).map_or(0, TxnIndex::count);
                (segment.base, segment.end, segment.size, aborted)
                    == (source.base, source.end, source.size, source.aborted)
                    && segment.base < self.flushing.point.segment
            })
    }

    /// The one that there is vouches for what is no more. Where a newer one cannot be written there is none: more would be
    /// looked at.
    fn checkpoint_after_swap(
        &mut self,
        high_watermark: Offset,
    ) -> Result<Option<(PathBuf, D::File)>, LogError> {
        self.presence.checkpoint = None;
        let path = self.place.path(checkpoint::OFFSETS);
        if let Ok(written) = self.write_down(high_watermark, false) {
            return Ok(written.map(|file| (path, file)));
        }
        self.presence.checkpoint = None;
        let removed = self.place.remove(checkpoint::OFFSETS);
        removed.inspect_err(|error| self.flushing.poison(error)).map(|()| None)
    }

    fn swap(&self, cleaned: &Cleaned<D>) -> Result<Vec<Removal<D>>, LogError> {
        let (place, made) = (&self.place, &cleaned.made);
        let mut removals = Vec::new();
        for output in made.outputs.iter().filter(|output| output.is_new) {
            for source in &made.sources[output.sources.clone()] {
                let [log, indexes @ ..] = KINDS.map(|kind| kind.name(source.base));
                let away = |name: &String| -> Result<Option<String>, LogError> {
                    let replaced = format!("{name}{REPLACED}{DELETED}");
                    Ok(rename(place, name, &replaced)?.then_some(replaced))
                };
                let Some(log) = away(&log)? else { continue };
                let mut gone = Vec::new();
                let aborted = (source.aborted > 0).then(|| Kind::TxnIndex.name(source.base));
                for index in indexes.iter().chain(&aborted) {
                    gone.extend(away(index)?);
                }
                removals.push(Removal::replaced(place.clone(), log, gone));
            }
        }
        for (from, to, _) in &cleaned.plan.install {
            rename(place, from, to)?;
        }
        Ok(removals)
    }

    /// In memory, what is now on disk.
    fn replace_segments(&mut self, made: &Made) {
        let mut old = std::mem::take(&mut self.segments);
        let behind = old.split_off(made.sources.len());
        let mut old = old.into_iter();
        let mut segments = VecDeque::with_capacity(made.outputs.len() + behind.len());
        for output in &made.outputs {
            if output.is_new {
                let sources = &made.sources[output.sources.clone()];
                sources.iter().for_each(|source| drop(self.aborted.remove(&source.base)));
            }
            if output.is_new && !output.aborted.is_empty() {
                let mut index = TxnIndex::of(output.base, List::of(output.aborted.clone()), false);
                index.release();
                self.aborted.insert(output.base, index);
            }
            let mut replaced = old.by_ref().take(output.sources.len());
            match replaced.next() {
                Some(segment) if !output.is_new => segments.push_back(segment),
                _ => segments.push_back(Segment::closed(output.base, output.end, output.size)),
            }
            replaced.for_each(drop);
        }
        segments.extend(behind);
        self.segments = segments;
    }

    /// Before the log is cut at `from`: what a pass under way has read from there on is of no use.
    pub(crate) fn overtake_cleaning(&self, from: Offset) -> Result<(), LogError> {
        self.cleaning.as_ref().map_or(Ok(()), |under_way| under_way.overtake(from))
    }

    /// Before the log loses its first segment, which ends at `end`: a pass under way does without.
    pub(crate) fn shorten_cleaning(&self, end: Offset) -> Result<(), LogError> {
        self.cleaning.as_ref().map_or(Ok(()), |under_way| under_way.lose_below(end))
    }
}
