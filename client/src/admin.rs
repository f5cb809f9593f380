//! Administration: thin, typed, one method a call; lists come whole.
//!
//! Requests and answers are the generated types of `troupe.admin.v1` and `troupe.chaos.v1alpha1`. Any node
//! takes them and passes on what the controller decides; only replicas and actors are each node's own.
//! A change whose connection breaks is not repeated unless nothing was sent, or twice is as good as once:
//! its outcome is unknown, and the error says so.

mod chaos;
mod configs;
pub(crate) mod groups;
mod placement;
mod reassignments;
mod transactions;

use crate::client::{Inner, MAX_ANSWER};
use crate::error::ClientError;
use std::sync::Arc;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};
use troupe_proto::admin::v1::cluster_service_client::ClusterServiceClient;
use troupe_proto::admin::v1::topic_service_client::TopicServiceClient;
use troupe_proto::admin::v1::{
    AlterReplicaLogDirsRequest, AlteredReplicaLogDir, CreatePartitionsRequest, CreateTopicRequest,
    DeleteRecordsRequest, DeleteTopicRequest, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DrainNodeRequest, DrainNodeResponse, ElectLeadersRequest, ElectionResult, ElectionType,
    GetClusterRequest, GetClusterResponse, GetHealthRequest, GetHealthResponse, GetTopicRequest,
    ListPartitionsRequest, ListReplicasRequest, ListTopicsRequest, ListTopicsResponse, OffsetRange,
    PartitionFilter, PartitionState, RecordsDeletionResult, RecoverPartitionRequest,
    RemoveNodeRequest, Replica, ReplicaLogDir, ResumeNodeRequest, ScrubReplicasRequest,
    ScrubReplicasResponse, Topic, TopicPartitions, UpdateTopicRequest,
};
use troupe_proto::ids::{NodeId, TopicId};

/// Control calls to any node, or to one.
#[derive(Clone)]
pub struct Admin {
    inner: Arc<Inner>,
    node: Option<(Arc<str>, Channel)>,
}

impl Admin {
    pub(crate) fn any(inner: Arc<Inner>) -> Self {
        Self { inner, node: None }
    }

    pub(crate) fn at(inner: Arc<Inner>, endpoint: Arc<str>, channel: Channel) -> Self {
        Self { inner, node: Some((endpoint, channel)) }
    }

    /// # Errors
    /// INVALID_TOPIC, TOPIC_EXISTS, INVALID_PARTITIONS, INVALID_REPLICATION_FACTOR,
    /// INVALID_REPLICA_ASSIGNMENT, INVALID_CONFIG.
    pub async fn create_topic(&self, request: CreateTopicRequest) -> Result<Topic, ClientError> {
        let answer = self
            .call(false, |channel| {
                let request = request.clone();
                async move { topics(channel).create_topic(request).await }
            })
            .await?;
        answer.topic.ok_or_else(|| self.bad_answer())
    }

    /// # Errors
    /// UNKNOWN_TOPIC.
    pub async fn get_topic(&self, name: &str) -> Result<Topic, ClientError> {
        let answer = self
            .call(true, |channel| {
                let request = GetTopicRequest { name: name.to_owned() };
                async move { topics(channel).get_topic(request).await }
            })
            .await?;
        answer.topic.ok_or_else(|| self.bad_answer())
    }

    /// Every topic, by name, without configs.
    ///
    /// # Errors
    /// Those of any control call.
    pub async fn list_topics(&self, include_internal: bool) -> Result<Vec<Topic>, ClientError> {
        all_pages(|page_token| async move {
            let request = ListTopicsRequest { page_size: 0, page_token, include_internal };
            let page = self.list_topics_page(request).await?;
            Ok((page.topics, page.next_page_token))
        })
        .await
    }

    /// One page of the topics.
    ///
    /// # Errors
    /// Those of any control call.
    pub async fn list_topics_page(
        &self,
        request: ListTopicsRequest,
    ) -> Result<ListTopicsResponse, ClientError> {
        self.call(true, |channel| {
            let request = request.clone();
            async move { topics(channel).list_topics(request).await }
        })
        .await
    }

    /// Sets and unsets configuration keys; all or nothing.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC, INVALID_CONFIG.
    pub async fn update_topic(&self, request: UpdateTopicRequest) -> Result<Topic, ClientError> {
        let answer = self
            .call(false, |channel| {
                let request = request.clone();
                async move { topics(channel).update_topic(request).await }
            })
            .await?;
        answer.topic.ok_or_else(|| self.bad_answer())
    }

