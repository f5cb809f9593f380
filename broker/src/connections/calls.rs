//! The calls of a connection: counted while they are open, timed while their answers are not taken.
//!
//! An answer's body is asked for its next piece when the peer has room for it. So a piece that was handed out, and
//! none asked for since, means a peer that takes nothing; a body that was asked and has nothing means a quiet one.

use super::now;
use crate::grpc::Connection;
use crate::server::Served;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tower::ServiceExt;
use troupe_machines::connection::patience;
use troupe_machines::time::Time;

/// The answer does not wait for the peer.
const NOT_BLOCKED: u64 = u64::MAX;

#[derive(Default)]
pub struct Calls {
    state: Mutex<State>,
}

struct State {
    next: u64,
    /// Since when each waits for its peer to take something.
    open: HashMap<u64, Arc<AtomicU64>>,
    last_end: Time,
}

impl Default for State {
    fn default() -> Self {
        Self { next: 0, open: HashMap::new(), last_end: now() }
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
        state.open.insert(id, Arc::clone(&blocked_since));
        Call { calls: Arc::clone(self), id, blocked_since }
    }

    /// As they stand now.
    pub fn view(&self, leaving_since: Option<Time>) -> patience::Calls {
        let state = self.lock();
        let blocked = state.open.values().map(|since| since.load(Ordering::Relaxed)).min();
        patience::Calls {
            open: state.open.len(),
            last_end: state.last_end,
            blocked_since: blocked.filter(|since| *since != NOT_BLOCKED).map(Time),
            leaving_since,
        }
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

/// What every call of a connection comes through.
#[derive(Clone)]
pub struct Front {
    pub calls: Arc<Calls>,
    pub routes: Served,
    pub peer: Connection,
}

impl hyper::service::Service<Request<Incoming>> for Front {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let call = self.calls.begin();
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
