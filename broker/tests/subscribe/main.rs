//! Subscribe, Pull and Settle, as clients with nothing but generated stubs see them.

#![allow(clippy::unwrap_used, reason = "a fixture that cannot be set up fails its test")]

mod delivery;
mod fixture;
mod groups;
mod limits;
mod pacing;
mod pulls;
mod settling;

use fixture::{Fixture, PATIENCE, ack, nack, options, seconds, value_of, window};
use tokio::time::timeout;
use troupe_proto::error::ErrorCode;
use troupe_proto::v1::*;

fn values(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(value_of).collect()
}

fn attempts(deliveries: &[Delivery]) -> Vec<(i64, i32)> {
    deliveries.iter().map(|delivery| (delivery.offset, delivery.attempt)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_records_are_committed_as_far_as_there_is_no_gap() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    node.publish("t", 0, 0..5).await;
    let mut one = node.subscribe(options("t", "g")).await;
    let taken = one.take(5).await;
    assert_eq!(values(&taken), ["0", "1", "2", "3", "4"]);
    one.ack(&[taken[1].clone(), taken[2].clone()]).await;
    assert_eq!(one.outcomes(2).await, [SettleOutcome::Accepted; 2]);
    one.ack(&taken[..1]).await;
    node.until_committed("g", &[(0, 3)]).await;
    one.until_noticed(NoticeKind::CaughtUp).await;
    assert_eq!(one.assignments.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_negative_acknowledgement_redelivers_from_that_record() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    node.publish("t", 0, 0..4).await;
    let mut one = node.subscribe(options("t", "g")).await;
    let taken = one.take(4).await;
    one.settle(nack(&taken[1])).await;
    let again = one.take(3).await;
    assert_eq!(attempts(&again), [(1, 2), (2, 2), (3, 2)]);
    one.ack(&taken[1..3]).await;
    let lost = SettleOutcome::LeaseLost;
    assert_eq!(one.outcomes(3).await, [SettleOutcome::Accepted, lost, lost]);
    one.send(SubscribeRequest { ack_ids: vec!["nonsense".into()], ..Default::default() }).await;
    assert_eq!(one.outcomes(1).await, [SettleOutcome::UnknownId]);
    one.ack(&taken[..1]).await;
    one.ack(&again).await;
    node.until_committed("g", &[(0, 4)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_far_too_long_for_an_id_is_echoed_cut() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    let mut one = node.subscribe(options("t", "g")).await;
    let junk = "x".repeat(3 << 20);
    for _ in 0..2 {
        one.send(SubscribeRequest { ack_ids: vec![junk.clone()], ..Default::default() }).await;
    }
    let mut echoed = Vec::new();
    while echoed.len() < 2 {
        let answer = timeout(PATIENCE, one.answers.message()).await.expect("nothing came");
        let results = answer.unwrap().expect("the stream ended").settle_results;
        assert!(results.iter().all(|result| result.outcome() == SettleOutcome::UnknownId));
        echoed.extend(results.into_iter().map(|result| result.ack_id));
    }
    assert_eq!(echoed, [&junk[..64]; 2]);
    let request = SettleRequest { ack_ids: vec![junk.clone(); 2], settlements: Vec::new() };
    let results = node.bus().settle(request).await.unwrap().into_inner().results;
    assert!(results.iter().all(|result| result.ack_id == junk[..64]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_of_one_gives_one_record_at_a_time_and_none_is_a_pause() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    node.publish("t", 0, 0..20).await;
    let asked = SubscriptionOptions { window: window(1), ..options("t", "g") };
    let mut one = node.subscribe(asked).await;
    for number in 0..3 {
        let taken = one.take(1).await;
        assert_eq!((values(&taken), one.waiting()), (vec![number.to_string()], 0));
        one.ack(&taken).await;
        assert_eq!(one.outcomes(1).await, [SettleOutcome::Accepted]);
    }
    let held = one.take(1).await;
    one.resize(0).await;
    one.ack(&held).await;
    node.until_committed("g", &[(0, 4)]).await;
    assert_eq!((one.outcomes(1).await, one.waiting()), (vec![SettleOutcome::Accepted], 0));
    one.resize(100).await;
    assert_eq!(one.take(16).await.len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_record_is_delivered_again_and_costs_no_membership() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    node.publish("t", 0, 0..3).await;
    let asked = SubscriptionOptions { max_processing_time: seconds(1), ..options("t", "g") };
    let mut one = node.subscribe(asked).await;
    let taken = one.take(3).await;
    one.ack(&[taken[0].clone(), taken[2].clone()]).await;
    let again = one.next().await;
    assert_eq!((again.offset, again.attempt), (1, 2));
    one.ack(&[taken[1].clone(), again]).await;
    assert_eq!(one.outcomes(4).await[2..], [SettleOutcome::LeaseLost, SettleOutcome::Accepted]);
    node.until_committed("g", &[(0, 3)]).await;
    assert_eq!(one.assignments.len(), 1, "{:?}", one.assignments);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_message_carries_many_records() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    for start in 0..10 {
        node.publish("t", 0, start * 300..(start + 1) * 300).await;
    }
    let asked = SubscriptionOptions { window: window(3_000), ..options("t", "g") };
    let mut one = node.subscribe(asked).await;
    assert_eq!(one.take(3_000).await.len(), 3_000);
    assert!(one.largest >= 300, "{}", one.largest);
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_begin_where_they_are_told_to() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    node.publish("t", 0, 0..3).await;
    let latest = SubscriptionOptions { start_position: None, ..options("t", "late") };
    let mut late = node.subscribe(latest).await;
    // Also if nothing is read: whoever comes next goes on there (C7).
    node.until_committed("late", &[(0, 3)]).await;
    node.publish("t", 0, 3..4).await;
    assert_eq!(value_of(&late.next().await), "3");
    let at = Some(start_position::At::Offset(1));
    let offset =
        SubscriptionOptions { start_position: Some(StartPosition { at }), ..options("t", "o") };
    assert_eq!(node.refused(offset).await, ErrorCode::InvalidRequest);
    assert_eq!(node.refused(options("nowhere", "g")).await, ErrorCode::UnknownTopic);
    assert_eq!(node.refused(options("t", "")).await, ErrorCode::InvalidGroupId);
    let pattern =
        SubscriptionOptions { topics: Vec::new(), topic_pattern: "(".into(), ..options("t", "p") };
    assert_eq!(node.refused(pattern).await, ErrorCode::InvalidRegularExpression);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_counts_as_acknowledged_if_that_is_asked() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    node.publish("t", 0, 0..50).await;
    let asked = SubscriptionOptions { auto_ack: true, window: window(1), ..options("t", "g") };
    let mut one = node.subscribe(asked).await;
    let taken = one.take(50).await;
    assert!(taken.iter().all(|delivery| delivery.ack_id.is_empty()));
    node.until_committed("g", &[(0, 50)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_says_so_and_takes_what_is_done() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    node.publish("t", 0, 0..2).await;
    let mut one = node.subscribe(options("t", "g")).await;
    let taken = one.take(2).await;
    let Fixture { node, .. } = node;
    let stopped = tokio::task::spawn_blocking(|| node.stop());
    one.until_noticed(NoticeKind::Draining).await;
    one.settle(ack(&taken[0])).await;
    one.settle(ack(&taken[1])).await;
    assert_eq!(one.outcomes(2).await, [SettleOutcome::Accepted; 2]);
    let ended = one.answers.message().await.unwrap_err();
    assert_eq!(troupe_proto::error::Error::from(ended).code, ErrorCode::ShuttingDown);
    stopped.await.unwrap();
}

/// Whatever fails after that, the group goes on behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_is_confirmed_when_it_is_committed() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    node.publish("t", 0, 0..30).await;
    let mut one = node.subscribe(options("t", "g")).await;
    let taken = one.take(30).await;
    for (count, piece) in (1..).zip(taken.chunks(3)) {
        one.ack(piece).await;
        assert_eq!(one.outcomes(3).await, [SettleOutcome::Accepted; 3]);
        assert_eq!(node.committed("g").await, [(0, 3 * count)], "at once");
    }
}

/// C7: not in silence.
#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_the_log_does_not_have_is_told_with_both_bounds() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    node.publish("t", 0, 0..10).await;
    node.commit("g", "t", 500, None).await;
    let mut one = node.subscribe(options("t", "g")).await;
    one.until_noticed(NoticeKind::PositionLost).await;
    let lost = one.lost.pop().unwrap();
    assert_eq!((lost.topic.as_str(), lost.partition, lost.position), ("t", 0, 500));
    assert_eq!((lost.earliest, lost.latest, lost.cut_at), (0, 10, None));
    assert_eq!(one.next().await.offset, 0, "as its start position says");
}
