//! The controller as the node uses it, on a real disk.

mod brokers;
mod calls;
mod scripted;
mod sessions;
mod voters;

use crate::{Controller, ControllerConfig, ControllerHandle, ControllerStartError};
use futures::future::join_all;
use prost::Message;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use troupe_machines::cluster::{
    ClusterImage, ClusterPolicy, CreatePartitions, CreateTopic, DeleteTopic, RegisterBroker,
    UpdateTopic,
};
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::NodeId;
use troupe_proto::internal::v1::MetadataBatch;

use scripted::ScriptedLog;

const NODE: NodeId = NodeId(1);

fn config(dir: &Path) -> ControllerConfig {
    ControllerConfig::new(NODE, dir)
}

async fn start(dir: &Path) -> ControllerHandle {
    Controller::start(config(dir)).await.unwrap()
}

fn registration(incarnation: u8) -> RegisterBroker {
    RegisterBroker {
        node_id: NODE,
        incarnation: [incarnation; 16],
        endpoint: "localhost:9092".into(),
        ..RegisterBroker::default()
    }
}

fn topic(name: &str) -> CreateTopic {
    CreateTopic { name: name.into(), ..CreateTopic::default() }
}

fn image(handle: &ControllerHandle) -> Arc<ClusterImage> {
    handle.image().borrow().clone()
}

/// How the disk behaves; may be changed at any time.
#[derive(Clone, Debug, Default)]
pub struct TestDisk(Arc<Mutex<Behaviour>>);

#[derive(Clone, Copy, Debug, Default)]
struct Behaviour {
    /// How much longer a flush takes.
    delay: Duration,
    /// What a flush fails with.
    error: Option<std::io::ErrorKind>,
}

impl TestDisk {
    pub fn delay(&self, delay: Duration) {
        self.0.lock().unwrap().delay = delay;
    }

    pub fn fail(&self, error: Option<std::io::ErrorKind>) {
        self.0.lock().unwrap().error = error;
    }

    pub fn flush(&self) -> std::io::Result<()> {
        let began = std::time::Instant::now();
        let behaviour = || *self.0.lock().unwrap();
        while began.elapsed() < behaviour().delay {
            std::thread::sleep(Duration::from_millis(1));
        }
        behaviour().error.map_or(Ok(()), |kind| Err(kind.into()))
    }
}

impl ControllerHandle {
    /// Asks again as long as the actor dies, or stands by.
    async fn await_active_at_last(&self) {
        while self.await_active().await.is_err() {}
    }
}

#[actix::test]
async fn an_answer_is_in_the_image_already() {
    let dir = tempfile::tempdir().unwrap();
    let handle = start(dir.path()).await;
    let epoch = handle.register_unfenced_broker(registration(1)).await.unwrap();
    assert_eq!(image(&handle).broker(NODE).unwrap().epoch, epoch);
    let created = handle.create_topic(topic("orders")).await.unwrap();
    assert_eq!(image(&handle).topic("orders"), Some(&created));
    let set = [("retention.ms".to_owned(), "1h".to_owned())].into();
    let update = UpdateTopic { name: "orders".into(), set, ..UpdateTopic::default() };
    let updated = handle.update_topic(update).await.unwrap();
    assert_eq!(updated.overrides["retention.ms"], "3600000");
    let grow = CreatePartitions { name: "orders".into(), total: 3, ..CreatePartitions::default() };
    let grown = handle.create_partitions(grow).await.unwrap();
    assert_eq!(image(&handle).topic("orders"), Some(&grown));
    let delete = DeleteTopic { name: "orders".into(), validate_only: false, internal: false };
    assert_eq!(handle.delete_topic(delete).await.unwrap(), created.id);
    assert_eq!(image(&handle).topic("orders"), None);
    assert_eq!(handle.controller_id(), Some(NODE));
    handle.shutdown().await.unwrap();
}

#[actix::test]
async fn refusals_come_back_as_the_machine_made_them() {
    let dir = tempfile::tempdir().unwrap();
    let handle = start(dir.path()).await;
    let refused = handle.create_topic(topic("orders")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidReplicationFactor, "nobody has registered");
    let refused = handle.create_topic(topic("..")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidTopic);
    handle.shutdown().await.unwrap();
}

/// A25.
#[actix::test]
async fn validate_only_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let handle = start(dir.path()).await;
    handle.register_unfenced_broker(registration(1)).await.unwrap();
    let before = image(&handle);
    let request = CreateTopic { validate_only: true, ..topic("orders") };
    handle.create_topic(request).await.unwrap();
    assert_eq!(image(&handle), before);
    handle.shutdown().await.unwrap();
}

