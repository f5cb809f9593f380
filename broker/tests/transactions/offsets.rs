//! Offsets of groups in transactions (X15, X16, X19).

use crate::fixture::{Fixture, Producer, TOPIC, settled, soon, topic_partition};
use troupe_proto::admin::v1::TransactionState;
use troupe_proto::chaos::v1alpha1 as chaos;
use troupe_proto::chaos::v1alpha1::chaos_service_client::ChaosServiceClient;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::group_service_client::GroupServiceClient;

const GROUP: &str = "readers";

fn commits(offsets: &[(i32, i64)]) -> Vec<pb::PartitionCommit> {
    let one = |(partition, offset): &(i32, i64)| pb::PartitionCommit {
        partition: Some(topic_partition(*partition)),
        offset: Some(pb::OffsetAndMetadata { offset: *offset, ..Default::default() }),
    };
    offsets.iter().map(one).collect()
}

fn request(id: &str, of: Producer, offsets: &[(i32, i64)]) -> pb::CommitTransactionOffsetsRequest {
    pb::CommitTransactionOffsetsRequest {
        transactional_id: id.to_owned(),
        producer_id: of.id,
        producer_epoch: of.epoch,
        group_id: GROUP.to_owned(),
        commits: commits(offsets),
        ..Default::default()
    }
}

impl Fixture {
    async fn commit_offsets(
        &self,
        request: &pb::CommitTransactionOffsetsRequest,
    ) -> Result<Vec<Option<ErrorCode>>, Error> {
        let ask = async || {
            Ok(self.client().commit_transaction_offsets(request.clone()).await?.into_inner())
        };
        let answer = soon("a commit in a transaction", settled(ask)).await?;
        let error = |it: pb::PartitionCommitResult| it.error.map(|error| error.reason());
        Ok(answer.results.into_iter().map(error).collect())
    }

    pub async fn pend(&self, id: &str, of: Producer, offsets: &[(i32, i64)]) {
        let answers = self.commit_offsets(&request(id, of, offsets)).await;
        assert_eq!(answers, Ok(vec![None; offsets.len()]));
    }

    fn groups(&self) -> GroupServiceClient<tonic::transport::Channel> {
        GroupServiceClient::new(self.channel.clone())
    }

    async fn fetch(&self, require_stable: bool) -> Result<Vec<(i32, i64)>, Error> {
        let group_id = GROUP.to_owned();
        let request = pb::FetchOffsetsRequest { group_id, require_stable, ..Default::default() };
        let answer = soon("offsets", self.groups().fetch_offsets(request)).await?.into_inner();
        let one =
            |it: pb::CommittedOffset| (it.partition.unwrap().partition, it.offset.unwrap().offset);
        Ok(answer.offsets.into_iter().map(one).collect())
    }

    pub async fn group_offsets(&self) -> Vec<(i32, i64)> {
        self.fetch(false).await.unwrap()
    }

