//! What producers may have under way in this node at once. [`troupe_machines::admission`] decides; here it is waited
//! for.
//!
//! No key sets it: what a node carries it finds out, within [`BOUNDS`].
//!
//! Promise: whoever waits is let in in its turn, or stops waiting; what is let in counts until its [`Share`] is
//! dropped.

use metrics::{Gauge, gauge};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use troupe_machines::admission::{self, Bounds, FlowId, STUCK_MS, Ticket};
use troupe_machines::time::Time;
use troupe_proto::error::{Error, ErrorCode};

/// Few enough that a disk has them soon, and enough that one producer with its five batches of 256 KiB under way never
/// waits when it is alone.
const BOUNDS: Bounds = Bounds {
    least_bytes: 1 << 18,
    least_alone_bytes: 3 << 19,
    most_bytes: 64 << 20,
    target_ms: 20,
};

/// As the wall clock says when this is first asked; from then on it never goes back.
fn now() -> Time {
    static BEGAN: OnceLock<(u64, Instant)> = OnceLock::new();
    let wall_clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (then, began) = BEGAN.get_or_init(|| (millis(wall_clock()), Instant::now()));
    Time(then + millis(began.elapsed()))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Unlike any other of this process.
pub fn new_flow() -> FlowId {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    FlowId(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What is told of a batch whose turn did not come in time.
pub fn overloaded() -> Error {
    let message = "the node is asked to write more than it can carry, and the batch's turn did not come in time; it \
        was not appended; send less, or wait before it is sent again";
    Error::new(ErrorCode::Throttled, message)
}

/// Of one node.
pub struct Admission {
    state: Mutex<State>,
    limit: Gauge,
    under_way: Gauge,
}

struct State {
    machine: admission::Admission,
    waiting: HashMap<Ticket, oneshot::Sender<()>>,
}

impl Admission {
    pub fn new(node_id: i32) -> Arc<Admission> {
        let node = node_id.to_string();
        let machine = admission::Admission::new(now(), BOUNDS);
        Arc::new(Admission {
            state: Mutex::new(State { machine, waiting: HashMap::new() }),
            limit: gauge!("troupe_produce_limit_bytes", "node" => node.clone()),
            under_way: gauge!("troupe_produce_under_way_bytes", "node" => node),
        })
    }

    /// As counted now.
    pub fn observe(&self) {
        let state = self.lock();
        self.limit.set(state.machine.limit() as f64);
        self.under_way.set(state.machine.under_way() as f64);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the flow's turn. May be dropped: then it does not wait any more.
    pub async fn admit(self: &Arc<Self>, flow: FlowId, bytes: usize) -> Share {
        let (share, mut admitted) = {
            let mut state = self.lock();
            let ticket = state.machine.ask(flow, bytes as u64);
            let (sender, admitted) = oneshot::channel();
            state.waiting.insert(ticket, sender);
            state.wake_admitted();
            (Share { admission: Arc::clone(self), ticket }, admitted)
        };
        // What keeps it waiting may never be answered, and then nobody else looks.
        while tokio::time::timeout(Duration::from_millis(STUCK_MS), &mut admitted).await.is_err() {
            self.lock().wake_admitted();
        }
        share
    }

    /// The same, until a deadline.
    ///
    /// # Errors
    /// `THROTTLED`.
    pub async fn admit_until(
        self: &Arc<Self>,
        deadline: Instant,
        flow: FlowId,
        bytes: usize,
    ) -> Result<Share, Error> {
        timeout_at(deadline, self.admit(flow, bytes)).await.map_err(|_| overloaded())
    }
}

impl State {
    fn wake_admitted(&mut self) {
        for ticket in self.machine.admit(now()) {
            if let Some(waiting) = self.waiting.remove(&ticket) {
                // It has stopped waiting just now; its share is about to be dropped.
                let _ = waiting.send(());
            }
        }
    }
}

/// A batch under way, until this is dropped.
pub struct Share {
    admission: Arc<Admission>,
    ticket: Ticket,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        state.waiting.remove(&self.ticket);
        state.machine.leave(now(), self.ticket);
        state.wake_admitted();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn who_stops_waiting_leaves_the_turn_to_the_next() {
        let admission = Admission::new(1);
        let all = admission.admit(new_flow(), 1 << 30).await;
        let mut second = Box::pin(admission.admit(new_flow(), 1 << 30));
        let mut third = Box::pin(admission.admit(new_flow(), 10));
        assert!((&mut second).now_or_never().is_none());
        assert!((&mut third).now_or_never().is_none());
        drop(second);
        drop(all);
        let third = third.await;
        assert_eq!(admission.lock().machine.under_way(), 10);
        drop(third);
        assert_eq!(admission.lock().machine.under_way(), 0);
        assert!(admission.lock().waiting.is_empty());
    }

    #[tokio::test]
    async fn whose_turn_does_not_come_in_time_is_told_of_the_overload() {
        let admission = Admission::new(1);
        let all = admission.admit(new_flow(), 1 << 30).await;
        let late = admission.admit_until(Instant::now(), new_flow(), 10).await;
        let error = late.err().unwrap();
        assert_eq!(error.code, ErrorCode::Throttled);
        assert!(error.surely_not_done());
        assert!(admission.lock().waiting.is_empty());
        drop(all);
        assert!(admission.admit_until(Instant::now(), new_flow(), 10).await.is_ok());
    }
}
