//! A connection's bytes: counted as they come, and no more of them in a turn than it allows.

use super::connection::Watched;
use crate::clock::now;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use troupe_machines::connection::frames::Frames;
use troupe_machines::connection::turns::Turns;

/// What is read at once of anything but data: so few bytes hold so few calls.
const SMALL_READ: usize = 4 << 10;

/// What the connection's task and its socket know of each other. One thread has both; the lock is never waited for.
pub struct Traffic {
    state: Mutex<State>,
}

pub struct State {
    pub frames: Frames,
    turns: Turns,
    /// It would have read on, had its turn not been over.
    waits: bool,
}

impl Traffic {
    pub fn new() -> Arc<Traffic> {
        let state = State { frames: Frames::new(now()), turns: Turns::default(), waits: false };
        Arc::new(Traffic { state: Mutex::new(state) })
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn begin_turn(&self) {
        let mut state = self.lock();
        state.turns.begin();
        state.waits = false;
    }

    /// Whether it has to have another turn without being woken.
    pub fn waits_for_its_turn(&self) -> bool {
        self.lock().waits
    }
}

pub struct ConnectionIo {
    stream: Watched,
    traffic: Arc<Traffic>,
}

impl ConnectionIo {
    pub fn new(stream: Watched, traffic: Arc<Traffic>) -> ConnectionIo {
        ConnectionIo { stream, traffic }
    }
}

impl AsyncRead for ConnectionIo {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let limit = {
            let mut state = me.traffic.lock();
            let allowance = state.turns.allowance();
            if allowance == 0 {
                // Whoever polls the connection has it polled again.
                state.waits = true;
                return Poll::Pending;
            }
            allowance.min(state.frames.data_left().max(SMALL_READ))
        };
        let mut limited = buffer.take(limit);
        ready!(Pin::new(&mut me.stream).poll_read(context, &mut limited))?;
        let read = limited.filled().len();
        let mut state = me.traffic.lock();
        let calls = state.frames.take(now(), limited.filled());
        state.turns.spend(read, calls);
        drop(state);
        // SAFETY: `limited` is the beginning of what is unfilled in `buffer`, and so much of it was filled.
        unsafe { buffer.assume_init(read) };
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ConnectionIo {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
