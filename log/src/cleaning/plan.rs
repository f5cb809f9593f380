//! The list of what goes where, and what it changes in what is known of the log.

use crate::LogError;
use crate::checkpoint::{self, OffsetCheckpoint};
use crate::disk::Disk;
use crate::place::{Kind, Place, is_unreadable};
use crate::txn_index::count_in;
use std::collections::BTreeMap;
use std::fmt::Write;
use troupe_proto::ids::Offset;

/// What goes where: names in the partition's directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// From, to, and how long it is.
    pub(super) install: Vec<(String, String, u64)>,
    /// What is now part of another segment.
    pub(super) remove: Vec<String>,
}

impl Plan {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut lines = String::new();
        for (from, to, size) in &self.install {
            let _infallible = writeln!(lines, "install {from} {to} {size}");
        }
        for name in &self.remove {
            let _infallible = writeln!(lines, "remove {name}");
        }
        checkpoint::seal(&lines)
    }

    pub(super) fn decode(content: &[u8]) -> Option<Plan> {
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
    pub(super) fn is_complete<D: Disk>(&self, place: &Place<D>) -> bool {
        self.install.iter().all(|(from, to, size)| {
            [from, to]
                .into_iter()
                .any(|name| place.disk.size(&place.path(name)).ok() == Some(*size))
        })
    }

    /// The last checkpoint may be one from before, and vouch for segments as they were.
    pub(super) fn amend_checkpoint<D: Disk>(&self, place: &Place<D>) -> Result<(), LogError> {
        let content = match place.read(checkpoint::OFFSETS) {
            // whoever looks at it next sets it aside
            Err(LogError::Io { source, .. }) if is_unreadable(&source) => None,
            read => read?,
        };
        let Some(mut known) = content.and_then(|content| OffsetCheckpoint::decode(&content)) else {
            return Ok(());
        };
        let before = known.clone();
        let segments = self.now(Kind::Log);
        if known.recovery_point.is_some_and(|point| segments.contains_key(&point.segment)) {
            known.recovery_point = None;
            known.closed.clear();
        }
        known.closed.retain_mut(|(base, size)| match segments.get(base) {
            Some(now) => now.map(|now| *size = now).is_some(),
            None => true,
        });
        let mut aborted: BTreeMap<Offset, u64> = known.aborted.drain(..).collect();
        for (base, size) in self.now(Kind::TxnIndex) {
            match size {
                Some(size) => aborted.insert(base, count_in(size)),
                None => aborted.remove(&base),
            };
        }
        let point = known.recovery_point.map(|point| point.segment);
        let vouched_for = |base: Offset| point.is_some_and(|segment| base <= segment);
        known.aborted = aborted.into_iter().filter(|(base, _)| vouched_for(*base)).collect();
        if known == before {
            return Ok(());
        }
        match place.replace(checkpoint::OFFSETS, &known.encode(), true) {
            // without any, more is looked at
            Err(LogError::DiskFull { .. }) => place.remove(checkpoint::OFFSETS),
            replaced => replaced.map(drop),
        }
    }

    /// How long the files of this kind are that it concerns; none if they are gone.
    fn now(&self, kind: Kind) -> BTreeMap<Offset, Option<u64>> {
        let base = |name: &str| Kind::parse(name).filter(|(_, found)| *found == kind);
        let removed = self.remove.iter().filter_map(|name| Some((base(name)?.0, None)));
        let installed =
            self.install.iter().filter_map(|(_, to, size)| Some((base(to)?.0, Some(*size))));
        removed.chain(installed).collect()
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
