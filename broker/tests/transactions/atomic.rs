//! Records to several topics in one call: all of them or none, whatever fails meanwhile.

use crate::fixture::{Fixture, PAUSE, TOPIC, soon};
use std::collections::BTreeSet;
use std::time::Duration;
use tonic::Request;
use troupe_proto::admin::v1::CreateTopicRequest;
use troupe_proto::admin::v1::topic_service_client::TopicServiceClient;
use troupe_proto::chaos::v1alpha1::KillMode;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::v1 as pb;
use troupe_proto::v1::event_bus_service_client::EventBusServiceClient;

/// Beside [`TOPIC`]; of one partition, and it takes no large records.
const OTHER: &str = "other";
/// Of one partition, to be taken from.
const TAKEN: &str = "taken";

fn record(partition: i32, value: impl Into<Vec<u8>>) -> pb::Record {
    let value = Some(value.into().into());
    pb::Record { partition: Some(partition), value, ..Default::default() }
}

fn to(topic: &str, records: Vec<pb::Record>) -> pb::TopicRecords {
    pb::TopicRecords { topic: topic.to_owned(), records }
}

fn request(topics: Vec<pb::TopicRecords>, key: &str) -> pb::PublishAtomicallyRequest {
    let transaction_key = key.to_owned();
    pb::PublishAtomicallyRequest { topics, transaction_key, ..Default::default() }
}

/// The same value to two partitions of one topic, and to the other.
fn everywhere(value: &str) -> Vec<pb::TopicRecords> {
    vec![to(TOPIC, vec![record(0, value), record(1, value)]), to(OTHER, vec![record(0, value)])]
}

async fn start() -> Fixture {
    let node = Fixture::start().await;
    for (name, max_message_bytes) in [(OTHER, "1000"), (TAKEN, "1000000")] {
        let request = CreateTopicRequest {
            name: name.to_owned(),
            partitions: Some(1),
            configs: [("max.message.bytes".to_owned(), max_message_bytes.to_owned())].into(),
            ..Default::default()
        };
        TopicServiceClient::new(node.channel.clone()).create_topic(request).await.unwrap();
    }
    node
}

impl Fixture {
    async fn atomically(
        &self,
        request: pb::PublishAtomicallyRequest,
    ) -> Result<pb::PublishAtomicallyResponse, Error> {
        let mut bus = EventBusServiceClient::new(self.channel.clone());
        Ok(soon("an answer", bus.publish_atomically(request)).await?.into_inner())
    }

    /// The values that readers of committed records are given of a topic, in order for each partition.
    async fn seen(&self, topic: &str) -> Vec<(i32, String)> {
        self.given(topic, pb::IsolationLevel::ReadCommitted).await
    }

    async fn given(&self, topic: &str, level: pb::IsolationLevel) -> Vec<(i32, String)> {
        let request = pb::TailRequest {
            topic: topic.to_owned(),
            start: Some(pb::StartPosition { at: Some(pb::start_position::At::Earliest(true)) }),
            until_end: true,
            isolation_level: level.into(),
            ..Default::default()
        };
        let mut bus = EventBusServiceClient::new(self.channel.clone());
        let mut answers = soon("records", bus.tail(request)).await.unwrap().into_inner();
        let mut seen = Vec::new();
        while let Some(answer) = soon("records", answers.message()).await.unwrap() {
            seen.extend(answer.deliveries.into_iter().map(|it| {
                let value = it.record.unwrap().value.unwrap().to_vec();
                (it.partition, String::from_utf8(value).unwrap())
            }));
        }
        seen.sort_by_key(|(partition, _)| *partition);
        seen
    }

    /// Returns when so many are seen in each of the places of [`everywhere`].
    async fn until_everywhere(&self, count: usize) {
        let there = async {
            while self.seen(TOPIC).await.len() < 2 * count || self.seen(OTHER).await.len() < count {
                tokio::time::sleep(PAUSE).await;
            }
        };
        soon("all records", there).await;
    }

