//! Which partition a record goes to: explicit, custom, by key, or sticky without a key (T21 to T26).
//!
//! Pure: chance and queue sizes are arguments.

use super::record::Record;
use crate::metadata::TopicMetadata;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use troupe_proto::ids::PartitionId;
use troupe_proto::partitioner::partition_of_key;

/// A rule of one's own (T22).
pub trait Partitioner: Send + Sync + Debug {
    /// The partition of a record that names none.
    ///
    /// # Errors
    /// Why there is none; the record is refused with these words.
    fn partition(&self, topic: &TopicMetadata, record: &Record<'_>) -> Result<PartitionId, String>;
}

/// How records without a partition find theirs.
#[derive(Clone, Debug)]
pub struct PartitionerConfig {
    /// Treat records that have a key as if they had none. Default: false.
    pub ignore_keys: bool,
    /// Without a key: partitions with shorter queues are drawn more often (T26). Default: true.
    pub adaptive: bool,
    /// Without a key, and adaptive: none of a node's partitions is drawn while the node has not taken what was ready for it
    /// for so long (T26); if that is so of all nodes, all count again. Default: zero, all always count.
    pub availability_timeout: Duration,
    /// Decides alone if set.
    pub custom: Option<Arc<dyn Partitioner>>,
}

impl Default for PartitionerConfig {
    fn default() -> Self {
        Self {
            ignore_keys: false,
            adaptive: true,
            availability_timeout: Duration::ZERO,
            custom: None,
        }
    }
}

/// What the rules say about one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    This(PartitionId),
    /// Wherever the sticky partition is.
    Sticky,
}

impl PartitionerConfig {
    /// T21 to T23, T25. An explicit partition is passed on as it is: it may not be known yet.
    pub(crate) fn choose(
        &self,
        topic: &TopicMetadata,
        record: &Record<'_>,
    ) -> Result<Choice, String> {
        if let Some(partition) = record.partition {
            return Ok(Choice::This(partition));
        }
        if let Some(custom) = &self.custom {
            return custom.partition(topic, record).map(Choice::This);
        }
        match record.key {
            // Over all partitions, leaderless ones included, or a key would move during an election.
            Some(key) if !self.ignore_keys => {
                Ok(Choice::This(partition_of_key(key, topic.partitions.len() as u32)))
            }
            _ => Ok(Choice::Sticky),
        }
    }
}

/// The partition that records without keys go to for now (T25, uniform sticky): it is left after
/// `batch_size` bytes if its last batch is closed, so that no batch is cut short, and at twice that
/// unconditionally.
#[derive(Debug)]
pub(crate) struct Sticky {
    /// Partition in the upper half, bytes that went there in the lower: one word, so that no lock is
    /// taken for a record. Bytes of racing senders may count for the next partition; that is harmless.
    state: AtomicU64,
    batch_size: u64,
}

impl Sticky {
    pub(crate) fn new(batch_size: usize, first: PartitionId) -> Self {
        let batch_size = (batch_size as u64).clamp(1, u64::from(u32::MAX) / 4);
        Self { state: AtomicU64::new(u64::from(first.0) << 32), batch_size }
    }

    pub(crate) fn current(&self) -> PartitionId {
        PartitionId((self.state.load(Ordering::Relaxed) >> 32) as u32)
    }

    /// Counts bytes that went to `partition`. True: it is time to draw another one.
    pub(crate) fn produced(
        &self,
        partition: PartitionId,
        bytes: usize,
        batch_closed: bool,
    ) -> bool {
        if self.current() != partition {
            return false;
        }
        let bytes = (bytes as u64).min(self.batch_size * 2);
        let before = self.state.fetch_add(bytes, Ordering::Relaxed) & u64::from(u32::MAX);
        let total = before + bytes;
        (total >= self.batch_size && batch_closed) || total >= self.batch_size * 2
    }

    /// From here on, `partition`.
    pub(crate) fn switch_to(&self, partition: PartitionId) {
        self.state.store(u64::from(partition.0) << 32, Ordering::Relaxed);
    }
}

/// A partition that can be drawn: its number, and how many batches wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub partition: PartitionId,
    pub queue: u32,
}

