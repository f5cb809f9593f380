//! Unpacks batches for all readers of the node, within memory that they share.
//!
//! ```text
//!  reader ─ get ─┬─ kept ────────────────────────────────► records
//!                ├─ under way ── waits with the others ──► records
//!                └─ neither: a permit, room, a thread ───► records, kept until the room is needed
//! ```
//!
//! Promises: a batch is unpacked once for all who read it at the same time, and again only if the room was needed
//! meanwhile; together, what is kept, handed out and under way stays within the budget, beside small batches that a
//! reader unpacks on the spot; whoever waits gets its turn, as nobody holds records while its client does not read.

use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::spawn_blocking;
use troupe_proto::batch::{BatchError, BatchHeader, Limits, RecordSet};
use troupe_proto::ids::{Offset, PartitionKey};

/// Batches that unpack to no more are unpacked on the spot.
const ON_THE_SPOT_BYTES: usize = 256 << 10;
/// Threads that unpack at the same time: shards keep the rest of the machine.
const THREADS: usize = 2;

/// One packed batch.
#[derive(Clone)]
pub struct Packed {
    pub key: PartitionKey,
    pub header: BatchHeader,
    pub payload: Bytes,
}

/// A batch's records, or why there are none.
pub type Unpacked = Result<Bytes, BatchError>;

/// Which batch: after a change of leader another may stand at the same offset.
type Name = (PartitionKey, Offset, u32, u32);

pub struct Unpacker {
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
}

struct Shared {
    budget: Arc<Budget>,
    state: Mutex<State>,
    unpacked: AtomicUsize,
}

#[derive(Default)]
struct State {
    kept: HashMap<Name, (Bytes, u64)>,
    /// By when they were last asked for.
    by_use: BTreeMap<u64, Name>,
    uses: u64,
    under_way: HashMap<Name, watch::Receiver<Option<Unpacked>>>,
}

/// Bytes in use, of so many.
struct Budget {
    bytes: usize,
    used: AtomicUsize,
    freed: Notify,
}

/// A part of the budget. Dropped, it is free again.
struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

/// Records with their share, which lives as long as any slice of them.
struct Records {
    bytes: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Records {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Budget {
    /// Takes so much if it is there, or regardless.
    fn take(self: &Arc<Self>, bytes: usize, regardless: bool) -> Option<Share> {
        let fits = |used: usize| {
            let after = used.saturating_add(bytes);
            (regardless || after <= self.bytes || used == 0).then_some(after)
        };
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).ok()?;
        Some(Share { budget: Arc::clone(self), bytes })
    }
}

impl Share {
    /// What was taken turned out to be this much.
    fn resize(&mut self, bytes: usize) {
        self.budget.used.fetch_add(bytes, Ordering::AcqRel);
        self.budget.used.fetch_sub(self.bytes, Ordering::AcqRel);
        self.bytes = bytes;
        self.budget.freed.notify_waiters();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.resize(0);
    }
}

/// An entry among what is under way, which goes with whoever is at it.
struct UnderWay<'a> {
    shared: &'a Shared,
    name: Name,
    stands: bool,
}

impl UnderWay<'_> {
    fn leave(&mut self, state: &mut State) {
        if std::mem::take(&mut self.stands) {
            state.under_way.remove(&self.name);
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if self.stands {
            self.leave(&mut self.shared.state());
        }
    }
}

fn name_of(packed: &Packed) -> Name {
    let header = &packed.header;
    (packed.key, header.base_offset, header.payload_crc, header.payload_len)
}

fn unpack(packed: &Packed, limits: Limits) -> Unpacked {
    let set = RecordSet::decode(&packed.header, packed.payload.clone(), limits)?;
    Ok(set.payload().clone())
}

impl Unpacker {
    /// Uses so much memory.
    pub fn new(bytes: usize) -> Unpacker {
        let budget = Budget { bytes, used: AtomicUsize::new(0), freed: Notify::new() };
        let shared = Shared {
            budget: Arc::new(budget),
            state: Mutex::default(),
            unpacked: AtomicUsize::new(0),
        };
        Unpacker { shared: Arc::new(shared), permits: Arc::new(Semaphore::new(THREADS)) }
    }

    /// The records, if they are at hand or quickly unpacked.
    pub fn now(&self, packed: &Packed) -> Option<Unpacked> {
        let name = name_of(packed);
        if let Some(records) = self.shared.kept(&name) {
            return Some(Ok(records));
        }
        if self.shared.state().under_way.contains_key(&name) {
            return None;
        }
        let limits = Limits { max_bytes: ON_THE_SPOT_BYTES, ..Limits::default() };
        match unpack(packed, limits) {
            // Within the limits that hold it may unpack.
            Err(BatchError::Bomb { .. } | BatchError::BadCompression { .. }) => None,
            Err(error) => Some(Err(error)),
            Ok(records) => {
                let share = self.shared.budget.take(records.len(), true)?;
                Some(Ok(self.shared.keep(name, records, share)))
            }
        }
    }