    pub async fn is_stable(&self) -> bool {
        match self.fetch(true).await {
            Ok(_) => true,
            Err(error) if error.code == ErrorCode::UnstableOffsetCommit => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Kills the coordinator of the group, and waits for the next one.
    async fn kill_group_coordinator(&self, mode: chaos::KillMode) {
        let request = pb::FindCoordinatorRequest { group_id: GROUP.to_owned() };
        let found = soon("a coordinator", self.groups().find_coordinator(request)).await.unwrap();
        let partition = found.into_inner().partition;
        let suffix = format!("/group-coordinator/__consumer_offsets/{partition}");
        let address = self.actor(&suffix).await.unwrap().address;
        let request = chaos::KillActorRequest { address, mode: mode.into() };
        let mut chaos = ChaosServiceClient::new(self.channel.clone());
        soon("a new actor", chaos.kill_actor(request)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_stand_when_their_transaction_is_committed_and_never_if_it_is_aborted() {
    let node = Fixture::start().await;
    let first = node.init("x").await;
    node.pend("x", first, &[(0, 5), (1, 6)]).await;
    assert_eq!(node.group_offsets().await, []);
    assert!(!node.is_stable().await);
    let second = node.commit("x", first).await.unwrap();
    node.until_state("x", TransactionState::CompleteCommit).await;
    assert_eq!(node.group_offsets().await, [(0, 5), (1, 6)]);
    assert!(node.is_stable().await);

    node.pend("x", second, &[(0, 50)]).await;
    let third = node.abort("x", second).await.unwrap();
    node.until_state("x", TransactionState::CompleteAbort).await;
    assert_eq!(node.group_offsets().await, [(0, 5), (1, 6)]);
    assert!(node.is_stable().await);

    // The next one may ask before the markers are written: it waits for them.
    node.pend("x", third, &[(2, 7)]).await;
    node.commit("x", third).await.unwrap();
    node.until_state("x", TransactionState::CompleteCommit).await;
    assert_eq!(node.group_offsets().await, [(0, 5), (1, 6), (2, 7)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pending_survives_coordinators_and_a_restart() {
    let node = Fixture::start().await;
    let mut producer = node.init("x").await;
    for (offset, mode) in [(10, chaos::KillMode::Stop), (20, chaos::KillMode::Panic)] {
        node.pend("x", producer, &[(0, offset)]).await;
        node.kill_group_coordinator(mode).await;
        node.kill_coordinators(mode).await;
        assert!(!node.is_stable().await);
        producer = node.commit("x", producer).await.unwrap();
        node.until_state("x", TransactionState::CompleteCommit).await;
        assert_eq!(node.group_offsets().await, [(0, offset)]);
    }
    node.pend("x", producer, &[(1, 30)]).await;
    let node = node.restart().await;
    assert!(!node.is_stable().await);
    node.commit("x", producer).await.unwrap();
    node.until_state("x", TransactionState::CompleteCommit).await;
    let node = node.restart().await;
    assert_eq!(node.group_offsets().await, [(0, 20), (1, 30)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_was_fenced_commits_nothing() {
    let node = Fixture::start().await;
    let first = node.init("x").await;
    node.pend("x", first, &[(0, 5)]).await;
    let second = node.init("x").await;
    assert_eq!(node.group_offsets().await, []);
    assert!(node.is_stable().await, "what it left open is settled");
    let fenced = node.commit_offsets(&request("x", first, &[(0, 6)])).await.unwrap_err();
    assert_eq!(fenced.code, ErrorCode::ProducerFenced);
    assert!(node.is_stable().await);
    node.pend("x", second, &[(0, 7)]).await;
    node.commit("x", second).await.unwrap();
    node.until_state("x", TransactionState::CompleteCommit).await;
    assert_eq!(node.group_offsets().await, [(0, 7)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_offset_is_refused_by_itself_and_a_member_that_is_none_with_all() {
    let node = Fixture::start().await;
    let producer = node.init("x").await;
    let mut asked = request("x", producer, &[(0, 5), (9, 1), (1, -1), (0, 1)]);
    asked.commits[3].partition.as_mut().unwrap().topic = "absent".to_owned();
    let expected = vec![
        None,
        Some(ErrorCode::UnknownPartition),
        Some(ErrorCode::InvalidRequest),
        Some(ErrorCode::UnknownTopic),
    ];
    assert_eq!(node.commit_offsets(&asked).await, Ok(expected));
    for (member_id, instance_id) in [("m", ""), ("m", "i"), ("", "i")] {
        let asked = pb::CommitTransactionOffsetsRequest {
            member_id: member_id.to_owned(),
            instance_id: instance_id.to_owned(),
            ..request("x", producer, &[(0, 6)])
        };
        let refused = node.commit_offsets(&asked).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::UnknownMember);
    }
    node.commit("x", producer).await.unwrap();
    node.until_state("x", TransactionState::CompleteCommit).await;
    assert_eq!(node.group_offsets().await, [(0, 5)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_deleted_takes_what_is_pending_with_it() {
    let node = Fixture::start().await;
    let producer = node.init("x").await;
    node.pend("x", producer, &[(0, 5)]).await;
    let request = pb::DeleteGroupRequest { group_id: GROUP.to_owned() };
    soon("a deletion", node.groups().delete_group(request)).await.unwrap();
    assert!(node.is_stable().await);
    node.commit("x", producer).await.unwrap();
    node.until_state("x", TransactionState::CompleteCommit).await;
    assert_eq!(node.group_offsets().await, []);
    let plain = pb::CommitOffsetsRequest {
        group_id: GROUP.to_owned(),
        commits: commits(&[(0, 1)]),
        ..Default::default()
    };
    let answer = soon("a commit", node.groups().commit_offsets(plain)).await.unwrap();
    assert!(answer.into_inner().results[0].error.is_none(), "{TOPIC}");
}
