//! Several subscribers of one group.

use crate::fixture::{Fixture, Subscriber, options, seconds, value_of};
use std::collections::BTreeSet;
use troupe_proto::v1::*;

/// Acknowledges what comes until every partition has delivered up to its record of that number.
async fn read_up_to(subscriber: &mut Subscriber, count: usize) -> Vec<(i32, i64)> {
    let mut read = Vec::new();
    for _ in 0..count {
        let delivery = subscriber.next().await;
        read.push((delivery.partition, delivery.offset));
        subscriber.ack(&[delivery]).await;
    }
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_changes_hands_without_repetition() {
    let node = Fixture::start().await;
    node.create("t", 2).await;
    for partition in 0..2 {
        node.publish("t", partition, 0..10).await;
    }
    let mut one = node.subscribe(options("t", "g")).await;
    one.until_assigned(2).await;
    // Everything is delivered, and only a part of it acknowledged, when the second comes.
    let taken = one.take(20).await;
    one.ack(&taken[..5]).await;
    let mut two = node.subscribe(options("t", "g")).await;
    two.until_assigned(0).await;
    one.until_assigned(1).await;
    one.ack(&taken[5..]).await;
    two.until_assigned(1).await;
    for partition in 0..2 {
        node.publish("t", partition, 10..20).await;
    }
    let mut read: Vec<_> = read_up_to(&mut one, 10).await;
    read.extend(read_up_to(&mut two, 10).await);
    let distinct: BTreeSet<_> = read.iter().copied().collect();
    let expected: BTreeSet<_> = (0..2).flat_map(|p| (10..20).map(move |o| (p, o))).collect();
    assert_eq!((distinct, read.len()), (expected, 20));
    node.until_committed("g", &[(0, 20), (1, 20)]).await;
    // Whoever says goodbye leaves everything at once, and what it had acknowledged is not repeated.
    two.close();
    drop(two);
    one.until_assigned(2).await;
    for partition in 0..2 {
        node.publish("t", partition, 20..21).await;
    }
    let last: BTreeSet<_> = read_up_to(&mut one, 2).await.into_iter().collect();
    assert_eq!(last, BTreeSet::from([(0, 20), (1, 20)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_under_its_name_gets_what_it_had() {
    let node = Fixture::start().await;
    node.create("t", 2).await;
    let named = |name: &str| SubscriptionOptions {
        member_name: name.to_owned(),
        reconnect_grace: seconds(60),
        ..options("t", "g")
    };
    let mut one = node.subscribe(named("one")).await;
    let mut two = node.subscribe(named("two")).await;
    one.until_assigned(1).await;
    two.until_assigned(1).await;
    let had = two.assignments.last().unwrap().partitions.clone();
    node.publish("t", had[0].partition, 0..3).await;
    let taken = two.take(3).await;
    two.ack(&taken[..1]).await;
    node.until_committed(
        "g",
        &[(0, i64::from(had[0].partition == 0)), (1, i64::from(had[0].partition == 1))],
    )
    .await;
    drop(two);
    let told = one.assignments.len();
    let mut again = node.subscribe(named("two")).await;
    again.until_assigned(1).await;
    assert_eq!(again.assignments.last().unwrap().partitions, had);
    let repeated = again.take(2).await;
    assert_eq!(repeated.iter().map(value_of).collect::<Vec<_>>(), ["1", "2"]);
    // The old ids are void, and nobody else's partitions moved.
    again.ack(&taken[1..2]).await;
    assert_eq!(again.outcomes(1).await, [SettleOutcome::LeaseLost]);
    assert_eq!(one.assignments.len(), told);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_stream_of_the_same_name_ends_the_first() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    let named = SubscriptionOptions { member_name: "one".into(), ..options("t", "g") };
    let mut first = node.subscribe(named.clone()).await;
    first.until_assigned(1).await;
    let mut second = node.subscribe(named).await;
    second.until_assigned(1).await;
    let ended = loop {
        match first.answers.message().await {
            Ok(Some(_)) => {}
            ended => break ended.unwrap_err(),
        }
    };
    let code = troupe_proto::error::Error::from(ended).code;
    assert_eq!(code, troupe_proto::error::ErrorCode::FencedInstanceId);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_taken_on_any_stream_and_by_any_call() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    node.create("u", 1).await;
    node.publish("t", 0, 0..3).await;
    let mut one = node.subscribe(options("t", "g")).await;
    let mut other = node.subscribe(options("u", "h")).await;
    let taken = one.take(3).await;
    other.ack(&taken[..1]).await;
    assert_eq!(other.outcomes(1).await, [SettleOutcome::Accepted]);
    let settlements = taken[1..].iter().map(crate::fixture::ack).collect();
    assert_eq!(node.settle(settlements).await, [SettleOutcome::Accepted; 2]);
    node.until_committed("g", &[(0, 3)]).await;
    one.close();
    drop(one);
}
