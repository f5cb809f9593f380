//! Errors as the typed detail of the wire, and back.

use super::{Error, LeaderHint, Publication};
use crate::v1::ErrorDetail;

impl From<Error> for ErrorDetail {
    fn from(error: Error) -> Self {
        let retriable = error.is_retriable();
        let records = error.records().to_vec();
        let publication = error.publication.map(|publication| *publication).unwrap_or_default();
        let (leader_id, leader_endpoint, leader_epoch) = match error.leader {
            Some(hint) => (Some(hint.node_id), hint.endpoint, hint.leader_epoch),
            None => (None, String::new(), None),
        };
        ErrorDetail {
            reason: error.code.into(),
            message: error.message,
            retriable,
            surely_not_done: error.code.surely_not_done(),
            refresh_metadata: error.code.refresh_metadata(),
            leader_id,
            leader_endpoint,
            leader_epoch,
            facts: error.facts,
            partitions: publication.partitions,
            sequence: publication.sequence,
            records,
        }
    }
}

impl From<ErrorDetail> for Error {
    /// A reason from a newer broker than this code becomes `Unspecified`: not retried, outcome unknown.
    fn from(detail: ErrorDetail) -> Self {
        let code = detail.reason();
        let (endpoint, leader_epoch) = (detail.leader_endpoint, detail.leader_epoch);
        let leader = detail.leader_id.map(|node_id| LeaderHint { node_id, endpoint, leader_epoch });
        let (partitions, sequence) = (detail.partitions, detail.sequence);
        let forbidden = code.is_retriable() && !detail.retriable;
        let is_publication = forbidden || sequence != 0 || !partitions.is_empty();
        let publication = is_publication.then(|| Box::new(Publication { partitions, sequence }));
        let (message, facts, records) = (detail.message, detail.facts, detail.records);
        let error = Error { code, message, facts, leader, publication, refused: None };
        error.with_records(records)
    }
}
