//! What every request passes before a service sees it.
//!
//! Promises: bytes that are no gRPC messages, or too large ones, are refused as anything else is, with a reason; a
//! single request that does not come is not waited for; a call whose time is over is answered DEADLINE_EXCEEDED, which
//! says whether it may have been done.
//! Never here: the content of a message. Services that read their requests themselves refuse them themselves.

use super::arrival::{Arrived, Arriving};
use super::handover::{Handover, begun_at};
use super::message::{NO_MESSAGE, PREFIX_LEN, STRANGE_FLAG, compressed, invalid, too_large};
use crate::forward::timeout_of;
use crate::methods::METHODS;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};
use troupe_proto::error::{Error, ErrorCode, Publication};

/// What tonic takes where nothing else is set.
const DEFAULT_MESSAGE: usize = 4 << 20;
/// Of a call's time, the part by which its end is told earlier: nobody hears what comes later.
const MARGIN_SHARE: u32 = 40;

/// The unary methods that a client's retry policy must not do again once they may be done. Whether that is so of a
/// call, its service says: batches of a producer that numbers them are stored once, however often they come.
const NOT_IDEMPOTENT: [&str; 3] = [
    "/troupe.v1.EventBusService/Publish",
    "/troupe.v1.EventBusService/PublishAtomically",
    "/troupe.log.v1.LogService/Produce",
];

/// Methods of the event bus that read their requests themselves, as `LogService` does.
const READ_BY_HAND: [&str; 3] = ["Subscribe", "Pull", "Tail"];

/// Whether a method's requests are a stream.
fn is_streamed(path: &str) -> bool {
    METHODS.get(path).is_some_and(|method| method.streams_requests)
}

/// Puts [`Intake`] before the services of a listener.
#[derive(Clone, Copy)]
pub struct IntakeLayer {
    /// `socket.request.max.bytes`: of the event bus.
    pub max_request: usize,
    /// `socket.connection.setup.timeout.ms`: so long a single request may stand still on its way.
    pub arrival_ms: u64,
}

impl<S> Layer<S> for IntakeLayer {
    type Service = Intake<S>;

    fn layer(&self, inner: S) -> Intake<S> {
        Intake { inner, max_request: self.max_request, arrival_ms: self.arrival_ms }
    }
}

#[derive(Clone)]
pub struct Intake<S> {
    inner: S,
    max_request: usize,
    arrival_ms: u64,
}

impl<S> Intake<S> {
    /// Bytes of one message; none where the service itself looks.
    fn limit(&self, path: &str) -> Option<usize> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        match service {
            "troupe.log.v1.LogService" => None,
            "troupe.v1.EventBusService" if READ_BY_HAND.contains(&method) => None,
            "troupe.v1.EventBusService" => Some(self.max_request),
            // Nodes among themselves have limits of their own.
            _ if service.starts_with("troupe.internal.") => None,
            _ => Some(DEFAULT_MESSAGE),
        }
    }

    /// A request's body with all that is looked at from outside; and whether its message is there, if it is a single
    /// one.
    fn watched(&self, path: &str, body: Body) -> (Body, Option<Arrived>) {
        let streamed = is_streamed(path) || path.starts_with("/grpc.reflection.");
        let limit = self.limit(path);
        if streamed {
            let body = match limit {
                Some(limit) => Body::new(Checked::new(body, limit, streamed)),
                None => body,
            };
            return (body, None);
        }
        let arrived = Arrived::default();
        let body = Arriving::new(body, self.arrival_ms, arrived.clone());
        let body = match limit {
            Some(limit) => Body::new(Checked::new(body, limit, streamed)),
            None => Body::new(body),
        };
        (body, Some(arrived))
    }
}

impl<S> Service<Request<Body>> for Intake<S>
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
        let timeout = timeout_of(request.headers());
        let path = request.uri().path();
        let is_idempotent = !NOT_IDEMPOTENT.contains(&path);
        let handover = (!is_idempotent).then(Handover::default);
        let path = path.to_owned();
        let (parts, body) = request.into_parts();
        let (body, arrived) = self.watched(&path, body);
        let mut request = Request::from_parts(parts, body);
        if let Some(handover) = &handover {
            request.extensions_mut().insert(handover.clone());
        }
        let answer = self.inner.call(request);
        let in_time = Box::pin(async move {
            let Some(timeout) = timeout else { return answer.await };
            match tokio::time::timeout(cut_off_after(timeout), answer).await {
                Ok(answer) => answer,
                Err(_) => Ok(too_late(timeout, arrived.as_ref(), is_idempotent).into_http()),
            }
        });
        match handover {
            Some(handover) => Box::pin(async move { Ok(begun_at(handover, in_time).await) }),
            None => in_time,
        }
    }
}

