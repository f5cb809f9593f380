//! kafka-transactions (A18).

use super::arguments::{Arg, Command, Program, Words, optional, required};
use super::columns::tabbed;
use super::ended::Ended;
use super::errors::message;
use super::link::{self, connect_to, print};
use super::properties::Properties;
use crate::streams::notice;
use crate::timestamp;
use regex::Regex;
use std::time::Duration;
use troupe_client::{Client, ClientError};
use troupe_proto::admin::v1::{DescribeTransactionResponse, TransactionState};
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::{Offset, PartitionId};

const TOPIC: Arg = required(&["--topic"], "The topic.");
const PARTITION: Arg = required(&["--partition"], "The partition.");

static PROGRAM: Program = Program {
    name: "kafka-transactions.sh",
    about: "Shows transactions, and aborts them.",
    args: &[
        required(&["--bootstrap-server"], "Nodes to ask."),
        optional(&["--command-config"], "Settings of the client."),
    ],
    one_of: &[],
    commands: &[
        Command {
            name: "list",
            help: "List transactional ids.",
            args: &[
                optional(&["--duration-filter"], "Only what is open for longer, in milliseconds."),
                optional(&["--transactional-id-pattern"], "Only ids that match."),
            ],
        },
        Command {
            name: "describe",
            help: "What is open under an id.",
            args: &[required(&["--transactional-id"], "The id.")],
        },
        Command {
            name: "describe-producers",
            help: "Who has sent to a partition.",
            args: &[
                TOPIC,
                PARTITION,
                optional(&["--broker-id"], "Without effect: its leader is asked."),
            ],
        },
        Command {
            name: "abort",
            help: "Abort a transaction that hangs.",
            args: &[
                TOPIC,
                PARTITION,
                optional(&["--start-offset"], "Where it began."),
                optional(&["--producer-id"], "Its producer."),
                optional(&["--producer-epoch"], "The producer's epoch."),
                optional(&["--coordinator-epoch"], "Without effect."),
            ],
        },
        Command {
            name: "find-hanging",
            help: "Find transactions that no coordinator knows of.",
            args: &[
                optional(&["--broker-id"], "Only partitions that this node has."),
                optional(&["--max-transaction-timeout"], "In minutes [default: 15]."),
                optional(&["--topic"], "Only this topic."),
                optional(&["--partition"], "Only this partition."),
            ],
        },
        Command {
            name: "forceTerminateTransaction",
            help: "Abort what is open under an id.",
            args: &[required(&["--transactionalId"], "The id.")],
        },
    ],
};

pub fn run(words: &[String]) -> Result<(), Ended> {
    let words = PROGRAM.read(words)?;
    Properties::read(words.value("--command-config"))?.check_security()?;
    let server = words.value("--bootstrap-server").unwrap_or_default();
    link::run(async {
        if words.command == "find-hanging" && !words.has("--topic") && !words.has("--broker-id") {
            return Err(Ended::err(
                "The `find-hanging` command requires either --topic or --broker-id to limit the scope of the search",
            ));
        }
        let client = connect_to(server).await?;
        match words.command {
            "list" => list(&client, &words).await,
            "describe" => describe(&client, &words).await,
            "describe-producers" => producers(&client, &words).await,
            "abort" => abort(&client, &words).await,
            "find-hanging" => find_hanging(&client, &words).await,
            _ => terminate(&client, &words).await,
        }
    })
}

async fn list(client: &Client, words: &Words) -> Result<(), Ended> {
    let open_for = words.parsed::<i64>("--duration-filter", "Long")?.unwrap_or(-1);
    let open_for = Duration::from_millis(open_for.max(0).unsigned_abs());
    let pattern = match words.value("--transactional-id-pattern") {
        Some(text) => Some(Regex::new(&format!("^(?:{text})$")).map_err(Ended::err)?),
        None => None,
    };
    let listed = client.admin().list_transactions(&[], None, open_for).await?;
    let listed = listed.into_iter().filter(|one| {
        pattern.as_ref().is_none_or(|pattern| pattern.is_match(&one.transactional_id))
    });
    let rows: Vec<Vec<String>> = listed
        .map(|one| {
            let state = state_name(one.state()).to_owned();
            vec![
                one.transactional_id,
                one.coordinator.to_string(),
                one.producer_id.to_string(),
                state,
            ]
        })
        .collect();
    print(&tabbed(&["TransactionalId", "Coordinator", "ProducerId", "TransactionState"], &rows))
}

