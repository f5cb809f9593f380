//! A controller to try things on, and brokers as it sees them: a listener, an epoch, a session.

use super::{ScriptedLog, image, topic};
use crate::settings::Settings;
use crate::{
    Controller, ControllerConfig, ControllerEndpoint, ControllerHandle, MAX_MESSAGE_BYTES,
    SessionTimings, Upkeep, Voter,
};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Status, Streaming};
use troupe_machines::cluster::{
    Broker, ClusterImage, ClusterPolicy, CreateTopic, METADATA_VERSION,
};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::NodeId;
use troupe_proto::internal::v1 as pb;
use troupe_proto::internal::v1::controller_service_client::ControllerServiceClient;

/// Longer than anything here takes on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than any test: what rests on it does not happen.
pub const NEVER: Duration = Duration::from_secs(3600);

pub type Client = ControllerServiceClient<Channel>;

/// A controller that the test leads by the hand, and its listener.
pub struct Lab {
    pub log: Arc<ScriptedLog>,
    pub handle: ControllerHandle,
    pub endpoint: ControllerEndpoint,
    pub client: Client,
}

/// Nothing happens for lack of time.
pub fn patient() -> SessionTimings {
    SessionTimings { heartbeat: NEVER, timeout: NEVER, reconnect_grace: NEVER }
}

pub async fn lab(sessions: SessionTimings) -> Lab {
    lab_with(sessions, Upkeep::default()).await
}

pub async fn lab_with(sessions: SessionTimings, upkeep: Upkeep) -> Lab {
    let log = ScriptedLog::new();
    log.lead(true, 1);
    let handle = Controller::on(log.clone(), Settings::default(), "cluster".into());
    let voter = |id: i32| Voter { node_id: NodeId(id), address: format!("node{id}:9093") };
    let config = ControllerConfig {
        sessions,
        settings: Settings::fixed(ClusterPolicy::default(), upkeep),
        cluster_id: Some("cluster".into()),
        voters: vec![voter(1), voter(2), voter(3)],
        ..ControllerConfig::new(NodeId(1), "")
    };
    let endpoint = ControllerEndpoint::start(&handle, &config);
    let (listener, address) = listen();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let router = Server::builder().add_service(endpoint.clone().into_service());
    actix_rt::spawn(router.serve_with_incoming(TcpIncoming::from(listener)));
    handle.await_active().await.unwrap();
    Lab { log, handle, endpoint, client: client(address) }
}

