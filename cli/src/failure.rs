//! Why a command failed: what was tried, the reason, what to try next, and the exit code that says it.
//!
//! Never here: printing it.

use crate::exit::{self, Exit, Signal};
use serde_json::{Value, json};
use std::fmt;
use std::io;
use troupe_client::{ClientError, TransactionError};
use troupe_proto::error::{ErrorCode, GrpcCode};

/// What has names in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Topic,
    Group,
    Node,
}

/// A failed command.
#[derive(Clone, Debug)]
pub struct Failure {
    exit: Exit,
    /// What was tried: `cannot create topic orders`. Empty if the cause says it all.
    what: String,
    cause: String,
    reason: Option<&'static str>,
    hint: Option<String>,
    /// What was named and is not there.
    missing: Option<Box<(Kind, String)>>,
    is_silent: bool,
}

impl Failure {
    pub fn new(exit: Exit, what: impl Into<String>, cause: impl fmt::Display) -> Failure {
        Failure {
            exit,
            what: what.into(),
            cause: cause.to_string(),
            reason: None,
            hint: None,
            missing: None,
            is_silent: false,
        }
    }

    /// Everything about it has been said.
    pub fn silent(exit: Exit) -> Failure {
        Failure { is_silent: true, ..Failure::new(exit, "", "") }
    }

    pub fn usage(cause: impl fmt::Display) -> Failure {
        Failure::new(Exit::Usage, "", cause)
    }

    /// Of a command that was not done when a signal told it to end.
    pub fn interrupted(signal: Signal) -> Failure {
        Failure::new(signal.exit(), "", "interrupted")
    }

    pub fn client(what: impl Into<String>, error: &ClientError) -> Failure {
        let code = error.reason();
        let exit = match error {
            ClientError::Config(_) => Exit::Usage,
            _ => exit_for(code),
        };
        // A refusal shows its reason in front; here it comes at the end.
        let cause = match error {
            ClientError::Refused(refusal) => refusal.message.clone(),
            other => other.to_string(),
        };
        let hint = match error {
            ClientError::CannotConnect { .. } => Some(
                "start a node with `troupe dev`, or name another one with --server or TROUPE_SERVER",
            ),
            // What tonic says when something else than gRPC answers.
            _ if cause.contains("grpc-status header missing") => {
                Some("name a gRPC listener (7070 by default); this may be the HTTP one")
            }
            _ => hint_for(code),
        };
        let reason = match error {
            ClientError::CannotConnect { .. } | ClientError::Config(_) => None,
            _ => Some(code.reason()),
        };
        let missing = match code {
            ErrorCode::UnknownTopic => {
                // The client's own words have no quotes.
                let bare = cause.strip_prefix("there is no topic ").map(str::to_owned);
                bare.or_else(|| quoted(&cause)).map(|name| (Kind::Topic, name))
            }
            ErrorCode::GroupNotFound => quoted(&cause).map(|name| (Kind::Group, name)),
            _ => None,
        };
        // One hint is enough: ours.
        let cause = match hint {
            Some(_) => without_hint(&cause).to_owned(),
            None => cause,
        };
        let hint = hint.map(str::to_owned);
        let missing = missing.map(Box::new);
        Failure { reason, hint, missing, ..Failure::new(exit, what, cause) }
    }

    /// A failed write to standard output.
    pub fn writing(error: &io::Error) -> Failure {
        let exit = match error.kind() {
            io::ErrorKind::BrokenPipe => Exit::PipeClosed,
            io::ErrorKind::Interrupted => exit::caught().map_or(Exit::Failed, Signal::exit),
            _ => Exit::Failed,
        };
        Failure::new(exit, "cannot write the output", error)
    }

    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Failure {
        Failure { hint: Some(hint.into()), ..self }
    }

    /// One more sentence behind the cause.
    #[must_use]
    pub fn with_note(mut self, note: &str) -> Failure {
        self.cause = format!("{}; {note}", self.cause);
        self
    }

    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// What was named and is not there.
    pub fn missing(&self) -> Option<(Kind, &str)> {
        self.missing.as_deref().map(|(kind, name)| (*kind, name.as_str()))
    }