/// Draws a partition; `chance` is uniform over all of u64. Leaderless partitions are not among the
/// candidates (T26). The weight of a partition is the longest queue + 1 - its own queue.
pub(crate) fn draw(candidates: &[Candidate], adaptive: bool, chance: u64) -> Option<PartitionId> {
    let longest = candidates.iter().map(|candidate| candidate.queue).max()?;
    let weight = |candidate: &Candidate| {
        if adaptive { u64::from(longest - candidate.queue) + 1 } else { 1 }
    };
    let total: u64 = candidates.iter().map(weight).sum();
    let mut point = ((u128::from(chance) * u128::from(total)) >> 64) as u64;
    for candidate in candidates {
        match point.checked_sub(weight(candidate)) {
            Some(rest) => point = rest,
            None => return Some(candidate.partition),
        }
    }
    unreachable!("the point lies below the sum of all weights")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::PartitionLeader;
    use troupe_proto::ids::{LeaderEpoch, TopicId};

    fn topic(partitions: u32) -> TopicMetadata {
        TopicMetadata {
            name: "t".into(),
            topic_id: TopicId::from_wire(&[0; 16]).unwrap(),
            internal: false,
            partitions: (0..partitions)
                .map(|partition| PartitionLeader {
                    partition: PartitionId(partition),
                    leader: None,
                    leader_epoch: LeaderEpoch(0),
                    replicas: vec![],
                    in_sync_replicas: vec![],
                })
                .collect(),
        }
    }

    fn candidates(queues: &[u32]) -> Vec<Candidate> {
        (0..)
            .zip(queues)
            .map(|(n, &queue)| Candidate { partition: PartitionId(n), queue })
            .collect()
    }

    /// How often each partition is drawn over `steps` evenly spaced chances.
    fn shares(queues: &[u32], adaptive: bool, steps: u64) -> Vec<u64> {
        let candidates = candidates(queues);
        let mut shares = vec![0; queues.len()];
        for step in 0..steps {
            let chance = (u128::from(2 * step + 1) * (1 << 63) / u128::from(steps)) as u64;
            shares[draw(&candidates, adaptive, chance).unwrap().0 as usize] += 1;
        }
        shares
    }

    /// T26: queues 0, 3, 1 have weights 4, 1, 3.
    #[test]
    fn shorter_queues_are_drawn_more_often() {
        assert_eq!(shares(&[0, 3, 1], true, 8), [4, 1, 3]);
        assert_eq!(shares(&[2, 2, 2], true, 9), [3, 3, 3]);
        assert_eq!(shares(&[0, 3, 1], false, 9), [3, 3, 3]);
        assert_eq!(draw(&[], true, 0), None);
        assert_eq!(draw(&candidates(&[5]), true, u64::MAX), Some(PartitionId(0)));
    }

    /// T25.
    #[test]
    fn the_sticky_partition_is_left_after_a_batch_that_is_closed() {
        let sticky = Sticky::new(1000, PartitionId(3));
        let here = PartitionId(3);
        assert!(!sticky.produced(here, 600, true), "less than a batch");
        assert!(!sticky.produced(here, 600, false), "its last batch still takes records");
        assert!(sticky.produced(here, 1, true));
        sticky.switch_to(PartitionId(1));
        assert_eq!(sticky.current(), PartitionId(1));
        assert!(!sticky.produced(here, 5000, true), "bytes of the partition before");
        assert!(!sticky.produced(PartitionId(1), 1999, false));
        assert!(sticky.produced(PartitionId(1), 1, false), "twice a batch, unconditionally");
    }

    /// T21, T23.
    #[test]
    fn an_explicit_partition_wins_then_the_key() {
        let config = PartitionerConfig::default();
        let topic = topic(3);
        let keyed = Record::keyed(b"key1", b"");
        assert_eq!(config.choose(&topic, &keyed), Ok(Choice::This(PartitionId(2))));
        let explicit = Record { partition: Some(PartitionId(9)), ..keyed };
        assert_eq!(config.choose(&topic, &explicit), Ok(Choice::This(PartitionId(9))));
        assert_eq!(config.choose(&topic, &Record::value(b"v")), Ok(Choice::Sticky));
        let ignoring = PartitionerConfig { ignore_keys: true, ..PartitionerConfig::default() };
        assert_eq!(ignoring.choose(&topic, &keyed), Ok(Choice::Sticky));
    }

    /// T22.
    #[test]
    fn a_custom_partitioner_decides_and_may_refuse() {
        #[derive(Debug)]
        struct ByLength;
        impl Partitioner for ByLength {
            fn partition(
                &self,
                topic: &TopicMetadata,
                record: &Record<'_>,
            ) -> Result<PartitionId, String> {
                let value = record.value.ok_or("no value")?;
                Ok(PartitionId((value.len() % topic.partitions.len()) as u32))
            }
        }
        let config =
            PartitionerConfig { custom: Some(Arc::new(ByLength)), ..PartitionerConfig::default() };
        let chosen = config.choose(&topic(3), &Record::keyed(b"key1", b"four"));
        assert_eq!(chosen, Ok(Choice::This(PartitionId(1))));
        assert_eq!(config.choose(&topic(3), &Record::default()), Err("no value".to_owned()));
    }
}
