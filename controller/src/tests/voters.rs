//! Three voters on real connections: what a slow disk, and the death of the active controller, cost.

use super::brokers::{Client, Node, client, is_fenced_at, listen, placed, until_broker, within};
use super::{image, registration, topic};
use crate::{Controller, ControllerConfig, ControllerHandle, QuorumMember, QuorumTimings, Voter};
use futures::future::join_all;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::NodeId;

struct Voting {
    member: QuorumMember,
    config: ControllerConfig,
    address: SocketAddr,
    server: tokio::task::JoinHandle<()>,
    /// Dropped, it ends the server's connections.
    serves: oneshot::Sender<()>,
    dir: TempDir,
}

impl Voting {
    async fn start(
        listener: TcpListener,
        dir: TempDir,
        config: ControllerConfig,
        keeps_sessions: bool,
    ) -> Voting {
        let address = listener.local_addr().unwrap();
        let member = Controller::join(config.clone()).await.unwrap();
        let sessions = keeps_sessions.then(|| member.keep_sessions().into_service());
        let router = Server::builder()
            .add_service(member.endpoint.clone().into_service())
            .add_optional_service(sessions);
        let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener).unwrap());
        let (serves, stopped) = oneshot::channel();
        let stopped = async move { drop(stopped.await) };
        let server = actix_rt::spawn(async move {
            drop(router.serve_with_incoming_shutdown(incoming, stopped).await)
        });
        Voting { member, config, address, server, serves, dir }
    }
}

/// All three run and know their cluster. Brokers need no sessions unless they are kept.
async fn quorum(
    keeps_sessions: bool,
    change: impl Fn(ControllerConfig) -> ControllerConfig,
) -> Vec<Voting> {
    let listeners: Vec<_> = (0..3).map(|_| listen()).collect();
    let voter = |(id, (_, address)): (i32, &(_, SocketAddr))| Voter {
        node_id: NodeId(id),
        address: address.to_string(),
    };
    let voters: Vec<Voter> = (1..).zip(&listeners).map(voter).collect();
    let mut quorum = Vec::new();
    for (id, (listener, _)) in (1..).zip(listeners) {
        let dir = tempfile::tempdir().unwrap();
        let config = ControllerConfig {
            cluster_id: Some("cluster".into()),
            voters: voters.clone(),
            ..ControllerConfig::new(NodeId(id), dir.path())
        };
        quorum.push(Voting::start(listener, dir, change(config), keeps_sessions).await);
    }
    for voting in &quorum {
        within(voting.member.await_cluster()).await.unwrap();
    }
    quorum
}

async fn stop(quorum: Vec<Voting>) {
    for Voting { member, server, .. } in quorum {
        member.handle.shutdown().await.unwrap();
        server.abort();
    }
}

