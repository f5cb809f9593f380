//! What the views of a group have in common.

use crate::output::Output;
use serde::Serialize;
use troupe_proto::log::v1::GroupState;

/// A group as one of its views.
pub trait GroupView: Serialize + Sized {
    fn render(output: &Output, groups: &[Self]) -> String;
}

/// A state in Kafka's words.
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
