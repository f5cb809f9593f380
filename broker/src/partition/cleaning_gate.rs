//! One pass of the cleaner over a partition at a time, over the lives of all its actors.
//!
//! A pass reads and writes in the partition's directory from a thread of its own. It is told to stop when its log is
//! closed or its actor dies, and nobody opens the log again, or takes the directory away, before it has stopped: what it
//! leaves half done is removed by whoever opens the log next.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio_util::sync::{CancellationToken, DropGuard};

#[derive(Default)]
pub struct CleaningGate(Mutex<Option<Pass>>);

#[derive(Clone)]
struct Pass {
    stop: CancellationToken,
    over: CancellationToken,
}

/// Held by whoever cleans, as long as it works in the directory.
pub struct CleaningTurn {
    stop: CancellationToken,
    _over: DropGuard,
}

impl CleaningTurn {
    /// Cancelled when the pass is of no use any more.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }
}

impl CleaningGate {
    /// For the pass that begins now; `None` while another is under way. It ends with `node`, too.
    pub fn enter(&self, node: &CancellationToken) -> Option<CleaningTurn> {
        let mut pass = self.lock();
        if pass.as_ref().is_some_and(|pass| !pass.over.is_cancelled()) {
            return None;
        }
        let (stop, over) = (node.child_token(), CancellationToken::new());
        *pass = Some(Pass { stop: stop.clone(), over: over.clone() });
        Some(CleaningTurn { stop, _over: over.drop_guard() })
    }

    /// Whatever is under way is of no use any more.
    pub fn stop(&self) {
        if let Some(pass) = &*self.lock() {
            pass.stop.cancel();
        }
    }

    /// Returns when no pass is under way.
    pub async fn idle(&self) {
        let pass = self.lock().clone();
        if let Some(pass) = pass {
            pass.over.cancelled().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Pass>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn a_directory_has_one_pass_at_a_time_and_is_idle_when_it_is_over() {
        let (gate, node) = (CleaningGate::default(), CancellationToken::new());
        assert!(gate.idle().now_or_never().is_some());
        let turn = gate.enter(&node).unwrap();
        assert!(gate.enter(&node).is_none());
        gate.stop();
        assert!(turn.stop().is_cancelled());
        assert!(gate.idle().now_or_never().is_none(), "it was told, and works still");
        drop(turn);
        assert!(gate.idle().now_or_never().is_some());
        let next = gate.enter(&node).unwrap();
        assert!(!next.stop().is_cancelled());
        node.cancel();
        assert!(next.stop().is_cancelled());
    }
}
