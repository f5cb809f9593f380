//! The client: connections, the metadata of the cluster, and the doors to everything else.

use crate::admin::Admin;
use crate::config::ClientConfig;
use crate::connection::{Connections, Purpose};
use crate::consumer::{Consumer, ConsumerConfig};
use crate::error::ClientError;
use crate::metadata::{Metadata, MetadataUpdate, TopicMetadata};
use crate::producer::{Producer, ProducerConfig};
use crate::reader::{Reader, ReaderConfig};
use crate::wait::observed;
use crate::watch::Watcher;
use std::sync::Arc;
use tokio::time::{Duration, Instant, sleep};
use tonic::transport::Channel;
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::NodeId;
use troupe_proto::log::v1::metadata_service_client::MetadataServiceClient;
use troupe_proto::log::v1::{
    DescribeClusterRequest, DescribeClusterResponse, DescribeTopicsRequest, DescribeTopicsResponse,
};

/// The largest answer that a control call takes: the description of a large cluster.
pub(crate) const MAX_ANSWER: usize = 64 << 20;

/// How long somebody who waits for an answer is kept waiting for a topic that no node knows.
const NEW_TOPIC_PATIENCE: Duration = Duration::from_secs(1);
const NEW_TOPIC_PAUSE: Duration = Duration::from_millis(50);

/// A connection to a cluster. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

/// What becomes of a topic that is asked for and does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    StaysMissing,
    /// Where the nodes allow it.
    IsCreated,
}

