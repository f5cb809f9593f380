//! The table of errors: for each reason the four answers that a caller needs. Written down a second time
//! on purpose: clients are built against these answers.

use crate::contract;
use troupe_proto::error::GrpcCode::{self, *};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::v1::ErrorDetail;

/// Reason; code; whether to retry; whether it surely was not done; whether to refresh metadata.
const TABLE: [(&str, GrpcCode, bool, bool, bool); 88] = [
    ("UNSPECIFIED", Internal, false, false, false),
    ("UNKNOWN_TOPIC", NotFound, false, true, true),
    ("UNKNOWN_PARTITION", NotFound, false, true, true),
    ("TOPIC_EXISTS", AlreadyExists, false, true, false),
    ("INVALID_TOPIC", InvalidArgument, false, true, false),
    ("INVALID_PARTITIONS", InvalidArgument, false, true, false),
    ("INVALID_REPLICATION_FACTOR", InvalidArgument, false, true, false),
    ("INVALID_REPLICA_ASSIGNMENT", InvalidArgument, false, true, false),
    ("INVALID_CONFIG", InvalidArgument, false, true, false),
    ("INVALID_REQUEST", InvalidArgument, false, true, false),
    ("TOPIC_DELETION_DISABLED", FailedPrecondition, false, true, false),
    ("STALE_TOPIC_ID", FailedPrecondition, false, true, true),
    ("NOT_LEADER", FailedPrecondition, true, true, true),
    ("FENCED_LEADER_EPOCH", FailedPrecondition, true, true, true),
    ("LEADER_NOT_AVAILABLE", Unavailable, true, true, true),
    ("NOT_CONTROLLER", Unavailable, true, true, false),
    ("NOT_ENOUGH_REPLICAS", Unavailable, true, true, false),
    ("NOT_ENOUGH_REPLICAS_AFTER_APPEND", Unavailable, true, false, false),
    ("OUTCOME_UNKNOWN", Unavailable, true, false, true),
    ("REQUEST_TIMED_OUT", DeadlineExceeded, true, false, false),
    ("UNKNOWN_LEADER_EPOCH", Unavailable, true, true, false),
    ("STALE_PARTITION_EPOCH", FailedPrecondition, false, true, true),
    ("INELIGIBLE_REPLICA", FailedPrecondition, false, true, false),
    ("ELECTION_NOT_NEEDED", FailedPrecondition, false, true, false),
    ("STALE_BROKER_EPOCH", FailedPrecondition, false, true, false),
    ("BROKER_NOT_REGISTERED", NotFound, false, true, false),
    ("DUPLICATE_BROKER", AlreadyExists, true, true, false),
    ("INCONSISTENT_CLUSTER_ID", FailedPrecondition, false, true, false),
    ("INCONSISTENT_VOTER_SET", FailedPrecondition, false, true, false),
    ("OFFSET_OUT_OF_RANGE", OutOfRange, false, true, false),
    ("RECORD_TOO_LARGE", InvalidArgument, false, true, false),
    ("INVALID_RECORD", InvalidArgument, false, true, false),
    ("CORRUPT_BATCH", DataLoss, true, true, false),
    ("UNSUPPORTED_COMPRESSION", InvalidArgument, false, true, false),
    ("INVALID_TIMESTAMP", InvalidArgument, false, true, false),
    ("OUT_OF_ORDER_SEQUENCE", Aborted, false, true, false),
    ("PRODUCER_FENCED", Aborted, false, true, false),
    ("THROTTLED", ResourceExhausted, true, true, false),
    ("STORAGE_FAILURE", Internal, true, false, true),
    ("DISK_FULL", ResourceExhausted, true, true, true),
    ("CORRUPT_LOG", DataLoss, false, true, false),
    ("SHUTTING_DOWN", Unavailable, true, true, true),
    ("CHAOS_DISABLED", PermissionDenied, false, true, false),
    ("UNKNOWN_ACTOR", NotFound, false, true, false),
    ("INTERNAL", Internal, false, false, false),
    ("GROUP_NOT_FOUND", NotFound, false, true, false),
    ("INVALID_GROUP_ID", InvalidArgument, false, true, false),
    ("NOT_COORDINATOR", FailedPrecondition, true, true, false),
    ("COORDINATOR_LOADING", Unavailable, true, true, false),
    ("COORDINATOR_NOT_AVAILABLE", Unavailable, true, true, false),
    ("UNKNOWN_MEMBER", Aborted, false, true, false),
    ("FENCED_MEMBER_EPOCH", Aborted, false, true, false),
    ("STALE_MEMBER_EPOCH", Aborted, true, true, false),
    ("FENCED_INSTANCE_ID", Aborted, false, true, false),
    ("UNSUPPORTED_ASSIGNOR", InvalidArgument, false, true, false),
    ("INCONSISTENT_ASSIGNOR", FailedPrecondition, false, true, false),
    ("GROUP_NOT_EMPTY", FailedPrecondition, false, true, false),
    ("GROUP_SUBSCRIBED_TO_TOPIC", FailedPrecondition, false, true, false),
    ("GROUP_MAX_SIZE_REACHED", ResourceExhausted, false, true, false),
    ("INVALID_SESSION_TIMEOUT", InvalidArgument, false, true, false),
    ("OFFSET_METADATA_TOO_LARGE", InvalidArgument, false, true, false),
    ("NOT_ASSIGNED", FailedPrecondition, false, true, false),
    ("INVALID_REGULAR_EXPRESSION", InvalidArgument, false, true, false),
    ("ORDERING_MISMATCH", FailedPrecondition, false, true, false),
    ("NO_COMMITTED_OFFSET", NotFound, false, true, false),
    ("NODE_HOLDS_REPLICAS", FailedPrecondition, false, true, false),
    ("NO_REASSIGNMENT_IN_PROGRESS", FailedPrecondition, false, true, false),
    ("NEW_LEADER_ELECTED", FailedPrecondition, false, false, true),
    ("REQUEST_TOO_LARGE", ResourceExhausted, false, true, false),
    ("PARTITION_LIMIT_REACHED", ResourceExhausted, false, true, false),
    ("MESSAGE_TOO_LARGE", FailedPrecondition, false, true, false),
    ("STORAGE_UNAVAILABLE", Unavailable, true, true, true),
    ("TOO_MANY_CONNECTIONS", ResourceExhausted, true, true, false),
    ("COMMIT_SUPERSEDED", Aborted, false, true, false),
    ("REQUEST_TOO_LATE", DeadlineExceeded, true, true, false),
    ("OVERTAKEN", Aborted, false, true, false),
    ("INVALID_TRANSACTIONAL_ID", InvalidArgument, false, true, false),
    ("TRANSACTIONAL_ID_NOT_FOUND", NotFound, false, true, false),
    ("INVALID_PRODUCER_ID_MAPPING", Aborted, false, true, false),
    ("INVALID_TRANSACTION_STATE", FailedPrecondition, false, true, false),
    ("INVALID_TRANSACTION_TIMEOUT", InvalidArgument, false, true, false),
    ("CONCURRENT_TRANSACTIONS", Unavailable, true, true, false),
    ("TRANSACTION_ABORTABLE", Aborted, false, true, false),
    ("UNSTABLE_OFFSET_COMMIT", Unavailable, true, true, false),
    ("COORDINATOR_FENCED", FailedPrecondition, false, true, false),
    ("LEASE_LOST", Aborted, false, true, false),
    ("UNKNOWN_ACK_ID", NotFound, false, true, false),
    ("ACK_GAP", FailedPrecondition, false, true, false),
];

