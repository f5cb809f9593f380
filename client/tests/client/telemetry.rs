//! What a recorder of metrics is told.

use crate::consumer::{LONG, config, p};
use crate::fake::{Cluster, Fault};
use crate::producer::{offsets, send};
use metrics_exporter_prometheus::PrometheusBuilder;
use troupe_client::telemetry::CLIENT_METRICS;
use troupe_client::{ConsumerConfig, ProducerConfig};
use troupe_proto::error::ErrorCode;

#[tokio::test]
async fn a_recorder_is_told_what_producers_and_consumers_do() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let told = recorder.handle();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let (cluster, client) = Cluster::with_topic(1).await;
    cluster.fault([Fault::Refuse(ErrorCode::NotLeader)]);
    let named = ProducerConfig { client_id: "till-3".to_owned(), ..ProducerConfig::default() };
    let producer = client.producer(named).await.unwrap();
    offsets(send(&producer, 0..100).await).await;
    let named = ConsumerConfig { client_id: "office".to_owned(), ..config() };
    let mut consumer = client.consumer(named).unwrap();
    consumer.assign([p(0)]).unwrap();
    let mut read = 0;
    while read < 100 {
        read += consumer.poll(LONG).await.unwrap().len();
    }
    consumer.close(LONG).await.unwrap();

    let told = told.render();
    let says = |line: &str| assert!(told.lines().any(|it| it == line), "{line}\n{told}");
    says("troupe_producer_record_send_total{client_id=\"till-3\"} 100");
    says("troupe_producer_record_error_total{client_id=\"till-3\"} 0");
    says("troupe_producer_buffer_available_bytes{client_id=\"till-3\"} 33554432");
    says("troupe_producer_buffer_total_bytes{client_id=\"till-3\"} 33554432");
    says("troupe_consumer_records_consumed_total{client_id=\"office\",group=\"g\"} 100");
    says("troupe_consumer_records_lag{client_id=\"office\",group=\"g\"} 0");
    let value = |name: &str| {
        let line = told.lines().find(|it| it.starts_with(name)).unwrap_or_else(|| panic!("{name}"));
        line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    assert!(value("troupe_producer_request_total") >= 2.0, "one was refused");
    assert!(value("troupe_producer_record_retry_total") >= 1.0);
    assert!(value("troupe_producer_request_latency_seconds_count") >= 2.0);
    assert!(value("troupe_producer_batch_size_bytes_sum") >= 1.0);
    for metric in CLIENT_METRICS {
        assert!(told.contains(&format!("# HELP {} {}", metric.name, metric.about)), "{told}");
    }
}
