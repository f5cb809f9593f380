//! Which services a listener has.

use super::answer_writer::AnswerWriter;
use super::chaos_service::ChaosDoor;
use super::cluster_service::ClusterDoor;
use super::commit_service::CommitDoor;
use super::config_service::ConfigDoor;
use super::delivery_service::DeliveryDoor;
use super::event_bus_service::EventBusDoor;
use super::group_service::GroupDoor;
use super::health_service::HealthDoor;
use super::log_service::{LogDoor, LogOperations};
use super::metadata_service::MetadataDoor;
use super::placement_service::PlacementDoor;
use super::reassignment_service::ReassignmentDoor;
use super::replication_service::ReplicationDoor;
use super::topic_service::TopicDoor;
use super::transaction_admin::TransactionAdminDoor;
use super::transaction_markers::MarkerDoor;
use super::transaction_service::TransactionDoor;
use crate::address_book::AddressBook;
use crate::controller_channel::ControllerChannel;
use crate::metadata_cache::MetadataCache;
use crate::operations::{Administration, Operations, Subscriptions};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tonic::service::{Routes, RoutesBuilder};
use troupe_controller::{ControllerEndpoint, RaftEndpoint};
use troupe_proto::admin::v1::cluster_service_server::ClusterServiceServer;
use troupe_proto::admin::v1::config_service_server::ConfigServiceServer;
use troupe_proto::admin::v1::placement_service_server::PlacementServiceServer;
use troupe_proto::admin::v1::reassignment_service_server::ReassignmentServiceServer;
use troupe_proto::admin::v1::topic_service_server::TopicServiceServer;
use troupe_proto::admin::v1::transaction_service_server as admin_transactions;
use troupe_proto::chaos::v1alpha1::chaos_service_server::ChaosServiceServer;
use troupe_proto::health::v1::health_server::HealthServer;
use troupe_proto::internal::v1::commit_service_server::CommitServiceServer;
use troupe_proto::internal::v1::transaction_service_server as markers;
use troupe_proto::log::v1::group_service_server::GroupServiceServer;
use troupe_proto::log::v1::metadata_service_server::MetadataServiceServer;
use troupe_proto::log::v1::transaction_service_server::TransactionServiceServer;
use troupe_proto::v1::event_bus_service_server::EventBusServiceServer;

/// Why there are no services: what reflection would tell does not hang together.
type Inconsistent = tonic_reflection::server::Error;

/// What every listener serves.
#[derive(Clone)]
pub struct AdminServices(pub Administration);

impl AdminServices {
    fn add_to(
        &self,
        routes: &mut RoutesBuilder,
        addresses: &AddressBook,
    ) -> Result<(), Inconsistent> {
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(troupe_proto::FILE_DESCRIPTOR_SET)
                // What errors carry: without it nobody could print their details.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        let Administration {
            topics,
            configs,
            record_deletion,
            cluster,
            placement,
            reassignments,
            metadata,
            health,
            log_dirs,
            readiness,
            chaos,
            ..
        } = &self.0;
        let topics =
            TopicDoor::new(Arc::clone(topics), Arc::clone(record_deletion), addresses.clone());
        let cluster = ClusterDoor::new(
            Arc::clone(cluster),
            Arc::clone(health),
            Arc::clone(log_dirs),
            addresses.clone(),
        );
        let metadata = MetadataDoor::new(Arc::clone(metadata), addresses.clone());
        let placement = PlacementDoor(Arc::clone(placement));
        let reassignments = ReassignmentDoor(Arc::clone(reassignments));
        routes
            .add_service(HealthServer::new(HealthDoor::new(readiness)))
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?)
            .add_service(MetadataServiceServer::new(metadata))
            .add_service(TopicServiceServer::new(topics))
            .add_service(ConfigServiceServer::new(ConfigDoor::new(Arc::clone(configs))))
            .add_service(ClusterServiceServer::new(cluster))
            .add_service(PlacementServiceServer::new(placement))
            .add_service(ReassignmentServiceServer::new(reassignments))
            .add_service(ChaosServiceServer::new(ChaosDoor::new(Arc::clone(chaos))));
        Ok(())
    }
}

