//! Settings of clients as Kafka's tools are given them: files of properties, and `key=value` on the command line.
//!
//! Promises: what is known is done; what is not known, or does not apply here, is told by name on standard error; what would
//! make a connection less safe than it was meant to be is refused.

use super::ended::Ended;
use crate::streams::notice;
use std::time::Duration;
use troupe_client::{AutoOffsetReset, ConsumerConfig, ProducerConfig};

/// Settings, later ones in front of earlier ones.
#[derive(Clone, Debug, Default)]
pub struct Properties(Vec<(String, String)>);

impl Properties {
    /// From a file, if one is named.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(path: Option<&str>) -> Result<Properties, Ended> {
        let Some(path) = path else { return Ok(Properties::default()) };
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Properties(parse(&text))),
            Err(_) => Err(Ended::err(format_args!(
                "java.nio.file.NoSuchFileException: {path} (it cannot be read)"
            ))),
        }
    }

    /// And these, of the form `key=value`.
    ///
    /// # Errors
    /// One is not of that form.
    pub fn and(mut self, pairs: &[&str]) -> Result<Properties, Ended> {
        for pair in pairs {
            match pair.split_once('=') {
                Some((key, value)) => self.0.push((key.trim().to_owned(), value.to_owned())),
                None => {
                    return Err(Ended::err(format_args!(
                        "Invalid command line properties: {pair}"
                    )));
                }
            }
        }
        Ok(self)
    }

    /// All of them, as they were given.
    pub fn pairs(&self) -> Vec<(String, String)> {
        self.0.clone()
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// # Errors
    /// It is none of the kind.
    pub fn parsed<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, Ended> {
        let parse = |text: &str| {
            let wrong = || {
                Ended::err(format_args!(
                    "org.apache.kafka.common.config.ConfigException: Invalid value {text} for configuration {key}"
                ))
            };
            text.trim().parse().map_err(|_| wrong())
        };
        self.get(key).map(parse).transpose()
    }

    pub fn duration(&self, key: &str) -> Result<Option<Duration>, Ended> {
        Ok(self.parsed::<u64>(key)?.map(Duration::from_millis))
    }

    /// # Errors
    /// Who connects is to be proved, or the connection encrypted: neither is there.
    pub fn check_security(&self) -> Result<(), Ended> {
        let asked =
            self.get("security.protocol").filter(|it| !it.eq_ignore_ascii_case("PLAINTEXT"));
        match asked {
            Some(protocol) => Err(Ended::cannot(
                &format!("security.protocol={protocol}"),
                "connections are not encrypted and nobody is asked who they are; leave it out, and let only those reach \
                 the nodes who may",
            )),
            None => Ok(()),
        }
    }

    /// Says of each that none of `known` is that it has no effect.
    fn tell_unknown(&self, known: &[&str]) {
        for (key, _) in &self.0 {
            let is_known = known.contains(&key.as_str()) || EVERYWHERE.contains(&key.as_str());
            if !is_known {
                notice!("WARN: {key} has no effect here");
            }
        }
    }

    /// # Errors
    /// A value makes no sense.
    pub fn producer(&self, config: &mut ProducerConfig) -> Result<(), Ended> {
        self.check_security()?;
        self.tell_unknown(PRODUCER);
        let wrong = |error: &dyn std::fmt::Display| Ended::err(error);
        if let Some(acks) = self.get("acks") {
            config.acks = acks.parse().map_err(|error| wrong(&error))?;
        }
        if let Some(codec) = self.get("compression.type") {
            config.compression = codec.parse().map_err(|error| wrong(&error))?;
        }
        if let Some(id) = self.get("client.id") {
            id.clone_into(&mut config.client_id);
        }
        if let Some(id) = self.get("transactional.id") {
            config.transactional_id = Some(id.to_owned());
        }
        if let Some(on) = self.parsed("enable.idempotence")? {
            config.enable_idempotence = Some(on);
        }
        set(&mut config.batch_size, self.parsed("batch.size")?);
        set(&mut config.linger, self.duration("linger.ms")?);
        set(&mut config.buffer_memory, self.parsed("buffer.memory")?);
        set(&mut config.max_block, self.duration("max.block.ms")?);
        set(&mut config.max_request_size, self.parsed("max.request.size")?);
        set(&mut config.max_in_flight, self.parsed("max.in.flight.requests.per.connection")?);
        set(&mut config.retries, self.parsed("retries")?);
        set(&mut config.delivery_timeout, self.duration("delivery.timeout.ms")?);
        set(&mut config.request_timeout, self.duration("request.timeout.ms")?);
        set(&mut config.retry_backoff, self.duration("retry.backoff.ms")?);
        set(&mut config.retry_backoff_max, self.duration("retry.backoff.max.ms")?);
        set(&mut config.transaction_timeout, self.duration("transaction.timeout.ms")?);
        config.max_request_size = config.max_request_size.max(config.batch_size);
        Ok(())
    }

    /// # Errors
    /// A value makes no sense.
    pub fn consumer(&self, config: &mut ConsumerConfig) -> Result<(), Ended> {
        self.check_security()?;
        self.tell_unknown(CONSUMER);
        if let Some(reset) = self.get("auto.offset.reset") {
            config.auto_offset_reset = reset.parse::<AutoOffsetReset>().map_err(Ended::err)?;
        }
        if let Some(level) = self.get("isolation.level") {
            config.isolation_level = level.parse().map_err(Ended::err)?;
        }
        if let Some(id) = self.get("client.id") {
            id.clone_into(&mut config.client_id);
        }
        if let Some(id) = self.get("group.instance.id") {
            config.group_instance_id = Some(id.to_owned());
        }
        if let Some(rack) = self.get("client.rack") {
            rack.clone_into(&mut config.client_rack);
        }
        if let Some(timeout) = self.duration("session.timeout.ms")? {
            config.session_timeout = Some(timeout);
        }
        set(&mut config.enable_auto_commit, self.parsed("enable.auto.commit")?);
        set(&mut config.auto_commit_interval, self.duration("auto.commit.interval.ms")?);
        set(&mut config.max_poll_records, self.parsed("max.poll.records")?);
        set(&mut config.max_poll_interval, self.duration("max.poll.interval.ms")?);
        set(&mut config.fetch_min_bytes, self.parsed("fetch.min.bytes")?);
        set(&mut config.fetch_max_wait, self.duration("fetch.max.wait.ms")?);
        set(&mut config.fetch_max_bytes, self.parsed("fetch.max.bytes")?);
        set(&mut config.max_partition_fetch_bytes, self.parsed("max.partition.fetch.bytes")?);
        set(&mut config.check_crcs, self.parsed("check.crcs")?);
        set(&mut config.allow_auto_create_topics, self.parsed("allow.auto.create.topics")?);
        Ok(())
    }
}

