//! What a failed call says of where to turn instead, in the addresses of the listener by which it came.
//!
//! Promise: whoever refused, here or on another node, a status says no address of another listener.
//! Never here: what is refused within an answer; the doors put that into the listener's addresses themselves. And what
//! nodes ask each other: where a controller is has nothing to do with listeners.

use crate::address_book::AddressBook;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tower::Service;
use troupe_proto::error::redirect;
use troupe_proto::ids::NodeId;

/// What nodes ask each other.
const INTERNAL: &str = "/troupe.internal.";

/// Stands around the services of a listener.
#[derive(Clone)]
pub struct Redirects<S> {
    inner: S,
    addresses: AddressBook,
}

impl<S> Redirects<S> {
    pub fn new(inner: S, addresses: AddressBook) -> Self {
        Self { inner, addresses }
    }
}

impl<S> Service<Request<Body>> for Redirects<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let is_internal = request.uri().path().starts_with(INTERNAL);
        let answer = self.inner.call(request);
        let addresses = self.addresses.clone();
        if is_internal {
            return Box::pin(answer);
        }
        Box::pin(async move {
            let (mut parts, body) = answer.await?.into_parts();
            let has_failed = parts.headers.contains_key(Status::GRPC_STATUS);
            if has_failed {
                parts.headers = put(&addresses, parts.headers);
                return Ok(Response::from_parts(parts, body));
            }
            Ok(Response::from_parts(parts, Body::new(Redirected { body, addresses })))
        })
    }
}

fn put(addresses: &AddressBook, headers: HeaderMap) -> HeaderMap {
    if !headers.contains_key(Status::GRPC_STATUS_DETAILS) {
        return headers;
    }
    let mut status = MetadataMap::from_headers(headers);
    redirect(&mut status, |node| addresses.endpoint_of(NodeId(node)));
    status.into_headers()
}

/// A response's body, at whose end a status may stand.
struct Redirected {
    body: Body,
    addresses: AddressBook,
}

impl http_body::Body for Redirected {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            end => return Poll::Ready(end),
        };
        let frame = match frame.into_trailers() {
            Ok(trailers) => Frame::trailers(put(&self.addresses, trailers)),
            Err(frame) => frame,
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
