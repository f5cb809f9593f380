//! Who answers while a node stands still: what is asked about faults, and nothing else.
//!
//! A stopped process says nothing, and its system takes connections in all the same. So does this: over the listeners of
//! the node, on a thread of its own, it lets connections in; of what is asked there, faults are listed and stopped,
//! actors and metrics shown, and everything else waits until the pause is over. Then these connections end, and whoever
//! made them comes again.
//! Never here: connections from before. They are held by threads that stand still.

use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// For the answer to who has stopped the pause.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Serves a listener for as long as it is asked to.
pub type Serve = Arc<
    dyn Fn(TcpListener, CancellationToken) -> futures::future::BoxFuture<'static, ()> + Send + Sync,
>;

/// Listeners, and what is served there.
#[derive(Default)]
pub struct DoorParts(Vec<(TcpListener, Serve)>);

impl DoorParts {
    /// The same socket, for another thread. Without it, what comes there waits in the system.
    pub fn add(&mut self, listener: &TcpListener, serve: &Serve) {
        if let Ok(listener) = listener.try_clone() {
            self.0.push((listener, Arc::clone(serve)));
        }
    }
}

/// See the module.
pub struct Door(Mutex<DoorParts>);

impl Door {
    pub fn new(parts: DoorParts) -> Self {
        Self(Mutex::new(parts))
    }

    /// On this thread, until the pause is over.
    pub fn serve(&self, over: CancellationToken) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        let mut serving = Vec::new();
        for (listener, serve) in &self.0.lock().unwrap_or_else(PoisonError::into_inner).0 {
            if let Ok(listener) = listener.try_clone() {
                serving.push(serve(listener, over.clone()));
            }
        }
        runtime.block_on(async {
            let all = futures::future::join_all(serving);
            tokio::pin!(all);
            tokio::select! {
                _ = &mut all => {}
                () = over.cancelled() => drop(tokio::time::timeout(LAST_ANSWERS, all).await),
            }
        });
        runtime.shutdown_background();
    }

    /// The node serves no more: nobody is let in.
    pub fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.clear();
    }
}
