//! What a call knows of the connection that it came on: who is at the other end, and whether it broke.

use crate::admission::new_flow;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use troupe_machines::admission::FlowId;

/// In the extensions of every request.
#[derive(Clone, Debug)]
pub struct Connection {
    remote: Option<SocketAddr>,
    broken: CancellationToken,
    flow: FlowId,
}

impl Connection {
    /// The connection of a request, if it came on one.
    pub fn of(extensions: &http::Extensions) -> Option<&Connection> {
        extensions.get()
    }

    /// Of the connection that a call came on: each has one share, however many streams it opens.
    pub fn flow_of(extensions: &http::Extensions) -> FlowId {
        Connection::of(extensions).map_or_else(new_flow, Connection::flow)
    }

    pub fn remote_ip(&self) -> Option<IpAddr> {
        Some(self.remote?.ip())
    }

    /// Whose turn it is among all connections, for whatever comes on this one.
    pub fn flow(&self) -> FlowId {
        self.flow
    }

    /// Cancelled when the connection broke: it was reset, or fell silent. One that the other end closed did not break:
    /// the other end has read all there was, or its system would have reset the connection.
    pub fn broken(&self) -> &CancellationToken {
        &self.broken
    }
}

/// A stream of bytes that says whether it broke.
pub struct Watched {
    io: TcpStream,
    connection: Connection,
    /// Either end has closed it in good order.
    is_closed: bool,
    has_failed: bool,
}

impl Watched {
    pub fn new(io: TcpStream) -> Watched {
        let connection = Connection {
            remote: io.peer_addr().ok(),
            broken: CancellationToken::new(),
            flow: new_flow(),
        };
        Watched { io, connection, is_closed: false, has_failed: false }
    }

    fn noted<T>(&mut self, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.has_failed |= matches!(done, Poll::Ready(Err(_)));
        done
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.has_failed || !self.is_closed {
            self.connection.broken.cancel();
        }
    }
}

impl Connected for Watched {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.connection.clone()
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buffer.filled().len(), buffer.remaining());
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        let is_end = read.is_ready() && room > 0 && buffer.filled().len() == before;
        self.is_closed |= is_end;
        self.noted(read)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.noted(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_closed = true;
        let shut = Pin::new(&mut self.io).poll_shutdown(context);
        self.noted(shut)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, pieces);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, Watched) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (client.unwrap(), Watched::new(accepted.unwrap().0))
    }

    /// Or whoever opens many streams would have as many shares.
    #[tokio::test]
    async fn all_calls_of_a_connection_are_one_flow_and_two_connections_are_two() {
        let (one, other) = (pair().await.1.connect_info(), pair().await.1.connect_info());
        assert_eq!(one.flow(), one.clone().flow());
        assert_ne!(one.flow(), other.flow());
    }

    #[tokio::test]
    async fn a_connection_that_is_closed_in_good_order_did_not_break() {
        let (client, mut server) = pair().await;
        let connection = server.connect_info();
        drop(client);
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
        drop(server);
        assert!(!connection.broken().is_cancelled());
    }

    #[tokio::test]
    async fn a_connection_that_is_reset_or_given_up_broke() {
        let (client, mut server) = pair().await;
        let connection = server.connect_info();
        server.write_all(b"what nobody reads").await.unwrap();
        client.readable().await.unwrap();
        drop(client);
        server.read(&mut [0; 8]).await.unwrap_err();
        drop(server);
        assert!(connection.broken().is_cancelled(), "closed with something unread");

        let (mut silent, server) = pair().await;
        let connection = server.connect_info();
        silent.write_all(b"and then nothing").await.unwrap();
        drop(server);
        assert!(connection.broken().is_cancelled(), "given up by this end");
    }
}
