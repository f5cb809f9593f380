//! Whether clients should be sent to this node: while the cluster counts on this broker, and somebody decides for the
//! cluster. A node that has not heard an active controller for the time of a session may lead nothing any more, and
//! would be the last to know.

use crate::controller_channel::ControllerChannel;
use crate::metadata_cache::MetadataCache;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use troupe_controller::ControllerHandle;
use troupe_controller::metadata_log::Leadership;

/// How soon it is seen that no controller is heard any more.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

pub struct Readiness {
    metadata: Arc<MetadataCache>,
    controller: Arc<ControllerChannel>,
    /// Cancelled when the node has stopped.
    gone: CancellationToken,
}

impl Readiness {
    pub fn new(
        metadata: Arc<MetadataCache>,
        controller: Arc<ControllerChannel>,
        gone: CancellationToken,
    ) -> Self {
        Self { metadata, controller, gone }
    }

    /// # Errors
    /// Why clients should not be sent here.
    pub fn check(&self) -> Result<(), String> {
        if self.is_ready() {
            return Ok(());
        }
        Err(match self.controller.silence_ms() {
            _ if self.metadata.shutdown.is_cancelled() => "this node is stopping".to_owned(),
            None => "no active controller has been heard since this node started".to_owned(),
            Some(silence) if !self.controller.hears_controller() => {
                format!("no active controller has been heard for {silence} ms")
            }
            Some(_) => "the controller does not count on this broker (yet, or any more)".to_owned(),
        })
    }

    /// Whether this node is ready, from now on: it follows the image (registered, not fenced, not on its way out),
    /// and who decides. On the current thread; until the node is gone.
    pub fn follow(self: &Arc<Self>) -> watch::Receiver<bool> {
        let (told, ready) = watch::channel(self.is_ready());
        tokio::spawn(tell(Arc::clone(self), told));
        ready
    }

    fn is_ready(&self) -> bool {
        let counted_on = !self.metadata.has_replicas || {
            let image = self.metadata.image.borrow();
            image.broker(self.metadata.node_id).is_some_and(|broker| broker.is_active())
        };
        counted_on && self.controller.hears_controller() && !self.metadata.shutdown.is_cancelled()
    }
}

async fn tell(readiness: Arc<Readiness>, told: watch::Sender<bool>) {
    let mut images = readiness.metadata.image.clone();
    let mut leadership = readiness.controller.local().map(ControllerHandle::leadership);
    loop {
        images.mark_unchanged();
        leadership.iter_mut().for_each(watch::Receiver::mark_unchanged);
        let ready = readiness.is_ready();
        told.send_if_modified(|before| std::mem::replace(before, ready) != ready);
        tokio::select! {
            changed = images.changed() => if changed.is_err() { break },
            changed = news(&mut leadership) => if changed.is_err() { break },
            // Silence is no news.
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = readiness.metadata.shutdown.cancelled() => break,
        }
    }
    told.send_replace(false);
    // Whoever watches is told until the node is gone.
    readiness.gone.cancelled().await;
}

/// Another controller is active.
async fn news(
    leadership: &mut Option<watch::Receiver<Leadership>>,
) -> Result<(), watch::error::RecvError> {
    match leadership {
        Some(leadership) => leadership.changed().await,
        None => std::future::pending().await,
    }
}
