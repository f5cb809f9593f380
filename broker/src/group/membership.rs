//! A membership, through whichever node its stream came in.

use super::aliases::GroupRoute;
use crate::coordinator::{Machine, Question};
use crate::forward::{Call, FORWARDED};
use crate::peers::{Lease, Purpose, failure};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt, future, stream};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};
use troupe_machines::cluster::check_topic_names;
use troupe_machines::group::Groups;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1 as pb;

/// In a membership that another node forwarded: the address that the member came from.
pub const FORWARDED_FOR: &str = "troupe-forwarded-for";

/// How long a member waits for its group's coordinator.
const JOIN_PATIENCE: Duration = Duration::from_secs(10);

pub type Requests = BoxStream<'static, pb::RunMemberRequest>;
pub type Answers = BoxStream<'static, Result<pb::RunMemberResponse, Error>>;

/// A membership of a group, through its coordinator; answered when the member is in the group. `host`: the
/// address that the member came from. The member is away when either stream is dropped. `forwarded`: another node sent it
/// here, and it goes no further.
///
/// # Errors
/// Those of `GroupService.RunMember`, before anything of the membership came to be. None waits longer than ten
/// seconds for a coordinator.
pub async fn run_member(
    route: &Arc<GroupRoute>,
    host: String,
    mut requests: Requests,
    forwarded: bool,
) -> Result<Answers, Error> {
    let deadline = Instant::now() + JOIN_PATIENCE;
    let first = timeout_at(deadline, requests.next()).await.ok().flatten().unwrap_or_default();
    let group = match &first.start {
        Some(start) => start.group_id.clone(),
        None => {
            let message = "a membership begins with a `start`";
            return Err(Error::new(ErrorCode::InvalidRequest, message));
        }
    };
    Groups::check_key(&group)?;
    let asked = first.start.iter().filter_map(|start| start.subscription.as_ref());
    check_topic_names(asked.flat_map(|asked| &asked.topics))?;
    let call = Call { forwarded, ..Call::until(deadline) };
    let question = Question { key: &group, call, may_repeat: true, creates: true, changes: true };
    let asked = route.ask(
        &question,
        |handle| {
            let (rest, requests) = retold(first.clone());
            let host = host.clone();
            async move { Ok((rest, handle.run_member(host, requests).await?)) }.boxed()
        },
        |leader| {
            let (rest, requests) = retold(first.clone());
            let connection = route.calls.peers.lease(&leader.endpoint, Purpose::Members);
            let asked = connection.map(|connection| there(route, connection, &host, requests));
            async move { Ok((rest, asked?.await?)) }
        },
    );
    let (rest, answers) = asked.await?;
    // A coordinator that takes no requests any more ends the answers too.
    let _ = rest.send(requests);
    let route = Arc::clone(route);
    let target = route.partition_of(&group);
    let tell = move |answer: Result<_, Error>| match &target {
        Some(target) => answer.map_err(|error| route.hinted(target, error)),
        None => answer,
    };
    Ok(answers.map(tell).boxed())
}

/// The first request, and what follows once it is handed over; a stream that is not handed over ends.
fn retold(first: pb::RunMemberRequest) -> (oneshot::Sender<Requests>, Requests) {
    let (give, given) = oneshot::channel::<Requests>();
    let rest = given.map(|rest| rest.unwrap_or_else(|_| stream::empty().boxed())).flatten_stream();
    (give, stream::once(future::ready(first)).chain(rest).boxed())
}

/// The same membership, on another node.
fn there(
    route: &GroupRoute,
    connection: Lease,
    host: &str,
    requests: Requests,
) -> BoxFuture<'static, Result<Answers, Error>> {
    let mut request = Request::new(Up(requests));
    let metadata = request.metadata_mut();
    metadata.insert(FORWARDED, MetadataValue::from_static("1"));
    if let Ok(host) = MetadataValue::try_from(host) {
        metadata.insert(FORWARDED_FOR, host);
    }
    let mut client = route.client(connection.channel.clone());
    Box::pin(async move {
        let answers = client.run_member(request).await.map_err(failed)?.into_inner();
        let told = move |answer: Result<_, Status>| {
            let _kept = &connection;
            answer.map_err(failed)
        };
        Ok(answers.map(told).boxed())
    })
}

/// Requests under a type of their own: the compiler cannot tell that a call with a boxed stream may change threads.
struct Up(Requests);

impl Stream for Up {
    type Item = pb::RunMemberRequest;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context)
    }
}

fn failed(status: Status) -> Error {
    failure(status, ErrorCode::CoordinatorNotAvailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_try_that_failed_takes_nothing_of_the_requests() {
        let leave = pb::RunMemberRequest { leave: true, ..Default::default() };
        let first = pb::RunMemberRequest { applied: Some(7), ..Default::default() };
        let (dropped, requests) = retold(first.clone());
        drop(dropped);
        assert_eq!(requests.collect::<Vec<_>>().await, std::slice::from_ref(&first));
        let (rest, requests) = retold(first.clone());
        assert!(rest.send(stream::iter([leave.clone()]).boxed()).is_ok());
        assert_eq!(requests.collect::<Vec<_>>().await, [first, leave]);
    }
}