    /// The records, in turn. May be dropped while it waits.
    pub async fn get(&self, packed: Packed) -> Unpacked {
        loop {
            if let Some(records) = self.shared.kept(&name_of(&packed)) {
                return Ok(records);
            }
            let mut under_way = self.under_way(&packed);
            if let Ok(unpacked) = under_way.wait_for(Option::is_some).await
                && let Some(unpacked) = unpacked.clone()
            {
                return unpacked;
            }
            // Given up just before this reader came.
        }
    }

    /// What comes of unpacking this batch, which begins now if it has not.
    fn under_way(&self, packed: &Packed) -> watch::Receiver<Option<Unpacked>> {
        let name = name_of(packed);
        let mut state = self.shared.state();
        // Unless whoever was at it is gone: then nobody will ever tell.
        if let Some(under_way) = state.under_way.get(&name)
            && under_way.has_changed().is_ok()
        {
            return under_way.clone();
        }
        let (told, under_way) = watch::channel(None);
        state.under_way.insert(name, under_way.clone());
        drop(state);
        let (shared, permits) = (Arc::clone(&self.shared), Arc::clone(&self.permits));
        tokio::spawn(shared.unpack(permits, packed.clone(), told));
        under_way
    }

    /// Batches that were unpacked so far, and bytes in use.
    #[cfg(test)]
    pub fn figures(&self) -> (usize, usize) {
        let used = self.shared.budget.used.load(Ordering::Acquire);
        (self.shared.unpacked.load(Ordering::Acquire), used)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self, name: &Name) -> Option<Bytes> {
        let state = &mut *self.state();
        let (records, used) = state.kept.get_mut(name)?;
        state.by_use.remove(used);
        state.uses += 1;
        *used = state.uses;
        state.by_use.insert(state.uses, *name);
        Some(records.clone())
    }

    /// Keeps records for whoever comes next, as far as there is room.
    fn keep(&self, name: Name, bytes: Bytes, share: Share) -> Bytes {
        self.unpacked.fetch_add(1, Ordering::AcqRel);
        let records = Bytes::from_owner(Records { bytes, _share: share });
        let mut guard = self.state();
        let state = &mut *guard;
        state.uses += 1;
        let before = state.kept.insert(name, (records.clone(), state.uses));
        if let Some((_, used)) = &before {
            state.by_use.remove(used);
        }
        state.by_use.insert(state.uses, name);
        drop(guard);
        // Nothing is freed under the lock.
        drop(before);
        while self.budget.used.load(Ordering::Acquire) > self.budget.bytes {
            let Some(freed) = self.let_go() else { break };
            drop(freed);
        }
        records
    }

    /// Takes what was not asked for the longest out of what is kept.
    fn let_go(&self) -> Option<Bytes> {
        let mut state = self.state();
        let (_, name) = state.by_use.pop_first()?;
        state.kept.remove(&name).map(|(records, _)| records)
    }

    /// A part of the budget; what is kept makes room for it, and then what is handed out.
    async fn share(&self, bytes: usize) -> Share {
        let bytes = bytes.min(self.budget.bytes);
        loop {
            let freed = self.budget.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            loop {
                if let Some(share) = self.budget.take(bytes, false) {
                    return share;
                }
                match self.let_go() {
                    Some(freed) => drop(freed),
                    None => break,
                }
            }
            freed.await;
        }
    }

