//! What holds on this node: what it was started with, and over it what was set while it runs, for the cluster and for
//! this broker.
//!
//! Promises: there is one value of each key, and whoever reads it here has the one of now; whoever waits is told of
//! another. What makes no sense beside what the node was started with is not taken, as a whole, and that is told.
//! Never here: what a key does.

use crate::NodeConfig;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use troupe_machines::cluster::{ClusterImage, Overrides};
use troupe_proto::ids::NodeId;

pub struct NodeSettings {
    started: NodeConfig,
    /// What is set, of the cluster and of this broker, as last seen.
    seen: Mutex<(Overrides, Overrides)>,
    now: watch::Sender<Arc<NodeConfig>>,
}

impl NodeSettings {
    pub fn new(started: NodeConfig) -> Arc<Self> {
        let now = watch::Sender::new(Arc::new(started.clone()));
        Arc::new(Self { started, seen: Mutex::default(), now })
    }

    /// What the node was started with.
    pub fn started(&self) -> &NodeConfig {
        &self.started
    }

    pub fn now(&self) -> Arc<NodeConfig> {
        Arc::clone(&self.now.borrow())
    }

    /// What holds now, and every change of it.
    pub fn watch(&self) -> watch::Receiver<Arc<NodeConfig>> {
        self.now.subscribe()
    }

    /// What one part goes by of what holds, and every change of that.
    pub fn watch_part<S: Clone + PartialEq + Send + Sync + 'static>(
        &self,
        part_of: impl Fn(&NodeConfig) -> S + Send + 'static,
    ) -> watch::Receiver<S> {
        let mut changes = self.watch();
        let (part, told) = watch::channel(part_of(&changes.borrow_and_update()));
        tokio::spawn(async move {
            // Fails only if the node is gone.
            while changes.changed().await.is_ok() {
                let now = part_of(&changes.borrow_and_update());
                part.send_if_modified(|before| std::mem::replace(before, now.clone()) != now);
            }
        });
        told
    }

    /// Follows the image until the node stops.
    pub async fn follow(
        self: Arc<Self>,
        mut images: watch::Receiver<Arc<ClusterImage>>,
        shutdown: CancellationToken,
    ) {
        loop {
            let image = images.borrow_and_update().clone();
            self.take(&image);
            tokio::select! {
                changed = images.changed() => if changed.is_err() { return },
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// What is set in this image holds from now on.
    pub fn take(&self, image: &ClusterImage) {
        let cluster = image.cluster_overrides();
        let own = image.broker_overrides(NodeId(self.started.node_id));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0 == *cluster && seen.1 == *own {
            return;
        }
        *seen = (cluster.clone(), own.clone());
        match self.started.with_overrides(cluster, own) {
            Ok(config) => {
                self.now.send_replace(Arc::new(config));
            }
            Err(faults) => tracing::error!(
                %faults,
                "what was set for this broker makes no sense beside what it was started with: all of it stays as it was"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::internal::v1::config_resource::Resource;
    use troupe_proto::internal::v1::metadata_record::Record;
    use troupe_proto::internal::v1::{BrokerRecord, ConfigRecord, ConfigResource, MetadataRecord};

    fn image(settings: &[(Resource, &str, &str)]) -> ClusterImage {
        let broker =
            BrokerRecord { node_id: 1, incarnation_id: vec![1; 16].into(), ..Default::default() };
        let settings = settings.iter().map(|(resource, key, value)| {
            let resource = Some(ConfigResource { resource: Some(resource.clone()) });
            Record::Config(ConfigRecord {
                resource,
                key: (*key).into(),
                value: Some((*value).into()),
            })
        });
        let records = std::iter::once(Record::Broker(broker)).chain(settings);
        let records: Vec<_> = records.map(|it| MetadataRecord { record: Some(it) }).collect();
        let mut image = ClusterImage::default();
        image.replay_all(&records).unwrap();
        image
    }

    /// A3.
    #[test]
    fn a_brokers_own_counts_before_the_clusters_and_both_before_what_it_was_started_with() {
        let set = ["log.cleaner.threads=2".to_owned(), "log.cleaner.backoff.ms=7".to_owned()];
        let settings = NodeSettings::new(NodeConfig::load(None, [], &set).unwrap());
        let mut watch = settings.watch();
        let (cluster, own) = (Resource::Cluster(true), Resource::NodeId(1));
        settings.take(&image(&[
            (cluster.clone(), "log.cleaner.threads", "3"),
            (cluster.clone(), "log.retention.bytes", "99"),
            (own.clone(), "log.retention.bytes", "-1"),
            // Of a later version, and one that needs a restart: passed over.
            (cluster.clone(), "no.such.key", "1"),
            (own.clone(), "shards", "9"),
        ]));
        let now = settings.now();
        assert!(watch.has_changed().unwrap());
        assert_eq!((now.cleaner_threads, now.cleaner_backoff.0), (3, 7));
        assert_eq!((now.retention_bytes.0, now.shards), (None, 0));
        // Two thirds of a megabyte for each thread would be too little: nothing is taken.
        let started = NodeSettings::new(
            NodeConfig::load(None, [], &["log.cleaner.dedupe.buffer.size=2MiB".to_owned()])
                .unwrap(),
        );
        started.take(&image(&[
            (own, "log.cleaner.threads", "3"),
            (cluster, "log.retention.bytes", "9"),
        ]));
        assert_eq!((started.now().cleaner_threads, started.now().retention_bytes.0), (1, None));
        watch.borrow_and_update();
        settings.take(&image(&[]));
        assert_eq!(settings.now().cleaner_threads, 2, "what it was started with holds again");
    }
}
