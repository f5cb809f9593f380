//! The threads that wait for the disk, so that no shard does.
//!
//! A partition has at most one flush under way (group commit), so the queue is never longer than the
//! number of partitions. Files are removed by a thread of their own, after all others: a large one takes tens of
//! milliseconds, and no flush shall wait behind it.

use crate::abort::AbortOnPanic;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, thread};
use troupe_controller::priority;

type Job = Box<dyn FnOnce() + Send>;

/// Submits work to the flush threads. They end when the last handle is gone.
#[derive(Clone)]
pub struct Flusher {
    jobs: Sender<Job>,
    removals: Sender<Job>,
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
        Ok(Self { jobs, removals })
    }

    pub fn submit(&self, job: impl FnOnce() + Send + 'static) {
        // Fails only when every flush thread is gone; dropping the job then drops its reply, which the
        // actor hears of as a failed flush.
        let _ = self.jobs.send(Box::new(job));
    }

    /// One after the other, when there is time. What is not done at the end of the process is a leftover.
    pub fn remove(&self, job: impl FnOnce() + Send + 'static) {
        let _ = self.removals.send(Box::new(job));
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
