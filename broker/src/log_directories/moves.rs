//! Which replicas move between the directories of this node: one at a time, in the order in which they were asked for.
//!
//! Never here: a byte of a log.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use troupe_proto::error::Error;
use troupe_proto::ids::PartitionId;

/// Where a replica is to go.
pub struct MoveRequest {
    pub topic: String,
    pub partition: i32,
    pub directory: PathBuf,
}

/// A replica that is to go elsewhere.
#[derive(Clone, Debug)]
pub struct Move {
    pub topic: String,
    pub partition: PartitionId,
    pub to: PathBuf,
    pub state: MoveState,
}

#[derive(Clone, Debug)]
pub enum MoveState {
    Waiting,
    Copying {
        copied_bytes: u64,
        /// Of the log when the copy began.
        total_bytes: u64,
    },
    Failed(Error),
}

type Name = (String, PartitionId);

/// See the module.
#[derive(Default)]
pub struct Moves {
    waiting: VecDeque<(Name, PathBuf)>,
    now: Option<Move>,
    /// The last of each partition, until it is asked for again.
    failed: BTreeMap<Name, (PathBuf, Error)>,
    /// Somebody carries them out.
    busy: bool,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// And nobody carries moves out yet.
    First,
    Queued,
    /// It is being moved to there: the other move has to end first.
    Busy(PathBuf),
}

impl Moves {
    /// A request that waits is replaced; the same one again changes nothing.
    pub fn take(&mut self, topic: &str, partition: PartitionId, to: PathBuf) -> Taken {
        let name = (topic.to_owned(), partition);
        if let Some(now) = self.now.as_ref().filter(|now| is(now, &name)) {
            return if now.to == to { Taken::Queued } else { Taken::Busy(now.to.clone()) };
        }
        self.failed.remove(&name);
        self.waiting.retain(|(other, _)| *other != name);
        self.waiting.push_back((name, to));
        if std::mem::replace(&mut self.busy, true) { Taken::Queued } else { Taken::First }
    }

    /// The next one is under way; `None`: nobody carries any out from now on.
    pub fn next(&mut self) -> Option<Move> {
        self.now = self.waiting.pop_front().map(|((topic, partition), to)| {
            let state = MoveState::Copying { copied_bytes: 0, total_bytes: 0 };
            Move { topic, partition, to, state }
        });
        self.busy = self.now.is_some();
        self.now.clone()
    }

    pub fn progress(&mut self, copied_bytes: u64, total_bytes: u64) {
        if let Some(now) = &mut self.now {
            now.state = MoveState::Copying { copied_bytes, total_bytes };
        }
    }

    pub fn ended(&mut self, result: Result<(), Error>) {
        if let (Some(now), Err(error)) = (self.now.take(), result) {
            self.failed.insert((now.topic, now.partition), (now.to, error));
        }
    }

    /// All that there is to tell.
    pub fn all(&self) -> Vec<Move> {
        let waiting = self.waiting.iter().map(|(name, to)| (name, to, MoveState::Waiting));
        let failed = self
            .failed
            .iter()
            .map(|(name, (to, error))| (name, to, MoveState::Failed(error.clone())));
        let others = waiting.chain(failed).map(|((topic, partition), to, state)| Move {
            topic: topic.clone(),
            partition: *partition,
            to: to.clone(),
            state,
        });
        self.now.iter().cloned().chain(others).collect()
    }
}

fn is(one: &Move, (topic, partition): &Name) -> bool {
    one.topic == *topic && one.partition == *partition
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::error::ErrorCode;

    #[test]
    fn one_moves_at_a_time_and_what_failed_is_told_until_it_is_asked_for_again() {
        let mut moves = Moves::default();
        let (one, other) = (PathBuf::from("/one"), PathBuf::from("/other"));
        assert_eq!(moves.take("a", PartitionId(0), one.clone()), Taken::First);
        assert_eq!(moves.take("b", PartitionId(0), one.clone()), Taken::Queued);
        assert_eq!(moves.take("b", PartitionId(0), other.clone()), Taken::Queued, "it waits");
        assert_eq!(moves.next().unwrap().topic, "a");
        assert_eq!(moves.take("a", PartitionId(0), one.clone()), Taken::Queued, "the same");
        assert_eq!(moves.take("a", PartitionId(0), other.clone()), Taken::Busy(one));
        moves.progress(3, 7);
        let [now, waiting] = &moves.all()[..] else { panic!("two of them") };
        assert!(matches!(now.state, MoveState::Copying { copied_bytes: 3, total_bytes: 7 }));
        assert!(matches!(waiting.state, MoveState::Waiting));
        moves.ended(Err(Error::new(ErrorCode::StorageFailure, "a test")));
        assert_eq!(moves.next().unwrap().to, other);
        moves.ended(Ok(()));
        assert!(moves.next().is_none());
        assert!(matches!(&moves.all()[..], [Move { state: MoveState::Failed(_), .. }]));
        assert_eq!(moves.take("a", PartitionId(0), other), Taken::First);
        assert!(matches!(&moves.all()[..], [Move { state: MoveState::Waiting, .. }]));
    }
}
