//! What a node bears from those who connect to it: silence, halves of words, crowds, impatience. Raw sockets, short
//! times by configuration; nothing here asserts how long something took.
#![allow(clippy::unwrap_used, reason = "tests")]

mod half_open;
mod kept;
mod raw;

use raw::{
    END_HEADERS, GOAWAY, HEADERS, PREFACE, RST_STREAM, Raw, WINDOW_UPDATE, call, cancelled, frame,
    headers, introduction,
};
use std::net::TcpListener;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use troupe_proto::admin::v1::GetClusterRequest;
use troupe_proto::admin::v1::cluster_service_client::ClusterServiceClient;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::v1::{Acks, TailRequest};
use troupe_tests::{LocalNode, PATIENCE, Process, Sample, Serve, Server, batch_of, eventually};

const TAIL: &str = "/troupe.v1.EventBusService/Tail";
const GET_CLUSTER: &str = "/troupe.admin.v1.ClusterService/GetCluster";
const SETUP: &str = "socket.connection.setup.timeout.ms=300";

/// A node that is a cluster by itself, so that it has a controller listener; its address.
fn node_with_controller(settings: &[&str]) -> (LocalNode, String) {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let controller = free.local_addr().unwrap().to_string();
    drop(free);
    let of_cluster = [
        "cluster.id=alone".to_owned(),
        format!("controller.quorum.voters=1@{controller}"),
        format!("controller.listener={controller}"),
    ];
    let all: Vec<&str> =
        of_cluster.iter().map(String::as_str).chain(settings.iter().copied()).collect();
    (LocalNode::start(&all), controller)
}

/// A connection of its own: one call.
async fn ask(address: &str) -> Result<Channel, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = endpoint.connect_lazy();
    ClusterServiceClient::new(channel.clone()).get_cluster(GetClusterRequest {}).await?;
    Ok(channel)
}