/// What the listener of a controller serves: the quorum, sessions, and what is forwarded there to be decided.
#[derive(Clone)]
pub struct ControllerServices {
    pub admin: AdminServices,
    pub addresses: AddressBook,
    pub raft: RaftEndpoint,
    pub sessions: ControllerEndpoint,
}

impl ControllerServices {
    /// To be called where they are served.
    pub fn routes(&self) -> Result<Routes, Inconsistent> {
        let mut routes = Routes::builder();
        self.admin.add_to(&mut routes, &self.addresses)?;
        routes
            .add_service(self.raft.clone().into_service())
            .add_service(self.sessions.clone().into_service());
        Ok(routes.routes())
    }
}

/// What the listener of a broker serves.
#[derive(Clone)]
pub struct BrokerServices {
    pub admin: AdminServices,
    /// What those are told who come by it.
    pub addresses: AddressBook,
    pub metadata: Arc<MetadataCache>,
    pub controller: Arc<ControllerChannel>,
    pub operations: Operations,
    pub subscriptions: Arc<Subscriptions<AnswerWriter>>,
    /// Largest message that is taken.
    pub max_request: usize,
    /// Cancelled when the node begins to stop.
    pub shutdown: CancellationToken,
}

impl BrokerServices {
    /// The same, for who comes by that listener.
    pub fn by(&self, listener: &str, is_inter_broker: bool) -> BrokerServices {
        let addresses = self.addresses.of_listener(listener, is_inter_broker);
        BrokerServices { addresses, ..self.clone() }
    }

    /// To be called where they are served.
    pub fn routes(&self) -> Result<Routes, Inconsistent> {
        let max_request = self.max_request;
        let asked = &self.operations;
        let event_bus = EventBusServiceServer::new(EventBusDoor::new(
            Arc::clone(&asked.publish),
            Arc::clone(&asked.publish_atomically),
            Arc::clone(&asked.settle),
        ))
        .max_decoding_message_size(max_request);
        let deliveries = DeliveryDoor::new(
            Arc::clone(&asked.tail),
            Arc::clone(&self.subscriptions),
            max_request,
            self.shutdown.clone(),
            event_bus,
        );
        let groups = GroupDoor::new(
            Arc::clone(&asked.groups),
            self.addresses.clone(),
            self.shutdown.clone(),
        );
        let commits = CommitServiceServer::new(CommitDoor::new(Arc::clone(&asked.groups)))
            .max_decoding_message_size(max_request);
        let transactions = || Arc::clone(&asked.transactions);
        let markers = markers::TransactionServiceServer::new(MarkerDoor(transactions()))
            .max_decoding_message_size(max_request);
        let transactions_of = TransactionAdminDoor(transactions());
        let operators = admin_transactions::TransactionServiceServer::new(transactions_of);
        let log = LogOperations {
            produce: Arc::clone(&asked.produce),
            fetch: Arc::clone(&asked.fetch),
            offsets: Arc::clone(&asked.offsets),
            producer_ids: Arc::clone(&asked.producer_ids),
            addresses: self.addresses.clone(),
        };
        let log = LogDoor::new(log, max_request);
        let (metadata, controller) = (Arc::clone(&self.metadata), Arc::clone(&self.controller));
        let replication = ReplicationDoor::new(metadata, controller, max_request);
        let mut routes = Routes::builder();
        self.admin.add_to(&mut routes, &self.addresses)?;
        routes
            .add_service(deliveries)
            .add_service(GroupServiceServer::new(groups))
            .add_service(commits)
            .add_service(TransactionServiceServer::new(TransactionDoor(transactions())))
            .add_service(operators)
            .add_service(markers)
            .add_service(log)
            .add_service(replication);
        Ok(routes.routes())
    }
}