/// One that decides.
async fn active(quorum: &[Voting]) -> (NodeId, ControllerHandle) {
    let find = async {
        loop {
            let handles = quorum.iter().map(|voting| &voting.member.handle);
            for handle in handles.filter(|handle| handle.leadership().borrow().here) {
                match handle.await_active().await {
                    Ok(()) => return handle.clone(),
                    Err(Error { code: ErrorCode::NotController, .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            let changes = quorum.iter().map(|voting| async {
                let mut leadership = voting.member.handle.leadership();
                leadership.wait_for(|leadership| leadership.here).await.map(drop)
            });
            let _ = futures::future::select_all(changes.map(Box::pin)).await;
        }
    };
    let handle = within(find).await;
    let id = handle.controller_id();
    (id.unwrap(), handle)
}

/// A follower that hears its leader does not mind what the disk is doing.
#[actix::test]
async fn a_slow_disk_costs_no_leader_its_place() {
    let quorum = quorum(false, |config| config).await;
    for voting in &quorum {
        voting.config.disk.delay(Duration::from_millis(100));
    }
    let (_, leading) = active(&quorum).await;
    leading.register_unfenced_broker(registration(1)).await.unwrap();
    let before = *leading.leadership().borrow();
    for round in 0..10 {
        let requests = (0..20).map(|n| topic(&format!("topic-{round}-{n}")));
        let created = join_all(requests.map(|request| leading.create_topic(request))).await;
        assert!(created.iter().all(Result::is_ok), "{created:?}");
    }
    assert_eq!(*leading.leadership().borrow(), before);
    stop(quorum).await;
}

/// What the leader has committed, the others see without waiting for the next heartbeat: thirty decisions
/// would take a minute.
#[actix::test]
async fn decisions_reach_the_others_at_once() {
    let timings = QuorumTimings {
        heartbeat: Duration::from_secs(2),
        election_min: Duration::from_secs(5),
        election_max: Duration::from_secs(6),
    };
    let quorum = quorum(false, |config| ControllerConfig { timings, ..config }).await;
    let (_, leading) = active(&quorum).await;
    leading.register_unfenced_broker(registration(1)).await.unwrap();
    let decisions = async {
        for n in 0..30 {
            let name = format!("topic-{n}");
            leading.create_topic(topic(&name)).await.unwrap();
            for voting in &quorum {
                let mut images = voting.member.handle.image();
                images.wait_for(|image| image.topic(&name).is_some()).await.unwrap();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), decisions).await.expect("nobody waits");
    stop(quorum).await;
}

/// K20: a machine dies that was the active controller, and on which a leader was. The next controller fences
/// its broker, and no other.
#[actix::test]
async fn a_controller_that_dies_with_a_broker_is_followed_by_one_that_fences_only_that() {
    let mut quorum = quorum(true, |config| config).await;
    let (first, leading) = active(&quorum).await;
    let of = |id: NodeId| client(quorum[(id.0 - 1) as usize].address);
    let order: Vec<i32> = (0..3).map(|at| (first.0 - 1 + at) % 3 + 1).collect();
    let mut nodes = join_all(order.iter().map(|id| Node::active_by(of(first), *id))).await;
    leading.create_topic(placed("orders", &order)).await.unwrap();
    let clients: Vec<Client> = quorum.iter().map(|voting| client(voting.address)).collect();
    let hearts: Vec<_> = nodes.drain(1..).map(|node| node.beat(clients.clone())).collect();
    let mut dying = nodes.remove(0);
    let voting = quorum.remove((first.0 - 1) as usize);
    voting.server.abort();
    dying.listener = None;
    dying.hang_up();
    voting.member.handle.abandon().await;
    let (_, next) = active(&quorum).await;
    until_broker(&next, first.0, |broker| broker.fenced).await;
    let led = image(&next).topic("orders").unwrap().partitions[0].leader;
    assert_eq!(led, Some(NodeId(order[1])));
    assert!(!is_fenced_at(&next, order[1]) && !is_fenced_at(&next, order[2]));
    hearts.into_iter().for_each(|heart| heart.abort());
    stop(quorum).await;
}

/// I22. A leader's entries may be on the disks of all others before its own. Killed then, and back before anybody
/// misses it, it does not know what was decided, and must not lead until it does.
#[actix::test]
async fn a_leader_that_lost_what_the_others_have_does_not_lead_again_without_it() {
    let timings = QuorumTimings {
        election_min: Duration::from_secs(3),
        election_max: Duration::from_secs(4),
        ..QuorumTimings::default()
    };
    let mut quorum = quorum(false, |config| ControllerConfig { timings, ..config }).await;
    let (first, leading) = active(&quorum).await;
    leading.register_unfenced_broker(registration(1)).await.unwrap();
    let killed = quorum.remove((first.0 - 1) as usize);
    killed.config.disk.delay(Duration::MAX);
    leading.create_topic(topic("acknowledged")).await.unwrap();
    let left = tempfile::tempdir().unwrap();
    copy(killed.dir.path(), left.path());
    assert!(!holds(left.path(), b"acknowledged"), "it was not flushed");
    for other in &quorum {
        assert!(holds(other.dir.path(), b"acknowledged"), "it was flushed before it was answered");
    }
    drop(killed.serves);
    killed.config.disk.delay(Duration::ZERO);
    killed.member.handle.abandon().await;
    let config = ControllerConfig { dir: left.path().into(), ..killed.config };
    let listener = listen_at(killed.address).await;
    quorum.insert((first.0 - 1) as usize, Voting::start(listener, left, config, false).await);
    let (_, next) = active(&quorum).await;
    let refused = next.create_topic(topic("acknowledged")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::TopicExists);
    next.create_topic(topic("after")).await.unwrap();
    let decided = image(&next);
    for voting in &quorum {
        let mut images = voting.member.handle.image();
        within(images.wait_for(|image| image.topic("after").is_some())).await.unwrap();
        assert_eq!(image(&voting.member.handle), decided);
    }
    stop(quorum).await;
}

/// A disk is replaced: what was on it comes back from the others, whether or not the leader knew the old one.
#[actix::test]
async fn a_voter_whose_disk_was_replaced_is_filled_again() {
    let mut quorum = quorum(false, |config| config).await;
    let (first, leading) = active(&quorum).await;
    leading.register_unfenced_broker(registration(1)).await.unwrap();
    for n in 0..10 {
        leading.create_topic(topic(&format!("topic-{n}"))).await.unwrap();
    }
    let place = (first.0 % 3) as usize;
    let lost = quorum.remove(place);
    drop(lost.serves);
    lost.member.handle.abandon().await;
    let empty = tempfile::tempdir().unwrap();
    let config = ControllerConfig { dir: empty.path().into(), ..lost.config };
    let listener = listen_at(lost.address).await;
    quorum.insert(place, Voting::start(listener, empty, config, false).await);
    let new = &quorum[place].member;
    within(new.await_cluster()).await.unwrap();
    within(new.handle.image().wait_for(|image| image.topic("topic-9").is_some())).await.unwrap();
    let (_, leading) = active(&quorum).await;
    leading.create_topic(topic("after")).await.unwrap();
    within(new.handle.image().wait_for(|image| image.topic("after").is_some())).await.unwrap();
    assert_eq!(image(&new.handle), image(&leading));
    for voting in &quorum {
        assert!(voting.member.handle.leadership().has_changed().is_ok(), "its Raft lives");
    }
    stop(quorum).await;
}

async fn listen_at(address: SocketAddr) -> TcpListener {
    let bound = async {
        loop {
            // Until whoever listened there has let go.
            if let Ok(listener) = TcpListener::bind(address) {
                return listener;
            }
            tokio::task::yield_now().await;
        }
    };
    let listener = within(bound).await;
    listener.set_nonblocking(true).unwrap();
    listener
}

fn files(dir: &Path) -> impl Iterator<Item = std::fs::DirEntry> {
    std::fs::read_dir(dir).unwrap().map(Result::unwrap)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in files(from) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Whether some file under `dir` holds these bytes.
fn holds(dir: &Path, bytes: &[u8]) -> bool {
    files(dir).any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return holds(&path, bytes);
        }
        std::fs::read(path).unwrap().windows(bytes.len()).any(|window| window == bytes)
    })
}

/// It says so, another leads meanwhile, and it comes back by itself when there is room: with all it had, so that it
/// need not be filled again.
#[actix::test]
async fn a_voter_whose_disk_is_full_steps_down_and_comes_back_when_there_is_room() {
    let quorum = quorum(false, |config| config).await;
    let (full, leading) = active(&quorum).await;
    leading.register_unfenced_broker(registration(1)).await.unwrap();
    leading.create_topic(topic("before")).await.unwrap();
    let stopped = &quorum[(full.0 - 1) as usize];
    stopped.config.disk.fail(Some(std::io::ErrorKind::StorageFull));
    // What it is asked now it cannot write down.
    let _ = leading.create_topic(topic("meanwhile")).await;
    let mut health = stopped.member.handle.metadata_health();
    let failed = within(health.wait_for(|health| health.failure.is_some())).await.unwrap().clone();
    assert!(!stopped.member.handle.leadership().borrow().here, "{failed:?}");
    let others = quorum.iter().filter(|voting| voting.config.node_id != full);
    let mut leaderships: Vec<_> = others.map(|voting| voting.member.handle.leadership()).collect();
    let elected = leaderships
        .iter_mut()
        .map(|leadership| Box::pin(leadership.wait_for(|leadership| leadership.here)));
    drop(within(futures::future::select_all(elected)).await);
    stopped.config.disk.fail(None);
    let back = within(health.wait_for(|health| health.failure.is_none())).await.unwrap().clone();
    assert_eq!((back.damages, back.recovering), (0, false), "nothing was damaged");
    let (_, next) = active(&quorum).await;
    next.create_topic(topic("after")).await.unwrap();
    let mut images = stopped.member.handle.image();
    drop(within(images.wait_for(|image| image.topic("after").is_some())).await.unwrap());
    assert!(image(&stopped.member.handle).topic("before").is_some());
    stop(quorum).await;
}

/// What the kernel could not write it takes for written. Another flush would succeed, and the disk would lack it.
#[actix::test]
async fn a_voter_whose_flush_failed_does_not_trust_what_it_has_and_is_filled_again() {
    let quorum = quorum(false, |config| config).await;
    let (failing, leading) = active(&quorum).await;
    leading.register_unfenced_broker(registration(1)).await.unwrap();
    leading.create_topic(topic("before")).await.unwrap();
    let stopped = &quorum[(failing.0 - 1) as usize];
    let mut health = stopped.member.handle.metadata_health();
    stopped.config.disk.fail(Some(std::io::ErrorKind::Other));
    let _ = leading.create_topic(topic("meanwhile")).await;
    drop(within(health.wait_for(|health| health.failure.is_some())).await.unwrap());
    stopped.config.disk.fail(None);
    let whole = |health: &crate::metadata_log::MetadataLogHealth| {
        health.damages == 1 && !health.recovering && health.failure.is_none()
    };
    drop(within(health.wait_for(whole)).await.unwrap());
    assert!(stopped.dir.path().join("raft.damaged-1").exists(), "nothing is deleted");
    let (_, next) = active(&quorum).await;
    next.create_topic(topic("after")).await.unwrap();
    let mut images = stopped.member.handle.image();
    drop(within(images.wait_for(|image| image.topic("after").is_some())).await.unwrap());
    assert!(image(&stopped.member.handle).topic("before").is_some());
    stop(quorum).await;
}
