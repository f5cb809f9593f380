//! `grpc.health.v1`: `live` as long as the process answers, `ready` while the cluster counts on this broker, and
//! somebody decides for the cluster: a node that has not heard an active controller for the time of a session may
//! lead nothing any more, and would be the last to know.

use crate::context::Context;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch::{self, error::RecvError};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::HealthReporter;
use troupe_controller::ControllerHandle;
use troupe_controller::metadata_log::Leadership;

/// How soon it is seen that no controller is heard any more.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The health service. `ready` follows the image: registered, not fenced, not on its way out.
pub async fn health(context: &Arc<Context>) -> HealthServer<impl Health + use<>> {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("live", ServingStatus::Serving).await;
    set_ready(&reporter, is_ready(context)).await;
    tokio::spawn(follow(Arc::clone(context), reporter));
    service
}

/// Whether clients should be sent here.
pub fn is_ready(context: &Context) -> bool {
    let counted_on = !context.config.is_broker() || {
        let image = context.image.borrow();
        image.broker(context.node_id).is_some_and(|broker| broker.is_active())
    };
    counted_on && context.hears_controller() && !context.shutdown.is_cancelled()
}

async fn set_ready(reporter: &HealthReporter, ready: bool) {
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    reporter.set_service_status("ready", status).await;
}

async fn follow(context: Arc<Context>, reporter: HealthReporter) {
    let mut images = context.image.clone();
    let mut leadership = context.control.local().map(ControllerHandle::leadership);
    let mut told = None;
    loop {
        images.mark_unchanged();
        leadership.iter_mut().for_each(watch::Receiver::mark_unchanged);
        let ready = is_ready(&context);
        if told != Some(ready) {
            set_ready(&reporter, ready).await;
            told = Some(ready);
        }
        tokio::select! {
            changed = images.changed() => if changed.is_err() { break },
            changed = news(&mut leadership) => if changed.is_err() { break },
            // Silence is no news.
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = context.shutdown.cancelled() => break,
        }
    }
    set_ready(&reporter, false).await;
}

/// Another controller is active.
async fn news(leadership: &mut Option<watch::Receiver<Leadership>>) -> Result<(), RecvError> {
    match leadership {
        Some(leadership) => leadership.changed().await,
        None => std::future::pending().await,
    }
}
