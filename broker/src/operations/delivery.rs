//! Records as clients of the thin API get them.
//!
//! ```text
//!  slice ─ SliceCursor ─ record ─► AnswerWriter ─► message ─► DemandBody, when the client takes it
//!              │ ▲
//!       packed ▼ │ records
//!             Unpacker: for all readers of the node
//! ```
//!
//! Promises: for a stream that does not read, nothing is read, unpacked or encoded; what it costs is the message that
//! it has not taken.

mod answer;
mod cursor;
mod lost;
mod pace;

pub use answer::{AnswerWriter, At, delivery_len};
pub use cursor::{Choice, Found, SliceCursor, Step};
pub use lost::Lost;
pub use pace::{MOST_BYTES, Pace};

use crate::allocator;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::v1 as pb;

/// What a client takes that does not say: the default of gRPC's libraries.
const DEFAULT_MESSAGE_BYTES: usize = 4 << 20;
/// Messages carry more than records.
const MIN_MESSAGE_BYTES: usize = 64 << 10;
/// Of a message, what is kept for all but the records.
pub const REST_BYTES: usize = 1 << 10;
/// Once so many streams have ended, their memory is given back.
const STREAMS_WORTH_TRIMMING: usize = 64;
const TRIM_DELAY: Duration = Duration::from_secs(1);

/// What the streams of a node share.
#[derive(Default)]
pub struct DeliveryPool {
    streams: AtomicUsize,
    ended: AtomicUsize,
}

impl DeliveryPool {
    /// Streams that are open.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Counts one more stream, for as long as it is held.
    pub fn open(self: &Arc<Self>) -> OpenStream {
        self.streams.fetch_add(1, Ordering::Relaxed);
        OpenStream(Arc::clone(self))
    }
}

/// A stream counts as open.
pub struct OpenStream(Arc<DeliveryPool>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        let shared = &self.0;
        shared.streams.fetch_sub(1, Ordering::Relaxed);
        let ended = shared.ended.fetch_add(1, Ordering::Relaxed) + 1;
        if ended == STREAMS_WORTH_TRIMMING
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(trim(Arc::clone(shared)));
        }
    }
}

/// Gives back what streams have left behind, once for all that end at about the same time.
async fn trim(shared: Arc<DeliveryPool>) {
    tokio::time::sleep(TRIM_DELAY).await;
    shared.ended.store(0, Ordering::Relaxed);
    // Fails only if the node is stopping.
    let _ = tokio::task::spawn_blocking(allocator::give_back).await;
}

/// What a client says that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takes {
    pub message_bytes: usize,
    /// Records that are larger are passed over.
    pub skips: bool,
}

impl Takes {
    /// # Errors
    /// `INVALID_REQUEST`: so little that not even a notice may fit.
    pub fn parse(asked: Option<u32>, skips: bool) -> Result<Takes, Error> {
        let message_bytes = asked.map_or(DEFAULT_MESSAGE_BYTES, |bytes| bytes as usize);
        if message_bytes < MIN_MESSAGE_BYTES {
            let message = format!(
                "max_message_bytes {message_bytes} is too small: at least {MIN_MESSAGE_BYTES} are \
                 needed; unset, it is {DEFAULT_MESSAGE_BYTES}"
            );
            return Err(Error::new(ErrorCode::InvalidRequest, message));
        }
        Ok(Takes { message_bytes, skips })
    }

    /// Whether a message of the client's may have that many bytes of records.
    pub fn fits(&self, bytes: usize) -> bool {
        bytes + REST_BYTES <= self.message_bytes
    }

    /// What records may take of a message of about `wanted` bytes that says `rest` bytes beside them. Whatever fits
    /// finds space as soon as there is no more to say than [`REST_BYTES`].
    pub fn space(&self, wanted: usize, rest: usize) -> Space {
        let alone = self.message_bytes.saturating_sub(rest);
        Space { together: wanted.saturating_sub(rest).min(alone), alone }
    }

    /// That a record is too large.
    pub fn notice(&self, at: At<'_>, offset: i64, bytes: usize) -> pb::Notice {
        let needed = bytes + REST_BYTES;
        let then = match self.skips {
            true => "it is passed over, as skip_too_large asks",
            false => "this partition is read no further",
        };
        let message = format!(
            "record {offset} in partition {} of `{}` makes a message of {needed} bytes, and this \
             client takes {}: {then}; a larger max_message_bytes, and as large a limit for \
             received messages in the client, lets it through, and skip_too_large passes it over",
            at.partition, at.topic, self.message_bytes
        );
        let record = pb::RecordTooLarge {
            topic: at.topic.to_owned(),
            partition: at.partition,
            offset,
            message_bytes: needed as i64,
            option: "max_message_bytes".to_owned(),
            limit: self.message_bytes as i64,
            skipped: self.skips,
        };
        let kind = pb::NoticeKind::RecordTooLarge.into();
        pb::Notice { kind, message, record_too_large: Some(record), ..Default::default() }
    }
}

/// What records may take of one message.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// Several of them.
    together: usize,
    /// Or one that is larger: beyond that the client takes no message.
    alone: usize,
}

impl Space {
    /// Whether another record of that many bytes goes into the message.
    pub fn takes(&self, message: &AnswerWriter, bytes: usize) -> bool {
        match message.deliveries() {
            0 => bytes <= self.alone,
            _ => message.len() + bytes <= self.together,
        }
    }
}

/// Nothing is left to be read but records that are too large.
pub fn too_large(notice: &pb::Notice) -> Error {
    let error = Error::new(ErrorCode::MessageTooLarge, notice.message.clone());
    match &notice.record_too_large {
        Some(record) => error
            .with("topic", &record.topic)
            .with("partition", record.partition)
            .with("offset", record.offset)
            .with("actual", record.message_bytes)
            .with("limit", record.limit)
            .with("option", &record.option),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_takes_has_a_default_and_a_least() {
        let default = Takes::parse(None, false).unwrap();
        assert_eq!(default.message_bytes, 4 << 20);
        let refused = Takes::parse(Some(1_000), false).unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidRequest);
    }

    #[test]
    fn records_and_the_rest_of_a_message_are_no_more_than_the_client_takes() {
        let (takes, empty) = (Takes::parse(Some(100_000), false).unwrap(), AnswerWriter::new());
        // However much its pace would allow.
        let space = takes.space(1 << 20, 3_000);
        assert!(space.together <= 97_000);
        assert!(space.takes(&empty, 97_000) && !space.takes(&empty, 97_001));
        // A slow client gets one record that is larger than its pace, but no more than it takes.
        let space = takes.space(16 << 10, REST_BYTES);
        assert!(space.together <= 15 << 10);
        assert!(takes.fits(98_976) && space.takes(&empty, 98_976));
        assert!(!takes.space(16 << 10, 200_000).takes(&empty, 1));
    }

    #[test]
    fn a_notice_names_the_record_and_the_option_that_helps() {
        let takes = Takes::parse(Some(100_000), false).unwrap();
        assert!(takes.fits(90_000) && !takes.fits(100_000));
        let notice = takes.notice(At { topic: "t", partition: 3 }, 7, 200_000);
        let error = too_large(&notice);
        let record = notice.record_too_large.unwrap();
        assert_eq!((record.offset, record.skipped), (7, false));
        // Whoever takes what the notice says takes the record.
        let enough = Takes::parse(u32::try_from(record.message_bytes).ok(), false).unwrap();
        assert!(enough.fits(200_000));
        assert_eq!((error.code, &*error.facts["offset"]), (ErrorCode::MessageTooLarge, "7"));
    }
}
