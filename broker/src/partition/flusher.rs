//! The threads that wait for the disk, so that no shard does.
//!
//! A partition has at most one flush under way (group commit), so the queue is never longer than the
//! number of partitions. Files are removed by a thread of their own, after all others and with rests: a large one takes tens
//! of milliseconds, and no flush shall wait behind it.

use crate::abort::AbortOnPanic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};
use troupe_controller::priority;

type Job = Box<dyn FnOnce() + Send>;

/// After a piece of a file that is removed.
const REST: Duration = Duration::from_millis(10);
/// With more that wait to be removed than these there is no rest: they come faster than they go.
const MOST_WAITING: usize = 64;

/// Submits work to the flush threads. They end when the last handle is gone.
#[derive(Clone)]
pub struct Flusher {
    jobs: Sender<Job>,
    removals: Sender<Job>,
    waiting: Arc<AtomicUsize>,
}

impl Flusher {
    /// Starts `threads` threads.
    pub fn start(threads: usize) -> io::Result<Self> {
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for index in 0..threads {
            let queue = Arc::clone(&queue);
            let run = move || run(&queue, priority::after_decisions);
            thread::Builder::new().name(format!("flush-{index}")).spawn(run)?;
        }
        let (removals, queue) = channel::<Job>();
        let run = move || run(&Mutex::new(queue), priority::after_all);
        thread::Builder::new().name("remove".to_owned()).spawn(run)?;
        Ok(Self { jobs, removals, waiting: Arc::default() })
    }

    pub fn submit(&self, job: impl FnOnce() + Send + 'static) {
        // Fails only when every flush thread is gone; dropping the job then drops its reply, which the
        // actor hears of as a failed flush.
        let _ = self.jobs.send(Box::new(job));
    }

    /// One after the other, when there is time; each is given what makes it rest. What is not done at the end of the
    /// process is a leftover.
    pub fn remove(&self, job: impl FnOnce(&dyn Fn()) + Send + 'static) {
        let waiting = Arc::clone(&self.waiting);
        waiting.fetch_add(1, Ordering::Relaxed);
        let _ = self.removals.send(Box::new(move || {
            job(&|| {
                if waiting.load(Ordering::Relaxed) <= MOST_WAITING {
                    thread::sleep(REST);
                }
            });
            waiting.fetch_sub(1, Ordering::Relaxed);
        }));
    }
}

fn run(queue: &Mutex<Receiver<Job>>, take_priority: fn()) {
    let _guard = AbortOnPanic("a flush thread");
    take_priority();
    loop {
        // One thread waits for the next job while holding the lock; the others wait for the lock.
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}
