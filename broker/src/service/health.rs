//! `grpc.health.v1`: `live` as long as the process answers, `ready` while the cluster counts on this broker.

use crate::context::Context;
use std::sync::Arc;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::HealthReporter;

/// The health service. `ready` follows the image: registered, not fenced, not on its way out.
pub async fn health(context: &Arc<Context>) -> HealthServer<impl Health + use<>> {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("live", ServingStatus::Serving).await;
    set_ready(&reporter, is_ready(context)).await;
    tokio::spawn(follow(Arc::clone(context), reporter));
    service
}

fn is_ready(context: &Context) -> bool {
    let image = context.image.borrow();
    image.broker(context.node_id).is_some_and(|broker| broker.is_active())
        && !context.shutdown.is_cancelled()
}

async fn set_ready(reporter: &HealthReporter, ready: bool) {
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    reporter.set_service_status("ready", status).await;
}

async fn follow(context: Arc<Context>, reporter: HealthReporter) {
    let mut images = context.image.clone();
    let mut told = None;
    loop {
        images.mark_unchanged();
        let ready = is_ready(&context);
        if told != Some(ready) {
            set_ready(&reporter, ready).await;
            told = Some(ready);
        }
        tokio::select! {
            changed = images.changed() => if changed.is_err() { break },
            () = context.shutdown.cancelled() => break,
        }
    }
    set_ready(&reporter, false).await;
}
