//! How what a pass has made takes the place of what it was made from: at once, whatever interrupts it.
//!
//! ```text
//! 1. files of the pass, the next checkpoints, and a list of what goes where: written as *.cleaned, synced
//! 2. the list takes its name, cleaner-swap: from here on it will be done
//! 3. old files out of the way, new ones in; synced; then the list goes
//! ```
//!
//! Opening a log with a list does all of it that is left; without one, it forgets what is named *.cleaned. From the
//! second step on nothing needs space.

use super::source::Source;
use super::writer::{Output, cleaned_name};
use super::{CLEANED, CleaningReport, Finished, UnderWay};
use crate::checkpoint::{self, OffsetCheckpoint};
use crate::disk::Disk;
use crate::place::{Kind, Place, is_unreadable};
use crate::retention::{DELETED, Removal};
use crate::segment::Segment;
use crate::{Log, LogError};
use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;
use troupe_proto::ids::Offset;

/// The list of what goes where.
pub(crate) const SWAP: &str = "cleaner-swap";
/// What was replaced is named so until it is removed; the name of a deleted segment would say that it is missed by
/// nobody.
pub(crate) const REPLACED: &str = ".replaced";
const KINDS: [Kind; 3] = [Kind::Log, Kind::OffsetIndex, Kind::TimeIndex];

/// What a pass has made: files beside the log, which go when this is dropped.
#[must_use]
pub struct Cleaned<D: Disk> {
    pub(super) sources: Vec<Source>,
    pub(super) outputs: Vec<Output>,
    pub(super) report: CleaningReport,
    pub(super) pass: u64,
    pub(super) files: Unfinished<D>,
    pub(super) under_way: Arc<UnderWay>,
}

impl<D: Disk> Cleaned<D> {
    pub fn report(&self) -> &CleaningReport {
        &self.report
    }
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
}

impl<D: Disk> Drop for Unfinished<D> {
    fn drop(&mut self) {
        for name in &self.names {
            // what stays goes with the next opening
            let _ = self.place.remove(name);
        }
    }
}

/// What goes where: names in the partition's directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Plan {
    /// From, to, and how long it is.
    install: Vec<(String, String, u64)>,
    /// What is now part of another segment.
    remove: Vec<String>,
}

impl Plan {
    fn encode(&self) -> Vec<u8> {
        let mut lines = String::new();
        for (from, to, size) in &self.install {
            let _infallible = writeln!(lines, "install {from} {to} {size}");
        }
        for name in &self.remove {
            let _infallible = writeln!(lines, "remove {name}");
        }
        checkpoint::seal(&lines)
    }

    fn decode(content: &[u8]) -> Option<Plan> {
        let mut plan = Plan::default();
        for line in checkpoint::unseal(content)?.lines() {
            let mut words = line.split(' ');
            match (words.next()?, words.next()?) {
                ("install", from) => {
                    let (to, size) = (words.next()?, words.next()?.parse().ok()?);
                    plan.install.push((from.to_owned(), to.to_owned(), size));
                }
                ("remove", name) => plan.remove.push(name.to_owned()),
                _ => return None,
            }
        }
        Some(plan)
    }

    /// Whether every new file is there, in its place or on its way.
    fn is_complete<D: Disk>(&self, place: &Place<D>) -> bool {
        self.install.iter().all(|(from, to, size)| {
            [from, to]
                .into_iter()
                .any(|name| place.disk.size(&place.path(name)).ok() == Some(*size))
        })
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
    }
    conclude(place)?;
    Ok(true)
}