    async fn is_empty(&self) -> bool {
        self.seen(TOPIC).await.is_empty() && self.seen(OTHER).await.is_empty()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_one_call_stand_in_all_their_topics() {
    let node = start().await;
    for round in 0..3_i64 {
        let topics = vec![
            to(TOPIC, vec![record(2, "a"), record(0, "b"), record(2, "c")]),
            to(OTHER, vec![record(0, "d")]),
            to(TOPIC, vec![record(2, "e")]),
        ];
        let answer = node.atomically(request(topics, "")).await.unwrap();
        assert!(!answer.already_done);
        let placed: Vec<Vec<_>> = answer.topics.iter().map(places).collect();
        // A marker behind what each call has written to a partition.
        let (two, one) = (round * 4, round * 2);
        let expected =
            vec![vec![(2, two), (0, one), (2, two + 1)], vec![(0, one)], vec![(2, two + 2)]];
        assert_eq!(placed, expected);
    }
    let there = async {
        while node.seen(TOPIC).await.len() < 12 || node.seen(OTHER).await.len() < 3 {
            tokio::time::sleep(PAUSE).await;
        }
    };
    soon("all records", there).await;
    let seen = node.seen(TOPIC).await;
    let of_two = seen.iter().filter(|(partition, _)| *partition == 2);
    let values: String = of_two.map(|(_, value)| value.as_str()).collect();
    assert_eq!(values, "aceaceace");
}

fn places(results: &pb::TopicResults) -> Vec<(i32, i64)> {
    results.results.iter().map(|result| (result.partition, result.offset)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_one_batch_to_a_partition_is_one_transaction() {
    let node = start().await;
    let large = || record(0, vec![b'x'; 300_000]);
    let topics = vec![to(TOPIC, (0..9).map(|_| large()).collect())];
    let answer = node.atomically(request(topics, "")).await.unwrap();
    let expected: Vec<_> = (0..9).map(|offset| (0, offset)).collect();
    assert_eq!(places(&answer.topics[0]), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_with_a_bad_record_does_nothing_and_names_it() {
    let node = start().await;
    let good = || to(TOPIC, vec![record(0, "a"), record(1, "b")]);
    for (bad, reason, numbers) in [
        (
            to(OTHER, vec![record(0, "c"), record(0, vec![b'x'; 2_000])]),
            ErrorCode::RecordTooLarge,
            vec![3],
        ),
        (to(OTHER, vec![record(7, "c")]), ErrorCode::UnknownPartition, vec![2]),
        (
            to(TOPIC, vec![record(7, "c"), record(0, "d"), record(8, "e")]),
            ErrorCode::UnknownPartition,
            vec![2, 4],
        ),
        (to("..", vec![record(0, "c")]), ErrorCode::InvalidTopic, vec![]),
        (to("__consumer_offsets", vec![record(0, "c")]), ErrorCode::InvalidTopic, vec![]),
    ] {
        for key in ["", "a key"] {
            let topics = vec![good(), bad.clone()];
            let refused = node.atomically(request(topics, key)).await.unwrap_err();
            assert_eq!(refused.code, reason, "{refused}");
            let named: Vec<_> = refused.records().iter().map(|record| record.index).collect();
            assert_eq!(named, numbers, "{refused}");
        }
    }
    assert!(node.is_empty().await);
    // Nothing was committed with that key.
    let answer = node.atomically(request(vec![good()], "a key")).await.unwrap();
    assert!(!answer.already_done);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_is_refused() {
    let node = start().await;
    for asked in [request(Vec::new(), ""), request(vec![to(TOPIC, Vec::new())], "a key")] {
        let refused = node.atomically(asked).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidRequest);
    }
    let refused = node.atomically(request(everywhere("a"), &"k".repeat(300))).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidTransactionalId);
    assert!(node.is_empty().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_with_a_key_is_carried_out_once_whoever_coordinates() {
    let node = start().await;
    let asked = || request(everywhere("a"), "payment 4711");
    let first = node.atomically(asked()).await.unwrap();
    assert!(!first.already_done && first.topics.len() == 2);
    let again = node.atomically(asked()).await.unwrap();
    assert!(again.already_done && again.topics.is_empty());
    for mode in [KillMode::Stop, KillMode::Panic] {
        node.kill_coordinators(mode).await;
        assert!(node.atomically(asked()).await.unwrap().already_done);
    }
    let node = node.restart().await;
    assert!(node.atomically(asked()).await.unwrap().already_done);
    node.until_everywhere(1).await;
    assert_eq!(node.seen(OTHER).await, [(0, "a".to_owned())]);
    assert!(!node.atomically(request(everywhere("b"), "payment 4712")).await.unwrap().already_done);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_callers_with_one_key_one_has_it_carried_out() {
    let node = start().await;
    let ask = async || {
        loop {
            match node.atomically(request(everywhere("a"), "one")).await {
                Err(error) if error.code == ErrorCode::ConcurrentTransactions => {
                    assert!(error.surely_not_done());
                    tokio::time::sleep(PAUSE).await;
                }
                answer => return answer.unwrap().already_done,
            }
        }
    };
    let done = futures::future::join_all((0..8).map(|_| ask())).await;
    assert_eq!(done.iter().filter(|before| !**before).count(), 1, "{done:?}");
    node.until_everywhere(1).await;
    assert_eq!(node.seen(TOPIC).await.len(), 2);
    assert_eq!(node.seen(OTHER).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_beside_each_other_do_not_disturb_each_other() {
    let node = start().await;
    let ask =
        async |number: usize| node.atomically(request(everywhere(&number.to_string()), "")).await;
    let done = futures::future::join_all((0..40).map(ask)).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    node.until_everywhere(40).await;
    let seen: BTreeSet<_> = node.seen(OTHER).await.into_iter().collect();
    assert_eq!(seen.len(), 40);
}

/// Whatever is told of a call is so, and of each it is all or nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_all_or_nothing_while_coordinators_die() {
    let node = start().await;
    // There are coordinators from the first transactional id on.
    node.init("first").await;
    let calls = async {
        let mut told = Vec::new();
        for number in 0..60 {
            let value = number.to_string();
            let key = if number % 2 == 0 { value.as_str() } else { "" };
            let answer = node.atomically(request(everywhere(&value), key)).await;
            told.push((value, answer));
        }
        told
    };
    let kills = async {
        // One that panics more often is left for somebody to look at.
        let twice = [KillMode::Panic, KillMode::Panic];
        for mode in twice.into_iter().chain(std::iter::repeat(KillMode::Stop)) {
            node.kill_coordinators(mode).await;
        }
    };
    let told = tokio::select! {
        told = calls => told,
        () = kills => unreachable!("they go on"),
    };
    let done = told.iter().filter(|(_, answer)| answer.is_ok()).count();
    assert!(done > 0, "{told:?}");
    node.until_everywhere(done).await;
    let of = |seen: &[(i32, String)], at: i32| -> BTreeSet<String> {
        seen.iter().filter(|(partition, _)| *partition == at).map(|it| it.1.clone()).collect()
    };
    let (seen, others) = (node.seen(TOPIC).await, of(&node.seen(OTHER).await, 0));
    assert_eq!(of(&seen, 0), others);
    assert_eq!(of(&seen, 1), others);
    for (value, answer) in &told {
        match answer {
            Ok(_) => assert!(others.contains(value), "{value}"),
            Err(error) if error.surely_not_done() => assert!(!others.contains(value), "{error}"),
            Err(error) => assert_eq!(error.code, ErrorCode::OutcomeUnknown, "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_a_partition_does_not_take_in_time_is_undone_everywhere() {
    let node = start().await;
    node.pause((TOPIC, 1), 4_000).await;
    let mut asked = Request::new(request(everywhere("undone"), "slow"));
    asked.set_timeout(Duration::from_secs(2));
    let mut bus = EventBusServiceClient::new(node.channel.clone());
    let refused = Error::from(soon("a refusal", bus.publish_atomically(asked)).await.unwrap_err());
    assert!(refused.surely_not_done(), "{refused}");
    // The same key may be used again: nothing was done.
    let again = async {
        loop {
            match node.atomically(request(everywhere("done"), "slow")).await {
                Err(error) if error.surely_not_done() => tokio::time::sleep(PAUSE).await,
                answer => return answer.unwrap(),
            }
        }
    };
    assert!(!soon("the same call", again).await.already_done);
    node.until_everywhere(1).await;
    let seen = [node.seen(TOPIC).await, node.seen(OTHER).await].concat();
    assert!(seen.iter().all(|(_, value)| value == "done"), "{seen:?}");
}

/// Of [`TAKEN`], to the group that is called so too.
async fn pull(node: &Fixture) -> Vec<pb::Delivery> {
    let options = pb::SubscriptionOptions {
        topics: vec![TAKEN.to_owned()],
        group: TAKEN.to_owned(),
        start_position: Some(pb::StartPosition {
            at: Some(pb::start_position::At::Earliest(true)),
        }),
        ..Default::default()
    };
    let max_wait = Some(prost_types::Duration { seconds: 30, nanos: 0 });
    let request = pb::PullRequest { options: Some(options), max_wait, ..Default::default() };
    let mut bus = EventBusServiceClient::new(node.channel.clone());
    soon("deliveries", bus.pull(request)).await.unwrap().into_inner().deliveries
}

/// X15: a session that is not told asks the group, when that knows.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_settled_or_not_though_nobody_knew_in_time() {
    let node = start().await;
    let publish = async |value: &str| {
        node.atomically(request(vec![to(TAKEN, vec![record(0, value)])], "")).await.unwrap();
    };
    let acknowledging = |taken: Vec<pb::Delivery>, key: &str| {
        let ack_ids = taken.into_iter().map(|it| it.ack_id).collect();
        let topics = vec![to(OTHER, vec![record(0, key)])];
        pb::PublishAtomicallyRequest { ack_ids, ..request(topics, key) }
    };
    publish("first").await;
    node.atomically(acknowledging(pull(&node).await, "clear")).await.unwrap();
    publish("second").await;
    let asked = acknowledging(pull(&node).await, "doubtful");
    // The offsets are written late, and the decision not in the time of the call.
    for partition in 0..4 {
        node.pause(("__consumer_offsets", partition), 3_000).await;
    }
    let mut bus = EventBusServiceClient::new(node.channel.clone());
    let mut call = Request::new(asked.clone());
    call.set_timeout(Duration::from_secs(9));
    let call = tokio::spawn(async move { bus.publish_atomically(call).await });
    let uncommitted = pb::IsolationLevel::ReadUncommitted;
    let written = async {
        while node.given(OTHER, uncommitted).await.len() < 2 {
            tokio::time::sleep(PAUSE).await;
        }
    };
    soon("the record", written).await;
    for partition in 0..4 {
        node.pause(("__transaction_state", partition), 12_000).await;
    }
    let error = Error::from(soon("an answer", call).await.unwrap().unwrap_err());
    assert_eq!(error.code, ErrorCode::OutcomeUnknown, "{error}");
    publish("third").await;
    let next = async {
        loop {
            match pull(&node).await {
                none if none.is_empty() => {}
                some => return some.into_iter().map(|it| it.offset).collect::<Vec<_>>(),
            }
        }
    };
    let next = soon("what is next", next).await;
    // Its key tells the same as what is delivered. Markers stand between the records.
    match node.atomically(asked).await {
        Ok(answer) => assert_eq!((answer.already_done, next), (true, vec![4])),
        Err(error) => {
            assert_eq!((error.code, next[0]), (ErrorCode::LeaseLost, 2), "{error}");
            assert_eq!(node.seen(OTHER).await.len(), 1);
        }
    }
}
