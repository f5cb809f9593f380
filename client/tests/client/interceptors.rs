//! P10: code of the application's that sees what is sent and what is read.

use crate::consumer::{LONG, config, p};
use crate::fake::{Cluster, Fault};
use crate::producer::record;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use troupe_client::formats::{BoxError, Int32, RecordField, Text};
use troupe_client::{
    Acknowledgement, ClientError, ConsumerInterceptor, ConsumerRecord, OffsetAndMetadata,
    ProducerConfig, ProducerInterceptor, ProducerRecord, Record, TopicPartition, TrySendError,
    TypedProducerRecord,
};
use troupe_proto::error::ErrorCode;

/// What happened, in order.
#[derive(Clone, Debug, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn note(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// Adds its name to each record, and panics where it is told to, after it has begun.
#[derive(Debug)]
struct Signs {
    name: &'static str,
    panics: bool,
    seen: Seen,
}

impl ProducerInterceptor for Signs {
    fn on_send(&self, record: &mut ProducerRecord) {
        record.headers.push((self.name.to_owned(), None));
        if self.panics {
            panic!("as the test wants");
        }
    }

    fn on_acknowledgement(&self, acknowledgement: &Acknowledgement<'_>) {
        let Acknowledgement { topic, partition, headers, result, .. } = *acknowledgement;
        let signed: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
        let partition = partition.map(|partition| partition.0);
        let result = match result {
            Ok(placed) => format!("at {}", placed.offset.unwrap()),
            Err(error) => format!("{:?}", error.reason()),
        };
        self.seen.note(format!("{}: {topic} {partition:?} {signed:?} {result}", self.name));
        if self.panics {
            panic!("as the test wants");
        }
    }
}

