//! Keeps the metadata of the cluster fresh: by changes that a node pushes, and by age where none does.
//!
//! Promises: when the node that pushes is gone, stops, or falls silent, the next one is followed at once:
//! first all its metadata, then its changes. Ends with the client.
//! Never here: an error that anybody sees; what cannot be had by watching is asked for when it is needed.

use crate::client::{Inner, MAX_ANSWER, Missing};
use crate::connection::Purpose;
use crate::error::is_transport_failure;
use crate::metadata::MetadataUpdate;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};
use tokio::sync::watch::Receiver;
use tokio::task::AbortHandle;
use tokio::time::{Duration, Instant, Interval, MissedTickBehavior, interval_at, sleep};
use tonic::{Code, Status};
use troupe_proto::log::v1::metadata_service_client::MetadataServiceClient;
use troupe_proto::log::v1::{WatchMetadataRequest, WatchMetadataResponse};

/// Before the second of several attempts that fail one after another; doubles up to the maximum.
const BACKOFF: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Who begins to use many topics uses them all within a moment.
const GATHER: Duration = Duration::from_millis(20);
/// How often the age of what is known is looked at where nobody pushes.
const AGE_CHECK: Duration = Duration::from_secs(1);

/// How often within `metadata_max_idle` what nobody uses is looked for.
const IDLE_CHECKS: u32 = 4;

/// The watching task, once somebody needs it.
pub(crate) struct Watcher {
    task: Mutex<Option<AbortHandle>>,
}

impl Watcher {
    pub(crate) fn new() -> Self {
        Self { task: Mutex::new(None) }
    }

    pub(crate) fn start(&self, inner: &Arc<Inner>) {
        let mut task = self.task.lock();
        if task.is_none() {
            let names = inner.metadata.names();
            *task = Some(tokio::spawn(run(Arc::downgrade(inner), names)).abort_handle());
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut() {
            task.abort();
        }
    }
}

/// Why a watch ended.
enum Ended {
    /// Other topics are in use.
    Names,
    Broken,
    /// This cluster does not push.
    Unsupported,
    /// There is nobody any more who wants to know.
    Unwanted,
}

async fn run(client: Weak<Inner>, mut names: Receiver<u64>) {
    let mut failures = 0;
    loop {
        names.mark_unchanged();
        let Some(inner) = client.upgrade() else { return };
        let topics = inner.metadata.topic_names();
        if topics.is_empty() {
            drop(inner);
            if names.changed().await.is_err() {
                return;
            }
            sleep(GATHER).await;
            continue;
        }
        let began = Instant::now();
        match watch(inner, &client, topics, &mut names).await {
            Ended::Names => sleep(GATHER).await,
            Ended::Broken => {
                if began.elapsed() >= BACKOFF_MAX {
                    failures = 0;
                }
                if failures > 0 {
                    let pause = BACKOFF.saturating_mul(1 << failures.min(10));
                    sleep(pause.min(BACKOFF_MAX)).await;
                }
                failures += 1;
            }
            Ended::Unsupported => return refresh_by_age(client).await,
            Ended::Unwanted => return,
        }
    }
}

/// Follows the changes of these topics until the stream breaks or other topics are in use.
async fn watch(
    inner: Arc<Inner>,
    client: &Weak<Inner>,
    topics: Vec<String>,
    names: &mut Receiver<u64>,
) -> Ended {
    let Ok((server, channel)) = inner.connections.control().await else {
        return Ended::Broken;
    };
    let mut stub = MetadataServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER);
    let request = WatchMetadataRequest { topics: topics.clone() };
    let broke = |inner: &Inner, status: Option<Status>| {
        tracing::debug!(%server, ?status, "a metadata watch ended");
        match status {
            Some(status) if status.code() == Code::Unimplemented => return Ended::Unsupported,
            Some(status) if is_transport_failure(&status) => {
                inner.connections.lost(&server, Purpose::Control);
            }
            // It stops, or is too busy: it has answered, so others may use the connection to its end.
            Some(_) | None => inner.connections.pass_over(&server),
        }
        Ended::Broken
    };
    let mut changes = match stub.watch_metadata(request).await {
        Ok(changes) => changes.into_inner(),
        Err(status) => return broke(&inner, Some(status)),
    };
    let max_idle = inner.connections.config().metadata_max_idle;
    let mut idle_check = interval(max_idle / IDLE_CHECKS);
    drop(inner);
    let mut whole = Some(topics);
    loop {
        let change = tokio::select! {
            change = changes.message() => change,
            _ = idle_check.tick() => {
                let Some(inner) = client.upgrade() else { return Ended::Unwanted };
                inner.metadata.forget_idle(Instant::now(), max_idle);
                continue;
            }
            changed = names.changed() => match changed {
                Ok(()) => return Ended::Names,
                Err(_) => return Ended::Unwanted,
            },
        };
        let Some(inner) = client.upgrade() else { return Ended::Unwanted };
        match change {
            Ok(Some(change)) => {
                inner.learn(update(change, whole.take()));
            }
            Ok(None) => return broke(&inner, None),
            Err(status) => return broke(&inner, Some(status)),
        }
    }
}

/// `whole`: all that was asked for, if this is the first push: what is not in it does not exist.
fn update(change: WatchMetadataResponse, whole: Option<Vec<String>>) -> MetadataUpdate {
    let WatchMetadataResponse { topics, deleted_topics, nodes, metadata_offset, as_of: _ } = change;
    let mut gone = deleted_topics;
    let missing = whole.into_iter().flatten();
    gone.extend(missing.filter(|name| !topics.iter().any(|topic| topic.name == *name)));
    MetadataUpdate { offset: metadata_offset, topics, gone, nodes }
}

fn interval(every: Duration) -> Interval {
    let every = every.max(Duration::from_millis(1));
    let mut interval = interval_at(Instant::now() + every, every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn refresh_by_age(client: Weak<Inner>) {
    loop {
        sleep(AGE_CHECK).await;
        let Some(inner) = client.upgrade() else { return };
        let config = inner.connections.config();
        let max_age = config.metadata_max_age;
        inner.metadata.forget_idle(Instant::now(), config.metadata_max_idle);
        let old = inner.metadata.older_than(Instant::now(), max_age);
        if let Err(error) = inner.refresh(&old, Missing::StaysMissing).await {
            tracing::debug!(%error, "metadata refresh");
        }
    }
}