/// Of a call's time, what there is until it is answered from here.
fn cut_off_after(timeout: Duration) -> Duration {
    timeout - timeout / MARGIN_SHARE
}

fn too_late(timeout: Duration, arrived: Option<&Arrived>, is_idempotent: bool) -> Status {
    let ms = timeout.as_millis();
    if !arrived.is_none_or(Arrived::is_whole) {
        let message = format!("no whole request came within the {ms} ms that the call had");
        return Error::new(ErrorCode::RequestTooLate, message).into();
    }
    let message = format!("not answered within the {ms} ms that the call had");
    let error = Error::new(ErrorCode::RequestTimedOut, message);
    match is_idempotent {
        true => error.into(),
        false => error.of_publication(Publication::default()).into(),
    }
}

/// A request's body, whose messages are looked at from outside.
struct Checked<B> {
    body: B,
    limit: usize,
    /// Of the message that comes next.
    prefix: [u8; PREFIX_LEN],
    prefix_len: usize,
    /// Bytes of the message of now that are to come.
    left: usize,
    /// A message was there, or none is needed.
    complete: bool,
}

impl<B> Checked<B> {
    fn new(body: B, limit: usize, streamed: bool) -> Self {
        Self { body, limit, prefix: [0; PREFIX_LEN], prefix_len: 0, left: 0, complete: streamed }
    }

    fn look_at(&mut self, mut data: &[u8]) -> Result<(), Status> {
        while !data.is_empty() {
            let content = self.left.min(data.len());
            (self.left, data) = (self.left - content, &data[content..]);
            let head = (PREFIX_LEN - self.prefix_len).min(data.len());
            self.prefix[self.prefix_len..self.prefix_len + head].copy_from_slice(&data[..head]);
            (self.prefix_len, data) = (self.prefix_len + head, &data[head..]);
            if self.prefix_len == PREFIX_LEN {
                self.prefix_len = 0;
                self.begin_message()?;
            }
        }
        Ok(())
    }

    fn begin_message(&mut self) -> Result<(), Status> {
        let [flag, len @ ..] = self.prefix;
        match flag {
            0 => {}
            1 => return Err(compressed()),
            _ => return Err(invalid(STRANGE_FLAG)),
        }
        let (len, limit) = (u32::from_be_bytes(len) as usize, self.limit);
        if len > limit {
            return Err(too_large(len, limit));
        }
        (self.left, self.complete) = (len, true);
        Ok(())
    }

    fn end(&self) -> Result<(), Status> {
        match (self.left, self.prefix_len, self.complete) {
            (0, 0, true) => Ok(()),
            (0, 0, false) => Err(invalid(NO_MESSAGE)),
            _ => Err(invalid("the last message is cut short")),
        }
    }
}

