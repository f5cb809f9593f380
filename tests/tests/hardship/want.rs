//! What a node lacks for a while, and what stands in its way: it heals by itself, and the rest serves.

use crate::{append_until_refused, assert_alive, with};
use std::fs;
use std::io::Write;
use std::path::Path;
use tonic::transport::Endpoint;
use troupe_proto::admin::v1::cluster_service_client::ClusterServiceClient;
use troupe_proto::admin::v1::{DeleteTopicRequest, GetClusterRequest, UpdateTopicRequest};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::v1::Acks;
use troupe_tests::{Mount, Process, Sample, Serve, Server, batch_of, eventually, skip};

/// Sets how many files the process may open; gives the limit before.
fn limit_descriptors(pid: u32, soft: Option<u64>) -> libc::rlimit {
    let pid = libc::pid_t::try_from(pid).unwrap();
    let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is ours to write.
    let got = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut before) };
    assert_eq!(got, 0);
    let rlim_cur = soft.unwrap_or(before.rlim_max);
    let limit = libc::rlimit { rlim_cur, ..before };
    // SAFETY: the struct outlives the call.
    let set = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut()) };
    assert_eq!(set, 0);
    before
}

fn descriptors(pid: u32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64
}

fn one(value: &str) -> troupe_proto::log::v1::RecordBatch {
    batch_of(&[Sample::of(value, 1)])
}

/// No partition was written to before: each needs a directory, and a segment.
#[tokio::test]
async fn descriptors_that_run_out_for_a_while_take_no_partition_offline_for_good() {
    const PARTITIONS: i32 = 20;
    let (_directory, node) = Process::start_new(&Serve::default());
    let server = Server::at(node.server()).await;
    server.create_topic("short", PARTITIONS, &[]).await;
    // The connection stands; the first half has its files open, but what is new is still to be synced.
    for partition in 0..PARTITIONS / 2 {
        server.produce("short", partition, one("before"), Acks::Leader).await;
    }
    // A few, so that some succeed in one step and fail in the next.
    limit_descriptors(node.pid(), Some(descriptors(node.pid()) + 2));
    for partition in 0..PARTITIONS {
        let result = server.produce("short", partition, one("meanwhile"), Acks::Leader).await;
        if let Some(error) = result.error {
            assert!(error.retriable, "{error:?}");
        }
    }
    limit_descriptors(node.pid(), None);
    for partition in 0..PARTITIONS {
        eventually("the partition takes records again", async || {
            let result = server.produce("short", partition, one("after"), Acks::All).await;
            (result.base_offset >= 0).then_some(())
        })
        .await;
    }
    assert!(!node.stderr().contains("panicked"), "{}", node.stderr());
}

/// However many come: the logs have their descriptors, and who is not let in is told why.
#[tokio::test]
async fn connections_get_the_descriptors_that_the_logs_leave() {
    const PARTITIONS: i32 = 100;
    let (_directory, node) = Process::start_new(&Serve::default());
    let server = Server::at(node.server()).await;
    server.create_topic("logs", PARTITIONS, &[]).await;
    // 128 for what else there is, and 64 for connections: of which 48 are clients', and 36 may come from one address.
    limit_descriptors(node.pid(), Some(128 + PARTITIONS as u64 + 64));
    let mut open = Vec::new();
    let refused = loop {
        let endpoint = Endpoint::from_shared(format!("http://{}", node.server())).unwrap();
        let channel = endpoint.connect_lazy();
        let mut stub = ClusterServiceClient::new(channel.clone());
        match stub.get_cluster(GetClusterRequest {}).await {
            Ok(_) => open.push(channel),
            Err(status) => break Error::from(status),
        }
        assert!(open.len() < 64, "as many as there are descriptors for");
    };
    assert_eq!(refused.code, ErrorCode::TooManyConnections, "{refused}");
    assert_eq!(refused.facts["limit"], "36");
    for partition in 0..PARTITIONS {
        let result = server.produce("logs", partition, one("kept"), Acks::All).await;
        assert_eq!((result.base_offset, result.error), (0, None), "partition {partition}");
    }
    // With more partitions there are fewer connections, and those that are there stay.
    server.create_topic("more", 40, &[]).await;
    open.truncate(12);
    eventually("fewer are let in", async || {
        let channel = Endpoint::from_shared(format!("http://{}", node.server())).unwrap();
        let mut stub = ClusterServiceClient::new(channel.connect_lazy());
        let refused = stub.get_cluster(GetClusterRequest {}).await.err().map(Error::from)?;
        (refused.facts.get("limit").map(String::as_str) == Some("12")).then_some(())
    })
    .await;
    assert_alive(&server, "logs").await;
}

