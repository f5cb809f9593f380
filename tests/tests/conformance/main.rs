//! What Troupe promises, through its public API alone, against any address: `TROUPE_TEST_SERVER`, or a node
//! in this process. Each test names the behaviours that it holds by their ids.
#![allow(clippy::unwrap_used, reason = "tests")]

mod atomically;
mod bad_input;
mod chaos;
mod cluster;
mod configs;
mod consumer;
mod delete_records;
mod event_bus;
mod fetch;
mod idempotence;
mod list_offsets;
mod names;
mod produce;
mod publishing;
mod reassignments;
mod refusals;
mod sdk;
mod topics;
mod transactions;

use std::future::Future;
use tonic::{Code, Response, Status};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::v1::ErrorDetail;

/// Why a call was refused. The status must say the same in its code, its `ErrorInfo` and its detail.
async fn refused<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Error {
    match call.await {
        Ok(_) => panic!("the call was not refused"),
        Err(status) => checked(&status),
    }
}

fn checked(status: &Status) -> Error {
    use tonic_types::StatusExt;
    let error = Error::from(status.clone());
    assert_eq!(status.code() as i32, error.code.grpc_code() as i32, "{status:?}");
    let info = status.get_details_error_info().expect("every refusal has an ErrorInfo");
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (error.code.reason(), "troupe"));
    said_well(&error);
    error
}

/// Texts are for people: lowercase, no full stop.
fn said_well(error: &Error) {
    assert!(!error.message.is_empty(), "{error:?}");
    assert!(!error.message.ends_with('.'), "{error}");
    let advises = error.message.contains("try again");
    assert!(!advises || error.surely_not_done(), "{error}: whoever does that may do it twice");
    assert_ne!(error.code, ErrorCode::Unspecified, "{error}");
    assert_ne!(error.code, ErrorCode::Internal, "{error}");
}

/// The reason in a result of a batched call.
fn reason(detail: &Option<ErrorDetail>) -> ErrorCode {
    let detail = detail.clone().expect("this was to be refused");
    let code = detail.reason();
    // Of a batch without a producer id nobody says that it can be sent again, if it may be stored.
    assert!(
        detail.retriable == code.is_retriable() || !(detail.retriable || detail.surely_not_done)
    );
    assert_eq!(detail.surely_not_done, code.surely_not_done());
    assert_eq!(detail.refresh_metadata, code.refresh_metadata());
    said_well(&Error::from(detail));
    code
}

/// The code of a refusal that is gRPC's own, not Troupe's.
async fn plainly_refused<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Code {
    match call.await {
        Ok(_) => panic!("the call was not refused"),
        Err(status) => status.code(),
    }
}
