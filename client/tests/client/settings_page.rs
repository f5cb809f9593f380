//! `docs/sdk.md` says what is so: what becomes of each of Kafka's settings, with the defaults as they are, and what is told
//! to recorders of metrics.
//!
//! `kafka-4.1-settings.tsv` is what `ProducerConfig.configDef()` and `ConsumerConfig.configDef()` of kafka-clients 4.1.0 say,
//! without what they mark as internal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;
use troupe_client::telemetry::{CLIENT_METRICS, MetricKind};
use troupe_client::{ClientConfig, ConsumerConfig, ProducerConfig};

const KAFKA: &str = include_str!("kafka-4.1-settings.tsv");

/// One of Kafka's settings, or all that begin so (`ssl.*`).
struct Row {
    kafka: &'static str,
    /// Empty: none.
    ours: &'static str,
    /// In Kafka's units.
    default: String,
    why: &'static str,
}

fn row(kafka: &'static str, ours: &'static str, default: impl ToString, why: &'static str) -> Row {
    Row { kafka, ours, default: default.to_string(), why }
}

fn none(kafka: &'static str, why: &'static str) -> Row {
    row(kafka, "", "", why)
}

fn ms(duration: Duration) -> u128 {
    duration.as_millis()
}

/// Of both, and for us the client's.
fn shared() -> Vec<Row> {
    let client = ClientConfig::default();
    vec![
        row(
            "bootstrap.servers",
            "ClientConfig::servers",
            client.servers.join(","),
            "A node on this machine, for the first try.",
        ),
        none(
            "client.dns.lookup",
            "Each address of a name is tried in turn, which is what Kafka's default means.",
        ),
        none(
            "connections.max.idle.ms",
            "Connections are kept: `ClientConfig::keepalive_interval` (10 s) and `control_keepalive_interval` (1 s) find those that are broken.",
        ),
        none(
            "enable.metrics.push",
            "Metrics go to the application's recorder, see below, not to brokers.",
        ),
        row(
            "metadata.max.age.ms",
            "ClientConfig::metadata_max_age",
            ms(client.metadata_max_age),
            "Changes are pushed; this is for nodes that do not push, and how long a follower in one's rack is read from at a time.",
        ),
        none(
            "metadata.recovery.strategy",
            "As `rebootstrap`: when no node that was learned is alive, `servers` are asked again.",
        ),
        none(
            "metadata.recovery.rebootstrap.trigger.ms",
            "At once, see `metadata.recovery.strategy`.",
        ),
        none(
            "metric.reporters",
            "Whatever recorder of the `metrics` crate the application installs, see below.",
        ),
        none(
            "metrics.*",
            "Counters and histograms, without samples and windows; the recorder decides.",
        ),
        none("receive.buffer.bytes", "The system sizes it; HTTP/2's window of a stream is 8 MiB."),
        none("send.buffer.bytes", "The system sizes it."),
        none(
            "reconnect.backoff.ms",
            "Metadata is asked of the next node at once; a produce stream is opened again with `retry_backoff`, a fetch stream after 20 ms.",
        ),
        none(
            "reconnect.backoff.max.ms",
            "As `reconnect.backoff.ms`: up to `retry_backoff_max`, and 1 s.",
        ),
        none("sasl.*", "Connections are not authenticated yet."),
        none("security.*", "Connections are neither encrypted nor authenticated yet."),
        row(
            "socket.connection.setup.timeout.ms",
            "ClientConfig::connect_timeout",
            ms(client.connect_timeout),
            "Another node answers sooner.",
        ),
        none("socket.connection.setup.timeout.max.ms", "Each attempt has the same time."),
        none("ssl.*", "Connections are not encrypted yet."),
    ]
}

