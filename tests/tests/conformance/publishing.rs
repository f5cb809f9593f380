//! What answers and failures of Publish and PublishStream say, and that it is so.

use crate::{checked, refused};
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic_prost::ProstCodec;
use troupe_proto::chaos::v1alpha1::chaos_service_client::ChaosServiceClient;
use troupe_proto::chaos::v1alpha1::{
    ActorState, Fault, InjectFaultRequest, KillActorRequest, ListActorsRequest,
};
use troupe_proto::error::Error;
use troupe_proto::log::v1::offset_query::At;
use troupe_proto::log::v1::{ListOffsetsRequest, OffsetQuery};
use troupe_proto::v1::ErrorReason::{self, *};
use troupe_proto::v1::{
    PublishRequest, PublishResponse, PublishStreamRequest, PublishStreamResponse, Record,
};
use troupe_tests::{Sample, Server, eventually, partition_of};

fn record(partition: i32, value: impl Into<Vec<u8>>) -> Record {
    Record {
        partition: Some(partition),
        key: Some("k".into()),
        value: Some(value.into().into()),
        ..Default::default()
    }
}

fn request(topic: &str, records: Vec<Record>) -> PublishStreamRequest {
    PublishStreamRequest { topic: topic.to_owned(), records, ..Default::default() }
}

/// Sends everything at once: the answers, and the status that ends the stream.
async fn stream(
    server: &Server,
    requests: Vec<PublishStreamRequest>,
) -> (Vec<PublishStreamResponse>, Option<Status>) {
    let mut answers =
        server.bus().publish_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let mut answered = Vec::new();
    loop {
        match answers.message().await {
            Ok(Some(answer)) => answered.push(answer),
            Ok(None) => return (answered, None),
            Err(status) => return (answered, Some(status)),
        }
    }
}

fn sequences(answers: &[PublishStreamResponse]) -> Vec<u64> {
    answers.iter().map(|answer| answer.sequence).collect()
}

fn sequence(error: &Error) -> u64 {
    error.publication.as_ref().unwrap().sequence
}

async fn values(server: &Server, topic: &str, partition: i32) -> Vec<Vec<u8>> {
    let read = server.read_all(topic, partition).await;
    read.into_iter().map(|(_, record): (_, Sample)| record.value.unwrap().to_vec()).collect()
}

/// Whatever the node can know beforehand, it knows before anything of the request is sent, though the requests came
/// together: those before are stored and answered, none of those after is.
#[tokio::test]
async fn a_failed_request_ends_its_stream_and_nothing_later_is_stored() {
    let server = Server::get().await;
    let strict = [
        ("message.timestamp.before.max.ms", "60000"),
        ("max.message.bytes", "1000"),
        ("cleanup.policy", "compact"),
    ];
    let of_1970 = Record { timestamp_ms: Some(5), ..record(0, "old") };
    let keyless = Record { key: None, ..record(0, "no key") };
    for (wrong, expected) in [
        (of_1970, InvalidTimestamp),
        (record(0, vec![b'x'; 2_000]), RecordTooLarge),
        (record(7, "nowhere"), UnknownPartition),
        (keyless, InvalidRecord),
    ] {
        let topic = server.new_topic(2, &strict).await.name;
        let (answers, status) = stream(
            &server,
            vec![
                request(&topic, vec![record(0, "first"), record(1, "first")]),
                request(&topic, vec![record(0, "second")]),
                request(&topic, vec![record(1, "with a wrong one"), wrong]),
                request(&topic, vec![record(1, "behind")]),
                request(&topic, vec![record(0, "behind")]),
            ],
        )
        .await;
        assert_eq!(sequences(&answers), [1, 2]);
        let error = checked(&status.unwrap());
        assert_eq!((error.code, sequence(&error)), (expected, 3), "{error}");
        assert!(error.surely_not_done());
        assert_eq!(values(&server, &topic, 0).await, [&b"first"[..], b"second"]);
        assert_eq!(values(&server, &topic, 1).await, [b"first"]);
    }
}

