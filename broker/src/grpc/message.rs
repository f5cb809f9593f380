//! One gRPC message: a flag byte, a big-endian length, a protobuf message.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::Stream;
use http_body::Body;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use prost::encoding::{encoded_len_varint, key_len};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tonic::{Code, Status};
use troupe_proto::codec::not_the_message;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::rope::Rope;

/// Flag byte and length.
pub(super) const PREFIX_LEN: usize = 5;

pub(super) const NO_MESSAGE: &str = "the request has no message";
const COMPRESSED: &str = "compressed gRPC messages are not accepted: send them as they are, and compress the \
    batches in them if need be";
pub(super) const STRANGE_FLAG: &str =
    "a message begins with neither 0 nor 1: these are no gRPC messages";

/// Reads the messages of a request body one after the other, without joining the frames they came in.
pub struct MessageReader<B> {
    body: B,
    buffered: Rope,
    /// Length of the message whose prefix has been read.
    pending: Option<usize>,
    max_message: usize,
}

/// The requests of one call.
pub type Requests = MessageReader<tonic::body::Body>;

impl<B: Body<Data = Bytes, Error = Status> + Unpin> MessageReader<B> {
    /// `max_message` bounds the bytes of one message.
    pub fn new(body: B, max_message: usize) -> Self {
        Self { body, buffered: Rope::new(), pending: None, max_message }
    }

    /// The next message; `None` at the end of the body. May be dropped and called again without loss.
    pub async fn next(&mut self) -> Result<Option<Rope>, Status> {
        poll_fn(|context| self.poll_message(context)).await
    }

    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Rope>, Status>> {
        loop {
            let needed = self.pending.unwrap_or(PREFIX_LEN);
            if self.buffered.len() >= needed {
                match self.pending.take() {
                    Some(len) => return Poll::Ready(Ok(Some(self.buffered.split_to(len)))),
                    None => self.pending = Some(self.read_prefix()?),
                }
                continue;
            }
            let end = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffered.push(data);
                    }
                    continue;
                }
                // Ours says why; otherwise nobody hears this.
                Some(Err(status)) if !status.details().is_empty() => Err(status),
                Some(Err(_)) => Err(Status::cancelled("the client went away")),
                None if self.buffered.is_empty() && self.pending.is_none() => Ok(None),
                None => Err(invalid("the last message is cut short")),
            };
            return Poll::Ready(end);
        }
    }

    /// The only message of a unary call.
    pub async fn only<M: Message + Default>(&mut self) -> Result<M, Status> {
        decode(self.first().await?)
    }

    /// The same, as it came.
    pub async fn first(&mut self) -> Result<Rope, Status> {
        self.next().await?.ok_or_else(|| invalid(NO_MESSAGE))
    }

    fn read_prefix(&mut self) -> Result<usize, Status> {
        match self.buffered.get_u8() {
            0 => {}
            1 => return Err(compressed()),
            _ => return Err(invalid(STRANGE_FLAG)),
        }
        let len = self.buffered.get_u32() as usize;
        if len > self.max_message {
            return Err(too_large(len, self.max_message));
        }
        Ok(len)
    }
}

impl<B: Body<Data = Bytes, Error = Status> + Unpin> Stream for MessageReader<B> {
    type Item = Result<Rope, Status>;

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Rope, Status>>> {
        self.get_mut().poll_message(context).map(Result::transpose)
    }
}

/// A message that is not read, as it has more bytes than are taken.
pub(super) fn too_large(len: usize, limit: usize) -> Status {
    let message =
        format!("a message of {len} bytes is over the limit of {limit}; send less at once");
    Error::new(ErrorCode::RequestTooLarge, message).with("limit", limit).with("actual", len).into()
}

/// A message that is compressed as a whole: UNIMPLEMENTED, as gRPC has it, and a reason as for any other refusal.
pub(super) fn compressed() -> Status {
    let refusal = Status::from(Error::new(ErrorCode::UnsupportedCompression, COMPRESSED));
    let mut details = tonic_types::pb::Status::decode(refusal.details()).unwrap_or_default();
    details.code = Code::Unimplemented.into();
    Status::with_details_and_metadata(
        Code::Unimplemented,
        COMPRESSED,
        details.encode_to_vec().into(),
        refusal.metadata().clone(),
    )
}

