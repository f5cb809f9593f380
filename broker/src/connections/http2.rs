//! One HTTP/2 connection, from its first byte to its last.

use super::calls::{CallExecutor, CallService, Calls, Front};
use super::connection::Watched;
use super::io::{ConnectionIo, Traffic};
use super::slot_guard::SlotGuard;
use super::timeouts::{KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT};
use crate::clock::now;
use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use troupe_machines::connection::timeouts::{Checks, Verdict};
use troupe_machines::time::Time;

/// The receiver's frame size is what makes large transfers fast: a batch of 1 MiB in one frame.
const MAX_FRAME_BYTES: u32 = (1 << 20) + (16 << 10);
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
const MAX_STREAMS: u32 = 1024;
/// Calls that were cancelled before they were looked at. What can come in one turn is far less, so this counts
/// nobody's impatience; what it costs, the turns make the connection itself pay.
const MAX_CANCELLED_UNSEEN: usize = 8 << 10;
/// Before it is looked whether calls that were ended have ended.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Calls, over the life of a connection, whose peer broke the protocol or went on sending after their end.
const MAX_BROKEN: usize = 16 << 10;

/// Serves it to its end: its peer's, its own for want of signs of life, or the node's.
pub async fn serve(
    slot: SlotGuard,
    stream: TcpStream,
    routes: impl CallService,
    stop: CancellationToken,
) {
    let stream = Watched::new(stream);
    let peer = stream.connect_info();
    let (traffic, calls) = (Traffic::new(), Arc::<Calls>::default());
    let front = Front { calls: Arc::clone(&calls), routes, peer, trial: slot.trial.clone() };
    let io = TokioIo::new(ConnectionIo::new(stream, Arc::clone(&traffic)));
    let mut connection = pin!(builder(&calls).serve_connection(io, front));
    let (timeouts, mut looks, mut introduced) = (slot.timeouts(), Checks::default(), false);
    let (mut leaving, mut leaving_since) = (false, None);
    let mut look = pin!(tokio::time::sleep(Duration::ZERO));
    loop {
        let turn = poll_fn(|context| {
            let polled = take_turn(connection.as_mut(), &traffic, context);
            if !introduced && traffic.lock().frames.is_introduced() {
                introduced = true;
                slot.introduce();
            }
            polled
        });
        let goes = async {
            tokio::select! {
                // Of one that has said nothing there is nothing to end.
                () = stop.cancelled() => traffic.lock().frames.is_introduced(),
                told = slot.lost() => told,
            }
        };
        let verdict = tokio::select! {
            // What has come is read before it is judged what has not.
            biased;
            ended = turn => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended");
                }
                return;
            }
            () = slot.cut.cancelled() => return,
            politely = goes, if !leaving => {
                if !politely {
                    return;
                }
                (leaving, leaving_since) = (true, Some(now()));
                connection.as_mut().graceful_shutdown();
                continue;
            }
            () = look.as_mut() => {
                let calls = calls.view(leaving_since);
                looks.judge(&timeouts, now(), &traffic.lock().frames, &calls)
            }
        };
        match verdict {
            Verdict::Stay(until) => look.as_mut().reset(at(until)),
            Verdict::EndCalls(since) => {
                slot.calls_ended();
                calls.end_blocked(since);
                look.as_mut().reset(Instant::now() + LOOK_AGAIN);
            }
            Verdict::AskToGo(cause) => {
                slot.closed(cause);
                leaving_since = Some(now());
                connection.as_mut().graceful_shutdown();
            }
            Verdict::Cut(cause) => {
                if leaving_since.is_none() {
                    slot.closed(cause);
                }
                return;
            }
        }
    }
}

fn take_turn<C: Future>(
    connection: Pin<&mut C>,
    traffic: &Traffic,
    context: &mut Context<'_>,
) -> Poll<C::Output> {
    traffic.begin_turn();
    let polled = connection.poll(context);
    if polled.is_pending() && traffic.waits_for_its_turn() {
        // Behind everybody else who wants to run.
        context.waker().wake_by_ref();
    }
    polled
}

fn at(time: Time) -> Instant {
    Instant::now() + Duration::from_millis(time.0.saturating_sub(now().0))
}

fn builder(calls: &Arc<Calls>) -> Builder<CallExecutor> {
    let mut builder = Builder::new(CallExecutor(Arc::clone(calls)));
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
