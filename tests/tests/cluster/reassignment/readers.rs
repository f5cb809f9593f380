//! Whoever reads while the partition moves to nodes that did not have it is given each record once and in order.

use super::{Load, TOPIC, begin, complete};
use crate::topic_on;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{StreamExt, iter, pending};
use tonic::Status;
use troupe_client::{AutoOffsetReset, Client, ClientConfig, ConsumerConfig, ReaderConfig, Start};
use troupe_proto::error::Error;
use troupe_proto::log::v1::{FetchPosition, FetchStreamRequest};
use troupe_proto::v1::start_position::At;
use troupe_proto::v1::{
    Delivery, StartPosition, SubscribeRequest, SubscriptionOptions, TailRequest,
};
use troupe_tests::{Cluster, Server, eventually_or_why, partition_of};

/// One that reads, and how many it was given.
struct Reading {
    what: &'static str,
    given: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Reading {
    fn start<F>(what: &'static str, read: impl FnOnce(Arc<AtomicU64>) -> F) -> Reading
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let given = Arc::new(AtomicU64::new(0));
        Reading { what, task: tokio::spawn(read(Arc::clone(&given))), given }
    }

    async fn has(&mut self, count: u64) {
        let what = format!("the {} is given {count} records", self.what);
        eventually_or_why(&what, async || {
            if self.task.is_finished() {
                (&mut self.task).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            }
            let given = self.given.load(Ordering::Relaxed);
            if given >= count { Ok(()) } else { Err(given.to_string()) }
        })
        .await;
    }
}

/// The next one, by its number, and no other.
#[track_caller]
fn take(given: &AtomicU64, value: &[u8]) {
    let next = given.fetch_add(1, Ordering::Relaxed);
    let expected = format!("record {next}");
    assert_eq!(String::from_utf8_lossy(value), expected, "each once and in order");
}

fn take_all(given: &AtomicU64, deliveries: &[Delivery]) {
    for delivery in deliveries {
        take(given, delivery.record.as_ref().unwrap().value.as_ref().unwrap());
    }
}

#[track_caller]
fn assert_retriable(status: Status) {
    let error = Error::from(status);
    assert!(error.is_retriable(), "{error:?}");
}

async fn consume(client: Client, given: Arc<AtomicU64>) {
    let config = ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        ..ConsumerConfig::new("consumers")
    };
    let mut consumer = client.consumer(config).unwrap();
    consumer.subscribe([TOPIC]).unwrap();
    loop {
        for record in consumer.poll(Duration::from_millis(100)).await.unwrap() {
            take(&given, &record.value.unwrap());
        }
    }
}

async fn read(client: Client, given: Arc<AtomicU64>) {
    let config = ReaderConfig { start: Start::Earliest, ..ReaderConfig::default() };
    let mut reader = client.reader(TOPIC, config).await.unwrap();
    loop {
        let batch = reader.next_batch().await.expect("it goes on").unwrap();
        for record in batch.iter() {
            take(&given, record.unwrap().value.unwrap());
        }
    }
}

/// From the node that it began at, whoever has the partition.
async fn tail(server: Server, given: Arc<AtomicU64>) {
    loop {
        let offset = given.load(Ordering::Relaxed) as i64;
        let start = Some(StartPosition { at: Some(At::Offset(offset)) });
        let request = TailRequest { topic: TOPIC.to_owned(), start, ..Default::default() };
        let mut answers = match server.bus().tail(request).await {
            Ok(answers) => answers.into_inner(),
            Err(status) => {
                assert_retriable(status);
                continue;
            }
        };
        loop {
            match answers.message().await {
                Ok(answer) => take_all(&given, &answer.expect("it goes on").deliveries),
                Err(status) => break assert_retriable(status),
            }
        }
    }
}

/// The same as a member of a group that acknowledges what comes.
async fn subscribe(server: Server, given: Arc<AtomicU64>) {
    let (requests, stream) = mpsc::channel(16);
    let options = SubscriptionOptions {
        topics: vec![TOPIC.to_owned()],
        group: format!("subscribers at {}", server.address()),
        start_position: Some(StartPosition { at: Some(At::Earliest(true)) }),
        ..Default::default()
    };
    let start = SubscribeRequest { start: Some(options), ..Default::default() };
    requests.send(start).await.unwrap();
    let answers = server.bus().subscribe(ReceiverStream::new(stream)).await.unwrap();
    let mut answers = answers.into_inner();
    loop {
        let answer = answers.message().await.unwrap().expect("it goes on");
        take_all(&given, &answer.deliveries);
        let ack_ids: Vec<_> = answer.deliveries.into_iter().map(|one| one.ack_id).collect();
        if !ack_ids.is_empty() {
            requests.send(SubscribeRequest { ack_ids, ..Default::default() }).await.unwrap();
        }
    }
}

/// By hand, from whom refusals name.
async fn fetch(servers: Vec<Server>, mut at: usize, given: Arc<AtomicU64>) {
    loop {
        let offset = given.load(Ordering::Relaxed) as i64;
        let partition = Some(partition_of(TOPIC, 0));
        let positions = vec![FetchPosition { partition, offset, ..Default::default() }];
        let request = FetchStreamRequest { positions, credit_bytes: 1 << 30, ..Default::default() };
        let requests = iter([request]).chain(pending());
        let mut answers = servers[at].log().fetch_stream(requests).await.unwrap().into_inner();
        let refusal = loop {
            let answer = match answers.message().await {
                Ok(answer) => answer.expect("it goes on"),
                Err(status) => break Error::from(status),
            };
            if let Some(error) = answer.error {
                break error.into();
            }
            for batch in answer.batches.iter().flat_map(|batches| &batches.batches) {
                let next = given.fetch_add(batch.record_count.into(), Ordering::Relaxed);
                assert_eq!(batch.base_offset, next, "each once and in order");
            }
        };
        assert!(refusal.is_retriable(), "{refusal:?}");
        if let Some(hint) = refusal.leader {
            at = servers.iter().position(|it| it.address() == hint.endpoint).unwrap_or(at);
        }
    }
}

#[tokio::test]
async fn who_reads_while_the_partition_moves_is_given_each_record_once_and_in_order() {
    let cluster = Cluster::of(5, &[]).await;
    topic_on(&cluster, TOPIC, &[1, 2], &[]).await;
    let client = Client::connect(ClientConfig::new(cluster.addresses())).await.unwrap();
    let load = Load::start(&cluster).await;
    load.goes_on().await;
    let mut readings = vec![
        Reading::start("consumer", |given| consume(client.clone(), given)),
        Reading::start("reader", |given| read(client.clone(), given)),
    ];
    // The one leads at first; the other has never had it.
    for node in [1, 3] {
        let (one, two) = (cluster.server(node).await, cluster.server(node).await);
        readings.push(Reading::start("tail", |given| tail(one, given)));
        readings.push(Reading::start("subscriber", |given| subscribe(two, given)));
    }
    for at in [0, 2] {
        let mut servers = Vec::new();
        for node in cluster.ids() {
            servers.push(cluster.server(node).await);
        }
        readings.push(Reading::start("fetch stream", |given| fetch(servers, at, given)));
    }
    for target in [&[4, 5][..], &[1, 2], &[5, 4]] {
        for reading in &mut readings {
            reading.has(load.count()).await;
        }
        begin(&cluster, 3, target).await;
        complete(&cluster, target).await;
        load.goes_on().await;
    }
    let count = load.count();
    for reading in &mut readings {
        reading.has(count).await;
    }
    load.nothing_is_lost(&cluster).await;
}
