//! HTTP/2 by hand, frame by frame: what a client of a library would never send, or not send.

use bytes::{BufMut, BytesMut};
use prost::Message;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use troupe_tests::PATIENCE;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
const CANCEL: u32 = 8;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// A frame that came.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Whether it is data of that call, with these bytes in it.
    pub fn brings(&self, stream: u32, bytes: &[u8]) -> bool {
        let within = || self.payload.windows(bytes.len()).any(|window| window == bytes);
        (self.kind, self.stream) == (DATA, stream) && within()
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::new();
    frame.put_uint(payload.len() as u64, 3);
    frame.put_u8(kind);
    frame.put_u8(flags);
    frame.put_u32(stream);
    frame.put_slice(payload);
    frame.to_vec()
}

/// The client's first words; `window`: what it takes of each answer before it says more.
pub fn introduction(window: Option<u32>) -> Vec<u8> {
    let mut settings = BytesMut::new();
    if let Some(window) = window {
        settings.put_u16(INITIAL_WINDOW_SIZE);
        settings.put_u32(window);
    }
    [PREFACE, &frame(SETTINGS, 0, 0, &settings)].concat()
}

/// The headers of a call.
pub fn headers(path: &str) -> Vec<u8> {
    const METHOD_POST: u8 = 0x83;
    const SCHEME_HTTP: u8 = 0x86;
    let mut block = vec![METHOD_POST, SCHEME_HTTP];
    let mut literal = |name: &[u8], value: &str| {
        block.extend_from_slice(name);
        block.push(u8::try_from(value.len()).expect("values here are short"));
        block.extend_from_slice(value.as_bytes());
    };
    literal(&[0x01], "node");
    literal(&[0x04], path);
    literal(&[0x0f, 0x10], "application/grpc");
    literal(&[0x00, 2, b't', b'e'], "trailers");
    block
}

/// A call with one message, whole.
pub fn call(stream: u32, path: &str, message: &impl Message) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(u32::try_from(message.encoded_len()).expect("messages here are short"));
    message.encode(&mut body).expect("there is room");
    let head = frame(HEADERS, END_HEADERS, stream, &headers(path));
    [head, frame(DATA, END_STREAM, stream, &body)].concat()
}

/// A call that is given up before it is looked at.
pub fn cancelled(stream: u32, path: &str) -> Vec<u8> {
    let head = frame(HEADERS, END_HEADERS, stream, &headers(path));
    [head, frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())].concat()
}

pub struct Raw {
    stream: TcpStream,
}

impl Raw {
    pub async fn connect(address: &str) -> Raw {
        Raw { stream: TcpStream::connect(address).await.expect("the node listens") }
    }

    /// One that has said something.
    pub async fn saying(address: &str, bytes: &[u8]) -> Raw {
        let mut raw = Raw::connect(address).await;
        raw.send(bytes).await;
        raw
    }

    /// One that speaks HTTP/2, and has heard that the node does.
    pub async fn introduced(address: &str, window: Option<u32>) -> Raw {
        let mut raw = Raw::saying(address, &introduction(window)).await;
        let settings = raw.next().await.expect("the node answers");
        assert_eq!(settings.kind, SETTINGS);
        raw.send(&frame(SETTINGS, ACK, 0, &[])).await;
        raw
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the connection stands");
    }

    /// Sends as long as the node takes it; false: it does not any more.
    pub async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// The next frame; none at the end of the connection.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        let read = timeout(PATIENCE, self.stream.read_exact(&mut head)).await;
        read.expect("a frame, or an end").ok()?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; len];
        self.stream.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], stream, payload })
    }

    /// Reads so much, if it comes.
    pub async fn read(&mut self, bytes: &mut [u8]) {
        let read = timeout(PATIENCE, self.stream.read_exact(bytes)).await;
        read.expect("an answer, or an end").expect("an answer");
    }

    /// Reads until the node ends the connection. Gives all that it said.
    pub async fn end(&mut self) -> Vec<u8> {
        let mut said = Vec::new();
        // A reset is an end too.
        let _ = timeout(PATIENCE, self.stream.read_to_end(&mut said)).await.expect("it ends");
        said
    }

    /// One byte now and then, until the node ends the connection.
    pub async fn trickle(&mut self, bytes: impl Iterator<Item = u8>) {
        let mut byte = [0];
        for next in bytes {
            if self.stream.write_all(&[next]).await.is_err() {
                return;
            }
            let pause = Duration::from_millis(10);
            if let Ok(Ok(0) | Err(_)) = timeout(pause, self.stream.read(&mut byte)).await {
                return;
            }
        }
        panic!("the node never ended the connection");
    }
}