fn signing(names: &[(&'static str, bool)], seen: &Seen) -> ProducerConfig {
    let signs = names.iter().map(|&(name, panics)| Signs { name, panics, seen: seen.clone() });
    ProducerConfig {
        batch_size: 0,
        linger: Duration::ZERO,
        interceptors: signs.map(|it| Arc::new(it) as Arc<dyn ProducerInterceptor>).collect(),
        ..ProducerConfig::default()
    }
}

async fn headers(client: &troupe_client::Client) -> Vec<Vec<String>> {
    let mut consumer = client.consumer(config()).unwrap();
    consumer.assign([p(0)]).unwrap();
    let records = consumer.poll(LONG).await.unwrap();
    let names = |record: ConsumerRecord| record.headers.into_iter().map(|(name, _)| name).collect();
    records.into_iter().map(names).collect()
}

#[tokio::test]
async fn interceptors_run_in_order_and_one_that_panics_harms_nobody() {
    let (_cluster, client) = Cluster::with_topic(1).await;
    let seen = Seen::default();
    let config = signing(&[("a", false), ("b", true), ("c", false)], &seen);
    let producer = client.producer(config).await.unwrap();
    producer.send(record(0)).await.unwrap().await.unwrap();
    let topic = producer.topic("t").await.unwrap();
    topic.send(Record::value(b"1")).await.unwrap().await.unwrap();
    topic.try_send(Record::value(b"2")).unwrap().await.unwrap();
    let told = |offset| {
        ["a", "b", "c"].map(|name| format!("{name}: t Some(0) [\"a\", \"c\"] at {offset}"))
    };
    assert_eq!(seen.take(), (0..3).flat_map(told).collect::<Vec<_>>());
    assert_eq!(headers(&client).await, [["a", "c"]; 3]);
}

#[tokio::test]
async fn acknowledgements_come_before_callbacks_and_tell_of_failures_too() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let seen = Seen::default();
    let config = ProducerConfig { max_request_size: 1000, ..signing(&[("a", false)], &seen) };
    let producer = client.producer(config).await.unwrap();
    cluster.fault([Fault::Refuse(ErrorCode::InvalidRecord)]);
    let (called, callback) = tokio::sync::oneshot::channel();
    let later = seen.clone();
    let callback_of_application = move |result: Result<_, ClientError>| {
        later.note(format!("callback {:?}", result.unwrap_err().reason()));
        called.send(()).unwrap();
    };
    producer.send_with(record(0), callback_of_application).await.unwrap();
    callback.await.unwrap();
    assert_eq!(seen.take(), ["a: t Some(0) [\"a\"] InvalidRecord", "callback InvalidRecord"]);
    let large = vec![0; 2000];
    producer.send(ProducerRecord::new("t").value(large.clone())).await.map(drop).unwrap_err();
    let topic = producer.topic("t").await.unwrap();
    let refused = topic.try_send(Record::value(&large)).map(drop).unwrap_err();
    assert!(matches!(refused, TrySendError::Failed(ClientError::RecordTooLarge { .. })));
    assert_eq!(seen.take(), ["a: t None [\"a\"] RecordTooLarge"; 2]);
}

/// Panics for everything.
struct Bad;

impl ConsumerInterceptor for Bad {
    fn on_consume(&self, _: Vec<ConsumerRecord>) -> Vec<ConsumerRecord> {
        panic!("as the test wants")
    }

    fn on_commit(&self, _: &BTreeMap<TopicPartition, OffsetAndMetadata>) {
        panic!("as the test wants")
    }
}

struct Notes(Seen);

impl ConsumerInterceptor for Notes {
    fn on_consume(&self, records: Vec<ConsumerRecord>) -> Vec<ConsumerRecord> {
        self.0.note(format!("{} records", records.len()));
        records
    }

    fn on_commit(&self, offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>) {
        self.0.note(format!("committed {}", offsets[&p(0)].offset));
    }
}

#[tokio::test]
async fn a_consumer_s_interceptor_that_panics_harms_nobody() {
    let (_cluster, client) = Cluster::with_topic(1).await;
    let producer = client.producer(ProducerConfig::default()).await.unwrap();
    producer.send(record(0)).await.unwrap().await.unwrap();
    let mut consumer = client.consumer(config()).unwrap();
    let seen = Seen::default();
    consumer.add_interceptor(Arc::new(Bad));
    consumer.add_interceptor(Arc::new(Notes(seen.clone())));
    consumer.assign([p(0)]).unwrap();
    assert_eq!(consumer.poll(LONG).await.unwrap().len(), 1);
    consumer.commit_sync().await.unwrap();
    consumer.close(LONG).await.unwrap();
    assert_eq!(seen.take()[..2], ["1 records", "committed 1"]);
}

/// A typed consumer reads what a typed producer writes; and who cannot write a record is told which part of it.
#[tokio::test]
async fn typed_records_are_written_and_read_and_errors_name_the_field() {
    let (_cluster, client) = Cluster::with_topic(1).await;
    let producer = client.producer(ProducerConfig::default()).await.unwrap();
    let typed = producer.typed(Int32, Text);
    let record = TypedProducerRecord::new("t").key(7).value("seven").header("h", "v");
    typed.send(record).await.unwrap().await.unwrap();
    let tombstone = TypedProducerRecord { value: None::<&str>, ..TypedProducerRecord::new("t") };
    typed.send(tombstone.key(8)).await.unwrap().await.unwrap();
    let mut consumer = client.consumer(config()).unwrap();
    consumer.assign([p(0)]).unwrap();
    let mut consumer = consumer.typed(Int32, Text);
    let mut read = Vec::new();
    while read.len() < 2 {
        let records = consumer.poll(LONG).await.unwrap();
        read.extend(records.into_iter().map(|record| (record.key, record.value)));
    }
    assert_eq!(read, [(Some(7), Some("seven".to_owned())), (Some(8), None)]);

    let odd = |_: &str, value: &u32| -> Result<bytes::Bytes, BoxError> {
        if value % 2 == 1 { Ok("odd".into()) } else { Err("even".into()) }
    };
    let typed = producer.typed(odd, odd);
    let send = async |key, value| {
        let record = TypedProducerRecord::new("orders").key(key).value(value);
        typed.send(record).await.map(drop).unwrap_err()
    };
    for (key, value, field) in [(2, 1, RecordField::Key), (1, 2, RecordField::Value)] {
        let error = send(key, value).await;
        let of = |topic: &str| {
            format!("the {field} of a record for topic {topic} cannot be serialised: even")
        };
        assert_eq!(error.to_string(), of("orders"));
        assert!(error.surely_not_done() && !error.is_retriable());
    }
}
