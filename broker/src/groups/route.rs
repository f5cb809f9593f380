//! The way to a group's coordinator, wherever it is.
//!
//! ```text
//!  Subscribe, GroupService ─► ask ─┬─► CoordinatorHandle       this node leads the group's partition
//!                                  └─► GroupService of the node that does: the same call once more
//! ```
//!
//! Promises: who asks sees a coordinator that moves, loads or is to be created as latency, within the time that
//! the call has; a call is forwarded once only; what may have been done is tried again only where that does no
//! harm.
//! Never here: what a coordinator answers.

use super::coordinators::OFFSETS_TOPIC;
use super::create;
use super::handle::CoordinatorHandle;
use super::message::Order;
use crate::context::Context;
use crate::forward::{
    Backoff, Call, Target, forwarding, hears, is_stale_stamp, set_meant_epoch, told_in_order,
};
use crate::metadata_cache::LeaderAt;
use crate::peers::{Purpose, failure};
use std::future::Future;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use troupe_machines::group::coordinator_partition;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1::group_service_client::GroupServiceClient;

/// What a call is answered with if no connection to the coordinator's node can be made.
const UNREACHABLE: ErrorCode = ErrorCode::CoordinatorNotAvailable;

/// Whether the coordinator is the one that is meant.
///
/// # Errors
/// `NOT_COORDINATOR`: it lay somewhere while others coordinated, who may have been asked for something newer.
pub(super) fn check_meant(call: Call, handle: &CoordinatorHandle) -> Result<(), Error> {
    if call.meant_epoch.is_none_or(|meant| meant == handle.leader_epoch.0) {
        return Ok(());
    }
    let message = "this node coordinates the group in another leader epoch; ask again";
    Err(Error::new(ErrorCode::NotCoordinator, message))
}

/// What the coordinator orders a call by.
pub(super) fn order(call: Call) -> Order {
    Order { came: call.came, until: call.deadline }
}

/// What is to be asked of a group's coordinator.
pub(super) struct Question<'a> {
    pub group: &'a str,
    pub call: Call,
    /// It does no harm if it is done twice.
    pub may_repeat: bool,
    /// `__consumer_offsets` is created for it.
    pub creates: bool,
    /// It is not only a question.
    pub changes: bool,
}

/// Whether a refusal says only that the coordinator is elsewhere, will be, or could not be reached: worth
/// another try, by a member with its id and epoch.
pub fn is_elsewhere_for_now(error: &Error) -> bool {
    is_surely_elsewhere(error) || is_way_broken(error)
}

fn is_surely_elsewhere(error: &Error) -> bool {
    matches!(
        error.code,
        ErrorCode::NotCoordinator
            | ErrorCode::CoordinatorLoading
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::ShuttingDown
    )
}

fn is_way_broken(error: &Error) -> bool {
    matches!(error.code, ErrorCode::OutcomeUnknown | ErrorCode::RequestTimedOut)
}

/// The partition that a group is kept in, if this node knows of the topic (G1).
pub(super) fn partition_of(context: &Context, group: &str) -> Option<Target> {
    let image = context.metadata.image.borrow();
    let topic = image.topic(OFFSETS_TOPIC)?;
    let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    let key = topic.key(coordinator_partition(group, count));
    Some(Target { topic: Arc::clone(&topic.name), key })
}

/// Whether there may be groups. Before the first one there is no topic, and nobody to ask.
pub(super) async fn are_there_groups(context: &Context) -> bool {
    hears(&context.metadata, |image| image.topic(OFFSETS_TOPIC).is_some()).await
}

/// # Errors
/// `INVALID_GROUP_ID`.
pub(super) fn check_group_id(group: &str) -> Result<(), Error> {
    Ok(troupe_machines::group::check_group_id(group)?)
}

