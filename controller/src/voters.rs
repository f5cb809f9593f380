//! Who votes: `controller.quorum.voters`, the same list in every node's configuration (K1).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::NodeId;

/// One controller, and where the others reach it: `1@host:9093`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Voter {
    pub node_id: NodeId,
    /// `host:port`.
    pub address: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VotersError {
    #[error("'{entry}' is no voter; write id@host:port")]
    Malformed { entry: String },
    #[error("voter {node_id} is listed twice")]
    DuplicateId { node_id: NodeId },
    #[error("two voters have the address {address}")]
    DuplicateAddress { address: String },
    #[error("this node's id, {node_id}, is not among the voters")]
    NotAVoter { node_id: NodeId },
}

impl FromStr for Voter {
    type Err = VotersError;

    fn from_str(entry: &str) -> Result<Voter, VotersError> {
        let malformed = || VotersError::Malformed { entry: entry.to_owned() };
        let (id, address) = entry.split_once('@').ok_or_else(malformed)?;
        let id: i32 = id.parse().map_err(|_| malformed())?;
        let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
        let port: u16 = port.parse().map_err(|_| malformed())?;
        let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let valid = match bracketed {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.chars().all(is_host),
        };
        if id < 0 || port == 0 || !valid {
            return Err(malformed());
        }
        Ok(Voter { node_id: NodeId(id), address: address.to_owned() })
    }
}

impl fmt::Display for Voter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.node_id, self.address)
    }
}

impl Voter {
    /// A list as it stands in the configuration: voters with commas between them.
    pub fn parse_list(list: &str) -> Result<Vec<Voter>, VotersError> {
        let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let voters: Vec<Voter> = entries.map(str::parse).collect::<Result<_, _>>()?;
        let (mut ids, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for Voter { node_id, address } in &voters {
            if !ids.insert(*node_id) {
                return Err(VotersError::DuplicateId { node_id: *node_id });
            }
            if !addresses.insert(address) {
                return Err(VotersError::DuplicateAddress { address: address.clone() });
            }
        }
        Ok(voters)
    }
}

/// Where the voters are, for refusals that say whom to ask instead.
#[derive(Clone)]
pub(crate) struct VoterSet(Arc<[Voter]>);

impl VoterSet {
    pub fn new(voters: &[Voter]) -> VoterSet {
        VoterSet(voters.into())
    }

    /// What a controller that is not active answers.
    pub fn not_controller(&self, leader: Option<NodeId>) -> Error {
        let error = Error::new(ErrorCode::NotController, "this node is not the active controller");
        match leader {
            Some(leader) => error.with_leader(leader.0, self.address(leader)),
            None => error,
        }
    }

    /// The same error; if it names the active controller, then with its address.
    pub fn direct(&self, mut error: Error) -> Error {
        if let Some(hint) = &mut error.leader
            && error.code == ErrorCode::NotController
        {
            self.address(NodeId(hint.node_id)).clone_into(&mut hint.endpoint);
        }
        error
    }

    /// Empty if nobody knows.
    fn address(&self, node_id: NodeId) -> &str {
        let voter = self.0.iter().find(|voter| voter.node_id == node_id);
        voter.map_or("", |voter| &voter.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// K1.
    #[test]
    fn a_list_of_voters_is_read_as_it_is_written() {
        let text = "1@node1.example:9093,2@10.0.0.2:9093, 3@[::1]:9093";
        let voters = Voter::parse_list(text).unwrap();
        assert_eq!(voters[0], Voter { node_id: NodeId(1), address: "node1.example:9093".into() });
        let written: Vec<_> = voters.iter().map(Voter::to_string).collect();
        assert_eq!(written, ["1@node1.example:9093", "2@10.0.0.2:9093", "3@[::1]:9093"]);
        assert_eq!(Voter::parse_list(""), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_voter_is_refused_by_name() {
        for entry in ["1", "x@h:1", "-1@h:1", "1@h", "1@:1", "1@h:0", "1@h:99999", "1@h/x:1"] {
            let malformed = VotersError::Malformed { entry: entry.into() };
            assert_eq!(Voter::parse_list(entry), Err(malformed));
        }
        let twice = VotersError::DuplicateId { node_id: NodeId(1) };
        assert_eq!(Voter::parse_list("1@a:1,1@b:1"), Err(twice));
        let same = VotersError::DuplicateAddress { address: "a:1".into() };
        assert_eq!(Voter::parse_list("1@a:1,2@a:1"), Err(same));
    }
}
