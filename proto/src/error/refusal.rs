//! A reason with its facts: what a caller is told.

use super::{ErrorCode, PartitionOutcome, RefusedRecords};
use std::collections::BTreeMap;
use std::fmt;

/// A refusal with its facts, on its way to the caller: one operation's error enum becomes one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub code: ErrorCode,
    /// Lowercase, without a full stop; says what to do where that is known.
    pub message: String,
    /// Facts by name: `limit`, `actual`, `earliest`, `latest`, …
    pub facts: BTreeMap<String, String>,
    /// Who leads instead, if known.
    pub leader: Option<LeaderHint>,
    /// Of what is not idempotent.
    pub publication: Option<Box<Publication>>,
    /// See [`Error::records`].
    pub refused: Option<Box<RefusedRecords>>,
}

/// What more there is to say of records that were published, and may not be published twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publication {
    /// What became of each partition's, if there are several.
    pub partitions: Vec<PartitionOutcome>,
    /// The first request of a stream that is not answered; 0: it was no stream.
    pub sequence: u64,
}

/// Where to turn instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderHint {
    pub node_id: i32,
    /// host:port; empty: not known.
    pub endpoint: String,
    /// The epoch in which it leads the partition, if it is about one.
    pub leader_epoch: Option<u32>,
}

impl Error {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            code,
            message,
            facts: BTreeMap::new(),
            leader: None,
            publication: None,
            refused: None,
        }
    }

    /// The same error with one more fact.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.facts.insert(name.to_owned(), value.to_string());
        self
    }

    /// The same error with a hint where the leader is.
    #[must_use]
    pub fn with_leader(mut self, node_id: i32, endpoint: impl Into<String>) -> Self {
        let endpoint = endpoint.into();
        self.leader = Some(LeaderHint { node_id, endpoint, leader_epoch: None });
        self
    }

    /// The same error with a hint where the leader is, and in which epoch it leads.
    #[must_use]
    pub fn with_leader_of(
        self,
        node_id: i32,
        endpoint: impl Into<String>,
        leader_epoch: u32,
    ) -> Self {
        let mut error = self.with_leader(node_id, endpoint);
        if let Some(hint) = &mut error.leader {
            hint.leader_epoch = Some(leader_epoch);
        }
        error
    }

    /// The same error, of what must not be done twice.
    #[must_use]
    pub fn of_publication(mut self, publication: Publication) -> Self {
        self.publication = Some(Box::new(publication));
        self
    }

    /// Whether trying the same again can succeed, and doubles nothing.
    pub fn is_retriable(&self) -> bool {
        self.code.is_retriable() && (self.publication.is_none() || self.surely_not_done())
    }

    pub fn surely_not_done(&self) -> bool {
        self.code.surely_not_done()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.reason(), self.message)
    }
}

impl std::error::Error for Error {}
