//! What becomes of deliveries that nobody can take: the client has closed its half, gave its call up, or takes only
//! smaller messages.

use crate::fixture::{Fixture, PATIENCE, ack, earliest, options, seconds, value_of};
use crate::pulls::pull;
use prost::Message;
use socket2::SockRef;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::Request;
use tonic::transport::Channel;
use troupe_proto::batch::{Compression, RecordSetBuilder};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{PartitionId, PartitionKey, TopicId};
use troupe_proto::log::v1::log_service_client::LogServiceClient;
use troupe_proto::log::v1::{
    PartitionProduce, ProduceRequest, RecordBatch, RecordBatches, TopicPartition,
};
use troupe_proto::v1::event_bus_service_client::EventBusServiceClient;
use troupe_proto::v1::*;

/// Records of these sizes.
pub async fn publish_sized(node: &Fixture, topic: &str, sizes: &[usize]) {
    for size in sizes {
        let value = Some(vec![b'v'; *size].into());
        let records = vec![Record { value, ..Default::default() }];
        let request = PublishRequest { topic: topic.to_owned(), records, ..Default::default() };
        node.bus().publish(request).await.unwrap();
    }
}

/// With the window for unread bytes that most clients have.
async fn connect(address: SocketAddr) -> EventBusServiceClient<Channel> {
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    let endpoint = endpoint.initial_stream_window_size(65_535);
    EventBusServiceClient::new(endpoint.connect().await.unwrap())
}

/// A way to the node that resets its connection when it is aborted.
async fn breakable(node: &Fixture) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (address, node) = (listener.local_addr().unwrap(), node.node.grpc_addr());
    let passing = async move {
        let mut client = listener.accept().await.unwrap().0;
        let mut upstream = TcpStream::connect(node).await.unwrap();
        SockRef::from(&upstream).set_linger(Some(Duration::ZERO)).unwrap();
        // Either end may go.
        let _ = copy_bidirectional(&mut client, &mut upstream).await;
    };
    (address, tokio::spawn(passing))
}