fn producer() -> Vec<Row> {
    let (client, config) = (ClientConfig::default(), ProducerConfig::default());
    let partitioner = &config.partitioner;
    let mut rows = vec![
        row("acks", "acks", config.acks, ""),
        row(
            "batch.size",
            "batch_size",
            config.batch_size,
            "A batch's buffer grows with what is in it and `linger` bounds how long it waits, so an idle producer pays nothing; a busy one sends a sixteenth of the messages.",
        ),
        row("buffer.memory", "buffer_memory", config.buffer_memory, ""),
        row("client.id", "client_id", &config.client_id, ""),
        row("compression.type", "compression", config.compression, ""),
        row(
            "compression.gzip.level",
            "compression_level",
            6,
            "One setting for all codecs, with Kafka's ranges. -1 is 6.",
        ),
        row("compression.lz4.level", "compression_level", 9, ""),
        row(
            "compression.zstd.level",
            "compression_level",
            1,
            "Twice the speed for a few per cent of size, and it is the producer that pays.",
        ),
        row("delivery.timeout.ms", "delivery_timeout", ms(config.delivery_timeout), ""),
        row(
            "enable.idempotence",
            "enable_idempotence",
            config.enable_idempotence.unwrap_or(true),
            "",
        ),
        row("interceptor.classes", "interceptors", format!("{:?}", config.interceptors), ""),
        row(
            "key.serializer",
            "Producer::typed",
            "bytes",
            "Typed producers are made of any producer; see `formats`.",
        ),
        row("value.serializer", "Producer::typed", "bytes", "As `key.serializer`."),
        row("linger.ms", "linger", ms(config.linger), ""),
        row("max.block.ms", "max_block", ms(config.max_block), ""),
        row(
            "max.in.flight.requests.per.connection",
            "max_in_flight, max_in_flight_per_node",
            config.max_in_flight,
            "`max_in_flight` counts batches of one partition, so that a partition that waits for its followers does not hold up all others of its leader; `max_in_flight_per_node` counts requests of a node as Kafka does, and is unset.",
        ),
        row("max.request.size", "max_request_size", config.max_request_size, ""),
        row(
            "metadata.max.idle.ms",
            "ClientConfig::metadata_max_idle",
            ms(client.metadata_max_idle),
            "",
        ),
        row(
            "partitioner.adaptive.partitioning.enable",
            "partitioner.adaptive",
            partitioner.adaptive,
            "",
        ),
        row(
            "partitioner.availability.timeout.ms",
            "partitioner.availability_timeout",
            ms(partitioner.availability_timeout),
            "",
        ),
        row(
            "partitioner.class",
            "partitioner.custom",
            if partitioner.custom.is_none() { "null" } else { "" },
            "",
        ),
        row("partitioner.ignore.keys", "partitioner.ignore_keys", partitioner.ignore_keys, ""),
        row(
            "request.timeout.ms",
            "request_timeout, ClientConfig::request_timeout",
            ms(config.request_timeout),
            "",
        ),
        row("retries", "retries", config.retries, ""),
        row("retry.backoff.ms", "retry_backoff", ms(config.retry_backoff), ""),
        row("retry.backoff.max.ms", "retry_backoff_max", ms(config.retry_backoff_max), ""),
        row("transaction.timeout.ms", "transaction_timeout", ms(config.transaction_timeout), ""),
        none(
            "transaction.two.phase.commit.enable",
            "Transactions are never prepared for another coordinator.",
        ),
        row(
            "transactional.id",
            "transactional_id",
            config.transactional_id.as_deref().unwrap_or("null"),
            "",
        ),
    ];
    rows.extend(shared());
    rows
}

