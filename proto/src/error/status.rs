//! Errors as `tonic::Status` and back. The only place where either becomes the other.
//!
//! Promises: a status fits into the metadata that any client takes, however long the names in it are; one that
//! may have been done forbids its client's retry policy to do it again.

use super::{Error, ErrorCode, PartitionOutcome, RecordError};
use crate::v1::ErrorDetail;
use prost::Message;
use std::collections::{BTreeMap, HashMap};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::{ErrorInfo, StatusExt};

/// `google.rpc.ErrorInfo.domain` of every error.
const DOMAIN: &str = "troupe";
/// Type URL of the typed detail beside the `ErrorInfo`.
const DETAIL_TYPE: &str = "type.googleapis.com/troupe.v1.ErrorDetail";
const ERROR_INFO_TYPE: &str = "type.googleapis.com/google.rpc.ErrorInfo";
/// Where gRPC keeps the details of a failed call.
const DETAILS: &str = "grpc-status-details-bin";
/// gRPC's A6: in the trailers of a failed call, after how long it may be tried again; negative: not at all.
const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Clients built on gRPC's C core refuse some headers of more than 8 KiB and all of more than 16. The text stands in
/// them three times, once with three bytes for one that is not ASCII; facts stand there twice; all but the first
/// grow by a third.
const MAX_TEXT: usize = 480;
const MAX_FACT: usize = 160;
const MAX_FACTS: usize = 12;
const MAX_PARTITIONS: usize = 24;
const MAX_PARTITION_TEXT: usize = 40;
const MAX_RECORD_TEXT: usize = 60;

impl From<Error> for Status {
    /// Status code, `google.rpc.ErrorInfo` for any client, `troupe.v1.ErrorDetail` for those who know it.
    fn from(error: Error) -> Self {
        let error = fitting(error);
        let code = Code::from_i32(error.code.grpc_code() as i32);
        let message = error.to_string();
        let mut metadata = MetadataMap::new();
        if !error.surely_not_done() {
            metadata.insert(RETRY_PUSHBACK, MetadataValue::from_static("-1"));
        }
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
        let details = details.encode_to_vec().into();
        Status::with_details_and_metadata(code, message, details, metadata)
    }
}

/// Puts another endpoint into the hint where to turn instead, if a failed call's headers or trailers have one; what
/// `endpoint_of` knows nothing of stays as it is.
pub fn redirect(trailers: &mut MetadataMap, endpoint_of: impl FnOnce(i32) -> Option<String>) {
    let details = trailers.get_bin(DETAILS).and_then(|details| details.to_bytes().ok());
    let Some(Ok(mut status)) = details.map(tonic_types::pb::Status::decode) else { return };
    let Some(any) = status.details.iter_mut().find(|any| any.type_url == DETAIL_TYPE) else {
        return;
    };
    let Ok(detail) = ErrorDetail::decode(&any.value[..]) else { return };
    if let Some(endpoint) = detail.leader_id.and_then(endpoint_of) {
        let leader_endpoint = shortened(endpoint, MAX_FACT);
        any.value = ErrorDetail { leader_endpoint, ..detail }.encode_to_vec();
        trailers.insert_bin(DETAILS, MetadataValue::from_bytes(&status.encode_to_vec()));
    }
}

/// The same error with everything cut to what fits.
fn fitting(mut error: Error) -> Error {
    error.message = shortened(error.message, MAX_TEXT);
    error.facts = std::mem::take(&mut error.facts)
        .into_iter()
        .take(MAX_FACTS)
        .map(|(name, value)| (shortened(name, MAX_FACT), shortened(value, MAX_FACT)))
        .scan(0, |len, (name, value)| {
            *len += name.len() + value.len();
            (*len <= MAX_TEXT).then_some((name, value))
        })
        .collect::<BTreeMap<_, _>>();
    if let Some(hint) = &mut error.leader {
        hint.endpoint = shortened(std::mem::take(&mut hint.endpoint), MAX_FACT);
    }
    if let Some(publication) = &mut error.publication {
        // Those that tell most come first.
        let told = |outcome: &PartitionOutcome| (outcome.done, outcome.surely_not_done);
        publication.partitions.sort_by_key(told);
        publication.partitions.truncate(MAX_PARTITIONS);
        for outcome in &mut publication.partitions {
            let message = std::mem::take(&mut outcome.message);
            outcome.message = shortened(message, MAX_PARTITION_TEXT);
        }
    }
    let fits = |record: &RecordError| RecordError {
        message: shortened(record.message.clone(), MAX_RECORD_TEXT),
        ..*record
    };
    let records = error.records().iter().map(fits).collect();
    error.with_records(records)
}

