//! The space of a node's disk, looked at for as long as the node is there.

use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use troupe_log::Space;

/// How often it is looked whether a full disk has room again.
const LOOK_FOR_SPACE: Duration = Duration::from_secs(1);

/// Takes records again when there is room, and keeps something for the next time; until the node is `gone`.
pub(super) async fn watch(space: Arc<Space>, gone: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_FOR_SPACE) => {}
            () = gone.cancelled() => return,
        }
        let look = Arc::clone(&space);
        // Fails only if the runtime is stopping.
        if let Ok(true) = tokio::task::spawn_blocking(move || look.look()).await {
            tracing::info!("there is room on the disk again: records are taken");
        }
    }
}
