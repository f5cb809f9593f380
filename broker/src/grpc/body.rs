//! A response body that passes reference-counted slices on to HTTP/2 as they are.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tonic::Status;

/// What a handler gives its response: the pieces of one message, or the status that ends the call.
pub type Outgoing = Result<Vec<Bytes>, Status>;

/// One message of an answer, which can be cut into the pieces that go out.
pub trait IntoPieces {
    /// Puts them behind `out`.
    fn into_pieces(self, out: &mut VecDeque<Bytes>);
}

impl IntoPieces for Vec<Bytes> {
    fn into_pieces(self, out: &mut VecDeque<Bytes>) {
        out.extend(self);
    }
}

/// Sends what comes from the handler; when the handler drops its end, the call ends with OK.
pub struct ResponseBody<M = Vec<Bytes>> {
    incoming: mpsc::Receiver<Result<M, Status>>,
    pieces: VecDeque<Bytes>,
    ended: bool,
}

impl<M> ResponseBody<M> {
    /// Of messages that are cut into pieces when their turn has come.
    pub fn of(incoming: mpsc::Receiver<Result<M, Status>>) -> Self {
        Self { incoming, pieces: VecDeque::new(), ended: false }
    }
}

impl ResponseBody {
    /// `capacity` messages may wait for the client to take them.
    pub fn channel(capacity: usize) -> (mpsc::Sender<Outgoing>, Self) {
        let (sender, incoming) = mpsc::channel(capacity);
        (sender, Self::of(incoming))
    }

    /// A unary answer.
    pub fn once(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let (_, mut body) = Self::channel(1);
        body.pieces.extend(pieces);
        body
    }
}

pub(super) fn trailers(status: Option<Status>) -> Frame<Bytes> {
    let mut headers = HeaderMap::new();
    let complete = match &status {
        Some(status) => status.add_header(&mut headers).is_ok(),
        None => {
            headers.insert("grpc-status", HeaderValue::from_static("0"));
            true
        }
    };
    if !complete {
        headers.insert("grpc-status", HeaderValue::from_static("13"));
    }
    Frame::trailers(headers)
}

impl<M: IntoPieces> Body for ResponseBody<M> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match self.incoming.poll_recv(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(message))) => message.into_pieces(&mut self.pieces),
                Poll::Ready(end) => {
                    self.ended = true;
                    let status = end.and_then(Result::err);
                    return Poll::Ready(Some(Ok(trailers(status))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.pieces.is_empty()
    }
}

/// The response that carries such a body.
pub fn response(
    body: impl Body<Data = Bytes, Error = Status> + Send + 'static,
) -> http::Response<tonic::body::Body> {
    let mut response = http::Response::new(tonic::body::Body::new(body));
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