/// Asks a group's coordinator: by `here` if that is on this node, by `there` on another.
///
/// # Errors
/// The coordinator's. `NOT_COORDINATOR`, `COORDINATOR_LOADING`, `COORDINATOR_NOT_AVAILABLE` if there was none in
/// time; `OUTCOME_UNKNOWN` if it may have been done, and may not be repeated.
pub(super) async fn ask<Res, Here, There>(
    context: &Context,
    question: &Question<'_>,
    here: impl Fn(Arc<CoordinatorHandle>) -> Here + Send + Sync,
    there: impl Fn(LeaderAt) -> There + Send + Sync,
) -> Result<Res, Error>
where
    Here: Future<Output = Result<Res, Error>> + Send,
    There: Future<Output = Result<Res, Error>> + Send,
{
    check_group_id(question.group)?;
    let Call { deadline, forwarded, .. } = question.call;
    let mut changes = context.groups.changes();
    let mut backoff = Backoff::new();
    loop {
        changes.borrow_and_update();
        let target = match find_partition(context, question).await {
            Ok(target) => target,
            Err(error) if forwarded => return Err(error),
            Err(error) => {
                let next = Instant::now() + backoff.next();
                if next >= deadline || context.shutdown.is_cancelled() {
                    return Err(error);
                }
                tokio::time::sleep_until(next).await;
                continue;
            }
        };
        let led = target.led(&context.metadata.image.borrow());
        let error = match once(context, question, &target, &here, &there).await {
            Ok(answer) => return Ok(answer),
            Err(error) => hinted(context, &target, error),
        };
        let again = is_surely_elsewhere(&error)
            || is_stale_stamp(&error)
            || question.may_repeat && is_way_broken(&error);
        let next = Instant::now() + backoff.next();
        if forwarded {
            return Err(error);
        }
        if !again || next >= deadline || context.shutdown.is_cancelled() {
            return match question.changes {
                true => Err(told_in_order(question.call.came, error).await),
                false => Err(error),
            };
        }
        tokio::select! {
            () = target.news(&context.metadata, led, next) => {}
            Ok(()) = changes.changed() => {}
        }
    }
}

/// The same, for a question that is one request and one answer: by `here` of the coordinator on this node, by
/// `there` of the client of another.
///
/// # Errors
/// As those of [`ask`].
pub(super) async fn ask_with<Req, Res, Here, There>(
    context: &Context,
    question: &Question<'_>,
    request: &Req,
    here: impl Fn(Arc<CoordinatorHandle>, Req) -> Here + Send + Sync,
    there: impl Fn(GroupServiceClient<Channel>, Request<Req>) -> There + Send + Sync,
) -> Result<Res, Error>
where
    Req: Clone + Send + Sync,
    Res: Send,
    Here: Future<Output = Result<Res, Error>> + Send,
    There: Future<Output = Result<Response<Res>, Status>> + Send,
{
    ask(
        context,
        question,
        |handle| here(handle, request.clone()),
        |leader| {
            let there = &there;
            async move {
                let (node, clocks) = (&*leader.endpoint, &context.clocks);
                let known = clocks.came(node, question.call.came);
                match send(context, question, &leader, request.clone(), there).await {
                    // It seems to be of the past. The refusal may tell better when it came: once more, then, but no
                    // more often, for what is overtaken stays so.
                    Err(error)
                        if error.code == ErrorCode::Overtaken
                            && clocks.came(node, question.call.came) > known =>
                    {
                        send(context, question, &leader, request.clone(), there).await
                    }
                    answer => answer,
                }
            }
        },
    )
    .await
}

/// Asks a coordinator on another node.
async fn send<Req, Res, There>(
    context: &Context,
    question: &Question<'_>,
    leader: &LeaderAt,
    request: Req,
    there: &(impl Fn(GroupServiceClient<Channel>, Request<Req>) -> There + Send + Sync),
) -> Result<Res, Error>
where
    There: Future<Output = Result<Response<Res>, Status>> + Send,
{
    let order = order(question.call);
    let ask = |channel, request| there(client_on(context, channel), request);
    match question.changes {
        true => call_there(context, leader, request, order, ask).await,
        false => send_there(context, leader, forwarding(request, order.until), ask).await,
    }
}

/// One call that changes something, to the node of a coordinator, with its order and its time.
///
/// # Errors
/// `COORDINATOR_NOT_AVAILABLE` if no connection could be made; what the node answers.
pub(super) async fn call_there<Req, Res, There>(
    context: &Context,
    leader: &LeaderAt,
    request: Req,
    Order { came, until }: Order,
    there: impl FnOnce(Channel, Request<Req>) -> There,
) -> Result<Res, Error>
where
    There: Future<Output = Result<Response<Res>, Status>>,
{
    let channel = context.peers.channel(&leader.endpoint, Purpose::Control)?;
    let clocks = &context.clocks;
    let to = (&*leader.endpoint, &channel);
    let request = clocks.stamp(to, request, (came, until), UNREACHABLE).await?;
    send_there(context, leader, request, there).await
}

