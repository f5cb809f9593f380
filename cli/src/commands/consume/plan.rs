//! Where to begin and to stop in each partition: the range of the command line, resolved once against
//! what the leaders say.

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
}

impl Plan {
    /// # Errors
    /// An unknown topic or partition, or leaders that do not answer.
    pub async fn make(
        client: &Client,
        topic: &str,
        only: &[u32],
        mut range: OffsetRange,
        until_end: bool,
        isolation: IsolationLevel,
    ) -> Result<Plan, Failure> {
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
        Ok(Plan::from_bounds(range, &bounds))
    }

    fn from_bounds(range: OffsetRange, bounds: &BTreeMap<PartitionId, Bounds>) -> Plan {
        let mut plan = Plan { starts: BTreeMap::new(), ends: BTreeMap::new(), endless: false };
        for (partition, bounds) in bounds {
            let (from, until) = range.resolve(bounds);
            if until.is_some_and(|until| until <= from) {
                continue;
            }
            plan.starts.insert(*partition, Offset(from));
            match until {
                Some(until) => drop(plan.ends.insert(*partition, Offset(until))),
                None => plan.endless = true,
            }
        }
        plan
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

/// What has to be asked for a range: exact offsets need nothing.
fn queries(range: OffsetRange, now_ms: i64) -> Vec<(OffsetSpec, SetBound)> {
    let mut queries: Vec<(OffsetSpec, SetBound)> = Vec::new();
    let sides = [Some(range.from), range.until];
    let needed = |wanted: fn(&Position) -> bool| sides.iter().flatten().any(wanted);
    if needed(|p| !matches!(p, Position::Exact(_))) {
        queries.push((OffsetSpec::Earliest, |b, offset| b.earliest = offset.unwrap_or(0)));
        queries.push((OffsetSpec::Latest, |b, offset| b.latest = offset.unwrap_or(0)));
    }
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
        let bounds = bounds.iter().zip(0..).map(|((earliest, latest), partition)| {
            let bounds = Bounds { earliest: *earliest, latest: *latest, ..Bounds::default() };
            (PartitionId(partition), bounds)
        });
        Plan::from_bounds(range.parse().unwrap(), &bounds.collect())
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
}
