//! Single files of a log, read from outside: for `troupe log dump` and `troupe log verify` (S31, S32).
//!
//! Takes no part in the log's life: opens files to read, repairs nothing. A damaged file is described as far
//! as it can be.

use crate::checkpoint::OffsetCheckpoint;
use crate::cleaning::SWAP;
use crate::disk::{Disk, FileDisk, read_exact_at};
use crate::index::{OffsetIndex, TimeIndex};
use crate::place::{Kind, Place};
use crate::recovery::FoundSegment;
use crate::retention::DELETED;
use crate::segment::indexed_timestamp;
use crate::{Damage, LogError, checkpoint, damage, snapshot};
use bytes::Bytes;
use std::fs::File;
use std::io;
use std::path::Path;
use troupe_proto::batch::{BatchError, BatchHeader, OVERHEAD};
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionKey};

/// What a file of a partition's directory is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    Log,
    OffsetIndex,
    TimeIndex,
    Snapshot,
    /// `leader-epoch-checkpoint`.
    Epochs,
    /// One of the other small text files.
    Checkpoint,
}

impl FileKind {
    /// `None` for names that no log gives.
    pub fn of(path: &Path) -> Option<FileKind> {
        let name = path.file_name()?.to_str()?;
        match name {
            checkpoint::EPOCHS => Some(FileKind::Epochs),
            checkpoint::OFFSETS
            | checkpoint::LOG_START
            | checkpoint::CLEANER
            | SWAP
            | checkpoint::METADATA
            | checkpoint::DAMAGE => Some(FileKind::Checkpoint),
            _ => Kind::parse(name).map(|(_, kind)| match kind {
                Kind::Log => FileKind::Log,
                Kind::OffsetIndex => FileKind::OffsetIndex,
                Kind::TimeIndex => FileKind::TimeIndex,
                Kind::Snapshot => FileKind::Snapshot,
            }),
        }
    }
}

/// The offset in a file's name.
pub fn base_offset(path: &Path) -> Option<Offset> {
    Kind::parse(path.file_name()?.to_str()?).map(|(base, _)| base)
}

/// One batch of a `.log` file.
#[derive(Clone, Debug)]
pub struct DumpedBatch {
    pub position: u64,
    pub header: BatchHeader,
    pub header_crc: u32,
    /// As it is stored, that is compressed.
    pub payload: Bytes,
    /// A checksum that does not hold.
    pub fault: Option<BatchError>,
}

/// The batches of a `.log` file, one after the other. Ends behind the first place that is no batch.
pub struct LogFile {
    file: File,
    size: u64,
    position: u64,
    key: Option<PartitionKey>,
}

/// Why a `.log` file ends before its last byte.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DumpError {
    #[error("no batch at byte {position}, {left} bytes before the end: {cause}")]
    BadBatch { position: u64, left: u64, cause: BatchError },
    #[error(transparent)]
    Log(#[from] LogError),
}

impl LogFile {
    /// The partition's identity, which the header checksums cover, is read from the file beside it; without
    /// that only payload checksums are checked.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn open(path: &Path) -> Result<LogFile, LogError> {
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (size, file) = opened.map_err(|e| LogError::io("open", path, e))?;
        let beside = path.with_file_name(checkpoint::METADATA);
        let metadata = FileDisk.read(&beside).map_err(|e| LogError::io("read", &beside, e))?;
        let key = metadata.and_then(|content| checkpoint::decode_metadata(&content));
        Ok(LogFile { file, size, position: 0, key })
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// The partition that the file's directory says it belongs to.
    pub fn key(&self) -> Option<PartitionKey> {
        self.key
    }

    fn read(&self, position: u64, len: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; len];
        read_exact_at(&self.file, position, &mut bytes)?;
        Ok(Bytes::from(bytes))
    }

    fn take(&mut self, left: u64) -> Result<DumpedBatch, DumpError> {
        let position = self.position;
        let bad = |cause| DumpError::BadBatch { position, left, cause };
        let failed = |e| LogError::io("read", Path::new("the log file"), e);
        if left < OVERHEAD as u64 {
            return Err(bad(BatchError::Truncated));
        }
        let head = self.read(position, OVERHEAD).map_err(failed)?;
        let (header, header_crc) = BatchHeader::decode(&head).map_err(bad)?;
        if left < header.encoded_len() as u64 {
            return Err(bad(BatchError::Truncated));
        }
        let payload = self.read(position + OVERHEAD as u64, header.payload_len as usize);
        let payload = payload.map_err(failed)?;
        let identity = self.key.and_then(|key| BatchHeader::decode_verified(&head, &key).err());
        let (stored, computed) = (header.payload_crc, crc_fast::crc32_iscsi(&payload));
        let content =
            (stored != computed).then_some(BatchError::PayloadChecksum { stored, computed });
        self.position += header.encoded_len() as u64;
        Ok(DumpedBatch { position, header, header_crc, payload, fault: identity.or(content) })
    }
}

