//! Three controllers on loopback, with a wire of its own between every two, in each direction.

use futures::future::join_all;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tonic::transport::server::TcpIncoming;
use troupe_controller::{
    Controller, ControllerConfig, ControllerHandle, QuorumMember, QuorumTimings, Voter,
};
use troupe_machines::cluster::{Arrival, ClusterImage, CreateTopic, RegisterBroker};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::NodeId;

/// Longer than anything here takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);
pub const CLUSTER: &str = "cluster";

/// What a wire carries.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Carries {
    requests: bool,
    answers: bool,
}

const ALL: Carries = Carries { requests: true, answers: true };
const NOTHING: Carries = Carries { requests: false, answers: false };

/// A wire that can be cut, or that loses what it should carry in one direction.
struct Wire {
    address: SocketAddr,
    carries: watch::Sender<Carries>,
    /// Aborted: nothing listens there any more.
    listens: actix_rt::task::JoinHandle<()>,
}

impl Wire {
    fn to(target: SocketAddr) -> Wire {
        let listener = bind();
        let address = listener.local_addr().unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let (carries, state) = watch::channel(ALL);
        let listens = actix_rt::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let mut state = state.clone();
                if *state.borrow() == NOTHING {
                    continue;
                }
                actix_rt::spawn(async move {
                    let Ok(far) = TcpStream::connect(target).await else { return };
                    let (mut hears, mut speaks) = near.into_split();
                    let (mut answers, mut asked) = far.into_split();
                    let (there, back) = (state.clone(), state.clone());
                    tokio::select! {
                        () = carry(&mut hears, &mut asked, || there.borrow().requests) => {}
                        () = carry(&mut answers, &mut speaks, || back.borrow().answers) => {}
                        _ = state.wait_for(|carries| *carries == NOTHING) => {}
                    }
                });
            }
        });
        Wire { address, carries, listens }
    }
}

/// Until one end is gone. What is lost is taken as if it had arrived.
async fn carry(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, carries: impl Fn() -> bool) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if carries() && to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

