//! The groups that are named, their states in Kafka's words, and what is told of a call for one that has failed.

use crate::compat::ended::Ended;
use crate::compat::options::Given;
use troupe_client::{Client, ClientError};
use troupe_proto::error::ErrorCode;
use troupe_proto::log::v1::GroupState;

/// What is told of a group's call that has failed.
pub fn failed(error: &ClientError) -> Ended {
    Ended::out(format_args!(
        "\nError: Executing consumer group command failed due to {}",
        crate::compat::errors::named_client(error)
    ))
}

/// The groups that are meant, by name.
pub async fn groups(client: &Client, given: &Given) -> Result<Vec<String>, Ended> {
    if !given.has("all-groups") {
        let mut named: Vec<String> = given.values("group").into_iter().map(str::to_owned).collect();
        named.dedup();
        return Ok(named);
    }
    let listed = client.admin().list_groups(&[]).await.map_err(|error| failed(&error))?;
    Ok(listed.into_iter().map(|group| group.group_id).collect())
}

pub fn state_name(state: GroupState) -> &'static str {
    match state {
        GroupState::Empty => "Empty",
        GroupState::Assigning => "Assigning",
        GroupState::Reconciling => "Reconciling",
        GroupState::Stable => "Stable",
        GroupState::Dead => "Dead",
        GroupState::Unspecified => "Unknown",
    }
}

pub fn is_missing(error: &ClientError) -> bool {
    error.reason() == ErrorCode::GroupNotFound
}