fn consumer() -> Vec<Row> {
    let (client, config) = (ClientConfig::default(), ConsumerConfig::default());
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "null".to_owned());
    let mut rows = vec![
        row(
            "allow.auto.create.topics",
            "allow_auto_create_topics",
            config.allow_auto_create_topics,
            "",
        ),
        row("auto.commit.interval.ms", "auto_commit_interval", ms(config.auto_commit_interval), ""),
        row(
            "auto.offset.reset",
            "auto_offset_reset",
            format!("{:?}", config.auto_offset_reset).to_lowercase(),
            "",
        ),
        row("check.crcs", "check_crcs", config.check_crcs, ""),
        row(
            "client.id",
            "client_id",
            &config.client_id,
            "It begins the member's id, and names the consumer in metrics.",
        ),
        row("client.rack", "client_rack", &config.client_rack, ""),
        row("default.api.timeout.ms", "default_api_timeout", ms(config.default_api_timeout), ""),
        row("enable.auto.commit", "enable_auto_commit", config.enable_auto_commit, ""),
        row(
            "exclude.internal.topics",
            "exclude_internal_topics",
            config.exclude_internal_topics,
            "",
        ),
        row("fetch.max.bytes", "fetch_max_bytes", config.fetch_max_bytes, ""),
        row("fetch.max.wait.ms", "fetch_max_wait", ms(config.fetch_max_wait), ""),
        row("fetch.min.bytes", "fetch_min_bytes", config.fetch_min_bytes, ""),
        row("group.id", "group_id", "", "Empty: no group."),
        row("group.instance.id", "group_instance_id", text(&config.group_instance_id), ""),
        none(
            "group.protocol",
            "One protocol: the coordinator assigns, and moves only what has to move, as with Kafka's `consumer`.",
        ),
        none("group.remote.assignor", "`assignor` says it."),
        none("heartbeat.interval.ms", "The member's stream is its heartbeat."),
        row("interceptor.classes", "Consumer::add_interceptor", "[]", ""),
        row("isolation.level", "isolation_level", config.isolation_level, ""),
        row(
            "key.deserializer",
            "Consumer::typed",
            "bytes",
            "Typed consumers are made of any consumer; see `formats`.",
        ),
        row("value.deserializer", "Consumer::typed", "bytes", "As `key.deserializer`."),
        row(
            "max.partition.fetch.bytes",
            "max_partition_fetch_bytes",
            config.max_partition_fetch_bytes,
            "",
        ),
        row("max.poll.interval.ms", "max_poll_interval", ms(config.max_poll_interval), ""),
        row("max.poll.records", "max_poll_records", config.max_poll_records, ""),
        row(
            "partition.assignment.strategy",
            "assignor",
            config.assignor.map_or("cooperative-sticky".to_owned(), |it| it.to_string()),
            "Unset: the group's, and of a new group the one under which what stays never stops.",
        ),
        row("request.timeout.ms", "ClientConfig::request_timeout", ms(client.request_timeout), ""),
        none("retry.backoff.ms", "From 20 ms, doubling, with 20 % jitter."),
        none("retry.backoff.max.ms", "1 s."),
        row(
            "session.timeout.ms",
            "session_timeout",
            ms(config.session_timeout.unwrap_or(Duration::from_secs(5))),
            "A member that is gone is seen by its connection; this is for one that falls silent. Static members: 45000.",
        ),
        none(
            "share.acknowledgement.mode",
            "Records that are settled one by one are what `troupe.v1.EventBusService` has, without an SDK.",
        ),
    ];
    rows.extend(shared());
    rows
}

/// Name and default of each of Kafka's settings.
fn kafka(role: &str) -> BTreeMap<&'static str, &'static str> {
    let lines = KAFKA.lines().filter_map(|line| line.strip_prefix(role)?.strip_prefix('\t'));
    lines.filter_map(|line| line.split_once('\t')).collect()
}

impl Row {
    fn stands_for(&self, key: &str) -> bool {
        match self.kafka.strip_suffix('*') {
            Some(prefix) => key.starts_with(prefix),
            None => key == self.kafka,
        }
    }
}

fn of(role: &str) -> Vec<Row> {
    if role == "producer" { producer() } else { consumer() }
}

