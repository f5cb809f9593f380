//! Pull: a session that is held in the node between calls, together for all callers with the same options.

use super::handles::Handles;
use super::options::Options;
use super::pulls::{Draw, DrawInbox, PullAnswer, Pulls};
use super::request::{PullRequest, SubscriptionOptions};
use super::response::PullRest;
use super::session::Session;
use crate::operations::delivery::Beside;
use crate::shutdown::shutting_down;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use troupe_proto::error::{Error, ErrorCode};

const DEFAULT_RECORDS: usize = 100;
const DEFAULT_WAIT: Duration = Duration::from_secs(5);
const MAX_WAIT: Duration = Duration::from_secs(60);
/// How long a session is held for the next call.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// Of a call's time, the part that is kept for its answer to arrive, within these bounds.
const ANSWER_SHARE: u32 = 10;
const MIN_MARGIN: Duration = Duration::from_millis(10);
const MAX_MARGIN: Duration = Duration::from_millis(500);
/// Calls that a session has not taken yet.
const INBOX: usize = 16;
/// Sessions that end just when they are asked.
const TRIES: usize = 3;

/// What is known of a call beside its request.
pub struct PullCaller {
    /// The address that it came from.
    pub host: String,
    /// When it gives up.
    deadline: Option<Instant>,
    /// When it has to be answered, for the answer to arrive before that.
    answer_by: Option<Instant>,
    /// Cancelled when the connection breaks that it came on.
    connection: Option<CancellationToken>,
}

impl PullCaller {
    /// One that came at `now`, and waits for so long.
    pub fn new(
        host: String,
        connection: Option<CancellationToken>,
        timeout: Option<Duration>,
        now: Instant,
    ) -> Self {
        // Longer than any answer takes is long enough.
        let timeout = timeout.map(|timeout| timeout.min(2 * MAX_WAIT));
        let margin = |timeout: Duration| {
            (timeout / ANSWER_SHARE).clamp(MIN_MARGIN, MAX_MARGIN).min(timeout / 2)
        };
        Self {
            host,
            deadline: timeout.map(|timeout| now + timeout),
            answer_by: timeout.map(|timeout| now + timeout - margin(timeout)),
            connection,
        }
    }
}

/// Deliveries of a session that is held between calls.
///
/// # Errors
/// As for a stream.
pub async fn pull<D: Beside<PullRest>>(
    handles: &Arc<Handles>,
    pulls: &Arc<Pulls<D>>,
    caller: PullCaller,
    request: PullRequest,
) -> Result<PullAnswer<D>, Error> {
    let (max_records, max_wait) = (max_records(&request)?, max_wait(&request)?);
    let until = Instant::now() + max_wait;
    let until = caller.answer_by.map_or(until, |by| until.min(by));
    let asked = request.options.ok_or_else(|| {
        let message = "the request has no `options`: they name the topics and the group";
        Error::new(ErrorCode::InvalidRequest, message)
    })?;
    for _ in 0..TRIES {
        let inbox = match pulls.get(&asked) {
            Some(inbox) => inbox,
            None => begin(handles, pulls, caller.host.clone(), asked.clone()).await?,
        };
        let (reply, answer) = oneshot::channel();
        let PullCaller { deadline, answer_by, connection, .. } = &caller;
        let draw = Draw {
            max_records,
            until,
            answer_by: *answer_by,
            deadline: *deadline,
            connection: connection.clone(),
            reply,
        };
        // A session that ends takes nothing, and drops what it has not answered.
        let _ = inbox.send(draw).await;
        if let Ok(answer) = answer.await {
            return answer;
        }
        if handles.shutdown().is_cancelled() {
            break;
        }
    }
    Err(shutting_down())
}

fn max_records(request: &PullRequest) -> Result<usize, Error> {
    match usize::try_from(request.max_records) {
        Ok(0) => Ok(DEFAULT_RECORDS),
        Ok(records) => Ok(records),
        Err(_) => {
            let message = format!("max_records {} is negative", request.max_records);
            Err(Error::new(ErrorCode::InvalidRequest, message))
        }
    }
}

fn max_wait(request: &PullRequest) -> Result<Duration, Error> {
    let wait = request.max_wait.unwrap_or(DEFAULT_WAIT);
    if wait > MAX_WAIT {
        let message = "max_wait is more than 60 s; call again instead";
        return Err(Error::new(ErrorCode::InvalidRequest, message));
    }
    Ok(wait)
}

/// The session for these options, which begins now if nobody else was faster.
async fn begin<D: Beside<PullRest>>(
    handles: &Arc<Handles>,
    pulls: &Arc<Pulls<D>>,
    host: String,
    asked: SubscriptionOptions,
) -> Result<DrawInbox<D>, Error> {
    let mut options = Options::check(asked.clone(), &handles.topic_lookup).await?;
    // The node is there between calls: only the session itself comes and goes.
    let grace = options.grace.take().unwrap_or(DEFAULT_GRACE);
    let (inbox, taken) = mpsc::channel(INBOX);
    if let Some(held) = pulls.hold(&asked, &inbox) {
        return Ok(held);
    }
    let session = Session::new(handles, host, options);
    let held = Held {
        handles: Arc::clone(handles),
        pulls: Arc::clone(pulls),
        asked,
        inbox: inbox.clone(),
        taken,
        draws: VecDeque::new(),
        grace,
    };
    tokio::spawn(held.run(session));
    Ok(inbox)
}

struct Held<D> {
    handles: Arc<Handles>,
    pulls: Arc<Pulls<D>>,
    asked: SubscriptionOptions,
    inbox: DrawInbox<D>,
    taken: mpsc::Receiver<Draw<D>>,
    /// Who waits for deliveries.
    draws: VecDeque<Draw<D>>,
    grace: Duration,
}

impl<D: Beside<PullRest>> Held<D> {
    async fn run(mut self, mut session: Session) {
        let error = self.serve(&mut session).await;
        self.pulls.let_go(&self.asked, &self.inbox);
        if let Some(error) = error {
            for draw in self.draws.drain(..) {
                // Whoever asked may be gone.
                let _ = draw.reply.send(Err(error.clone()));
            }
        }
        let leaves = session.options().member_name.is_empty();
        session.finish(leaves).await;
    }

    /// Until nobody calls any more, or there can be no more deliveries.
    async fn serve(&mut self, session: &mut Session) -> Option<Error> {
        let mut idle_since = Instant::now();
        loop {
            session.tend();
            session.keep_news_for_calls();
            // Whoever settles and asks for more, one right after the other, is served in that order.
            session.settle_waiting();
            if let Err(error) = session.serve_draws(&mut self.draws) {
                return Some(error);
            }
            let now = Instant::now();
            if !self.draws.is_empty() {
                idle_since = now;
            }
            let first_draw = self.draws.iter().map(|draw| draw.until).min();
            let idle_until = idle_since.max(session.last_settled) + self.grace;
            if self.draws.is_empty() && idle_until <= now {
                return None;
            }
            let wake = first_draw.unwrap_or(idle_until);
            tokio::select! {
                worked = session.work() => {
                    if let Err(error) = worked {
                        return Some(error);
                    }
                }
                Some(draw) = self.taken.recv() => self.draws.push_back(draw),
                () = sleep_until(wake) => {}
                () = self.handles.shutdown().cancelled() => return Some(shutting_down()),
            }
        }
    }
}