#[tokio::test]
async fn an_answer_carries_the_number_of_its_request() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    let numbered = |sequence| PublishStreamRequest { sequence, ..request(&topic, vec![]) };
    let (answers, status) = stream(&server, [0, 0, 10, 0, 20].map(numbered).into()).await;
    assert_eq!(sequences(&answers), [1, 2, 10, 11, 20]);
    assert!(status.is_none());
    let (answers, status) = stream(&server, [7, 7, 8].map(numbered).into()).await;
    assert_eq!(sequences(&answers), [7]);
    let error = checked(&status.unwrap());
    assert_eq!((error.code, sequence(&error)), (InvalidRequest, 8), "{error}");
}

async fn actor(server: &Server, topic: &str, partition: i32) -> String {
    let mut chaos = ChaosServiceClient::new(server.channel());
    let request = ListActorsRequest { page_size: 10_000, ..Default::default() };
    let suffix = format!("/partition/{topic}/{partition}");
    let actors = chaos.list_actors(request).await.unwrap().into_inner().actors;
    actors.into_iter().map(|one| one.address).find(|address| address.ends_with(&suffix)).unwrap()
}

/// From when this returns on, replies of the partition are lost.
pub async fn lose_replies(
    server: &Server,
    topic: &str,
    partition: i32,
    probability: f64,
) -> JoinHandle<()> {
    let address = actor(server, topic, partition).await;
    let channel = server.channel();
    let fault = InjectFaultRequest {
        address,
        fault: Fault::DropReplies.into(),
        duration_ms: 2_000,
        probability,
        seed: 7,
    };
    let ends = tokio::spawn(async move {
        ChaosServiceClient::new(channel).inject_fault(fault).await.unwrap();
    });
    let at = Some(At::Latest(true));
    let query = OffsetQuery {
        isolation_level: Default::default(),
        partition: Some(partition_of(topic, partition)),
        at,
    };
    eventually("the fault has begun", async || {
        let request = ListOffsetsRequest { queries: vec![query.clone()] };
        let answer = server.log().list_offsets(request).await.unwrap().into_inner();
        answer.results[0].error.as_ref().map(drop)
    })
    .await;
    ends
}

/// Answers are so; and of each partition a beginning is stored, however the stream ended.
async fn check_outcome(
    server: &Server,
    topic: &str,
    sent: &BTreeMap<i32, Vec<Vec<u8>>>,
    answers: &[PublishStreamResponse],
    status: Option<&Status>,
) {
    let mut numbers = 1..;
    for answer in answers {
        assert_eq!(Some(answer.sequence), numbers.next());
    }
    let mut stored = BTreeMap::new();
    for (partition, sent) in sent {
        let found = values(server, topic, *partition).await;
        assert!(
            sent.starts_with(&found),
            "partition {partition}: not a beginning of what was sent"
        );
        stored.insert(*partition, found.len() as i64);
    }
    let mut acknowledged: BTreeMap<i32, i64> = BTreeMap::new();
    for result in answers.iter().flat_map(|answer| &answer.results) {
        let next = acknowledged.entry(result.partition).or_default();
        assert_eq!(result.offset, *next, "what is answered is where it is said to be");
        *next += 1;
        assert!(result.offset < stored[&result.partition], "what is answered is stored");
    }
    let Some(status) = status else { return };
    let error = checked(status);
    assert_eq!(sequence(&error), answers.len() as u64 + 1);
    if error.surely_not_done() {
        assert_eq!(stored.values().sum::<i64>(), acknowledged.values().sum::<i64>(), "{error}");
    }
}

fn alternating(
    topic: &str,
    count: usize,
) -> (Vec<PublishStreamRequest>, BTreeMap<i32, Vec<Vec<u8>>>) {
    let mut sent: BTreeMap<i32, Vec<Vec<u8>>> = [(0, vec![]), (1, vec![])].into();
    let requests = (0..count).map(|n| {
        let (partition, value) = ((n % 2) as i32, format!("{n}").into_bytes());
        sent.entry(partition).or_default().push(value.clone());
        request(topic, vec![record(partition, value)])
    });
    (requests.collect(), sent)
}

