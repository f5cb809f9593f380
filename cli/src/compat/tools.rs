//! The tools that there are, and what each is called here.

use super::ended::Ended;
use super::{
    api_versions, cluster, configs, console_consumer, console_producer, consumer_groups,
    consumer_perf, delete_records, dump_log, elections, end_to_end, features, get_offsets, groups,
    log_dirs, producer_perf, quorum, reassign, refused, server, storage, topics, transactions,
};

pub struct Tool {
    /// Without `.sh`.
    pub name: &'static str,
    /// What our own command is.
    pub ours: &'static str,
    /// Kafka's class, for kafka-run-class.
    pub class: &'static str,
    pub run: fn(&[String]) -> Result<(), Ended>,
}

impl Tool {
    /// Whether a node runs by it.
    pub fn is_node(&self) -> bool {
        self.name == "kafka-server-start"
    }
}

const fn tool(
    name: &'static str,
    ours: &'static str,
    class: &'static str,
    run: fn(&[String]) -> Result<(), Ended>,
) -> Tool {
    Tool { name, ours, class, run }
}

pub static TOOLS: &[Tool] = &[
    tool("kafka-topics", "troupe topic", "TopicCommand", topics::run),
    tool(
        "kafka-configs",
        "troupe topic alter, cluster config, node config",
        "ConfigCommand",
        configs::run,
    ),
    tool("kafka-console-producer", "troupe produce", "ConsoleProducer", console_producer::run),
    tool("kafka-console-consumer", "troupe consume", "ConsoleConsumer", console_consumer::run),
    tool("kafka-consumer-groups", "troupe group", "ConsumerGroupCommand", consumer_groups::run),
    tool("kafka-groups", "troupe group list", "GroupsCommand", groups::run),
    tool(
        "kafka-reassign-partitions",
        "troupe reassign",
        "ReassignPartitionsCommand",
        reassign::run,
    ),
    tool(
        "kafka-leader-election",
        "troupe partition elect",
        "LeaderElectionCommand",
        elections::run,
    ),
    tool("kafka-dump-log", "troupe log dump", "DumpLogSegments", dump_log::run),
    tool("kafka-delete-records", "troupe topic purge", "DeleteRecordsCommand", delete_records::run),
    tool("kafka-get-offsets", "troupe topic offsets", "GetOffsetShell", get_offsets::run),
    tool("kafka-log-dirs", "troupe node logdirs", "LogDirsCommand", log_dirs::run),
    tool("kafka-transactions", "troupe transaction", "TransactionsCommand", transactions::run),
    tool(
        "kafka-producer-perf-test",
        "troupe bench produce",
        "ProducerPerformance",
        producer_perf::run,
    ),
    tool(
        "kafka-consumer-perf-test",
        "troupe bench consume",
        "ConsumerPerformance",
        consumer_perf::run,
    ),
    tool("kafka-e2e-latency", "troupe bench e2e", "EndToEndLatency", end_to_end::run),
    tool("kafka-metadata-quorum", "troupe cluster info", "MetadataQuorumCommand", quorum::run),
    tool("kafka-storage", "troupe storage", "StorageTool", storage::run),
    tool("kafka-features", "troupe version", "FeatureCommand", features::run),
    tool("kafka-cluster", "troupe cluster info, node remove", "ClusterTool", cluster::run),
    tool(
        "kafka-broker-api-versions",
        "troupe node list",
        "BrokerApiVersionsCommand",
        api_versions::run,
    ),
    tool("kafka-server-start", "troupe serve", "Kafka", server::start),
    tool("kafka-server-stop", "troupe stop", "", server::stop),
    tool("kafka-run-class", "troupe compat", "", run_class),
    tool("kafka-acls", "-", "AclCommand", refused::acls),
    tool("kafka-delegation-tokens", "-", "DelegationTokenCommand", refused::tokens),
    tool("kafka-console-share-consumer", "-", "ConsoleShareConsumer", refused::share),
    tool("kafka-share-groups", "-", "ShareGroupCommand", refused::share),
    tool("kafka-streams-groups", "-", "StreamsGroupCommand", refused::streams),
    tool("kafka-client-metrics", "-", "ClientMetricsCommand", refused::client_metrics),
    tool(
        "kafka-replica-verification",
        "troupe log scrub",
        "ReplicaVerificationTool",
        refused::verification,
    ),
    tool("kafka-mirror-maker", "troupe topic copy --follow", "MirrorMaker", refused::mirror),
];

/// By its name, with or without `kafka-` and `.sh`.
pub fn find(name: &str) -> Option<&'static Tool> {
    let name = name.strip_suffix(".sh").unwrap_or(name);
    let is_it = |tool: &&Tool| tool.name == name || tool.name.strip_prefix("kafka-") == Some(name);
    TOOLS.iter().find(is_it)
}

/// `kafka-run-class kafka.tools.DumpLogSegments …`: the tool that has that class.
fn run_class(words: &[String]) -> Result<(), Ended> {
    let Some((class, words)) = words.split_first() else {
        return Err(Ended::err("USAGE: kafka-run-class [-daemon] classname [opts]"));
    };
    let simple = class.rsplit('.').next().unwrap_or(class);
    match TOOLS.iter().find(|tool| !tool.class.is_empty() && tool.class == simple) {
        Some(tool) => (tool.run)(words),
        None => Err(Ended::err(format_args!(
            "Error: Could not find or load main class {class}\n`troupe compat list` shows the tools that there are"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_found_by_each_of_its_names_and_by_no_other() {
        for name in ["kafka-topics", "kafka-topics.sh", "topics", "topics.sh"] {
            assert_eq!(find(name).map(|tool| tool.name), Some("kafka-topics"), "{name}");
        }
        assert!(find("troupe").is_none() && find("kafka").is_none() && find("").is_none());
        let mut names: Vec<&str> = TOOLS.iter().map(|tool| tool.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TOOLS.len());
    }
}