fn set<T>(field: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *field = given;
    }
}

/// What is looked at elsewhere, or says what is so anyway.
const EVERYWHERE: &[&str] = &[
    "bootstrap.servers",
    "security.protocol",
    "client.id",
    "group.id",
    "key.serializer",
    "value.serializer",
    "key.deserializer",
    "value.deserializer",
    "group.protocol",
];

const PRODUCER: &[&str] = &[
    "acks",
    "compression.type",
    "transactional.id",
    "enable.idempotence",
    "batch.size",
    "linger.ms",
    "buffer.memory",
    "max.block.ms",
    "max.request.size",
    "max.in.flight.requests.per.connection",
    "retries",
    "delivery.timeout.ms",
    "request.timeout.ms",
    "retry.backoff.ms",
    "retry.backoff.max.ms",
    "transaction.timeout.ms",
];

const CONSUMER: &[&str] = &[
    "auto.offset.reset",
    "isolation.level",
    "group.instance.id",
    "client.rack",
    "session.timeout.ms",
    "enable.auto.commit",
    "auto.commit.interval.ms",
    "max.poll.records",
    "max.poll.interval.ms",
    "fetch.min.bytes",
    "fetch.max.wait.ms",
    "fetch.max.bytes",
    "max.partition.fetch.bytes",
    "check.crcs",
    "allow.auto.create.topics",
];

/// Lines of `key=value` or `key: value`; `#` and `!` begin remarks, a backslash at the end goes on.
fn parse(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut whole = line.to_owned();
        while whole.ends_with('\\') {
            whole.pop();
            match lines.next() {
                Some(more) => whole += more.trim_start(),
                None => break,
            }
        }
        let (key, value) = whole.split_once(['=', ':']).unwrap_or((&whole, ""));
        found.push((key.trim().to_owned(), value.trim().to_owned()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_pairs_are_read_and_later_ones_count() {
        let text = "# a remark\nacks=1\n linger.ms = 20\\\n00\nclient.id: me\n\n!no\n";
        let properties = Properties(parse(text)).and(&["acks=all"]).unwrap();
        assert_eq!(properties.get("acks"), Some("all"));
        let mut config = ProducerConfig::default();
        properties.producer(&mut config).unwrap();
        assert_eq!(config.linger, Duration::from_secs(2));
        assert_eq!(config.client_id, "me");
        assert!(Properties::default().and(&["acks"]).is_err());
        let wrong = Properties::default().and(&["linger.ms=soon"]).unwrap();
        assert!(wrong.producer(&mut config).is_err());
    }

    #[test]
    fn what_was_meant_to_be_safe_is_refused() {
        let safe = Properties::default().and(&["security.protocol=SASL_SSL"]).unwrap();
        assert!(safe.check_security().unwrap_err().notices.contains("not encrypted"));
        let plain = Properties::default().and(&["security.protocol=PLAINTEXT"]).unwrap();
        assert!(plain.check_security().is_ok());
    }
}
