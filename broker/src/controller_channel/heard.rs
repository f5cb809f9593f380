//! When an active controller was heard last, and so as of when all is true that this node says of the cluster.

use crate::clock::now;
use std::sync::atomic::{AtomicU64, Ordering};
use troupe_machines::time::Time;

/// What this broker has heard in its session, or when it registered.
#[derive(Default)]
pub struct Heard {
    /// When an active controller said something last. 0: never.
    last: AtomicU64,
    /// When all that it knew then was known here. 0: never.
    current: AtomicU64,
}

impl Heard {
    /// An active controller has answered. `current`: what it knows is known here.
    pub fn note(&self, current: bool) {
        let now = now().0;
        self.last.store(now, Ordering::Relaxed);
        if current {
            self.current.store(now, Ordering::Relaxed);
        }
    }

    pub fn last(&self) -> Option<Time> {
        at(&self.last)
    }

    pub fn current(&self) -> Option<Time> {
        at(&self.current)
    }
}

fn at(time: &AtomicU64) -> Option<Time> {
    Some(Time(time.load(Ordering::Relaxed))).filter(|time| time.0 > 0)
}