#[test]
fn each_of_kafka_s_settings_has_one_row_and_a_reason_where_it_differs() {
    for (role, count) in [("producer", 112), ("consumer", 113)] {
        let (kafka, rows) = (kafka(role), of(role));
        assert_eq!(kafka.len(), count, "{role}");
        for key in kafka.keys() {
            assert_eq!(rows.iter().filter(|row| row.stands_for(key)).count(), 1, "{role}: {key}");
        }
        for row in &rows {
            let default = kafka.iter().find(|(key, _)| row.stands_for(key));
            let (_, default) = default.unwrap_or_else(|| panic!("Kafka has no {}", row.kafka));
            let is_same = !row.ours.is_empty() && row.default == *default;
            assert!(is_same || !row.why.is_empty(), "{role} {}: why {}?", row.kafka, row.default);
        }
    }
}

/// The public fields of a struct of the crate's.
fn fields(source: &str, name: &str) -> BTreeSet<String> {
    let body = source.split_once(&format!("pub struct {name} {{\n")).unwrap().1;
    let body = body.split_once("\n}\n").unwrap().0;
    let fields = body.lines().filter_map(|line| line.strip_prefix("    pub ")?.split_once(':'));
    fields.map(|(field, _)| field.to_owned()).collect()
}

#[test]
fn each_setting_of_ours_is_on_the_page() {
    let page = std::fs::read_to_string(page()).unwrap();
    let said = |it: &str| page.contains(&format!("`{it}`")) || page.contains(&format!("`{it}."));
    for (source, name, prefix) in [
        (include_str!("../../src/producer/config.rs"), "ProducerConfig", ""),
        (include_str!("../../src/producer/partitioner.rs"), "PartitionerConfig", "partitioner."),
        (include_str!("../../src/consumer/config.rs"), "ConsumerConfig", ""),
        (include_str!("../../src/config.rs"), "ClientConfig", "ClientConfig::"),
    ] {
        let fields = fields(source, name);
        assert!(fields.len() > 3, "{name}: {fields:?}");
        let unsaid: Vec<_> =
            fields.iter().filter(|it| !said(it) && !said(&format!("{prefix}{it}"))).collect();
        assert!(unsaid.is_empty(), "docs/sdk.md says nothing of {name}'s {unsaid:?}");
    }
}

fn page() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/sdk.md")
}

fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}

fn tables() -> String {
    let mut tables = String::new();
    for role in ["producer", "consumer"] {
        let kafka = kafka(role);
        let _ = writeln!(
            tables,
            "\n### The {role}\n\n| Kafka | its default | here | default | why |\n|---|---|---|---|---|"
        );
        let mut rows = of(role);
        rows.sort_by_key(|row| row.kafka);
        for row in rows {
            let default = kafka.get(row.kafka).copied().unwrap_or_default();
            let default = default.replace("class org.apache.kafka.clients.consumer.", "");
            let default = default.replace("org.apache.kafka.common.metrics.", "");
            let ours: Vec<_> = row.ours.split(", ").map(code).collect();
            let ours = if row.ours.is_empty() { "–".to_owned() } else { ours.join(", ") };
            let (own, kafka) = (code(&row.default), code(&default));
            let _ =
                writeln!(tables, "| `{}` | {kafka} | {ours} | {own} | {} |", row.kafka, row.why);
        }
    }
    tables.push_str("\n## Metrics\n\n| name | kind | in Kafka | what it is |\n|---|---|---|---|\n");
    for metric in CLIENT_METRICS {
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let _ = writeln!(
            tables,
            "| `{}` | {kind} | `{}` | {} |",
            metric.name, metric.kafka, metric.about
        );
    }
    tables
}

#[test]
fn the_page_has_every_setting_and_metric_as_it_is() {
    let page = page();
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once("<!-- settings: ").unwrap();
    let (command, rest) = rest.split_once(" -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end of settings -->").unwrap();
    let expected = format!(
        "{before}<!-- settings: {command} -->\n{}\n<!-- end of settings -->{after}",
        tables()
    );
    if text != expected && std::env::var_os("TROUPE_BLESS").is_some() {
        std::fs::write(&page, &expected).unwrap();
        return;
    }
    assert_eq!(text, expected, "write it anew: {command}");
}
