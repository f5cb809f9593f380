//! The calls that carry batches, made by hand so that prost never decodes a record: batches travel as `bytes`
//! (see [`crate::wire`]), in messages as large as a batch may be.

use crate::internal::v1::ReplicatePartitionsRequest;
use crate::log::v1::{FetchStreamRequest, ProduceStreamResponse};
use crate::wire::{FetchStreamResponse, ProduceStreamRequest, ReplicatePartitionsResponse};
use std::marker::PhantomData;
use tonic::codec::{BufferSettings, Codec};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::tokio_stream::Stream;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// No batch is larger than 2^28 bytes; a push holds one batch or about a megabyte of them.
const MAX_MESSAGE: usize = 300 << 20;
/// More small messages in a buffer before it is handed to the connection.
const BUFFER: (usize, usize) = (8 << 10, 256 << 10);

/// Batches up, answers down.
///
/// # Errors
/// The status of a call that was not taken.
pub async fn produce_stream(
    channel: Channel,
    requests: impl Stream<Item = ProduceStreamRequest> + Send + 'static,
) -> Result<Streaming<ProduceStreamResponse>, Status> {
    open(channel, Request::new(requests), "/troupe.log.v1.LogService/ProduceStream").await
}

/// The same for a node that passes on what it has let in itself: a request carries the name `marker`.
///
/// # Errors
/// The status of a call that was not taken.
pub async fn forward_stream(
    channel: Channel,
    requests: impl Stream<Item = ProduceStreamRequest> + Send + 'static,
    marker: &'static str,
) -> Result<Streaming<ProduceStreamResponse>, Status> {
    let mut request = Request::new(requests);
    request.metadata_mut().insert(marker, MetadataValue::from_static("1"));
    open(channel, request, "/troupe.log.v1.LogService/ProduceStream").await
}

/// Positions and credit up, batches down.
///
/// # Errors
/// The status of a call that was not taken.
pub async fn fetch_stream(
    channel: Channel,
    requests: impl Stream<Item = FetchStreamRequest> + Send + 'static,
) -> Result<Streaming<FetchStreamResponse>, Status> {
    open(channel, Request::new(requests), "/troupe.log.v1.LogService/FetchStream").await
}

/// A follower's channels and credit up, the leader's batches down.
///
/// # Errors
/// The status of a call that was not taken.
pub async fn replicate_partitions(
    channel: Channel,
    requests: impl Stream<Item = ReplicatePartitionsRequest> + Send + 'static,
) -> Result<Streaming<ReplicatePartitionsResponse>, Status> {
    let path = "/troupe.internal.v1.ReplicationService/ReplicatePartitions";
    open(channel, Request::new(requests), path).await
}

async fn open<Up, Down>(
    channel: Channel,
    request: Request<impl Stream<Item = Up> + Send + 'static>,
    path: &'static str,
) -> Result<Streaming<Down>, Status>
where
    Up: prost::Message + 'static,
    Down: prost::Message + Default + 'static,
{
    let mut grpc = tonic::client::Grpc::new(channel)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
    let path = PathAndQuery::from_static(path);
    let codec = BulkCodec::<Up, Down>(PhantomData);
    Ok(grpc.streaming(request, path, codec).await?.into_inner())
}

/// [`ProstCodec`] with larger buffers.
struct BulkCodec<Up, Down>(PhantomData<fn() -> (Up, Down)>);

impl<Up, Down> Codec for BulkCodec<Up, Down>
where
    Up: prost::Message + 'static,
    Down: prost::Message + Default + 'static,
{
    type Encode = Up;
    type Decode = Down;
    type Encoder = ProstEncoder<Up>;
    type Decoder = ProstDecoder<Down>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<Up, Down>::raw_encoder(BufferSettings::new(BUFFER.0, BUFFER.1))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<Up, Down>::raw_decoder(BufferSettings::new(BUFFER.0, BUFFER.1))
    }
}
