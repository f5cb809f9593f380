//! Answers that carry deliveries ([`Deliveries`]), encoded straight from the records of a batch.
//!
//! Subscribe, Pull and Tail have deliveries as field 1 of their answers; what else an answer says goes behind. Small
//! values are copied once, into the message; large ones that lie in a file or among the node's recent batches go out
//! as they lie.

use super::message::PREFIX_LEN;
use crate::operations::{At, Deliveries, Found};
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use std::fmt::{self, Write as _};
use troupe_proto::batch::RecordRef;

/// Field number of the deliveries, in every answer that has some.
const DELIVERIES: u32 = 1;
/// Values from this size on are not copied.
const SLICED_BYTES: usize = 16 << 10;
/// Every field of a delivery, a record and a header has a tag of one byte.
const TAG_LEN: usize = 1;
/// Of a delivery, what is not known before it is decided, at its longest: its id, and which attempt it is.
const UNDECIDED_LEN: usize = TAG_LEN + 1 + 64 + TAG_LEN + 5;

/// An answer that is being filled.
pub struct AnswerWriter {
    /// Before what is being filled: encoded, and a value as it lies, in turns.
    done: Vec<(BytesMut, Bytes)>,
    filling: BytesMut,
    len: usize,
    deliveries: usize,
    ack_id: String,
}

impl Default for AnswerWriter {
    fn default() -> AnswerWriter {
        let mut filling = BytesMut::new();
        filling.put_bytes(0, PREFIX_LEN);
        AnswerWriter { done: Vec::new(), filling, len: 0, deliveries: 0, ack_id: String::new() }
    }
}

impl Deliveries for AnswerWriter {
    fn bytes(&self) -> usize {
        self.len
    }

    fn count(&self) -> usize {
        self.deliveries
    }

    fn push(
        &mut self,
        at: At<'_>,
        found: &Found<'_>,
        ack_id: Option<&dyn fmt::Display>,
        attempt: u32,
    ) {
        self.ack_id.clear();
        if let Some(id) = ack_id {
            // A string takes everything.
            let _ = write!(self.ack_id, "{id}");
        }
        let attempt = i64::from(attempt.min(i32::MAX as u32));
        let record = &found.record;
        let record_len = record_len(record);
        let len = head_len(at, record)
            + field_len(record_len)
            + text_len(&self.ack_id)
            + int_len(attempt);
        put_len(DELIVERIES, len, &mut self.filling);
        put_text(1, at.topic, &mut self.filling);
        put_int(2, at.partition.into(), &mut self.filling);
        put_int(3, record.offset.to_wire(), &mut self.filling);
        put_len(4, record_len, &mut self.filling);
        self.put_record(found);
        put_text(5, &self.ack_id, &mut self.filling);
        put_int(6, attempt, &mut self.filling);
        self.deliveries += 1;
        self.len += field_len(len);
    }

    fn bytes_of(at: At<'_>, record: &RecordRef<'_>) -> usize {
        field_len(head_len(at, record) + field_len(record_len(record)) + UNDECIDED_LEN)
    }
}

impl AnswerWriter {
    fn put_record(&mut self, found: &Found<'_>) {
        let record = &found.record;
        if let Some(key) = record.key {
            put_bytes(1, key, &mut self.filling);
        }
        match record.value {
            Some(value) if value.len() >= SLICED_BYTES && !found.is_unpacked => {
                put_len(2, value.len(), &mut self.filling);
                self.done.push((self.filling.split(), found.records.slice_ref(value)));
            }
            Some(value) => put_bytes(2, value, &mut self.filling),
            None => {}
        }
        for (key, value) in record.headers() {
            put_len(3, header_len(key, value), &mut self.filling);
            put_text(1, key, &mut self.filling);
            if let Some(value) = value {
                put_bytes(2, value, &mut self.filling);
            }
        }
        encode_key(4, WireType::Varint, &mut self.filling);
        encode_varint(record.timestamp_ms as u64, &mut self.filling);
    }

    /// The message as it goes out, with `rest` behind the deliveries.
    pub fn finish(mut self, rest: &impl Message) -> Vec<Bytes> {
        rest.encode_raw(&mut self.filling);
        let len = u32::try_from(self.len + rest.encoded_len());
        let len = len.expect("answers are smaller than 4 GiB");
        let first = self.done.first_mut().map_or(&mut self.filling, |(encoded, _)| encoded);
        first[1..PREFIX_LEN].copy_from_slice(&len.to_be_bytes());
        let mut pieces = Vec::with_capacity(2 * self.done.len() + 1);
        for (encoded, value) in self.done {
            pieces.extend([encoded.freeze(), value]);
        }
        if !self.filling.is_empty() {
            pieces.push(self.filling.freeze());
        }
        pieces
    }
}

