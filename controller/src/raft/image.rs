//! Raft's state machine: the committed [`ClusterImage`].
//!
//! Promise: the image is published before a proposal is answered, so that whoever got an answer finds what
//! it says in the image.

use super::fault::{Faults, damage, found_in};
use super::publication::Publication;
use super::snapshot::{self, Meta, SnapshotFile};
use super::storage::Storage;
use super::types::{Decided, TypeConfig, Verdict};
use crate::metadata_log::Base;
use futures::{Stream, TryStreamExt};
use openraft::alias::{LogIdOf, SnapshotOf, StoredMembershipOf};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use prost::Message;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use troupe_machines::cluster::ClusterImage;
use troupe_proto::internal::v1::MetadataBatch;

pub(super) struct ImageMachine {
    image: ClusterImage,
    last_applied: Option<LogIdOf<TypeConfig>>,
    membership: StoredMembershipOf<TypeConfig>,
    publication: Arc<Publication>,
    file: Arc<SnapshotFile>,
    bytes: AppliedBytes,
    faults: Faults,
}

/// What an entry of the log takes beside the decision in it.
pub(super) const ENTRY_BYTES: u64 = 128;

/// How large the log has grown, and its newest snapshot.
#[derive(Clone, Default)]
pub(super) struct AppliedBytes(Arc<Sizes>);

#[derive(Default)]
struct Sizes {
    /// Of the entries applied since a snapshot was last asked for.
    applied: AtomicU64,
    snapshot: AtomicU64,
}

impl AppliedBytes {
    fn add(&self, bytes: usize) {
        self.0.applied.fetch_add(bytes as u64 + ENTRY_BYTES, Ordering::Relaxed);
    }

    fn note_snapshot(&self, bytes: usize) {
        self.0.snapshot.store(bytes as u64, Ordering::Relaxed);
    }

    /// Whether a snapshot is due: the log is larger than `limit`, and than the newest snapshot, as to write that one
    /// anew costs as much. If so, counts from zero again.
    pub fn take_over(&self, limit: u64) -> bool {
        let limit = limit.max(self.0.snapshot.load(Ordering::Relaxed));
        let over = self.0.applied.load(Ordering::Relaxed) > limit;
        if over {
            self.0.applied.store(0, Ordering::Relaxed);
        }
        over
    }
}

impl ImageMachine {
    /// The image of the newest snapshot. Raft applies the entries behind it.
    ///
    /// # Errors
    /// Damage, or the disk's.
    pub fn restore(storage: &Storage, publication: &Arc<Publication>) -> io::Result<ImageMachine> {
        let (file, newest) = SnapshotFile::open(storage.snapshot_path())?;
        let sizes = AppliedBytes::default();
        let (meta, image) = match newest {
            Some((meta, bytes)) => {
                sizes.note_snapshot(bytes.len());
                (meta, snapshot::decode_image(&bytes).map_err(damage)?)
            }
            None => (Meta::default(), ClusterImage::default()),
        };
        publication.offer(&image);
        Ok(ImageMachine {
            publication: Arc::clone(publication),
            image,
            last_applied: meta.last_log_id,
            membership: meta.last_membership,
            file: Arc::new(file),
            bytes: sizes,
            faults: storage.faults(),
        })
    }

    /// The last entry that the image holds.
    pub fn last_applied(&self) -> Option<LogIdOf<TypeConfig>> {
        self.last_applied
    }

    pub fn bytes_since_snapshot(&self) -> AppliedBytes {
        self.bytes.clone()
    }

    /// Applies one decision whole, or not at all if it did not know the one before it. `term`: that it was appended
    /// in.
    fn apply_decided(&mut self, decided: Decided, term: u64) -> io::Result<Verdict> {
        self.bytes.add(decided.batch.len());
        let known = Base { term, offset: self.image.next_offset() };
        if let Some(base) = decided.base().filter(|base| *base != known) {
            tracing::warn!(?base, ?known, "a decision is not applied: another was made before it");
            return Ok(Verdict::Superseded);
        }
        let batch = MetadataBatch::decode(decided.batch).map_err(io::Error::other)?;
        self.image.replay_all(&batch.records).map_err(io::Error::other)?;
        self.publication.offer(&self.image);
        Ok(Verdict::Applied)
    }
}

