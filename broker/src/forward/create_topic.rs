//! Topics that this node has created by itself: for records that name one, and for what coordinators remember.

use super::call::Call;
use super::decision::ActiveController;
use tonic::Request;
use tonic::transport::Channel;
use troupe_controller::ControllerHandle;
use troupe_machines::cluster::CreateTopic;
use troupe_proto::admin::v1::topic_service_client::TopicServiceClient;
use troupe_proto::admin::v1::{CreateTopicRequest, ReplicaAssignment};
use troupe_proto::error::Error;

impl ActiveController {
    /// Has a topic created, wherever that is decided; when it is, this node knows of it.
    ///
    /// # Errors
    /// `TOPIC_EXISTS` and all others of `TopicService.CreateTopic`.
    pub async fn create_topic(&self, creation: CreateTopic, call: &Call) -> Result<(), Error> {
        let here = |controller: ControllerHandle| {
            let creation = creation.clone();
            async move { controller.create_topic(creation).await }
        };
        let there = |channel: Channel, stamp: Request<()>| {
            let request = stamp.map(|()| wire(&creation));
            async move { TopicServiceClient::new(channel).create_topic(request).await }
        };
        self.decide(call, here, &there).await.map(drop)
    }
}

fn wire(creation: &CreateTopic) -> CreateTopicRequest {
    let assignments = creation.assignments.iter().map(|replicas| ReplicaAssignment {
        replicas: replicas.iter().map(|node| node.0).collect(),
    });
    CreateTopicRequest {
        name: creation.name.clone(),
        partitions: creation.partitions,
        replication_factor: creation.replication_factor,
        assignments: assignments.collect(),
        configs: creation.configs.clone().into_iter().collect(),
        validate_only: creation.validate_only,
        internal: creation.internal,
    }
}