/// The contract says it where clients' authors look.
#[test]
fn beside_each_reason_stands_its_grpc_code() {
    let path = troupe_tests::workspace::root().join("proto/troupe/v1/errors.proto");
    let text = std::fs::read_to_string(path).unwrap();
    for (reason, grpc, ..) in TABLE {
        let line = text
            .lines()
            .map(str::trim)
            .find(|line| line.starts_with(&format!("ERROR_REASON_{reason} = ")))
            .unwrap_or_else(|| panic!("{reason} is not in the contract"));
        let told = line.split("// ").nth(1).unwrap_or_default().replace('_', "");
        let code = format!("{grpc:?}").to_uppercase();
        assert_eq!(told, code, "{line}");
    }
}

fn code_of(reason: &str) -> ErrorCode {
    ErrorCode::from_str_name(&format!("ERROR_REASON_{reason}")).unwrap()
}

#[test]
fn every_reason_has_its_four_answers() {
    for (reason, grpc, retriable, surely_not_done, refresh) in TABLE {
        let code = code_of(reason);
        assert_eq!(code.reason(), reason);
        assert_eq!(code.grpc_code(), grpc, "{reason}: gRPC code");
        assert_eq!(code.is_retriable(), retriable, "{reason}: retriable");
        assert_eq!(code.surely_not_done(), surely_not_done, "{reason}: surely not done");
        assert_eq!(code.refresh_metadata(), refresh, "{reason}: refresh metadata");
    }
}

#[test]
fn every_reason_of_the_contract_stands_in_the_table() {
    let files = contract();
    let mut enums = files.iter().flat_map(|file| &file.enum_type);
    let reasons = enums.find(|item| item.name() == "ErrorReason").unwrap();
    for value in &reasons.value {
        let reason = value.name().strip_prefix("ERROR_REASON_").unwrap();
        assert!(TABLE.iter().any(|row| row.0 == reason), "{reason} is missing in the table");
    }
}

#[test]
fn a_status_carries_reason_facts_and_answers() {
    use tonic_types::StatusExt;
    for (reason, grpc, retriable, surely_not_done, refresh) in TABLE {
        let error = Error::new(code_of(reason), "why").with("limit", 7).with_leader_of(
            3,
            "somewhere:7070",
            9,
        );
        let status = tonic::Status::from(error.clone());
        assert_eq!(status.code() as i32, grpc as i32, "{reason}");
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "troupe"));
        assert_eq!(info.metadata["limit"], "7");
        let detail = ErrorDetail::from(error.clone());
        assert_eq!(detail.retriable, retriable);
        assert_eq!(detail.surely_not_done, surely_not_done);
        assert_eq!(detail.refresh_metadata, refresh);
        assert_eq!(Error::from(status), error, "{reason}: there and back");
    }
}

#[test]
fn a_reason_from_a_newer_broker_leaves_the_outcome_open() {
    let detail = ErrorDetail { reason: 9_999, surely_not_done: true, ..Default::default() };
    let error = Error::from(detail);
    assert!(!error.is_retriable());
    assert!(!error.surely_not_done());
}