fn pull_request(options: SubscriptionOptions) -> PullRequest {
    PullRequest { options: Some(options), max_records: 100, max_wait: seconds(20) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_whose_half_is_closed_is_drained_and_others_go_on() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    node.publish("t", 0, 0..3).await;
    let mut closed = node.subscribe(options("t", "g")).await;
    let taken = closed.take(3).await;
    closed.ack(&taken[..1]).await;
    closed.close();
    // What became of the last acknowledgement is said, and nothing more is delivered.
    assert_eq!(closed.outcomes(1).await, [SettleOutcome::Accepted]);
    let mut other = node.subscribe(options("t", "g")).await;
    node.publish("t", 0, 3..5).await;
    let rest: Vec<i64> = other.take(4).await.iter().map(|delivery| delivery.offset).collect();
    assert_eq!(rest, [1, 2, 3, 4]);
    loop {
        match timeout(PATIENCE, closed.answers.message()).await.expect("it does not end") {
            Ok(Some(answer)) => assert_eq!(answer.deliveries, []),
            Ok(None) => break,
            Err(status) => panic!("it ends with {status}"),
        }
    }
    assert_eq!(node.settle(vec![ack(&taken[1])]).await, [SettleOutcome::LeaseLost]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_without_acknowledgements_goes_on_when_its_half_is_closed() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    node.publish("t", 0, 0..3).await;
    let asked = SubscriptionOptions { auto_ack: true, ..options("t", "g") };
    let mut one = node.subscribe(asked).await;
    one.close();
    one.take(3).await;
    node.publish("t", 0, 3..6).await;
    assert_eq!(one.take(3).await.len(), 3);
    node.until_committed("g", &[(0, 6)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_its_caller_refuses_is_delivered_again_at_once() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    publish_sized(&node, "t", &[100_000; 8]).await;
    // The caller takes less than it says.
    let mut caller = connect(node.node.grpc_addr()).await.max_decoding_message_size(200_000);
    caller.pull(pull_request(options("t", "g"))).await.unwrap_err();
    let again = pull(&node, options("t", "g"), 100).await;
    let attempts: Vec<_> = again.iter().map(|given| (given.offset, given.attempt)).collect();
    assert_eq!(attempts[..2], [(0, 2), (1, 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_delivered_again_when_its_connection_breaks_unless_something_of_it_was_settled()
 {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    node.publish("t", 0, 0..4).await;
    let request = |max_records| PullRequest { max_records, ..pull_request(options("t", "g")) };
    let (address, way) = breakable(&node).await;
    let mut caller = connect(address).await;
    let arrived = caller.pull(request(2)).await.unwrap().into_inner().deliveries;
    let lost = caller.pull(request(2)).await.unwrap().into_inner().deliveries;
    assert_eq!((arrived.len(), lost.len()), (2, 2));
    assert_eq!(node.settle(vec![ack(&arrived[0])]).await, [SettleOutcome::Accepted]);
    way.abort();
    let again = pull(&node, options("t", "g"), 100).await;
    let attempts: Vec<_> = again.iter().map(|given| (given.offset, given.attempt)).collect();
    assert_eq!(attempts, [(2, 2), (3, 2)]);
    let settled = node.settle(vec![ack(&arrived[1]), ack(&lost[0])]).await;
    assert_eq!(settled, [SettleOutcome::Accepted, SettleOutcome::LeaseLost]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_is_answered_before_its_callers_deadline() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    let mut request = Request::new(pull_request(options("t", "g")));
    request.set_timeout(Duration::from_secs(5));
    let answer = node.bus().pull(request).await.expect("an answer in time").into_inner();
    assert_eq!(answer.deliveries, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_who_give_up_early_keep_nothing_from_the_others() {
    const RECORDS: usize = 300;
    let node = Fixture::start().await;
    node.create("t", 1).await;
    // Found first: how long that takes has nothing to do with this.
    let nothing = PullRequest { max_wait: seconds(0), ..pull_request(options("t", "g")) };
    node.bus().pull(nothing).await.unwrap();
    let publishing = async {
        for number in 0..RECORDS {
            node.publish("t", 0, number..number + 1).await;
        }
    };
    let reading = async {
        let mut seen = BTreeSet::new();
        for round in 0.. {
            if seen.len() == RECORDS {
                break;
            }
            let mut request = Request::new(pull_request(options("t", "g")));
            request.set_timeout(Duration::from_millis(5 + round % 50));
            let Ok(answer) = node.bus().pull(request).await else { continue };
            let deliveries = answer.into_inner().deliveries;
            seen.extend(deliveries.iter().map(value_of));
            node.settle(deliveries.iter().map(ack).collect()).await;
        }
    };
    let both = async { tokio::join!(publishing, reading) };
    timeout(PATIENCE, both).await.expect("some records never came");
    node.until_committed("g", &[(0, RECORDS as i64)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_larger_than_the_client_takes_is_a_notice_and_passed_only_if_told_to() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    publish_sized(&node, "t", &[10, 100_000, 10]).await;
    let small =
        |group| SubscriptionOptions { max_message_bytes: Some(65_536), ..options("t", group) };
    let told = async |options: SubscriptionOptions| {
        let mut one = node.subscribe(options).await;
        let mut seen = Vec::new();
        loop {
            let answer = timeout(PATIENCE, one.answers.message()).await.expect("nothing came");
            let answer = answer.unwrap().expect("the stream ended");
            seen.extend(answer.deliveries);
            if let Some(record) = answer.notice.and_then(|notice| notice.record_too_large) {
                return (one, seen, record);
            }
        }
    };
    let (stands, seen, record) = told(small("stands")).await;
    assert_eq!((record.topic.as_str(), record.partition, record.offset), ("t", 0, 1));
    assert!((100_000..101_500).contains(&record.message_bytes), "{record:?}");
    assert_eq!((record.option.as_str(), record.skipped), ("max_message_bytes", false));
    assert_eq!(seen.len(), 1);
    stands.ack(&seen).await;
    node.until_committed("stands", &[(0, 1)]).await;
    drop(stands);
    // Whoever takes as much as the notice says gets it.
    let larger = u32::try_from(record.message_bytes).ok();
    let asked = SubscriptionOptions { max_message_bytes: larger, ..options("t", "stands") };
    assert_eq!(node.subscribe(asked).await.next().await.offset, 1);

    let skips = SubscriptionOptions { skip_too_large: true, ..small("skips") };
    let (mut passes, mut seen, record) = told(skips).await;
    assert!(record.skipped);
    while seen.len() < 2 {
        seen.push(passes.next().await);
    }
    assert_eq!(seen.iter().map(|given| given.offset).collect::<Vec<_>>(), [0, 2]);
    passes.ack(&seen).await;
    node.until_committed("skips", &[(0, 3)]).await;

    // In single calls: with what there is before it, and whenever nothing else is there.
    let first = pull(&node, small("pulls"), 100).await;
    assert_eq!(first.len(), 1);
    for _ in 0..2 {
        let request = PullRequest { max_wait: seconds(1), ..pull_request(small("pulls")) };
        let answer = node.bus().pull(request).await.unwrap().into_inner();
        assert_eq!((answer.deliveries.len(), answer.notices.len()), (0, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_says_which_record_is_too_large_and_ends_only_when_nothing_else_is_left() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    publish_sized(&node, "t", &[10, 100_000, 10]).await;
    let tail = TailRequest {
        topic: "t".into(),
        start: earliest(),
        until_end: true,
        max_message_bytes: Some(65_536),
        ..Default::default()
    };
    for skips in [false, true] {
        let request = TailRequest { skip_too_large: skips, ..tail.clone() };
        let mut answers = node.bus().tail(request).await.unwrap().into_inner();
        let (mut offsets, mut notices, mut ended) = (Vec::new(), Vec::new(), Ok(()));
        loop {
            match answers.message().await {
                Ok(Some(answer)) => {
                    offsets.extend(answer.deliveries.iter().map(|delivery| delivery.offset));
                    notices.extend(answer.notice.and_then(|notice| notice.record_too_large));
                }
                Ok(None) => break,
                Err(status) => {
                    ended = Err(Error::from(status));
                    break;
                }
            }
        }
        assert_eq!(notices.iter().map(|record| record.offset).collect::<Vec<_>>(), [1]);
        if skips {
            assert_eq!((offsets, ended), (vec![0, 2], Ok(())));
        } else {
            let error = ended.unwrap_err();
            assert_eq!((offsets, error.code), (vec![0], ErrorCode::MessageTooLarge));
            assert_eq!(
                (&*error.facts["offset"], &*error.facts["option"]),
                ("1", "max_message_bytes")
            );
        }
    }
    let wrong = TailRequest { max_message_bytes: Some(100), ..tail };
    let refused = node.bus().tail(wrong).await.unwrap_err();
    assert_eq!(Error::from(refused).code, ErrorCode::InvalidRequest);
}

/// A batch of so many records of 100,000 bytes each, which pack well, and not so well that it looks like an attack.
fn well_packed(records: usize, compression: Compression) -> RecordBatch {
    let mut builder = RecordSetBuilder::new();
    let mut noise = 1u32;
    for _ in 0..records {
        let mut value = vec![0; 100_000];
        for byte in &mut value[..5_000] {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = noise.to_be_bytes()[0];
        }
        builder.push(1, None, Some(&value), &[]);
    }
    let built = builder.finish(compression, None).unwrap();
    let key = PartitionKey { topic_id: TopicId::random(), partition: PartitionId(0) };
    let bytes = [&built.header.encode(&key)[..], &built.payload[..]].concat();
    RecordBatches::decode(&bytes[..]).unwrap().batches.remove(0)
}

async fn produce(node: &Fixture, batch: RecordBatch) -> Result<i64, Error> {
    let partition = Some(TopicPartition { topic: "t".into(), ..Default::default() });
    let part = PartitionProduce { partition, batch: Some(batch), ..Default::default() };
    let request = ProduceRequest { partitions: vec![part], ..Default::default() };
    let mut client = LogServiceClient::new(node.channel.clone());
    let result = client.produce(request).await.unwrap().into_inner().results.remove(0);
    result.error.map_or(Ok(result.base_offset), |error| Err(error.into()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_unpacks_to_more_than_the_limit_is_refused_whatever_packed_it() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    let packing = Compression::ALL.into_iter().filter(|codec| *codec != Compression::None);
    for compression in packing {
        let error = produce(&node, well_packed(170, compression)).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::RecordTooLarge, "{compression}: {error}");
        assert!(produce(&node, well_packed(20, compression)).await.is_ok(), "{compression}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_unpacks_to_much_comes_in_parts_that_every_client_takes() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    produce(&node, well_packed(100, Compression::Zstd)).await.unwrap();
    let reading = (0..10).map(|_| async {
        let tail = TailRequest {
            topic: "t".into(),
            start: earliest(),
            until_end: true,
            ..Default::default()
        };
        let mut answers = node.bus().tail(tail).await.unwrap().into_inner();
        let mut offsets = Vec::new();
        while let Some(answer) = answers.message().await.unwrap() {
            assert!(answer.encoded_len() <= 4 << 20);
            offsets.extend(answer.deliveries.iter().map(|delivery| delivery.offset));
        }
        offsets
    });
    let all: Vec<i64> = (0..100).collect();
    for offsets in futures::future::join_all(reading).await {
        assert_eq!(offsets, all);
    }
    let asked = SubscriptionOptions {
        window: Some(Window { max_records: Some(1_000), max_bytes: Some(1 << 30) }),
        ..options("t", "g")
    };
    let taken = node.subscribe(asked.clone()).await.take(100).await;
    assert_eq!(taken.iter().map(|delivery| delivery.offset).collect::<Vec<_>>(), all);
}