pub fn decode<M: Message + Default>(message: impl Buf) -> Result<M, Status> {
    M::decode(message).map_err(|error| not_the_message(&error).into())
}

/// A call whose bytes are not what gRPC says they are.
pub(super) fn invalid(message: &str) -> Status {
    Error::new(ErrorCode::InvalidRequest, message).into()
}

/// The value of one field of a message.
pub enum Field {
    Number(u64),
    Bytes(Rope),
    /// Not used in what is walked.
    Fixed,
}

/// A field that is known, and of another type than it is.
pub fn mistyped(tag: u32) -> Status {
    invalid(&format!("field {tag} of the request is of another type"))
}

/// Walks the top-level fields of a message; length-delimited ones come out as ropes, uncopied.
pub fn fields(
    mut message: Rope,
    mut visit: impl FnMut(u32, Field) -> Result<(), Status>,
) -> Result<(), Status> {
    let malformed = |error: prost::DecodeError| Status::from(not_the_message(&error));
    let short = || invalid("a field of the request is cut short");
    while message.has_remaining() {
        let (tag, wire_type) = decode_key(&mut message).map_err(malformed)?;
        let field = match wire_type {
            WireType::Varint => Field::Number(decode_varint(&mut message).map_err(malformed)?),
            WireType::SixtyFourBit => {
                message.try_get_u64_le().map_err(|_| short())?;
                Field::Fixed
            }
            WireType::ThirtyTwoBit => {
                message.try_get_u32_le().map_err(|_| short())?;
                Field::Fixed
            }
            WireType::LengthDelimited => {
                let len = decode_varint(&mut message).map_err(malformed)?;
                let len = usize::try_from(len).map_err(|_| short())?;
                if len > message.len() {
                    return Err(short());
                }
                Field::Bytes(message.split_to(len))
            }
            WireType::StartGroup | WireType::EndGroup => {
                return Err(invalid("the request has groups, which are not used"));
            }
        };
        visit(tag, field)?;
    }
    Ok(())
}

/// A whole message in one frame.
pub fn encode(message: &impl Message) -> Bytes {
    let len = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX_LEN + len);
    put_prefix(len, &mut frame);
    message.encode_raw(&mut frame);
    frame.freeze()
}

/// A message whose last field `tag` has the content `payload`, which goes out uncopied.
pub fn encode_with_payload(message: &impl Message, tag: u32, payload: Bytes) -> [Bytes; 2] {
    let len = len_with_payload(message, tag, &payload);
    let mut head = BytesMut::with_capacity(PREFIX_LEN + len - payload.len());
    put_prefix(len, &mut head);
    put_head(message, tag, &payload, &mut head);
    [head.freeze(), payload]
}

/// The same with a payload in pieces; what goes out is put behind `out`.
pub fn encode_with_pieces(
    message: &impl Message,
    tag: u32,
    payload: Vec<Bytes>,
    out: &mut Vec<Bytes>,
) {
    let payload_len: usize = payload.iter().map(Bytes::len).sum();
    if payload_len == 0 {
        return out.push(encode(message));
    }
    let framing = key_len(tag) + encoded_len_varint(payload_len as u64);
    let head_len = message.encoded_len() + framing;
    let mut head = BytesMut::with_capacity(PREFIX_LEN + head_len);
    put_prefix(head_len + payload_len, &mut head);
    message.encode_raw(&mut head);
    encode_key(tag, WireType::LengthDelimited, &mut head);
    encode_varint(payload_len as u64, &mut head);
    out.push(head.freeze());
    out.extend(payload);
}

/// A message that consists of a repeated field `tag`, each item as in [`encode_with_payload`].
pub fn encode_all_with_payload<M: Message>(
    tag: u32,
    payload_tag: u32,
    items: Vec<(M, Bytes)>,
) -> Vec<Bytes> {
    let len_of = |(item, payload): &(M, Bytes)| len_with_payload(item, payload_tag, payload);
    let framed = |len: usize| key_len(tag) + encoded_len_varint(len as u64) + len;
    let mut head = BytesMut::new();
    put_prefix(items.iter().map(|item| framed(len_of(item))).sum(), &mut head);
    let mut pieces = Vec::with_capacity(2 * items.len() + 1);
    for item in items {
        encode_key(tag, WireType::LengthDelimited, &mut head);
        encode_varint(len_of(&item) as u64, &mut head);
        let (item, payload) = item;
        put_head(&item, payload_tag, &payload, &mut head);
        if !payload.is_empty() {
            pieces.extend([head.split().freeze(), payload]);
        }
    }
    if !head.is_empty() {
        pieces.push(head.freeze());
    }
    pieces
}