impl<B: http_body::Body<Data = Bytes, Error = Status> + Unpin> http_body::Body for Checked<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            Some(Err(status)) => return Poll::Ready(Some(Err(status))),
            None => return Poll::Ready(self.end().err().map(Err)),
        };
        let looked = match frame.data_ref() {
            Some(data) => self.look_at(data),
            None => self.end(),
        };
        Poll::Ready(Some(looked.map(|()| frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && self.end().is_ok()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::Allotted;
    use http_body_util::{BodyExt, Full, StreamBody};
    use tokio::time::Instant;
    use tonic::Code;
    use tonic::metadata::MetadataMap;

    async fn read(bytes: &[u8], cut: usize, streamed: bool) -> Result<usize, Code> {
        let frames: Vec<_> = [&bytes[..cut], &bytes[cut..]]
            .map(|piece| Ok::<_, Status>(Frame::data(Bytes::copy_from_slice(piece))))
            .into();
        let body = Body::new(StreamBody::new(futures::stream::iter(frames)));
        let read = Checked::new(body, 10, streamed).collect().await;
        read.map(|all| all.to_bytes().len()).map_err(|status| status.code())
    }

    #[tokio::test]
    async fn what_is_no_message_is_refused_wherever_the_frames_are_cut() {
        let two = b"\0\0\0\0\x03abc\0\0\0\0\0";
        let too_large = b"\0\0\0\0\x03abc\0\0\0\0\x0b";
        let invalid = Err(Code::InvalidArgument);
        for (bytes, streamed, expected) in [
            (&two[..], false, Ok(two.len())),
            (&two[..], true, Ok(two.len())),
            (&too_large[..], true, Err(Code::ResourceExhausted)),
            (&two[..7], true, invalid),
            (&two[..9], true, invalid),
            (b"\x07\0\0\0\0", true, invalid),
            (b"\x01\0\0\0\0", true, Err(Code::Unimplemented)),
            (b"", true, Ok(0)),
            (b"", false, invalid),
        ] {
            for cut in 0..=bytes.len() {
                assert_eq!(read(bytes, cut, streamed).await, expected, "{bytes:?} at {cut}");
            }
        }
    }

    async fn answered(timeout: &str, body: Body) -> (Code, Error) {
        let never = tower::service_fn(|request: Request<Body>| async {
            // The request is read, if it is there, and then nothing comes of it.
            let _ = request.into_body().collect().await;
            std::future::pending::<Result<Response<Body>, Infallible>>().await
        });
        let mut intake = IntakeLayer { max_request: 1, arrival_ms: 60_000 }.layer(never);
        let request = Request::builder().header("grpc-timeout", timeout);
        let answer = intake.call(request.body(body).unwrap()).await.unwrap();
        let status = Status::from_header_map(answer.headers()).unwrap();
        (status.code(), Error::from(status))
    }

    /// tonic itself would say CANCELLED, as if the client had wanted it.
    #[tokio::test]
    async fn a_call_whose_time_is_over_is_answered_deadline_exceeded() {
        for timeout in ["1n", "1u", "900u", "1m", "200m"] {
            let whole =
                || Full::new(Bytes::from_static(b"\0\0\0\0\0")).map_err(|never| match never {});
            let (code, error) = answered(timeout, Body::new(whole())).await;
            assert_eq!(code, Code::DeadlineExceeded, "{timeout}");
            assert_eq!(error.code, ErrorCode::RequestTimedOut, "{timeout}");
            assert!(!error.surely_not_done(), "{timeout}");
            let nothing =
                StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, Status>>());
            let (code, error) = answered(timeout, Body::new(nothing)).await;
            assert_eq!(code, Code::DeadlineExceeded, "{timeout}");
            assert!(error.surely_not_done(), "{timeout}: {error}");
        }
    }

    /// Or nobody could say any more what became of the parts.
    #[test]
    fn what_is_known_of_a_publish_is_told_before_it_is_cut_off() {
        let came = Instant::now();
        for seconds in [1, 5, 10, 30, 31, 60] {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", format!("{seconds}S").parse().unwrap());
            let Allotted { deadline, answer_by } = Allotted::by_call(came, &metadata);
            let cut_off = came + cut_off_after(Duration::from_secs(seconds));
            assert!(deadline < answer_by && answer_by < cut_off, "{seconds} s");
        }
    }

    /// It may have been done, and who does it again has it twice.
    #[tokio::test]
    async fn a_publish_whose_time_is_over_is_not_called_retriable() {
        let never = tower::service_fn(|request: Request<Body>| async {
            request.into_body().collect().await.unwrap();
            std::future::pending::<Result<Response<Body>, Infallible>>().await
        });
        let mut intake = IntakeLayer { max_request: 1, arrival_ms: 60_000 }.layer(never);
        let paths = NOT_IDEMPOTENT.map(|path| (path, false));
        for (path, retriable) in
            paths.into_iter().chain([("/troupe.v1.EventBusService/Settle", true)])
        {
            let request = Request::builder().uri(path).header("grpc-timeout", "50m");
            let message = Body::new(Full::new(Bytes::from_static(&[0; PREFIX_LEN])));
            let answer = intake.call(request.body(message).unwrap()).await.unwrap();
            let status = Status::from_header_map(answer.headers()).unwrap();
            let error = Error::from(status);
            assert_eq!(error.code, ErrorCode::RequestTimedOut, "{path}");
            assert_eq!(error.is_retriable(), retriable, "{path}");
        }
    }

    #[test]
    fn streams_are_known_from_the_contract() {
        assert!(is_streamed("/troupe.v1.EventBusService/PublishStream"));
        assert!(!is_streamed("/troupe.v1.EventBusService/Publish"));
    }
}