impl Iterator for LogFile {
    type Item = Result<DumpedBatch, DumpError>;

    fn next(&mut self) -> Option<Self::Item> {
        let left = self.size.checked_sub(self.position).filter(|left| *left > 0)?;
        let taken = self.take(left);
        if taken.is_err() {
            self.position = self.size;
        }
        Some(taken)
    }
}

/// A `.index` file: last offset of a batch, position of that batch.
///
/// # Errors
/// The file cannot be read, or its entries are not in order.
pub fn offset_index(path: &Path) -> Result<Vec<(Offset, u32)>, LogError> {
    let content = read_whole(path)?;
    let base = base_offset(path).unwrap_or_default();
    let index = OffsetIndex::from_bytes(base, u64::MAX, content);
    Ok(index.ok_or_else(|| not_an_index(path))?.iter().collect())
}

/// A `.timeindex` file: largest timestamp so far, last offset of the batch that brought it.
///
/// # Errors
/// The file cannot be read, or its entries are not in order.
pub fn time_index(path: &Path) -> Result<Vec<(i64, Offset)>, LogError> {
    let content = read_whole(path)?;
    let base = base_offset(path).unwrap_or_default();
    let index = TimeIndex::from_bytes(base, content);
    Ok(index.ok_or_else(|| not_an_index(path))?.iter().collect())
}

/// A `.snapshot` file: a serialised `troupe.log.v1.ProducerSnapshot`.
///
/// # Errors
/// The file cannot be read, or its checksum does not hold.
pub fn producer_snapshot(path: &Path) -> Result<Bytes, LogError> {
    let content = read_whole(path)?;
    snapshot::unseal(content.into()).ok_or_else(|| corrupt(path, "the checksum does not match"))
}

/// A `leader-epoch-checkpoint`: epochs and their first offsets.
///
/// # Errors
/// The file cannot be read, or its checksum does not hold.
pub fn leader_epochs(path: &Path) -> Result<Vec<(LeaderEpoch, Offset)>, LogError> {
    let content = read_whole(path)?;
    checkpoint::decode_epochs(&content).ok_or_else(|| corrupt(path, "the checksum does not match"))
}

/// The lines of one of the other small text files, without version and checksum.
///
/// # Errors
/// The file cannot be read, or its checksum does not hold.
pub fn checkpoint_lines(path: &Path) -> Result<Vec<String>, LogError> {
    let content = read_whole(path)?;
    let lines = checkpoint::unseal(&content);
    let lines = lines.ok_or_else(|| corrupt(path, "the checksum does not match"))?;
    Ok(lines.lines().map(str::to_owned).collect())
}

/// What one of the small text files says is wrong with its partition: segments and indexes that it knows to be on
/// disk and that are gone or shorter, damage that was found before.
///
/// # Errors
/// A file or the directory cannot be read, or a checksum does not hold.
pub fn missing_files(path: &Path) -> Result<Vec<String>, LogError> {
    let content = read_whole(path)?;
    let unsound = || corrupt(path, "the checksum does not match");
    match path.file_name().and_then(|name| name.to_str()) {
        Some(checkpoint::DAMAGE) => {
            let damage = checkpoint::decode_damage(&content).ok_or_else(unsound)?;
            let Damage { cause, complete_below } = damage;
            Ok(vec![format!("records from {complete_below} on may be missing: {cause}")])
        }
        Some(checkpoint::OFFSETS) => {
            let checkpoint = OffsetCheckpoint::decode(&content).ok_or_else(unsound)?;
            let dir = path.parent().unwrap_or(Path::new(".")).to_owned();
            missing_from(&Place { disk: FileDisk, dir }, &checkpoint)
        }
        _ => Ok(Vec::new()),
    }
}

fn missing_from(
    place: &Place<FileDisk>,
    checkpoint: &OffsetCheckpoint,
) -> Result<Vec<String>, LogError> {
    let names = place.disk.list(&place.dir).map_err(|e| LogError::io("list", &place.dir, e))?;
    let names = names.unwrap_or_default();
    let log_start = place.read(checkpoint::LOG_START)?;
    let log_start = log_start.and_then(|content| checkpoint::decode_log_start(&content));
    let mut files = Vec::new();
    for (base, _) in
        names.iter().filter_map(|name| Kind::parse(name).filter(|(_, kind)| *kind == Kind::Log))
    {
        let path = place.file_of(base, Kind::Log);
        match place.disk.size(&path) {
            Ok(size) => files.push(FoundSegment { base, size }),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {}
            Err(error) => return Err(LogError::io("look at", &path, error)),
        }
    }
    let was_deleted = |base, end| {
        let name = Kind::Log.name(base) + DELETED;
        end <= log_start.unwrap_or_default() || names.contains(&name)
    };
    let mut faults: Vec<_> = damage::missing(place, checkpoint, &files, was_deleted)
        .into_iter()
        .map(|(_, fault)| fault)
        .collect();
    for (base, _) in &checkpoint.closed {
        let is_there = |kind: Kind| names.contains(&kind.name(*base));
        for kind in [Kind::OffsetIndex, Kind::TimeIndex] {
            if is_there(Kind::Log) && !is_there(kind) {
                let path = place.file_of(*base, kind);
                faults.push(format!("{} is gone; a node makes it again", path.display()));
            }
        }
    }
    Ok(faults)
}

