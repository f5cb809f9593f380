//! Where to go on, and what not to hand out for a while.

use super::assigned::Position;
use super::{Consumer, not_assigned};
use crate::error::ClientError;
use crate::topic_partition::TopicPartition;
use troupe_proto::ids::Offset;

impl Consumer {
    /// The next record of the partition is the one at this offset, or the first behind it (C8).
    ///
    /// # Errors
    /// [`ClientError::IllegalState`] if the partition is not assigned.
    pub fn seek(&mut self, partition: &TopicPartition, offset: Offset) -> Result<(), ClientError> {
        self.go_to(partition, Position::At(offset))
    }

    /// To the first record that is kept when records are asked for next, of these partitions or, if none is
    /// named, of all.
    ///
    /// # Errors
    /// As [`Consumer::seek`].
    pub fn seek_to_beginning(&mut self, partitions: &[TopicPartition]) -> Result<(), ClientError> {
        self.go_all_to(partitions, Position::Beginning)
    }

    /// Behind what is there when records are asked for next.
    ///
    /// # Errors
    /// As [`Consumer::seek`].
    pub fn seek_to_end(&mut self, partitions: &[TopicPartition]) -> Result<(), ClientError> {
        self.go_all_to(partitions, Position::End)
    }

    /// Back to what is committed, of these partitions or, if none is named, of all: what was read since is read again, as
    /// after a transaction that was aborted (X17). Where nothing is committed, to where this consumer began.
    ///
    /// # Errors
    /// As [`Consumer::seek`] and [`Consumer::committed`]; then nothing is changed.
    pub async fn seek_to_committed(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<(), ClientError> {
        let all = self.assigned.names();
        let named = if partitions.is_empty() { &all } else { partitions };
        self.check_assigned(named)?;
        let committed = self.committed(named).await?;
        for at in named {
            let began = self.assigned.partitions.get(at).and_then(|held| held.began);
            let offset = committed.get(at).map(|committed| committed.offset).or(began);
            self.go_to(at, offset.map_or(Position::Committed, Position::At))?;
            if let Some(held) = self.assigned.partitions.get_mut(at) {
                held.committed = committed.get(at).map(|committed| committed.offset);
                held.leader_epoch = committed.get(at).and_then(|committed| committed.leader_epoch);
            }
        }
        Ok(())
    }

    fn go_all_to(
        &mut self,
        partitions: &[TopicPartition],
        to: Position,
    ) -> Result<(), ClientError> {
        let all = self.assigned.names();
        let named = if partitions.is_empty() { &all } else { partitions };
        self.check_assigned(named)?;
        named.iter().try_for_each(|at| self.go_to(at, to))
    }

    fn go_to(&mut self, at: &TopicPartition, to: Position) -> Result<(), ClientError> {
        let held = self.assigned.partitions.get_mut(at).ok_or_else(|| not_assigned(at))?;
        (held.position, held.leader_epoch, held.failed) = (to, None, false);
        self.assigned.moved(at);
        if self.cursor.as_ref().is_some_and(|cursor| cursor.at == *at) {
            self.cursor = None;
        }
        let moved = to.offset().is_some_and(|offset| self.fetcher.seek(at, offset));
        if !moved {
            self.fetcher.remove(at);
            self.unresolved = true;
        }
        Ok(())
    }

    /// Nothing of these is handed out or asked for until they are resumed; the membership and what was
    /// received are kept (C11). A partition that is given up and comes back is not paused.
    ///
    /// # Errors
    /// [`ClientError::IllegalState`] if one is not assigned; then none is paused.
    pub fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), ClientError> {
        self.check_assigned(partitions)?;
        self.settle();
        for at in partitions {
            self.fetcher.pause(at);
            if let Some(held) = self.assigned.partitions.get_mut(at) {
                held.paused = true;
            }
            if let Some(cursor) = self.cursor.take_if(|cursor| cursor.at == *at) {
                self.fetcher.give_back(cursor.into_batch());
            }
        }
        Ok(())
    }

    /// # Errors
    /// [`ClientError::IllegalState`] if one is not assigned; then none is resumed.
    pub fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), ClientError> {
        self.check_assigned(partitions)?;
        for at in partitions {
            self.fetcher.resume(at);
            if let Some(held) = self.assigned.partitions.get_mut(at) {
                held.paused = false;
            }
        }
        Ok(())
    }

    /// The partitions that are paused.
    pub fn paused(&self) -> Vec<TopicPartition> {
        let paused = self.assigned.partitions.iter().filter(|(_, held)| held.paused);
        paused.map(|(at, _)| at.clone()).collect()
    }

    pub(super) fn check_assigned(&self, partitions: &[TopicPartition]) -> Result<(), ClientError> {
        match partitions.iter().find(|at| !self.assigned.partitions.contains_key(at)) {
            Some(at) => Err(not_assigned(at)),
            None => Ok(()),
        }
    }
}
