//! Walks the batches of a segment file by reading it: for recovery, rebuilding and dumping. Unlike a
//! mapping, a read that the disk refuses is an error and not a signal.

use crate::disk::{DiskFile, read_exact_at};
use std::io;
use troupe_proto::batch::{BatchError, BatchHeader, OVERHEAD};
use troupe_proto::ids::PartitionKey;

/// Read ahead so much at a time.
pub(crate) const CHUNK: usize = 256 << 10;

/// How closely to look.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Check {
    /// The header's form, and that the batch is whole.
    Form,
    /// Also that the header is one of this partition, as it was written.
    Headers(PartitionKey),
    /// Both checksums; without a key only the payload's.
    Checksums(Option<PartitionKey>),
}

/// What stands at the scanner's position.
#[derive(Debug)]
pub(crate) enum Found {
    Batch(BatchHeader),
    Bad(BatchError),
    End,
}

pub(crate) struct Scanner<'a, F> {
    file: &'a F,
    position: u64,
    end: u64,
    buffer: Vec<u8>,
    /// Where in the file the buffer's content stands.
    buffered_from: u64,
}

impl<'a, F: DiskFile> Scanner<'a, F> {
    /// From `position` up to `end`, which must not lie beyond the file's end.
    pub(crate) fn new(file: &'a F, position: u64, end: u64) -> Self {
        Scanner { file, position, end, buffer: Vec::new(), buffered_from: position }
    }

    /// Where the next batch starts; after [`Found::Bad`], the bad one.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Goes on at `position`, with what stands there.
    pub(crate) fn skip_to(&mut self, position: u64) {
        self.position = position;
        self.buffer.clear();
        self.buffered_from = position;
    }

    /// The batch at the position, which moves behind it unless it is bad.
    /// A file that ends before it was said to does so within a batch.
    pub(crate) fn next(&mut self, check: Check) -> io::Result<Found> {
        match self.look(check) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Ok(Found::Bad(BatchError::Truncated))
            }
            found => found,
        }
    }

    fn look(&mut self, check: Check) -> io::Result<Found> {
        let left = self.end.saturating_sub(self.position);
        if left == 0 {
            return Ok(Found::End);
        }
        if left < OVERHEAD as u64 {
            return Ok(Found::Bad(BatchError::Truncated));
        }
        let head = self.bytes(OVERHEAD)?;
        let decoded = match check {
            Check::Headers(key) | Check::Checksums(Some(key)) => {
                BatchHeader::decode_verified(head, &key)
            }
            Check::Checksums(None) | Check::Form => BatchHeader::decode(head).map(|(head, _)| head),
        };
        let header = match decoded {
            Ok(header) => header,
            Err(error) => return Ok(Found::Bad(error)),
        };
        let len = header.encoded_len();
        if left < len as u64 {
            return Ok(Found::Bad(BatchError::Truncated));
        }
        if let Check::Checksums(_) = check {
            let computed = crc_fast::crc32_iscsi(&self.bytes(len)?[OVERHEAD..]);
            let stored = header.payload_crc;
            if computed != stored {
                return Ok(Found::Bad(BatchError::PayloadChecksum { stored, computed }));
            }
        }
        self.position += len as u64;
        Ok(Found::Batch(header))
    }

    /// The batch that [`Scanner::next`] has given last, if it has looked at checksums.
    pub(crate) fn taken(&self, header: &BatchHeader) -> &[u8] {
        let end = (self.position - self.buffered_from) as usize;
        &self.buffer[end - header.encoded_len()..end]
    }

    /// The next `count` bytes, which lie before the end.
    fn bytes(&mut self, count: usize) -> io::Result<&[u8]> {
        let buffered_to = self.buffered_from + self.buffer.len() as u64;
        if self.position + count as u64 > buffered_to {
            let len = CHUNK.max(count).min((self.end - self.position) as usize);
            self.buffer.resize(len, 0);
            self.buffered_from = self.position;
            if let Err(error) = read_exact_at(self.file, self.position, &mut self.buffer) {
                self.buffer.clear();
                return Err(error);
            }
        }
        let start = (self.position - self.buffered_from) as usize;
        Ok(&self.buffer[start..start + count])
    }
}
