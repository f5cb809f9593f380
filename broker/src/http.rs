//! The HTTP listener: `/metrics` for Prometheus.

use crate::context::Context;
use crate::metrics;
use crate::partition::ActorState;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;

/// Serves on the current arbiter until the node stops.
pub fn serve(context: &Arc<Context>, listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let state = Arc::clone(context);
    let app = Router::new().route("/metrics", get(move || async move { render(&state) }));
    let shutdown = context.shutdown.clone();
    tokio::spawn(async move {
        let server = axum::serve(listener, app).with_graceful_shutdown(shutdown.cancelled_owned());
        if let Err(error) = server.await {
            tracing::error!(%error, "the HTTP listener stopped");
        }
    });
    Ok(())
}

fn render(context: &Context) -> axum::response::Response {
    let topics = context.registry.topics();
    let offline = topics
        .values()
        .flat_map(|topic| topic.replicas())
        .filter(|handle| handle.board.state() == ActorState::Offline)
        .count();
    let under_replicated = topics
        .values()
        .flat_map(|topic| &topic.described.partitions)
        .filter(|partition| partition.isr.len() < partition.replicas.len())
        .count();
    let active = context.control.controller_id() == Some(context.node_id);
    context.metrics.offline_partitions.set(offline as f64);
    context.metrics.under_replicated_partitions.set(under_replicated as f64);
    context.metrics.active_controller.set(f64::from(u8::from(active)));
    match metrics::recorder() {
        Some(recorder) => {
            recorder.run_upkeep();
            let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
            (kind, recorder.render()).into_response()
        }
        None => {
            let text = "another metrics recorder is installed in this process";
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}