    #[must_use]
    pub fn of_missing(self, kind: Kind, name: impl Into<String>) -> Failure {
        Failure { missing: Some(Box::new((kind, name.into()))), ..self }
    }

    /// Nothing is to be printed of it.
    pub fn is_silent(&self) -> bool {
        // Whoever closed the pipe has had enough, and knows.
        self.is_silent || self.exit == Exit::PipeClosed
    }

    pub fn view(&self) -> Value {
        json!({ "error": {
            "what": self.what, "cause": self.cause, "reason": self.reason, "hint": self.hint,
            "exitCode": self.exit as u8,
        }})
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: ")?;
        if !self.what.is_empty() {
            write!(f, "{}: ", self.what)?;
        }
        write!(f, "{}", self.cause)?;
        if let Some(reason) = self.reason {
            write!(f, " ({reason})")?;
        }
        if let Some(hint) = &self.hint {
            let lead = if hint.starts_with("did you mean") { "" } else { "try: " };
            write!(f, "\n  {lead}{hint}")?;
        }
        Ok(())
    }
}

/// Says what was tried when it did not work.
pub trait Context<T> {
    fn with_context(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> Context<T> for Result<T, ClientError> {
    fn with_context(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::client(what(), &error))
    }
}

impl<T> Context<T> for Result<T, TransactionError> {
    fn with_context(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::client(what(), &error.into()))
    }
}

impl<T> Context<T> for io::Result<T> {
    fn with_context(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| {
            let exit = match error.kind() {
                io::ErrorKind::NotFound => Exit::NotFound,
                _ => Exit::Failed,
            };
            Failure::new(exit, what(), error)
        })
    }
}

/// The first name in a message that stands in quotes.
fn quoted(message: &str) -> Option<String> {
    let begin = message.find(['`', '\''])?;
    let quote = message[begin..].chars().next()?;
    let rest = &message[begin + 1..];
    rest.find(quote).map(|end| rest[..end].to_owned())
}

/// A node's message without the command that it advises.
fn without_hint(cause: &str) -> &str {
    let at = ["; `troupe ", "; 'troupe "].iter().filter_map(|lead| cause.find(lead)).min();
    at.map_or(cause, |at| &cause[..at])
}

fn exit_for(code: ErrorCode) -> Exit {
    if code.is_retriable() {
        return Exit::Failed;
    }
    match code.grpc_code() {
        GrpcCode::NotFound => Exit::NotFound,
        GrpcCode::InvalidArgument
        | GrpcCode::AlreadyExists
        | GrpcCode::PermissionDenied
        | GrpcCode::FailedPrecondition
        | GrpcCode::OutOfRange => Exit::Refused,
        GrpcCode::DeadlineExceeded
        | GrpcCode::ResourceExhausted
        | GrpcCode::Aborted
        | GrpcCode::Internal
        | GrpcCode::Unavailable
        | GrpcCode::DataLoss => Exit::Failed,
    }
}

