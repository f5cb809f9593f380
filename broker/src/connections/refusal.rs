//! How those are answered who are not let in: in their own protocol, so that their client can show it.

use super::accept::Protocol;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tonic::Status;
use tonic::body::Body;
use troupe_proto::error::Error;

/// So many are answered at once; the rest get a line, if there is room for it, and are closed.
const AT_ONCE: usize = 64;
/// How long a client may take to ask what it will be refused.
const PATIENCE: Duration = Duration::from_secs(2);
const MAX_TEXT: usize = 512;

pub struct Refusals {
    protocol: Protocol,
    places: Arc<Semaphore>,
}

impl Refusals {
    pub fn new(protocol: Protocol) -> Self {
        Self { protocol, places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    pub fn refuse(&self, stream: TcpStream, error: Error) {
        match (self.protocol, Arc::clone(&self.places).try_acquire_owned()) {
            (Protocol::Http2, Ok(place)) => {
                tokio::spawn(async move {
                    answer(stream, error).await;
                    drop(place);
                });
            }
            // What does not fit into the socket's buffer at once is lost: nobody waits for a refusal.
            (Protocol::Http2, Err(_)) => drop(stream.try_write(&go_away(&error.message))),
            (Protocol::Http1, place) => {
                tokio::spawn(async move {
                    say(stream, &error.message).await;
                    drop(place);
                });
            }
        }
    }
}

/// The first call gets the error, as any call could; then the connection ends.
async fn answer(stream: TcpStream, error: Error) {
    let answered = Arc::new(Notify::new());
    let service = service_fn({
        let answered = Arc::clone(&answered);
        move |_: Request<Incoming>| {
            answered.notify_one();
            let response: Response<Body> = Status::from(error.clone()).into_http();
            async move { Ok::<_, Infallible>(response) }
        }
    });
    let connection =
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let served = async {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = answered.notified() => {}
        }
        connection.as_mut().graceful_shutdown();
        // However it ends, it ends.
        let _ = connection.await;
    };
    let _ = tokio::time::timeout(PATIENCE, served).await;
}

/// The server's first words, and its last: ENHANCE_YOUR_CALM, with a text that clients show.
fn go_away(text: &str) -> Bytes {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GOAWAY: u8 = 7;
    const ENHANCE_YOUR_CALM: u32 = 0xb;
    let text = &text.as_bytes()[..text.len().min(MAX_TEXT)];
    let len = u32::try_from(8 + text.len()).unwrap_or(8).to_be_bytes();
    let head = [len[1], len[2], len[3], GOAWAY, 0, 0, 0, 0, 0];
    let last_stream = [0; 4];
    let code = ENHANCE_YOUR_CALM.to_be_bytes();
    Bytes::from([&SETTINGS[..], &head, &last_stream, &code, text].concat())
}

async fn say(stream: TcpStream, text: &str) {
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n\
         content-type: text/plain\r\ncontent-length: {}\r\n\r\n{text}\n",
        text.len() + 1
    );
    let said = async {
        // What the client has sent is read first: closed with bytes unread, it would not see the answer.
        let mut asked = [0; 1024];
        if stream.readable().await.is_ok() {
            let _ = stream.try_read(&mut asked);
        }
        if stream.writable().await.is_ok() {
            let _ = stream.try_write(answer.as_bytes());
        }
    };
    let _ = tokio::time::timeout(PATIENCE, said).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_farewell_is_two_frames() {
        let bytes = go_away("no");
        assert_eq!(bytes[..9], [0, 0, 0, 4, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[9..18], [0, 0, 10, 7, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[18..], *b"\0\0\0\0\0\0\0\x0bno");
    }
}
