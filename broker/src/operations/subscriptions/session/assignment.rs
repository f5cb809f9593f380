//! What a session shall read, and what it has to give up.

use crate::forward::Target;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;
use troupe_proto::ids::PartitionKey;

/// How much longer for the group to take what was acknowledged.
pub const COMMIT_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Default)]
pub struct Assignment {
    /// Assigned, and not found yet where to begin; with the number of the assignment of this session.
    pub starting: BTreeMap<PartitionKey, (Target, u64)>,
    pub assigned: u64,
    pub revocation: Option<Revocation>,
    /// What the client was told.
    pub told: Option<(BTreeSet<PartitionKey>, String)>,
    pub told_caught_up: bool,
}

/// Partitions that have to be given up.
pub struct Revocation {
    pub number: u64,
    pub keys: Vec<PartitionKey>,
    /// What is out then is taken back.
    pub until: Instant,
    pub taken_back: bool,
}

impl Assignment {
    pub fn is_starting(&self, key: &PartitionKey, assigned: u64) -> bool {
        self.starting.get(key).is_some_and(|(_, since)| *since == assigned)
    }

    pub fn starting(&self) -> impl Iterator<Item = &Target> {
        self.starting.values().map(|(target, _)| target)
    }

    /// Something has to be given up.
    pub fn is_revoking(&self) -> bool {
        self.revocation.as_ref().is_some_and(|revocation| !revocation.keys.is_empty())
    }

    pub fn deadline(&self) -> Option<Instant> {
        let revocation = self.revocation.as_ref()?;
        let patience = if revocation.taken_back { COMMIT_PATIENCE } else { Duration::ZERO };
        Some(revocation.until + patience)
    }
}
