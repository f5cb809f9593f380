//! What a node of the first version with transactions has left on its disk: `tests/fixtures/transactions`. It is put on
//! record by `TROUPE_BLESS`, and never changed.

use crate::fixture::{Fixture, TOPIC};
use std::fs;
use std::path::{Path, PathBuf};
use troupe_broker::NodeConfig;
use troupe_proto::admin::v1 as admin;
use troupe_proto::admin::v1::TransactionState;
use troupe_proto::admin::v1::topic_service_client::TopicServiceClient;
use troupe_proto::error::ErrorCode;

/// Made anew by every node, or of where it was.
const NOT_KEPT: [&str; 3] = [".lock", ".reserve", "log-directories"];

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transactions")
}

/// However old it is.
async fn start(directory: tempfile::TempDir) -> Fixture {
    let mut more = NodeConfig {
        transaction_topic_partitions: 1,
        offsets_topic_partitions: 1,
        ..NodeConfig::default()
    };
    more.set("transactional.id.expiration.ms", "3153600000000").unwrap();
    Fixture::start_with(directory, more).await
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        match path.is_dir() {
            true => copy(&path, &to.join(name)),
            false if NOT_KEPT.iter().any(|it| name == *it) => {}
            false => drop(fs::copy(path, to.join(name)).unwrap()),
        }
    }
}

/// One that is committed, one aborted, one decided and not completed, with offsets; one that is open, with offsets.
async fn write(to: &Path) {
    let node = start(tempfile::tempdir().unwrap()).await;
    let request = admin::CreateTopicRequest {
        name: TOPIC.to_owned(),
        partitions: Some(2),
        configs: [("retention.ms".to_owned(), "-1".to_owned())].into(),
        ..Default::default()
    };
    TopicServiceClient::new(node.channel.clone()).create_topic(request).await.unwrap();
    for (id, commit) in [("committed", true), ("aborted", false)] {
        let producer = node.init(id).await;
        node.write(id, producer, 0).await.unwrap();
        let (ended, state) = match commit {
            true => (node.commit(id, producer).await, TransactionState::CompleteCommit),
            false => (node.abort(id, producer).await, TransactionState::CompleteAbort),
        };
        ended.unwrap();
        node.until_state(id, state).await;
    }
    let open = node.init("open").await;
    node.write("open", open, 0).await.unwrap();
    node.pend("open", open, &[(0, 9)]).await;
    let decided = node.init("decided").await;
    node.begin("decided", decided, &[1]).await;
    node.pend("decided", decided, &[(1, 7)]).await;
    node.pause((TOPIC, 1), 60_000).await;
    node.commit("decided", decided).await.unwrap();
    assert_eq!(node.state("decided").await, TransactionState::PrepareCommit);
    let directory = node.stop().await;
    copy(&directory.path().join("data"), to);
}

/// What is open has lasted too long by now; what was decided is carried out.
#[tokio::test(flavor = "multi_thread")]
async fn transactions_of_an_earlier_version_are_settled_by_this_one() {
    if std::env::var_os("TROUPE_BLESS").is_some() && !fixture().exists() {
        write(&fixture()).await;
    }
    let directory = tempfile::tempdir().unwrap();
    copy(&fixture(), &directory.path().join("data"));
    let node = start(directory).await;
    node.until_state("decided", TransactionState::CompleteCommit).await;
    node.until_state("open", TransactionState::CompleteAbort).await;
    assert_eq!(node.state("committed").await, TransactionState::CompleteCommit);
    assert_eq!(node.state("aborted").await, TransactionState::CompleteAbort);
    // A record and a marker each.
    assert_eq!(node.committed().await, (6, [2, 4].into()));
    assert_eq!(node.group_offsets().await, [(1, 7)]);
    assert!(node.is_stable().await);
    let again = node.init("committed").await;
    assert!(again.epoch > 1, "{again:?}");
    node.write("committed", again, 0).await.unwrap();
    node.commit("committed", again).await.unwrap();
    let late = crate::fixture::Producer { epoch: 0, ..again };
    let fenced = node.write("committed", late, 0).await.unwrap_err();
    assert_eq!(fenced.code, ErrorCode::ProducerFenced);
}
