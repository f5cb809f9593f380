//! Commits that are late, or come by another way than the next one: none takes a newer one back.

use super::Cluster;
use super::groups::{OFFSETS, TOPIC, commits};
use super::links::Link;
use std::time::Duration;
use tokio::time::timeout;
use tonic::Request;
use tonic::transport::Channel;
use troupe_proto::admin::v1::ListPartitionsRequest;
use troupe_proto::admin::v1::cluster_service_client::ClusterServiceClient;
use troupe_proto::chaos::v1alpha1::KillActorRequest;
use troupe_proto::chaos::v1alpha1::chaos_service_client::ChaosServiceClient;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1::group_service_client::GroupServiceClient;
use troupe_proto::log::v1::{CommitOffsetsRequest, DeleteGroupRequest, FetchOffsetsRequest};

const PATIENCE: Duration = Duration::from_secs(60);

/// What a node would forward: with the order and the time that are said there.
fn stamped(
    request: CommitOffsetsRequest,
    order: &str,
    leader_epoch: &str,
) -> Request<CommitOffsetsRequest> {
    let mut request = Request::new(request);
    let metadata = request.metadata_mut();
    metadata.insert("troupe-forwarded", "1".parse().unwrap());
    metadata.insert("troupe-order", order.parse().unwrap());
    metadata.insert("troupe-leader-epoch", leader_epoch.parse().unwrap());
    request
}

/// A commit that was given up, and lay in a connection that was cut, is not carried out behind a newer one that was
/// acknowledged; nor when its time is over; nor by whoever coordinates in another epoch.
#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_commit_is_carried_out_in_its_time_and_in_its_order_or_not_at_all() {
    let cluster = Cluster::start(3).await;
    cluster.create(1, TOPIC, 2).await.unwrap();
    let coordinator = cluster.coordinator(1, "g").await.node_id;
    assert_eq!(cluster.commit(coordinator, commits("g", &[(TOPIC, 0, 1)])).await, [Ok(())]);
    let mut client = cluster.groups(coordinator).await;
    let clock = async |client: &mut GroupServiceClient<Channel>| {
        let mut request =
            Request::new(FetchOffsetsRequest { group_id: "g".into(), ..Default::default() });
        request.metadata_mut().insert("troupe-forwarded", "1".parse().unwrap());
        let answer = client.fetch_offsets(request).await.unwrap();
        let told = answer.metadata().get("troupe-clock").unwrap().to_str().unwrap().to_owned();
        let (process, time) = told.split_once('.').unwrap();
        (process.to_owned(), time.parse::<u64>().unwrap())
    };
    let (process, before) = clock(&mut client).await;
    let order = |came: u64, until: u64| format!("{process}.{came}.{until}");
    let (soon, never) = (before + 60_000_000, before.saturating_sub(1));
    let epoch = {
        let mut client = ClusterServiceClient::new(cluster.channel(1).await);
        let request = ListPartitionsRequest { topic: OFFSETS.into(), ..Default::default() };
        let partitions = client.list_partitions(request).await.unwrap().into_inner().partitions;
        let of_group = cluster.coordinator(1, "g").await.partition;
        let found = partitions.iter().find(|one| one.partition == of_group).unwrap();
        found.leader_epoch
    };
    let forward = async |client: &mut GroupServiceClient<Channel>, offset, order: &str, epoch| {
        let request = commits("g", &[(TOPIC, 0, offset)]);
        let answer = client.commit_offsets(stamped(request, order, &format!("{epoch}"))).await;
        answer.map(drop).map_err(|status| Error::from(status).code)
    };

    // It came first, was held up, and its caller has committed anew by another way.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let through = coordinator % 3 + 1;
    assert_eq!(cluster.commit(through, commits("g", &[(TOPIC, 0, 454)])).await, [Ok(())]);
    let overtaken = forward(&mut client, 334, &order(before, soon), epoch).await;
    assert_eq!(overtaken, Err(ErrorCode::Overtaken));
    let late = forward(&mut client, 335, &order(before, never), epoch).await;
    assert_eq!(late, Err(ErrorCode::RequestTooLate));
    let (_, now) = clock(&mut client).await;
    let other_epoch = forward(&mut client, 336, &order(now, soon), epoch + 1).await;
    assert_eq!(other_epoch, Err(ErrorCode::NotCoordinator));
    let other_process = forward(&mut client, 337, &format!("7.{now}.{soon}"), epoch).await;
    assert_eq!(other_process, Err(ErrorCode::RequestTooLate));
    assert_eq!(cluster.committed(through, "g").await, [(0, 454)]);

    // Of another partition nothing newer stands, and what comes in its order is taken.
    let other = commits("g", &[(TOPIC, 1, 5)]);
    let other = stamped(other, &order(before, soon), &epoch.to_string());
    assert_eq!(client.commit_offsets(other).await.unwrap().into_inner().results[0].error, None);
    assert_eq!(forward(&mut client, 455, &order(now, soon), epoch).await, Ok(()));
    assert_eq!(cluster.committed(through, "g").await, [(0, 455), (1, 5)]);

    // What deletes is no better than what commits.
    let mut deletion = Request::new(DeleteGroupRequest { group_id: "g".into() });
    deletion.metadata_mut().insert("troupe-forwarded", "1".parse().unwrap());
    deletion.metadata_mut().insert("troupe-order", order(before, soon).parse().unwrap());
    let refused: Error = client.delete_group(deletion).await.unwrap_err().into();
    assert_eq!(refused.code, ErrorCode::Overtaken);

    // A coordinator that is built anew, in the same epoch, finds in its log what it does not remember to have decided.
    let of_group = format!("/{}", cluster.coordinator(1, "g").await.partition);
    let mut actors = cluster.actors(coordinator, "group-coordinator").await.into_iter();
    let address = actors.find(|address| address.ends_with(&of_group)).unwrap();
    let mut chaos = ChaosServiceClient::new(cluster.channel(coordinator).await);
    chaos.kill_actor(KillActorRequest { address, ..Default::default() }).await.unwrap();
    assert_eq!(cluster.committed(through, "g").await, [(0, 455), (1, 5)]);
    let overtaken = forward(&mut client, 334, &order(now, soon), epoch).await;
    assert_eq!(overtaken, Err(ErrorCode::Overtaken));
    assert_eq!(cluster.committed(through, "g").await, [(0, 455), (1, 5)]);
}

