//! The body of a call whose only message has to come in time: a call that was begun and never sent holds nothing.
//!
//! Streams are not here: what they say next, they say when they want to.

use super::message::PREFIX_LEN;
use crate::clock::now;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use troupe_machines::connection::read_timeout::ReadTimeout;
use troupe_proto::error::{Error, ErrorCode};

/// Whether the message of a call is there as a whole: before that, nothing was done.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrived(Arc<AtomicBool>);

impl Arrived {
    pub fn is_whole(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

pub(super) struct Arriving<B> {
    body: B,
    arrival: ReadTimeout,
    /// Made when it is waited for the first time.
    alarm: Option<Pin<Box<Sleep>>>,
    limit_ms: u64,
    prefix: [u8; PREFIX_LEN],
    bytes: usize,
    arrived: Arrived,
    ended: bool,
}

impl<B> Arriving<B> {
    pub fn new(body: B, limit_ms: u64, arrived: Arrived) -> Self {
        Arriving {
            body,
            arrival: ReadTimeout::new(limit_ms),
            alarm: None,
            limit_ms,
            prefix: [0; PREFIX_LEN],
            bytes: 0,
            arrived,
            ended: false,
        }
    }

    fn take(&mut self, data: &[u8]) {
        self.arrival.take(now(), data.len());
        if let Some(rest) = self.prefix.get_mut(self.bytes..) {
            let len = rest.len().min(data.len());
            rest[..len].copy_from_slice(&data[..len]);
        }
        self.bytes = self.bytes.saturating_add(data.len());
        let [_, len @ ..] = self.prefix;
        let whole = PREFIX_LEN.saturating_add(u32::from_be_bytes(len) as usize);
        if self.bytes >= whole {
            self.arrived.0.store(true, Ordering::Release);
        }
    }

    /// Ready when it was waited for long enough.
    fn poll_alarm(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        let now = now();
        let until = self.arrival.wait(now);
        let at = Instant::now() + Duration::from_millis(until.0.saturating_sub(now.0));
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(at)));
        // One that rings too early is set anew here, and one that rings late has waited longer than it had to.
        if now < until {
            alarm.as_mut().reset(at);
            ready!(alarm.as_mut().poll(context));
        }
        let (bytes, limit) = (self.bytes, self.limit_ms);
        let message = format!(
            "the request has not come to its end: {bytes} bytes of it are here, and none has come for {limit} ms, or \
             only now and then (socket.connection.setup.timeout.ms); nothing was done"
        );
        Poll::Ready(Error::new(ErrorCode::RequestTooLate, message).with("limit", limit).into())
    }
}

impl<B: Body<Data = Bytes, Error = Status> + Unpin> Body for Arriving<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Pending => {
                let late = ready!(self.poll_alarm(context));
                self.ended = true;
                Poll::Ready(Some(Err(late)))
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.take(data);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            end => end,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{MessageReader, encode};
    use super::*;
    use futures::{StreamExt, stream};
    use http_body_util::StreamBody;
    use troupe_proto::log::v1::FindCoordinatorRequest;

    /// A body that says this, and then neither more nor that it is over.
    fn half_open(
        bytes: &[u8],
        arrived: &Arrived,
    ) -> Arriving<impl Body<Data = Bytes, Error = Status> + Unpin> {
        let said = stream::iter([Ok::<_, Status>(Frame::data(Bytes::copy_from_slice(bytes)))]);
        Arriving::new(StreamBody::new(said.chain(stream::pending())), 1, arrived.clone())
    }

    #[tokio::test]
    async fn a_message_is_whole_when_its_last_byte_is_there() {
        let message = encode(&FindCoordinatorRequest { group_id: "orders".to_owned() });
        for cut in 0..message.len() {
            let arrived = Arrived::default();
            let mut requests = MessageReader::new(half_open(&message[..cut], &arrived), 100);
            let error = Error::from(requests.next().await.unwrap_err());
            assert_eq!(error.code, ErrorCode::RequestTooLate, "{cut} bytes: {error}");
            assert!(error.surely_not_done() && !arrived.is_whole());
        }
        let arrived = Arrived::default();
        let mut requests = MessageReader::new(half_open(&message, &arrived), 100);
        assert!(requests.next().await.unwrap().is_some() && arrived.is_whole());
    }
}
