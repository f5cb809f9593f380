//! Keeps the picture of the cluster fresh: by changes that a node pushes, and by age where none does.
//!
//! Promise: ends with the client. Never here: an error that anybody sees; what cannot be had by watching
//! is asked for when it is needed.

use crate::client::{Inner, MAX_ANSWER};
use crate::error::is_transport_failure;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};
use tokio::task::AbortHandle;
use tokio::time::{Duration, Instant, sleep};
use tonic::Code;
use troupe_proto::log::v1::WatchMetadataRequest;
use troupe_proto::log::v1::metadata_service_client::MetadataServiceClient;

use crate::connection::Purpose;

/// Between two attempts to watch, and how often the set of topics is looked at.
const PAUSE: Duration = Duration::from_secs(1);

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
            *task = Some(tokio::spawn(run(Arc::downgrade(inner))).abort_handle());
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

async fn run(client: Weak<Inner>) {
    let mut pushed = true;
    loop {
        sleep(PAUSE).await;
        let Some(inner) = client.upgrade() else { return };
        let topics = inner.metadata.topic_names();
        if topics.is_empty() {
            continue;
        }
        if pushed {
            pushed = watch(inner, &client, topics).await;
        } else {
            let max_age = inner.connections.config().metadata_max_age;
            let old = inner.metadata.older_than(Instant::now(), max_age);
            if let Err(error) = inner.refresh(&old).await {
                tracing::debug!(%error, "metadata refresh");
            }
        }
    }
}

/// Follows the changes of these topics until the stream breaks or other topics are in use. False: this
/// cluster does not push.
async fn watch(inner: Arc<Inner>, client: &Weak<Inner>, topics: Vec<String>) -> bool {
    let Ok((server, channel)) = inner.connections.control().await else { return true };
    let mut stub = MetadataServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER);
    let request = WatchMetadataRequest { topics: topics.clone() };
    let mut changes = match stub.watch_metadata(request).await {
        Ok(changes) => changes.into_inner(),
        Err(status) => {
            if is_transport_failure(&status) {
                inner.connections.lost(&server, Purpose::Control);
            }
            return status.code() != Code::Unimplemented;
        }
    };
    drop(inner);
    loop {
        let change = tokio::select! {
            change = changes.message() => change,
            () = sleep(PAUSE) => {
                let Some(inner) = client.upgrade() else { return true };
                if inner.metadata.topic_names() != topics {
                    return true;
                }
                continue;
            }
        };
        let Some(inner) = client.upgrade() else { return true };
        match change {
            Ok(Some(change)) => {
                let now = Instant::now();
                inner.metadata.merge(now, change.topics, &change.deleted_topics, change.nodes);
                inner.connections.learn(inner.metadata.endpoints());
            }
            Ok(None) => return true,
            Err(status) => {
                if is_transport_failure(&status) {
                    inner.connections.lost(&server, Purpose::Control);
                }
                return status.code() != Code::Unimplemented;
            }
        }
    }
}
