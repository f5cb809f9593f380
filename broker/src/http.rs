//! The HTTP listener: `/metrics` for Prometheus.

use crate::context::Context;
use crate::lines;
use crate::metrics;
use crate::partition::ActorState;
use crate::service::{is_under_min_isr, is_under_replicated};
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

/// What is counted when it is asked for. Sums over all nodes count everything once.
fn observe(context: &Context) {
    let (topics, image) = (context.registry.topics(), context.image.borrow().clone());
    let active = context.control.controller_id() == Some(context.node_id);
    let (mut led, mut offline, mut under_replicated, mut under_min_isr) = (0, 0, 0, 0);
    for topic in image.topics() {
        for partition in &topic.partitions {
            let here = partition.leader == Some(context.node_id);
            led += u32::from(here);
            under_replicated += u32::from(here && is_under_replicated(partition));
            under_min_isr += u32::from(here && is_under_min_isr(topic, partition));
            offline += u32::from(active && partition.leader.is_none());
        }
    }
    let mut lag = 0;
    for handle in topics.values().flat_map(|topic| topic.replicas()) {
        let leader = image.partition(&handle.key()).and_then(|partition| partition.leader);
        if leader == Some(context.node_id) {
            offline += u32::from(handle.board.state() == ActorState::Offline);
            lag = lag.max(handle.board.lag());
        }
    }
    let fenced = if active { image.brokers().filter(|broker| broker.fenced).count() } else { 0 };
    let metrics = &context.metrics;
    metrics.led_partitions.set(led);
    metrics.offline_partitions.set(offline);
    metrics.under_replicated_partitions.set(under_replicated);
    metrics.under_min_isr_partitions.set(under_min_isr);
    metrics.replication_lag.set(lag as f64);
    metrics.active_controller.set(u32::from(active));
    metrics.fenced_brokers.set(fenced as f64);
    metrics.log_lines_lost.absolute(lines::lost());
}

fn render(context: &Context) -> axum::response::Response {
    observe(context);
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
