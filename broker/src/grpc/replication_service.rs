//! `troupe.internal.v1.ReplicationService`, by hand: batches go out as they lie in memory or in a mapped file.
//!
//! Promise: a stream that ends, however it ends, is over for the partitions that pushed on it.
//! Never here: who may follow, and what is pushed.

use super::body::{Outgoing, ResponseBody, response};
use super::message::{MessageReader, Requests, decode, encode, encode_with_pieces};
use crate::controller_channel::ControllerChannel;
use crate::metadata_cache::MetadataCache;
use crate::page_cache;
use crate::partition::Push;
use crate::replication::Leading;
use bytes::Bytes;
use http::{Request, Response};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::wire::ReplicatePartitionsResponse;

/// The field of the batches in an answer.
const BATCHES_TAG: u32 = 15;
/// Pushes that are joined into one write.
const PUSHES_PER_WRITE: usize = 64;
/// Writes that wait for the connection; the bytes in them are bounded by the follower's credit.
const WRITES_AHEAD: usize = 4;

#[derive(Clone)]
pub struct ReplicationDoor {
    metadata: Arc<MetadataCache>,
    controller: Arc<ControllerChannel>,
    max_request: usize,
}

impl ReplicationDoor {
    /// Takes requests of up to `max_request` bytes.
    pub fn new(
        metadata: Arc<MetadataCache>,
        controller: Arc<ControllerChannel>,
        max_request: usize,
    ) -> Self {
        Self { metadata, controller, max_request }
    }

    fn dispatch(self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        if method != "ReplicatePartitions" {
            let message = format!("ReplicationService has no method `{method}`");
            return Err(Status::unimplemented(message));
        }
        let requests = MessageReader::new(request.into_body(), self.max_request);
        let (outgoing, body) = ResponseBody::channel(WRITES_AHEAD);
        let shutdown = self.metadata.shutdown.clone();
        let (leading, pushed) = Leading::begin(self.metadata, self.controller);
        tokio::spawn(serve(leading, pushed, requests, outgoing, shutdown));
        Ok(response(body))
    }
}

impl NamedService for ReplicationDoor {
    const NAME: &'static str = "troupe.internal.v1.ReplicationService";
}

impl tower::Service<Request<Body>> for ReplicationDoor {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.clone().dispatch(request).unwrap_or_else(Status::into_http);
        Box::pin(async move { Ok(answer) })
    }
}

/// One stream, to its end.
async fn serve(
    mut leading: Leading,
    pushed: mpsc::UnboundedReceiver<Push>,
    mut requests: Requests,
    outgoing: mpsc::Sender<Outgoing>,
    shutdown: CancellationToken,
) {
    let writer = tokio::spawn(write(pushed, outgoing.clone()));
    let end = loop {
        let request = tokio::select! {
            request = requests.next() => request,
            () = outgoing.closed() => break None,
            () = shutdown.cancelled() => {
                let message = "the node is stopping";
                break Some(Error::new(ErrorCode::ShuttingDown, message).into());
            }
        };
        let handled = match request {
            Ok(Some(message)) => decode(message)
                .and_then(|request| leading.on_request(request).map_err(Status::from)),
            Ok(None) => break None,
            Err(status) => Err(status),
        };
        if let Err(status) = handled {
            break Some(status);
        }
    };
    leading.close();
    if let Some(status) = end {
        // The follower may be gone.
        let _ = outgoing.send(Err(status)).await;
    }
    // What is still to be written has nobody to read it.
    writer.abort();
}

/// Writes what is pushed, joined as it comes.
async fn write(mut pushed: mpsc::UnboundedReceiver<Push>, outgoing: mpsc::Sender<Outgoing>) {
    let mut pushes = Vec::with_capacity(PUSHES_PER_WRITE);
    while pushed.recv_many(&mut pushes, PUSHES_PER_WRITE).await > 0 {
        let mut written = Vec::with_capacity(2 * pushes.len());
        for push in pushes.drain(..) {
            match push {
                Push::Slice { channel, ends, round, read_from, pieces } => {
                    for piece in &pieces {
                        page_cache::make_resident(piece).await;
                    }
                    let head = ReplicatePartitionsResponse {
                        channel,
                        high_watermark: ends.high_watermark.0,
                        log_start_offset: ends.log_start.0,
                        refusal: None,
                        round,
                        read_offset: read_from.map(|offset| offset.0),
                        everyone_has_offset: ends.everyone_has.0,
                        tombstones_gone_offset: ends.tombstones_gone_below.0,
                        batches: Bytes::new(),
                    };
                    encode_with_pieces(&head, BATCHES_TAG, pieces, &mut written);
                }
                Push::End { channel, refusal } => {
                    let refusal = Some(refusal);
                    written.push(encode(&ReplicatePartitionsResponse {
                        channel,
                        refusal,
                        ..Default::default()
                    }));
                }
            }
        }
        if outgoing.send(Ok(written)).await.is_err() {
            return;
        }
    }
}
