//! A connection to a node that may be cut or slow.

use super::delayed::Delayed;
use super::faults::{Direction, NetworkFaults};
use bytes::Bytes;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use troupe_proto::ids::NodeId;

/// What is read at once of what arrives late.
const PIECE: usize = 64 << 10;

pub(super) struct FaultyStream {
    /// Taken at the end alone.
    io: Option<TcpStream>,
    node: NodeId,
    faults: Arc<NetworkFaults>,
    /// Of the faults, when these directions held.
    version: u64,
    to: Direction,
    from: Direction,
    outgoing: Delayed,
    incoming: Delayed,
    /// What comes behind that: the end, or why nothing more comes.
    ended: Option<io::Result<()>>,
    sends: Option<Pin<Box<Sleep>>>,
    receives: Option<Pin<Box<Sleep>>>,
}

/// Pending until then, and woken then.
fn wait_until(
    timer: &mut Option<Pin<Box<Sleep>>>,
    due: Instant,
    context: &mut Context<'_>,
) -> Poll<()> {
    let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
    if timer.deadline() != due {
        timer.as_mut().reset(due);
    }
    timer.as_mut().poll(context)
}

impl FaultyStream {
    pub fn new(io: TcpStream, node: NodeId, faults: Arc<NetworkFaults>) -> Self {
        let (version, (to, from)) = (faults.version(), faults.of(node));
        Self {
            io: Some(io),
            node,
            faults,
            version,
            to,
            from,
            outgoing: Delayed::default(),
            incoming: Delayed::default(),
            ended: None,
            sends: None,
            receives: None,
        }
    }

    fn io(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.io.as_mut().expect("it is taken when this is dropped"))
    }

    #[inline]
    fn look(&mut self) {
        let version = self.faults.version();
        if version != self.version {
            self.version = version;
            (self.to, self.from) = self.faults.of(self.node);
        }
    }

    /// Pending until something changes. Ready: it has changed.
    fn hold(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.faults.await_change(context.waker(), self.version) {
            return Poll::Pending;
        }
        self.look();
        Poll::Ready(())
    }

    /// Sends what is due. Ready: nothing is left.
    fn send_due(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.outgoing.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if self.to.holds() {
                ready!(self.hold(context));
                continue;
            }
            let Some(first) = self.outgoing.first(Instant::now()) else {
                let Some(due) = self.outgoing.due() else { return Poll::Ready(Ok(())) };
                ready!(wait_until(&mut self.sends, due, context));
                continue;
            };
            let io = self.io.as_mut().expect("it is taken when this is dropped");
            let sent = ready!(Pin::new(io).poll_write(context, first))?;
            self.outgoing.advance(sent);
        }
    }

    /// Takes in what has come, to be seen later.
    fn take_in(&mut self, context: &mut Context<'_>) {
        while self.ended.is_none() && !self.incoming.is_full() {
            let mut room = vec![0; PIECE];
            let mut piece = ReadBuf::new(&mut room);
            match self.io().poll_read(context, &mut piece) {
                Poll::Pending => return,
                Poll::Ready(Err(error)) => self.ended = Some(Err(error)),
                Poll::Ready(Ok(())) if piece.filled().is_empty() => self.ended = Some(Ok(())),
                Poll::Ready(Ok(())) => {
                    let piece = Bytes::copy_from_slice(piece.filled());
                    let delay = self.from.delay().unwrap_or_default();
                    self.incoming.push(Instant::now(), delay, piece);
                }
            }
        }
    }

    /// What is written goes through here rather than to the system at once.
    fn writes_late(&self) -> bool {
        self.to.is_slow() || !self.outgoing.is_empty()
    }

    fn write_late(
        &mut self,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.outgoing.is_full()
            && let Poll::Ready(Err(error)) = self.send_due(context)
        {
            return Poll::Ready(Err(error));
        }
        if self.outgoing.is_full() {
            return Poll::Pending;
        }
        let piece =
            Bytes::from(pieces.iter().flat_map(|piece| piece.iter().copied()).collect::<Vec<u8>>());
        let (len, delay) = (piece.len(), self.to.delay().unwrap_or_default());
        self.outgoing.push(Instant::now(), delay, piece);
        match self.send_due(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(len)),
        }
    }
}

impl AsyncRead for FaultyStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.look();
        // Whoever reads and has nothing to write would not be asked again when something is due.
        if !this.outgoing.is_empty()
            && let Poll::Ready(Err(error)) = this.send_due(context)
        {
            return Poll::Ready(Err(error));
        }
        while this.from.holds() {
            this.from.note_held();
            ready!(this.hold(context));
        }
        if !this.from.is_slow() && this.incoming.is_empty() && this.ended.is_none() {
            return this.io().poll_read(context, buffer);
        }
        this.take_in(context);
        loop {
            if let Some(first) = this.incoming.first(Instant::now()) {
                let taken = first.len().min(buffer.remaining());
                buffer.put_slice(&first[..taken]);
                this.incoming.advance(taken);
                return Poll::Ready(Ok(()));
            }
            match this.incoming.due() {
                Some(due) => ready!(wait_until(&mut this.receives, due, context)),
                None => {
                    return match this.ended.take() {
                        Some(ended) => {
                            this.ended = Some(Ok(()));
                            Poll::Ready(ended)
                        }
                        None => Poll::Pending,
                    };
                }
            }
        }
    }
}

impl AsyncWrite for FaultyStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.look();
        while this.to.holds() {
            this.to.note_held();
            ready!(this.hold(context));
        }
        match this.writes_late() {
            true => this.write_late(context, pieces),
            false => this.io().poll_write_vectored(context, pieces),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.look();
        ready!(this.send_due(context))?;
        this.io().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.look();
        if this.to.holds() {
            // The other end is not to learn of it: see the drop.
            return Poll::Ready(Ok(()));
        }
        ready!(this.send_due(context))?;
        this.io().poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

impl Drop for FaultyStream {
    fn drop(&mut self) {
        self.look();
        if self.to.holds()
            && let Some(io) = self.io.take()
        {
            self.faults.give_up(io);
        }
    }
}
