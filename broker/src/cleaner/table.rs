//! What is told of the compaction of this node's replicas: written by the cleaner's threads, read by whoever asks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use troupe_machines::config::Ratio;
use troupe_machines::time::Time;
use troupe_proto::ids::PartitionKey;

/// How the compaction of one replica's log stands.
#[derive(Clone, Debug, PartialEq)]
pub struct CleaningReport {
    pub state: CleaningState,
    pub dirty_ratio: Ratio,
    pub passes: u64,
    pub saved_bytes: u64,
    pub last_pass: Option<CleaningPass>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CleaningState {
    Idle,
    Cleaning {
        percent: u8,
    },
    /// Why.
    Waiting(String),
    /// Why, and what to do.
    Uncleanable(String),
}

/// A pass that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleaningPass {
    /// By the wall clock.
    pub ended: Time,
    pub took: Duration,
    pub bytes_before: u64,
    pub bytes_after: u64,
}

/// How far a pass has come.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    all: AtomicU64,
}

impl Progress {
    pub fn set_all(&self, all: u64) {
        self.all.store(all, Ordering::Relaxed);
    }

    pub fn add(&self, done: u64) {
        self.done.fetch_add(done, Ordering::Relaxed);
    }

    fn percent(&self) -> u8 {
        let (done, all) = (self.done.load(Ordering::Relaxed), self.all.load(Ordering::Relaxed));
        let percent = u128::from(done) * 100 / u128::from(all.max(1));
        u8::try_from(percent).unwrap_or(100).min(100)
    }
}

#[derive(Debug)]
enum Standing {
    Idle,
    Cleaning(Arc<Progress>),
    Waiting(String),
    Uncleanable(String),
}

#[derive(Debug)]
struct Entry {
    standing: Standing,
    dirty_ratio: Ratio,
    passes: u64,
    saved_bytes: u64,
    last_pass: Option<CleaningPass>,
    /// What was told of the last failure.
    failure: Option<String>,
}

/// All replicas of this node that are compacted, once they have been looked at.
pub struct CleaningTable {
    /// What is said of those that were not looked at.
    unknown: String,
    entries: Mutex<HashMap<PartitionKey, Entry>>,
}

/// Of all replicas together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CleaningSums {
    pub max_dirty_ratio: Ratio,
    pub uncleanable: usize,
    pub last_ended: Option<Time>,
}

impl CleaningTable {
    pub fn new(unknown: String) -> Self {
        Self { unknown, entries: Mutex::default() }
    }

    /// Of a replica whose topic is compacted.
    pub fn report(&self, key: PartitionKey) -> CleaningReport {
        let entries = self.lock();
        let Some(entry) = entries.get(&key) else {
            return CleaningReport {
                state: CleaningState::Waiting(self.unknown.clone()),
                dirty_ratio: Ratio::from_millionths(0),
                passes: 0,
                saved_bytes: 0,
                last_pass: None,
            };
        };
        let state = match &entry.standing {
            Standing::Idle => CleaningState::Idle,
            Standing::Cleaning(progress) => CleaningState::Cleaning { percent: progress.percent() },
            Standing::Waiting(why) => CleaningState::Waiting(why.clone()),
            Standing::Uncleanable(why) => CleaningState::Uncleanable(why.clone()),
        };
        let &Entry { dirty_ratio, passes, saved_bytes, last_pass, .. } = entry;
        CleaningReport { state, dirty_ratio, passes, saved_bytes, last_pass }
    }

    pub fn sums(&self) -> CleaningSums {
        let entries = self.lock();
        // Also while it is tried again.
        let uncleanable = |entry: &&Entry| entry.failure.is_some();
        let ratios = entries.values().map(|entry| entry.dirty_ratio);
        CleaningSums {
            max_dirty_ratio: ratios.max().unwrap_or(Ratio::from_millionths(0)),
            uncleanable: entries.values().filter(uncleanable).count(),
            last_ended: entries.values().filter_map(|entry| Some(entry.last_pass?.ended)).max(),
        }
    }

    /// It was looked at. A log that is cleaned now, or cannot be, stays so until a pass ends.
    pub fn looked_at(&self, key: PartitionKey, dirty_ratio: Ratio, waits: Option<String>) {
        let mut entries = self.lock();
        let entry = entries.entry(key).or_insert_with(Entry::new);
        entry.dirty_ratio = dirty_ratio;
        match entry.standing {
            Standing::Cleaning(_) | Standing::Uncleanable(_) => {}
            Standing::Idle | Standing::Waiting(_) => {
                entry.standing = waits.map_or(Standing::Idle, Standing::Waiting);
            }
        }
    }

