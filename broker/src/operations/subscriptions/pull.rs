//! Pull: a session that is held in the node between calls, together for all callers with the same options.

use super::options::parse_duration;
use super::session::Session;
use super::sessions::{Answer, Draw, Inbound, Inbox};
use crate::context::Context;
use crate::forward::timeout_of;
use crate::grpc::Connection;
use crate::shutdown::shutting_down;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::Request;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::v1 as pb;

const DEFAULT_RECORDS: usize = 100;
const DEFAULT_WAIT: Duration = Duration::from_secs(5);
const MAX_WAIT: Duration = Duration::from_secs(60);
/// How long a session is held for the next call.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// Of a call's time, the part that is kept for its answer to arrive, within these bounds.
const ANSWER_SHARE: u32 = 10;
const MIN_MARGIN: Duration = Duration::from_millis(10);
const MAX_MARGIN: Duration = Duration::from_millis(500);
/// Sessions that end just when they are asked.
const TRIES: usize = 3;

/// What a call says beside its request.
pub(super) struct Caller {
    pub host: String,
    /// When it gives up.
    deadline: Option<Instant>,
    /// When it has to be answered, for the answer to arrive before that.
    answer_by: Option<Instant>,
    connection: Option<CancellationToken>,
}

impl Caller {
    pub fn of<T>(request: &Request<T>, now: Instant) -> Caller {
        // Longer than any answer takes is long enough.
        let timeout = timeout_of(request.metadata().as_ref());
        let timeout = timeout.map(|timeout| timeout.min(2 * MAX_WAIT));
        let margin = |timeout: Duration| {
            (timeout / ANSWER_SHARE).clamp(MIN_MARGIN, MAX_MARGIN).min(timeout / 2)
        };
        let connection = Connection::of(request.extensions());
        Caller {
            host: super::host_of(request),
            deadline: timeout.map(|timeout| now + timeout),
            answer_by: timeout.map(|timeout| now + timeout - margin(timeout)),
            connection: connection.map(|connection| connection.broken().clone()),
        }
    }
}

pub(super) async fn pull(
    context: &Arc<Context>,
    caller: Caller,
    request: pb::PullRequest,
) -> Result<Answer, Error> {
    let (max_records, max_wait) = (max_records(&request)?, max_wait(&request)?);
    let until = Instant::now() + max_wait;
    let until = caller.answer_by.map_or(until, |by| until.min(by));
    let asked = request.options.ok_or_else(|| {
        let message = "the request has no `options`: they name the topics and the group";
        Error::new(ErrorCode::InvalidRequest, message)
    })?;
    let key = prost::Message::encode_to_vec(&asked);
    for _ in 0..TRIES {
        let inbox = match context.subscriptions.pull_of(&key) {
            Some(inbox) => inbox,
            None => begin(context, caller.host.clone(), key.clone(), asked.clone()).await?,
        };
        let (reply, answer) = oneshot::channel();
        let Caller { deadline, answer_by, connection, .. } = &caller;
        let draw = Draw {
            max_records,
            until,
            answer_by: *answer_by,
            deadline: *deadline,
            connection: connection.clone(),
            reply,
        };
        // A session that ends takes nothing, and drops what it has not answered.
        let _ = inbox.send(Inbound::Draw(draw)).await;
        if let Ok(answer) = answer.await {
            return answer;
        }
        if context.shutdown.is_cancelled() {
            break;
        }
    }
    Err(shutting_down())
}

fn max_records(request: &pb::PullRequest) -> Result<usize, Error> {
    match usize::try_from(request.max_records) {
        Ok(0) => Ok(DEFAULT_RECORDS),
        Ok(records) => Ok(records),
        Err(_) => {
            let message = format!("max_records {} is negative", request.max_records);
            Err(Error::new(ErrorCode::InvalidRequest, message))
        }
    }
}

fn max_wait(request: &pb::PullRequest) -> Result<Duration, Error> {
    let wait = parse_duration("max_wait", request.max_wait)?.unwrap_or(DEFAULT_WAIT);
    if wait > MAX_WAIT {
        let message = "max_wait is more than 60 s; call again instead";
        return Err(Error::new(ErrorCode::InvalidRequest, message));
    }
    Ok(wait)
}

/// The session for these options, which begins now if nobody else was faster.
async fn begin(
    context: &Arc<Context>,
    host: String,
    key: Vec<u8>,
    asked: pb::SubscriptionOptions,
) -> Result<Inbox, Error> {
    let mut options = super::checked(context, asked).await?;
    // The node is there between calls: only the session itself comes and goes.
    let grace = options.grace.take().unwrap_or(DEFAULT_GRACE);
    let (session, inbox) = Session::new(context, host, options);
    if let Some(held) = context.subscriptions.hold_pull(&key, &inbox) {
        return Ok(held);
    }
    let held = Held { context: Arc::clone(context), key, inbox: inbox.clone(), grace };
    tokio::spawn(held.run(session));
    Ok(inbox)
}

struct Held {
    context: Arc<Context>,
    key: Vec<u8>,
    inbox: Inbox,
    grace: Duration,
}

impl Held {
    async fn run(self, mut session: Session) {
        let error = self.serve(&mut session).await;
        self.context.subscriptions.drop_pull(&self.key, &self.inbox);
        if let Some(error) = error {
            for draw in session.draws.drain(..) {
                // Whoever asked may be gone.
                let _ = draw.reply.send(Err(error.clone()));
            }
        }
        let leaves = session.options().member_name.is_empty();
        session.finish(leaves).await;
    }

    /// Until nobody calls any more, or there can be no more deliveries.
    async fn serve(&self, session: &mut Session) -> Option<Error> {
        let mut idle_since = Instant::now();
        loop {
            session.tend();
            session.keep_news_for_calls();
            if let Err(error) = session.serve_draws() {
                return Some(error);
            }
            let now = Instant::now();
            if !session.draws.is_empty() {
                idle_since = now;
            }
            let first_draw = session.draws.iter().map(|draw| draw.until).min();
            let idle_until = idle_since.max(session.last_settled) + self.grace;
            if session.draws.is_empty() && idle_until <= now {
                return None;
            }
            let wake = first_draw.unwrap_or(idle_until);
            tokio::select! {
                worked = session.work() => {
                    if let Err(error) = worked {
                        return Some(error);
                    }
                }
                () = sleep_until(wake) => {}
                () = self.context.shutdown.cancelled() => return Some(shutting_down()),
            }
        }
    }
}
