//! Errors as `tonic::Status` and back. The only place where either becomes the other.

use super::{Error, ErrorCode};
use crate::v1::ErrorDetail;
use prost::Message;
use std::collections::HashMap;
use tonic::{Code, Status};
use tonic_types::{ErrorInfo, StatusExt};

/// `google.rpc.ErrorInfo.domain` of every error.
const DOMAIN: &str = "troupe";
/// Type URL of the typed detail beside the `ErrorInfo`.
const DETAIL_TYPE: &str = "type.googleapis.com/troupe.v1.ErrorDetail";
const ERROR_INFO_TYPE: &str = "type.googleapis.com/google.rpc.ErrorInfo";

impl From<Error> for Status {
    /// Status code, `google.rpc.ErrorInfo` for any client, `troupe.v1.ErrorDetail` for those who know it.
    fn from(error: Error) -> Self {
        let code = Code::from_i32(error.code.grpc_code() as i32);
        let message = error.to_string();
        let info = ErrorInfo::new(
            error.code.reason(),
            DOMAIN,
            error.facts.clone().into_iter().collect::<HashMap<_, _>>(),
        );
        let details = tonic_types::pb::Status {
            code: code as i32,
            message: message.clone(),
            details: vec![
                prost_types::Any {
                    type_url: ERROR_INFO_TYPE.to_owned(),
                    value: tonic_types::pb::ErrorInfo::from(info).encode_to_vec(),
                },
                prost_types::Any {
                    type_url: DETAIL_TYPE.to_owned(),
                    value: ErrorDetail::from(error).encode_to_vec(),
                },
            ],
        };
        Status::with_details(code, message, details.encode_to_vec().into())
    }
}

impl From<Status> for Error {
    /// What a failed call means. Without our own detail (a broken connection, a proxy's answer) the
    /// outcome is unknown, unless the code itself says that nothing was tried. The code of a connection that
    /// broke is made up here, and says nothing: HTTP/2's "calm down" would be RESOURCE_EXHAUSTED.
    fn from(status: Status) -> Self {
        if let Ok(details) = tonic_types::pb::Status::decode(status.details()) {
            let detail = details.details.iter().find(|any| any.type_url == DETAIL_TYPE);
            if let Some(Ok(detail)) = detail.map(|any| ErrorDetail::decode(&any.value[..])) {
                return detail.into();
            }
        }
        let broken = std::error::Error::source(&status).is_some();
        let code = match status.code() {
            _ if broken => ErrorCode::OutcomeUnknown,
            Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => {
                ErrorCode::InvalidRequest
            }
            Code::ResourceExhausted => ErrorCode::Throttled,
            Code::DeadlineExceeded => ErrorCode::RequestTimedOut,
            Code::Unavailable | Code::Cancelled | Code::Unknown | Code::Aborted => {
                ErrorCode::OutcomeUnknown
            }
            Code::Internal | Code::DataLoss => ErrorCode::OutcomeUnknown,
            Code::Ok
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Unauthenticated => ErrorCode::Internal,
        };
        let mut error = Error::new(code, status.message());
        if let Some(info) = status.get_details_error_info() {
            error.facts.extend(info.metadata);
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::Arc;

    /// A peer that resets a connection with ENHANCE_YOUR_CALM may have done what was asked.
    #[test]
    fn a_connection_that_broke_tells_no_outcome() {
        let answered = Status::resource_exhausted("slower");
        assert_eq!(Error::from(answered.clone()).code, ErrorCode::Throttled);
        let mut broken = answered;
        broken.set_source(Arc::new(io::Error::from(io::ErrorKind::ConnectionReset)));
        assert_eq!(Error::from(broken).code, ErrorCode::OutcomeUnknown);
    }
}
