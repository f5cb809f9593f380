//! Who takes part: this node, in this cluster, with these voters. Written down at the first start, said in
//! every call between voters, and compared on both sides (K2).

use super::entries::EntryLog;
use super::types::{RaftNodeId, TypeConfig};
use crate::config::{ControllerConfig, ControllerStartError};
use crate::voters::VotersError;
use openraft::alias::VoteOf;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::NodeId;
use troupe_proto::internal::v1::RaftCaller;

/// What a directory remembers of the quorum that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub cluster_id: String,
    pub node_id: i32,
    /// Ascending.
    pub voters: Vec<i32>,
}

impl Identity {
    /// `None`: this node votes alone.
    pub fn of(config: &ControllerConfig) -> Result<Option<Identity>, ControllerStartError> {
        let node_id = config.node_id;
        let mut voters: Vec<i32> = config.voters.iter().map(|voter| voter.node_id.0).collect();
        if !voters.is_empty() && !voters.contains(&node_id.0) {
            return Err(VotersError::NotAVoter { node_id }.into());
        }
        if config.is_alone() {
            return Ok(None);
        }
        voters.sort_unstable();
        if let Some(twice) = voters.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(VotersError::DuplicateId { node_id: NodeId(twice[0]) }.into());
        }
        let cluster_id = config.cluster_id.clone().ok_or(ControllerStartError::NoClusterId)?;
        Ok(Some(Identity { cluster_id, node_id: node_id.0, voters }))
    }

    /// Compares with what the directory remembers; one that is new learns it. A log that was a single
    /// voter's stays one.
    pub async fn settle(
        asked: Option<&Identity>,
        entries: &mut EntryLog,
        config: &ControllerConfig,
    ) -> Result<(), ControllerStartError> {
        let dir = config.dir.clone();
        let fault = |source| ControllerStartError::Open { dir: dir.clone(), source };
        let known = entries.identity().map_err(fault)?;
        let alone = vec![config.node_id.0];
        let known_voters = match &known {
            Some(known) => known.voters.clone(),
            None if entries.is_empty().map_err(fault)? => Vec::new(),
            None => alone.clone(),
        };
        let asked_voters = asked.map_or(alone, |asked| asked.voters.clone());
        if !known_voters.is_empty() && known_voters != asked_voters {
            let (asked, actual) = (asked_voters, known_voters);
            return Err(ControllerStartError::WrongVoters { dir, asked, actual });
        }
        match (asked, known) {
            (None, _) => Ok(()),
            (Some(asked), None) => entries.set_identity(asked).await.map_err(fault),
            (Some(asked), Some(known)) if asked.node_id != known.node_id => {
                let (asked, actual) = (NodeId(asked.node_id), NodeId(known.node_id));
                Err(ControllerStartError::WrongNode { dir, asked, actual })
            }
            (Some(asked), Some(known)) if asked.cluster_id != known.cluster_id => {
                let (asked, actual) = (asked.cluster_id.clone(), known.cluster_id);
                Err(ControllerStartError::WrongCluster { dir, asked, actual })
            }
            (Some(_), Some(_)) => Ok(()),
        }
    }

    /// How this node introduces itself to that one.
    pub fn caller(&self, target: RaftNodeId) -> RaftCaller {
        RaftCaller {
            cluster_id: self.cluster_id.clone(),
            sender_id: self.node_id,
            target_id: i32::try_from(target).unwrap_or(-1),
            voter_ids: self.voters.clone(),
        }
    }

    /// Whether the caller is another voter of this quorum, and means this node.
    pub fn check(&self, caller: Option<RaftCaller>) -> Result<RaftCaller, Error> {
        let invalid = |message: &str| Error::new(ErrorCode::InvalidRequest, message);
        let caller = caller.ok_or_else(|| invalid("a call between voters says who calls"))?;
        if caller.cluster_id != self.cluster_id {
            let message = "this voter belongs to another cluster";
            return Err(Error::new(ErrorCode::InconsistentClusterId, message)
                .with("expected", &self.cluster_id)
                .with("actual", &caller.cluster_id));
        }
        if caller.voter_ids != self.voters {
            let message = "this voter has another list of voters; make controller.quorum.voters \
                           the same on all of them";
            return Err(Error::new(ErrorCode::InconsistentVoterSet, message)
                .with("expected", format!("{:?}", self.voters))
                .with("actual", format!("{:?}", caller.voter_ids)));
        }
        if caller.target_id != self.node_id {
            let message = "another node has this address; compare node.id and \
                           controller.quorum.voters";
            return Err(Error::new(ErrorCode::InconsistentVoterSet, message)
                .with("expected", caller.target_id)
                .with("actual", self.node_id));
        }
        if caller.sender_id == self.node_id || !self.voters.contains(&caller.sender_id) {
            return Err(invalid("the caller is no other voter").with("node_id", caller.sender_id));
        }
        Ok(caller)
    }
}

/// Nobody speaks for another: who leads or stands for election says so itself.
pub(super) fn check_vote(caller: &RaftCaller, vote: &VoteOf<TypeConfig>) -> Result<(), Error> {
    if RaftNodeId::try_from(caller.sender_id).ok() == Some(vote.leader_id.node_id) {
        return Ok(());
    }
    let message = "a voter speaks for another";
    Err(Error::new(ErrorCode::InvalidRequest, message)
        .with("node_id", caller.sender_id)
        .with("actual", vote.leader_id.node_id))
}

/// Where the other voters are.
pub(super) fn addresses(config: &ControllerConfig) -> BTreeMap<RaftNodeId, String> {
    let voters = config.voters.iter().filter(|voter| voter.node_id != config.node_id);
    voters
        .filter_map(|voter| {
            RaftNodeId::try_from(voter.node_id.0).ok().map(|id| (id, voter.address.clone()))
        })
        .collect()
}