#[actix::test]
async fn everything_is_still_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = None;
    let mut ids = BTreeSet::new();
    for round in 0..4 {
        let handle = start(dir.path()).await;
        if let Some(expected) = expected.take() {
            assert_eq!(image(&handle), expected);
        }
        let epoch = handle.register_unfenced_broker(registration(round)).await.unwrap();
        for n in 0..5 {
            handle.create_topic(topic(&format!("topic-{round}-{n}"))).await.unwrap();
        }
        let block = handle.allocate_producer_ids(NODE, epoch).await.unwrap();
        assert!(ids.insert(block.first), "K23: producer ids never come again");
        expected = Some(image(&handle));
        handle.shutdown().await.unwrap();
    }
    assert_eq!(expected.unwrap().topic_count(), 20);
}

/// K9.
#[actix::test]
async fn a_snapshot_bounds_the_log_and_restores_the_same_image() {
    let dir = tempfile::tempdir().unwrap();
    let small = ControllerConfig { snapshot_entries: 10, ..config(dir.path()) };
    let handle = Controller::start(small.clone()).await.unwrap();
    handle.register_unfenced_broker(registration(1)).await.unwrap();
    let mut images = handle.image();
    for n in 0..300 {
        handle.create_topic(topic(&format!("topic-{n}"))).await.unwrap();
    }
    let expected = images.borrow_and_update().clone();
    handle.shutdown().await.unwrap();
    assert!(dir.path().join("metadata.snapshot").exists());
    let handle = Controller::start(small).await.unwrap();
    assert_eq!(image(&handle), expected);
    handle.shutdown().await.unwrap();
}

/// K9: few decisions may be large ones.
#[actix::test]
async fn a_log_of_many_bytes_is_replaced_by_a_snapshot_too() {
    let dir = tempfile::tempdir().unwrap();
    let small = ControllerConfig {
        snapshot_bytes: 10_000,
        snapshot_entries: 1 << 40,
        ..config(dir.path())
    };
    let handle = Controller::start(small.clone()).await.unwrap();
    handle.register_unfenced_broker(registration(1)).await.unwrap();
    for n in 0.. {
        let request = CreateTopic { partitions: Some(100), ..topic(&format!("topic-{n}")) };
        handle.create_topic(request).await.unwrap();
        if dir.path().join("metadata.snapshot").exists() {
            break;
        }
    }
    let expected = image(&handle);
    handle.shutdown().await.unwrap();
    let handle = Controller::start(small).await.unwrap();
    assert_eq!(image(&handle), expected);
    handle.shutdown().await.unwrap();
}

/// One whose entries are purged; one that only repeats the log is made again.
#[actix::test]
async fn a_damaged_snapshot_is_found_before_anything_is_decided_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metadata.snapshot");
    let small = ControllerConfig { snapshot_entries: 10, ..config(dir.path()) };
    let handle = Controller::start(small).await.unwrap();
    handle.register_unfenced_broker(registration(1)).await.unwrap();
    for n in 0..130 {
        handle.create_topic(topic(&format!("topic-{n}"))).await.unwrap();
    }
    let expected = image(&handle);
    handle.shutdown().await.unwrap();
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, b"TRPMETA1 and then nothing that makes sense").unwrap();
    let refused = Controller::start(config(dir.path())).await.err();
    assert!(matches!(refused, Some(ControllerStartError::Damaged { .. })), "{refused:?}");
    std::fs::write(&path, whole).unwrap();
    let handle = start(dir.path()).await;
    assert_eq!(image(&handle), expected);
    handle.shutdown().await.unwrap();
}

#[actix::test]
async fn requests_at_the_same_time_are_decided_one_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let handle = start(dir.path()).await;
    let epoch = handle.register_unfenced_broker(registration(1)).await.unwrap();
    let same = join_all((0..20).map(|_| handle.create_topic(topic("orders")))).await;
    assert_eq!(same.iter().filter(|result| result.is_ok()).count(), 1);
    for refused in same.into_iter().filter_map(Result::err) {
        assert_eq!(refused.code, ErrorCode::TopicExists);
    }
    let blocks = join_all((0..100).map(|_| handle.allocate_producer_ids(NODE, epoch))).await;
    let firsts: BTreeSet<_> = blocks.into_iter().map(|block| block.unwrap().first).collect();
    assert_eq!(firsts.len(), 100);
    handle.shutdown().await.unwrap();
}

#[actix::test]
async fn a_killed_actor_is_rebuilt_with_everything_it_ever_answered() {
    let dir = tempfile::tempdir().unwrap();
    let handle = start(dir.path()).await;
    handle.register_unfenced_broker(registration(1)).await.unwrap();
    for round in 0..3 {
        handle.create_topic(topic(&format!("before-{round}"))).await.unwrap();
        let expected = image(&handle);
        if round % 3 == 2 {
            handle.panic().await.unwrap();
        } else {
            handle.kill().await.unwrap();
        }
        assert_eq!(image(&handle), expected);
        let again = retried(&handle, &format!("before-{round}")).await;
        assert_eq!(again.unwrap_err().code, ErrorCode::TopicExists);
    }
    handle.shutdown().await.unwrap();
}

