//! The snapshot file: an image, and where in the log it belongs.
//!
//! ```text
//! | "TRPMETA1" | crc32c of the rest: 4 | length of meta: 4 | meta | image |
//! ```
//!
//! Promises: the file is replaced whole; after a crash there is the old one or the new one. A snapshot is never
//! replaced by one that goes less far.
//! It is not in sled, which puts large values into files that it never syncs.

use super::entries::{decode, encode};
use super::fault::damage;
use super::storage::set_aside;
use super::types::TypeConfig;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};
use openraft::alias::{LogIdOf, SnapshotMetaOf};
use prost::Message;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use troupe_machines::cluster::{ClusterImage, ClusterSnapshot};
use troupe_proto::ids::MetadataOffset;
use troupe_proto::internal::v1::MetadataBatch;

const MAGIC: &[u8; 8] = b"TRPMETA1";
const HEAD: usize = MAGIC.len() + 8;

pub(super) type Meta = SnapshotMetaOf<TypeConfig>;
/// Where it belongs, and the image in bytes.
pub(super) type Snapshot = (Meta, Vec<u8>);

/// An image in bytes: records, gathered by the offset they count for.
#[derive(Serialize, Deserialize)]
struct Content {
    next_offset: u64,
    batches: Vec<(u64, Bytes)>,
}

pub(super) fn encode_image(image: &ClusterImage) -> io::Result<Vec<u8>> {
    let ClusterSnapshot { next_offset, records } = image.snapshot();
    let mut batches: Vec<(u64, MetadataBatch)> = Vec::new();
    for (offset, record) in records {
        match batches.last_mut() {
            Some((of, batch)) if *of == offset.0 => batch.records.push(record),
            _ => batches.push((offset.0, MetadataBatch { records: vec![record] })),
        }
    }
    let bytes = |(offset, batch): (u64, MetadataBatch)| (offset, batch.encode_to_vec().into());
    let batches = batches.into_iter().map(bytes).collect();
    encode(&Content { next_offset: next_offset.0, batches })
}

pub(super) fn decode_image(bytes: &[u8]) -> io::Result<ClusterImage> {
    ClusterImage::from_snapshot(&decode_records(bytes)?).map_err(io::Error::other)
}

/// What an image is made from.
pub(super) fn decode_records(bytes: &[u8]) -> io::Result<ClusterSnapshot> {
    let content: Content = decode(bytes)?;
    let mut records = Vec::new();
    for (offset, batch) in content.batches {
        let batch = MetadataBatch::decode(batch).map_err(io::Error::other)?;
        records.extend(batch.records.into_iter().map(|record| (MetadataOffset(offset), record)));
    }
    let next_offset = MetadataOffset(content.next_offset);
    Ok(ClusterSnapshot { next_offset, records })
}

/// The file, and how far the snapshot in it goes.
pub(super) struct SnapshotFile {
    path: PathBuf,
    newest: Mutex<Option<LogIdOf<TypeConfig>>>,
}

impl SnapshotFile {
    /// The file, and the snapshot in it if there ever was one.
    pub fn open(path: PathBuf) -> io::Result<(SnapshotFile, Option<Snapshot>)> {
        let content = read(&path)?;
        let newest = content.as_ref().and_then(|(meta, _)| meta.last_log_id);
        Ok((SnapshotFile { path, newest: Mutex::new(newest) }, content))
    }

    /// Replaces the snapshot, unless it goes further already: one that took its time to be built would undo
    /// another that has been installed meanwhile, and the entries between them may be gone. Blocks until it is
    /// on disk.
    pub fn save(&self, meta: &Meta, image: &[u8]) -> io::Result<()> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if *newest > meta.last_log_id {
            return Ok(());
        }
        replace(&self.path, meta, image)?;
        *newest = meta.last_log_id;
        Ok(())
    }

    /// The snapshot, if there ever was one. Blocks.
    pub fn load(&self) -> io::Result<Option<Snapshot>> {
        read(&self.path)
    }

    /// Sets aside what is damaged, and writes another, of an image that goes at least as far. Blocks.
    pub fn replace_damaged(&self, meta: &Meta, image: &[u8]) -> io::Result<()> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = set_aside(&self.path)?;
        tracing::error!(
            ?kept,
            "the metadata snapshot was damaged, and is written anew from memory"
        );
        replace(&self.path, meta, image)?;
        *newest = meta.last_log_id;
        Ok(())
    }
}

fn replace(path: &Path, meta: &Meta, image: &[u8]) -> io::Result<()> {
    let meta = encode(meta)?;
    let meta_len = u32::try_from(meta.len()).map_err(io::Error::other)?;
    let body = [&meta_len.to_le_bytes()[..], &meta, image].concat();
    let crc = checksum(CrcAlgorithm::Crc32Iscsi, &body) as u32;
    let temporary = path.with_extension("snapshot.new");
    let mut file = File::create(&temporary)?;
    file.write_all(MAGIC)?;
    file.write_all(&crc.to_le_bytes())?;
    file.write_all(&body)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    let dir = path.parent().ok_or_else(|| io::Error::other("a snapshot has a directory"))?;
    File::open(dir)?.sync_all()
}

pub(super) fn read(path: &Path) -> io::Result<Option<Snapshot>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let damaged = || damage("the metadata snapshot is not what was written");
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(damaged)?;
    let (crc, body) = rest.split_first_chunk().ok_or_else(damaged)?;
    if checksum(CrcAlgorithm::Crc32Iscsi, body) as u32 != u32::from_le_bytes(*crc) {
        return Err(damaged());
    }
    let (meta_len, body) = body.split_first_chunk().ok_or_else(damaged)?;
    let meta_len = u32::from_le_bytes(*meta_len) as usize;
    let meta = decode(body.get(..meta_len).ok_or_else(damaged)?).map_err(damage)?;
    Ok(Some((meta, bytes[HEAD + meta_len..].to_vec())))
}