async fn described(
    client: &Client,
    id: &str,
    what: &str,
) -> Result<DescribeTransactionResponse, Ended> {
    client.admin().describe_transaction(id).await.map_err(|error| {
        let why = match error.reason() {
            ErrorCode::TransactionalIdNotFound => format!(
                "DescribeTransactions request for transactionalId `{id}` failed because the ID could not be found"
            ),
            _ => message(&error),
        };
        Ended::err(format_args!("Failed to {what} transactional-id `{id}`: {why}"))
    })
}

async fn describe(client: &Client, words: &Words) -> Result<(), Ended> {
    let id = words.value("--transactional-id").unwrap_or_default();
    let described = described(client, id, "describe transaction state of").await?;
    let listing = described.transaction.unwrap_or_default();
    let none = || "None".to_owned();
    let begun = described.start_time_ms;
    let partitions: Vec<String> =
        described.partitions.iter().map(|at| format!("{}-{}", at.topic, at.partition)).collect();
    let row = vec![
        listing.coordinator.to_string(),
        id.to_owned(),
        listing.producer_id.to_string(),
        listing.producer_epoch.to_string(),
        state_name(listing.state()).to_owned(),
        described.timeout_ms.to_string(),
        begun.map_or_else(none, |at| at.to_string()),
        begun.map_or_else(none, |at| (timestamp::now_ms() - at).to_string()),
        partitions.join(","),
    ];
    print(&tabbed(
        &[
            "CoordinatorId",
            "TransactionalId",
            "ProducerId",
            "ProducerEpoch",
            "TransactionState",
            "TransactionTimeoutMs",
            "CurrentTransactionStartTimeMs",
            "TransactionDurationMs",
            "TopicPartitions",
        ],
        &[row],
    ))
}

async fn producers(client: &Client, words: &Words) -> Result<(), Ended> {
    let topic = words.value("--topic").unwrap_or_default();
    let partition: u32 = words.number("--partition", "Integer")?;
    let asked = client.admin().describe_producers(topic, PartitionId(partition)).await;
    let producers = asked.map_err(|error| {
        Ended::err(format_args!(
            "Failed to describe producers for partition {topic}-{partition}: {}",
            message(&error)
        ))
    })?;
    let rows: Vec<Vec<String>> = producers
        .iter()
        .map(|one| {
            let number = |it: Option<i64>, none: &str| {
                it.map_or_else(|| none.to_owned(), |it| it.to_string())
            };
            vec![
                one.producer_id.to_string(),
                one.producer_epoch.to_string(),
                number(one.coordinator_epoch.map(i64::from), "-1"),
                number(one.last_sequence.map(i64::from), "-1"),
                one.last_timestamp_ms.to_string(),
                number(one.transaction_start_offset, "None"),
            ]
        })
        .collect();
    print(&tabbed(
        &[
            "ProducerId",
            "ProducerEpoch",
            "LatestCoordinatorEpoch",
            "LastSequence",
            "LastTimestamp",
            "CurrentTransactionStartOffset",
        ],
        &rows,
    ))
}

