//! The answer of a single call that tells when it ends unwritten.

use super::body::trailers;
use crate::operations::Unwritten;
use bytes::Bytes;
use http_body::{Body, Frame};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::Status;

/// HTTP/2 takes a frame as soon as the client has room for a part of it. The smaller, the less is taken for written
/// that is not.
const FRAME_BYTES: usize = 16 << 10;

/// Sends one message. Written is what HTTP/2 has taken to the end, with the trailers behind it: then no cancelled call
/// and no client that refuses the message can be told from one that got it.
pub struct ReceiptBody {
    pieces: VecDeque<Bytes>,
    unwritten: Unwritten,
    ended: bool,
}

impl ReceiptBody {
    pub fn new(pieces: Vec<Bytes>, unwritten: Unwritten) -> ReceiptBody {
        ReceiptBody { pieces: pieces.into(), unwritten, ended: false }
    }
}

impl Body for ReceiptBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(mut piece) = self.pieces.pop_front() {
            if piece.len() > FRAME_BYTES {
                let rest = piece.split_off(FRAME_BYTES);
                self.pieces.push_front(rest);
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        self.ended = true;
        self.unwritten.written();
        Poll::Ready(Some(Ok(trailers(None))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn an_answer_is_unwritten_until_its_trailers_were_taken() {
        let len = 3 * FRAME_BYTES;
        for taken in 0..=4 {
            let told = Arc::new(AtomicUsize::new(0));
            let teller = Arc::clone(&told);
            let unwritten = Unwritten::new(move || {
                teller.fetch_add(1, Ordering::Relaxed);
            });
            let mut body = ReceiptBody::new(vec![vec![0; len].into()], unwritten);
            for _ in 0..taken {
                body.frame().await.unwrap().unwrap();
            }
            assert_eq!(told.load(Ordering::Relaxed), 0);
            drop(body);
            assert_eq!(told.load(Ordering::Relaxed), usize::from(taken < 4), "{taken} frames");
        }
    }
}