    async fn unpack(
        self: Arc<Self>,
        permits: Arc<Semaphore>,
        packed: Packed,
        told: watch::Sender<Option<Unpacked>>,
    ) {
        let name = name_of(&packed);
        let mut entry = UnderWay { shared: &self, name, stands: true };
        // Nobody closes it.
        let _permit = permits.acquire().await;
        let limits = Limits::default();
        let mut share = self.share(limits.allowed(packed.payload.len())).await;
        {
            let mut state = self.state();
            // One receiver is the map's.
            if told.receiver_count() <= 1 {
                entry.leave(&mut state);
                return;
            }
        }
        let unpacked = match spawn_blocking(move || unpack(&packed, limits)).await {
            Ok(Ok(records)) => {
                share.resize(records.len());
                Ok(self.keep(name, records, share))
            }
            Ok(Err(error)) => Err(error),
            // The node is stopping, or the codec panicked; either way nobody gets anything.
            Err(_) => Err(BatchError::Truncated),
        };
        entry.leave(&mut self.state());
        // Those who waited may be gone.
        let _ = told.send(Some(unpacked));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::join_all;
    use troupe_proto::batch::{Compression, RecordSetBuilder};
    use troupe_proto::ids::{PartitionId, TopicId};

    const MIB: usize = 1 << 20;

    /// A batch of one record, of so many zeros.
    fn packed(seed: u8, bytes: usize) -> Packed {
        let mut builder = RecordSetBuilder::new();
        builder.push(1, Some(&[seed]), Some(&vec![0; bytes]), &[]);
        let built = builder.finish(Compression::Lz4, None).unwrap();
        let key = PartitionKey { topic_id: TopicId(uuid::Uuid::nil()), partition: PartitionId(0) };
        Packed { key, header: built.header, payload: built.payload }
    }

    #[tokio::test]
    async fn a_batch_is_unpacked_once_for_all_who_read_it() {
        let unpacker = Unpacker::new(64 * MIB);
        let batch = packed(1, 8 * MIB);
        assert!(unpacker.now(&batch).is_none(), "too large for the spot");
        let all = join_all((0..10).map(|_| unpacker.get(batch.clone()))).await;
        assert!(all.iter().all(|records| records.as_ref().unwrap().len() > 8 * MIB));
        assert_eq!(unpacker.figures().0, 1);
        assert!(unpacker.now(&batch).is_some(), "it is kept");
        let small = packed(2, 1_000);
        assert_eq!(unpacker.now(&small), unpacker.now(&small));
        assert_eq!(unpacker.figures().0, 2);
    }

    /// The budget is `unpack.memory.bytes`.
    #[tokio::test]
    async fn all_together_stay_within_the_budget_and_everybody_gets_a_turn() {
        let unpacker = Unpacker::new(20 * MIB);
        let batches: Vec<Packed> = (0..10).map(|seed| packed(seed, 8 * MIB)).collect();
        for _ in 0..2 {
            join_all(batches.iter().map(async |batch| {
                let records = unpacker.get(batch.clone()).await.unwrap();
                assert!(records.len() > 8 * MIB);
                assert!(unpacker.figures().1 <= 20 * MIB, "{:?}", unpacker.figures());
            }))
            .await;
        }
        // Two of them fit beside each other.
        assert!(unpacker.figures().1 <= 20 * MIB);
    }

    #[tokio::test]
    async fn one_batch_alone_is_unpacked_whatever_the_budget() {
        let unpacker = Unpacker::new(MIB);
        let records = unpacker.get(packed(1, 8 * MIB)).await.unwrap();
        assert!(records.len() > 8 * MIB);
        drop(records);
        let other = unpacker.get(packed(2, 8 * MIB)).await.unwrap();
        drop(other);
        assert_eq!(unpacker.figures(), (2, 0), "what is over the budget is not kept");
    }

    #[tokio::test]
    async fn a_batch_is_unpacked_although_whoever_was_at_it_is_gone() {
        let unpacker = Unpacker::new(64 * MIB);
        let batch = packed(1, 8 * MIB);
        let gone = watch::channel(None).1;
        unpacker.shared.state().under_way.insert(name_of(&batch), gone);
        assert!(unpacker.get(batch).await.unwrap().len() > 8 * MIB);
        assert!(unpacker.shared.state().under_way.is_empty());
    }

    #[tokio::test]
    async fn who_stops_unpacking_leaves_the_batch_to_the_next() {
        let unpacker = Unpacker::new(64 * MIB);
        let (batch, nobody) = (packed(1, 8 * MIB), Arc::new(Semaphore::new(0)));
        let (told, under_way) = watch::channel(None);
        unpacker.shared.state().under_way.insert(name_of(&batch), under_way);
        let task = Arc::clone(&unpacker.shared).unpack(nobody, batch.clone(), told);
        assert!(futures::FutureExt::now_or_never(task).is_none());
        assert!(unpacker.shared.state().under_way.is_empty());
        assert!(unpacker.get(batch).await.is_ok());
    }

    #[tokio::test]
    async fn damage_is_everybody_s_answer() {
        let unpacker = Unpacker::new(64 * MIB);
        let mut batch = packed(1, 8 * MIB);
        batch.payload = batch.payload.slice(..batch.payload.len() - 1);
        let all = join_all((0..3).map(|_| unpacker.get(batch.clone()))).await;
        assert!(all.iter().all(Result::is_err));
        assert_eq!(unpacker.figures().1, 0);
    }
}
