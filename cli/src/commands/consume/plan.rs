//! Where to begin and to stop in each partition: the range of the command line, resolved once against
//! what the leaders say.
//!
//! Promises: what is not there is told, and what there is that comes nearest is read; or it is waited for.

use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::offset_range::{Bounds, OffsetRange, Position};
use crate::timestamp;
use std::collections::BTreeMap;
use troupe_client::{Client, IsolationLevel, OffsetSpec};
use troupe_proto::ids::{Offset, PartitionId};

/// What is still to be read.
#[derive(Debug)]
pub struct Plan {
    /// Where each partition begins.
    pub starts: BTreeMap<PartitionId, Offset>,
    /// Exclusive ends of the partitions that have one and have not reached it.
    pub ends: BTreeMap<PartitionId, Offset>,
    /// Some partition has no end.
    endless: bool,
    /// Partitions that end before the first offset that is wanted of them: it is waited for.
    waits_for: BTreeMap<PartitionId, Offset>,
    /// What was asked for and is not there.
    pub notes: Vec<String>,
}

/// Which records are wanted, as the command line says it.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// None: all.
    pub partitions: &'a [u32],
    pub range: OffsetRange,
    pub until_end: bool,
    /// For what is not there yet.
    pub wait: bool,
    pub isolation: IsolationLevel,
}

impl Plan {
    /// # Errors
    /// An unknown topic or partition, or leaders that do not answer.
    pub async fn make(client: &Client, topic: &str, wanted: Wanted<'_>) -> Result<Plan, Failure> {
        let Wanted { partitions: only, mut range, until_end, wait, isolation } = wanted;
        let what = || format!("cannot consume {topic}");
        let metadata = client.topic(topic).await.with_context(what)?;
        let known: Vec<PartitionId> = metadata.partitions.iter().map(|p| p.partition).collect();
        let chosen: Vec<PartitionId> = match only {
            [] => known.clone(),
            only => only.iter().copied().map(PartitionId).collect(),
        };
        if let Some(wrong) = chosen.iter().find(|partition| !known.contains(partition)) {
            let cause =
                format!("there is no partition {wrong}; the topic has 0 to {}", known.len() - 1);
            return Err(Failure::new(Exit::NotFound, what(), cause));
        }
        if until_end && range.until.is_none() {
            range.until = Some(Position::End);
        }
        let now_ms = timestamp::now_ms();
        let mut bounds: BTreeMap<PartitionId, Bounds> =
            chosen.iter().map(|partition| (*partition, Bounds::default())).collect();
        for (spec, set) in queries(range, now_ms) {
            let queries: Vec<_> = chosen.iter().map(|partition| (*partition, spec)).collect();
            for listed in
                client.list_offsets_as(topic, &queries, isolation).await.with_context(what)?
            {
                if let Some(bounds) = bounds.get_mut(&listed.partition) {
                    set(bounds, listed.offset.map(|offset| offset.0));
                }
            }
        }
        Ok(Plan::from_bounds(topic, range, wait, &bounds))
    }

    fn from_bounds(
        topic: &str,
        range: OffsetRange,
        wait: bool,
        bounds: &BTreeMap<PartitionId, Bounds>,
    ) -> Plan {
        let mut plan = Plan {
            starts: BTreeMap::new(),
            ends: BTreeMap::new(),
            endless: false,
            waits_for: BTreeMap::new(),
            notes: Vec::new(),
        };
        // Only of places that were named: the last ten of three are three.
        let is_named = |place| matches!(place, Position::Exact(_) | Position::AfterStart(_));
        let (mut behind, mut before, mut short) = (Vec::new(), Vec::new(), Vec::new());
        for (partition, bounds) in bounds {
            let (from, until) = range.asked(bounds);
            let is_behind = from > i128::from(bounds.latest) && is_named(range.from);
            if is_behind && wait {
                plan.waits_for.insert(*partition, Offset(u64::try_from(from).unwrap_or(u64::MAX)));
            } else if is_behind {
                behind.push(*partition);
            } else if from < i128::from(bounds.earliest) && is_named(range.from) {
                before.push(*partition);
            }
            let until = match (until, range.until) {
                (Some(until), Some(place))
                    if is_named(place) && until > i128::from(bounds.latest) =>
                {
                    if wait {
                        Some(u64::try_from(until).unwrap_or(u64::MAX))
                    } else {
                        if !is_behind {
                            short.push(*partition);
                        }
                        Some(bounds.latest)
                    }
                }
                (until, _) => until.map(|until| bounds.clamp(until)),
            };
            let from = bounds.clamp(from);
            if until.is_some_and(|until| until <= from) {
                continue;
            }
            plan.starts.insert(*partition, Offset(from));
            match until {
                Some(until) => drop(plan.ends.insert(*partition, Offset(until))),
                None => plan.endless = true,
            }
        }
        let what = match plan.endless {
            true => "read from there on",
            false => "nothing of it is read",
        };
        let mut tell = |partitions: &[PartitionId], said: &str| {
            if !partitions.is_empty() {
                let numbers: Vec<String> = partitions.iter().map(ToString::to_string).collect();
                plan.notes.push(format!("{topic}:{} {said}", numbers.join(",")));
            }
        };
        tell(
            &behind,
            &format!("ends before the first offset that is asked for: {what}; --wait waits for it"),
        );
        tell(
            &before,
            "begins behind the first offset that is asked for: read from its first record on",
        );
        tell(
            &short,
            "ends before the last offset that is asked for: read up to its end; --wait waits for the rest",
        );
        plan
    }