async fn send_there<Req, Res, There>(
    context: &Context,
    leader: &LeaderAt,
    mut request: Request<Req>,
    there: impl FnOnce(Channel, Request<Req>) -> There,
) -> Result<Res, Error>
where
    There: Future<Output = Result<Response<Res>, Status>>,
{
    let (node, clocks) = (&leader.endpoint, &context.clocks);
    let channel = context.peers.channel(node, Purpose::Control)?;
    set_meant_epoch(request.metadata_mut(), leader.leader_epoch.0);
    let sent = Instant::now();
    let answer = there(channel, request).await;
    match &answer {
        Ok(answer) => clocks.note(node, sent, answer.metadata()),
        Err(status) => clocks.note(node, sent, status.metadata()),
    }
    answer.map(Response::into_inner).map_err(|status| failure(status, UNREACHABLE))
}

/// # Errors
/// `COORDINATOR_NOT_AVAILABLE`: there is no topic, and none was to be created or could be.
async fn find_partition(context: &Context, question: &Question<'_>) -> Result<Target, Error> {
    if question.creates && !question.call.forwarded {
        create::offsets_topic(context, question.call.deadline).await?;
    }
    partition_of(context, question.group).ok_or_else(no_coordinator)
}

enum Way {
    Here(Arc<CoordinatorHandle>),
    There(LeaderAt),
}

/// Where the coordinator is, as far as this node knows.
fn way(context: &Context, target: &Target, call: Call) -> Result<Way, Error> {
    match context.groups.find(target.key.partition) {
        Ok(handle) => check_meant(call, &handle).map(|()| Way::Here(handle)),
        Err(error) if error.code == ErrorCode::NotCoordinator && !call.forwarded => {
            let leader = context.metadata.leader_of(&target.key);
            let leader = leader.filter(|leader| leader.node_id != context.node_id);
            leader.map(Way::There).ok_or_else(no_coordinator)
        }
        Err(error) => Err(error),
    }
}

/// One try.
async fn once<Res, Here, There>(
    context: &Context,
    question: &Question<'_>,
    target: &Target,
    here: &(impl Fn(Arc<CoordinatorHandle>) -> Here + Send + Sync),
    there: &(impl Fn(LeaderAt) -> There + Send + Sync),
) -> Result<Res, Error>
where
    Here: Future<Output = Result<Res, Error>> + Send,
    There: Future<Output = Result<Res, Error>> + Send,
{
    let led = target.led(&context.metadata.image.borrow());
    let asked = async {
        match way(context, target, question.call)? {
            Way::Here(handle) => here(handle).await,
            Way::There(leader) => tokio::select! {
                answer = there(leader) => answer,
                // One that hangs is not waited for.
                () = target.moves(&context.metadata, led) => {
                    let message = "the coordinator was replaced before it answered";
                    Err(Error::new(ErrorCode::OutcomeUnknown, message))
                }
            },
        }
    };
    timeout_at(question.call.deadline, asked).await.unwrap_or_else(|_| {
        let (code, message) = match question.may_repeat {
            true => (
                ErrorCode::CoordinatorNotAvailable,
                "the coordinator did not answer in time; try again",
            ),
            false => (ErrorCode::OutcomeUnknown, "the coordinator did not answer in time"),
        };
        Err(Error::new(code, message))
    })
}

/// The same error; if it is about where the coordinator is, with a hint.
pub(super) fn hinted(context: &Context, target: &Target, error: Error) -> Error {
    match context.metadata.leader_of(&target.key) {
        // Whoever asked has asked this node.
        Some(leader) if leader.node_id == context.node_id => error,
        Some(leader) if error.code == ErrorCode::NotCoordinator && error.leader.is_none() => {
            error.with_leader_of(leader.node_id.0, leader.endpoint, leader.leader_epoch.0)
        }
        _ => error,
    }
}

/// A client for the groups of another node.
pub(super) fn client(
    context: &Context,
    leader: &LeaderAt,
) -> Result<GroupServiceClient<Channel>, Error> {
    Ok(client_on(context, context.peers.channel(&leader.endpoint, Purpose::Control)?))
}

pub(super) fn client_on(context: &Context, channel: Channel) -> GroupServiceClient<Channel> {
    let max_answer = context.config.max_request_bytes.0 as usize;
    GroupServiceClient::new(channel).max_decoding_message_size(max_answer)
}

pub(super) fn no_coordinator() -> Error {
    let message = "the group has no coordinator at the moment; try again";
    Error::new(ErrorCode::CoordinatorNotAvailable, message)
}
