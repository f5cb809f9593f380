//! kafka-reassign-partitions (A10 to A13): Kafka's plans are ours.

use super::ended::Ended;
use super::link::{self, check_controller, connect, print};
use super::options::{Given, Options, flag, value};
use crate::failure::Failure;
use crate::placement::propose;
use crate::reassignment::{
    self, Plan, State, is_cancelled, is_reassigning, name, states, targets, throttle,
};
use serde::Deserialize;
use std::collections::BTreeSet;
use troupe_client::Client;
use troupe_proto::admin::v1::{
    PartitionFilter, PlanGoal, PlanReassignmentRequest, ReassignPartition,
};

static OPTIONS: Options = Options {
    about: "This tool helps to move topic partitions between replicas.",
    options: &[
        value("bootstrap-server", "host:port", "Nodes to ask."),
        value("bootstrap-controller", "host:port", "Controllers have no door for clients."),
        value("command-config", "file", "Settings of the client."),
        flag("generate", "Propose other replicas for topics; changes nothing."),
        flag("execute", "Begin what a plan says."),
        flag("verify", "Whether a plan is complete; takes throttles away once it is."),
        flag("cancel", "Give up what a plan has begun."),
        flag("list", "What is under way."),
        value("reassignment-json-file", "file", "The plan."),
        value(
            "topics-to-move-json-file",
            "file",
            "{\"topics\":[{\"topic\":\"orders\"}],\"version\":1}",
        ),
        value("broker-list", "1,2,3", "Nodes that may have replicas of these topics."),
        flag("disable-rack-aware", "Replicas of a partition need not be in different racks."),
        value("throttle", "bytes/s", "How fast new replicas are filled."),
        value(
            "replica-alter-log-dirs-throttle",
            "bytes/s",
            "Moves between directories have no throttle.",
        ),
        value("timeout", "ms", "Without effect: what is begun is begun at once."),
        flag("additional", "Also while something else is under way; or to change the throttle."),
        flag("preserve-throttles", "Do not take throttles away."),
        flag("disallow-replication-factor-change", "Refuse plans with more or fewer replicas."),
    ],
    lead: "Exception in thread \"main\" joptsimple.UnrecognizedOptionException: ",
};

const ACTIONS: [&str; 5] = ["generate", "execute", "verify", "cancel", "list"];
const ONE_ACTION: &str =
    "Command must include exactly one action: --generate, --execute, --verify, --cancel, --list";
/// Each action, what it has to have, and what it may have.
const GRAMMAR: [(&str, &[&str], &[&str]); 5] = [
    ("generate", &["broker-list", "topics-to-move-json-file"], &["disable-rack-aware"]),
    (
        "execute",
        &["reassignment-json-file"],
        &[
            "additional",
            "throttle",
            "replica-alter-log-dirs-throttle",
            "timeout",
            "disallow-replication-factor-change",
        ],
    ),
    ("verify", &["reassignment-json-file"], &["preserve-throttles"]),
    ("cancel", &["reassignment-json-file"], &["preserve-throttles", "timeout"]),
    ("list", &[], &[]),
];
const WHAT: &str = "cannot reassign replicas";

/// What this tool says of all that has failed.
fn failed(told: impl std::fmt::Display) -> Ended {
    Ended::out(format_args!("Error: {told}"))
}

fn of_failure(failure: Failure) -> Ended {
    let ended = Ended::from(failure);
    let told = ended.notices.trim_start_matches("error: ").to_owned();
    Ended { results: format!("Error: {told}"), notices: String::new(), ..ended }
}

pub fn run(words: &[String]) -> Result<(), Ended> {
    let given = OPTIONS.read(words)?;
    let action = given.action(&ACTIONS, ONE_ACTION)?;
    check_controller(&given)?;
    if !given.has("bootstrap-server") {
        return Err(
            given.usage("Please specify either --bootstrap-server or --bootstrap-controller")
        );
    }
    let (_, needed, allowed) = GRAMMAR[GRAMMAR.iter().position(|it| it.0 == action).unwrap_or(0)];
    given.require(needed)?;
    for option in OPTIONS.options.iter().map(|option| option.name) {
        let is_fine = needed.contains(&option)
            || allowed.contains(&option)
            || option == action
            || ["bootstrap-server", "command-config"].contains(&option);
        if given.has(option) && !is_fine {
            return Err(given.usage(&format!(
                "Option \"[{option}]\" can't be used with action \"[{action}]\""
            )));
        }
    }
    if given.has("replica-alter-log-dirs-throttle") {
        return Err(Ended::cannot(
            "A throttle of moves between directories",
            "`troupe partition move-dir` has none; leave it out",
        ));
    }
    link::run(async {
        if action == "generate" {
            return generate(&given).await;
        }
        if action == "list" {
            return list(&connect(&given).await?).await;
        }
        let plan = read_plan(given.value("reassignment-json-file")?.unwrap_or_default())?;
        let client = connect(&given).await?;
        match action {
            "execute" => execute(&client, &given, &plan).await,
            "verify" => verify(&client, &plan, given.has("preserve-throttles")).await,
            _ => cancel(&client, &plan, given.has("preserve-throttles")).await,
        }
    })
}