/// A request may meet the actor as it dies.
async fn retried(
    handle: &ControllerHandle,
    name: &str,
) -> Result<Arc<troupe_machines::cluster::Topic>, troupe_proto::error::Error> {
    loop {
        match handle.create_topic(topic(name)).await {
            Err(error) if error.code == ErrorCode::OutcomeUnknown => continue,
            other => return other,
        }
    }
}

#[actix::test]
async fn every_request_is_answered_whatever_happens_to_the_actor() {
    let dir = tempfile::tempdir().unwrap();
    let handle = start(dir.path()).await;
    handle.register_unfenced_broker(registration(1)).await.unwrap();
    let names: Vec<_> = (0..200).map(|n| format!("topic-{n}")).collect();
    let creations = join_all(names.iter().map(|name| handle.create_topic(topic(name))));
    let kills = async {
        for _ in 0..3 {
            tokio::task::yield_now().await;
            handle.kill().await.unwrap();
        }
    };
    let (created, ()) = futures::join!(creations, kills);
    handle.await_active_at_last().await;
    for (name, result) in names.iter().zip(created) {
        let exists = image(&handle).topic(name).is_some();
        match result {
            Ok(_) => assert!(exists, "{name} was answered and is not there"),
            Err(error) if error.surely_not_done() => assert!(!exists, "{name}: {error}"),
            Err(error) => assert_eq!(error.code, ErrorCode::OutcomeUnknown),
        }
    }
    handle.shutdown().await.unwrap();
}

#[actix::test]
async fn ten_thousand_partitions_are_one_decision() {
    let dir = tempfile::tempdir().unwrap();
    let handle = start(dir.path()).await;
    handle.register_unfenced_broker(registration(1)).await.unwrap();
    let request = CreateTopic { partitions: Some(10_000), ..topic("wide") };
    assert_eq!(handle.create_topic(request).await.unwrap().partitions.len(), 10_000);
    handle.shutdown().await.unwrap();
    let handle = start(dir.path()).await;
    assert_eq!(image(&handle).topic("wide").unwrap().partitions.len(), 10_000);
    handle.register_unfenced_broker(registration(2)).await.unwrap();
    let image = image(&handle);
    let partitions = &image.topic("wide").unwrap().partitions;
    assert!(partitions.iter().all(|partition| partition.leader == Some(NODE)));
    handle.shutdown().await.unwrap();
    let blobs = std::fs::read_dir(dir.path().join("raft/blobs")).unwrap();
    assert_eq!(blobs.count(), 0, "sled never syncs what it puts there");
}

/// K2.
#[actix::test]
async fn another_clusters_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let named = |id: &str| ControllerConfig { cluster_id: Some(id.into()), ..config(dir.path()) };
    let handle = Controller::start(named("a")).await.unwrap();
    assert_eq!(image(&handle).cluster_id(), Some("a"));
    handle.shutdown().await.unwrap();
    let refused = Controller::start(named("b")).await.err();
    assert!(matches!(refused, Some(ControllerStartError::WrongCluster { .. })));
    let handle = Controller::start(named("a")).await.unwrap();
    handle.shutdown().await.unwrap();
    handle.shutdown().await.unwrap();
    let refused = handle.create_topic(topic("orders")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::ShuttingDown);
}

/// A change that was held up on its way does not undo what was decided meanwhile; asked again, it is a new one.
#[actix::test]
async fn a_request_that_began_before_the_last_decision_about_its_topic_is_overtaken() {
    let dir = tempfile::tempdir().unwrap();
    let handle = start(dir.path()).await;
    handle.register_unfenced_broker(registration(1)).await.unwrap();
    handle.create_topic(topic("orders")).await.unwrap();
    handle.create_topic(topic("other")).await.unwrap();
    let alter = |name: &str, value: &str| UpdateTopic {
        name: name.to_owned(),
        set: [("retention.ms".to_owned(), value.to_owned())].into(),
        ..UpdateTopic::default()
    };
    // Times are told apart by the millisecond.
    tokio::time::sleep(Duration::from_millis(3)).await;
    let held_up = handle.since(Instant::now());
    tokio::time::sleep(Duration::from_millis(3)).await;
    handle.update_topic(alter("orders", "2h")).await.unwrap();
    let refused = held_up.update_topic(alter("orders", "1h")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Overtaken);
    assert!(refused.surely_not_done());
    let deletion = |name: &str| DeleteTopic { name: name.to_owned(), ..DeleteTopic::default() };
    let refused = held_up.delete_topic(deletion("orders")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Overtaken);
    assert_eq!(image(&handle).topic("orders").unwrap().overrides["retention.ms"], "7200000");
    held_up.update_topic(alter("other", "1h")).await.unwrap();
    let refused = held_up.create_topic(topic("orders")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::TopicExists, "what changes nothing is answered as ever");
    handle.since(Instant::now()).update_topic(alter("orders", "1h")).await.unwrap();
    handle.delete_topic(deletion("other")).await.unwrap();
    let refused = held_up.create_topic(topic("other")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Overtaken, "nor does it bring back what was deleted");
    handle.shutdown().await.unwrap();
}
