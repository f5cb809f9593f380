//! Calls that are begun and never sent to their end, on connections that are otherwise sound and busy.

use crate::SETUP;
use crate::raw::Raw;
use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{StreamExt, iter, pending};
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower::ServiceExt;
use troupe_proto::admin::v1::GetClusterRequest;
use troupe_proto::admin::v1::cluster_service_client::ClusterServiceClient;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::v1::{PublishRequest, PublishStreamRequest, TailRequest};
use troupe_tests::{LocalNode, Sample, Server};

/// Single requests of every door: read by generated code and by hand, small and large, answered by a stream too.
const SINGLE: [&str; 9] = [
    "/troupe.v1.EventBusService/Publish",
    "/troupe.v1.EventBusService/Pull",
    "/troupe.v1.EventBusService/Tail",
    "/troupe.log.v1.LogService/Produce",
    "/troupe.log.v1.LogService/Fetch",
    "/troupe.log.v1.GroupService/CommitOffsets",
    "/troupe.log.v1.MetadataService/WatchMetadata",
    "/troupe.admin.v1.ClusterService/GetCluster",
    "/grpc.health.v1.Health/Watch",
];

/// A message in its frame.
fn framed(message: &impl Message) -> Vec<u8> {
    let len = u32::try_from(message.encoded_len()).unwrap();
    [&[0], &len.to_be_bytes()[..], &message.encode_to_vec()].concat()
}

/// Calls a method with a body of these pieces, which never ends: how the call ends.
async fn half_open(
    channel: &Channel,
    path: &str,
    pieces: impl tokio_stream::Stream<Item = Bytes> + Send + Sync + 'static,
) -> Status {
    let frames = pieces.chain(pending()).map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
    let request = http::Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(StreamBody::new(Box::pin(frames))))
        .unwrap();
    let response = channel.clone().oneshot(request).await.unwrap();
    Status::from_header_map(response.headers()).expect("there is nothing to answer")
}

fn assert_nothing_was_done(path: &str, status: Status) {
    assert_eq!(status.code(), Code::DeadlineExceeded, "{path}: {status:?}");
    let error = Error::from(status);
    assert_eq!(error.code, ErrorCode::RequestTooLate, "{path}: {error}");
    assert!(error.surely_not_done(), "{path}");
}

/// Calls that have come as a whole, one after the other.
async fn stay_busy(channel: Channel) {
    let mut busy = ClusterServiceClient::new(channel);
    loop {
        busy.get_cluster(GetClusterRequest {}).await.unwrap();
    }
}

#[tokio::test]
async fn a_single_request_that_does_not_come_is_not_waited_for() {
    let node = LocalNode::start(&[SETUP]);
    let endpoint = Endpoint::from_shared(format!("http://{}", node.server())).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let busy = tokio::spawn(stay_busy(channel.clone()));
    // Larger than any of these messages is said to be, so it is never whole.
    let half = [&[0, 0, 0, 0, 100][..], &[0; 50]].concat();
    for path in SINGLE {
        for said in [Vec::new(), vec![0; 3], half.clone()] {
            let pieces = iter((!said.is_empty()).then(|| Bytes::from(said)));
            assert_nothing_was_done(path, half_open(&channel, path, pieces).await);
        }
        let trickle = iter(half.clone().into_iter().chain(std::iter::repeat_n(0, 49)))
            .throttle(Duration::from_millis(30))
            .map(|byte| Bytes::from(vec![byte]));
        assert_nothing_was_done(path, half_open(&channel, path, trickle).await);
    }
    assert!(!busy.is_finished(), "the connection stands");
    busy.abort();
}

/// Whole, and without the end of its stream: what is done is done once, and what is refused was not done.
#[tokio::test]
async fn a_request_whose_stream_is_not_ended_holds_nothing_either() {
    let node = LocalNode::start(&[SETUP]);
    let server = Server::at(&node.server()).await;
    let topic = server.new_topic(1, &[]).await.name;
    let records = vec![Sample::of("half open", 1).to_record(0)];
    let request = PublishRequest { topic: topic.clone(), records, ..Default::default() };
    let path = "/troupe.v1.EventBusService/Publish";
    let pieces = iter([Bytes::from(framed(&request))]);
    assert_nothing_was_done(path, half_open(&server.channel(), path, pieces).await);
    assert_eq!(server.read_all(&topic, 0).await, []);
}

/// However often the time passes in which a single request would have had to come.
#[tokio::test]
async fn streams_may_be_silent_and_be_read_for_as_long_as_they_like() {
    let node = LocalNode::start(&[SETUP]);
    let server = Server::at(&node.server()).await;
    let topic = server.new_topic(1, &[]).await.name;
    let publish = |value: &str| PublishStreamRequest {
        topic: topic.clone(),
        records: vec![Sample::of(value, 1).to_record(0)],
        ..Default::default()
    };
    let (requests, up) = mpsc::channel(4);
    let mut published = server.bus().publish_stream(ReceiverStream::new(up)).await.unwrap();
    requests.send(publish("first")).await.unwrap();
    assert!(published.get_mut().message().await.unwrap().is_some());
    let (silent, nothing) = mpsc::channel::<PublishStreamRequest>(1);
    let mut unsaid = server.bus().publish_stream(ReceiverStream::new(nothing)).await.unwrap();
    let request = TailRequest { topic: topic.clone(), ..Default::default() };
    let mut tail = server.bus().tail(request).await.unwrap().into_inner();
    for _ in 0..4 {
        let path = "/troupe.admin.v1.ClusterService/GetCluster";
        assert_nothing_was_done(
            path,
            half_open(&server.channel(), path, iter(None::<Bytes>)).await,
        );
    }
    requests.send(publish("second")).await.unwrap();
    assert!(published.get_mut().message().await.unwrap().is_some());
    silent.send(publish("third")).await.unwrap();
    assert!(unsaid.get_mut().message().await.unwrap().is_some());
    let mut delivered = 0;
    while delivered < 2 {
        delivered += tail.message().await.unwrap().expect("it stands").deliveries.len();
    }
}

/// The same of the HTTP port: what is asked there has no body, and one that is announced is not waited for.
#[tokio::test]
async fn an_http_body_that_does_not_come_is_not_waited_for() {
    let node = LocalNode::start(&[SETUP]);
    for method in ["GET", "POST"] {
        for said in ["", "hal"] {
            let request = format!(
                "{method} /metrics HTTP/1.1\r\nhost: node\r\ncontent-length: 100\r\n\r\n{said}"
            );
            let mut raw = Raw::saying(&node.http(), request.as_bytes()).await;
            let answer = String::from_utf8(raw.end().await).unwrap();
            assert!(answer.starts_with("HTTP/1.1 "), "{method} {said:?}: {answer}");
        }
    }
}
