//! The same in single calls.

use crate::fixture::{Fixture, ack, nack, options, seconds, value_of};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::v1::*;

pub async fn pull(node: &Fixture, options: SubscriptionOptions, max_records: i32) -> Vec<Delivery> {
    let request = PullRequest { options: Some(options), max_records, max_wait: seconds(20) };
    node.bus().pull(request).await.unwrap().into_inner().deliveries
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pulled_and_settled_is_committed() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    node.publish("t", 0, 0..5).await;
    let first = pull(&node, options("t", "g"), 2).await;
    let second = pull(&node, options("t", "g"), 9).await;
    let all: Vec<_> = first.iter().chain(&second).map(value_of).collect();
    assert_eq!((all.join(" "), first.len()), ("0 1 2 3 4".to_owned(), 2));
    assert_eq!(
        node.settle(vec![ack(&first[0]), nack(&first[1])]).await,
        [SettleOutcome::Accepted; 2]
    );
    let again = pull(&node, options("t", "g"), 9).await;
    assert_eq!((again[0].offset, again[0].attempt, again.len()), (1, 2, 4));
    assert_eq!(node.settle(vec![ack(&first[1])]).await, [SettleOutcome::LeaseLost]);
    let accepted = node.settle(again.iter().map(ack).collect()).await;
    assert_eq!(accepted, [SettleOutcome::Accepted; 4]);
    node.until_committed("g", &[(0, 5)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_waits_for_what_comes_and_no_longer_than_asked() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    let nothing = PullRequest {
        options: Some(options("t", "g")),
        max_records: 1,
        max_wait: Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 }),
    };
    let answer = node.bus().pull(nothing.clone()).await.unwrap().into_inner();
    assert!(answer.deliveries.is_empty());
    let waiting = pull(&node, options("t", "g"), 1);
    let (drawn, ()) = tokio::join!(waiting, node.publish("t", 0, 0..1));
    assert_eq!(value_of(&drawn[0]), "0");
    for wrong in [
        PullRequest { max_wait: seconds(61), ..nothing.clone() },
        PullRequest { max_records: -1, ..nothing.clone() },
        PullRequest { options: None, ..nothing.clone() },
    ] {
        let refused = node.bus().pull(wrong).await.unwrap_err();
        assert_eq!(Error::from(refused).code, ErrorCode::InvalidRequest);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_nobody_calls_leaves_after_its_grace() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    node.publish("t", 0, 0..2).await;
    let asked = SubscriptionOptions { reconnect_grace: seconds(1), ..options("t", "g") };
    let first = pull(&node, asked, 1).await;
    // Another member of the group gets the partition, and what was not acknowledged.
    let mut next = node.subscribe(options("t", "g")).await;
    let taken = next.take(2).await;
    assert_eq!((taken[0].offset, taken[0].attempt), (0, 1));
    assert_eq!(node.settle(vec![ack(&first[0])]).await, [SettleOutcome::LeaseLost]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_id_gets_a_result() {
    let node = Fixture::start().await;
    let node_id = 1;
    let never = format!("{node_id:x}.abc.1.0.1");
    let request = SettleRequest {
        ack_ids: vec![never, "?".into(), String::new(), "63.1.1.1.1".into()],
        settlements: Vec::new(),
    };
    let results = node.bus().settle(request.clone()).await.unwrap().into_inner().results;
    let ids: Vec<_> = results.iter().map(|result| result.ack_id.clone()).collect();
    assert_eq!(ids, request.ack_ids);
    assert!(results.iter().all(|result| result.outcome() == SettleOutcome::UnknownId));
    let empty = Settlement { ack_id: "?".into(), action: None };
    let request = SettleRequest { ack_ids: Vec::new(), settlements: vec![empty] };
    let refused = node.bus().settle(request).await.unwrap_err();
    assert_eq!(Error::from(refused).code, ErrorCode::InvalidRequest);
}
