//! A task that waits for deliveries, so that the sending loop does not have to.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::latency::Latencies;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::time::Instant;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use troupe_client::{ClientError, Delivery};

/// Takes deliveries and the moments they were asked for.
pub struct Collector {
    sender: mpsc::UnboundedSender<(Instant, Delivery)>,
    task: JoinHandle<Result<Latencies, ClientError>>,
}

impl Collector {
    pub fn start() -> Collector {
        let (sender, mut receiver) = mpsc::unbounded_channel::<(Instant, Delivery)>();
        let task = tokio::spawn(async move {
            let mut latencies = Latencies::default();
            let mut open = FuturesUnordered::new();
            let mut failure = None;
            let mut more = true;
            while more || !open.is_empty() {
                tokio::select! {
                    biased;
                    Some((sent, outcome)) = open.next() => match outcome {
                        Ok(_) => latencies.record(Instant::elapsed(&sent)),
                        Err(error) => failure = failure.or(Some(error)),
                    },
                    next = receiver.recv(), if more => match next {
                        Some((sent, delivery)) => open.push(async move { (sent, delivery.await) }),
                        None => more = false,
                    },
                }
            }
            failure.map_or(Ok(latencies), Err)
        });
        Collector { sender, task }
    }

    pub fn watch(&self, sent: Instant, delivery: Delivery) {
        // The task ends only after this sender is dropped.
        let _ = self.sender.send((sent, delivery));
    }

    /// A delivery that failed has ended nothing; it is told here.
    pub async fn finish(self) -> Result<Latencies, Failure> {
        drop(self.sender);
        let what = || "the benchmark failed".to_owned();
        match self.task.await {
            Ok(latencies) => latencies.map_err(|error| Failure::client(what(), &error)),
            Err(error) => Err(Failure::new(Exit::Failed, what(), error)),
        }
    }
}
