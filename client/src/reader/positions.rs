//! How far each partition has been read, and where it ends. Pure.
//!
//! ```text
//! yielded (next) <= received <= end, if the reader stops at the end
//! ```

use crate::metadata::{Leadership, UNKNOWN_TOPIC_PATIENCE};
use std::collections::BTreeMap;
use tokio::time::{Duration, Instant};
use troupe_proto::ids::{Offset, PartitionId};

/// How far a partition has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub partition: PartitionId,
    /// Offset of the next record that will be handed out.
    pub next: Offset,
    /// As a node said last.
    pub high_watermark: Option<Offset>,
    /// Where reading stops, with `until_end`.
    pub end: Option<Offset>,
}

/// Where a partition's records come from at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// From no stream; one has to be found.
    None,
    Stream(u64),
    /// The end is reached, or an error was handed out.
    Over,
}

/// Before a partition is asked for again where it was refused; doubles up to the maximum. Another leader is
/// asked at once.
const BACKOFF: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub(super) struct Tracked {
    pub next: Offset,
    /// Behind the last record that was received.
    pub received: Offset,
    pub end: Option<Offset>,
    pub high_watermark: Option<Offset>,
    pub source: Source,
    /// What answers to the last question carry; others may still be under way.
    pub subscription: u64,
    /// The leader it was last asked of.
    pub leadership: Option<Leadership>,
    /// When it may be asked of that leader again, and how often that failed.
    pub retry_at: Option<Instant>,
    failures: u32,
    /// Since when leaders say that there is no such topic.
    unknown_since: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Positions {
    partitions: BTreeMap<PartitionId, Tracked>,
}

impl Positions {
    pub(super) fn insert(&mut self, partition: PartitionId, start: Offset, end: Option<Offset>) {
        let over = end.is_some_and(|end| start >= end);
        let source = if over { Source::Over } else { Source::None };
        let tracked = Tracked {
            next: start,
            received: start,
            end,
            high_watermark: None,
            source,
            subscription: 0,
            leadership: None,
            retry_at: None,
            failures: 0,
            unknown_since: None,
        };
        self.partitions.insert(partition, tracked);
    }

    pub(super) fn get_mut(&mut self, partition: PartitionId) -> Option<&mut Tracked> {
        self.partitions.get_mut(&partition)
    }

    pub(super) fn get(&self, partition: PartitionId) -> Option<&Tracked> {
        self.partitions.get(&partition)
    }

    /// Nothing more will come.
    pub(super) fn is_over(&self) -> bool {
        self.partitions.values().all(|tracked| tracked.source == Source::Over)
    }

    /// Partitions that need a stream.
    pub(super) fn without_source(&self) -> Vec<PartitionId> {
        let partitions = self.partitions.iter();
        let idle = partitions.filter(|(_, tracked)| tracked.source == Source::None);
        idle.map(|(&partition, _)| partition).collect()
    }

    /// Those that a stream serves, and the leader that it is to.
    pub(super) fn with_source(&self) -> Vec<(PartitionId, Option<Leadership>)> {
        let partitions = self.partitions.iter();
        let served = partitions.filter(|(_, tracked)| matches!(tracked.source, Source::Stream(_)));
        served.map(|(&partition, tracked)| (partition, tracked.leadership)).collect()
    }

    /// No partition comes from this stream.
    pub(super) fn is_unused(&self, stream: u64) -> bool {
        self.partitions.values().all(|tracked| tracked.source != Source::Stream(stream))
    }

    /// The first time at which a partition without a stream may be asked for again.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        let idle = self.partitions.values().filter(|tracked| tracked.source == Source::None);
        idle.filter_map(|tracked| tracked.retry_at).min()
    }

    /// The stream broke: its partitions go on elsewhere, behind what was received.
    pub(super) fn lose(&mut self, stream: u64, now: Instant) {
        for tracked in self.partitions.values_mut() {
            if tracked.source == Source::Stream(stream) {
                tracked.refused(now);
            }
        }
    }

    pub(super) fn all(&self) -> Vec<Position> {
        let partitions = self.partitions.iter();
        partitions
            .map(|(&partition, tracked)| Position {
                partition,
                next: tracked.next,
                high_watermark: tracked.high_watermark,
                end: tracked.end,
            })
            .collect()
    }
}

impl Tracked {
    /// It is not served there, for now.
    pub(super) fn refused(&mut self, now: Instant) {
        self.source = Source::None;
        let pause = BACKOFF.saturating_mul(1 << self.failures.min(10)).min(BACKOFF_MAX);
        self.failures += 1;
        self.retry_at = Some(now + pause);
    }

