//! A session that delivers on a stream: the stream is the membership.

use super::handles::Handles;
use super::options::Options;
use super::request::SubscribeRequest;
use super::response::SubscribeRest;
use super::session::Session;
use crate::operations::delivery::{Gone, OpenStream, Pace, Reader};
use crate::operations::interruption::Interruption;
use crate::shutdown::shutting_down;
use futures::{Stream, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use troupe_proto::error::{Error, ErrorCode};

/// A client that hears nothing for longer may take the stream for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a node that stops takes acknowledgements; how long a client that has closed its half may take to read what
/// became of its last ones.
const DRAIN: Duration = Duration::from_secs(2);
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

type Asked = Result<SubscribeRequest, Interruption>;

/// A member of a group, from the first message of its stream on.
pub struct Subscription {
    handles: Arc<Handles>,
    /// Not among what the stream's task moves from one state to the next.
    session: Box<Session>,
    _open: OpenStream,
}

impl Subscription {
    /// By its first message. `host`: the address that it came from.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn begin(
        handles: &Arc<Handles>,
        host: String,
        mut first: SubscribeRequest,
    ) -> Result<Self, Error> {
        let open = handles.delivery.open();
        let Some(start) = first.start.take() else {
            let message = "the first message has no `start`: it names the topics and the group";
            return Err(Error::new(ErrorCode::InvalidRequest, message));
        };
        let options = Options::check(start, &handles.topic_lookup).await?;
        let mut session = Box::new(Session::new(handles, host, options));
        session.on_request(first)?;
        Ok(Self { handles: Arc::clone(handles), session, _open: open })
    }

    /// Until the stream ends, and the group knows of it.
    ///
    /// # Errors
    /// Why it ended.
    pub async fn run(
        mut self,
        requests: impl Stream<Item = Asked> + Send + Unpin,
        out: &impl Reader<SubscribeRest>,
    ) -> Result<(), Error> {
        let ended = serve(&self.handles, &mut self.session, requests, out).await;
        let is_static = !self.session.options().member_name.is_empty();
        let (leaves, outcome) = match ended {
            Ended::Gone { cleanly } => (cleanly && !is_static, Ok(())),
            Ended::HalfClosed => (!is_static, Ok(())),
            Ended::Drained => (!is_static, Err(shutting_down())),
            Ended::Failed(error) => (!is_static, Err(error)),
        };
        self.session.finish(leaves).await;
        outcome
    }
}

async fn serve<R: Reader<SubscribeRest>>(
    handles: &Handles,
    session: &mut Session,
    requests: impl Stream<Item = Asked> + Send + Unpin,
    out: &R,
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
                    let bytes = pace.allowed(now, handles.delivery.streams());
                    match session.respond::<R::Deliveries>(bytes) {
                        Ok(None) if heartbeat > now => Ok(()),
                        Ok(answer) => {
                            // With nothing to say: still there.
                            let (deliveries, rest, len) = answer.unwrap_or_default();
                            out.send(deliveries, rest);
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
            () = handles.shutdown().cancelled(), if ending.is_none() => {
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
        let request = request.map_err(|interruption| match interruption {
            Interruption::Refused(error) => Refused::Wrong(error),
            Interruption::Broken(_) => Refused::Broken,
        })?;
        session.on_request(request).map_err(Refused::Wrong)?;
    }
    Ok(())
}
