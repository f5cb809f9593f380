//! What is damaged on the disk is not delivered, and nothing is committed that was not read.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use troupe_proto::admin::v1::RecoverPartitionRequest;
use troupe_proto::error::ErrorCode;
use troupe_proto::log::v1::FetchOffsetsRequest;
use troupe_proto::log::v1::group_service_client::GroupServiceClient;
use troupe_proto::v1::{
    Acks, Delivery, PullRequest, SettleOutcome, SettleRequest, SettleResult, StartPosition,
    SubscribeRequest, SubscriptionOptions, TailRequest, start_position,
};
use troupe_tests::{
    PATIENCE, Process, Sample, Serve, Server, batch_of, eventually, reason_of, troupe,
};

/// A topic of three batches of one record; in the middle one a bit has flipped on the disk.
async fn damaged_topic() -> (tempfile::TempDir, Process, Server, Vec<Sample>) {
    let (directory, node) = Process::start_new(&Serve::default());
    let server = Server::at(node.server()).await;
    server.create_topic("damaged", 1, &[]).await;
    let records: Vec<_> = (0..3u8).map(|n| Sample::of(vec![n; 1_000], 1)).collect();
    for record in &records {
        server.produce("damaged", 0, batch_of(std::slice::from_ref(record)), Acks::All).await;
    }
    drop(server);
    assert!(node.terminate().await.success());
    let segment = segment_of(directory.path(), "damaged");
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::File::create(&segment).unwrap().write_all(&bytes).unwrap();

    let node = Process::start(directory.path(), &Serve::default()).unwrap();
    let server = Server::at(node.server()).await;
    (directory, node, server, records)
}

fn samples_of(deliveries: &[Delivery]) -> Vec<Sample> {
    let sample = |one: &Delivery| Sample::from_record(one.record.as_ref().unwrap());
    deliveries.iter().map(sample).collect()
}

fn earliest() -> Option<StartPosition> {
    Some(StartPosition { at: Some(start_position::At::Earliest(true)) })
}

/// Bits that flipped on the disk are found when they are read, and said, not delivered.
#[tokio::test]
async fn damage_on_the_disk_is_never_delivered() {
    let (_directory, _node, server, records) = damaged_topic().await;
    let request = TailRequest {
        topic: "damaged".to_owned(),
        start: earliest(),
        until_end: true,
        ..Default::default()
    };
    let mut stream = server.bus().tail(request).await.unwrap().into_inner();
    let mut delivered = Vec::new();
    let ended = loop {
        match stream.message().await {
            Ok(Some(answer)) => delivered.extend(samples_of(&answer.deliveries)),
            Ok(None) => break None,
            Err(status) => break Some(reason_of(&status)),
        }
    };
    assert_eq!(ended, Some(ErrorCode::CorruptLog));
    assert_eq!(delivered, records[..delivered.len()], "what is delivered is what was sent");
    assert!(delivered.len() < records.len());
}

fn group_options(group: &str) -> SubscriptionOptions {
    SubscriptionOptions {
        topics: vec!["damaged".to_owned()],
        group: group.to_owned(),
        start_position: earliest(),
        confirm_settlements: true,
        ..Default::default()
    }
}

/// Acknowledges all that comes. Gives what came, the results, and why the stream ended.
async fn subscribe(server: &Server, options: SubscriptionOptions) -> (Vec<Sample>, usize, Status) {
    let (requests, stream) = mpsc::channel(16);
    let start = SubscribeRequest { start: Some(options), ..Default::default() };
    requests.send(start).await.unwrap();
    let answers = server.bus().subscribe(ReceiverStream::new(stream)).await.unwrap();
    let (mut answers, mut delivered, mut accepted) = (answers.into_inner(), Vec::new(), 0);
    loop {
        match timeout(PATIENCE, answers.message()).await.expect("nothing came") {
            Ok(answer) => {
                let answer = answer.expect("the stream ends with an error");
                let is_accepted =
                    |result: &&SettleResult| result.outcome() == SettleOutcome::Accepted;
                accepted += answer.settle_results.iter().filter(is_accepted).count();
                delivered.extend(samples_of(&answer.deliveries));
                let ack_ids: Vec<_> =
                    answer.deliveries.into_iter().map(|delivery| delivery.ack_id).collect();
                if !ack_ids.is_empty() {
                    let request = SubscribeRequest { ack_ids, ..Default::default() };
                    requests.send(request).await.unwrap();
                }
            }
            Err(status) => return (delivered, accepted, status),
        }
    }
}

