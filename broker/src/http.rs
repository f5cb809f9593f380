//! The HTTP listener: `/metrics` for Prometheus; `/live` and `/ready` for whoever starts nodes and sends clients there,
//! as `grpc.health.v1` says it.

use crate::census::{self, Census};
use crate::connections::{Connections, Protocol, accept, serve_http1};
use crate::context::Context;
use crate::lines;
use crate::metrics;
use crate::process;
use crate::service::{active_controller, is_ready};
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use troupe_actor::ActorState;

/// Serves on the current arbiter until the node stops.
pub fn serve(context: &Arc<Context>, listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let (state, ready) = (Arc::clone(context), Arc::clone(context));
    let app = Router::new()
        .route("/metrics", get(move || async move { render(&state) }))
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(move || async move { readiness(&ready) }));
    let (connections, stop) = (Connections::new("http", context), context.shutdown.clone());
    let stopped = stop.clone();
    let serve = move |stream, guest| serve_http1(guest, stream, app.clone(), stopped.clone());
    tokio::spawn(async move {
        if let Err(error) = accept(listener, connections, Protocol::Http1, stop, serve).await {
            tracing::error!(%error, "the HTTP listener stopped");
        }
    });
    Ok(())
}

/// Whether clients should be sent here, and if not, why not.
fn readiness(context: &Context) -> (StatusCode, String) {
    if is_ready(context) {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let why = match context.controller.silence_ms() {
        _ if context.shutdown.is_cancelled() => "this node is stopping".to_owned(),
        None => "no active controller has been heard since this node started".to_owned(),
        Some(silence) if !context.controller.hears_controller() => {
            format!("no active controller has been heard for {silence} ms")
        }
        Some(_) => "the controller does not count on this broker (yet, or any more)".to_owned(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n"))
}

/// What is counted when it is asked for. Sums over all nodes count everything once.
fn observe(context: &Context) {
    let (topics, image) = (context.metadata.registry.topics(), context.metadata.now());
    let active = active_controller(context) == Some(context.node_id);
    let (mut led, mut offline, mut under_replicated, mut under_min_isr) = (0, 0, 0, 0);
    for topic in image.topics() {
        for partition in &topic.partitions {
            let here = partition.leader == Some(context.node_id);
            led += u32::from(here);
            under_replicated += u32::from(here && partition.is_under_replicated());
            under_min_isr += u32::from(here && topic.is_under_min_isr(partition));
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
    observe_distress(context);
    observe_tables(context);
}

fn observe_distress(context: &Context) {
    let (census, metrics) = (Census::take(context), &context.metrics);
    metrics.offline_replicas.set(census.offline.len() as f64);
    metrics.stalled_replicas.set(census.still.len() as f64);
    metrics.oldest_append_wait_seconds.set(census.oldest_wait_ms as f64 / 1e3);
    metrics.queued_bytes.set(census.queued_bytes as f64);
    let silence = context.controller.silence_ms();
    metrics.controller_silence_seconds.set(silence.map_or(f64::INFINITY, |ms| ms as f64 / 1e3));
    if let Some(free) = census::free_bytes(context) {
        metrics.disk_free_bytes.set(free as f64);
    }
}

/// How much there is of what comes and goes: what only ever grows is a leak.
fn observe_tables(context: &Context) {
    let metrics = &context.metrics;
    let census = context.groups.led();
    let census = census.iter().map(|coordinator| coordinator.census());
    let (groups, members) = census.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    metrics.entries("groups", usize::try_from(groups).unwrap_or(usize::MAX));
    metrics.entries("group_members", usize::try_from(members).unwrap_or(usize::MAX));
    metrics.entries("peer_connections", context.peers.connections());
    metrics.entries("peer_streams", context.leaders.produce_streams.count());
    metrics.entries("subscriptions", context.sessions.count());
    metrics.entries("pull_sessions", context.pulls.count());
    let streams = context.replicators.iter().map(|replicator| replicator.streams().len());
    metrics.entries("replication_streams", streams.sum());
    if let Some(process) = process::Process::look() {
        metrics.open_descriptors.set(process.descriptors as f64);
        metrics.threads.set(process.threads as f64);
        metrics.resident_bytes.set(process.resident_bytes as f64);
    }
}

fn render(context: &Context) -> axum::response::Response {
    observe(context);
    context.admission.observe();
    match metrics::recorder() {
        Some(recorder) => {
            recorder.run_upkeep();
            let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
            let mut text = recorder.render();
            context.metrics.render_topics(&mut text);
            (kind, text).into_response()
        }
        None => {
            let text = "another metrics recorder is installed in this process";
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}
