//! The pause of all threads of a node at once: what SIGSTOP is to a process, for one of several nodes in it too.
//!
//! Each thread that takes part runs [`PauseGate::take_part`] beside its actors. While the gate is closed that task does
//! not return, and so nothing else on its thread runs: no message, no timer, no connection.
//! Promises: a gate opens by itself when its time is over; what stood still then goes on where it was.
//! Never here: threads that nobody has told to take part. They go on.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

#[derive(Debug)]
pub struct PauseGate {
    /// Until when it is closed.
    until: Mutex<Option<Instant>>,
    opened: Condvar,
    closed: watch::Sender<bool>,
    removed: AtomicBool,
    threads: AtomicUsize,
    standing: AtomicUsize,
}

impl Default for PauseGate {
    fn default() -> Self {
        Self {
            until: Mutex::default(),
            opened: Condvar::new(),
            closed: watch::Sender::new(false),
            removed: AtomicBool::new(false),
            threads: AtomicUsize::new(0),
            standing: AtomicUsize::new(0),
        }
    }
}

impl PauseGate {
    /// Threads stand still from their next turn on, for so long at most.
    pub fn close(&self, duration: Duration) {
        let mut until = self.lock();
        if self.removed.load(Ordering::Relaxed) {
            return;
        }
        *until = Some(Instant::now() + duration);
        // Others ask for it while they hold what follows.
        drop(until);
        self.closed.send_replace(true);
    }

    /// They go on, and nothing stops them any more.
    pub fn remove(&self) {
        let until = self.lock();
        self.removed.store(true, Ordering::Relaxed);
        drop(until);
        self.open();
    }

    /// They go on.
    pub fn open(&self) {
        *self.lock() = None;
        self.closed.send_replace(false);
        self.opened.notify_all();
    }

    pub fn is_closed(&self) -> bool {
        self.lock().is_some_and(|until| Instant::now() < until)
    }

    /// How many threads stand still, of how many that take part.
    pub fn standing(&self) -> (usize, usize) {
        (self.standing.load(Ordering::Relaxed), self.threads.load(Ordering::Relaxed))
    }

    /// The thread that this runs on stands still whenever the gate is closed.
    pub async fn take_part(self: Arc<Self>) {
        let _thread = Counted::new(&self.threads);
        let mut closed = self.closed.subscribe();
        while closed.wait_for(|closed| *closed).await.is_ok() {
            self.stand();
            // Closed for longer than it was: then it is closed again.
            let is_closed = |closed: &mut bool| std::mem::take(closed);
            self.closed.send_if_modified(|closed| !self.is_closed() && is_closed(closed));
        }
    }

    fn stand(&self) {
        let _standing = Counted::new(&self.standing);
        let mut until = self.lock();
        while let Some(end) = *until {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.opened.wait_timeout(until, left);
            until = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_rt::Arbiter;
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(600);

    fn standing(gate: &PauseGate, wanted: usize) {
        while gate.standing().0 != wanted {
            std::thread::yield_now();
        }
    }

    #[actix_rt::test]
    async fn a_thread_stands_still_until_the_gate_opens_by_hand_or_by_itself() {
        let (gate, thread) = (Arc::<PauseGate>::default(), Arbiter::new());
        thread.spawn(Arc::clone(&gate).take_part());
        let (does, done) = mpsc::channel();
        for (closed_for, opened_by_hand) in
            [(LONG, true), (Duration::from_millis(30), false), (LONG, true)]
        {
            gate.close(closed_for);
            if opened_by_hand {
                standing(&gate, 1);
            }
            let begun = Instant::now();
            let does = does.clone();
            thread.spawn(async move { does.send(begun.elapsed()).unwrap() });
            if opened_by_hand {
                assert!(done.try_recv().is_err(), "it runs");
                gate.open();
            }
            done.recv().unwrap();
            standing(&gate, 0);
        }
        gate.remove();
        gate.close(LONG);
        assert!(!gate.is_closed());
        thread.stop();
        thread.join().unwrap();
        assert_eq!(gate.standing(), (0, 0));
    }
}
