//! How far each partition has been read, and where it ends. Pure.
//!
//! ```text
//! yielded (next) <= received <= end, if the reader stops at the end
//! ```

use std::collections::BTreeMap;
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

#[derive(Clone, Copy, Debug)]
pub(super) struct Tracked {
    pub next: Offset,
    /// Behind the last record that was received.
    pub received: Offset,
    pub end: Option<Offset>,
    pub high_watermark: Option<Offset>,
    pub source: Source,
    /// The stream it was last asked of, which may still push some of it.
    pub stream: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Positions {
    partitions: BTreeMap<PartitionId, Tracked>,
}

impl Positions {
    pub(super) fn insert(&mut self, partition: PartitionId, start: Offset, end: Option<Offset>) {
        let over = end.is_some_and(|end| start >= end);
        let source = if over { Source::Over } else { Source::None };
        let (next, received) = (start, start);
        let tracked = Tracked { next, received, end, high_watermark: None, source, stream: None };
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
    pub(super) fn without_source(&self) -> Vec<(PartitionId, Offset)> {
        let partitions = self.partitions.iter();
        let idle = partitions.filter(|(_, tracked)| tracked.source == Source::None);
        idle.map(|(&partition, tracked)| (partition, tracked.received)).collect()
    }

    /// The stream broke: its partitions go on elsewhere, behind what was received.
    pub(super) fn lose(&mut self, stream: u64) {
        for tracked in self.partitions.values_mut() {
            if tracked.source == Source::Stream(stream) {
                tracked.source = Source::None;
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

    const P0: PartitionId = PartitionId(0);
    const P1: PartitionId = PartitionId(1);

    #[test]
    fn a_reader_that_stops_at_the_end_is_over_when_every_partition_is() {
        let mut positions = Positions::default();
        positions.insert(P0, Offset(5), Some(Offset(5)));
        positions.insert(P1, Offset(0), Some(Offset(10)));
        assert_eq!(positions.without_source(), [(P1, Offset(0))]);
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
        tracked.source = Source::Stream(1);
        tracked.received(Offset(7));
        positions.lose(2);
        assert!(positions.without_source().is_empty());
        positions.lose(1);
        assert_eq!(positions.without_source(), [(P0, Offset(7))]);
    }
}