/// What [`verify_segment`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentReport {
    pub batches: u64,
    pub records: u64,
    /// Bytes that whole batches take up.
    pub bytes: u64,
    /// Offset of the first batch, and behind the last.
    pub offsets: Option<(Offset, Offset)>,
    pub largest_timestamp: Option<i64>,
    /// Whether header checksums could be checked: that takes the partition's identity.
    pub identity_known: bool,
    /// Everything that is wrong, in words.
    pub faults: Vec<String>,
}

/// Checks a `.log` file, and the indexes beside it if there are any. Of the segment that takes appends on a
/// running node, the indexes in the files lag behind; that is no fault.
///
/// # Errors
/// A file cannot be read. What is wrong with their content is in the report.
pub fn verify_segment(path: &Path) -> Result<SegmentReport, LogError> {
    let mut file = LogFile::open(path)?;
    let mut report =
        SegmentReport { identity_known: file.key().is_some(), ..SegmentReport::default() };
    let base = base_offset(path);
    let mut places = Vec::new();
    for batch in &mut file {
        match batch {
            Ok(batch) => report.note(&batch, base, &mut places),
            Err(DumpError::Log(error)) => return Err(error),
            Err(error @ DumpError::BadBatch { .. }) => report.faults.push(error.to_string()),
        }
    }
    if let Some(entries) = beside(path, "index", offset_index, &mut report)? {
        for (offset, position) in entries {
            let found = places.binary_search_by_key(&u64::from(position), |place| place.0);
            if !found.is_ok_and(|at| places[at].1 == offset) {
                let fault = format!("index entry {offset} at byte {position}: no such batch");
                report.faults.push(fault);
            }
        }
    }
    if let Some(entries) = beside(path, "timeindex", time_index, &mut report)? {
        for (timestamp, offset) in entries {
            let found = places.binary_search_by_key(&offset, |place| place.1);
            if !found.is_ok_and(|at| places[at].2 == timestamp) {
                let fault = format!("time index entry {timestamp} at {offset}: no such batch");
                report.faults.push(fault);
            }
        }
    }
    Ok(report)
}

impl SegmentReport {
    /// `places` collects position, last offset and largest timestamp of each batch.
    fn note(
        &mut self,
        batch: &DumpedBatch,
        base: Option<Offset>,
        places: &mut Vec<(u64, Offset, i64)>,
    ) {
        let (header, position) = (&batch.header, batch.position);
        if let Some(fault) = &batch.fault {
            self.faults.push(format!("batch at byte {position}: {fault}"));
        }
        let expected = self.offsets.map(|(_, end)| end).or(base).unwrap_or_default();
        if header.base_offset < expected {
            let found = header.base_offset;
            self.faults.push(format!("batch at byte {position}: offset {found} after {expected}"));
        }
        let first = self.offsets.map_or(header.base_offset, |(first, _)| first);
        self.offsets = Some((first, header.end_offset()));
        if header.record_count > 0 {
            self.largest_timestamp = self.largest_timestamp.max(Some(header.max_timestamp));
        }
        self.batches += 1;
        self.records += u64::from(header.record_count);
        self.bytes += header.encoded_len() as u64;
        places.push((position, header.last_offset(), indexed_timestamp(header)));
    }
}

/// The entries of an index beside the log, if it is there; one that is damaged is a fault.
fn beside<T>(
    path: &Path,
    extension: &str,
    read: impl Fn(&Path) -> Result<T, LogError>,
    report: &mut SegmentReport,
) -> Result<Option<T>, LogError> {
    let path = path.with_extension(extension);
    match read(&path) {
        Ok(entries) => Ok(Some(entries)),
        Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error @ LogError::CorruptLog { .. }) => {
            report.faults.push(error.to_string());
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn read_whole(path: &Path) -> Result<Bytes, LogError> {
    let content = FileDisk.read(path).and_then(|content| match content {
        Some(content) => Ok(content),
        None => Err(io::ErrorKind::NotFound.into()),
    });
    content.map(Bytes::from).map_err(|e| LogError::io("read", path, e))
}

fn not_an_index(path: &Path) -> LogError {
    corrupt(path, "the entries are not in order")
}

fn corrupt(path: &Path, cause: &str) -> LogError {
    LogError::CorruptLog { path: path.to_owned(), position: 0, cause: cause.to_owned() }
}
