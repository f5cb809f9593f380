//! From which replica a client reads (KIP-392): the leader serves everybody, or says who is nearer; a follower serves
//! only who says that a follower will do.
//!
//! ```text
//!  of a follower:
//!  log_start        high_watermark             log_end          the leader's high_watermark, as heard last
//!      |    served     |    empty: not known yet   |  empty: on its way  |  out of range: the leader is asked
//!      +---------------+---------------------------+---------------------+
//! ```
//!
//! Promise: what a follower hands out is committed, and is in the log of the leader that it follows: it serves only
//! while that leader has taken its log for the beginning of its own, in the leader epoch of now.

use super::leading::Leadership;
use super::role::RoleState;
use super::{PartitionState, Replica};
use std::cmp::Reverse;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, NodeId, Offset};

/// Who reads, as far as it matters for which replica answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reader {
    /// Only the leader will do.
    #[default]
    OfLeader,
    /// A follower will do as well. `nearby`: the replicas in the reader's rack whose nodes take part; none where
    /// nobody looks at racks.
    OfAny { nearby: Vec<NodeId> },
}

/// What a read is decided by.
#[derive(Clone, Copy, Debug)]
pub struct ReadFacts<'a> {
    pub from: Offset,
    pub expected_leader_epoch: Option<LeaderEpoch>,
    pub reader: &'a Reader,
    /// What the controller says of the partition.
    pub partition: &'a PartitionState,
    /// The log lacks something that it had acknowledged.
    pub is_damaged: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadDecision {
    /// Hand out what lies below this replica's high watermark.
    Serve,
    /// Hand out nothing: that replica has what is asked for, and is nearer.
    TurnTo(NodeId),
}

/// Why this replica does not serve who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    #[error("this node does not lead the partition; refresh metadata")]
    NotLeader,
    #[error("this follower is not in step with the leader at the moment; the leader serves")]
    NotInStep,
    #[error("leader epoch {expected} is over; this node {does} in {current}")]
    FencedLeaderEpoch { expected: LeaderEpoch, current: LeaderEpoch, does: &'static str },
    #[error("leader epoch {expected} is not known here yet; this node is at {current}")]
    UnknownLeaderEpoch { expected: LeaderEpoch, current: LeaderEpoch },
    #[error("the replica is offline after a disk failure")]
    Offline,
}

impl From<ServeError> for Error {
    fn from(error: ServeError) -> Self {
        let code = match error {
            ServeError::NotLeader | ServeError::NotInStep => ErrorCode::NotLeader,
            ServeError::FencedLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            ServeError::UnknownLeaderEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
            ServeError::Offline => ErrorCode::StorageFailure,
        };
        Error::new(code, error.to_string())
    }
}

impl Replica {
    /// Whether this replica may serve clients that need the leader, and expect it to lead in this epoch.
    ///
    /// # Errors
    /// It does not lead, or not in that epoch.
    pub fn check_leads_in(&self, expected: Option<LeaderEpoch>) -> Result<(), ServeError> {
        match &self.role {
            RoleState::Leading(leadership) => {
                check_epoch(expected, leadership.state.leader_epoch, "leads")
            }
            RoleState::Following(_) | RoleState::Idle => Err(ServeError::NotLeader),
            RoleState::Offline => Err(ServeError::Offline),
        }
    }

    /// Who answers a read.
    ///
    /// # Errors
    /// Why this replica does not, and knows nobody who is nearer.
    pub fn decide_read(&self, facts: &ReadFacts<'_>) -> Result<ReadDecision, ServeError> {
        let Reader::OfAny { nearby } = facts.reader else {
            return self.check_leads_in(facts.expected_leader_epoch).map(|()| ReadDecision::Serve);
        };
        if let Some((_, current)) = self.followed() {
            check_epoch(facts.expected_leader_epoch, current, "follows")?;
            return match self.serves_as_follower(facts.partition, facts.is_damaged) {
                true => Ok(ReadDecision::Serve),
                false => Err(ServeError::NotInStep),
            };
        }
        self.check_leads_in(facts.expected_leader_epoch)?;
        let nearer = self.leadership().and_then(|leading| self.nearer(leading, facts.from, nearby));
        Ok(nearer.map_or(ReadDecision::Serve, ReadDecision::TurnTo))
    }

    /// Whether readers that take a follower are served here: the leader of now has taken this log for the beginning
    /// of its own, nothing is missing in it, and as far as this node knows it is in sync and takes part.
    pub fn serves_as_follower(&self, partition: &PartitionState, is_damaged: bool) -> bool {
        let follows_now = self.following().is_some_and(|following| following.is_accepted())
            && self.followed().map(|(_, epoch)| epoch) == Some(partition.leader_epoch);
        let counts =
            partition.isr.contains(&self.node_id) && partition.eligible.contains_key(&self.node_id);
        follows_now && counts && !is_damaged
    }

    /// Whether a follower's log does not reach there yet though what is there is committed, as its leader has said.
    pub fn is_on_its_way(&self, offset: Offset) -> bool {
        self.following().is_some_and(|following| {
            offset > self.log_end && offset <= following.leader_high_watermark
        })
    }

    /// KIP-392: of the in-sync replicas in the reader's rack that have the offset the most caught-up one; nobody, if
    /// the leader is in that rack itself.
    fn nearer(&self, leadership: &Leadership, from: Offset, nearby: &[NodeId]) -> Option<NodeId> {
        // Whether what lies outside of the log is gone, or never was, the leader says itself.
        if nearby.contains(&self.node_id) || from < self.log_start {
            return None;
        }
        let end = |node: &NodeId| leadership.end_of(*node);
        let has_it = |node: &NodeId| {
            let end = end(node);
            end.log_start.is_some_and(|start| start <= from) && from <= end.log_end
        };
        let may_serve = |node: &&NodeId| leadership.stays_in_sync(**node) && has_it(node);
        nearby
            .iter()
            .filter(may_serve)
            .max_by_key(|node| (end(node).log_end, Reverse(**node)))
            .copied()
    }
}

fn check_epoch(
    expected: Option<LeaderEpoch>,
    current: LeaderEpoch,
    does: &'static str,
) -> Result<(), ServeError> {
    match expected {
        Some(expected) if expected < current => {
            Err(ServeError::FencedLeaderEpoch { expected, current, does })
        }
        Some(expected) if expected > current => {
            Err(ServeError::UnknownLeaderEpoch { expected, current })
        }
        Some(_) | None => Ok(()),
    }
}
