//! Code of the application's that sees what passes.

use super::assigned::OffsetAndMetadata;
use crate::fetcher::ConsumerRecord;
use crate::topic_partition::TopicPartition;
use parking_lot::RwLock;
use std::collections::BTreeMap;
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
        let all = self.all.read();
        all.iter().fold(records, |records, interceptor| interceptor.on_consume(records))
    }

    pub(super) fn on_commit(&self, offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>) {
        self.all.read().iter().for_each(|interceptor| interceptor.on_commit(offsets));
    }
}