fn read_file(path: &str) -> Result<String, Ended> {
    let read = std::fs::read_to_string(path);
    read.map_err(|_| failed(format_args!("Unable to read file {path}")))
}

fn read_plan(path: &str) -> Result<Plan, Ended> {
    let text = read_file(path)?;
    Plan::parse(&text).map_err(|why| match why.strip_suffix(" more than once") {
        // Kafka has a sentence of its own for it.
        Some(doubled) if why.contains(" has ") => failed(format_args!(
            "Partition replica lists may not contain duplicate entries: {doubled} more than once"
        )),
        _ => failed(why),
    })
}

#[derive(Deserialize)]
struct TopicsToMove {
    topics: Vec<TopicToMove>,
}

#[derive(Deserialize)]
struct TopicToMove {
    topic: String,
}

async fn generate(given: &Given) -> Result<(), Ended> {
    let listed = given.listed("broker-list")?.unwrap_or_default();
    let mut nodes = Vec::new();
    for text in &listed {
        let node: i32 = text.parse().map_err(|_| {
            failed(format_args!("java.lang.NumberFormatException: For input string: \"{text}\""))
        })?;
        if nodes.contains(&node) {
            return Err(failed(format_args!("Broker list contains duplicate entries: {node}")));
        }
        nodes.push(node);
    }
    let text = read_file(given.value("topics-to-move-json-file")?.unwrap_or_default())?;
    let wanted: TopicsToMove = serde_json::from_str(&text).map_err(failed)?;
    let request = PlanReassignmentRequest {
        goal: PlanGoal::Classic.into(),
        topics: wanted.topics.into_iter().map(|one| one.topic).collect(),
        to_node_ids: nodes,
        exclude_node_ids: Vec::new(),
        replication_factor: None,
        disable_rack_aware: given.has("disable-rack-aware"),
        sizes: Vec::new(),
    };
    let client = connect(given).await?;
    let proposal = propose(&client, "cannot plan", request).await.map_err(of_failure)?;
    print(&format!(
        "Current partition replica assignment\n{}\n\nProposed partition reassignment configuration\n{}\n",
        proposal.current().to_json(),
        proposal.proposed().to_json()
    ))
}

async fn execute(client: &Client, given: &Given, plan: &Plan) -> Result<(), Ended> {
    let rate = match given.parsed::<i64>("throttle")? {
        None | Some(-1) => None,
        Some(rate) => Some(
            u64::try_from(rate)
                .map_err(|_| failed("The throttle must be positive, or -1 for none"))?,
        ),
    };
    let (_, known) = states(client, plan).await?;
    let another = known.values().any(|one| is_reassigning(one) && !is_cancelled(one));
    if another && !given.has("additional") {
        return Err(failed(
            "Cannot execute because there is an existing partition assignment.  Use --additional to override this and \
             create a new partition assignment in addition to the existing one. The --additional option can also be used \
             to change the throttle by resubmitting the current reassignment.",
        ));
    }
    let nodes = client.admin().get_cluster().await?.nodes;
    for planned in &plan.partitions {
        let key = (planned.topic.clone(), planned.partition);
        let Some(state) = known.get(&key) else {
            let is_there = known.keys().any(|(topic, _)| *topic == planned.topic);
            let what = match is_there {
                true => format!("Partition {}", name(&planned.topic, planned.partition)),
                false => format!("Topic {}", planned.topic),
            };
            return Err(failed(format_args!(
                "org.apache.kafka.common.errors.UnknownTopicOrPartitionException: {what} not found."
            )));
        };
        if let Some(node) =
            planned.replicas.iter().find(|node| !nodes.iter().any(|it| it.node_id == **node))
        {
            return Err(failed(format_args!("Unknown broker id {node}")));
        }
        if given.has("disallow-replication-factor-change")
            && state.replicas.len() != planned.replicas.len()
        {
            return Err(failed(format_args!(
                "The replication factor of {} would change",
                name(&planned.topic, planned.partition)
            )));
        }
    }
    let wanted = targets(plan);
    reassignment::check(client, WHAT, wanted.clone()).await.map_err(of_failure)?;
    let before = plan.keys();
    let before = Plan::of_states(before.iter().filter_map(|key| known.get(key)));
    print(&format!(
        "Current partition replica assignment\n\n{}\n\nSave this to use as the --reassignment-json-file option during \
         rollback\n",
        before.to_json()
    ))?;
    if let Some(rate) = rate {
        print(
            "Warning: You must run --verify periodically, until the reassignment completes, to ensure the throttle is \
             removed.\n",
        )?;
        throttle::set(client, WHAT, plan, rate, false).await.map_err(of_failure)?;
        print(&format!("The inter-broker throttle limit was set to {rate} B/s\n"))?;
    }
    reassignment::begin(client, WHAT, wanted).await.map_err(of_failure)?;
    let started: Vec<String> =
        plan.keys().iter().map(|(topic, partition)| name(topic, *partition)).collect();
    let s = if started.len() == 1 { "" } else { "s" };
    print(&format!("Successfully started partition reassignment{s} for {}\n", started.join(",")))
}

