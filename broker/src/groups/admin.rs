//! What administrators ask a group's coordinator, through any node.

use super::create;
use super::route::{
    Question, are_there_groups, ask_with, check_group_id, no_coordinator, order, partition_of,
};
use crate::context::Context;
use crate::forward::{Backoff, Call};
use tokio::time::Instant;
use troupe_machines::cluster::check_topic_names;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1 as pb;

/// Where a group's coordinator is; waited for while there is none.
///
/// # Errors
/// `INVALID_GROUP_ID`; `COORDINATOR_NOT_AVAILABLE` if there was none in time.
pub async fn find_coordinator(
    context: &Context,
    group: &str,
    deadline: Instant,
) -> Result<pb::FindCoordinatorResponse, Error> {
    check_group_id(group)?;
    let mut backoff = Backoff::new();
    loop {
        let created = create::offsets_topic(context, deadline).await;
        let target = partition_of(context, group);
        let led = target.as_ref().and_then(|target| target.led(&context.metadata.image.borrow()));
        let leader = target.as_ref().and_then(|target| context.metadata.leader_of(&target.key));
        if let (Some(target), Some(leader)) = (&target, leader) {
            return Ok(pb::FindCoordinatorResponse {
                partition: target.number(),
                node_id: leader.node_id.0,
                endpoint: leader.endpoint,
            });
        }
        let next = Instant::now() + backoff.next();
        if next >= deadline || context.shutdown.is_cancelled() {
            return Err(created.err().unwrap_or_else(no_coordinator));
        }
        match target {
            Some(target) => target.news(&context.metadata, led, next).await,
            None => tokio::time::sleep_until(next).await,
        }
    }
}

/// # Errors
/// `GROUP_NOT_FOUND`.
pub async fn describe(
    context: &Context,
    group: &str,
    call: Call,
) -> Result<pb::DescribeGroupResponse, Error> {
    check_exists(context, group, call).await?;
    let question = Question { group, call, may_repeat: true, creates: false, changes: false };
    ask_with(
        context,
        &question,
        &pb::DescribeGroupRequest { group_id: group.to_owned() },
        |handle, request| async move {
            Ok(pb::DescribeGroupResponse {
                coordinator_id: context.node_id.0,
                coordinator_endpoint: context.endpoint.clone(),
                ..handle.describe(request.group_id).await?
            })
        },
        |mut client, request| async move { client.describe_group(request).await },
    )
    .await
}

/// # Errors
/// `GROUP_NOT_FOUND`, `GROUP_NOT_EMPTY`.
pub async fn delete(
    context: &Context,
    group: &str,
    call: Call,
) -> Result<pb::DeleteGroupResponse, Error> {
    check_exists(context, group, call).await?;
    let question = Question { group, call, may_repeat: false, creates: false, changes: true };
    ask_with(
        context,
        &question,
        &pb::DeleteGroupRequest { group_id: group.to_owned() },
        |handle, request| async move {
            handle.delete(request.group_id, order(call)).await?;
            Ok(pb::DeleteGroupResponse::default())
        },
        |mut client, request| async move { client.delete_group(request).await },
    )
    .await
}

/// # Errors
/// `GROUP_NOT_FOUND`, `INVALID_TOPIC`.
pub async fn delete_offsets(
    context: &Context,
    request: pb::DeleteGroupOffsetsRequest,
    call: Call,
) -> Result<pb::DeleteGroupOffsetsResponse, Error> {
    check_topic_names(request.partitions.iter().map(|named| &named.topic))?;
    check_exists(context, &request.group_id, call).await?;
    // What is deleted twice is deleted.
    let group = &request.group_id;
    let question = Question { group, call, may_repeat: true, creates: false, changes: true };
    ask_with(
        context,
        &question,
        &request,
        |handle, request| async move { handle.delete_offsets(request, order(call)).await },
        |mut client, request| async move { client.delete_group_offsets(request).await },
    )
    .await
}

/// # Errors
/// `GROUP_NOT_FOUND` if there are no groups at all.
async fn check_exists(context: &Context, group: &str, call: Call) -> Result<(), Error> {
    check_group_id(group)?;
    if call.forwarded || are_there_groups(context).await {
        return Ok(());
    }
    let message = format!("group `{group}` does not exist; `troupe group list` shows all");
    Err(Error::new(ErrorCode::GroupNotFound, message).with("group", group))
}