/// The answer of a record that was appended is lost, and later ones are not: nobody takes theirs for it.
#[tokio::test]
async fn a_lost_answer_is_not_replaced_by_a_later_one() {
    let server = Server::get().await;
    let topic = server.new_topic(2, &[]).await.name;
    let ends = lose_replies(&server, &topic, 0, 0.5).await;
    // One after the other, so that they go in many batches.
    let (requests, sent) = alternating(&topic, 400);
    let (sender, receiver) = mpsc::channel(1);
    let sending = tokio::spawn(async move {
        for request in requests {
            if sender.send(request).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    });
    let call = server.bus().publish_stream(ReceiverStream::new(receiver)).await;
    let mut stream = call.unwrap().into_inner();
    let mut answers = Vec::new();
    let status = loop {
        match stream.message().await {
            Ok(Some(answer)) => answers.push(answer),
            Ok(None) => panic!("no answer was lost"),
            Err(status) => break status,
        }
    };
    let error = checked(&status);
    assert_eq!(error.code, OutcomeUnknown, "{error}");
    assert!(!error.is_retriable());
    sending.await.unwrap();
    ends.await.unwrap();
    check_outcome(&server, &topic, &sent, &answers, Some(&status)).await;
}

/// An actor that dies with batches in its mailbox lost some and is there again for those behind them.
#[tokio::test]
async fn a_killed_leader_leaves_no_gap_in_a_stream() {
    let server = Server::get().await;
    let mut failures = 0;
    for round in 0..6 {
        let topic = server.new_topic(2, &[]).await.name;
        let address = actor(&server, &topic, 0).await;
        let (requests, sent) = alternating(&topic, 3_000);
        let (sender, receiver) = mpsc::channel(64);
        let channel = server.channel();
        let sending = tokio::spawn(async move {
            for (n, request) in requests.into_iter().enumerate() {
                if n == 500 + round * 200 {
                    let mut chaos = ChaosServiceClient::new(channel.clone());
                    let kill = KillActorRequest { address: address.clone(), ..Default::default() };
                    tokio::spawn(async move { chaos.kill_actor(kill).await.map(drop) });
                }
                if sender.send(request).await.is_err() {
                    return;
                }
            }
        });
        let call = server.bus().publish_stream(ReceiverStream::new(receiver)).await;
        let mut stream = call.unwrap().into_inner();
        let mut answers = Vec::new();
        let status = loop {
            match stream.message().await {
                Ok(Some(answer)) => answers.push(answer),
                Ok(None) => break None,
                Err(status) => break Some(status),
            }
        };
        sending.await.unwrap();
        failures += usize::from(status.is_some());
        eventually("the actor is back", async || {
            let mut chaos = ChaosServiceClient::new(server.channel());
            let prefix = actor(&server, &topic, 0).await;
            let request = ListActorsRequest { prefix, ..Default::default() };
            let found = chaos.list_actors(request).await.unwrap().into_inner().actors;
            found.iter().any(|one| one.state() == ActorState::Running).then_some(())
        })
        .await;
        check_outcome(&server, &topic, &sent, &answers, status.as_ref()).await;
    }
    println!("{failures} of 6 streams ended with a failure");
}

/// One part is done, and of the other nobody knows: the whole is neither.
#[tokio::test]
async fn a_publish_over_several_partitions_says_what_became_of_each() {
    let server = Server::get().await;
    let topic = server.new_topic(2, &[]).await.name;
    let ends = lose_replies(&server, &topic, 1, 0.0).await;
    let request = PublishRequest {
        topic: topic.clone(),
        records: vec![record(0, "a"), record(1, "b"), record(0, "c")],
        ..Default::default()
    };
    let status = server.bus().publish(request).await.unwrap_err();
    let error = checked(&status);
    assert_eq!(error.code, OutcomeUnknown, "{error}");
    assert!(!error.surely_not_done() && !error.is_retriable());
    let pushback = status.metadata().get("grpc-retry-pushback-ms").unwrap();
    assert_eq!(pushback, "-1", "no retry policy publishes it twice");
    let mut partitions = error.publication.unwrap().partitions;
    partitions.sort_by_key(|outcome| outcome.partition);
    let told: Vec<(i32, bool, ErrorReason, bool)> = partitions
        .iter()
        .map(|one| (one.partition, one.done, one.reason(), one.surely_not_done))
        .collect();
    assert_eq!(told, [(0, true, Unspecified, false), (1, false, OutcomeUnknown, false)]);
    ends.await.unwrap();
    assert_eq!(values(&server, &topic, 0).await.len(), 2);
}

/// From when this returns on, the partition's actor handles nothing, for a while.
async fn pause(server: &Server, topic: &str, partition: i32, duration_ms: u32) -> JoinHandle<()> {
    let address = actor(server, topic, partition).await;
    let (channel, prefix) = (server.channel(), address.clone());
    let fault = InjectFaultRequest {
        address,
        fault: Fault::Pause.into(),
        duration_ms,
        ..Default::default()
    };
    let ends = tokio::spawn(async move {
        ChaosServiceClient::new(channel).inject_fault(fault).await.unwrap();
    });
    eventually("the actor is paused", async || {
        let mut chaos = ChaosServiceClient::new(server.channel());
        let request = ListActorsRequest { prefix: prefix.clone(), ..Default::default() };
        let found = chaos.list_actors(request).await.unwrap().into_inner().actors;
        found.iter().any(|one| one.state() == ActorState::Paused).then_some(())
    })
    .await;
    ends
}

/// The call's time is over, and one partition has not answered: it is told so of that one, and what is known of the
/// other. Nobody does it again.
#[tokio::test]
async fn a_publish_whose_time_is_over_says_what_became_of_each_partition() {
    let server = Server::get().await;
    for seconds in [2, 5, 10_u32] {
        let topic = server.new_topic(2, &[]).await.name;
        let ends = pause(&server, &topic, 1, (seconds + 2) * 1_000).await;
        let mut request = tonic::Request::new(PublishRequest {
            topic: topic.clone(),
            records: vec![record(0, "a"), record(1, "b")],
            ..Default::default()
        });
        request.set_timeout(std::time::Duration::from_secs(seconds.into()));
        let status = server.bus().publish(request).await.unwrap_err();
        let said_by_the_node = status.metadata().contains_key("grpc-retry-pushback-ms");
        ends.await.unwrap();
        if !said_by_the_node && seconds < 10 {
            // The client itself has given up, as this machine was too slow to hear the answer before.
            continue;
        }
        let error = checked(&status);
        assert_eq!(error.code, RequestTimedOut, "{error}");
        assert!(!error.surely_not_done() && !error.is_retriable(), "{error}");
        let mut partitions = error.publication.unwrap().partitions;
        partitions.sort_by_key(|outcome| outcome.partition);
        let told: Vec<(i32, bool, bool)> =
            partitions.iter().map(|one| (one.partition, one.done, one.surely_not_done)).collect();
        assert_eq!(told, [(0, true, false), (1, false, false)]);
        return;
    }
}

/// What waits for the partition when its client leaves would come behind what the client sends by another way.
#[tokio::test]
async fn nothing_of_a_stream_is_stored_any_more_when_its_client_has_gone() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    let (sender, receiver) = mpsc::channel(1);
    let send = async |value: &str| {
        sender.send(request(&topic, vec![record(0, value)])).await.unwrap();
    };
    send("before").await;
    let call = server.bus().publish_stream(ReceiverStream::new(receiver)).await;
    let mut stream = call.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().sequence, 1);
    let ends = pause(&server, &topic, 0, 4_000).await;
    send("held up").await;
    // It has been read: there is room for one only.
    send("held up too").await;
    send("and this").await;
    drop((stream, sender));
    let elsewhere = PublishRequest {
        topic: topic.clone(),
        records: vec![record(0, "elsewhere")],
        ..Default::default()
    };
    server.bus().publish(elsewhere).await.unwrap();
    ends.await.unwrap();
    assert_eq!(values(&server, &topic, 0).await, [&b"before"[..], b"elsewhere"]);
}