async fn verify(client: &Client, plan: &Plan, preserve: bool) -> Result<(), Ended> {
    let (status, _) = states(client, plan).await?;
    let mut text = "Status of partition reassignment:\n".to_owned();
    for one in &status {
        text += &format!("{}\n", one.sentence());
    }
    text.push('\n');
    print(&text)?;
    let is_over = |state: State| matches!(state, State::Completed | State::Different);
    if !preserve && status.iter().all(|one| is_over(one.state)) {
        clear(client, plan, &BTreeSet::new()).await?;
    }
    Ok(())
}

/// In Kafka's words, of all brokers, if nothing is under way any more.
async fn clear(client: &Client, plan: &Plan, over: &BTreeSet<(String, i32)>) -> Result<(), Ended> {
    let cleared = throttle::clear(client, WHAT, Some(plan.topics()), over).await;
    print(&cleared.map_err(of_failure)?.text())
}

async fn cancel(client: &Client, plan: &Plan, preserve: bool) -> Result<(), Ended> {
    let planned = plan.keys();
    let listed = client.admin().list_partition_reassignments(&[]).await?;
    let active: BTreeSet<(String, i32)> = listed
        .into_iter()
        .map(|one| (one.topic, one.partition))
        .filter(|key| planned.contains(key))
        .collect();
    let told = match active.is_empty() {
        true => "None of the specified partition reassignments are active.\n".to_owned(),
        false => {
            let one = |(topic, partition): &(String, i32)| ReassignPartition {
                topic: topic.clone(),
                partition: *partition,
                replicas: Vec::new(),
                cancel: true,
            };
            let partitions = active.iter().map(one).collect();
            reassignment::alter(client, WHAT, partitions).await.map_err(of_failure)?;
            let names: Vec<String> = active.iter().map(|(topic, at)| name(topic, *at)).collect();
            format!("Successfully cancelled partition reassignments for: {}\n", names.join(","))
        }
    };
    // Between directories of a node nothing is moved by a plan.
    print(&format!("{told}None of the specified partition moves are active.\n"))?;
    match preserve {
        true => Ok(()),
        false => clear(client, plan, &active).await,
    }
}

async fn list(client: &Client) -> Result<(), Ended> {
    let states = client.admin().list_partitions(None, PartitionFilter::Unspecified).await?;
    let ids = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    let mut text = String::new();
    for one in states.iter().filter(|one| is_reassigning(one)) {
        text += &format!("{}: replicas: {}.", name(&one.topic, one.partition), ids(&one.replicas));
        if !one.adding_replicas.is_empty() {
            text += &format!(" adding: {}.", ids(&one.adding_replicas));
        }
        if !one.removing_replicas.is_empty() {
            text += &format!(" removing: {}.", ids(&one.removing_replicas));
        }
        text.push('\n');
    }
    print(&match text.is_empty() {
        true => "No partition reassignments found.\n".to_owned(),
        false => format!("Current partition reassignments:\n{text}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_do_not_go_together_are_told_in_kafka_s_words() {
        for (line, told) in [
            ("--bootstrap-server h", ONE_ACTION),
            ("--list", "Please specify either --bootstrap-server or --bootstrap-controller"),
            (
                "--bootstrap-server h --execute",
                "Missing required argument \"[reassignment-json-file]\"",
            ),
            (
                "--bootstrap-server h --list --throttle 5",
                "Option \"[throttle]\" can't be used with action \"[list]\"",
            ),
        ] {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let ended = run(&words).unwrap_err();
            assert!(ended.notices.starts_with(told), "{line}: {}", ended.notices);
        }
    }

    #[test]
    fn a_plan_that_is_none_is_an_error_on_standard_output() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let plan =
            r#"{"version":1,"partitions":[{"topic":"first","partition":0,"replicas":[1,1]}]}"#;
        std::fs::write(file.path(), plan).unwrap();
        let told = read_plan(&file.path().to_string_lossy()).unwrap_err().results;
        let words = "Error: Partition replica lists may not contain duplicate entries: ";
        assert!(told.starts_with(words), "{told}");
        let told = read_plan("/nowhere/plan.json").unwrap_err().results;
        assert_eq!(told, "Error: Unable to read file /nowhere/plan.json\n");
    }
}