/// One thing to try, for reasons where there is one.
fn hint_for(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::UnknownTopic => {
            Some("`troupe topic list` shows what there is, `troupe topic create NAME` makes one")
        }
        ErrorCode::UnknownPartition => Some("`troupe topic describe NAME` shows the partitions"),
        ErrorCode::PartitionLimitReached => Some(
            "ask for fewer, or set max.partitions.per.request, per.node or per.cluster on the controllers",
        ),
        ErrorCode::TopicExists => Some("--if-not-exists is content with a topic that is there"),
        ErrorCode::InvalidTopic => {
            Some("use 1 to 249 characters of a-z, A-Z, 0-9, `.`, `_` and `-`")
        }
        ErrorCode::InvalidConfig => {
            Some("`troupe topic describe NAME -o wide` lists every key and what it means")
        }
        ErrorCode::InvalidReplicationFactor => Some(
            "`troupe cluster info` shows the nodes; a partition has at most one replica on each",
        ),
        ErrorCode::TopicDeletionDisabled => {
            Some("start the node with --set delete.topic.enable=true")
        }
        ErrorCode::OffsetOutOfRange => Some(
            "`troupe topic describe NAME` shows the offsets; --offset start takes the first one",
        ),
        ErrorCode::RecordTooLarge => {
            Some("raise max.message.bytes with `troupe topic alter`, and --max-request-size here")
        }
        ErrorCode::UnsupportedCompression => Some("use none, gzip, snappy, lz4 or zstd"),
        ErrorCode::DiskFull => {
            Some("free space on the node's disk; shorten retention with `troupe topic alter`")
        }
        ErrorCode::StorageUnavailable => Some(
            "raise the node's limit of open files (ulimit -n), or close connections; it heals by itself",
        ),
        ErrorCode::ChaosDisabled => {
            Some("start the node with --set chaos.enable=true, or use `troupe dev`")
        }
        ErrorCode::UnknownActor => Some("`troupe actor tree` shows the addresses"),
        ErrorCode::LeaderNotAvailable | ErrorCode::NotController | ErrorCode::ShuttingDown => {
            Some("wait a moment and try again; `troupe cluster info` shows the nodes")
        }
        ErrorCode::NotEnoughReplicas | ErrorCode::NotEnoughReplicasAfterAppend => {
            Some("`troupe partition list --under-min-isr` shows where too few replicas are in sync")
        }
        ErrorCode::BrokerNotRegistered => Some("`troupe node list` shows the nodes"),
        ErrorCode::RequestTimedOut | ErrorCode::OutcomeUnknown => {
            Some("`troupe cluster health` shows which nodes answer")
        }
        ErrorCode::CorruptLog => Some("`troupe log verify FILE` on the node finds the place"),
        ErrorCode::GroupNotFound => Some("`troupe group list` shows the groups"),
        ErrorCode::GroupNotEmpty => Some(
            "stop its members first; `troupe group members NAME` shows them, and `troupe group remove-member` lets \
                 those leave that are away",
        ),
        ErrorCode::GroupSubscribedToTopic => {
            Some("`troupe group describe NAME --members` shows who subscribes to it")
        }
        ErrorCode::UnsupportedAssignor | ErrorCode::InconsistentAssignor => {
            Some("use range, roundrobin, sticky or cooperative-sticky, the same for all members")
        }
        ErrorCode::CoordinatorLoading
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator => {
            Some("wait a moment and try again; `troupe cluster info` shows the nodes")
        }
        ErrorCode::NoCommittedOffset => {
            Some("`troupe group reset NAME --to earliest` (or latest) sets where to begin")
        }
        ErrorCode::NodeHoldsReplicas => Some(
            "start the node again, or delete the topics or give their replicas to other nodes first; \
             `troupe node describe ID` lists what it holds",
        ),
        ErrorCode::NoReassignmentInProgress => {
            Some("`troupe reassign list` shows what is under way")
        }
        ErrorCode::ConcurrentTransactions | ErrorCode::UnstableOffsetCommit => {
            Some("the transaction before is being completed; try again in a moment")
        }
        ErrorCode::InvalidTransactionalId => {
            Some("use 1 to 255 characters, none of them a control character")
        }
        ErrorCode::TransactionalIdNotFound => {
            Some("`troupe transaction list` shows the transactional ids")
        }
        ErrorCode::InvalidTransactionState => Some(
            "`troupe transaction describe ID` shows what is open; `transaction hanging` what no coordinator knows of",
        ),
        ErrorCode::InvalidTransactionTimeout => Some(
            "ask for less, or set transaction.max.timeout.ms on the nodes; it is at least 1 ms",
        ),
        ErrorCode::TransactionAbortable => {
            Some("the transaction is aborted and nothing of it is seen; try again")
        }
        ErrorCode::ProducerFenced => Some(
            "another producer has come with the same transactional id, or the transaction took longer than its \
             time-out; `troupe transaction describe ID` shows who has it",
        ),
        ErrorCode::RequestTooLarge
        | ErrorCode::InvalidProducerIdMapping
        | ErrorCode::CoordinatorFenced
        | ErrorCode::LeaseLost
        | ErrorCode::UnknownAckId
        | ErrorCode::AckGap
        | ErrorCode::NewLeaderElected
        | ErrorCode::InvalidGroupId
        | ErrorCode::MessageTooLarge
        | ErrorCode::UnknownMember
        | ErrorCode::FencedMemberEpoch
        | ErrorCode::StaleMemberEpoch
        | ErrorCode::FencedInstanceId
        | ErrorCode::GroupMaxSizeReached
        | ErrorCode::InvalidSessionTimeout
        | ErrorCode::OffsetMetadataTooLarge
        | ErrorCode::NotAssigned
        | ErrorCode::InvalidRegularExpression
        | ErrorCode::OrderingMismatch
        | ErrorCode::CommitSuperseded
        | ErrorCode::RequestTooLate
        | ErrorCode::Overtaken
        | ErrorCode::Unspecified
        | ErrorCode::InvalidPartitions
        | ErrorCode::InvalidReplicaAssignment
        | ErrorCode::InvalidRequest
        | ErrorCode::StaleTopicId
        | ErrorCode::NotLeader
        | ErrorCode::FencedLeaderEpoch
        | ErrorCode::InvalidRecord
        | ErrorCode::CorruptBatch
        | ErrorCode::InvalidTimestamp
        | ErrorCode::OutOfOrderSequence
        | ErrorCode::Throttled
        | ErrorCode::TooManyConnections
        | ErrorCode::StorageFailure
        | ErrorCode::UnknownLeaderEpoch
        | ErrorCode::StalePartitionEpoch
        | ErrorCode::IneligibleReplica
        | ErrorCode::ElectionNotNeeded
        | ErrorCode::StaleBrokerEpoch
        | ErrorCode::DuplicateBroker
        | ErrorCode::InconsistentClusterId
        | ErrorCode::InconsistentVoterSet
        | ErrorCode::Internal => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_tells_what_kind_of_no_it_was() {
        assert_eq!(exit_for(ErrorCode::UnknownTopic), Exit::NotFound);
        assert_eq!(exit_for(ErrorCode::TopicExists), Exit::Refused);
        assert_eq!(exit_for(ErrorCode::ChaosDisabled), Exit::Refused);
        assert_eq!(exit_for(ErrorCode::NotLeader), Exit::Failed);
        assert_eq!(exit_for(ErrorCode::RequestTimedOut), Exit::Failed);
    }

    #[test]
    fn an_error_says_what_failed_why_and_what_to_try() {
        let failure =
            Failure::new(Exit::NotFound, "cannot describe topic x", "there is no topic x")
                .with_hint("`troupe topic list`");
        assert_eq!(
            failure.to_string(),
            "error: cannot describe topic x: there is no topic x\n  try: `troupe topic list`"
        );
    }

    #[test]
    fn one_hint_is_given_and_not_two() {
        let refusal = |code, message: &str| troupe_proto::error::Error::new(code, message).into();
        let message = "topic `ordres` does not exist; `troupe topic list` shows all";
        let error: ClientError = refusal(ErrorCode::UnknownTopic, message);
        let failure = Failure::client("cannot consume ordres", &error);
        assert_eq!(failure.missing(), Some((Kind::Topic, "ordres")));
        let text = failure.to_string();
        assert_eq!(text.matches("troupe topic list").count(), 1, "{text}");
        let message = "there is no group 'biling'; 'troupe group list' shows those that there are";
        let error: ClientError = refusal(ErrorCode::GroupNotFound, message);
        let failure = Failure::client("cannot describe", &error);
        assert_eq!(failure.missing(), Some((Kind::Group, "biling")));
        assert_eq!(failure.to_string().matches("group list").count(), 1);
    }

    #[test]
    fn a_hint_fits_what_was_asked() {
        // Of a read, nothing was written that one could look for.
        for code in [ErrorCode::OutcomeUnknown, ErrorCode::RequestTimedOut] {
            let hint = hint_for(code).unwrap();
            assert!(!hint.contains("written") && !hint.contains("consume"), "{hint}");
        }
    }
}