impl Missing {
    pub(crate) fn created_if(allowed: bool) -> Self {
        if allowed { Self::IsCreated } else { Self::StaysMissing }
    }
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
        let observer = connections.config().wait_observer.clone();
        let server = || connections.current_server().to_string();
        observed(observer.as_ref(), server, connections.control()).await?;
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
        self.known_topic(name, Missing::StaysMissing).await
    }

    /// The same; a topic that does not exist is created where the nodes' `auto.create.topics.enable` allows it, with
    /// their numbers of partitions and replicas.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC if it is not allowed, why it could not be created, and those of any control call.
    pub async fn topic_or_create(&self, name: &str) -> Result<Arc<TopicMetadata>, ClientError> {
        self.known_topic(name, Missing::IsCreated).await
    }

    async fn known_topic(
        &self,
        name: &str,
        missing: Missing,
    ) -> Result<Arc<TopicMetadata>, ClientError> {
        let max_age = self.inner.connections.config().metadata_max_age;
        if let Some(topic) = self.inner.metadata.topic(name, Instant::now(), max_age) {
            return Ok(topic);
        }
        self.inner.find_topic(name, missing).await
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
        if let Some(endpoint) = self.inner.metadata.endpoint(node)
            && let Ok(admin) = self.admin_at(&endpoint).await
        {
            return Ok(admin);
        }
        // It may be somewhere else by now.
        self.inner.describe_cluster().await?;
        match self.inner.metadata.endpoint(node) {
            Some(endpoint) => self.admin_at(&endpoint).await,
            None => Err(ClientError::CannotConnect {
                server: format!("node {node}"),
                cause: "the cluster has no such node".to_owned(),
                hint: "",
            }),
        }
    }

    /// The same, of the node at this endpoint, whatever the cluster knows of it.
    ///
    /// # Errors
    /// [`ClientError::CannotConnect`].
    pub async fn admin_at(&self, endpoint: &str) -> Result<Admin, ClientError> {
        let endpoint = Arc::from(endpoint);
        let channel = self.inner.connections.open(&endpoint, Purpose::Control).await?;
        Ok(Admin::at(self.inner.clone(), endpoint, channel))
    }

    /// A producer. It has its own buffer and its own idempotent session.
    ///
    /// # Errors
    /// [`ClientError::Config`] if settings do not go together.
    pub async fn producer(&self, config: ProducerConfig) -> Result<Producer, ClientError> {
        Producer::start(self.inner.clone(), config)
    }

    /// A consumer: a member of a group, or on its own. It joins and reads when it is polled.
    ///
    /// # Errors
    /// [`ClientError::Config`] if settings do not go together.
    pub fn consumer(&self, config: ConsumerConfig) -> Result<Consumer, ClientError> {
        Consumer::new(self.inner.clone(), config)
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
        let DescribeClusterResponse { metadata_offset: offset, nodes, .. } = described.clone();
        self.learn(MetadataUpdate { offset, nodes, ..MetadataUpdate::default() });
        Ok(described)
    }

    /// Asks who leads these topics now. Those that do not exist are forgotten. A single one is refused if nothing can
    /// have its name; among others it counts as one that does not exist.
    pub(crate) async fn refresh(
        &self,
        topics: &[String],
        missing: Missing,
    ) -> Result<(), ClientError> {
        if topics.is_empty() {
            return Ok(());
        }
        match self.refresh_together(topics, missing).await {
            Err(error) if error.reason() == ErrorCode::InvalidTopic && topics.len() > 1 => {}
            refreshed => return refreshed,
        }
        for topic in topics {
            match self.refresh_together(std::slice::from_ref(topic), missing).await {
                Err(error) if error.reason() == ErrorCode::InvalidTopic => {}
                refreshed => refreshed?,
            }
        }
        Ok(())
    }

    async fn refresh_together(
        &self,
        topics: &[String],
        missing: Missing,
    ) -> Result<(), ClientError> {
        let answer = self
            .connections
            .call(true, |channel| {
                let request = DescribeTopicsRequest {
                    topics: topics.to_vec(),
                    allow_auto_topic_creation: missing == Missing::IsCreated,
                };
                async move {
                    let mut stub =
                        MetadataServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER);
                    stub.describe_topics(request).await
                }
            })
            .await?;
        let DescribeTopicsResponse {
            topics,
            unknown_topics: gone,
            nodes,
            metadata_offset: offset,
            as_of: _,
        } = answer;
        if !self.learn(MetadataUpdate { offset, topics, gone, nodes }) {
            // Whoever asks on an error got no news: this node may lag behind, or be cut off.
            self.connections.pass_over(&self.connections.current_server());
        }
        Ok(())
    }

    /// Takes in what a node told. True: something was news.
    pub(crate) fn learn(&self, update: MetadataUpdate) -> bool {
        let changes = self.metadata.changes();
        self.metadata.merge(Instant::now(), update);
        let (alive, fenced) = self.metadata.nodes();
        self.connections.learn(alive, &fenced);
        changes.has_changed().unwrap_or(false)
    }

    /// The topic as it is now.
    pub(crate) async fn refresh_topic(
        &self,
        name: &str,
        missing: Missing,
    ) -> Result<Arc<TopicMetadata>, ClientError> {
        self.refresh(&[name.to_owned()], missing).await?;
        self.metadata.use_topic(name);
        self.metadata.topic_of_any_age(name).ok_or_else(|| ClientError::unknown_topic(name))
    }

    /// The same; of several nodes one may not have heard of a new topic yet.
    pub(crate) async fn find_topic(
        &self,
        name: &str,
        missing: Missing,
    ) -> Result<Arc<TopicMetadata>, ClientError> {
        let patience = Instant::now() + NEW_TOPIC_PATIENCE;
        loop {
            match self.refresh_topic(name, missing).await {
                Err(error)
                    if error.reason() == ErrorCode::UnknownTopic
                        && self.connections.is_cluster()
                        && Instant::now() < patience =>
                {
                    sleep(NEW_TOPIC_PAUSE).await;
                }
                found => return found,
            }
        }
    }

    /// Keeps what is known of the topics fresh as long as this client lives.
    pub(crate) fn watch_metadata(self: &Arc<Self>) {
        self.watcher.start(self);
    }
}
