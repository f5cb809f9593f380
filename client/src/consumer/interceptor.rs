//! Code of the application's that sees what passes.
//!
//! Promises: interceptors run in the order in which they were added; one that panics is told of in the log, and what it
//! had begun counts for nothing.

use super::assigned::OffsetAndMetadata;
use crate::fetcher::ConsumerRecord;
use crate::topic_partition::TopicPartition;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Sees records before the application does, and commits after they are done. It must not block.
pub trait ConsumerInterceptor: Send + Sync {
    /// May change, add and remove records; positions do not change with them.
    fn on_consume(&self, records: Vec<ConsumerRecord>) -> Vec<ConsumerRecord> {
        records
    }

    /// These offsets are committed. Runs on a task of the consumer's.
    fn on_commit(&self, offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>) {
        let _ = offsets;
    }
}

/// Those of one consumer, in the order in which they were added.
#[derive(Clone, Default)]
pub(super) struct Interceptors {
    all: Arc<RwLock<Vec<Arc<dyn ConsumerInterceptor>>>>,
}

impl Interceptors {
    pub(super) fn add(&self, interceptor: Arc<dyn ConsumerInterceptor>) {
        self.all.write().push(interceptor);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.read().is_empty()
    }

    pub(super) fn on_consume(&self, records: Vec<ConsumerRecord>) -> Vec<ConsumerRecord> {
        let all = self.all.read().clone();
        all.iter().enumerate().fold(records, |records, (position, interceptor)| {
            let given = records.clone();
            let seen = guarded("on_consume", position, || interceptor.on_consume(given));
            seen.unwrap_or(records)
        })
    }

    pub(super) fn on_commit(&self, offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>) {
        let all = self.all.read().clone();
        for (position, interceptor) in all.iter().enumerate() {
            guarded("on_commit", position, || interceptor.on_commit(offsets));
        }
    }
}

/// None: it panicked. It is the application's code, and takes nobody else with it.
fn guarded<T>(what: &str, position: usize, call: impl FnOnce() -> T) -> Option<T> {
    let called = catch_unwind(AssertUnwindSafe(call));
    if called.is_err() {
        tracing::error!(what, position, "a consumer interceptor panicked");
    }
    called.ok()
}