    /// # Errors
    /// UNKNOWN_TOPIC, INVALID_PARTITIONS, INVALID_REPLICA_ASSIGNMENT.
    pub async fn create_partitions(
        &self,
        request: CreatePartitionsRequest,
    ) -> Result<Topic, ClientError> {
        let answer = self
            .call(false, |channel| {
                let request = request.clone();
                async move { topics(channel).create_partitions(request).await }
            })
            .await?;
        answer.topic.ok_or_else(|| self.bad_answer())
    }

    /// # Errors
    /// UNKNOWN_TOPIC, TOPIC_DELETION_DISABLED.
    pub async fn delete_topic(&self, request: DeleteTopicRequest) -> Result<TopicId, ClientError> {
        let answer = self
            .call(false, |channel| {
                let request = request.clone();
                async move { topics(channel).delete_topic(request).await }
            })
            .await?;
        TopicId::from_wire(&answer.topic_id).ok_or_else(|| self.bad_answer())
    }

    /// Deletes records from the front of partitions, wherever they are led. Each succeeds or fails for itself, in the
    /// order asked; up to a fixed offset, twice is as good as once.
    ///
    /// # Errors
    /// Those of any control call; those of a partition are in its result.
    pub async fn delete_records(
        &self,
        request: DeleteRecordsRequest,
    ) -> Result<Vec<RecordsDeletionResult>, ClientError> {
        let repeatable = request.partitions.iter().all(|deletion| deletion.before_offset >= 0);
        let answer = self
            .call(repeatable, |channel| {
                let request = request.clone();
                async move { topics(channel).delete_records(request).await }
            })
            .await?;
        Ok(answer.results)
    }

    /// # Errors
    /// Those of any control call.
    pub async fn get_cluster(&self) -> Result<GetClusterResponse, ClientError> {
        self.call(true, |channel| async move {
            cluster(channel).get_cluster(GetClusterRequest {}).await
        })
        .await
    }

    /// What is wrong, as far as the node that answers knows: with the cluster, and with itself.
    ///
    /// # Errors
    /// Those of any control call.
    pub async fn get_health(&self) -> Result<GetHealthResponse, ClientError> {
        self.call(
            true,
            |channel| async move { cluster(channel).get_health(GetHealthRequest {}).await },
        )
        .await
    }

    /// Who leads and who is in sync, of one topic or of all, as the controller has committed it.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC.
    pub async fn list_partitions(
        &self,
        topic: Option<&str>,
        filter: PartitionFilter,
    ) -> Result<Vec<PartitionState>, ClientError> {
        all_pages(|page_token| async move {
            let request = ListPartitionsRequest {
                topic: topic.unwrap_or_default().to_owned(),
                filter: filter.into(),
                page_size: 0,
                page_token,
            };
            let page = self
                .call(true, |channel| {
                    let request = request.clone();
                    async move { cluster(channel).list_partitions(request).await }
                })
                .await?;
            Ok((page.partitions, page.next_page_token))
        })
        .await
    }