fn head_len(at: At<'_>, record: &RecordRef<'_>) -> usize {
    text_len(at.topic) + int_len(at.partition.into()) + int_len(record.offset.to_wire())
}

fn record_len(record: &RecordRef<'_>) -> usize {
    let optional = |bytes: Option<&[u8]>| bytes.map_or(0, |bytes| field_len(bytes.len()));
    let headers = record.headers().map(|(key, value)| field_len(header_len(key, value)));
    let timestamp = TAG_LEN + encoded_len_varint(record.timestamp_ms as u64);
    optional(record.key) + optional(record.value) + headers.sum::<usize>() + timestamp
}

fn header_len(key: &str, value: Option<&[u8]>) -> usize {
    text_len(key) + value.map_or(0, |value| field_len(value.len()))
}

/// A field of that many bytes, with its tag and length.
pub(super) fn field_len(len: usize) -> usize {
    TAG_LEN + encoded_len_varint(len as u64) + len
}

/// Protobuf leaves out what is empty or zero.
pub(super) fn text_len(text: &str) -> usize {
    if text.is_empty() { 0 } else { field_len(text.len()) }
}

pub(super) fn int_len(number: i64) -> usize {
    if number == 0 { 0 } else { TAG_LEN + encoded_len_varint(number as u64) }
}

fn put_len(tag: u32, len: usize, out: &mut BytesMut) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

fn put_bytes(tag: u32, bytes: &[u8], out: &mut BytesMut) {
    put_len(tag, bytes.len(), out);
    out.put_slice(bytes);
}

fn put_text(tag: u32, text: &str, out: &mut BytesMut) {
    if !text.is_empty() {
        put_bytes(tag, text.as_bytes(), out);
    }
}

fn put_int(tag: u32, number: i64, out: &mut BytesMut) {
    if number != 0 {
        encode_key(tag, WireType::Varint, out);
        encode_varint(number as u64, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::cursors::{cursor_of, walk};
    use proptest::prelude::*;
    use troupe_proto::v1 as pb;

    type Given = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>, i64);

    fn plain(record: &RecordRef<'_>) -> pb::Record {
        let own = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
        let headers = record
            .headers()
            .map(|(key, value)| pb::Header { key: key.to_owned(), value: value.map(own) });
        pb::Record {
            key: record.key.map(own),
            value: record.value.map(own),
            headers: headers.collect(),
            timestamp_ms: Some(record.timestamp_ms),
            partition: None,
        }
    }

    fn records() -> impl Strategy<Value = Vec<Given>> {
        let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..200));
        let value = prop_oneof![
            4 => bytes(),
            1 => (SLICED_BYTES - 2..SLICED_BYTES + 300).prop_map(|len| Some(vec![7; len])),
        ];
        let headers = prop::collection::vec((".{0,5}", bytes()), 0..3);
        prop::collection::vec((bytes(), value, headers, any::<i32>().prop_map(i64::from)), 1..8)
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_the_generated_code_would_write(
            records in records(), topic in ".{0,9}", partition in 0..1000i32,
            ids in any::<bool>(), attempt in 0..3u32,
        ) {
            let mut cursor = cursor_of(&records);
            let (mut writer, mut bound) = (AnswerWriter::default(), 0);
            let at = At { topic: &topic, partition };
            let expected: Vec<pb::Delivery> = walk(&mut cursor, |found| {
                bound += AnswerWriter::bytes_of(at, &found.record);
                let id = found.record.offset;
                let id: Option<&dyn fmt::Display> = if ids { Some(&id) } else { None };
                writer.push(at, found, id, attempt);
                pb::Delivery {
                    topic: topic.clone(),
                    partition,
                    offset: found.record.offset.to_wire(),
                    ack_id: id.map(ToString::to_string).unwrap_or_default(),
                    attempt: attempt as i32,
                    record: Some(plain(&found.record)),
                }
            });
            prop_assert_eq!(expected.len(), records.len());
            prop_assert!(writer.bytes() <= bound);
            let notice = pb::Notice { message: "n".into(), ..Default::default() };
            let rest = pb::SubscribeResponse { notice: Some(notice), ..Default::default() };
            let whole = pb::SubscribeResponse { deliveries: expected, ..rest.clone() };
            let written = writer.finish(&rest).concat();
            let len = u32::try_from(whole.encoded_len()).unwrap();
            prop_assert_eq!(&written[..PREFIX_LEN], [&[0][..], &len.to_be_bytes()].concat());
            prop_assert_eq!(&written[PREFIX_LEN..], whole.encode_to_vec());
        }
    }
}
