//! How those are answered who are not even let in to ask: in their own protocol, so that their client can show it.

use bytes::Bytes;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use troupe_proto::error::Error;

/// So many are listened to before they are answered; the rest get a line, if there is room for it, and are closed.
const AT_ONCE: usize = 64;
/// How long a client may take to ask what it will be refused.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_TEXT: usize = 512;

/// How those are answered who are not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

pub struct Refusals {
    protocol: Protocol,
    permits: Arc<Semaphore>,
}

impl Refusals {
    pub fn new(protocol: Protocol) -> Self {
        Self { protocol, permits: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    pub fn refuse(&self, stream: TcpStream, error: &Error) {
        match self.protocol {
            Protocol::Http2 => last_words(stream, &go_away(&error.message)),
            Protocol::Http1 => {
                let answer = unavailable(&error.message);
                match Arc::clone(&self.permits).try_acquire_owned() {
                    Ok(permit) => {
                        tokio::spawn(async move {
                            say(stream, answer).await;
                            drop(permit);
                        });
                    }
                    Err(_) => last_words(stream, answer.as_bytes()),
                }
            }
        }
    }
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

/// What does not fit into the socket's buffer at once is lost: nobody waits for a refusal.
fn last_words(stream: TcpStream, words: &[u8]) {
    // Of a stream that has just come, the runtime does not know yet that it can be written to.
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write(words);
    }
}

fn unavailable(text: &str) -> String {
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n\
         content-type: text/plain\r\ncontent-length: {}\r\n\r\n{text}\n",
        text.len() + 1
    )
}

async fn say(mut stream: TcpStream, answer: String) {
    let said = async {
        // What the client has sent is read first: closed with bytes unread, it would not see the answer.
        let mut asked = [0; 1024];
        if stream.read(&mut asked).await.is_ok() {
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    };
    let _ = tokio::time::timeout(ASK_TIMEOUT, said).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;
    use troupe_proto::error::ErrorCode;

    #[test]
    fn a_farewell_is_two_frames() {
        let bytes = go_away("no");
        assert_eq!(bytes[..9], [0, 0, 0, 4, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[9..18], [0, 0, 10, 7, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[18..], *b"\0\0\0\0\0\0\0\x0bno");
    }

    /// Each of them would hold a descriptor for as long as it says nothing.
    #[tokio::test]
    async fn no_more_than_a_few_refused_clients_are_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let refusals = Refusals::new(Protocol::Http1);
        let error = Error::new(ErrorCode::TooManyConnections, "too many");
        let mut clients = Vec::new();
        for _ in 0..AT_ONCE + 10 {
            clients.push(TcpStream::connect(address).await.unwrap());
            refusals.refuse(listener.accept().await.unwrap().0, &error);
        }
        assert_eq!(refusals.permits.available_permits(), 0);
        for mut client in clients.split_off(AT_ONCE) {
            let mut said = String::new();
            client.read_to_string(&mut said).await.unwrap();
            assert!(said.starts_with("HTTP/1.1 503") && said.ends_with("too many\n"), "{said}");
        }
    }
}
