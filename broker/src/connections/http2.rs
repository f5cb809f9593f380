//! One HTTP/2 connection, from its first byte to its last.

use super::calls::{Calls, Front};
use super::io::{GuestIo, Traffic};
use super::{Guest, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, now};
use crate::grpc::Watched;
use crate::server::Served;
use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use troupe_machines::connection::patience::Verdict;
use troupe_machines::time::Time;

/// The receiver's frame size is what makes large transfers fast: a batch of 1 MiB in one frame.
const MAX_FRAME_BYTES: u32 = (1 << 20) + (16 << 10);
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
const MAX_STREAMS: u32 = 1024;
/// Calls that were cancelled before they were looked at. What can come in one turn is far less, so this counts
/// nobody's impatience; what it costs, the turns make the connection itself pay.
const MAX_CANCELLED_UNSEEN: usize = 8 << 10;
/// Calls, over the life of a connection, whose peer broke the protocol or went on sending after their end.
const MAX_BROKEN: usize = 16 << 10;

/// Serves it to its end: its peer's, its own for want of signs of life, or the node's.
pub async fn serve(guest: Guest, stream: TcpStream, routes: Served, stop: CancellationToken) {
    let stream = Watched::new(stream);
    let peer = stream.connect_info();
    let (traffic, calls) = (Traffic::new(), Arc::<Calls>::default());
    let front = Front { calls: Arc::clone(&calls), routes, peer };
    let io = TokioIo::new(GuestIo::new(stream, Arc::clone(&traffic)));
    let mut connection = pin!(builder().serve_connection(io, front));
    let (patience, mut introduced) = (guest.patience(), false);
    let (mut leaving, mut leaving_since) = (false, None);
    let mut look = pin!(tokio::time::sleep(Duration::ZERO));
    loop {
        let turn = poll_fn(|context| {
            traffic.begin_turn();
            let polled = connection.as_mut().poll(context);
            if polled.is_pending() && traffic.waits_for_its_turn() {
                // Behind everybody else who wants to run.
                context.waker().wake_by_ref();
            }
            if !introduced && traffic.lock().frames.is_introduced() {
                introduced = true;
                guest.introduce();
            }
            polled
        });
        let verdict = tokio::select! {
            ended = turn => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended");
                }
                return;
            }
            () = guest.cut.cancelled() => return,
            () = stop.cancelled(), if !leaving => {
                if !introduced {
                    // There is nothing to end.
                    return;
                }
                leaving = true;
                connection.as_mut().graceful_shutdown();
                continue;
            }
            () = look.as_mut() => {
                patience.judge(now(), &traffic.lock().frames, &calls.view(leaving_since))
            }
        };
        match verdict {
            Verdict::Stay(until) => look.as_mut().reset(at(until)),
            Verdict::AskToGo(cause) => {
                guest.closed(cause);
                leaving_since = Some(now());
                connection.as_mut().graceful_shutdown();
            }
            Verdict::Cut(cause) => {
                if leaving_since.is_none() {
                    guest.closed(cause);
                }
                return;
            }
        }
    }
}

fn at(time: Time) -> Instant {
    Instant::now() + Duration::from_millis(time.0.saturating_sub(now().0))
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_CANCELLED_UNSEEN)
        .max_local_error_reset_streams(MAX_BROKEN)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder
}