/// What the group has committed of the topic's partition.
async fn committed(server: &Server, group: &str) -> Vec<i64> {
    let request = FetchOffsetsRequest { group_id: group.to_owned(), ..Default::default() };
    let mut client = GroupServiceClient::new(server.channel());
    let answer = client.fetch_offsets(request).await.unwrap().into_inner();
    answer.offsets.iter().map(|committed| committed.offset.as_ref().unwrap().offset).collect()
}

/// The stream ends with the damage, when what came before it is settled. Nobody reads over it.
#[tokio::test]
async fn a_subscriber_stops_at_damage_and_commits_what_is_before_it() {
    let (_directory, _node, server, records) = damaged_topic().await;
    for auto_ack in [false, true] {
        let group = format!("group-{auto_ack}");
        let options = SubscriptionOptions { auto_ack, ..group_options(&group) };
        let (delivered, accepted, ended) = subscribe(&server, options.clone()).await;
        assert_eq!(reason_of(&ended), ErrorCode::CorruptLog);
        assert_eq!(delivered, records[..1]);
        assert_eq!(committed(&server, &group).await, [1]);
        assert!(auto_ack || accepted == 1, "the result came before the end");
        // Now with the damage first.
        for _ in 0..2 {
            let (delivered, _, ended) = subscribe(&server, options.clone()).await;
            assert_eq!((reason_of(&ended), delivered), (ErrorCode::CorruptLog, Vec::new()));
            assert_eq!(committed(&server, &group).await, [1]);
        }
    }
}

#[tokio::test]
async fn a_pull_stops_at_damage_and_commits_what_is_before_it() {
    let (_directory, _node, server, records) = damaged_topic().await;
    let max_wait = prost_types::Duration { seconds: 20, nanos: 0 };
    let request = PullRequest {
        options: Some(group_options("pulls")),
        max_wait: Some(max_wait),
        ..Default::default()
    };
    let pulled = server.bus().pull(request.clone()).await.unwrap().into_inner().deliveries;
    assert_eq!(samples_of(&pulled), records[..1]);
    let ack_ids = pulled.into_iter().map(|delivery| delivery.ack_id).collect();
    let settled = server.bus().settle(SettleRequest { ack_ids, ..Default::default() }).await;
    let result = settled.unwrap().into_inner().results.remove(0);
    assert_eq!(result.outcome(), SettleOutcome::Accepted);
    for _ in 0..3 {
        let refused = server.bus().pull(request.clone()).await.unwrap_err();
        assert_eq!(reason_of(&refused), ErrorCode::CorruptLog);
    }
    // The session commits on its way out.
    eventually("what is before the damage is committed", async || {
        (committed(&server, "pulls").await == [1]).then_some(())
    })
    .await;
}

/// What is below the damage is served; the rest when somebody gives up what is lost: all but that, as it was.
#[tokio::test]
async fn what_no_other_replica_has_is_passed_by_readers_once_somebody_gives_it_up() {
    let (directory, node, server, records) = damaged_topic().await;
    let read =
        async |server: &Server| {
            let request = TailRequest {
                topic: "damaged".to_owned(),
                start: earliest(),
                until_end: true,
                ..Default::default()
            };
            let mut stream = server.bus().tail(request).await.unwrap().into_inner();
            let mut delivered = Vec::new();
            loop {
                match stream.message().await {
                    Ok(Some(answer)) => {
                        let each = answer.deliveries.iter();
                        delivered.extend(each.map(|one| {
                            (one.offset, samples_of(std::slice::from_ref(one)).remove(0))
                        }));
                    }
                    Ok(None) => return (delivered, None),
                    Err(status) => return (delivered, Some(reason_of(&status))),
                }
            }
        };
    let below = vec![(0, records[0].clone())];
    eventually("it is found by whoever reads", async || {
        (read(&server).await == (below.clone(), Some(ErrorCode::CorruptLog))).then_some(())
    })
    .await;
    // What comes later is taken, and is behind the damage.
    let later = Sample::of("later", 1);
    let result = server.produce("damaged", 0, batch_of(std::slice::from_ref(&later)), Acks::All);
    assert_eq!(result.await.base_offset, 3);
    let address = node.server().to_owned();
    let said = |output: std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let health = said(troupe(&address, &["cluster", "health", "-o", "json"]).await);
    assert!(health.contains("DAMAGED_REPLICAS") && health.contains("damaged:0"), "{health}");
    let described = said(troupe(&address, &["node", "describe", "1"]).await);
    assert!(described.contains("damaged from offset 1 to 2"), "{described}");
    let refused = troupe(&address, &["partition", "recover", "damaged:0", "--yes"]).await;
    assert!(!refused.status.success(), "it is to be said that something is lost");
    let wrong = troupe(&address, &["partition", "recover", "damaged:7", "--accept-loss", "--yes"]);
    assert!(!wrong.await.status.success());
    assert_eq!(read(&server).await, (below, Some(ErrorCode::CorruptLog)), "nothing was given up");

    let accept = ["partition", "recover", "damaged:0", "--accept-loss", "--yes", "-o", "json"];
    let recovered = troupe(&address, &accept).await;
    assert!(recovered.status.success(), "{}", String::from_utf8_lossy(&recovered.stderr));
    let lost: serde_json::Value = serde_json::from_slice(&recovered.stdout).unwrap();
    assert_eq!(lost["lostOffsets"], serde_json::json!([{"firstOffset": 1, "endOffset": 2}]));
    let rest = vec![(0, records[0].clone()), (2, records[2].clone()), (3, later)];
    assert_eq!(read(&server).await, (rest.clone(), None));
    let again = RecoverPartitionRequest { topic: "damaged".to_owned(), partition: 0 };
    let refused = server.cluster().recover_partition(again).await.unwrap_err();
    assert_eq!(reason_of(&refused), ErrorCode::InvalidRequest);
    drop(server);
    node.kill();
    let node = Process::start(directory.path(), &Serve::default()).unwrap();
    let server = Server::at(node.server()).await;
    assert_eq!(read(&server).await, (rest, None));
    let scrubbed = said(troupe(node.server(), &["log", "scrub", "damaged:0", "-o", "json"]).await);
    let scrubbed: serde_json::Value = serde_json::from_str(&scrubbed).unwrap();
    assert_eq!(scrubbed["replicas"][0]["outcome"], "sound");
    assert_eq!(scrubbed["replicas"][0]["batchCount"], 4);
}

