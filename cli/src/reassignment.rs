//! Other replicas for partitions: plans as Kafka's tools write them, what has become of one, and how far it is.
//!
//! Never here: which replicas are the best, and printing.

mod kept;
mod plan;
mod progress;
mod status;
pub mod throttle;

pub use kept::{Kept, is_cancelled, removing};
pub use plan::{Plan, PlannedPartition, name};
pub use progress::{Progress, Sample, sample};
pub use status::{PartitionStatus, State, is_reassigning, states};

use crate::exit::Exit;
use crate::failure::{Context, Failure};
use troupe_client::Client;
use troupe_proto::admin::v1::{
    AlterPartitionReassignmentsRequest, ReassignPartition, ReassignmentResult,
};
use troupe_proto::error::Error;

/// Refusals that are told one by one.
const NAMED: usize = 10;

/// What is to be asked for a plan.
pub fn targets(plan: &Plan) -> Vec<ReassignPartition> {
    let one = |planned: &PlannedPartition| ReassignPartition {
        topic: planned.topic.clone(),
        partition: planned.partition,
        replicas: planned.replicas.clone(),
        cancel: false,
    };
    plan.partitions.iter().map(one).collect()
}

/// Asks for these, all or nothing as far as can be told before: whatever would be refused is found out first.
///
/// # Errors
/// What is refused, each with its reason; and those of the call.
pub async fn alter(
    client: &Client,
    what: &str,
    partitions: Vec<ReassignPartition>,
) -> Result<Vec<ReassignmentResult>, Failure> {
    check(client, what, partitions.clone()).await?;
    begin(client, what, partitions).await
}

/// Asks for these, which were checked before.
///
/// # Errors
/// What is refused, each with its reason; and those of the call.
pub async fn begin(
    client: &Client,
    what: &str,
    partitions: Vec<ReassignPartition>,
) -> Result<Vec<ReassignmentResult>, Failure> {
    ask(client, what, partitions, false).await
}

/// Has all be checked, and nothing done.
///
/// # Errors
/// What would be refused, each with its reason; and those of the call.
pub async fn check(
    client: &Client,
    what: &str,
    partitions: Vec<ReassignPartition>,
) -> Result<Vec<ReassignmentResult>, Failure> {
    ask(client, what, partitions, true).await
}

async fn ask(
    client: &Client,
    what: &str,
    partitions: Vec<ReassignPartition>,
    validate_only: bool,
) -> Result<Vec<ReassignmentResult>, Failure> {
    let request = AlterPartitionReassignmentsRequest {
        partitions,
        allow_replication_factor_change: None,
        validate_only,
    };
    let answered = client.admin().alter_partition_reassignments(request).await;
    let results = answered.with_context(|| what.to_owned())?;
    refused(what, &results, validate_only)?;
    Ok(results)
}

fn refused(what: &str, results: &[ReassignmentResult], validated: bool) -> Result<(), Failure> {
    let refusals: Vec<String> = results
        .iter()
        .filter_map(|result| {
            let error = Error::from(result.error.clone()?);
            let name = name(&result.topic, result.partition);
            Some(format!("{name}: {} ({})", error.message, error.code.reason()))
        })
        .collect();
    if refusals.is_empty() {
        return Ok(());
    }
    let mut cause = refusals[..refusals.len().min(NAMED)].join("; ");
    if refusals.len() > NAMED {
        cause += &format!("; and {} more", refusals.len() - NAMED);
    }
    let hint = match validated {
        true => {
            "nothing was changed; `troupe node list` shows the nodes, `troupe topic describe` the partitions"
        }
        false => "the others were begun; `troupe reassign list` shows what is under way",
    };
    Err(Failure::new(Exit::Refused, what, cause).with_hint(hint))
}
