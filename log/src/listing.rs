//! What stands in a partition's directory, by kind.

use crate::LogError;
use crate::checkpoint::OffsetCheckpoint;
use crate::cleaning::CLEANED;
use crate::damage::Evidence;
use crate::disk::Disk;
use crate::place::{Kind, Place, is_unreadable};
use crate::retention::DELETED;
use std::collections::BTreeSet;
use troupe_proto::ids::Offset;

/// What a removal or a replacement appends to a file's name.
pub(crate) const TRANSIENT: [&str; 4] = [".tmp", DELETED, CLEANED, ".swap"];

/// What stands in the directory.
#[derive(Default)]
pub(crate) struct Listing {
    pub(crate) logs: BTreeSet<Offset>,
    indexes: Vec<(Offset, Kind)>,
    pub(crate) snapshots: BTreeSet<Offset>,
    pub(crate) leftovers: Vec<String>,
    others: Vec<String>,
}

impl Listing {
    /// Leftovers are of a removal or a replacement that a crash interrupted (S12).
    pub(crate) fn of(names: Vec<String>) -> Listing {
        let mut listing = Listing::default();
        for name in names {
            match Kind::parse(&name) {
                Some((base, Kind::Log)) => drop(listing.logs.insert(base)),
                Some((offset, Kind::Snapshot)) => drop(listing.snapshots.insert(offset)),
                Some((base, kind)) => listing.indexes.push((base, kind)),
                None if TRANSIENT.iter().any(|suffix| name.ends_with(suffix)) => {
                    listing.leftovers.push(name);
                }
                None => listing.others.push(name),
            }
        }
        listing
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.others.iter().any(|other| other == name)
    }

    pub(crate) fn read<D: Disk>(
        &self,
        place: &Place<D>,
        name: &str,
    ) -> Result<Option<Vec<u8>>, LogError> {
        if self.has(name) { place.read(name) } else { Ok(None) }
    }

    /// A file that costs a longer recovery at most: what cannot be read is set aside.
    pub(crate) fn read_derived<D: Disk>(
        &self,
        place: &Place<D>,
        name: &str,
        evidence: &mut Evidence,
    ) -> Result<Option<Vec<u8>>, LogError> {
        match self.read(place, name) {
            Err(LogError::Io { source, .. }) if is_unreadable(&source) => {
                evidence.notices.push(place.set_aside(name, &source)?);
                Ok(None)
            }
            read => read,
        }
    }

    /// Indexes of closed segments that are there themselves.
    pub(crate) fn missing_indexes(&self, checkpoint: &OffsetCheckpoint) -> Vec<(Offset, Kind)> {
        let there = checkpoint.closed.iter().filter(|(base, _)| self.logs.contains(base));
        let wanted = there
            .flat_map(|(base, _)| [Kind::OffsetIndex, Kind::TimeIndex].map(|kind| (*base, kind)));
        let found: BTreeSet<String> =
            self.indexes.iter().map(|(base, kind)| kind.name(*base)).collect();
        wanted.filter(|(base, kind)| !found.contains(&kind.name(*base))).collect()
    }

    /// Segments that know of aborted transactions.
    pub(crate) fn txn_indexes(&self) -> Vec<Offset> {
        let indexes = self.indexes.iter().filter(|(_, kind)| *kind == Kind::TxnIndex);
        indexes.map(|(base, _)| *base).collect()
    }

    /// Whether retention was removing this segment.
    pub(crate) fn was_deleted(&self, base: Offset) -> bool {
        let name = Kind::Log.name(base) + DELETED;
        self.leftovers.contains(&name)
    }

    /// Indexes whose segment is gone.
    pub(crate) fn orphans(&self) -> impl Iterator<Item = String> {
        let orphans = self.indexes.iter().filter(|(base, _)| !self.logs.contains(base));
        orphans.map(|(base, kind)| kind.name(*base))
    }
}
