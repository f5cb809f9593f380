//! How much of a message a client takes, and what becomes of a record that is larger.

use super::deliveries::{At, Deliveries};
use super::notice::{Notice, NoticeKind, RecordTooLarge};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::Offset;

/// What a client takes that does not say: the default of gRPC's libraries.
const DEFAULT_MESSAGE_BYTES: usize = 4 << 20;
/// Messages carry more than records.
const MIN_MESSAGE_BYTES: usize = 64 << 10;
/// Of a message, what is kept for all but the records.
pub const REST_BYTES: usize = 1 << 10;

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
    pub fn notice(&self, at: At<'_>, offset: Offset, bytes: usize) -> Notice {
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
        let record = RecordTooLarge {
            topic: at.topic.to_owned(),
            partition: at.partition,
            offset,
            message_bytes: needed,
            option: "max_message_bytes",
            limit: self.message_bytes,
            skipped: self.skips,
        };
        Notice { kind: NoticeKind::RecordTooLarge(record), message }
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
    pub fn takes(&self, message: &impl Deliveries, bytes: usize) -> bool {
        match message.count() {
            0 => bytes <= self.alone,
            _ => message.bytes() + bytes <= self.together,
        }
    }
}

/// Nothing is left to be read but records that are too large.
pub fn too_large(notice: &Notice) -> Error {
    let error = Error::new(ErrorCode::MessageTooLarge, notice.message.clone());
    match &notice.kind {
        NoticeKind::RecordTooLarge(record) => error
            .with("topic", &record.topic)
            .with("partition", record.partition)
            .with("offset", record.offset)
            .with("actual", record.message_bytes)
            .with("limit", record.limit)
            .with("option", record.option),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::super::cursor::Found;
    use super::*;
    use std::fmt;
    use troupe_proto::batch::RecordRef;

    /// An answer that is empty, and stays so.
    #[derive(Default)]
    struct Empty;

    impl Deliveries for Empty {
        fn bytes(&self) -> usize {
            0
        }

        fn count(&self) -> usize {
            0
        }

        fn push(&mut self, _: At<'_>, _: &Found<'_>, _: Option<&dyn fmt::Display>, _: u32) {}

        fn bytes_of(_: At<'_>, _: &RecordRef<'_>) -> usize {
            0
        }
    }

    #[test]
    fn what_a_client_takes_has_a_default_and_a_least() {
        let default = Takes::parse(None, false).unwrap();
        assert_eq!(default.message_bytes, 4 << 20);
        let refused = Takes::parse(Some(1_000), false).unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidRequest);
    }

    #[test]
    fn records_and_the_rest_of_a_message_are_no_more_than_the_client_takes() {
        let (takes, empty) = (Takes::parse(Some(100_000), false).unwrap(), Empty);
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
        let notice = takes.notice(At { topic: "t", partition: 3 }, Offset(7), 200_000);
        let error = too_large(&notice);
        let NoticeKind::RecordTooLarge(record) = notice.kind else { panic!("{notice:?}") };
        assert_eq!((record.offset, record.skipped), (Offset(7), false));
        // Whoever takes what the notice says takes the record.
        let enough = Takes::parse(u32::try_from(record.message_bytes).ok(), false).unwrap();
        assert!(enough.fits(200_000));
        assert_eq!((error.code, &*error.facts["offset"]), (ErrorCode::MessageTooLarge, "7"));
    }
}
