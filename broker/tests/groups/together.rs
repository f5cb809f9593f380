//! Several commits in one call of another node: each is judged by itself.

use crate::fixture::{Fixture, Member, TOPIC, start};
use troupe_proto::admin::v1::ListPartitionsRequest;
use troupe_proto::admin::v1::cluster_service_client::ClusterServiceClient;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::internal::v1::commit_service_client::CommitServiceClient;
use troupe_proto::internal::v1::member_commit_result::Of;
use troupe_proto::internal::v1::{CommitTogetherRequest, MemberCommit, MemberCommitResult};
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::log_service_client::LogServiceClient;

/// Of a member, or of nobody's, numbered if `sequence` is not 0.
fn commit(group: &str, member: Option<&Member>, offset: i64, sequence: u64) -> MemberCommit {
    let partition = pb::TopicPartition { topic: TOPIC.to_owned(), ..Default::default() };
    let offset = pb::OffsetAndMetadata { offset, ..Default::default() };
    let request = pb::CommitOffsetsRequest {
        group_id: group.to_owned(),
        member_id: member.map(|member| member.id.clone()).unwrap_or_default(),
        member_epoch: member.map(|member| member.epoch).unwrap_or_default(),
        commits: vec![pb::PartitionCommit { partition: Some(partition), offset: Some(offset) }],
        sequence,
        committer_id: "me".to_owned(),
    };
    MemberCommit { request: Some(request), ..Default::default() }
}

fn outcome(result: MemberCommitResult) -> Result<(), ErrorCode> {
    match result.of.unwrap() {
        Of::Error(error) => Err(error.reason()),
        Of::Response(response) => {
            let [result] = &response.results[..] else { panic!("one partition was named") };
            result.error.as_ref().map_or(Ok(()), |error| Err(error.reason()))
        }
    }
}

impl Fixture {
    async fn leader_epoch(&self, partition: i32) -> u32 {
        let mut client = ClusterServiceClient::new(self.channel.clone());
        let listed = client.list_partitions(ListPartitionsRequest::default()).await.unwrap();
        let mut all = listed.into_inner().partitions.into_iter();
        let is = |topic: &str, at: i32| topic == "__consumer_offsets" && at == partition;
        all.find(|one| is(&one.topic, one.partition)).unwrap().leader_epoch
    }

    async fn together(
        &self,
        request: CommitTogetherRequest,
    ) -> Result<Vec<Result<(), ErrorCode>>, Error> {
        let mut client = CommitServiceClient::new(self.channel.clone());
        let answer = client.commit_together(request).await?.into_inner();
        Ok(answer.results.into_iter().map(outcome).collect())
    }

    /// Batches of the log of groups.
    async fn batches(&self, partition: i32) -> usize {
        let topic = "__consumer_offsets".to_owned();
        let partition = pb::TopicPartition { topic, partition, ..Default::default() };
        let position = pb::FetchPosition { partition: Some(partition), ..Default::default() };
        let request = pb::FetchRequest { positions: vec![position], ..Default::default() };
        let mut client = LogServiceClient::new(self.channel.clone());
        let answer = client.fetch(request).await.unwrap().into_inner();
        answer.partitions[0].batches.as_ref().map_or(0, |batches| batches.batches.len())
    }
}

/// Groups that one coordinator keeps.
async fn neighbours(node: &Fixture, count: usize) -> (i32, Vec<String>) {
    let partition = node.partition_of("g0").await;
    let mut names = Vec::new();
    for number in 0.. {
        let name = format!("g{number}");
        if node.partition_of(&name).await == partition {
            names.push(name);
        }
        if names.len() == count {
            break;
        }
    }
    (partition, names)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_commits_that_come_together_each_fails_alone_and_the_rest_is_one_batch() {
    let node = Fixture::start().await;
    node.create(TOPIC, 1).await;
    let (partition, groups) = neighbours(&node, 4).await;
    let [with_member, other, numbered, empty] = &groups[..] else { panic!("four groups") };
    let mut member = node.run_member(start(with_member)).await.unwrap();
    member.holds(1).await;
    let mut fenced = node.run_member(start(other)).await.unwrap();
    fenced.holds(1).await;
    fenced.epoch += 1;
    let leader_epoch = node.leader_epoch(partition).await;
    let request = |commits| CommitTogetherRequest { partition, leader_epoch, commits };
    let first = vec![commit(numbered, None, 7, 5)];
    assert_eq!(node.together(request(first)).await, Ok(vec![Ok(())]));

    let before = node.batches(partition).await;
    let elsewhere = loop {
        let name = format!("{}", rand::random::<u32>());
        if node.partition_of(&name).await != partition {
            break name;
        }
    };
    let mut late = commit(empty, None, 3, 0);
    late.ends_earlier_us = 3_600_000_000;
    let commits = vec![
        commit(with_member, Some(&member), 11, 0),
        commit(other, Some(&fenced), 12, 0),
        commit(numbered, None, 13, 4),
        late,
        commit(&elsewhere, None, 14, 0),
        commit("", None, 15, 0),
        commit(empty, None, 16, 0),
    ];
    let expected = vec![
        Ok(()),
        Err(ErrorCode::StaleMemberEpoch),
        Err(ErrorCode::CommitSuperseded),
        Err(ErrorCode::RequestTooLate),
        Err(ErrorCode::NotCoordinator),
        Err(ErrorCode::InvalidGroupId),
        Ok(()),
    ];
    assert_eq!(node.together(request(commits)).await, Ok(expected));
    assert_eq!(node.batches(partition).await, before + 1);
    assert_eq!(node.offsets(with_member).await, [(0, 11)]);
    assert_eq!(node.offsets(other).await, []);
    assert_eq!(node.offsets(numbered).await, [(0, 7)]);
    assert_eq!(node.offsets(empty).await, [(0, 16)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_meant_for_the_coordinator_of_another_time_or_place_is_refused_whole() {
    let node = Fixture::start().await;
    node.create(TOPIC, 1).await;
    let (partition, groups) = neighbours(&node, 1).await;
    // answered once the coordinator has loaded what there is
    assert_eq!(node.offsets(&groups[0]).await, []);
    let leader_epoch = node.leader_epoch(partition).await;
    let commits = vec![commit(&groups[0], None, 1, 0)];
    let request = CommitTogetherRequest { partition, leader_epoch, commits };
    for (wrong, code) in [
        (
            CommitTogetherRequest { leader_epoch: leader_epoch + 1, ..request.clone() },
            ErrorCode::NotCoordinator,
        ),
        (CommitTogetherRequest { partition: -1, ..request.clone() }, ErrorCode::InvalidRequest),
        (
            CommitTogetherRequest { partition: 99, ..request.clone() },
            ErrorCode::CoordinatorNotAvailable,
        ),
    ] {
        assert_eq!(node.together(wrong).await.unwrap_err().code, code);
    }
    assert_eq!(node.offsets(&groups[0]).await, []);
    assert_eq!(node.together(request).await, Ok(vec![Ok(())]));
}