/// And whoever comes to look is let in.
#[tokio::test]
async fn a_start_with_fewer_descriptors_than_the_partitions_need_says_so() {
    let (directory, node) = Process::start_new(&Serve::default());
    Server::at(node.server()).await.create_topic("many", 200, &[]).await;
    assert!(node.terminate().await.success());
    let serve = Serve { descriptor_limit: Some(256), ..Serve::default() };
    let node = Process::start(directory.path(), &serve).unwrap();
    let server = Server::at(node.server()).await;
    let result = server.produce("many", 0, one("looked"), Acks::All).await;
    assert_eq!((result.base_offset, result.error), (0, None));
    eventually("it says so", async || {
        node.stderr().contains("too few files for its 200 partitions").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_topic_of_the_longest_name_comes_and_goes_and_the_node_starts_again() {
    let name = "d".repeat(249);
    let (directory, node) = Process::start_new(&Serve::default());
    let server = Server::at(node.server()).await;
    for round in 0..2 {
        server.create_topic(&name, 11, &[]).await;
        let result = server.produce(&name, 10, one("of this life"), Acks::All).await;
        assert_eq!((result.base_offset, result.error), (0, None), "round {round}");
        let request = DeleteTopicRequest { name: name.clone(), ..Default::default() };
        server.topics().delete_topic(request).await.unwrap();
        eventually("its directory is renamed", async || {
            (!directory.path().join(format!("{name}-10")).exists()).then_some(())
        })
        .await;
    }
    drop(server);
    node.kill();
    let node = Process::start(directory.path(), &Serve::default()).unwrap();
    let server = Server::at(node.server()).await;
    server.create_topic(&name, 1, &[]).await;
    assert_alive(&server, &name).await;
}

/// A stray file, a directory of nobody's, files where directories belong and the other way round.
#[tokio::test]
async fn what_stands_in_the_data_directory_keeps_no_node_from_starting() {
    let (directory, node) = Process::start_new(&Serve::default());
    let server = Server::at(node.server()).await;
    for topic in ["hurt", "lost", "odd", "whole"] {
        server.create_topic(topic, 1, &[]).await;
        assert_alive(&server, topic).await;
    }
    drop(server);
    assert!(node.terminate().await.success());
    let at = |name: &str| directory.path().join(name);
    fs::write(at("stray"), "not ours").unwrap();
    fs::write(at("stray-0"), "not ours").unwrap();
    fs::create_dir_all(at("gone-0/partition.metadata/inside")).unwrap();
    fs::write(at("meta.properties"), "").unwrap();
    fs::remove_dir_all(at("lost-0")).unwrap();
    swap_for_directory(&at("hurt-0/leader-epoch-checkpoint"));
    swap_for_directory(&at("hurt-0/offset-checkpoint"));
    fs::remove_dir_all(at("odd-0")).unwrap();
    fs::write(at("odd-0"), "a file").unwrap();

    let node = Process::start(directory.path(), &Serve::default()).unwrap();
    let server = Server::at(node.server()).await;
    for topic in ["whole", "hurt", "lost"] {
        eventually("the partition serves", async || {
            let result = server.produce(topic, 0, one("served"), Acks::All).await;
            (result.base_offset >= 0).then_some(())
        })
        .await;
    }
    assert_eq!(server.read_all("hurt", 0).await.len(), 2, "nothing of it was lost");
    // One partition is offline; its reason names the place.
    let refused = server.produce("odd", 0, one("refused"), Acks::All).await.error.unwrap();
    assert!(refused.message.contains("odd-0"), "{refused:?}");
    let said = node.stderr();
    for name in ["gone-0", "lost-0 is gone", "hurt-0/offset-checkpoint", "odd-0"] {
        assert!(said.contains(name), "{name} is not named in:\n{said}");
    }
    let metrics = get(node.http(), "/metrics");
    assert!(metrics.contains("troupe_log_damages_total{node=\"1\"} 1"), "{metrics}");
}

fn swap_for_directory(path: &Path) {
    fs::remove_file(path).unwrap();
    fs::create_dir_all(path.join("inside")).unwrap();
}

/// The body of a plain GET.
fn get(address: &str, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    std::io::read_to_string(stream).unwrap()
}

/// Everything is full, the metadata's share too: the node starts, and what it advises helps.
#[tokio::test]
async fn on_a_full_disk_the_node_starts_and_lower_retention_makes_room() {
    const NAME: &str = "on_a_full_disk_the_node_starts_and_lower_retention_makes_room";
    let mount = match Mount::tmpfs("size=48m") {
        Ok(mount) => mount,
        Err(error) => return skip(NAME, &format!("cannot mount: {error}")),
    };
    let data = mount.path().join("data");
    let serve = with("log.retention.check.interval.ms=200");
    let node = Process::start(&data, &serve).unwrap();
    let server = Server::at(node.server()).await;
    // The records here are of 1970.
    let configs = [("segment.bytes", "2MiB"), ("retention.ms", "-1")];
    server.create_topic("full", 1, &configs).await;
    let (acknowledged, reason) = append_until_refused(&server, "full").await;
    assert_eq!(reason, ErrorCode::DiskFull);
    // Others take what is left.
    let mut others = fs::File::create(mount.path().join("others")).unwrap();
    while others.write_all(&[7; 1024]).is_ok() {}
    drop(server);
    node.kill();

    let node = Process::start(&data, &serve).unwrap_or_else(|exit| panic!("{}", exit.stderr));
    let server = Server::at(node.server()).await;
    assert_eq!(server.read_all("full", 0).await, acknowledged);
    let request = UpdateTopicRequest {
        name: "full".to_owned(),
        set_configs: [("retention.bytes".to_owned(), "4MiB".to_owned())].into(),
        ..Default::default()
    };
    server.topics().update_topic(request).await.unwrap();
    eventually("there is room, and records are taken", async || {
        let result = server.produce("full", 0, one("more"), Acks::All).await;
        (result.base_offset >= 0).then_some(())
    })
    .await;
    drop(server);
    assert!(node.terminate().await.success());
    Process::start(&data, &serve).unwrap();
}
