//! The indexes as they are found when a log is opened, and what is missing in them.

use super::TxnIndex;
use super::list::List;
use crate::disk::Disk;
use crate::place::{Kind, is_unreadable};
use crate::{Log, LogError};
use troupe_proto::ids::Offset;

/// What opening a log has seen.
#[derive(Debug, Default)]
pub(crate) struct FoundAborted {
    /// Segments that have a file.
    pub(crate) files: Vec<Offset>,
    /// What the checkpoint has counted of each segment.
    pub(crate) counted: Vec<(Offset, u64)>,
    /// Markers of aborted transactions behind the recovery point.
    pub(crate) markers: Vec<Offset>,
}

impl<D: Disk> Log<D> {
    /// Reads the files; from where on entries are missing, as far as the files tell. What does not belong there is left
    /// out, and the last checkpoint counts for nothing then. Says what is damaged.
    pub(crate) fn find_aborted(
        &mut self,
        found: &FoundAborted,
        notices: &mut Vec<String>,
    ) -> Result<Option<Offset>, LogError> {
        let mut lost: Vec<Offset> = Vec::new();
        for base in &found.files {
            let name = Kind::TxnIndex.name(*base);
            let Some(end) = self.end_of(*base) else {
                self.place.remove(&name)?;
                continue;
            };
            let content = match self.place.read(&name) {
                Err(LogError::Io { source, .. }) if is_unreadable(&source) => {
                    notices.push(self.place.set_aside(&name, &source)?);
                    None
                }
                content => content?,
            };
            let (mut list, whole) =
                content.map_or((List::default(), false), |it| List::decode(*base, &it));
            let is_cut = list.truncate(end);
            if !whole {
                lost.push(*base);
            }
            if is_cut {
                self.presence.checkpoint = None;
            }
            match list.is_empty() {
                true => self.place.remove(&name)?,
                false => {
                    let index = TxnIndex::of(*base, list, !whole || is_cut);
                    self.aborted.insert(*base, index);
                }
            }
        }
        for (base, count) in &found.counted {
            let known = self.aborted.get(base).map_or(0, |index| index.count as u64);
            if known < *count && self.end_of(*base).is_some() {
                lost.push(*base);
                let path = self.place.path(&Kind::TxnIndex.name(*base));
                notices.push(format!("{} is missing or damaged: made again", path.display()));
            }
        }
        Ok(lost.into_iter().min())
    }

    fn end_of(&self, base: Offset) -> Option<Offset> {
        let at = self.segment_of(base)?;
        let segment = self.segments.get(at).filter(|segment| segment.base == base);
        segment.map(|segment| segment.end)
    }

    /// Makes all again that is missing from `lost` on, and of these markers.
    pub(crate) fn complete_aborted(
        &mut self,
        lost: Option<Offset>,
        markers: &[Offset],
    ) -> Result<(), LogError> {
        let here = self.oldest()..self.end;
        let is_known = |marker: Offset| {
            let at = self.segment_of(marker)?;
            let index = self.aborted.get(&self.segments[at].base)?;
            index.list.get().map(|list| list.has(marker))
        };
        let without = markers.iter().copied().filter(|marker| here.contains(marker));
        let without = without.filter(|marker| is_known(*marker) != Some(true)).min();
        let lost = lost.into_iter().chain(without).min();
        if let Some(lost) = lost {
            self.presence.checkpoint = None;
            let found = self.aborted_in_batches(lost, self.end)?;
            self.merge_aborted(found)?;
        }
        match self.write_aborted() {
            // known all the same, and made again by the next opening
            Err(LogError::DiskFull { .. }) => {}
            written => written?,
        }
        self.aborted.values_mut().for_each(TxnIndex::release);
        Ok(())
    }
}