/// Whether response headers came before the call ended, and how it ended.
async fn headers_of(server: &Server, request: PublishRequest) -> (bool, Option<Status>) {
    let mut grpc = tonic::client::Grpc::new(server.channel());
    grpc.ready().await.unwrap();
    let codec: ProstCodec<PublishRequest, PublishResponse> = ProstCodec::default();
    let path = http::uri::PathAndQuery::from_static("/troupe.v1.EventBusService/Publish");
    let request = tonic::Request::new(tokio_stream::once(request));
    match grpc.streaming(request, path, codec).await {
        Ok(answers) => (true, answers.into_inner().message().await.err()),
        Err(status) => (false, Some(status)),
    }
}

/// A client's retry policy does again what ended without headers, even if nobody said why.
#[tokio::test]
async fn what_may_be_done_has_its_headers_and_what_is_refused_has_none() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    let publish = |record| PublishRequest {
        topic: topic.clone(),
        records: vec![record],
        ..Default::default()
    };
    let (headers, status) = headers_of(&server, publish(record(0, "fine"))).await;
    assert!(headers && status.is_none(), "{status:?}");
    let (headers, status) = headers_of(&server, publish(record(9, "nowhere"))).await;
    assert!(!headers, "{status:?}");
    assert_eq!(checked(&status.unwrap()).code, UnknownPartition);
    let ends = lose_replies(&server, &topic, 0, 0.0).await;
    let (headers, status) = headers_of(&server, publish(record(0, "lost"))).await;
    assert!(headers, "{status:?}");
    let status = status.unwrap();
    assert_eq!(checked(&status).code, OutcomeUnknown);
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "-1");
    ends.await.unwrap();
}

