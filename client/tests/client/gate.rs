//! What stands between clients and a fake node: a node that is killed or stopped looks like its gate.

use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// A node as its clients see it.
pub struct Gate {
    pub endpoint: String,
    node: String,
    silent: watch::Sender<bool>,
    /// Accepting, and all that was accepted. None: connections are refused.
    open: Arc<Mutex<Option<AbortHandle>>>,
}

impl Gate {
    pub async fn open(node: String) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let gate = Gate { endpoint, node, silent: watch::Sender::new(false), open: Arc::default() };
        gate.serve(listener);
        gate
    }

    fn serve(&self, listener: TcpListener) {
        let (node, silent) = (self.node.clone(), self.silent.subscribe());
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let node = TcpStream::connect(&node).await.unwrap();
                let ((from, to), (up, down)) = (client.into_split(), node.into_split());
                connections.spawn(carry(from, down, silent.clone()));
                connections.spawn(carry(up, to, silent.clone()));
            }
        });
        *self.open.lock().unwrap() = Some(accepting.abort_handle());
    }

    /// As after SIGSTOP: connections stand, and can be made, but nothing comes through until it is resumed.
    pub fn stop(&self, stopped: bool) {
        self.silent.send_replace(stopped);
    }

    /// As after SIGKILL: connections break, and new ones are refused.
    pub fn kill(&self) {
        if let Some(accepting) = self.open.lock().unwrap().take() {
            accepting.abort();
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut silent: watch::Receiver<bool>) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if silent.wait_for(|silent| !silent).await.is_err() {
            return;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
