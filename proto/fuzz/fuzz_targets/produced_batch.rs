//! A produce request's batch, cut into pieces at a place that the input chooses. What is accepted, the
//! generated code must read too.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use prost::Message;
use troupe_proto::batch::{Limits, ProducedBatch};
use troupe_proto::log::v1::RecordBatch;
use troupe_proto::rope::Rope;

const LIMITS: Limits = Limits { max_bytes: 4 << 20, max_ratio: 1000 };

fuzz_target!(|input: &[u8]| {
    let Some((&size, message)) = input.split_first() else { return };
    let mut rope = Rope::new();
    for piece in message.chunks(usize::from(size) + 1) {
        rope.push(Bytes::copy_from_slice(piece));
    }
    let Ok(produced) = ProducedBatch::decode(rope) else { return };
    let verdict = produced.verify(LIMITS);
    let whole = ProducedBatch::decode(Bytes::copy_from_slice(message).into());
    assert_eq!(verdict, whole.expect("pieces make no difference").verify(LIMITS));
    if verdict.is_ok() {
        let typed = RecordBatch::decode(message).expect("verified batches are messages");
        assert_eq!(typed.record_count, produced.record_count);
    }
});
