//! Sessions of brokers, over real connections: who is let in, who is heard, who is fenced, who may stop.

use super::{ScriptedLog, image, topic};
use crate::{
    Controller, ControllerConfig, ControllerEndpoint, ControllerHandle, MAX_MESSAGE_BYTES,
    SessionTimings, Voter,
};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Status, Streaming};
use troupe_machines::cluster::{Broker, ClusterImage, ClusterPolicy, CreateTopic, Delta};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, NodeId, PartitionId};
use troupe_proto::internal::v1 as pb;
use troupe_proto::internal::v1::controller_service_client::ControllerServiceClient;

/// Longer than anything here takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than any test: what rests on it does not happen.
const NEVER: Duration = Duration::from_secs(3600);

type Client = ControllerServiceClient<Channel>;

/// A controller that the test leads by the hand, and its listener.
struct Lab {
    log: Arc<ScriptedLog>,
    handle: ControllerHandle,
    endpoint: ControllerEndpoint,
    client: Client,
}

/// Nothing happens for lack of time.
fn patient() -> SessionTimings {
    SessionTimings { heartbeat: NEVER, timeout: NEVER, reconnect_grace: NEVER }
}

async fn lab(sessions: SessionTimings) -> Lab {
    let log = ScriptedLog::new();
    log.lead(true, 1);
    let handle = Controller::on(log.clone(), ClusterPolicy::default(), "cluster".into());
    let voter = |id: i32| Voter { node_id: NodeId(id), address: format!("node{id}:9093") };
    let config = ControllerConfig {
        sessions,
        cluster_id: Some("cluster".into()),
        voters: vec![voter(1), voter(2), voter(3)],
        ..ControllerConfig::new(NodeId(1), "")
    };
    let endpoint = ControllerEndpoint::start(&handle, &config);
    let (listener, address) = listen();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let router = Server::builder().add_service(endpoint.clone().into_service());
    actix_rt::spawn(router.serve_with_incoming(TcpIncoming::from(listener)));
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    let client = Client::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    handle.await_active().await.unwrap();
    Lab { log, handle, endpoint, client }
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// What does not happen in time never will.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

fn code(status: Status) -> ErrorCode {
    Error::from(status).code
}

/// A broker as the controller sees it: a listener somewhere, an epoch, a session.
struct Node {
    id: i32,
    epoch: u64,
    /// While it is held, connections to the broker are accepted.
    listener: Option<TcpListener>,
    client: Client,
    to: Option<mpsc::Sender<pb::BrokerSessionRequest>>,
    from: Option<Streaming<pb::BrokerSessionResponse>>,
}

fn registration(id: i32, incarnation: u8, endpoint: String) -> pb::RegisterBrokerRequest {
    pb::RegisterBrokerRequest {
        caller: Some(pb::BrokerCaller {
            cluster_id: "cluster".into(),
            node_id: id,
            broker_epoch: 0,
        }),
        incarnation_id: vec![incarnation; 16].into(),
        endpoint,
        ..pb::RegisterBrokerRequest::default()
    }
}

impl Node {
    /// Registered; fenced yet.
    async fn registered(lab: &Lab, id: i32) -> Node {
        let (listener, address) = listen();
        let mut client = lab.client.clone();
        let request = registration(id, 1, address.to_string());
        let answer = client.register_broker(request).await.unwrap().into_inner();
        assert_eq!(answer.metadata_offset, answer.broker_epoch + 1);
        assert_eq!(answer.cluster_id, "cluster");
        let epoch = answer.broker_epoch;
        Node { id, epoch, listener: Some(listener), client, to: None, from: None }
    }

    /// In session, and unfenced.
    async fn active(lab: &Lab, id: i32) -> Node {
        let mut node = Node::registered(lab, id).await;
        let first = node.open().await.unwrap();
        if first.fenced {
            node.until(|answer| !answer.fenced).await;
        }
        node
    }

    fn caller(&self) -> Option<pb::BrokerCaller> {
        Some(pb::BrokerCaller {
            cluster_id: "cluster".into(),
            node_id: self.id,
            broker_epoch: self.epoch,
        })
    }

    /// That it has applied everything up to its own registration.
    fn heartbeat(&self) -> pb::BrokerSessionRequest {
        pb::BrokerSessionRequest {
            caller: self.caller(),
            metadata_offset: self.epoch + 1,
            ..pb::BrokerSessionRequest::default()
        }
    }

    async fn open(&mut self) -> Result<pb::BrokerSessionResponse, Status> {
        self.open_with(self.heartbeat()).await
    }

    async fn open_with(
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

    async fn send(&mut self, heartbeat: pb::BrokerSessionRequest) {
        self.to.as_ref().unwrap().send(heartbeat).await.unwrap();
    }

    async fn next(&mut self) -> Result<pb::BrokerSessionResponse, Status> {
        let answer = within(self.from.as_mut().unwrap().message()).await?;
        Ok(answer.expect("a session ends with a reason"))
    }

    async fn until(
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
    async fn end(&mut self) -> Error {
        loop {
            if let Err(status) = self.next().await {
                return status.into();
            }
        }
    }

    /// The stream breaks.
    fn hang_up(&mut self) {
        (self.to, self.from) = (None, None);
    }
}

async fn until_broker(handle: &ControllerHandle, id: i32, there: impl Fn(&Broker) -> bool) {
    let mut images = handle.image();
    let is_there = |image: &Arc<ClusterImage>| image.broker(NodeId(id)).is_some_and(&there);
    within(images.wait_for(is_there)).await.unwrap();
}

async fn until_fenced(lab: &Lab, id: i32) {
    until_broker(&lab.handle, id, |broker| broker.fenced).await;
}

fn is_fenced(lab: &Lab, id: i32) -> bool {
    image(&lab.handle).broker(NodeId(id)).unwrap().fenced
}

/// K12, K13.
#[actix::test]
async fn a_broker_is_unfenced_once_it_knows_of_its_own_registration() {
    let lab = lab(patient()).await;
    let mut node = Node::registered(&lab, 7).await;
    assert!(is_fenced(&lab, 7));
    let early = pb::BrokerSessionRequest { metadata_offset: node.epoch, ..node.heartbeat() };
    let first = node.open_with(early.clone()).await.unwrap();
    assert!(first.fenced);
    assert_eq!(first.session_timeout_ms, NEVER.as_millis() as u32);
    assert_eq!(first.heartbeat_interval_ms, NEVER.as_millis() as u32);
    node.send(early).await;
    assert!(node.next().await.unwrap().fenced, "every heartbeat is answered");
    node.send(node.heartbeat()).await;
    node.until(|answer| !answer.fenced).await;
    assert!(!is_fenced(&lab, 7));
    lab.handle.shutdown().await.unwrap();
}

/// K12.
#[actix::test]
async fn two_processes_with_one_id_are_one_too_many_as_long_as_the_first_is_heard() {
    let lab = lab(patient()).await;
    let mut node = Node::active(&lab, 7).await;
    let mut client = lab.client.clone();
    let twin = registration(7, 2, "elsewhere:9092".into());
    let refused = client.register_broker(twin.clone()).await.unwrap_err();
    assert_eq!(code(refused), ErrorCode::DuplicateBroker);
    let again =
        registration(7, 1, node.listener.as_ref().unwrap().local_addr().unwrap().to_string());
    let same = client.register_broker(again).await.unwrap().into_inner();
    assert_eq!(same.broker_epoch, node.epoch);
    node.listener = None;
    node.hang_up();
    until_fenced(&lab, 7).await;
    let next = client.register_broker(twin).await.unwrap().into_inner();
    assert!(next.broker_epoch > node.epoch);
    lab.handle.shutdown().await.unwrap();
}

/// K2, K21: in every call.
#[actix::test]
async fn strangers_and_predecessors_are_refused_in_every_call() {
    let lab = lab(patient()).await;
    let node = Node::registered(&lab, 7).await;
    let good = node.caller().unwrap();
    let callers = [
        (None, ErrorCode::InvalidRequest),
        (
            Some(pb::BrokerCaller { cluster_id: "elsewhere".into(), ..good.clone() }),
            ErrorCode::InconsistentClusterId,
        ),
        (Some(pb::BrokerCaller { node_id: -1, ..good.clone() }), ErrorCode::InvalidRequest),
        (Some(pb::BrokerCaller { node_id: 8, ..good.clone() }), ErrorCode::BrokerNotRegistered),
        (Some(pb::BrokerCaller { broker_epoch: 0, ..good }), ErrorCode::StaleBrokerEpoch),
    ];
    for (caller, expected) in callers {
        let mut client = lab.client.clone();
        let session = pb::BrokerSessionRequest { caller: caller.clone(), ..Default::default() };
        let session = tokio_stream::iter([session]);
        let refused = client.broker_session(session).await.unwrap_err();
        assert_eq!(code(refused), expected, "{caller:?}");
        let request = pb::AlterPartitionsRequest { caller: caller.clone(), ..Default::default() };
        assert_eq!(code(client.alter_partitions(request).await.unwrap_err()), expected);
        let request = pb::ReportReplicasRequest { caller: caller.clone(), ..Default::default() };
        assert_eq!(code(client.report_replicas(request).await.unwrap_err()), expected);
        let request = pb::AllocateProducerIdsRequest { caller: caller.clone() };
        assert_eq!(code(client.allocate_producer_ids(request).await.unwrap_err()), expected);
        let request = pb::BeginShutdownRequest { caller: caller.clone() };
        assert_eq!(code(client.begin_shutdown(request).await.unwrap_err()), expected);
    }
    let mut client = lab.client.clone();
    let mut stranger = registration(8, 1, "somewhere:9092".into());
    stranger.caller.as_mut().unwrap().cluster_id = "elsewhere".into();
    let refused = client.register_broker(stranger).await.unwrap_err();
    assert_eq!(code(refused), ErrorCode::InconsistentClusterId);
    let mut newcomer = registration(8, 1, "somewhere:9092".into());
    newcomer.caller.as_mut().unwrap().cluster_id = String::new();
    let answer = client.register_broker(newcomer).await.unwrap().into_inner();
    assert_eq!(answer.cluster_id, "cluster", "now it knows");
    let short = pb::RegisterBrokerRequest {
        incarnation_id: vec![1; 15].into(),
        ..registration(9, 1, "somewhere:9092".into())
    };
    assert_eq!(code(client.register_broker(short).await.unwrap_err()), ErrorCode::InvalidRequest);
    lab.handle.shutdown().await.unwrap();
}

/// K7.
#[actix::test]
async fn a_controller_that_is_not_active_says_who_is() {
    let lab = lab(patient()).await;
    let mut node = Node::active(&lab, 7).await;
    lab.log.lead(false, 2);
    let hint = |error: Error| {
        assert_eq!(error.code, ErrorCode::NotController);
        error.leader.map(|leader| (leader.node_id, leader.endpoint))
    };
    let expected = Some((2, "node2:9093".to_owned()));
    assert_eq!(hint(node.end().await), expected);
    assert_eq!(hint(node.open().await.unwrap_err().into()), expected);
    let request = pb::AllocateProducerIdsRequest { caller: node.caller() };
    let refused = node.client.allocate_producer_ids(request.clone()).await.unwrap_err();
    assert_eq!(hint(refused.into()), expected);
    lab.log.lead_by(None, 3);
    let refused = node.client.allocate_producer_ids(request).await.unwrap_err();
    assert_eq!(hint(refused.into()), None);
    assert_eq!(hint(node.open().await.unwrap_err().into()), None);
    lab.handle.shutdown().await.unwrap();
}

/// K20.
#[actix::test]
async fn a_silent_broker_is_fenced_and_one_that_is_heard_is_not() {
    let timeout = Duration::from_millis(1000);
    let lab = lab(SessionTimings { timeout, ..patient() }).await;
    let mut heard = Node::active(&lab, 7).await;
    let mut silent = Node::active(&lab, 8).await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let fenced = async {
        silent.until(|answer| answer.fenced).await;
        stop.send(()).unwrap();
    };
    let beating = async {
        while tokio::time::timeout(timeout / 10, &mut stopped).await.is_err() {
            heard.send(heard.heartbeat()).await;
            heard.next().await.unwrap();
        }
    };
    futures::join!(fenced, beating);
    assert!(is_fenced(&lab, 8) && !is_fenced(&lab, 7));
    silent.send(silent.heartbeat()).await;
    silent.until(|answer| !answer.fenced).await;
    lab.handle.shutdown().await.unwrap();
}

/// K20: a broken stream and a closed port: the process is gone.
#[actix::test]
async fn a_broker_whose_process_is_gone_is_fenced_at_once() {
    let lab = lab(patient()).await;
    let mut node = Node::active(&lab, 7).await;
    node.listener = None;
    node.hang_up();
    until_fenced(&lab, 7).await;
    lab.handle.shutdown().await.unwrap();
}

/// K20: a port that is open proves nothing, and neither does a stream that broke.
#[actix::test]
async fn a_broker_that_does_not_come_back_in_time_is_fenced() {
    let reconnect_grace = Duration::from_millis(300);
    let lab = lab(SessionTimings { reconnect_grace, ..patient() }).await;
    let mut node = Node::active(&lab, 7).await;
    node.hang_up();
    until_fenced(&lab, 7).await;
    lab.handle.shutdown().await.unwrap();
}

#[actix::test]
async fn a_broker_that_comes_back_in_time_stays_unfenced() {
    let lab = lab(patient()).await;
    let mut node = Node::active(&lab, 7).await;
    let before = image(&lab.handle);
    for _ in 0..3 {
        node.hang_up();
        assert!(!node.open().await.unwrap().fenced);
    }
    let (to, from) = (node.to.take(), node.from.take());
    assert!(!node.open().await.unwrap().fenced, "while the stream before it is open");
    drop((to, from));
    node.send(node.heartbeat()).await;
    assert!(!node.next().await.unwrap().fenced, "the end of the old one is not the end of this");
    assert_eq!(image(&lab.handle).next_offset(), before.next_offset(), "nothing was decided");
    lab.handle.shutdown().await.unwrap();
}

/// K21.
#[actix::test]
async fn a_session_ends_when_its_broker_registers_anew() {
    let lab = lab(patient()).await;
    let mut node = Node::active(&lab, 7).await;
    let arrival = troupe_machines::cluster::Arrival::default();
    let request = troupe_machines::cluster::RegisterBroker {
        node_id: NodeId(7),
        incarnation: [9; 16],
        endpoint: "elsewhere:9092".into(),
        ..Default::default()
    };
    lab.handle.enroll_broker(request, arrival).await.unwrap();
    assert_eq!(node.end().await.code, ErrorCode::StaleBrokerEpoch);
    assert_eq!(code(node.open().await.unwrap_err()), ErrorCode::StaleBrokerEpoch);
    lab.handle.unregister_broker(NodeId(7)).await.unwrap();
    assert_eq!(code(node.open().await.unwrap_err()), ErrorCode::BrokerNotRegistered);
    lab.handle.shutdown().await.unwrap();
}

/// The new one has heard nobody, and holds that against nobody but those whose process is gone.
#[actix::test]
async fn a_controller_that_takes_over_fences_only_who_is_gone() {
    let lab = lab(patient()).await;
    let mut back = Node::active(&lab, 7).await;
    let mut gone = Node::active(&lab, 8).await;
    let slow = Node::active(&lab, 9).await;
    gone.listener = None;
    lab.log.lead(false, 2);
    assert_eq!(back.end().await.code, ErrorCode::NotController);
    assert_eq!(gone.end().await.code, ErrorCode::NotController);
    lab.log.lead(true, 3);
    lab.handle.await_active_at_last().await;
    assert!(!back.open().await.unwrap().fenced);
    until_fenced(&lab, 8).await;
    assert!(!is_fenced(&lab, 7));
    assert!(!is_fenced(&lab, 9), "it accepts connections, and has its time yet");
    drop(slow);
    lab.handle.shutdown().await.unwrap();
}

/// Kill means forget: everybody has a fresh session.
#[actix::test]
async fn a_killed_keeper_is_rebuilt_and_brokers_come_back() {
    let lab = lab(patient()).await;
    let mut node = Node::active(&lab, 7).await;
    lab.endpoint.keeper().kill().await.unwrap();
    assert_eq!(node.end().await.code, ErrorCode::NotController);
    assert!(!node.open().await.unwrap().fenced);
    node.send(node.heartbeat()).await;
    assert!(!node.next().await.unwrap().fenced);
    node.listener = None;
    node.hang_up();
    until_fenced(&lab, 7).await;
    lab.handle.shutdown().await.unwrap();
}

fn placed(name: &str, replicas: &[i32]) -> CreateTopic {
    let replicas = replicas.iter().copied().map(NodeId).collect();
    CreateTopic { assignments: vec![replicas], ..topic(name) }
}

/// K17.
#[actix::test]
async fn a_broker_may_stop_once_it_leads_nothing_and_everybody_knows() {
    let lab = lab(patient()).await;
    let mut leaving = Node::active(&lab, 7).await;
    let mut staying = Node::active(&lab, 8).await;
    lab.handle.create_topic(placed("shared", &[7, 8])).await.unwrap();
    lab.handle.create_topic(placed("alone", &[7])).await.unwrap();
    let wish = pb::BrokerSessionRequest { wants_shutdown: true, ..leaving.heartbeat() };
    leaving.send(wish.clone()).await;
    until_broker(&lab.handle, 7, |broker| broker.shutting_down).await;
    let now = image(&lab.handle);
    assert_eq!(now.led_by(NodeId(7)).count(), 0);
    assert!(!is_fenced(&lab, 7), "it is still heard");
    leaving.send(wish.clone()).await;
    assert!(!leaving.next().await.unwrap().may_stop, "the other one does not know yet");
    let knows =
        pb::BrokerSessionRequest { metadata_offset: now.next_offset().0, ..staying.heartbeat() };
    staying.send(knows).await;
    staying.next().await.unwrap();
    leaving.until(|answer| answer.may_stop).await;
    assert_eq!(image(&lab.handle).next_offset(), now.next_offset(), "asked for once");
    leaving.listener = None;
    leaving.hang_up();
    until_fenced(&lab, 7).await;
    lab.handle.shutdown().await.unwrap();
}

/// K17: nobody else is there to know.
#[actix::test]
async fn the_last_broker_may_stop_too() {
    let lab = lab(patient()).await;
    let mut node = Node::active(&lab, 7).await;
    lab.handle.create_topic(placed("alone", &[7])).await.unwrap();
    let wish = pb::BrokerSessionRequest { wants_shutdown: true, ..node.heartbeat() };
    node.send(wish).await;
    node.until(|answer| answer.may_stop).await;
    lab.handle.shutdown().await.unwrap();
}

/// A drain is not the broker's wish: it goes on, and is told nothing about stopping.
#[actix::test]
async fn a_drained_broker_stays_in_session_and_leads_again_when_it_is_resumed() {
    let lab = lab(patient()).await;
    let mut node = Node::active(&lab, 7).await;
    lab.handle.create_topic(placed("alone", &[7])).await.unwrap();
    let request = pb::BeginShutdownRequest { caller: node.caller() };
    let begun = node.client.begin_shutdown(request).await.unwrap().into_inner();
    assert_eq!(begun.metadata_offset, image(&lab.handle).next_offset().0);
    node.send(node.heartbeat()).await;
    let answer = node.next().await.unwrap();
    assert_eq!((answer.fenced, answer.may_stop), (false, false));
    lab.handle.resume_broker(NodeId(7)).await.unwrap();
    assert_eq!(image(&lab.handle).led_by(NodeId(7)).count(), 1);
    lab.handle.shutdown().await.unwrap();
}

/// The broker's image, as it is pushed.
#[actix::test]
async fn a_broker_without_a_controller_gets_the_metadata_pushed() {
    let lab = lab(patient()).await;
    lab.handle.register_broker(super::registration(1)).await.unwrap();
    lab.handle.create_topic(topic("before")).await.unwrap();
    let mut node = Node::registered(&lab, 7).await;
    let nothing =
        pb::BrokerSessionRequest { metadata_offset: 0, wants_metadata: true, ..node.heartbeat() };
    let first = node.open_with(nothing.clone()).await.unwrap();
    let mut follower = ClusterImage::default();
    let mut take = |answer: pb::BrokerSessionResponse| {
        if let Some(delta) = answer.metadata {
            follower.apply_delta(&Delta::from(delta)).unwrap();
        }
        follower.clone()
    };
    assert!(first.fenced);
    assert_eq!(take(first), *image(&lab.handle));
    node.send(node.heartbeat()).await;
    lab.handle.create_topic(topic("after")).await.unwrap();
    loop {
        let answer = node.next().await.unwrap();
        let fenced = answer.fenced;
        let known = take(answer);
        if known == *image(&lab.handle) && !fenced && !known.broker(NodeId(7)).unwrap().fenced {
            break;
        }
    }
    let known = take(pb::BrokerSessionResponse::default());
    assert!(known.topic("after").is_some());
    node.hang_up();
    let up_to_date = pb::BrokerSessionRequest {
        metadata_offset: known.next_offset().0,
        wants_metadata: true,
        ..node.heartbeat()
    };
    let first = node.open_with(up_to_date).await.unwrap();
    assert_eq!(first.metadata, None, "it has everything");
    lab.handle.create_topic(topic("later")).await.unwrap();
    let later = node.until(|answer| answer.metadata.is_some()).await.metadata.unwrap();
    assert_eq!(later.since_offset, known.next_offset().0);
    node.hang_up();
    let behind = pb::BrokerSessionRequest { metadata_offset: 3, ..nothing };
    let everything = node.open_with(behind).await.unwrap().metadata.unwrap();
    assert_eq!(everything.since_offset, 0);
    lab.handle.shutdown().await.unwrap();
}

/// R9, R12: answered for each partition; and a leader replica that died.
#[actix::test]
async fn isr_changes_and_reports_of_dead_replicas_are_decided() {
    let lab = lab(patient()).await;
    let (mut leader, _other) = (Node::active(&lab, 7).await, Node::active(&lab, 8).await);
    let created = lab.handle.create_topic(placed("orders", &[7, 8])).await.unwrap();
    let wish = |partition_epoch, members: &[i32]| pb::AlterPartition {
        topic_id: created.id.to_wire(),
        partition: 0,
        leader_epoch: 0,
        partition_epoch,
        in_sync_replicas: members
            .iter()
            .map(|node_id| pb::InSyncReplica { node_id: *node_id, broker_epoch: None })
            .collect(),
        recovered: true,
    };
    let elsewhere = pb::AlterPartition { partition: 5, ..wish(0, &[7]) };
    let partitions = vec![wish(0, &[7]), wish(0, &[7]), elsewhere, wish(1, &[8, 7])];
    let request = pb::AlterPartitionsRequest { caller: leader.caller(), partitions };
    let altered = leader.client.alter_partitions(request).await.unwrap().into_inner().partitions;
    assert_eq!((altered[0].partition_epoch, &altered[0].in_sync_replicas), (1, &vec![7]));
    let error = |at: usize| altered[at].error.clone().map(|error| error.reason());
    assert_eq!(error(0), None);
    assert_eq!(error(1), Some(ErrorCode::StalePartitionEpoch));
    assert_eq!(error(2), Some(ErrorCode::UnknownPartition));
    assert_eq!((error(3), altered[3].partition_epoch), (None, 2));
    let dead = pb::ReplicaReport { topic_id: created.id.to_wire(), partition: 0, leader_epoch: 0 };
    let request = pb::ReportReplicasRequest { caller: leader.caller(), replicas: vec![dead] };
    leader.client.report_replicas(request).await.unwrap();
    let now = image(&lab.handle);
    let partition = now.partition(&created.key(PartitionId(0))).unwrap();
    assert_eq!((partition.leader, partition.leader_epoch), (Some(NodeId(8)), LeaderEpoch(1)));
    let request = pb::AllocateProducerIdsRequest { caller: leader.caller() };
    let block = leader.client.allocate_producer_ids(request).await.unwrap().into_inner();
    assert_eq!((block.first, block.count), (1, 1000));
    lab.handle.shutdown().await.unwrap();
}
