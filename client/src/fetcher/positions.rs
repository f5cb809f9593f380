//! How far each partition has been read, and where it ends. Pure.
//!
//! ```text
//! yielded (next) <= received <= end, if it stops at the end
//! ```

use super::nearby::Nearby;
use crate::consumer::IsolationLevel;
use crate::metadata::{InUse, Leadership, UNKNOWN_TOPIC_PATIENCE};
use crate::topic_partition::TopicPartition;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::time::{Duration, Instant};
use troupe_proto::ids::{LeaderEpoch, Offset, TopicId};

/// Where a partition's records come from at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// From no stream; one has to be found.
    None,
    /// From no stream before it is known whether the position is one in the leader's log. The check's number.
    Checked(u64),
    Stream(u64),
    /// The end is reached, or an error was handed out.
    Over,
}

/// Before a partition is asked for again where it was refused; doubles up to the maximum. Another leader is
/// asked at once.
const BACKOFF: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Tracked {
    pub topic_id: TopicId,
    pub next: Offset,
    /// Behind the last record that was received.
    pub received: Offset,
    pub end: Option<Offset>,
    /// The leader epoch of the record before `received`, if it is known.
    pub after: Option<LeaderEpoch>,
    /// The leader epoch in which `received` is known to be a position in the log.
    pub verified: Option<LeaderEpoch>,
    pub high_watermark: Option<Offset>,
    /// Told to readers of committed records.
    pub last_stable: Option<Offset>,
    pub source: Source,
    /// Nobody wants it for now.
    pub paused: bool,
    /// What answers to the last question carry; others may still be under way.
    pub subscription: u64,
    /// The leader it was last asked of.
    pub leadership: Option<Leadership>,
    /// When it may be asked of that leader again, and how often that failed.
    pub retry_at: Option<Instant>,
    failures: u32,
    /// Where something came last that is no batch.
    garbled_at: Option<Offset>,
    /// A follower may be read from in the leader's place.
    pub(super) nearby: Nearby,
    /// Since when leaders say that there is no such topic.
    unknown_since: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Positions {
    partitions: BTreeMap<TopicPartition, Tracked>,
    /// So that the client keeps following who leads them.
    in_use: BTreeMap<TopicPartition, InUse>,
}

impl Positions {
    pub(super) fn keep(&mut self, at: &TopicPartition, in_use: InUse) {
        self.in_use.insert(at.clone(), in_use);
    }

    pub(super) fn insert(
        &mut self,
        at: TopicPartition,
        topic_id: TopicId,
        start: Offset,
        end: Option<Offset>,
    ) {
        let over = end.is_some_and(|end| start >= end);
        let source = if over { Source::Over } else { Source::None };
        let tracked = Tracked {
            topic_id,
            next: start,
            received: start,
            end,
            after: None,
            verified: None,
            high_watermark: None,
            last_stable: None,
            source,
            paused: false,
            subscription: 0,
            leadership: None,
            retry_at: None,
            failures: 0,
            garbled_at: None,
            nearby: Nearby::default(),
            unknown_since: None,
        };
        self.partitions.insert(at, tracked);
    }

    pub(super) fn remove(&mut self, at: &TopicPartition) {
        self.partitions.remove(at);
        self.in_use.remove(at);
    }

    pub(super) fn get_mut(&mut self, at: &TopicPartition) -> Option<&mut Tracked> {
        self.partitions.get_mut(at)
    }

    pub(super) fn get(&self, at: &TopicPartition) -> Option<&Tracked> {
        self.partitions.get(at)
    }

    /// Nothing more will come.
    pub(super) fn is_over(&self) -> bool {
        self.partitions.values().all(|tracked| tracked.source == Source::Over)
    }

    /// Partitions that need a stream.
    pub(super) fn without_source(&self) -> Vec<TopicPartition> {
        let idle = self.partitions.iter().filter(|(_, tracked)| tracked.is_idle());
        idle.map(|(at, _)| at.clone()).collect()
    }

    /// Those that a stream serves, and the leader that it is to.
    pub(super) fn with_source(&self) -> Vec<(TopicPartition, TopicId, Option<Leadership>)> {
        let partitions = self.partitions.iter();
        let served = partitions.filter(|(_, tracked)| matches!(tracked.source, Source::Stream(_)));
        served.map(|(at, tracked)| (at.clone(), tracked.topic_id, tracked.leadership)).collect()
    }

    /// No partition comes from this stream.
    pub(super) fn is_unused(&self, stream: u64) -> bool {
        self.partitions.values().all(|tracked| tracked.source != Source::Stream(stream))
    }

    /// The first time at which a partition without a stream may be asked for again, or one with a stream is better
    /// asked for elsewhere.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        let at = self.partitions.values().map(|tracked| match tracked.source {
            Source::Stream(_) => tracked.nearby.review_at(),
            _ if tracked.is_idle() => tracked.retry_at,
            Source::None | Source::Checked(_) | Source::Over => None,
        });
        at.flatten().min()
    }

    /// Partitions whose replica has been read from for as long as it may be before the leader is asked again.
    pub(super) fn to_review(&self, now: Instant) -> Vec<TopicPartition> {
        let due = |tracked: &Tracked| {
            matches!(tracked.source, Source::Stream(_))
                && tracked.nearby.review_at().is_some_and(|at| at <= now)
        };
        let due = self.partitions.iter().filter(|(_, tracked)| due(tracked));
        due.map(|(at, _)| at.clone()).collect()
    }

    /// The stream broke: its partitions go on elsewhere, behind what was received. These are their topics.
    pub(super) fn lose(&mut self, stream: u64, now: Instant) -> BTreeSet<Arc<str>> {
        let mut topics = BTreeSet::new();
        for (at, tracked) in &mut self.partitions {
            if tracked.source == Source::Stream(stream) {
                match tracked.nearby.is_follower() {
                    true => tracked.left(now),
                    false => tracked.refused(now),
                }
                topics.insert(at.topic.clone());
            }
        }
        topics
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&TopicPartition, &Tracked)> {
        self.partitions.iter()
    }
}