/// Each record fits, all together do not: batches are the node's business.
#[tokio::test]
async fn many_small_records_are_cut_into_batches_that_the_topic_takes() {
    let server = Server::get().await;
    for config in [("max.message.bytes", "1000"), ("segment.bytes", "4096")] {
        let topic = server.new_topic(1, &[config]).await.name;
        let records: Vec<Record> = (0..100).map(|_| record(0, vec![b'y'; 100])).collect();
        let publish =
            PublishRequest { topic: topic.clone(), records: records.clone(), ..Default::default() };
        let answer = server.bus().publish(publish).await.unwrap().into_inner();
        let offsets: Vec<i64> = answer.results.iter().map(|result| result.offset).collect();
        assert_eq!(offsets, (0..100).collect::<Vec<_>>(), "{config:?}");
        let (answers, status) = stream(&server, vec![request(&topic, records)]).await;
        assert!(status.is_none(), "{config:?}: {status:?}");
        assert_eq!(answers[0].results.len(), 100);
        assert_eq!(server.read_all(&topic, 0).await.len(), 200);
    }
}

/// To the byte: what would be stored is taken, one byte more is not.
#[tokio::test]
async fn the_largest_record_is_the_one_that_fits() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[("max.message.bytes", "1000")]).await.name;
    let (mut fits, mut refusals) = (0, 0);
    for len in 850..1_000 {
        let records = vec![record(0, vec![b'x'; len])];
        let publish = PublishRequest { topic: topic.clone(), records, ..Default::default() };
        match server.bus().publish(publish).await {
            Ok(_) => fits = len,
            Err(status) => {
                let error = checked(&status);
                assert_eq!(error.code, RecordTooLarge);
                refusals += 1;
                assert_eq!(error.facts["actual"], (1_000 + refusals).to_string(), "{error}");
            }
        }
    }
    assert_eq!(fits + refusals, 999, "every size up to one is taken");
}

#[tokio::test]
async fn what_is_the_nodes_own_is_not_published_to() {
    let server = Server::get().await;
    for topic in ["__consumer_offsets", "__transaction_state", "__mine"] {
        let publish = PublishRequest { topic: topic.to_owned(), ..Default::default() };
        assert_eq!(refused(server.bus().publish(publish)).await.code, InvalidTopic, "{topic}");
        let (answers, status) = stream(&server, vec![request(topic, vec![])]).await;
        assert!(answers.is_empty());
        assert_eq!(checked(&status.unwrap()).code, InvalidTopic, "{topic}");
    }
}