    /// The leader does not know the topic. True: that has lasted long enough to be believed.
    pub(super) fn unknown(&mut self, now: Instant) -> bool {
        self.refused(now);
        now - *self.unknown_since.get_or_insert(now) >= UNKNOWN_TOPIC_PATIENCE
    }

    /// Whether this leader may be asked now: it is another one, or the pause is over.
    pub(super) fn may_ask(&mut self, leadership: Leadership, now: Instant) -> bool {
        if self.leadership != Some(leadership) {
            self.failures = 0;
            self.retry_at = None;
        }
        self.retry_at.is_none_or(|at| at <= now)
    }

    /// It is asked of this leader, on this stream.
    pub(super) fn asked(&mut self, leadership: Leadership, stream: u64, subscription: u64) {
        self.source = Source::Stream(stream);
        self.subscription = subscription;
        self.leadership = Some(leadership);
        self.retry_at = None;
    }

    /// It is served.
    pub(super) fn served(&mut self) {
        self.failures = 0;
        self.unknown_since = None;
    }

    /// Takes note of what has come. True: the end is received, the partition needs no stream any more.
    pub(super) fn received(&mut self, end: Offset) -> bool {
        self.received = self.received.max(end);
        let over = self.end.is_some_and(|end| self.received >= end);
        if over {
            self.source = Source::Over;
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::ids::{LeaderEpoch, NodeId};

    const P0: PartitionId = PartitionId(0);
    const P1: PartitionId = PartitionId(1);

    fn leader(epoch: u32) -> Leadership {
        Leadership { node: NodeId(1), epoch: LeaderEpoch(epoch) }
    }

    #[test]
    fn a_reader_that_stops_at_the_end_is_over_when_every_partition_is() {
        let mut positions = Positions::default();
        positions.insert(P0, Offset(5), Some(Offset(5)));
        positions.insert(P1, Offset(0), Some(Offset(10)));
        assert_eq!(positions.without_source(), [P1]);
        assert!(!positions.is_over());
        let tracked = positions.get_mut(P1).unwrap();
        assert!(!tracked.received(Offset(9)));
        assert!(tracked.received(Offset(10)));
        assert!(positions.is_over());
    }

    #[test]
    fn after_a_break_reading_goes_on_behind_what_was_received() {
        let mut positions = Positions::default();
        positions.insert(P0, Offset(0), None);
        let tracked = positions.get_mut(P0).unwrap();
        tracked.asked(leader(1), 1, 1);
        tracked.received(Offset(7));
        let now = Instant::now();
        positions.lose(2, now);
        assert!(positions.without_source().is_empty());
        positions.lose(1, now);
        assert_eq!(positions.without_source(), [P0]);
        assert_eq!(positions.get(P0).unwrap().received, Offset(7));
    }

    #[test]
    fn a_leader_that_refused_is_asked_again_later_and_another_one_at_once() {
        let mut positions = Positions::default();
        positions.insert(P0, Offset(0), None);
        let now = Instant::now();
        let mut expected = BACKOFF;
        for _ in 0..8 {
            let tracked = positions.get_mut(P0).unwrap();
            assert!(tracked.may_ask(leader(1), now));
            tracked.asked(leader(1), 1, 1);
            tracked.refused(now);
            let again = positions.next_retry().unwrap();
            assert_eq!(again - now, expected);
            let tracked = positions.get_mut(P0).unwrap();
            assert!(!tracked.may_ask(leader(1), now));
            tracked.retry_at = Some(now);
            expected = (expected * 2).min(BACKOFF_MAX);
        }
        let tracked = positions.get_mut(P0).unwrap();
        tracked.refused(now);
        assert!(tracked.may_ask(leader(2), now));
    }

    /// A node that lags behind may not know a new topic yet.
    #[test]
    fn a_topic_is_believed_to_be_gone_only_after_a_while() {
        let mut positions = Positions::default();
        positions.insert(P0, Offset(0), None);
        let tracked = positions.get_mut(P0).unwrap();
        let now = Instant::now();
        assert!(!tracked.unknown(now));
        assert!(!tracked.unknown(now + UNKNOWN_TOPIC_PATIENCE / 2));
        tracked.served();
        let later = now + UNKNOWN_TOPIC_PATIENCE;
        assert!(!tracked.unknown(later));
        assert!(tracked.unknown(later + UNKNOWN_TOPIC_PATIENCE));
    }
}
