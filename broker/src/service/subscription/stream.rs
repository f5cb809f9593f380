//! A session that delivers on a stream: the stream is the membership.

use super::options::Options;
use super::session::Session;
use crate::context::Context;
use crate::service::shutting_down;
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Status, Streaming};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::v1 as pb;

/// A client that hears nothing for longer may take the stream for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a node that stops takes acknowledgements.
const DRAIN: Duration = Duration::from_secs(2);
/// How long a client may take to read why its stream ends.
const LAST_WORD: Duration = Duration::from_millis(500);
/// Requests that are dealt with together if they arrived together.
const REQUESTS_TOGETHER: usize = 64;

pub(super) type Out = mpsc::Sender<Result<pb::SubscribeResponse, Status>>;

/// How a stream came to its end.
enum Ended {
    /// The client is gone; it said goodbye, or did not.
    Gone {
        cleanly: bool,
    },
    /// The node stops, and what is done is done.
    Drained,
    Failed(Error),
}

pub(super) async fn run(
    context: Arc<Context>,
    host: String,
    mut requests: Streaming<pb::SubscribeRequest>,
    out: Out,
) {
    let first = tokio::select! {
        first = requests.next() => first,
        () = context.shutdown.cancelled() => Some(Err(shutting_down().into())),
    };
    let Some(first) = first else { return };
    let begun = async {
        let first = first?;
        let (options, rest) = first_request(&context, first).await?;
        let (mut session, _) = Session::new(&context, host, options);
        session.on_request(rest)?;
        Ok::<_, Status>(session)
    };
    let mut session = match begun.await {
        Ok(session) => session,
        Err(status) => {
            // The client may be gone.
            let _ = out.send(Err(status)).await;
            return;
        }
    };
    let ended = serve(&context, &mut session, requests, &out).await;
    let is_static = !session.options().member_name.is_empty();
    let (leaves, error) = match ended {
        Ended::Gone { cleanly } => (cleanly && !is_static, None),
        Ended::Drained => (!is_static, Some(shutting_down())),
        Ended::Failed(error) => (!is_static, Some(error)),
    };
    session.finish(leaves).await;
    if let Some(error) = error {
        // The client may be gone, or not read.
        let _ = timeout(LAST_WORD, out.send(Err(error.into()))).await;
    }
}

/// The options of the first message, and what else it says.
async fn first_request(
    context: &Context,
    mut first: pb::SubscribeRequest,
) -> Result<(Options, pb::SubscribeRequest), Error> {
    let Some(start) = first.start.take() else {
        let message = "the first message has no `start`: it names the topics and the group";
        return Err(Error::new(ErrorCode::InvalidRequest, message));
    };
    Ok((super::checked(context, start).await?, first))
}

async fn serve(
    context: &Context,
    session: &mut Session,
    requests: Streaming<pb::SubscribeRequest>,
    out: &Out,
) -> Ended {
    let mut requests = requests.ready_chunks(REQUESTS_TOGETHER);
    let (mut open, mut drains) = (true, None::<Instant>);
    let mut heartbeat = Instant::now() + HEARTBEAT;
    loop {
        session.tend();
        let now = Instant::now();
        if drains.is_some_and(|until| until <= now || session.is_settled()) && !session.has_news() {
            return Ended::Drained;
        }
        let speaks = session.has_news() || session.can_deliver() || heartbeat <= now;
        let step = tokio::select! {
            worked = session.work() => worked,
            chunk = requests.next(), if open && session.takes_requests() => match chunk {
                Some(chunk) => match on_chunk(session, chunk) {
                    Ok(()) => Ok(()),
                    Err(Refused::Broken) => return Ended::Gone { cleanly: false },
                    Err(Refused::Wrong(error)) => Err(error),
                },
                None => {
                    open = false;
                    Ok(())
                }
            },
            permit = out.reserve(), if speaks => match (permit, session.respond()) {
                (Err(_), _) => return Ended::Gone { cleanly: !open },
                (Ok(_), Err(error)) => Err(error),
                (Ok(permit), Ok(response)) => {
                    if response.is_some() || heartbeat <= now {
                        permit.send(Ok(response.unwrap_or_default()));
                        heartbeat = Instant::now() + HEARTBEAT;
                    }
                    Ok(())
                }
            },
            () = out.closed() => return Ended::Gone { cleanly: !open },
            () = sleep_until(heartbeat), if !speaks => Ok(()),
            () = context.shutdown.cancelled(), if drains.is_none() => {
                drains = Some(now + DRAIN);
                session.close();
                session.announce_drain(DRAIN);
                Ok(())
            }
            () = sleep_until(drains.unwrap_or(now)), if drains.is_some() => {
                // Whoever has not read the notice by now does not read.
                return Ended::Drained;
            }
        };
        if let Err(error) = step {
            return Ended::Failed(error);
        }
    }
}

enum Refused {
    /// The connection broke, or the client gave the stream up.
    Broken,
    Wrong(Error),
}

fn on_chunk(
    session: &mut Session,
    chunk: Vec<Result<pb::SubscribeRequest, Status>>,
) -> Result<(), Refused> {
    for request in chunk {
        let request = request.map_err(|status| match Error::from(status) {
            // What cannot be read was refused before it came here.
            error if error.surely_not_done() => Refused::Wrong(error),
            _ => Refused::Broken,
        })?;
        session.on_request(request).map_err(Refused::Wrong)?;
    }
    Ok(())
}
