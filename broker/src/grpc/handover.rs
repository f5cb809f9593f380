//! Answers that begin before their call is done.
//!
//! A client's retry policy does a call again that ended without response headers, also if the connection broke and
//! nobody said anything; never one whose headers it has (gRPC's A6). So what is not idempotent sends its headers when
//! it may be done. What is refused before then has none, and is retried as the policy says.

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

/// In a request's extensions.
#[derive(Clone, Debug)]
pub struct Handover {
    /// When the call came.
    pub came: Instant,
    /// To be cancelled when it may be done.
    pub begun: CancellationToken,
}

impl Default for Handover {
    fn default() -> Self {
        Self { came: Instant::now(), begun: CancellationToken::new() }
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// The answer of a call; begun at its handover, if that comes first.
pub(super) async fn begun_at(handover: Handover, mut answer: Answer) -> Response<Body> {
    tokio::select! {
        biased;
        () = handover.begun.cancelled() => {}
        Ok(response) = &mut answer => return response,
    }
    let mut response = Response::new(Body::new(Rest { answer: Some(answer), body: None }));
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    response
}

/// What is left of an answer behind its headers.
struct Rest {
    /// Until it is there.
    answer: Option<Answer>,
    body: Option<Body>,
}

impl http_body::Body for Rest {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        if let Some(answer) = &mut self.answer {
            let Ok(response) = ready!(answer.as_mut().poll(context));
            self.answer = None;
            let (mut head, body) = response.into_parts();
            if head.headers.contains_key(tonic::Status::GRPC_STATUS) {
                // It has failed; what would have been its headers are its trailers.
                head.headers.remove(header::CONTENT_TYPE);
                return Poll::Ready(Some(Ok(Frame::trailers(head.headers))));
            }
            self.body = Some(body);
        }
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_none() && self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }
}