    /// Elects leaders of these partitions; empty: of all that the election is for. Each succeeds or fails
    /// for itself.
    ///
    /// # Errors
    /// Those of any control call; those of a partition are in its result.
    pub async fn elect_leaders(
        &self,
        election: ElectionType,
        partitions: Vec<TopicPartitions>,
    ) -> Result<Vec<ElectionResult>, ClientError> {
        let answer = self
            .call(false, |channel| {
                let partitions = partitions.clone();
                let request = ElectLeadersRequest { r#type: election.into(), partitions };
                async move { cluster(channel).elect_leaders(request).await }
            })
            .await?;
        Ok(answer.results)
    }

    /// Moves a node's leaderships away and takes it out of every ISR, so that it can be stopped. Twice is as
    /// good as once.
    ///
    /// # Errors
    /// BROKER_NOT_REGISTERED.
    pub async fn drain_node(&self, node: NodeId) -> Result<DrainNodeResponse, ClientError> {
        self.call(true, |channel| async move {
            cluster(channel).drain_node(DrainNodeRequest { node_id: node.0 }).await
        })
        .await
    }

    /// Ends a drain. Twice is as good as once.
    ///
    /// # Errors
    /// BROKER_NOT_REGISTERED.
    pub async fn resume_node(&self, node: NodeId) -> Result<(), ClientError> {
        let resumed = self.call(true, |channel| async move {
            cluster(channel).resume_node(ResumeNodeRequest { node_id: node.0 }).await
        });
        resumed.await.map(drop)
    }

    /// Forgets a node that has stopped for good.
    ///
    /// # Errors
    /// BROKER_NOT_REGISTERED, INVALID_REQUEST if it is alive, NODE_HOLDS_REPLICAS.
    pub async fn remove_node(&self, node: NodeId) -> Result<(), ClientError> {
        let removed = self.call(false, |channel| async move {
            cluster(channel).remove_node(RemoveNodeRequest { node_id: node.0 }).await
        });
        removed.await.map(drop)
    }

    /// What the replicas of the node that answers hold; [`crate::Client::admin_of`] and
    /// [`crate::Client::admin_at`] choose which. Of one topic, or of all.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC.
    pub async fn list_replicas(&self, topic: Option<&str>) -> Result<Vec<Replica>, ClientError> {
        self.list_of_replicas(topic, false).await
    }

    /// The same without asking the replicas' actors: only how those are, and what waits for them.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC.
    pub async fn list_replicas_briefly(
        &self,
        topic: Option<&str>,
    ) -> Result<Vec<Replica>, ClientError> {
        self.list_of_replicas(topic, true).await
    }

    async fn list_of_replicas(
        &self,
        topic: Option<&str>,
        brief: bool,
    ) -> Result<Vec<Replica>, ClientError> {
        all_pages(|page_token| async move {
            let topic = topic.unwrap_or_default().to_owned();
            let request = ListReplicasRequest { topic, page_size: 0, page_token, brief };
            let page = self
                .call(true, |channel| {
                    let request = request.clone();
                    async move { cluster(channel).list_replicas(request).await }
                })
                .await?;
            Ok((page.replicas, page.next_page_token))
        })
        .await
    }

    /// Gives up what is damaged in a partition that the node leads which answers, and of which no other replica is in
    /// sync: which offsets are lost.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC, UNKNOWN_PARTITION, NOT_LEADER, INVALID_REQUEST.
    pub async fn recover_partition(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<Vec<OffsetRange>, ClientError> {
        let request = RecoverPartitionRequest { topic: topic.to_owned(), partition };
        let recovered = self
            .call(false, |channel| {
                let request = request.clone();
                async move { cluster(channel).recover_partition(request).await }
            })
            .await?;
        Ok(recovered.lost_offsets)
    }

    /// Has replicas of the node that answers looked through, one after the other: an answer for each. Without a topic,
    /// all; without partitions, all of the topic.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC, UNKNOWN_PARTITION.
    pub async fn scrub_replicas(
        &self,
        request: ScrubReplicasRequest,
    ) -> Result<Streaming<ScrubReplicasResponse>, ClientError> {
        self.call(true, |channel| {
            let request = request.clone();
            async move { cluster(channel).scrub_replicas(request).await }
        })
        .await
    }

    /// The log directories of the node that answers, and what of these partitions is in them; empty: of all.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC, UNKNOWN_PARTITION.
    pub async fn describe_log_dirs(
        &self,
        partitions: Vec<TopicPartitions>,
    ) -> Result<DescribeLogDirsResponse, ClientError> {
        self.call(true, |channel| {
            let request = DescribeLogDirsRequest { partitions: partitions.clone() };
            async move { cluster(channel).describe_log_dirs(request).await }
        })
        .await
    }

    /// Has replicas of the node that answers moved between its log directories; each is taken or refused for itself.
    /// Twice is as good as once.
    ///
    /// # Errors
    /// Those of any control call; those of a replica are in its result.
    pub async fn alter_replica_log_dirs(
        &self,
        replicas: Vec<ReplicaLogDir>,
    ) -> Result<Vec<AlteredReplicaLogDir>, ClientError> {
        let answer = self
            .call(true, |channel| {
                let request = AlterReplicaLogDirsRequest { replicas: replicas.clone() };
                async move { cluster(channel).alter_replica_log_dirs(request).await }
            })
            .await?;
        Ok(answer.results)
    }

    async fn call<T, F>(
        &self,
        repeatable: bool,
        call: impl Fn(Channel) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        match &self.node {
            Some((server, channel)) => {
                self.inner.connections.call_at(server, call(channel.clone())).await
            }
            None => self.inner.connections.call(repeatable, call).await,
        }
    }

    fn bad_answer(&self) -> ClientError {
        let server = match &self.node {
            Some((server, _)) => server.clone(),
            None => self.inner.connections.current_server(),
        };
        ClientError::Protocol {
            server: server.to_string(),
            what: "the answer does not hold what was asked for".to_owned(),
        }
    }
}

/// What is on all pages of a listing; `page` gets the one with a token, and the next one's.
async fn all_pages<T, F>(page: impl Fn(String) -> F) -> Result<Vec<T>, ClientError>
where
    F: Future<Output = Result<(Vec<T>, String), ClientError>>,
{
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let (more, next) = page(page_token).await?;
        found.extend(more);
        if next.is_empty() {
            return Ok(found);
        }
        page_token = next;
    }
}

fn topics(channel: Channel) -> TopicServiceClient<Channel> {
    TopicServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER)
}

fn cluster(channel: Channel) -> ClusterServiceClient<Channel> {
    ClusterServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER)
}