/// The list goes when all that it says is on disk for good, and before anything else happens: later it would lie.
fn conclude<D: Disk>(place: &Place<D>) -> Result<(), LogError> {
    place.sync_dir()?;
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
    /// Puts what a pass has made in the place of what it was made from, durably. `None`: the log was cut or shortened
    /// meanwhile, nothing has changed, and the files of the pass are gone.
    ///
    /// # Errors
    /// Errors of the disk. Unless the log is poisoned, nothing has changed; if it is, opening it anew finishes what
    /// was begun.
    pub fn finish_cleaning(
        &mut self,
        mut cleaned: Cleaned<D>,
        high_watermark: Offset,
    ) -> Result<Option<Finished<D>>, LogError> {
        self.check_writable()?;
        if !self.is_current(&cleaned) {
            return Ok(None);
        }
        self.cleaning = None;
        let first_dirty = cleaned.report.end;
        if cleaned.outputs.iter().all(|output| !output.is_new) {
            self.write_cleaned_below(first_dirty)?;
            return Ok(Some(Finished { removals: Vec::new(), report: cleaned.report }));
        }
        let plan = self.prepare_swap(&mut cleaned, high_watermark)?;
        match self.swap(&cleaned, &plan) {
            Ok(removals) => {
                cleaned.files.names.clear();
                self.replace_segments(&cleaned);
                self.cleaned_below = first_dirty;
                let point = self.flushing.point;
                self.presence.checkpoint = self.checkpointed_at(high_watermark, point);
                Ok(Some(Finished { removals, report: cleaned.report }))
            }
            Err(error) => {
                // how far it came, only opening it anew can tell: that needs the files
                cleaned.files.names.clear();
                self.flushing.poison(&error);
                Err(error)
            }
        }
    }

    /// Whether the log still has what the pass was made from.
    fn is_current(&self, cleaned: &Cleaned<D>) -> bool {
        let is_expected =
            self.cleaning.as_ref().is_some_and(|it| Arc::ptr_eq(it, &cleaned.under_way));
        let mut pairs = self.segments.iter().zip(&cleaned.sources);
        is_expected
            && !cleaned.under_way.is_overtaken()
            && cleaned.sources.len() < self.segments.len()
            && pairs.all(|(segment, source)| {
                (segment.base, segment.end, segment.size) == (source.base, source.end, source.size)
                    && segment.base < self.flushing.point.segment
            })
    }

    /// All that needs space: the checkpoints as they will be, and the list.
    fn prepare_swap(
        &mut self,
        cleaned: &mut Cleaned<D>,
        high_watermark: Offset,
    ) -> Result<Plan, LogError> {
        let mut plan = Plan::default();
        let (pass, outputs) = (cleaned.pass, &cleaned.outputs);
        for output in outputs.iter().filter(|output| output.is_new) {
            let merged = &cleaned.sources[output.sources.start + 1..output.sources.end];
            plan.remove
                .extend(merged.iter().flat_map(|source| KINDS.map(|kind| kind.name(source.base))));
            for kind in KINDS {
                let to = kind.name(output.base);
                let from = cleaned_name(&to, pass);
                let path = self.place.path(&from);
                let size =
                    self.place.disk.size(&path).map_err(|e| LogError::io("look at", &path, e))?;
                plan.install.push((from, to, size));
            }
        }
        let closed = outputs.iter().map(|output| (output.base, output.size));
        let behind = self.segments.range(cleaned.sources.len()..);
        let closed = closed.chain(behind.map(|segment| (segment.base, segment.size))).collect();
        let offsets = self.checkpoint_over(high_watermark, closed)?.encode();
        let first_dirty = checkpoint::encode_first_dirty(cleaned.report.end);
        for (to, content) in [(checkpoint::OFFSETS, offsets), (checkpoint::CLEANER, first_dirty)] {
            let from = cleaned_name(to, pass);
            cleaned.files.add(&from);
            drop(self.place.replace(&from, &content, true)?);
            plan.install.push((from, to.to_owned(), content.len() as u64));
        }
        let list = format!("{SWAP}{CLEANED}");
        cleaned.files.add(&list);
        drop(self.place.replace(&list, &plan.encode(), true)?);
        self.place.sync_dir()?;
        Ok(plan)
    }

    /// The same of other segments: those before the recovery point's are `closed`.
    fn checkpoint_over(
        &mut self,
        high_watermark: Offset,
        mut closed: Vec<(Offset, u64)>,
    ) -> Result<OffsetCheckpoint, LogError> {
        self.write_epochs()?;
        let recovery_point = self.vouched_for()?;
        match recovery_point {
            Some(point) => closed.retain(|(base, _)| *base < point.segment),
            None => closed.clear(),
        }
        let boot = self.place.disk.boot();
        let high_watermark = Some(high_watermark);
        let keeps_flushed_end = true;
        Ok(OffsetCheckpoint { high_watermark, recovery_point, closed, boot, keeps_flushed_end })
    }

    /// From the first line on, it will be done.
    fn swap(&mut self, cleaned: &Cleaned<D>, plan: &Plan) -> Result<Vec<Removal<D>>, LogError> {
        let place = &self.place;
        rename(place, &format!("{SWAP}{CLEANED}"), SWAP)?;
        place.sync_dir()?;
        let mut removals = Vec::new();
        for output in cleaned.outputs.iter().filter(|output| output.is_new) {
            for source in &cleaned.sources[output.sources.clone()] {
                let [log, indexes @ ..] = KINDS.map(|kind| kind.name(source.base));
                let away = |name: &String| -> Result<Option<String>, LogError> {
                    let replaced = format!("{name}{REPLACED}{DELETED}");
                    Ok(rename(place, name, &replaced)?.then_some(replaced))
                };
                let Some(log) = away(&log)? else { continue };
                let mut gone = Vec::new();
                for index in &indexes {
                    gone.extend(away(index)?);
                }
                removals.push(Removal::replaced(place.clone(), log, gone));
            }
        }
        for (from, to, _) in &plan.install {
            rename(place, from, to)?;
        }
        conclude(place)?;
        Ok(removals)
    }

    /// In memory, what is now on disk.
    fn replace_segments(&mut self, cleaned: &Cleaned<D>) {
        let mut old = std::mem::take(&mut self.segments);
        let behind = old.split_off(cleaned.sources.len());
        let mut old = old.into_iter();
        let mut segments = VecDeque::with_capacity(cleaned.outputs.len() + behind.len());
        for output in &cleaned.outputs {
            let mut replaced = old.by_ref().take(output.sources.len());
            match replaced.next() {
                Some(segment) if !output.is_new => segments.push_back(segment),
                _ => segments.push_back(Segment::closed(output.base, output.end, output.size)),
            }
            replaced.for_each(drop);
        }
        segments.extend(behind);
        self.segments = segments;
        for removed in self.deleted.drain(..) {
            removed.name_no_more(&self.place);
        }
    }

    /// What compaction has looked at, durably.
    pub(crate) fn write_cleaned_below(&mut self, offset: Offset) -> Result<(), LogError> {
        let content = checkpoint::encode_first_dirty(offset);
        self.place.replace(checkpoint::CLEANER, &content, true)?;
        self.place.sync_dir()?;
        self.cleaned_below = offset;
        Ok(())
    }

    /// Before the log is cut at `end`: what comes there next was looked at by nobody. Were it believed to be clean,
    /// a tombstone could go before what it deletes.
    pub(crate) fn lower_cleaned_below(&mut self, end: Offset) -> Result<(), LogError> {
        if self.cleaned_below <= end {
            return Ok(());
        }
        match self.write_cleaned_below(end) {
            Err(LogError::DiskFull { .. }) => {
                self.place.remove(checkpoint::CLEANER)?;
                self.place.sync_dir()?;
                self.cleaned_below = Offset::ZERO;
                Ok(())
            }
            written => written,
        }
    }

    /// What a pass under way has read from here on is not in the log any more.
    pub(crate) fn overtake_cleaning(&self, from: Offset) {
        if let Some(under_way) = &self.cleaning {
            under_way.overtake(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_as_it_was_written_and_a_torn_one_is_none() {
        let plan = Plan {
            install: vec![("a.log.3.cleaned".into(), "a.log".into(), 7)],
            remove: vec!["b.log".into(), "b.index".into()],
        };
        let content = plan.encode();
        assert_eq!(Plan::decode(&content), Some(plan));
        for len in 0..content.len() {
            assert_eq!(Plan::decode(&content[..len]), None);
        }
        assert_eq!(Plan::decode(&checkpoint::seal("install a b\n")), None);
        assert_eq!(Plan::decode(&checkpoint::seal("forget a\n")), None);
    }
}
