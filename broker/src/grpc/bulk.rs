//! The two streams that carry batches, towards another node: batches travel as bytes, and nobody decodes them.

use futures::Stream;
use http::uri::PathAndQuery;
use std::marker::PhantomData;
use tonic::codec::{BufferSettings, Codec};
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};
use troupe_proto::log::v1::{FetchStreamRequest, ProduceStreamResponse};
use troupe_proto::wire::{FetchStreamResponse, ProduceStreamRequest};

/// No batch is larger than 2^28 bytes; a push holds one batch or about a megabyte of them.
const MAX_MESSAGE: usize = 300 << 20;
/// More small messages in a buffer before it is handed to the connection (limits.md, part B).
const BUFFER: (usize, usize) = (8 << 10, 256 << 10);

/// Batches up, answers down.
pub async fn produce_stream(
    channel: Channel,
    requests: impl Stream<Item = ProduceStreamRequest> + Send + 'static,
) -> Result<Streaming<ProduceStreamResponse>, Status> {
    open(channel, requests, "/troupe.log.v1.LogService/ProduceStream").await
}

/// Positions and credit up, batches down.
pub async fn fetch_stream(
    channel: Channel,
    requests: impl Stream<Item = FetchStreamRequest> + Send + 'static,
) -> Result<Streaming<FetchStreamResponse>, Status> {
    open(channel, requests, "/troupe.log.v1.LogService/FetchStream").await
}

async fn open<Up, Down>(
    channel: Channel,
    requests: impl Stream<Item = Up> + Send + 'static,
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
    Ok(grpc.streaming(Request::new(requests), path, codec).await?.into_inner())
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