/// Beginning and end of a text: what it is about stands at the one, what to do at the other.
fn shortened(text: String, max: usize) -> String {
    const GAP: &str = " ... ";
    // Percent-encoded, everything that is not plain takes three bytes.
    let width = |c: char| if c.is_ascii_graphic() || c == ' ' { 1 } else { 3 * c.len_utf8() };
    if text.chars().map(width).sum::<usize>() <= max {
        return text;
    }
    let half = (max - GAP.len()) / 2;
    let fits = |chars: &mut dyn Iterator<Item = char>| -> Vec<char> {
        let mut left = half;
        let mut fits = Vec::new();
        for c in chars {
            let Some(rest) = left.checked_sub(width(c)) else { break };
            left = rest;
            fits.push(c);
        }
        fits
    };
    let head = fits(&mut text.chars());
    let tail = fits(&mut text.chars().rev());
    head.into_iter().chain(GAP.chars()).chain(tail.into_iter().rev()).collect()
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
    use super::super::Publication;
    use super::*;
    use std::io;
    use std::sync::Arc;

    #[test]
    fn where_to_turn_instead_can_be_told_in_other_addresses() {
        let error = Error::new(ErrorCode::NotLeader, "node 2 leads").with("limit", 7);
        let status = Status::from(error.with_leader_of(2, "n2:1", 7));
        let put = |status: &Status, endpoint: Option<&str>| {
            let (parts, _) = status.clone().into_http::<()>().into_parts();
            let mut headers = MetadataMap::from_headers(parts.headers);
            redirect(&mut headers, |node| {
                assert_eq!(node, 2);
                endpoint.map(str::to_owned)
            });
            Error::from(Status::from_header_map(&headers.into_headers()).unwrap())
        };
        let before = Error::from(status.clone());
        assert_eq!(put(&status, None), before);
        let mut expected = before;
        expected.leader.as_mut().unwrap().endpoint = "two.example.org:9".to_owned();
        assert_eq!(put(&status, Some("two.example.org:9")), expected);
        let without = Status::from(Error::new(ErrorCode::NotLeader, "nobody knows"));
        assert_eq!(put(&without, Some("")), Error::from(without));
    }

    /// A peer that resets a connection with ENHANCE_YOUR_CALM may have done what was asked.
    #[test]
    fn a_connection_that_broke_tells_no_outcome() {
        let answered = Status::resource_exhausted("slower");
        assert_eq!(Error::from(answered.clone()).code, ErrorCode::Throttled);
        let mut broken = answered;
        broken.set_source(Arc::new(io::Error::from(io::ErrorKind::ConnectionReset)));
        assert_eq!(Error::from(broken).code, ErrorCode::OutcomeUnknown);
    }

    /// Bytes of the status in a response's headers, as HTTP/2 counts them.
    fn header_len(status: &Status) -> usize {
        let mut headers = tonic::codegen::http::HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        headers.iter().map(|(name, value)| 32 + name.as_str().len() + value.len()).sum()
    }

    /// gRPC's C core refuses more than 8 KiB.
    #[test]
    fn no_text_is_too_long_for_the_metadata_that_a_client_takes() {
        for letter in ["x", "\u{1F3AD}", "%", "\n", "é"] {
            let long = letter.repeat(100_000);
            let outcome = |partition| PartitionOutcome {
                partition,
                reason: ErrorCode::OutcomeUnknown.into(),
                message: letter.repeat(1_000),
                ..Default::default()
            };
            let mut error = Error::new(ErrorCode::OutcomeUnknown, format!("{long}; do that"))
                .with_leader_of(1, long.clone(), 3)
                .of_publication(Publication {
                    partitions: (0..1_000).map(outcome).collect(),
                    sequence: u64::MAX,
                });
            let record = |index| RecordError {
                index,
                reason: ErrorCode::InvalidRecord.into(),
                message: letter.repeat(1_000),
            };
            error = error.of_records((0..1_000).map(record).collect(), 1_000);
            for n in 0..50 {
                error = error.with(&format!("{n}{long}"), &long);
            }
            let status = Status::from(error);
            let len = header_len(&status);
            assert!(len < 8 << 10, "{len} bytes with {letter:?}");
            assert!(status.message().ends_with("; do that"), "what to do is still there");
        }
    }

    #[test]
    fn what_fits_is_not_cut() {
        let text = "x".repeat(MAX_TEXT);
        let error = Error::new(ErrorCode::UnknownTopic, text.clone()).with("topic", "orders");
        let back = Error::from(Status::from(error.clone()));
        assert_eq!(back, error);
    }

    /// A stock retry policy on UNAVAILABLE repeats what surely was not done, and nothing else.
    #[test]
    fn what_may_have_been_done_is_not_retried_by_a_policy() {
        for number in 0..200 {
            let Ok(code) = ErrorCode::try_from(number) else { continue };
            let status = Status::from(Error::new(code, "why"));
            let forbidden = status.metadata().get(RETRY_PUSHBACK).is_some_and(|ms| ms == "-1");
            assert_eq!(forbidden, !code.surely_not_done(), "{code:?}");
        }
    }

    #[test]
    fn what_was_published_is_not_called_retriable_unless_it_surely_was_not() {
        for (code, retriable) in [
            (ErrorCode::OutcomeUnknown, false),
            (ErrorCode::RequestTimedOut, false),
            (ErrorCode::NotEnoughReplicas, true),
            (ErrorCode::InvalidRecord, false),
        ] {
            let error = Error::new(code, "why").of_publication(Publication::default());
            assert_eq!(error.is_retriable(), retriable, "{code:?}");
            assert_eq!(Error::from(Status::from(error)).is_retriable(), retriable, "{code:?}");
        }
    }
}