/// An empty payload is left out, as protobuf leaves out what is not there.
fn len_with_payload(message: &impl Message, tag: u32, payload: &Bytes) -> usize {
    let payload_len = match payload.len() {
        0 => 0,
        len => key_len(tag) + encoded_len_varint(len as u64) + len,
    };
    message.encoded_len() + payload_len
}

fn put_prefix(len: usize, frame: &mut BytesMut) {
    frame.put_u8(0);
    frame.put_u32(u32::try_from(len).expect("answers are smaller than 4 GiB"));
}

/// Everything of a message but the payload itself.
fn put_head(message: &impl Message, tag: u32, payload: &Bytes, head: &mut BytesMut) {
    message.encode_raw(head);
    if !payload.is_empty() {
        encode_key(tag, WireType::LengthDelimited, head);
        encode_varint(payload.len() as u64, head);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::StreamBody;
    use troupe_proto::log::v1::{FetchStreamResponse, RecordBatch, RecordBatches};

    #[test]
    fn a_payload_beside_the_head_is_the_same_message() {
        let batches =
            RecordBatches { batches: vec![RecordBatch { base_offset: 5, ..Default::default() }] };
        let head = FetchStreamResponse { high_watermark: 9, ..Default::default() };
        let frames = encode_with_payload(&head, 15, batches.encode_to_vec().into());
        let joined = frames.concat();
        let whole = FetchStreamResponse { batches: Some(batches), ..head };
        assert_eq!(joined, encode(&whole));
    }

    #[test]
    fn a_payload_in_pieces_is_the_same_message() {
        use troupe_proto::wire::ReplicatePartitionsResponse;
        let head = ReplicatePartitionsResponse { channel: 3, ..Default::default() };
        for pieces in [vec![], vec![&b"one"[..]], vec![&b"one"[..], b"", b"two"]] {
            let batches = pieces.concat();
            let mut out = Vec::new();
            let pieces = pieces.into_iter().map(Bytes::copy_from_slice).collect();
            encode_with_pieces(&head, 15, pieces, &mut out);
            let whole = ReplicatePartitionsResponse { batches: batches.into(), ..head.clone() };
            assert_eq!(out.concat(), encode(&whole));
        }
    }

    #[test]
    fn payloads_beside_their_heads_are_the_same_message() {
        use troupe_proto::wire::{FetchResponse, PartitionFetch};
        for lens in [vec![], vec![0], vec![7], vec![0, 300, 0], vec![1, 70_000, 5]] {
            let partitions: Vec<PartitionFetch> = lens
                .into_iter()
                .map(|len| PartitionFetch {
                    high_watermark: len as i64,
                    batches: vec![9; len].into(),
                    ..Default::default()
                })
                .collect();
            let items = partitions.iter().cloned().map(|mut partition| {
                let batches = std::mem::take(&mut partition.batches);
                (partition, batches)
            });
            let pieces = encode_all_with_payload(1, 15, items.collect());
            assert_eq!(pieces.concat(), encode(&FetchResponse { partitions }));
        }
    }

    #[tokio::test]
    async fn messages_are_found_however_the_frames_are_cut() {
        let first = encode(&RecordBatch { base_offset: 7, ..Default::default() });
        let second = encode(&RecordBatch::default());
        let bytes = [&first[..], &second[..]].concat();
        for cut in 1..bytes.len() {
            let frames = [&bytes[..cut], &bytes[cut..]].map(|piece| {
                Ok::<_, Status>(http_body::Frame::data(Bytes::copy_from_slice(piece)))
            });
            let body = StreamBody::new(futures::stream::iter(frames));
            let mut reader = MessageReader::new(body, 1 << 20);
            let message = reader.next().await.unwrap().unwrap();
            assert_eq!(decode::<RecordBatch>(message).unwrap().base_offset, 7);
            assert!(reader.next().await.unwrap().unwrap().is_empty());
            assert!(reader.next().await.unwrap().is_none());
        }
    }
}
