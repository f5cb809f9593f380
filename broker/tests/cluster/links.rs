//! Nodes that reach each other through links, on which what is sent can be held up.

use super::Cluster;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What stands in front of one node's listener. Clients that know the node's own address go past it.
pub struct Link {
    accepted: Arc<AtomicUsize>,
    /// Connections of this number and above deliver nothing to the node.
    held_from: watch::Sender<usize>,
}

impl Link {
    fn start(listener: TcpListener, node: SocketAddr) -> Link {
        let link = Link { accepted: Arc::default(), held_from: watch::Sender::new(usize::MAX) };
        let (accepted, held_from) = (Arc::clone(&link.accepted), link.held_from.subscribe());
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let number = accepted.fetch_add(1, Ordering::SeqCst);
                let held_from = held_from.clone();
                tokio::spawn(async move {
                    // Of a node that is down, the connection ends.
                    if let Ok(to) = TcpStream::connect(node).await {
                        carry(from, to, number, held_from).await;
                    }
                });
            }
        });
        link
    }

    /// So many connections were made so far.
    pub fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Holds up what is sent to the node on these connections; it arrives at the release.
    pub fn hold_from(&self, number: usize) {
        self.held_from.send_replace(number);
    }

    pub fn release(&self) {
        self.held_from.send_replace(usize::MAX);
    }
}

async fn carry(
    from: TcpStream,
    to: TcpStream,
    number: usize,
    mut held_from: watch::Receiver<usize>,
) {
    let (mut from_read, mut from_write) = from.into_split();
    let (mut to_read, mut to_write) = to.into_split();
    let there = async {
        let mut piece = vec![0; 64 << 10];
        while let Ok(len @ 1..) = from_read.read(&mut piece).await {
            let passes = held_from.wait_for(|from| number < *from).await.is_ok();
            if !passes || to_write.write_all(&piece[..len]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = there => {}
        _ = tokio::io::copy(&mut to_read, &mut from_write) => {}
    }
}

impl Cluster {
    /// Nodes that know each other by their links. The links of their listeners, by node.
    pub async fn start_behind_links(count: i32) -> (Cluster, BTreeMap<i32, Link>) {
        let both: Vec<_> = (1..=count).map(|id| (id, "broker,controller")).collect();
        let mut listeners = BTreeMap::new();
        for id in 1..=count {
            listeners.insert(id, TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let cluster = Self::prepare(&both, |id, config| {
            config.advertised_listener = listeners[&id].local_addr().unwrap().to_string();
        });
        let link = |(id, listener)| (id, Link::start(listener, cluster.configs[&id].listener));
        let links = listeners.into_iter().map(link).collect();
        (cluster.begin(&both).await, links)
    }
}
