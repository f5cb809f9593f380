//! The client: connections, the picture of the cluster, and the doors to everything else.

use crate::admin::Admin;
use crate::config::ClientConfig;
use crate::connection::{Connections, Purpose};
use crate::error::ClientError;
use crate::metadata::{Metadata, TopicMetadata};
use crate::producer::{Producer, ProducerConfig};
use crate::reader::{Reader, ReaderConfig};
use crate::watch::Watcher;
use std::sync::Arc;
use tokio::time::Instant;
use tonic::transport::Channel;
use troupe_proto::ids::NodeId;
use troupe_proto::log::v1::metadata_service_client::MetadataServiceClient;
use troupe_proto::log::v1::{
    DescribeClusterRequest, DescribeClusterResponse, DescribeTopicsRequest,
};

/// The largest answer that a control call takes: the description of a large cluster.
pub(crate) const MAX_ANSWER: usize = 64 << 20;

/// A connection to a cluster. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

/// What the clones share, and what a producer or reader keeps alive.
pub(crate) struct Inner {
    pub(crate) connections: Connections,
    pub(crate) metadata: Metadata,
    watcher: Watcher,
}

impl Client {
    /// Connects to the first of the servers that answers.
    ///
    /// # Errors
    /// [`ClientError::CannotConnect`] of the first server if none does.
    pub async fn connect(config: ClientConfig) -> Result<Client, ClientError> {
        let connections = Connections::new(config)?;
        connections.control().await?;
        let inner = Inner { connections, metadata: Metadata::new(), watcher: Watcher::new() };
        Ok(Client { inner: Arc::new(inner) })
    }

    /// The server that control calls go to at the moment.
    pub fn server(&self) -> String {
        self.inner.connections.current_server().to_string()
    }

    /// The control connection, for generated stubs that have no wrapper here.
    ///
    /// # Errors
    /// [`ClientError::CannotConnect`].
    pub async fn channel(&self) -> Result<Channel, ClientError> {
        Ok(self.inner.connections.control().await?.1)
    }

    /// The nodes and the controller.
    ///
    /// # Errors
    /// Those of any control call.
    pub async fn describe_cluster(&self) -> Result<DescribeClusterResponse, ClientError> {
        self.inner.describe_cluster().await
    }

    /// A topic, from the cache if it was described not long ago.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC, and those of any control call.
    pub async fn topic(&self, name: &str) -> Result<Arc<TopicMetadata>, ClientError> {
        let max_age = self.inner.connections.config().metadata_max_age;
        if let Some(topic) = self.inner.metadata.topic(name, Instant::now(), max_age) {
            return Ok(topic);
        }
        self.inner.refresh_topic(name).await
    }

    /// Topics, configurations, replicas and actors, through any node.
    pub fn admin(&self) -> Admin {
        Admin::any(self.inner.clone())
    }

    /// The same, of one node: replicas and actors are listed by the node that has them.
    ///
    /// # Errors
    /// [`ClientError::CannotConnect`], also if the cluster has no such node.
    pub async fn admin_of(&self, node: NodeId) -> Result<Admin, ClientError> {
        if self.inner.metadata.endpoint(node).is_none() {
            self.inner.describe_cluster().await?;
        }
        let Some(endpoint) = self.inner.metadata.endpoint(node) else {
            return Err(ClientError::CannotConnect {
                server: format!("node {node}"),
                cause: "the cluster has no such node".to_owned(),
                hint: "",
            });
        };
        let channel = self.inner.connections.open(&endpoint, Purpose::Control).await?;
        Ok(Admin::at(self.inner.clone(), channel))
    }

    /// A producer. It has its own buffer and its own idempotent session.
    ///
    /// # Errors
    /// [`ClientError::Config`] if settings do not go together.
    pub async fn producer(&self, config: ProducerConfig) -> Result<Producer, ClientError> {
        Producer::start(self.inner.clone(), config)
    }

    /// A reader of a topic's partitions, without a group.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC, UNKNOWN_PARTITION, and whatever keeps the start from being found.
    pub async fn reader(&self, topic: &str, config: ReaderConfig) -> Result<Reader, ClientError> {
        Reader::open(self.inner.clone(), topic, config).await
    }
}

impl Inner {
    async fn describe_cluster(&self) -> Result<DescribeClusterResponse, ClientError> {
        let described = self
            .connections
            .call(true, |channel| async move {
                let mut stub =
                    MetadataServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER);
                stub.describe_cluster(DescribeClusterRequest {}).await
            })
            .await?;
        self.metadata.merge(Instant::now(), vec![], &[], described.nodes.clone());
        self.connections.learn(self.metadata.endpoints());
        Ok(described)
    }

    /// Asks who leads these topics now. Those that do not exist are forgotten.
    pub(crate) async fn refresh(&self, topics: &[String]) -> Result<(), ClientError> {
        if topics.is_empty() {
            return Ok(());
        }
        let answer = self
            .connections
            .call(true, |channel| {
                let request = DescribeTopicsRequest { topics: topics.to_vec() };
                async move {
                    let mut stub =
                        MetadataServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER);
                    stub.describe_topics(request).await
                }
            })
            .await?;
        self.metadata.merge(Instant::now(), answer.topics, &answer.unknown_topics, answer.nodes);
        self.connections.learn(self.metadata.endpoints());
        Ok(())
    }

    /// The topic as it is now.
    pub(crate) async fn refresh_topic(
        &self,
        name: &str,
    ) -> Result<Arc<TopicMetadata>, ClientError> {
        self.refresh(&[name.to_owned()]).await?;
        self.metadata.topic_of_any_age(name).ok_or_else(|| ClientError::unknown_topic(name))
    }

    /// Keeps what is known of the topics fresh as long as this client lives.
    pub(crate) fn watch_metadata(self: &Arc<Self>) {
        self.watcher.start(self);
    }
}
