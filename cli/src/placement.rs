//! Which node has which replicas, and which had better: plans as the cluster proposes them, what each node has before and
//! after, and carrying one out until it is complete.
//!
//! Never here: what a plan is to bring about, and which moves are the fewest; the cluster works that out.

mod execution;
mod proposal;
mod shares;

pub use execution::{Manner, carry_out, take_throttle_away, watch};
pub use proposal::Proposal;
pub use shares::{SharesView, shares};

use crate::failure::{Context, Failure};
use crate::fan_out::fan_out;
use std::collections::{BTreeMap, BTreeSet};
use troupe_client::{Client, ClientError};
use troupe_proto::admin::v1::{
    PartitionFilter, PartitionSize, PlanReassignmentRequest, ReplicaRole,
};

/// Has the cluster propose something, by the sizes that leaders tell.
///
/// # Errors
/// What is asked for cannot be; and those of the call.
pub async fn propose(
    client: &Client,
    what: &str,
    request: PlanReassignmentRequest,
) -> Result<Proposal, Failure> {
    let sizes = sizes(client).await.with_context(|| what.to_owned())?;
    let request = PlanReassignmentRequest { sizes, ..request };
    let proposed = client.admin().plan_reassignment(request).await;
    Ok(Proposal::new(proposed.with_context(|| what.to_owned())?))
}

/// How large partitions are, as their leaders tell, or else whoever has a replica. Nodes that do not answer in time are
/// left out. Of all topics: what is not planned counts, too.
async fn sizes(client: &Client) -> Result<Vec<PartitionSize>, ClientError> {
    let listed = client.admin().list_partitions(None, PartitionFilter::Unspecified).await?;
    let nodes: BTreeSet<i32> = listed.iter().flat_map(|one| one.replicas.clone()).collect();
    let answers =
        fan_out(nodes, async |node| client.admin_of(node).await?.list_replicas(None).await).await;
    let mut sizes: BTreeMap<(String, i32), (bool, i64)> = BTreeMap::new();
    for replica in answers.into_values().flat_map(Result::unwrap_or_default) {
        let told = (replica.role() == ReplicaRole::Leader, replica.size_bytes);
        let known = sizes.entry((replica.topic, replica.partition)).or_default();
        *known = told.max(*known);
    }
    let size =
        |((topic, partition), (_, size_bytes))| PartitionSize { topic, partition, size_bytes };
    Ok(sizes.into_iter().map(size).collect())
}
