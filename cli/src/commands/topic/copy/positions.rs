//! How far a copy is, kept in the target cluster: committed offsets of a group that is named after the source's topic id.
//!
//! What is committed for a partition of the target is where it ended when all of the source below the offset in the
//! commit's metadata had been copied. So `troupe group describe` shows it, and deleting the group forgets it.

use crate::exit::Exit;
use crate::failure::{Context, Failure};
use std::collections::BTreeMap;
use troupe_client::Client;
use troupe_proto::error::Error as Refusal;
use troupe_proto::ids::{Offset, PartitionId, TopicId};
use troupe_proto::log::v1::{OffsetAndMetadata, PartitionCommit, TopicPartition, TopicPartitions};

const PREFIX: &str = "troupe-copy-";
/// What the metadata of a commit begins with.
const SOURCE_OFFSET: &str = "source-offset=";

/// All of the source below one offset stands in the target below the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub source: Offset,
    pub target: Offset,
}

/// Where the positions of one copy are kept.
pub struct Positions {
    client: Client,
    topic: String,
    pub group: String,
}

impl Positions {
    /// Of a copy of the topic with this id to `topic` in the cluster of `client`.
    pub fn new(client: Client, topic: &str, source: TopicId) -> Positions {
        Positions { client, topic: topic.to_owned(), group: format!("{PREFIX}{source}") }
    }

    /// Of the partitions below this number.
    ///
    /// # Errors
    /// The group's coordinator does not answer; somebody else commits under this name.
    pub async fn read(&self, partitions: u32) -> Result<BTreeMap<PartitionId, Position>, Failure> {
        let what = || format!("cannot read how far the copy is, from group {}", self.group);
        let topic = TopicPartitions {
            topic: self.topic.clone(),
            partitions: (0..partitions as i32).collect(),
            ..TopicPartitions::default()
        };
        let committed = self.client.admin().list_group_offsets(&self.group, vec![topic]).await;
        let mut positions = BTreeMap::new();
        for committed in committed.with_context(what)? {
            let (Some(at), Some(offset)) = (committed.partition, committed.offset) else {
                continue;
            };
            let position = parse(&offset).ok_or_else(|| {
                let cause = format!("`{}` is no position of a copy", offset.metadata);
                Failure::new(Exit::Refused, what(), cause).with_hint(self.forget())
            })?;
            let partition = u32::try_from(at.partition).unwrap_or_default();
            positions.insert(PartitionId(partition), position);
        }
        Ok(positions)
    }

    /// Writes some of them; durable when it returns.
    ///
    /// # Errors
    /// The coordinator does not answer, or refuses.
    pub async fn write(
        &self,
        positions: impl IntoIterator<Item = (PartitionId, Position)>,
    ) -> Result<(), Failure> {
        let what = || format!("cannot write down how far the copy is, in group {}", self.group);
        let commit = |(partition, position): (PartitionId, Position)| PartitionCommit {
            partition: Some(TopicPartition {
                topic: self.topic.clone(),
                partition: partition.0 as i32,
                ..TopicPartition::default()
            }),
            offset: Some(OffsetAndMetadata {
                offset: position.target.0 as i64,
                leader_epoch: None,
                metadata: format!("{SOURCE_OFFSET}{}", position.source),
            }),
        };
        let commits: Vec<_> = positions.into_iter().map(commit).collect();
        if commits.is_empty() {
            return Ok(());
        }
        let results = self.client.admin().alter_group_offsets(&self.group, commits).await;
        for result in results.with_context(what)? {
            if let Some(error) = result.error {
                let error = Refusal::from(error).into();
                return Err(Failure::client(what(), &error));
            }
        }
        Ok(())
    }

    /// What to do where they are of no use any more.
    pub fn forget(&self) -> String {
        format!("`troupe group delete {}` on the target forgets where the copy was", self.group)
    }
}

fn parse(committed: &OffsetAndMetadata) -> Option<Position> {
    let source = committed.metadata.strip_prefix(SOURCE_OFFSET)?.parse().ok()?;
    Some(Position { source: Offset(source), target: Offset::from_wire(committed.offset)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_copy_s_own_commits_are_positions() {
        let committed = |metadata: &str| OffsetAndMetadata {
            offset: 5,
            leader_epoch: None,
            metadata: metadata.to_owned(),
        };
        let position = Position { source: Offset(7), target: Offset(5) };
        assert_eq!(parse(&committed("source-offset=7")), Some(position));
        for other in ["", "7", "source-offset=", "source-offset=x"] {
            assert_eq!(parse(&committed(other)), None, "{other}");
        }
    }
}
