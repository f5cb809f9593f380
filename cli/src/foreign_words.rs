//! What people type who come from Kafka, or from other tools, and what it is called here.
//!
//! Names of tools are told without `kafka-` and `.sh`.

/// What has another name here, and what is not there.
const COMMANDS: &[(&[&str], &str)] = &[
    (
        &["acl", "acls", "delegation-tokens", "user", "users", "auth"],
        "not there yet: anybody who reaches a node may do anything",
    ),
    (&["quota", "quotas", "client-quotas"], "not there yet: no client has a quota"),
    (&["share-groups", "share-consumer-perf-test"], "not there yet: groups share by partitions"),
    (
        &["streams-groups", "streams", "connect", "ksql", "schema", "registry"],
        "that is not part of it",
    ),
    (
        &["configs", "settings"],
        "settings stand where they belong: `troupe topic alter`, `troupe cluster config`, `troupe node config`",
    ),
    (
        &["top", "monitor", "metrics", "status", "stat", "stats", "jmx"],
        "`troupe cluster health`; again and again: `troupe group lag --watch`, `troupe partition list --watch`; \
         /metrics on each node's HTTP listener",
    ),
    (&["ls", "list"], "`troupe topic list`, `troupe group list` or `troupe node list`"),
    (&["rm", "remove"], "`troupe topic delete`, `troupe group delete` or `troupe node remove`"),
    (&["console-producer", "pub", "publish", "send", "write"], "`troupe produce TOPIC`"),
    (&["console-consumer", "sub", "subscribe", "read", "tail", "cat"], "`troupe consume TOPIC`"),
    (&["leader-election", "preferred-replica-election"], "`troupe partition elect`"),
    (&["delete-records"], "`troupe topic purge`"),
    (&["get-offsets"], "`troupe topic offsets`"),
    (&["dump-log"], "`troupe log dump`"),
    (&["log-dirs"], "`troupe node logdirs`"),
    (&["producer-perf-test", "verifiable-producer"], "`troupe bench produce`"),
    (&["consumer-perf-test", "verifiable-consumer"], "`troupe bench consume`"),
    (&["e2e-latency", "end-to-end-latency"], "`troupe bench e2e`"),
    (&["mirror-maker", "mirror", "replicate"], "`troupe topic copy --follow`"),
    (
        &["metadata-quorum", "controller", "controllers", "features", "broker-api-versions"],
        "`troupe cluster info`",
    ),
    (&["metadata-shell"], "`troupe log dump` reads the metadata log too"),
    (&["cluster-id"], "`troupe cluster info`"),
    (&["server-start", "start", "run"], "`troupe serve`, or `troupe dev` to try things out"),
    (&["server-stop"], "`troupe stop`"),
    (
        &["zookeeper", "zookeeper-shell", "zookeeper-server-start"],
        "there is none: nodes agree among themselves",
    ),
    (&["shell", "repl"], "there is none; `troupe completion SHELL` completes names"),
];

