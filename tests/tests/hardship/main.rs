//! What a node meets outside of its API: configurations, directories, ports and disks that are not as they
//! should be. Each has its own clear error; what can live on, lives on.
#![allow(clippy::unwrap_used, reason = "tests")]

mod damage;
mod start;
mod want;

use troupe_proto::error::ErrorCode;
use troupe_proto::v1::Acks;
use troupe_tests::{Mount, Process, Sample, Serve, Server, batch_of, eventually, skip};

fn with(setting: &str) -> Serve {
    Serve { settings: vec![setting.to_owned()], ..Serve::default() }
}

async fn assert_alive(server: &Server, topic: &str) {
    let before = server.read_all(topic, 0).await.len() as i64;
    let batch = batch_of(&[Sample::of("alive", 1)]);
    let result = server.produce(topic, 0, batch, Acks::All).await;
    assert_eq!((result.base_offset, result.error), (before, None));
}

/// Appends until it is refused. Gives what was acknowledged, and the reason.
async fn append_until_refused(server: &Server, topic: &str) -> (Vec<(i64, Sample)>, ErrorCode) {
    let mut acknowledged = Vec::new();
    for n in 0..200u8 {
        let record = Sample::of(vec![n; 500_000], 1);
        let batch = batch_of(std::slice::from_ref(&record));
        let result = server.produce(topic, 0, batch, Acks::All).await;
        match result.error {
            None => acknowledged.push((result.base_offset, record)),
            Some(detail) => return (acknowledged, detail.reason()),
        }
    }
    panic!("the disk is not full after 100 MB");
}

/// Refused with a reason of its own; reading goes on; once there is room, so does writing.
#[tokio::test]
async fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let mount = match Mount::tmpfs("size=64m") {
        Ok(mount) => mount,
        Err(error) => {
            let why = format!("cannot mount: {error}");
            return skip("a_full_disk_loses_nothing_that_was_acknowledged", &why);
        }
    };
    let data = mount.path().join("data");
    let mut node = Process::start(&data, &Serve::default()).unwrap();
    let server = Server::at(node.server()).await;
    server.create_topic("full", 1, &[]).await;
    let (mut acknowledged, reason) = append_until_refused(&server, "full").await;
    assert_eq!(reason, ErrorCode::DiskFull);
    assert!(acknowledged.len() > 10);
    assert!(node.is_running(), "{}", node.stderr());
    assert_eq!(server.read_all("full", 0).await, acknowledged, "reading goes on");

    mount.resize("size=96m").unwrap();
    let record = Sample::of("room again", 1);
    let offset = eventually("a retry is taken once there is room", async || {
        let batch = batch_of(std::slice::from_ref(&record));
        let result = server.produce("full", 0, batch, Acks::All).await;
        assert!(result.error.is_none_or(|detail| detail.retriable));
        (result.base_offset >= 0).then_some(result.base_offset)
    })
    .await;
    acknowledged.push((offset, record));
    let (more, reason) = append_until_refused(&server, "full").await;
    assert_eq!(reason, ErrorCode::DiskFull);
    acknowledged.extend(more);
    drop(server);
    node.kill();

    mount.resize("size=128m").unwrap();
    let node = Process::start(&data, &Serve::default()).unwrap();
    let server = Server::at(node.server()).await;
    assert_eq!(server.read_all("full", 0).await, acknowledged);
    assert_alive(&server, "full").await;
}

/// Needs no mount: the process may write no file beyond a size. A disk that fails one partition.
#[tokio::test]
async fn a_write_that_the_system_refuses_is_an_answer() {
    let serve = Serve { file_size_limit: Some(8 << 20), ..Serve::default() };
    let (directory, mut node) = Process::start_new(&serve);
    let server = Server::at(node.server()).await;
    let topic = server.new_topic(1, &[]).await.name;
    let (acknowledged, reason) = append_until_refused(&server, &topic).await;
    assert!(matches!(reason, ErrorCode::DiskFull | ErrorCode::StorageFailure), "{reason:?}");
    assert!(!acknowledged.is_empty());
    assert!(node.is_running(), "{}", node.stderr());
    // Others go on.
    let other = server.new_topic(1, &[]).await.name;
    assert_alive(&server, &other).await;
    drop(server);
    node.kill();
    let node = Process::start(directory.path(), &Serve::default()).unwrap();
    let server = Server::at(node.server()).await;
    assert_eq!(server.read_all(&topic, 0).await, acknowledged);
    assert_alive(&server, &topic).await;
}