/// Of `/metrics`, the sum of the series whose name and labels contain all of `parts`.
async fn metric(http: &str, parts: &[&str]) -> f64 {
    let mut stream = TcpStream::connect(http).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let of_it = text.lines().filter(|line| parts.iter().all(|part| line.contains(part)));
    of_it.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// On both listeners for gRPC, whatever a client has said before it fell silent.
#[tokio::test]
async fn a_connection_that_never_becomes_one_is_ended() {
    let (node, controller) = node_with_controller(&[SETUP]);
    let half_a_call = frame(HEADERS, END_HEADERS, 1, &headers(TAIL));
    let no_end_of_headers = frame(HEADERS, 0, 1, &headers(TAIL));
    let beginnings = [
        Vec::new(),
        PREFACE[..10].to_vec(),
        PREFACE.to_vec(),
        [PREFACE, &[0, 0, 0, 4]].concat(),
        [&introduction(None), &half_a_call[..5]].concat(),
        [&introduction(None), &half_a_call[..20]].concat(),
        [&introduction(None), &no_end_of_headers[..]].concat(),
        b"GET / HTTP/1.1\r\n".to_vec(),
    ];
    for address in [node.server(), controller] {
        let mut silent = Vec::new();
        for beginning in &beginnings {
            silent.push(Raw::saying(&address, beginning).await);
        }
        for raw in &mut silent {
            raw.end().await;
        }
        let mut slow = Raw::saying(&address, &introduction(None)).await;
        let without_end = [0, 0x40, 0, HEADERS, END_HEADERS, 0, 0, 0, 1].into_iter();
        slow.trickle(without_end.chain(std::iter::repeat_n(0, 16_000))).await;
        ask(&address).await.unwrap();
    }
    assert!(metric(&node.http(), &["troupe_connections_closed_total", "setup"]).await >= 15.0);
}

#[tokio::test]
async fn an_http_request_that_does_not_come_is_not_waited_for() {
    let node = LocalNode::start(&[SETUP]);
    for beginning in ["", "GET /met", "GET /metrics HTTP/1.1\r\nhost: node\r\n"] {
        Raw::saying(&node.http(), beginning.as_bytes()).await.end().await;
    }
    let mut slow = Raw::saying(&node.http(), b"GET /metrics HTTP/1.1\r\nx: ").await;
    slow.trickle(std::iter::repeat_n(b'a', 16_000)).await;
    // Asked for, and not read: it stays no longer than any other.
    assert!(metric(&node.http(), &["troupe_connections", "listener=\"http\""]).await >= 1.0);
}

#[tokio::test]
async fn an_http_client_that_stays_is_asked_to_go() {
    let node = LocalNode::start(&["connections.max.idle.ms=300"]);
    let request = b"GET /metrics HTTP/1.1\r\nhost: node\r\n\r\n";
    let mut client = Raw::saying(&node.http(), request).await;
    let answer = String::from_utf8(client.end().await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_connection_without_a_call_is_asked_to_go_and_a_quiet_subscription_stays() {
    let node = LocalNode::start(&["connections.max.idle.ms=300"]);
    let server = Server::at(&node.server()).await;
    let topic = server.new_topic(1, &[]).await.name;
    let request = TailRequest { topic: topic.clone(), ..Default::default() };
    let mut tail = Raw::introduced(&node.server(), None).await;
    tail.send(&call(1, TAIL, &request)).await;
    // The node has opened it when it has answered its headers.
    while tail.next().await.unwrap().kind != HEADERS {}
    // So many times the limit passes.
    for _ in 0..4 {
        let mut idle = Raw::introduced(&node.server(), None).await;
        let mut kinds = Vec::new();
        while let Some(frame) = idle.next().await {
            kinds.push(frame.kind);
        }
        assert!(kinds.contains(&GOAWAY), "{kinds:?}");
    }
    // Whose library knows what that means makes another connection.
    server.produce(&topic, 0, batch_of(&[Sample::of("news", 1)]), Acks::All).await;
    loop {
        let frame = tail.next().await.expect("the subscription stands");
        assert_ne!(frame.kind, GOAWAY);
        if frame.brings(1, b"news") {
            break;
        }
    }
}

/// The peer answers and takes nothing: of a stream, and of a single answer.
#[tokio::test]
async fn a_window_that_stays_shut_is_not_waited_for_for_ever() {
    let node = LocalNode::start(&["stream.max.stall.ms=300"]);
    let server = Server::at(&node.server()).await;
    let topic = server.new_topic(1, &[]).await.name;
    server.produce(&topic, 0, batch_of(&[Sample::of("a", 1)]), Acks::All).await;
    let start = troupe_proto::v1::StartPosition {
        at: Some(troupe_proto::v1::start_position::At::Earliest(true)),
    };
    let tail = TailRequest { topic, start: Some(start), ..Default::default() };
    let mut shut = Vec::new();
    for bytes in [call(1, TAIL, &tail), call(1, GET_CLUSTER, &GetClusterRequest {})] {
        let mut raw = Raw::introduced(&node.server(), Some(0)).await;
        raw.send(&bytes).await;
        shut.push(raw);
    }
    for raw in &mut shut {
        raw.end().await;
    }
    assert!(metric(&node.http(), &["troupe_connections_closed_total", "stalled"]).await >= 2.0);
    ask(&node.server()).await.unwrap();
}

/// A client pauses one of its streams for so long that it is ended, and reads the other.
#[tokio::test]
async fn a_stream_that_is_not_taken_ends_alone_while_another_is() {
    let node = LocalNode::start(&["stream.max.stall.ms=300"]);
    let server = Server::at(&node.server()).await;
    let topic = server.new_topic(1, &[]).await.name;
    let tail = TailRequest { topic: topic.clone(), ..Default::default() };
    let mut raw = Raw::introduced(&node.server(), Some(0)).await;
    raw.send(&call(1, TAIL, &tail)).await;
    raw.send(&call(3, TAIL, &tail)).await;
    raw.send(&frame(WINDOW_UPDATE, 0, 3, &(1_u32 << 20).to_be_bytes())).await;
    let mut opened = 0;
    while opened < 2 {
        opened += usize::from(raw.next().await.unwrap().kind == HEADERS);
    }
    server.produce(&topic, 0, batch_of(&[Sample::of("first", 1)]), Acks::All).await;
    let (mut read, mut ended) = (false, false);
    while !(read && ended) {
        let frame = raw.next().await.expect("the connection stands");
        assert_ne!(frame.kind, GOAWAY);
        read |= frame.brings(3, b"first");
        ended |= (frame.kind, frame.stream) == (RST_STREAM, 1);
        assert_ne!((frame.kind, frame.stream), (RST_STREAM, 3), "this one is read");
    }
    // The other goes on.
    server.produce(&topic, 0, batch_of(&[Sample::of("second", 1)]), Acks::All).await;
    while !raw.next().await.expect("the connection stands").brings(3, b"second") {}
    assert!(metric(&node.http(), &["troupe_stalled_calls_ended_total"]).await >= 1.0);
    assert!(metric(&node.http(), &["troupe_connections_closed_total", "stalled"]).await < 1.0);
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_in_an_answer() {
    let (node, controller) = node_with_controller(&["max.connections.per.ip=3"]);
    eventually("the node has taken its own place", async || ask(&controller).await.ok()).await;
    for address in [node.server(), controller] {
        let mut open = Vec::new();
        let refused = loop {
            match ask(&address).await {
                Ok(channel) => open.push(channel),
                Err(refused) => break Error::from(refused),
            }
            assert!(open.len() <= 3);
        };
        assert_eq!(refused.code, ErrorCode::TooManyConnections, "{refused}");
        assert_eq!(refused.facts["limit"], "3");
        assert!(refused.message.contains("max.connections.per.ip"), "{refused}");
        assert!(refused.surely_not_done());
        // One goes, one may come.
        open.pop();
        eventually("there is a place again", async || ask(&address).await.ok()).await;
    }
    let refused = metric(&node.http(), &["troupe_connections_refused_total"]).await;
    assert!(refused >= 2.0);
    let mut open = Vec::new();
    let said = loop {
        let mut raw = Raw::saying(&node.http(), b"GET /metrics HTTP/1.1\r\nhost: n\r\n\r\n").await;
        let mut first = [0; 12];
        raw.read(&mut first).await;
        if first.ends_with(b"503") {
            break String::from_utf8(raw.end().await).unwrap();
        }
        open.push(raw);
        assert!(open.len() <= 3);
    };
    assert!(said.contains("max.connections.per.ip"), "{said}");
}

/// Silence costs those their places who keep it, and nobody else.
#[tokio::test]
async fn connections_that_say_nothing_keep_nobody_out() {
    let node = LocalNode::start(&["max.connections.per.node=20", "max.connections.per.ip=10"]);
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(Raw::connect(&node.server()).await);
    }
    let mut open = Vec::new();
    for _ in 0..9 {
        open.push(eventually("a client gets in", async || ask(&node.server()).await.ok()).await);
    }
    for channel in open {
        ClusterServiceClient::new(channel).get_cluster(GetClusterRequest {}).await.unwrap();
    }
    let open = metric(&node.http(), &["troupe_connections{", "listener=\"grpc\""]).await;
    assert!(open <= 10.0, "{open}");
}

/// A client that gives up thousands of calls at once keeps its connection, and what else is on it.
#[tokio::test]
async fn calls_that_are_cancelled_end_no_other_call_of_their_connection() {
    let node = LocalNode::start(&[]);
    let server = Server::at(&node.server()).await;
    let topic = server.new_topic(1, &[]).await.name;
    let request = TailRequest { topic: topic.clone(), ..Default::default() };
    let mut raw = Raw::introduced(&node.server(), None).await;
    raw.send(&call(1, TAIL, &request)).await;
    while raw.next().await.unwrap().kind != HEADERS {}
    let impatient: Vec<u8> =
        (1..=5_000).flat_map(|number| cancelled(2 * number + 1, TAIL)).collect();
    raw.send(&impatient).await;
    server.produce(&topic, 0, batch_of(&[Sample::of("news", 1)]), Acks::All).await;
    loop {
        let frame = raw.next().await.expect("the connection stands");
        assert_ne!(frame.kind, GOAWAY, "{frame:?}");
        assert!(frame.kind != RST_STREAM || frame.stream != 1);
        if frame.brings(1, b"news") {
            break;
        }
    }
}

/// Rapid resets: they cost the one who sends them its own turns, not others theirs, nor memory.
#[tokio::test]
async fn endless_cancelling_starves_nobody_and_is_not_saved_up() {
    let (_directory, node) = Process::start_new(&Serve::default());
    ask(node.server()).await.unwrap();
    let before = node.memory();
    let mut attacks = Vec::new();
    for _ in 0..2 {
        let address = node.server().to_owned();
        attacks.push(tokio::spawn(async move {
            let mut raw = Raw::introduced(&address, None).await;
            let mut sent = 0u32;
            loop {
                let burst: Vec<u8> = (1..=500)
                    .flat_map(|number| cancelled(2 * (sent + number) + 1, GET_CLUSTER))
                    .collect();
                sent += 500;
                if sent > 1 << 29 || !raw.try_send(&burst).await {
                    raw = Raw::introduced(&address, None).await;
                    sent = 0;
                }
            }
        }));
    }
    let channel = ask(node.server()).await.unwrap();
    let mut took = Vec::new();
    let mut honest = ClusterServiceClient::new(channel);
    for _ in 0..100 {
        let began = std::time::Instant::now();
        honest.get_cluster(GetClusterRequest {}).await.unwrap();
        took.push(began.elapsed());
    }
    let grown = node.memory().saturating_sub(before);
    attacks.iter().for_each(tokio::task::JoinHandle::abort);
    took.sort();
    println!("honest calls beside it: p50 {:?}, p99 {:?}; {grown} bytes", took[50], took[98]);
    assert!(grown < 128 << 20, "{grown} bytes");
}

/// What a half-open connection costs, and how long it lives. Figures, printed.
#[tokio::test]
#[ignore = "prints figures"]
async fn half_open_connections_are_counted() {
    let serve = Serve::default();
    let (_directory, node) = Process::start_new(&serve);
    ask(node.server()).await.unwrap();
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap().count();
    let (memory, files) = (node.memory(), descriptors());
    let began = std::time::Instant::now();
    let mut open = Vec::new();
    for number in 0..2_000 {
        let said: &[u8] = if number % 2 == 0 { b"" } else { &PREFACE[..12] };
        open.push(Raw::saying(node.server(), said).await);
    }
    let (grown, taken) = (node.memory() - memory, descriptors() - files);
    println!("2,000 half-open connections: {taken} descriptors, {} KiB", grown >> 10);
    let gone = tokio::time::timeout(PATIENCE, async {
        for raw in &mut open {
            raw.end().await;
        }
    });
    match gone.await {
        Ok(()) => println!("all ended after {:?}", began.elapsed()),
        Err(_) => println!("still there after {PATIENCE:?}: {}", descriptors() - files),
    }
    println!("{} descriptors left of them", descriptors().saturating_sub(files));
}
