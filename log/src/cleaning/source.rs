//! The segments that a pass reads: in order, as files, each batch whole and with both checksums checked.

use super::{CleaningError, Pace, UnderWay};
use crate::LogError;
use crate::disk::{Disk, DiskFile};
use crate::place::{Kind, Place};
use crate::scan::{Check, Found, Scanner};
use std::cell::RefCell;
use std::io;
use std::ops::ControlFlow;
use troupe_proto::batch::{BatchError, BatchHeader, Compression, Limits, OVERHEAD};
use troupe_proto::ids::{Offset, PartitionKey};

/// A closed segment as it was when the pass began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) base: Offset,
    pub(crate) end: Offset,
    pub(crate) size: u64,
    /// Where the first batch begins that holds something that was not deleted.
    pub(crate) needed_from: (Offset, u64),
    /// Entries of its index of aborted transactions.
    pub(crate) aborted: usize,
}

/// Asks after every step whether there shall be another.
pub(super) struct Throttle<'a, D: Disk> {
    pace: RefCell<&'a mut dyn Pace>,
    under_way: &'a UnderWay<D>,
}

impl<'a, D: Disk> Throttle<'a, D> {
    pub(super) fn new(pace: &'a mut dyn Pace, under_way: &'a UnderWay<D>) -> Throttle<'a, D> {
        Throttle { pace: RefCell::new(pace), under_way }
    }

    /// Whether the segment is not in the log any more: what it held is below all that stays.
    pub(super) fn is_gone(&self, source: &Source) -> bool {
        source.end <= self.under_way.gone_below()
    }

    /// What comes next changes the file system.
    pub(super) fn will_write(&self) {
        self.pace.borrow_mut().will_write();
    }

    /// So many bytes were read or written.
    pub(super) fn moved(&self, bytes: u64) -> Result<(), CleaningError> {
        if self.under_way.is_overtaken() {
            return Err(CleaningError::Overtaken);
        }
        match self.pace.borrow_mut().moved(bytes) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(CleaningError::Aborted),
        }
    }
}

/// Why a batch could not be taken.
pub(super) enum Failure {
    /// It is not what was written.
    Batch(BatchError),
    Other(CleaningError),
}

impl From<BatchError> for Failure {
    fn from(error: BatchError) -> Self {
        Failure::Batch(error)
    }
}

impl From<CleaningError> for Failure {
    fn from(error: CleaningError) -> Self {
        Failure::Other(error)
    }
}

/// A batch as it stands in its segment.
pub(super) struct SourceBatch<'a> {
    pub(super) header: BatchHeader,
    pub(super) bytes: &'a [u8],
    /// Where it ends in its segment.
    pub(super) end: u64,
    /// The segment ends behind it.
    pub(super) is_last: bool,
}

impl SourceBatch<'_> {
    /// The records, unpacked into `buffer` if need be.
    pub(super) fn records<'b>(&'b self, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], BatchError> {
        let payload = &self.bytes[OVERHEAD..];
        match self.header.attributes.compression() {
            Compression::None => Ok(payload),
            compression => {
                buffer.clear();
                compression.unpack(payload, Limits::default(), |piece| {
                    buffer.extend_from_slice(piece);
                    Ok(())
                })?;
                Ok(buffer)
            }
        }
    }
}

/// Hands on the batches of a segment up to the byte `to`, until one breaks; none of one that is gone.
pub(super) fn each_batch<D: Disk>(
    place: &Place<D>,
    key: &PartitionKey,
    source: &Source,
    to: u64,
    throttle: &Throttle<'_, D>,
    mut each: impl FnMut(&SourceBatch<'_>) -> Result<ControlFlow<()>, Failure>,
) -> Result<(), CleaningError> {
    let path = place.file_of(source.base, Kind::Log);
    let file = match place.disk.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && throttle.is_gone(source) => {
            return Ok(());
        }
        opened => opened.map_err(|e| LogError::io("open", &path, e))?,
    };
    file.read_nothing_ahead();
    let mut scanner = Scanner::new(&file, 0, to);
    let mut next = source.base;
    loop {
        let position = scanner.position();
        let damaged =
            |cause: String| CleaningError::Damaged { path: path.clone(), position, cause };
        let header = match scanner.next(Check::Checksums(Some(*key))) {
            Ok(Found::Batch(header)) => header,
            Ok(Found::End) => return Ok(()),
            // nobody needs it
            Ok(Found::Bad(_)) if position < source.needed_from.1 => {
                let (offset, position) = source.needed_from;
                next = offset;
                scanner.skip_to(position);
                continue;
            }
            Ok(Found::Bad(error)) => return Err(damaged(error.to_string())),
            Err(error) => return Err(LogError::io("read", &path, error).into()),
        };
        if header.base_offset < next || header.end_offset() > source.end {
            let (given, end) = (header.base_offset, header.end_offset());
            let cause = format!("offsets {given} to {end} where {next} to {} belong", source.end);
            return Err(damaged(cause));
        }
        next = header.end_offset();
        let bytes = scanner.taken(&header);
        throttle.moved(bytes.len() as u64)?;
        let end = position + bytes.len() as u64;
        match each(&SourceBatch { header, bytes, end, is_last: end == source.size }) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => return Ok(()),
            Err(Failure::Batch(error)) => return Err(damaged(error.to_string())),
            Err(Failure::Other(error)) => return Err(error),
        }
    }
}
