//! The calls of a connection: counted while they are open, timed while their answers are not taken, ended one by one.
//!
//! An answer's body is asked for its next piece when the peer has room for it. So a piece that was handed out, and
//! none asked for since, means a peer that takes nothing; a body that was asked and has nothing means a quiet one.

use super::connection::Connection;
use super::trial::Trial;
use crate::clock::now;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::Executor;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::task::AbortHandle;
use tonic::Status;
use tonic::body::Body;
use tower::{Service, ServiceExt};
use troupe_machines::connection::timeouts;
use troupe_machines::time::Time;

/// The answer does not wait for the peer.
const NOT_BLOCKED: u64 = u64::MAX;

#[derive(Default)]
pub struct Calls {
    state: Mutex<State>,
}

struct State {
    next: u64,
    open: HashMap<u64, Open>,
    /// The call that has begun, and has no task yet.
    newborn: Option<u64>,
    last_end: Time,
}

struct Open {
    /// Since when it waits for its peer to take something.
    blocked_since: Arc<AtomicU64>,
    task: Option<AbortHandle>,
}

impl Default for State {
    fn default() -> Self {
        Self { next: 0, open: HashMap::new(), newborn: None, last_end: now() }
    }
}

impl Calls {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>) -> Call {
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        let blocked_since = Arc::new(AtomicU64::new(NOT_BLOCKED));
        let open = Open { blocked_since: Arc::clone(&blocked_since), task: None };
        state.open.insert(id, open);
        state.newborn = Some(id);
        Call { calls: Arc::clone(self), id, blocked_since }
    }

    /// As they stand now.
    pub fn view(&self, leaving_since: Option<Time>) -> timeouts::Calls {
        let state = self.lock();
        let blocked = || state.open.values().map(Open::blocked_since);
        let since = |one: Option<u64>| one.filter(|since| *since != NOT_BLOCKED).map(Time);
        timeouts::Calls {
            open: state.open.len(),
            last_end: state.last_end,
            blocked_since: since(blocked().min()),
            all_blocked_since: since(blocked().max()),
            leaving_since,
        }
    }

    /// Ends those whose peer has taken nothing since then. What HTTP/2 holds of them already goes to the peer if it
    /// ever takes it, and then it hears that they were cancelled.
    pub fn end_blocked(&self, since: Time) {
        let state = self.lock();
        let blocked = state.open.values().filter(|open| open.blocked_since() <= since.0);
        blocked.filter_map(|open| open.task.as_ref()).for_each(AbortHandle::abort);
    }

    /// Called right after [`Calls::begin`], by the connection that has made it.
    fn runs_as(&self, task: AbortHandle) {
        let mut state = self.lock();
        if let Some(newborn) = state.newborn.take()
            && let Some(open) = state.open.get_mut(&newborn)
        {
            open.task = Some(task);
        }
    }
}

impl Open {
    fn blocked_since(&self) -> u64 {
        self.blocked_since.load(Ordering::Relaxed)
    }
}

/// Runs the calls of a connection, each as a task. hyper asks the service for a call's answer and, before anything
/// else, this for the task that sends it: so it is known which task is whose.
#[derive(Clone)]
pub struct CallExecutor(pub Arc<Calls>);

impl<F> Executor<F> for CallExecutor
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, call: F) {
        self.0.runs_as(tokio::spawn(call).abort_handle());
    }
}

/// A call that is open; over when this is dropped.
struct Call {
    calls: Arc<Calls>,
    id: u64,
    blocked_since: Arc<AtomicU64>,
}

impl Call {
    fn handed_out(&self) {
        self.blocked_since.store(now().0, Ordering::Relaxed);
    }

    fn asked(&self) {
        self.blocked_since.store(NOT_BLOCKED, Ordering::Relaxed);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut state = self.calls.lock();
        state.open.remove(&self.id);
        state.last_end = now();
    }
}

/// The answer of a call, which is open as long as this is there.
pub struct Answer {
    body: Body,
    call: Call,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let me = self.get_mut();
        me.call.asked();
        let polled = Pin::new(&mut me.body).poll_frame(context);
        if matches!(polled, Poll::Ready(Some(Ok(_)))) {
            me.call.handed_out();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What serves the calls of a listener.
pub trait CallService:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static
{
}

impl<S> CallService for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// What every call of a connection comes through.
#[derive(Clone)]
pub struct Front<S> {
    pub calls: Arc<Calls>,
    pub routes: S,
    pub peer: Connection,
    /// Of a connection that is refused, unless it is one of the cluster's own.
    pub trial: Option<Arc<Trial>>,
}

impl<S: CallService> hyper::service::Service<Request<Incoming>> for Front<S> {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let call = self.calls.begin();
        if let Some(Err(refusal)) = self.trial.as_ref().map(|trial| trial.judge(&request)) {
            let response: Response<Body> = Status::from(refusal).into_http();
            return Box::pin(async move { Ok(response.map(|body| Answer { body, call })) });
        }
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.peer.clone());
        let answered = self.routes.clone().oneshot(request);
        Box::pin(async move {
            let Ok(response) = answered.await;
            // Until it is asked for its first piece, it waits for the peer.
            call.handed_out();
            Ok(response.map(|body| Answer { body, call }))
        })
    }
}
