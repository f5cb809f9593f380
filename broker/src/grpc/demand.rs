//! A response body that is filled when the client takes more: for a stream that does not read, nothing is made.
//!
//! HTTP/2 asks a body for more when the client's window has room and everything before is under way. So whoever waits
//! for [`DemandSender::wanted`] holds no answer in advance, however many streams stand still.

use super::body::{Outgoing, ResponseBody};
use crate::operations::Gone;
use bytes::Bytes;
use http_body::{Body, Frame};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::sync::{Notify, mpsc};
use tonic::Status;

/// One message, and the status that ends the call behind it.
const CAPACITY: usize = 2;

#[derive(Default)]
struct Demand {
    is_there: AtomicBool,
    rung: Notify,
}

/// What fills the body. Dropped, it ends the call with OK.
pub struct DemandSender {
    messages: mpsc::Sender<Outgoing>,
    demand: Arc<Demand>,
}

pub struct DemandBody {
    body: ResponseBody,
    demand: Arc<Demand>,
}

impl DemandBody {
    pub fn new() -> (DemandSender, DemandBody) {
        let (messages, body) = ResponseBody::channel(CAPACITY);
        let demand: Arc<Demand> = Arc::default();
        let body = DemandBody { body, demand: Arc::clone(&demand) };
        (DemandSender { messages, demand }, body)
    }
}

impl DemandSender {
    /// Returns when the client takes a message. May be dropped and asked again: the demand stands until it is met.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn wanted(&self) -> Result<(), Gone> {
        loop {
            if self.messages.is_closed() {
                return Err(Gone);
            }
            if self.demand.is_there.load(Ordering::Acquire) {
                return Ok(());
            }
            tokio::select! {
                () = self.demand.rung.notified() => {}
                () = self.messages.closed() => return Err(Gone),
            }
        }
    }

    /// Meets the demand with one message.
    pub fn send(&self, pieces: Vec<Bytes>) {
        self.demand.is_there.store(false, Ordering::Release);
        // There is room: what was sent before has been taken, or there would be no demand. The client may be gone.
        let _ = self.messages.try_send(Ok(pieces));
    }

    /// Ends the call with this status, behind what was sent.
    pub async fn end(self, status: Status) {
        // The client may be gone.
        let _ = self.messages.send(Err(status)).await;
    }

    /// Returns when nobody reads any more.
    pub async fn closed(&self) {
        self.messages.closed().await;
    }
}

impl Body for DemandBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if polled.is_pending() && !self.demand.is_there.swap(true, Ordering::AcqRel) {
            self.demand.rung.notify_one();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn nothing_is_wanted_before_the_client_has_taken_what_was_sent() {
        let (sender, mut body) = DemandBody::new();
        assert_eq!(sender.wanted().now_or_never(), None, "nobody has asked");
        for message in [&b"one"[..], b"two"] {
            assert!(body.frame().now_or_never().is_none());
            assert_eq!(sender.wanted().now_or_never(), Some(Ok(())));
            assert_eq!(sender.wanted().now_or_never(), Some(Ok(())), "as long as it is not met");
            sender.send(vec![Bytes::from_static(message), Bytes::from_static(b"!")]);
            assert_eq!(sender.wanted().now_or_never(), None);
            for piece in [message, b"!"] {
                let frame = body.frame().await.unwrap().unwrap();
                assert_eq!(frame.into_data().unwrap(), piece);
                assert_eq!(sender.wanted().now_or_never(), None, "it is not taken as a whole");
            }
        }
        sender.end(Status::unavailable("gone")).await;
        let end = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(end["grpc-status"], "14");
        assert!(body.is_end_stream());
    }

    #[tokio::test]
    async fn whoever_waits_hears_that_the_client_went_away() {
        let (sender, body) = DemandBody::new();
        let waiting = tokio::spawn(async move { sender.wanted().await });
        drop(body);
        assert_eq!(waiting.await.unwrap(), Err(Gone));
    }
}