    /// Records before it are not wanted.
    pub fn wanted_from(&self, partition: PartitionId) -> Offset {
        self.waits_for.get(&partition).copied().unwrap_or(Offset::ZERO)
    }

    pub fn until(&self, partition: PartitionId) -> Option<Offset> {
        // A partition that reached its end has no entry any more; nothing of it is wanted.
        let done = || (!self.endless).then_some(Offset::ZERO);
        self.ends.get(&partition).copied().or_else(done)
    }

    /// Everything up to `end` was read.
    pub fn read(&mut self, partition: PartitionId, end: Offset) {
        if self.ends.get(&partition).is_some_and(|until| end >= *until) {
            self.ends.remove(&partition);
        }
    }

    /// Some partition is read until somebody ends it.
    pub fn endless(&self) -> bool {
        self.endless
    }

    pub fn finished(&self) -> bool {
        !self.endless && self.ends.is_empty()
    }
}

type SetBound = fn(&mut Bounds, Option<u64>);

/// What has to be asked for a range.
fn queries(range: OffsetRange, now_ms: i64) -> Vec<(OffsetSpec, SetBound)> {
    let earliest: SetBound = |b, offset| b.earliest = offset.unwrap_or(0);
    let latest: SetBound = |b, offset| b.latest = offset.unwrap_or(0);
    let mut queries = vec![(OffsetSpec::Earliest, earliest), (OffsetSpec::Latest, latest)];
    if let Position::At(moment) = range.from {
        let spec = OffsetSpec::Timestamp(moment.timestamp_ms(now_ms));
        queries.push((spec, |b, offset| b.at_from = offset));
    }
    if let Some(Position::At(moment)) = range.until {
        let spec = OffsetSpec::Timestamp(moment.timestamp_ms(now_ms));
        queries.push((spec, |b, offset| b.at_until = offset));
    }
    queries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(range: &str, bounds: &[(u64, u64)]) -> Plan {
        plan_for(range, false, bounds)
    }

    fn plan_for(range: &str, wait: bool, bounds: &[(u64, u64)]) -> Plan {
        let bounds = bounds.iter().zip(0..).map(|((earliest, latest), partition)| {
            let bounds = Bounds { earliest: *earliest, latest: *latest, ..Bounds::default() };
            (PartitionId(partition), bounds)
        });
        Plan::from_bounds("t", range.parse().unwrap(), wait, &bounds.collect())
    }

    #[test]
    fn an_empty_partition_is_finished_before_it_begins() {
        let mut plan = plan(":end", &[(0, 0), (5, 9)]);
        assert_eq!(plan.starts, BTreeMap::from([(PartitionId(1), Offset(5))]));
        plan.read(PartitionId(1), Offset(8));
        assert!(!plan.finished());
        plan.read(PartitionId(1), Offset(9));
        assert!(plan.finished());
        assert_eq!(plan.until(PartitionId(1)), Some(Offset::ZERO), "nothing more of it is wanted");
    }

    #[test]
    fn without_an_end_it_never_finishes() {
        let plan = plan("end", &[(0, 7)]);
        assert!(!plan.finished());
        assert_eq!(plan.until(PartitionId(0)), None);
        assert_eq!(plan.starts[&PartitionId(0)], Offset(7));
    }
    #[test]
    fn what_is_not_there_is_told_and_the_nearest_is_read() {
        let plan = plan("1700", &[(0, 3000), (0, 7), (0, 9), (1800, 1900)]);
        let starts: Vec<u64> = plan.starts.values().map(|start| start.0).collect();
        assert_eq!(starts, [1700, 7, 9, 1800]);
        assert_eq!(plan.notes.len(), 2, "{:?}", plan.notes);
        assert!(
            plan.notes[0].starts_with("t:1,2 ends before the first offset"),
            "{:?}",
            plan.notes
        );
        assert!(plan.notes[0].contains("read from there on"), "{:?}", plan.notes);
        assert!(
            plan.notes[1].starts_with("t:3 begins behind the first offset"),
            "{:?}",
            plan.notes
        );
    }

    #[test]
    fn a_range_beyond_the_end_ends_with_a_word() {
        let plan = plan("1700:1703", &[(0, 1701), (0, 7)]);
        assert_eq!(plan.ends, BTreeMap::from([(PartitionId(0), Offset(1701))]));
        assert!(plan.notes.iter().any(|note| note.starts_with("t:1 ends before the first")));
        assert!(plan.notes.iter().any(|note| note.starts_with("t:0 ends before the last")));
        assert!(plan_for("-10", false, &[(0, 3)]).notes.is_empty(), "the last ten of three");
    }

    #[test]
    fn a_range_beyond_the_end_is_waited_for_on_request() {
        let plan = plan_for("1700:1703", true, &[(0, 7)]);
        assert_eq!(plan.starts[&PartitionId(0)], Offset(7));
        assert_eq!(plan.wanted_from(PartitionId(0)), Offset(1700));
        assert_eq!(plan.until(PartitionId(0)), Some(Offset(1703)));
        assert!(plan.notes.is_empty() && !plan.finished());
    }
}
