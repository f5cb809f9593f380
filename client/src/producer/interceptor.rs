//! Code of the application's that sees every record that is sent, and what became of it (P10).
//!
//! Promises: interceptors run in the order of the list; one that panics is told of in the log, and neither the record nor
//! those behind it are touched by what it had begun. Without interceptors nothing here is called.

use super::delivery::Callback;
use super::record::{ProducerRecord, RecordMetadata};
use crate::error::ClientError;
use bytes::Bytes;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use troupe_proto::ids::PartitionId;

/// Sees records before they are sent, and their outcomes before anybody else does. For tracing, counting, headers that
/// every record has to have. See [`ProducerConfig::interceptors`](super::ProducerConfig::interceptors).
///
/// ```
/// use troupe_client::{ProducerConfig, ProducerInterceptor, ProducerRecord};
///
/// #[derive(Debug)]
/// struct Stamped;
///
/// impl ProducerInterceptor for Stamped {
///     fn on_send(&self, record: &mut ProducerRecord) {
///         record.headers.push(("source".to_owned(), Some("billing".into())));
///     }
/// }
///
/// let config = ProducerConfig {
///     interceptors: vec![std::sync::Arc::new(Stamped)],
///     ..ProducerConfig::default()
/// };
/// ```
pub trait ProducerInterceptor: Send + Sync + Debug {
    /// In the call that sends, before the partition is chosen. May change everything but the topic, which is the one
    /// that was asked for. It must not block.
    fn on_send(&self, record: &mut ProducerRecord) {
        let _ = record;
    }

    /// Once for each record that [`on_send`](Self::on_send) saw, unless the call that sent it was dropped while it waited:
    /// on the sender's task and before the record's callback, in the order of each partition's records; or, of a record
    /// that was refused at once, in the call that sent it. It must not block.
    fn on_acknowledgement(&self, acknowledgement: &Acknowledgement<'_>) {
        let _ = acknowledgement;
    }
}

/// What became of a record.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Acknowledgement<'a> {
    pub topic: &'a str,
    /// None: it was refused before one was chosen.
    pub partition: Option<PartitionId>,
    /// As the last interceptor left them.
    pub headers: &'a [(String, Option<Bytes>)],
    /// Where it is, or why it was not delivered.
    pub result: Result<RecordMetadata, &'a ClientError>,
}

/// Those of one producer, in their order.
pub(crate) type Interceptors = Arc<[Arc<dyn ProducerInterceptor>]>;

/// The record as the interceptors leave it.
pub(crate) fn on_send(all: &Interceptors, record: &mut ProducerRecord) {
    for (position, interceptor) in all.iter().enumerate() {
        let before = record.clone();
        if guarded("on_send", position, || interceptor.on_send(record)).is_none() {
            *record = before;
        } else if record.topic != before.topic {
            tracing::warn!(position, "an interceptor cannot send to another topic");
            record.topic = before.topic;
        }
    }
}

/// Tells the interceptors what became of the record, then `then`.
pub(crate) fn acknowledging(
    all: &Interceptors,
    record: &ProducerRecord,
    then: Option<Callback>,
) -> Callback {
    let (all, topic, headers) = (all.clone(), record.topic.clone(), record.headers.clone());
    Box::new(move |partition, result| {
        let told = Acknowledgement {
            topic: &topic,
            partition: Some(partition),
            headers: &headers,
            result: result.as_ref().copied(),
        };
        tell(&all, &told);
        if let Some(then) = then {
            then(partition, result);
        }
    })
}

/// The record did not even get into a batch.
pub(crate) fn on_refused(all: &Interceptors, record: &ProducerRecord, error: &ClientError) {
    let told = Acknowledgement {
        topic: &record.topic,
        partition: record.partition,
        headers: &record.headers,
        result: Err(error),
    };
    tell(all, &told);
}

fn tell(all: &Interceptors, told: &Acknowledgement<'_>) {
    for (position, interceptor) in all.iter().enumerate() {
        guarded("on_acknowledgement", position, || interceptor.on_acknowledgement(told));
    }
}

/// None: it panicked. It is the application's code, and takes nobody else with it.
fn guarded(what: &str, position: usize, call: impl FnOnce()) -> Option<()> {
    let called = catch_unwind(AssertUnwindSafe(call));
    if called.is_err() {
        tracing::error!(what, position, "a producer interceptor panicked");
    }
    called.ok()
}