impl ImageMachine {
    /// What is in memory goes at least as far as the snapshot that is damaged.
    async fn replace_snapshot(&mut self) -> io::Result<snapshot::Snapshot> {
        let meta =
            Meta { last_log_id: self.last_applied, last_membership: self.membership.clone() };
        let (image, file) = (self.image.clone(), Arc::clone(&self.file));
        let replaced = blocking(move || {
            let bytes = snapshot::encode_image(&image)?;
            file.replace_damaged(&meta, &bytes)?;
            Ok((meta, bytes))
        });
        self.faults.note(replaced.await)
    }
}

impl RaftStateMachine<TypeConfig> for ImageMachine {
    type SnapshotData = Vec<u8>;
    type SnapshotBuilder = SnapshotMaker;

    async fn applied_state(
        &mut self,
    ) -> io::Result<(Option<LogIdOf<TypeConfig>>, StoredMembershipOf<TypeConfig>)> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let log_id = entry.log_id();
            let verdict = match entry.payload {
                EntryPayload::Blank => Verdict::Applied,
                EntryPayload::Normal(decided) => {
                    self.apply_decided(decided, log_id.committed_leader_id().term)?
                }
                EntryPayload::Membership(members) => {
                    self.membership = StoredMembershipOf::<TypeConfig>::new(Some(log_id), members);
                    Verdict::Applied
                }
            };
            self.last_applied = Some(log_id);
            if let Some(responder) = responder {
                responder.send(verdict);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotMaker {
        SnapshotMaker {
            image: self.image.clone(),
            meta: Meta { last_log_id: self.last_applied, last_membership: self.membership.clone() },
            file: Arc::clone(&self.file),
            sizes: self.bytes.clone(),
            faults: self.faults.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &Meta, bytes: Vec<u8>) -> io::Result<()> {
        let image = snapshot::decode_image(&bytes)?;
        let (file, meta) = (Arc::clone(&self.file), meta.clone());
        let saved = meta.clone();
        self.bytes.note_snapshot(bytes.len());
        self.faults.note(blocking(move || file.save(&saved, &bytes)).await)?;
        self.image = image;
        self.last_applied = meta.last_log_id;
        self.membership = meta.last_membership;
        self.publication.offer(&self.image);
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<SnapshotOf<TypeConfig, Vec<u8>>>> {
        let file = Arc::clone(&self.file);
        let loaded = match blocking(move || file.load()).await {
            Err(error) if found_in(&error).is_some() => Some(self.replace_snapshot().await?),
            loaded => self.faults.note(loaded)?,
        };
        Ok(loaded.map(|(meta, snapshot)| SnapshotOf::<TypeConfig, _> { meta, snapshot }))
    }
}

/// The image as it was, on its way to the file; Raft goes on meanwhile.
pub(super) struct SnapshotMaker {
    image: ClusterImage,
    meta: Meta,
    file: Arc<SnapshotFile>,
    sizes: AppliedBytes,
    faults: Faults,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotMaker {
    type SnapshotData = Vec<u8>;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, Vec<u8>>> {
        let (image, meta) = (self.image.clone(), self.meta.clone());
        let file = Arc::clone(&self.file);
        let saved = meta.clone();
        let snapshot = blocking(move || {
            let bytes = snapshot::encode_image(&image)?;
            file.save(&saved, &bytes)?;
            Ok(bytes)
        });
        let snapshot = self.faults.note(snapshot.await)?;
        self.sizes.note_snapshot(snapshot.len());
        Ok(SnapshotOf::<TypeConfig, _> { meta, snapshot })
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_grows_to_its_limit_or_to_the_size_of_the_snapshot_it_leads_to() {
        let sizes = AppliedBytes::default();
        for _ in 0..10 {
            sizes.add(0);
        }
        assert!(!sizes.take_over(10 * ENTRY_BYTES));
        sizes.add(0);
        assert!(sizes.take_over(10 * ENTRY_BYTES), "also of many small decisions");
        assert!(!sizes.take_over(0), "it is asked for once");
        sizes.note_snapshot(5_000);
        sizes.add(4_000);
        assert!(!sizes.take_over(1_000));
        sizes.add(1_000);
        assert!(sizes.take_over(1_000));
    }
}