impl Tracked {
    /// Where reading ends for now, as a node said last.
    pub(crate) fn end_of_readable(&self, isolation: IsolationLevel) -> Option<Offset> {
        match isolation {
            IsolationLevel::ReadUncommitted => self.high_watermark,
            IsolationLevel::ReadCommitted => self.last_stable,
        }
    }

    /// It needs a stream.
    fn is_idle(&self) -> bool {
        self.source == Source::None && !self.paused
    }

    /// It is not served there, for now.
    pub(super) fn refused(&mut self, now: Instant) {
        self.source = Source::None;
        let pause = BACKOFF.saturating_mul(1 << self.failures.min(10)).min(BACKOFF_MAX);
        self.failures += 1;
        self.retry_at = Some(now + pause);
    }

    /// The follower that it was read from does not serve: the leader is asked, at once.
    pub(super) fn left(&mut self, now: Instant) {
        self.source = Source::None;
        self.nearby.failed(now);
    }

    /// What came from the leader is no batch. It may have gone bad behind the leader's check of it, which a file does that
    /// somebody makes shorter: it is worth asking for again. False: it was garbled there before.
    pub(super) fn first_garbled(&mut self) -> bool {
        self.garbled_at.replace(self.received) != Some(self.received)
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

    /// What was read before may not be in the log of who leads in this epoch: the epoch of the last of it.
    pub(super) fn is_doubtful(&self, epoch: LeaderEpoch) -> Option<LeaderEpoch> {
        self.after.filter(|after| *after != epoch && self.verified != Some(epoch))
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
    pub(super) fn received(&mut self, end: Offset, epoch: LeaderEpoch) -> bool {
        self.received = self.received.max(end);
        self.after = Some(epoch);
        self.verified = self.leadership.map(|leadership| leadership.epoch);
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
    use troupe_proto::ids::NodeId;

    fn p(partition: u32) -> TopicPartition {
        TopicPartition::new("t", partition)
    }

    fn insert(positions: &mut Positions, partition: u32, start: u64, end: Option<u64>) {
        let id = TopicId::random();
        positions.insert(p(partition), id, Offset(start), end.map(Offset));
    }

    fn leader(epoch: u32) -> Leadership {
        Leadership { node: NodeId(1), epoch: LeaderEpoch(epoch) }
    }

    #[test]
    fn who_stops_at_the_end_is_over_when_every_partition_is() {
        let mut positions = Positions::default();
        insert(&mut positions, 0, 5, Some(5));
        insert(&mut positions, 1, 0, Some(10));
        assert_eq!(positions.without_source(), [p(1)]);
        assert!(!positions.is_over());
        let tracked = positions.get_mut(&p(1)).unwrap();
        assert!(!tracked.received(Offset(9), LeaderEpoch(1)));
        assert!(tracked.received(Offset(10), LeaderEpoch(1)));
        assert!(positions.is_over());
    }

    #[test]
    fn after_a_break_reading_goes_on_behind_what_was_received() {
        let mut positions = Positions::default();
        insert(&mut positions, 0, 0, None);
        let tracked = positions.get_mut(&p(0)).unwrap();
        tracked.asked(leader(1), 1, 1);
        tracked.received(Offset(7), LeaderEpoch(1));
        let now = Instant::now();
        assert!(positions.lose(2, now).is_empty());
        assert!(positions.without_source().is_empty());
        assert_eq!(positions.lose(1, now), BTreeSet::from(["t".into()]));
        assert_eq!(positions.without_source(), [p(0)]);
        assert_eq!(positions.get(&p(0)).unwrap().received, Offset(7));
    }

    /// C13: an unclean election may have put something else where it stands.
    #[test]
    fn a_position_is_in_doubt_when_another_epoch_begins_and_nowhere_else() {
        let mut positions = Positions::default();
        insert(&mut positions, 0, 0, None);
        let tracked = positions.get_mut(&p(0)).unwrap();
        assert_eq!(tracked.is_doubtful(LeaderEpoch(4)), None, "nothing was read");
        tracked.asked(leader(4), 1, 1);
        tracked.received(Offset(7), LeaderEpoch(3));
        assert_eq!(tracked.is_doubtful(LeaderEpoch(4)), None, "it was read of this leader");
        assert_eq!(tracked.is_doubtful(LeaderEpoch(6)), Some(LeaderEpoch(3)));
        tracked.verified = Some(LeaderEpoch(6));
        assert_eq!(tracked.is_doubtful(LeaderEpoch(6)), None);
    }

    #[test]
    fn a_leader_that_refused_is_asked_again_later_and_another_one_at_once() {
        let mut positions = Positions::default();
        insert(&mut positions, 0, 0, None);
        let now = Instant::now();
        let mut expected = BACKOFF;
        for _ in 0..8 {
            let tracked = positions.get_mut(&p(0)).unwrap();
            assert!(tracked.may_ask(leader(1), now));
            tracked.asked(leader(1), 1, 1);
            tracked.refused(now);
            let again = positions.next_retry().unwrap();
            assert_eq!(again - now, expected);
            let tracked = positions.get_mut(&p(0)).unwrap();
            assert!(!tracked.may_ask(leader(1), now));
            tracked.retry_at = Some(now);
            expected = (expected * 2).min(BACKOFF_MAX);
        }
        let tracked = positions.get_mut(&p(0)).unwrap();
        tracked.refused(now);
        assert!(tracked.may_ask(leader(2), now));
    }

    /// A node that lags behind may not know a new topic yet.
    #[test]
    fn a_topic_is_believed_to_be_gone_only_after_a_while() {
        let mut positions = Positions::default();
        insert(&mut positions, 0, 0, None);
        let tracked = positions.get_mut(&p(0)).unwrap();
        let now = Instant::now();
        assert!(!tracked.unknown(now));
        assert!(!tracked.unknown(now + UNKNOWN_TOPIC_PATIENCE / 2));
        tracked.served();
        let later = now + UNKNOWN_TOPIC_PATIENCE;
        assert!(!tracked.unknown(later));
        assert!(tracked.unknown(later + UNKNOWN_TOPIC_PATIENCE));
    }

    #[test]
    fn what_is_no_batch_is_asked_for_once_more_in_each_place() {
        let mut positions = Positions::default();
        insert(&mut positions, 0, 0, None);
        let tracked = positions.get_mut(&p(0)).unwrap();
        assert!(tracked.first_garbled());
        assert!(!tracked.first_garbled());
        tracked.received(Offset(7), LeaderEpoch(1));
        assert!(tracked.first_garbled());
    }

    #[test]
    fn a_partition_that_is_paused_wants_no_stream() {
        let mut positions = Positions::default();
        insert(&mut positions, 0, 0, None);
        positions.get_mut(&p(0)).unwrap().paused = true;
        assert!(positions.without_source().is_empty());
        assert!(!positions.is_over());
        positions.get_mut(&p(0)).unwrap().paused = false;
        assert_eq!(positions.without_source(), [p(0)]);
    }
}