/// Options of Kafka's tools that have another name here, wherever they are typed.
const OPTIONS: &[(&[&str], &str)] = &[
    (&["zookeeper"], "use --server HOST:PORT"),
    (&["broker-list", "brokers"], "use --server HOST:PORT"),
    (
        &["topic"],
        "the topic is a word of its own: `troupe produce orders`, `troupe topic describe orders`",
    ),
    (&["group"], "the group is a word of its own: `troupe group describe billing`"),
    (
        &["partitions", "partition"],
        "as orders:0,2, or -p; more partitions: `troupe topic alter TOPIC --partitions N`",
    ),
    (&["list"], "use `list` without hyphens"),
    (&["describe"], "use `describe` without hyphens"),
    (&["create"], "use `create` without hyphens"),
    (&["alter"], "use `alter` without hyphens"),
    (&["delete"], "use `delete` without hyphens"),
    (&["add-config"], "use --set KEY=VALUE, or `set KEY=VALUE`"),
    (&["delete-config"], "use --unset KEY, or `unset KEY`"),
    (&["config"], "use --set KEY=VALUE"),
    (
        &["entity-type", "entity-name", "entity-default", "broker-defaults"],
        "use `troupe topic alter`, `troupe cluster config` or `troupe node config ID`",
    ),
    (
        &[
            "property",
            "producer-property",
            "consumer-property",
            "command-property",
            "formatter-property",
        ],
        "each setting is an option of its own: see --help",
    ),
    (
        &["command-config", "producer.config", "consumer.config", "producer-props", "config-file"],
        "there are no files of client settings: each is an option of its own, see --help",
    ),
    (&["reset-offsets"], "use `troupe group reset GROUP --to …`"),
    (&["to-earliest"], "use --to earliest"),
    (&["to-latest"], "use --to latest"),
    (&["to-offset"], "use --to =OFFSET"),
    (&["to-datetime"], "use --to @TIME"),
    (&["by-duration"], "use --to -1h"),
    (&["shift-by"], "use --to +N or --to -N"),
    (&["execute"], "it is done unless --dry-run is given; --yes does not ask"),
    (&["verify"], "use `verify` without hyphens"),
    (&["all-groups"], "use --all"),
    (&["all-topics"], "it is so unless --topics is given"),
    (&["delete-offsets"], "use `troupe group delete GROUP --offsets --topic TOPIC`"),
    (&["offsets"], "that is what `describe` shows by itself"),
    (
        &["under-replicated-partitions", "unavailable-partitions", "under-min-isr-partitions"],
        "use `troupe partition list --under-replicated`, `--offline` or `--under-min-isr`",
    ),
    (&["throughput"], "use --rate N"),
    (
        &["num-records", "record-size", "messages"],
        "use --records N and --size BYTES of `troupe bench`",
    ),
    (&["timeout-ms"], "use --until-end"),
    (&["skip-message-on-error", "enable-systest-events"], "there is no such thing here"),
    (&["value-deserializer", "key-deserializer", "formatter"], "use -f FORMAT, or --decode KIND"),
    (&["isolation-level"], "use --isolation LEVEL"),
    (&["request-required-acks"], "use --acks"),
    (&["compression-codec"], "use --compression"),
    (&["sync"], "use --acks all, which is the default"),
    (&["offset-json-file"], "use `troupe topic purge TOPIC:PARTITION --before OFFSET`"),
    (&["json"], "use -o json"),
];

/// What a command is called here.
pub fn command(word: &str) -> Option<&'static str> {
    let word = word.strip_suffix(".sh").unwrap_or(word);
    let word = word.strip_prefix("kafka-").unwrap_or(word);
    find(COMMANDS, word)
}

/// The name of one of Kafka's tools without what is around it: `kafka-topics.sh`.
pub fn tool(word: &str) -> Option<&str> {
    word.strip_suffix(".sh").unwrap_or(word).strip_prefix("kafka-")
}

/// What an option is called here, without its hyphens.
pub fn option(name: &str) -> Option<&'static str> {
    find(OPTIONS, name)
}

fn find(table: &'static [(&[&str], &'static str)], word: &str) -> Option<&'static str> {
    table.iter().find(|(words, _)| words.contains(&word)).map(|(_, answer)| *answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_answered_once() {
        for table in [COMMANDS, OPTIONS] {
            let mut words: Vec<&str> =
                table.iter().flat_map(|(words, _)| *words).copied().collect();
            let all = words.len();
            words.sort_unstable();
            words.dedup();
            assert_eq!(words.len(), all);
        }
    }

    #[test]
    fn names_of_tools_are_known_with_what_is_around_them() {
        assert_eq!(command("kafka-console-producer.sh"), Some("`troupe produce TOPIC`"));
        assert_eq!(command("dump-log"), Some("`troupe log dump`"));
        assert_eq!(tool("kafka-topics.sh"), Some("topics"));
        assert_eq!(tool("orders.sh"), None);
        assert_eq!(command("orders"), None);
    }
}