fn bind() -> TcpListener {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

struct Server {
    listener: TcpListener,
    dir: TempDir,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

pub struct Lab {
    servers: BTreeMap<i32, Server>,
    wires: BTreeMap<(i32, i32), Wire>,
    pub members: BTreeMap<i32, QuorumMember>,
}

impl Lab {
    /// Wired up; nobody has started.
    pub fn new() -> Lab {
        let server = |_| Server { listener: bind(), dir: tempfile::tempdir().unwrap(), stop: None };
        let servers: BTreeMap<i32, Server> = (1..=3).map(|id| (id, server(id))).collect();
        let mut wires = BTreeMap::new();
        for from in 1..=3 {
            for (to, server) in servers.iter().filter(|(to, _)| **to != from) {
                wires.insert((from, *to), Wire::to(server.listener.local_addr().unwrap()));
            }
        }
        Lab { servers, wires, members: BTreeMap::new() }
    }

    /// All three run and know their cluster.
    pub async fn started() -> Lab {
        let mut lab = Lab::new();
        for id in 1..=3 {
            lab.start(lab.config(id)).await;
        }
        for member in lab.members.values() {
            within(member.await_cluster()).await.unwrap();
        }
        lab
    }

    pub fn address(&self, id: i32) -> SocketAddr {
        self.servers[&id].listener.local_addr().unwrap()
    }

    /// Of its metadata log.
    pub fn dir(&self, id: i32) -> &Path {
        self.servers[&id].dir.path()
    }

    pub fn config(&self, id: i32) -> ControllerConfig {
        let voter = |to: i32| {
            let address = self.wires.get(&(id, to)).map_or(self.address(to), |wire| wire.address);
            Voter { node_id: NodeId(to), address: address.to_string() }
        };
        ControllerConfig {
            cluster_id: Some(CLUSTER.to_owned()),
            voters: (1..=3).map(voter).collect(),
            timings: QuorumTimings {
                heartbeat: Duration::from_millis(80),
                election_min: Duration::from_millis(500),
                election_max: Duration::from_millis(1000),
            },
            ..ControllerConfig::new(NodeId(id), self.servers[&id].dir.path())
        }
    }

    pub async fn start(&mut self, config: ControllerConfig) {
        let id = config.node_id.0;
        let member = Controller::join(config).await.unwrap();
        let server = self.servers.get_mut(&id).unwrap();
        let listener = server.listener.try_clone().unwrap();
        let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener).unwrap());
        let (stop, stopped) = tokio::sync::oneshot::channel();
        server.stop = Some(stop);
        let service = member.endpoint.clone().into_service();
        actix_rt::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming_shutdown(incoming, async move { drop(stopped.await) }),
        );
        self.members.insert(id, member);
        self.connect(id, true);
    }

    /// Cuts or mends every wire from and to this one.
    pub fn connect(&self, id: i32, whole: bool) {
        let of = |(from, to): &(i32, i32)| *from == id || *to == id;
        for (_, wire) in self.wires.iter().filter(|(ends, _)| of(ends)) {
            wire.carries.send_replace(if whole { ALL } else { NOTHING });
        }
    }

    /// This one's connections to that one end, and are refused from now on. The other still reaches this one.
    pub fn refuse(&self, from: i32, to: i32) {
        let wire = &self.wires[&(from, to)];
        wire.listens.abort();
        wire.carries.send_replace(NOTHING);
    }

    /// This one is heard, and hears nobody.
    pub fn deafen(&self, id: i32) {
        for ((from, to), wire) in &self.wires {
            if *from == id {
                wire.carries.send_replace(Carries { answers: false, ..ALL });
            } else if *to == id {
                wire.carries.send_replace(Carries { requests: false, ..ALL });
            }
        }
    }

    /// As if its process had been killed.
    pub async fn kill(&mut self, id: i32) {
        self.connect(id, false);
        self.servers.get_mut(&id).unwrap().stop.take();
        let member = self.members.remove(&id).unwrap();
        member.handle.abandon().await;
    }

    /// Its process stops in good order.
    pub async fn stop(&mut self, id: i32) {
        let member = self.members.remove(&id).unwrap();
        member.handle.shutdown().await.unwrap();
        self.connect(id, false);
        self.servers.get_mut(&id).unwrap().stop.take();
    }

    pub async fn stop_all(mut self) {
        for (_, member) in std::mem::take(&mut self.members) {
            member.handle.shutdown().await.unwrap();
        }
    }

    pub fn handle(&self, id: i32) -> &ControllerHandle {
        &self.members[&id].handle
    }

    /// One that leads, and that a majority of the living follows.
    pub async fn leader(&self) -> i32 {
        self.leader_among(|_| true).await
    }

    pub async fn leader_among(&self, among: impl Fn(i32) -> bool) -> i32 {
        let members = || self.members.iter().filter(|(id, _)| among(**id));
        within(async {
            loop {
                let views = members().map(|(id, member)| {
                    let view = *member.handle.leadership().borrow();
                    (*id, view)
                });
                let views: Vec<_> = views.collect();
                let led = views.iter().find(|(id, view)| {
                    let followers = views.iter().filter(|(_, other)| {
                        other.leader == Some(NodeId(*id)) && other.term == view.term
                    });
                    view.here && followers.count() >= 2
                });
                if let Some((id, _)) = led {
                    return *id;
                }
                let mut watches: Vec<_> =
                    members().map(|(_, member)| member.handle.leadership()).collect();
                let changes = watches.iter_mut().map(|watch| Box::pin(watch.changed()));
                // A change between the look and the wait is not missed for longer than this.
                let _ = tokio::time::timeout(
                    Duration::from_millis(50),
                    futures::future::select_all(changes),
                )
                .await;
            }
        })
        .await
    }

    /// Registers a broker and creates these topics, wherever the leader is, however often it changes.
    pub async fn create(&self, names: impl IntoIterator<Item = String>) {
        self.create_among(names, |_| true).await;
    }

    pub async fn create_among(
        &self,
        names: impl IntoIterator<Item = String>,
        among: impl Fn(i32) -> bool,
    ) {
        let register = |handle: ControllerHandle| async move {
            let epoch = handle.register_broker(registration(), Arrival::default()).await?;
            handle.unfence_broker(NodeId(1), epoch).await
        };
        self.insist(register, &among).await;
        for name in names {
            let create = |handle: ControllerHandle| {
                let request = topic(&name);
                async move {
                    match handle.create_topic(request).await {
                        Err(error) if error.code == ErrorCode::TopicExists => Ok(()),
                        created => created.map(drop),
                    }
                }
            };
            self.insist(create, &among).await;
        }
    }

    /// Asks the leader until it has been done.
    async fn insist<F: Future<Output = Result<(), Error>>>(
        &self,
        ask: impl Fn(ControllerHandle) -> F,
        among: &impl Fn(i32) -> bool,
    ) {
        within(async {
            loop {
                let leader = self.leader_among(among).await;
                match ask(self.handle(leader).clone()).await {
                    Ok(()) => return,
                    Err(error) if error.is_retriable() => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
        .await;
    }

    /// Until each of these has applied all that was decided.
    pub async fn agreed(&self) -> ClusterImage {
        within(async {
            loop {
                let leader = self.handle(self.leader().await);
                // One that was elected just now may not have applied yet what others have. It answers when it has.
                let asked = CreateTopic { validate_only: true, ..topic("nothing") };
                if leader.create_topic(asked).await.is_err_and(|error| error.is_retriable()) {
                    continue;
                }
                let expected = ClusterImage::clone(&leader.image().borrow());
                let images = join_all(self.members.values().map(|member| async {
                    let mut images = member.handle.image();
                    let caught_up = |image: &std::sync::Arc<ClusterImage>| {
                        image.next_offset() >= expected.next_offset()
                    };
                    images.wait_for(caught_up).await.unwrap().clone()
                }));
                let images = images.await;
                let same = |image: &std::sync::Arc<ClusterImage>| {
                    image.next_offset() == expected.next_offset()
                };
                if images.iter().all(same) {
                    assert!(images.iter().all(|image| **image == expected));
                    return expected;
                }
            }
        })
        .await
    }
}

pub fn registration() -> RegisterBroker {
    RegisterBroker {
        node_id: NodeId(1),
        incarnation: [1; 16],
        cluster_id: Some(CLUSTER.to_owned()),
        endpoint: "localhost:9092".into(),
        ..RegisterBroker::default()
    }
}

pub fn topic(name: &str) -> CreateTopic {
    CreateTopic { name: name.into(), ..CreateTopic::default() }
}

/// What does not happen in time never will.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}
