//! How far the copy of one partition is, and where it began.

use super::positions::Position;
use troupe_proto::ids::Offset;

#[derive(Clone, Copy, Debug)]
pub struct Track {
    pub start: Position,
    /// All of the source below one offset is acknowledged below the other.
    pub acknowledged: Position,
    /// What was written down last.
    pub committed: Position,
    /// Behind the last batch that was read.
    pub read_to: Offset,
    pub records: u64,
    /// Offsets that the source deleted before they were copied.
    pub deleted: u64,
    warned: bool,
}

impl Track {
    pub fn new(start: Position) -> Track {
        Track {
            start,
            acknowledged: start,
            committed: start,
            read_to: start.source,
            records: 0,
            deleted: 0,
            warned: false,
        }
    }

    /// The source's record at `offset` stands in the target at `placed`, if that is known. The first time that records
    /// of somebody else stand between, where it stands instead.
    pub fn acknowledge(&mut self, offset: Offset, placed: Option<Offset>) -> Option<Offset> {
        let expected = self.acknowledged.target;
        let placed = placed.unwrap_or(expected);
        self.acknowledged = Position { source: Offset(offset.0 + 1), target: Offset(placed.0 + 1) };
        self.records += 1;
        let is_news = placed != expected && !self.warned;
        self.warned |= is_news;
        is_news.then_some(placed)
    }

    pub fn uncommitted(&self) -> Option<Position> {
        (self.acknowledged != self.committed).then_some(self.acknowledged)
    }

    /// Offsets of the source that hold no record: compaction has removed them.
    pub fn gaps(&self) -> u64 {
        let passed = self.acknowledged.source.0 - self.start.source.0;
        passed.saturating_sub(self.records + self.deleted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(source: u64, target: u64) -> Position {
        Position { source: Offset(source), target: Offset(target) }
    }

    #[test]
    fn offsets_without_a_record_are_counted_and_leave_no_gap_in_the_target() {
        let mut track = Track::new(position(10, 3));
        assert_eq!(track.uncommitted(), None);
        assert_eq!(track.acknowledge(Offset(10), Some(Offset(3))), None);
        assert_eq!(track.acknowledge(Offset(14), Some(Offset(4))), None);
        assert_eq!(track.acknowledged, position(15, 5));
        assert_eq!((track.records, track.gaps()), (2, 3));
        assert_eq!(track.uncommitted(), Some(position(15, 5)));
    }

    #[test]
    fn records_of_somebody_else_are_told_once() {
        let mut track = Track::new(position(0, 0));
        assert_eq!(track.acknowledge(Offset(0), Some(Offset(2))), Some(Offset(2)));
        assert_eq!(track.acknowledge(Offset(1), Some(Offset(7))), None);
        assert_eq!(track.acknowledged, position(2, 8));
    }
}