/// Nothing is wrong with what is left: it only ends before what was acknowledged.
#[tokio::test]
async fn of_a_log_that_lacks_its_end_it_is_said_which_offsets_are_lost() {
    let (directory, node) = Process::start_new(&Serve::default());
    let server = Server::at(node.server()).await;
    server.create_topic("ends", 1, &[]).await;
    for n in 0..5u8 {
        server.produce("ends", 0, batch_of(&[Sample::of(vec![n; 1_000], 1)]), Acks::All).await;
    }
    drop(server);
    node.kill();
    let segment = segment_of(directory.path(), "ends");
    let file = fs::File::options().write(true).open(&segment).unwrap();
    let size = file.metadata().unwrap().len();
    file.set_len(size / 5 * 3).unwrap();
    let node = Process::start(directory.path(), &Serve::default()).unwrap();
    let address = node.server().to_owned();
    let server = Server::at(&address).await;
    let said = |output: std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    eventually("it is told", async || {
        let described = said(troupe(&address, &["node", "describe", "1"]).await);
        described.contains("damaged from offset 3 to 5").then_some(())
    })
    .await;
    // It goes on where it ends.
    let next = server.produce("ends", 0, batch_of(&[Sample::of("next", 1)]), Acks::All).await;
    assert_eq!(next.base_offset, 3);
    let accept = ["partition", "recover", "ends:0", "--accept-loss", "--yes", "-o", "json"];
    let recovered = troupe(&address, &accept).await;
    assert!(recovered.status.success(), "{}", String::from_utf8_lossy(&recovered.stderr));
    let lost: serde_json::Value = serde_json::from_slice(&recovered.stdout).unwrap();
    assert_eq!(lost["lostOffsets"], serde_json::json!([{"firstOffset": 3, "endOffset": 5}]));
    let health = said(troupe(&address, &["cluster", "health", "-o", "json"]).await);
    assert!(!health.contains("DAMAGED_REPLICAS"), "{health}");
    let again = RecoverPartitionRequest { topic: "ends".to_owned(), partition: 0 };
    let refused = server.cluster().recover_partition(again).await.unwrap_err();
    assert_eq!(reason_of(&refused), ErrorCode::InvalidRequest);
    assert_eq!(server.read_all("ends", 0).await.len(), 4, "and nothing else was");
}

fn segment_of(data: &Path, topic: &str) -> PathBuf {
    fn walk(dir: &Path, topic: &str) -> Option<PathBuf> {
        for entry in fs::read_dir(dir).ok()?.flatten() {
            let path = entry.path();
            let found = if path.is_dir() { walk(&path, topic) } else { None };
            let is_it = path.extension().is_some_and(|extension| extension == "log")
                && path.to_string_lossy().contains(topic);
            if found.is_some() || is_it {
                return found.or(Some(path));
            }
        }
        None
    }
    walk(data, topic).expect("a segment of the topic")
}