    pub fn begun(&self, key: PartitionKey) -> Arc<Progress> {
        let progress = Arc::<Progress>::default();
        let mut entries = self.lock();
        let entry = entries.entry(key).or_insert_with(Entry::new);
        entry.standing = Standing::Cleaning(Arc::clone(&progress));
        progress
    }

    pub fn done(&self, key: PartitionKey, pass: CleaningPass) {
        let mut entries = self.lock();
        let entry = entries.entry(key).or_insert_with(Entry::new);
        entry.standing = Standing::Idle;
        entry.failure = None;
        entry.passes += 1;
        entry.saved_bytes += pass.bytes_before.saturating_sub(pass.bytes_after);
        entry.last_pass = Some(pass);
    }

    pub fn void(&self, key: PartitionKey, why: String) {
        self.lock().entry(key).or_insert_with(Entry::new).standing = Standing::Waiting(why);
    }

    /// Whether that, and why, is new.
    pub fn failed(&self, key: PartitionKey, why: String) -> bool {
        let mut entries = self.lock();
        let entry = entries.entry(key).or_insert_with(Entry::new);
        let known = entry.failure.as_ref() == Some(&why);
        entry.failure = Some(why.clone());
        entry.standing = Standing::Uncleanable(why);
        !known
    }

    /// Only these are here any more.
    pub fn forget_others(&self, is_here: impl Fn(PartitionKey) -> bool) {
        self.lock().retain(|key, _| is_here(*key));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PartitionKey, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn new() -> Entry {
        Entry {
            standing: Standing::Idle,
            dirty_ratio: Ratio::from_millionths(0),
            passes: 0,
            saved_bytes: 0,
            last_pass: None,
            failure: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::ids::{PartitionId, TopicId};

    fn key(number: u32) -> PartitionKey {
        let topic_id = TopicId::from_wire(&[7; 16]).unwrap();
        PartitionKey { topic_id, partition: PartitionId(number) }
    }

    fn pass(bytes_before: u64, bytes_after: u64) -> CleaningPass {
        CleaningPass { ended: Time(9), took: Duration::from_secs(1), bytes_before, bytes_after }
    }

    #[test]
    fn what_is_told_is_how_it_stands() {
        let table = CleaningTable::new("not looked at yet".to_owned());
        let state = |number| table.report(key(number)).state;
        assert_eq!(state(0), CleaningState::Waiting("not looked at yet".to_owned()));
        table.looked_at(key(0), Ratio::of(3, 4), None);
        assert_eq!(state(0), CleaningState::Idle);
        let progress = table.begun(key(0));
        progress.set_all(400);
        progress.add(100);
        assert_eq!(state(0), CleaningState::Cleaning { percent: 25 });
        table.looked_at(key(0), Ratio::of(3, 4), Some("for its turn".to_owned()));
        assert_eq!(state(0), CleaningState::Cleaning { percent: 25 }, "it has its turn");
        table.done(key(0), pass(400, 100));
        table.begun(key(0));
        table.done(key(0), pass(150, 120));
        let report = table.report(key(0));
        assert_eq!((report.passes, report.saved_bytes), (2, 330));
        assert_eq!(report.last_pass, Some(pass(150, 120)));
    }

    #[test]
    fn what_cannot_be_cleaned_is_new_once_and_counts_until_it_can() {
        let table = CleaningTable::new(String::new());
        let why = || "damage".to_owned();
        assert!(table.failed(key(1), why()));
        table.looked_at(key(1), Ratio::of(1, 2), None);
        assert_eq!(table.report(key(1)).state, CleaningState::Uncleanable(why()));
        table.begun(key(1));
        assert!(!table.failed(key(1), why()), "it was said");
        assert_eq!(table.sums().uncleanable, 1);
        assert_eq!(table.sums().max_dirty_ratio, Ratio::of(1, 2));
        table.begun(key(1));
        assert_eq!(table.sums().uncleanable, 1, "it is tried again");
        table.done(key(1), pass(1, 1));
        assert_eq!(table.sums().uncleanable, 0);
        assert!(table.failed(key(1), why()), "it had gone well meanwhile");
        table.forget_others(|_| false);
        assert_eq!(table.sums().last_ended, None);
    }
}