pub fn client(address: SocketAddr) -> Client {
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    Client::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

pub fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// What does not happen in time never will.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

pub fn code(status: Status) -> ErrorCode {
    Error::from(status).code
}

/// A broker as the controller sees it: a listener somewhere, an epoch, a session.
pub struct Node {
    pub id: i32,
    pub epoch: u64,
    /// While it is held, connections to the broker are accepted.
    pub listener: Option<TcpListener>,
    pub client: Client,
    pub to: Option<mpsc::Sender<pb::BrokerSessionRequest>>,
    pub from: Option<Streaming<pb::BrokerSessionResponse>>,
}

pub fn registration(id: i32, incarnation: u8, endpoint: String) -> pb::RegisterBrokerRequest {
    pb::RegisterBrokerRequest {
        caller: Some(pb::BrokerCaller {
            cluster_id: "cluster".into(),
            node_id: id,
            broker_epoch: 0,
        }),
        incarnation_id: vec![incarnation; 16].into(),
        endpoint,
        metadata_version: METADATA_VERSION,
        ..pb::RegisterBrokerRequest::default()
    }
}

impl Node {
    /// Registered; fenced yet.
    pub async fn registered(lab: &Lab, id: i32) -> Node {
        Node::registered_by(lab.client.clone(), id).await
    }

    pub async fn registered_by(mut client: Client, id: i32) -> Node {
        let (listener, address) = listen();
        let request = registration(id, 1, address.to_string());
        let answer = client.register_broker(request).await.unwrap().into_inner();
        assert_eq!(answer.metadata_offset, answer.broker_epoch + 1);
        assert_eq!(answer.cluster_id, "cluster");
        let epoch = answer.broker_epoch;
        Node { id, epoch, listener: Some(listener), client, to: None, from: None }
    }

    /// In session, and unfenced.
    pub async fn active(lab: &Lab, id: i32) -> Node {
        Node::active_by(lab.client.clone(), id).await
    }

    pub async fn active_by(client: Client, id: i32) -> Node {
        let mut node = Node::registered_by(client, id).await;
        let first = node.open().await.unwrap();
        if first.fenced {
            node.until(|answer| !answer.fenced).await;
        }
        node
    }

    pub fn caller(&self) -> Option<pb::BrokerCaller> {
        Some(pb::BrokerCaller {
            cluster_id: "cluster".into(),
            node_id: self.id,
            broker_epoch: self.epoch,
        })
    }

    /// That it has applied everything up to its own registration.
    pub fn heartbeat(&self) -> pb::BrokerSessionRequest {
        pb::BrokerSessionRequest {
            caller: self.caller(),
            metadata_offset: self.epoch + 1,
            ..pb::BrokerSessionRequest::default()
        }
    }

    pub async fn open(&mut self) -> Result<pb::BrokerSessionResponse, Status> {
        self.open_with(self.heartbeat()).await
    }

    pub async fn open_with(
        &mut self,
        first: pb::BrokerSessionRequest,
    ) -> Result<pb::BrokerSessionResponse, Status> {
        let (to, requests) = mpsc::channel(16);
        to.send(first).await.unwrap();
        let mut from =
            within(self.client.broker_session(ReceiverStream::new(requests))).await?.into_inner();
        let answer = within(from.message()).await?.expect("every message is answered");
        (self.to, self.from) = (Some(to), Some(from));
        Ok(answer)
    }

    pub async fn send(&mut self, heartbeat: pb::BrokerSessionRequest) {
        // If the session is over, its answers say so.
        let _ = self.to.as_ref().unwrap().send(heartbeat).await;
    }

    pub async fn next(&mut self) -> Result<pb::BrokerSessionResponse, Status> {
        let answer = within(self.from.as_mut().unwrap().message()).await?;
        Ok(answer.expect("a session ends with a reason"))
    }

    pub async fn until(
        &mut self,
        there: impl Fn(&pb::BrokerSessionResponse) -> bool,
    ) -> pb::BrokerSessionResponse {
        loop {
            let answer = self.next().await.unwrap();
            if there(&answer) {
                return answer;
            }
        }
    }

    /// Why the session ends.
    pub async fn end(&mut self) -> Error {
        loop {
            if let Err(status) = self.next().await {
                return status.into();
            }
        }
    }

    /// Goes on in session, with whichever of these controllers takes it.
    pub fn beat(mut self, controllers: Vec<Client>) -> tokio::task::JoinHandle<()> {
        let beating = async move {
            for controller in controllers.into_iter().cycle() {
                self.client = controller;
                let mut answer = self.open().await;
                while answer.is_ok() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    self.send(self.heartbeat()).await;
                    answer = self.next().await;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        actix_rt::spawn(beating)
    }

    /// The stream breaks.
    pub fn hang_up(&mut self) {
        (self.to, self.from) = (None, None);
    }
}

pub fn placed(name: &str, replicas: &[i32]) -> CreateTopic {
    let replicas = replicas.iter().copied().map(NodeId).collect();
    CreateTopic { assignments: vec![replicas], ..topic(name) }
}

pub async fn until_broker(handle: &ControllerHandle, id: i32, there: impl Fn(&Broker) -> bool) {
    let mut images = handle.image();
    let is_there = |image: &Arc<ClusterImage>| image.broker(NodeId(id)).is_some_and(&there);
    within(images.wait_for(is_there)).await.unwrap();
}

pub async fn until_fenced(lab: &Lab, id: i32) {
    until_broker(&lab.handle, id, |broker| broker.fenced).await;
}

pub fn is_fenced(lab: &Lab, id: i32) -> bool {
    is_fenced_at(&lab.handle, id)
}

pub fn is_fenced_at(handle: &ControllerHandle, id: i32) -> bool {
    image(handle).broker(NodeId(id)).unwrap().fenced
}
