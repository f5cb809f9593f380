//! A session that delivers on a stream: the stream is the membership.

use super::options::Options;
use super::session::Session;
use crate::context::Context;
use crate::grpc::{DemandSender, Gone, Requests, decode};
use crate::service::delivery::Pace;
use crate::shutdown::shutting_down;
use futures::StreamExt;
use futures::stream::{self, Stream};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::Status;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::v1 as pb;

/// A client that hears nothing for longer may take the stream for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a node that stops takes acknowledgements; how long a client that has closed its half may take to read what
/// became of its last ones.
const DRAIN: Duration = Duration::from_secs(2);
/// How long a client may take to read why its stream ends.
const LAST_WORD: Duration = Duration::from_millis(500);
/// Requests that are dealt with together if they arrived together.
const REQUESTS_TOGETHER: usize = 64;

/// How a stream came to its end.
enum Ended {
    /// The client is gone; it said goodbye, or did not.
    Gone {
        cleanly: bool,
    },
    /// The client has closed its half, and what it still had to be told is said.
    HalfClosed,
    /// The node stops, and what is done is done.
    Drained,
    Failed(Error),
}

/// Why nothing is delivered any more, and until when there may be something to say.
enum Ending {
    Stops(Instant),
    HalfClosed(Instant),
}

impl Ending {
    fn until(&self) -> Instant {
        match self {
            Ending::Stops(until) | Ending::HalfClosed(until) => *until,
        }
    }

    fn ended(&self) -> Ended {
        match self {
            Ending::Stops(_) => Ended::Drained,
            Ending::HalfClosed(_) => Ended::HalfClosed,
        }
    }
}

type Asked = Result<pb::SubscribeRequest, Status>;

/// The client's half, as messages.
fn messages(requests: Requests) -> impl Stream<Item = Asked> + Send + Unpin {
    let next = |mut requests: Requests| async move {
        let message = requests.next().await.transpose()?;
        Some((message.and_then(decode), requests))
    };
    Box::pin(stream::unfold(requests, next))
}

pub(super) async fn run(
    context: Arc<Context>,
    host: String,
    requests: Requests,
    out: DemandSender,
) {
    let mut requests = messages(requests);
    let first = tokio::select! {
        first = requests.next() => first,
        () = context.shutdown.cancelled() => Some(Err(shutting_down().into())),
        () = out.closed() => None,
    };
    let Some(first) = first else { return };
    let _open = context.delivery.open();
    let begun = async {
        let first = first?;
        let (options, rest) = first_request(&context, first).await?;
        let (mut session, _) = Session::new(&context, host, options);
        session.on_request(rest)?;
        Ok::<_, Status>(session)
    };
    let mut session = match begun.await {
        Ok(session) => session,
        Err(status) => return out.end(status).await,
    };
    let ended = serve(&context, &mut session, requests, &out).await;
    let is_static = !session.options().member_name.is_empty();
    let (leaves, error) = match ended {
        Ended::Gone { cleanly } => (cleanly && !is_static, None),
        Ended::HalfClosed => (!is_static, None),
        Ended::Drained => (!is_static, Some(shutting_down())),
        Ended::Failed(error) => (!is_static, Some(error)),
    };
    session.finish(leaves).await;
    if let Some(error) = error {
        // The client may be gone, or not read.
        let _ = timeout(LAST_WORD, out.end(error.into())).await;
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
    requests: impl Stream<Item = Asked> + Unpin,
    out: &DemandSender,
) -> Ended {
    let mut requests = requests.ready_chunks(REQUESTS_TOGETHER);
    let (mut open, mut ending, mut pace) = (true, None::<Ending>, Pace::new());
    let mut heartbeat = Instant::now() + HEARTBEAT;
    loop {
        session.tend();
        let now = Instant::now();
        if let Some(ending) = &ending
            && (ending.until() <= now || session.is_settled())
            && !session.has_news()
        {
            return ending.ended();
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
                    if !session.options().auto_ack && ending.is_none() {
                        session.give_up();
                        ending = Some(Ending::HalfClosed(now + DRAIN));
                    }
                    Ok(())
                }
            },
            wanted = out.wanted(), if speaks => match wanted {
                Err(Gone) => return Ended::Gone { cleanly: !open },
                Ok(()) => {
                    let bytes = pace.allowed(now, context.delivery.streams());
                    match session.respond(bytes) {
                        Ok(None) if heartbeat > now => Ok(()),
                        Ok(answer) => {
                            let (pieces, len) = answer.unwrap_or_else(Session::still_there);
                            out.send(pieces);
                            pace.sent(now, len);
                            heartbeat = now + HEARTBEAT;
                            Ok(())
                        }
                        Err(error) => Err(error),
                    }
                }
            },
            () = out.closed() => return Ended::Gone { cleanly: !open },
            () = sleep_until(heartbeat), if !speaks => Ok(()),
            () = context.shutdown.cancelled(), if ending.is_none() => {
                ending = Some(Ending::Stops(now + DRAIN));
                session.close();
                session.announce_drain(DRAIN);
                Ok(())
            }
            () = until(&ending), if ending.is_some() => {
                // Whoever has not read it by now does not read.
                return ending.as_ref().map_or(Ended::Drained, Ending::ended);
            }
        };
        if let Err(error) = step {
            return Ended::Failed(error);
        }
    }
}

async fn until(ending: &Option<Ending>) {
    match ending {
        Some(ending) => sleep_until(ending.until()).await,
        None => std::future::pending().await,
    }
}

enum Refused {
    /// The connection broke, or the client gave the stream up.
    Broken,
    Wrong(Error),
}

fn on_chunk(session: &mut Session, chunk: Vec<Asked>) -> Result<(), Refused> {
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
