//! Groups as their coordinators describe them.

use crate::failure::{Context, Failure};
use troupe_client::Client;
use troupe_proto::error::ErrorCode;
use troupe_proto::log::v1::DescribeGroupResponse;

/// The groups that are named; if none is, all that there are.
pub async fn describe_groups(
    client: &Client,
    groups: &[String],
) -> Result<Vec<DescribeGroupResponse>, Failure> {
    let all = groups.is_empty();
    let names: Vec<String> = if all {
        let listed = client.admin().list_groups(&[]).await;
        let listed = listed.with_context(|| "cannot list the groups".to_owned())?;
        listed.into_iter().map(|listing| listing.group_id).collect()
    } else {
        groups.to_vec()
    };
    let mut found = Vec::new();
    for name in names {
        match client.admin().describe_group(&name).await {
            // It went between the two questions.
            Err(error) if all && error.reason() == ErrorCode::GroupNotFound => {}
            answer => found.push(answer.with_context(|| format!("cannot describe group {name}"))?),
        }
    }
    Ok(found)
}