async fn abort(client: &Client, words: &Words) -> Result<(), Ended> {
    let topic = words.value("--topic").unwrap_or_default();
    let partition: u32 = words.number("--partition", "Integer")?;
    let start = match words.parsed::<u64>("--start-offset", "Long")? {
        Some(start) => start,
        None => {
            let Some(producer) = words.parsed::<u64>("--producer-id", "Long")? else {
                return Err(Ended::err(
                    "The transaction to abort must be identified either with --start-offset or with --producer-id, \
                     --producer-epoch, and --coordinator-epoch",
                ));
            };
            let known = client.admin().describe_producers(topic, PartitionId(partition)).await?;
            let open = known.iter().find(|one| one.producer_id == producer);
            let start = open.and_then(|one| one.transaction_start_offset);
            start.and_then(|start| u64::try_from(start).ok()).ok_or_else(|| {
                Ended::err(format_args!(
                    "Could not find any open transactions of producer {producer} on partition {topic}-{partition}"
                ))
            })?
        }
    };
    let aborted = client
        .admin()
        .abort_hanging_transaction(topic, PartitionId(partition), Offset(start))
        .await;
    aborted.map_err(|error: ClientError| match error.reason() {
        ErrorCode::InvalidTransactionState | ErrorCode::InvalidRequest => Ended::err(format_args!(
            "Could not find any open transactions starting at offset {start} on partition {topic}-{partition}"
        )),
        _ => Ended::err(message(&error)),
    })
}

async fn find_hanging(client: &Client, words: &Words) -> Result<(), Ended> {
    let minutes = words.parsed::<u64>("--max-transaction-timeout", "Integer")?.unwrap_or(15);
    let topic = words.value("--topic").unwrap_or_default();
    let partition = words.parsed::<u32>("--partition", "Integer")?.map(PartitionId);
    // Five minutes more, as there: a coordinator looks only from time to time.
    let open_for = Duration::from_secs((minutes + 5) * 60);
    let found = client.admin().find_hanging_transactions(topic, partition, open_for).await?;
    for unasked in &found.unasked {
        notice!("WARN: {}-{} could not be asked", unasked.topic, unasked.partition);
    }
    let mut transactions = found.transactions;
    if let Some(node) = words.parsed::<i32>("--broker-id", "Integer")? {
        let states = troupe_proto::admin::v1::PartitionFilter::Unspecified;
        let states = client.admin().list_partitions(None, states).await?;
        transactions.retain(|one| {
            let of =
                states.iter().find(|it| it.topic == one.topic && it.partition == one.partition);
            of.is_some_and(|it| it.replicas.contains(&node))
        });
    }
    let rows: Vec<Vec<String>> = transactions
        .iter()
        .map(|one| {
            let minutes = (timestamp::now_ms() - one.last_timestamp_ms) / 60_000;
            vec![
                one.topic.clone(),
                one.partition.to_string(),
                one.producer_id.to_string(),
                one.producer_epoch.to_string(),
                "-".to_owned(),
                one.start_offset.to_string(),
                one.last_timestamp_ms.to_string(),
                minutes.to_string(),
            ]
        })
        .collect();
    print(&tabbed(
        &[
            "Topic",
            "Partition",
            "ProducerId",
            "ProducerEpoch",
            "CoordinatorEpoch",
            "StartOffset",
            "LastTimestamp",
            "Duration(min)",
        ],
        &rows,
    ))
}

async fn terminate(client: &Client, words: &Words) -> Result<(), Ended> {
    let id = words.value("--transactionalId").unwrap_or_default();
    match client.admin().abort_transaction(id).await {
        // Nothing is open: as it was wanted.
        Err(error) if error.reason() == ErrorCode::InvalidTransactionState => Ok(()),
        done => done.map_err(|error| {
            let why = message(&error);
            Ended::err(format_args!("Failed to terminate transactional-id `{id}`: {why}"))
        }),
    }
}

fn state_name(state: TransactionState) -> &'static str {
    match state {
        TransactionState::Unspecified => "Unknown",
        TransactionState::Empty => "Empty",
        TransactionState::Ongoing => "Ongoing",
        TransactionState::PrepareCommit => "PrepareCommit",
        TransactionState::PrepareAbort => "PrepareAbort",
        TransactionState::CompleteCommit => "CompleteCommit",
        TransactionState::CompleteAbort => "CompleteAbort",
    }
}
