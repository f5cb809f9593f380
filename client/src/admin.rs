//! Administration: thin, typed, one method a call; lists come whole.
//!
//! Requests and answers are the generated types of `troupe.admin.v1` and `troupe.chaos.v1alpha1`.
//! A change whose connection breaks is not repeated: its outcome is unknown, and the error says so.

use crate::client::{Inner, MAX_ANSWER};
use crate::error::ClientError;
use std::sync::Arc;
use tonic::transport::Channel;
use tonic::{Response, Status};
use troupe_proto::admin::v1::cluster_service_client::ClusterServiceClient;
use troupe_proto::admin::v1::topic_service_client::TopicServiceClient;
use troupe_proto::admin::v1::{
    CreatePartitionsRequest, CreateTopicRequest, DeleteTopicRequest, GetClusterRequest,
    GetClusterResponse, GetTopicRequest, ListReplicasRequest, ListTopicsRequest,
    ListTopicsResponse, Replica, Topic, UpdateTopicRequest,
};
use troupe_proto::chaos::v1alpha1::chaos_service_client::ChaosServiceClient;
use troupe_proto::chaos::v1alpha1::{
    Actor, KillActorRequest, KillActorResponse, KillMode, ListActorsRequest,
};
use troupe_proto::ids::TopicId;

/// Control calls to any node, or to one.
#[derive(Clone)]
pub struct Admin {
    inner: Arc<Inner>,
    node: Option<Channel>,
}

impl Admin {
    pub(crate) fn any(inner: Arc<Inner>) -> Self {
        Self { inner, node: None }
    }

    pub(crate) fn at(inner: Arc<Inner>, node: Channel) -> Self {
        Self { inner, node: Some(node) }
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
        let mut found = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListTopicsRequest { page_size: 0, page_token, include_internal };
            let page = self.list_topics_page(request).await?;
            found.extend(page.topics);
            if page.next_page_token.is_empty() {
                return Ok(found);
            }
            page_token = page.next_page_token;
        }
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

    /// # Errors
    /// Those of any control call.
    pub async fn get_cluster(&self) -> Result<GetClusterResponse, ClientError> {
        self.call(true, |channel| async move {
            cluster(channel).get_cluster(GetClusterRequest {}).await
        })
        .await
    }

    /// What the replicas of the node that answers hold; of one topic, or of all.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC.
    pub async fn list_replicas(&self, topic: Option<&str>) -> Result<Vec<Replica>, ClientError> {
        let mut found = Vec::new();
        let topic = topic.unwrap_or_default().to_owned();
        let mut page_token = String::new();
        loop {
            let page = self
                .call(true, |channel| {
                    let (topic, page_token) = (topic.clone(), page_token.clone());
                    let request = ListReplicasRequest { topic, page_size: 0, page_token };
                    async move { cluster(channel).list_replicas(request).await }
                })
                .await?;
            found.extend(page.replicas);
            if page.next_page_token.is_empty() {
                return Ok(found);
            }
            page_token = page.next_page_token;
        }
    }

    /// The actors of the node that answers whose addresses begin with `prefix`.
    ///
    /// # Errors
    /// Those of any control call.
    pub async fn list_actors(&self, prefix: &str) -> Result<Vec<Actor>, ClientError> {
        let mut found = Vec::new();
        let mut page_token = String::new();
        loop {
            let page = self
                .call(true, |channel| {
                    let (prefix, page_token) = (prefix.to_owned(), page_token.clone());
                    let request = ListActorsRequest { prefix, page_size: 0, page_token };
                    async move { chaos(channel).list_actors(request).await }
                })
                .await?;
            found.extend(page.actors);
            if page.next_page_token.is_empty() {
                return Ok(found);
            }
            page_token = page.next_page_token;
        }
    }

    /// Kills an actor of the node that answers, and waits until its successor serves.
    ///
    /// # Errors
    /// CHAOS_DISABLED, UNKNOWN_ACTOR.
    pub async fn kill_actor(
        &self,
        address: &str,
        mode: KillMode,
    ) -> Result<KillActorResponse, ClientError> {
        self.call(false, |channel| {
            let request = KillActorRequest { address: address.to_owned(), mode: mode.into() };
            async move { chaos(channel).kill_actor(request).await }
        })
        .await
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
            Some(node) => Ok(call(node.clone()).await?.into_inner()),
            None => self.inner.connections.call(repeatable, call).await,
        }
    }

    fn bad_answer(&self) -> ClientError {
        ClientError::Protocol {
            server: self.inner.connections.current_server().to_string(),
            what: "the answer does not hold what was asked for".to_owned(),
        }
    }
}

fn topics(channel: Channel) -> TopicServiceClient<Channel> {
    TopicServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER)
}

fn cluster(channel: Channel) -> ClusterServiceClient<Channel> {
    ClusterServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER)
}

fn chaos(channel: Channel) -> ChaosServiceClient<Channel> {
    ChaosServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER)
}