/// From now on, what `held` forwards to the coordinator does not arrive.
async fn hold_up_commits(cluster: &Cluster, link: &Link, coordinator: i32, held: i32) {
    // Streams of replication are there; what comes now is the connection by which commits are forwarded.
    assert_eq!(cluster.commit(coordinator, commits("g", &[(TOPIC, 0, 1)])).await, [Ok(())]);
    let known = link.connections();
    assert_eq!(cluster.commit(held, commits("g", &[(TOPIC, 0, 2)])).await, [Ok(())]);
    link.hold_from(known);
}

/// What is overtaken stays so: whoever waits for it hears of it, and is not advised to send it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_overtaken_is_refused_at_once_and_for_good() {
    let (cluster, links) = Cluster::start_behind_links(3).await;
    cluster.create(1, TOPIC, 1).await.unwrap();
    let coordinator = cluster.coordinator(1, "g").await.node_id;
    let held = coordinator % 3 + 1;
    hold_up_commits(&cluster, &links[&coordinator], coordinator, held).await;
    let mut client = cluster.groups(held).await;
    let mut request = Request::new(commits("g", &[(TOPIC, 0, 334)]));
    request.set_timeout(4 * PATIENCE);
    let overtaken = tokio::spawn(async move { client.commit_offsets(request).await });
    // So much earlier that no distance between nodes explains it.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(cluster.commit(coordinator, commits("g", &[(TOPIC, 0, 454)])).await, [Ok(())]);
    links[&coordinator].release();
    let refused = timeout(PATIENCE, overtaken).await.expect("it is tried on and on").unwrap();
    let refused = Error::from(refused.unwrap_err());
    assert_eq!(refused.code, ErrorCode::Overtaken);
    assert!(!refused.code.is_retriable() && refused.surely_not_done(), "{refused}");
    assert_eq!(cluster.committed(coordinator, "g").await, [(0, 454)]);
}

/// Whoever numbers its commits is safe from what the network delays before the first node, too.
#[tokio::test(flavor = "multi_thread")]
async fn of_numbered_commits_the_largest_number_stands_whoever_coordinates() {
    let mut cluster = Cluster::start(3).await;
    cluster.create(1, TOPIC, 2).await.unwrap();
    let numbered = |sequence, offset| CommitOffsetsRequest {
        sequence,
        committer_id: "one".into(),
        ..commits("g", &[(TOPIC, 0, offset)])
    };
    let coordinator = cluster.coordinator(1, "g").await.node_id;
    let through = coordinator % 3 + 1;
    assert_eq!(cluster.commit(through, numbered(2, 454)).await, [Ok(())]);
    let superseded = [Err(ErrorCode::CommitSuperseded)];
    assert_eq!(cluster.commit(coordinator, numbered(1, 334)).await, superseded);
    assert_eq!(cluster.commit(through, numbered(2, 454)).await, [Ok(())], "the same again");
    cluster.kill_node(coordinator).await;
    assert_eq!(cluster.commit(through, numbered(1, 334)).await, superseded);
    assert_eq!(cluster.committed(through, "g").await, [(0, 454)]);
    let other = CommitOffsetsRequest { committer_id: "two".into(), ..numbered(1, 460) };
    assert_eq!(cluster.commit(through, other).await, [Ok(())]);
}

/// A connection that is held up between two nodes, and heals when the caller has gone another way.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_held_up_between_nodes_never_takes_a_newer_one_back() {
    let (cluster, links) = Cluster::start_behind_links(3).await;
    cluster.create(1, TOPIC, 1).await.unwrap();
    let coordinator = cluster.coordinator(1, "g").await.node_id;
    let (held, free) = (coordinator % 3 + 1, (coordinator + 1) % 3 + 1);
    hold_up_commits(&cluster, &links[&coordinator], coordinator, held).await;
    let mut client = cluster.groups(held).await;
    let mut request = Request::new(commits("g", &[(TOPIC, 0, 334)]));
    request.set_timeout(Duration::from_millis(300));
    assert!(client.commit_offsets(request).await.is_err(), "it is held up");
    assert_eq!(cluster.commit(coordinator, commits("g", &[(TOPIC, 0, 454)])).await, [Ok(())]);
    links[&coordinator].release();
    // Through the same connection, behind what was held up.
    for through in [held, held, free] {
        assert_eq!(cluster.committed(through, "g").await, [(0, 454)]);
    }
    assert_eq!(cluster.commit(held, commits("g", &[(TOPIC, 0, 455)])).await, [Ok(())]);
    assert_eq!(cluster.committed(free, "g").await, [(0, 455)]);
}
