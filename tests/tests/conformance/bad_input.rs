//! What a node is sent by mistake or by malice: each has its own clear answer, and the node lives on.

use crate::{checked, reason};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use troupe_proto::batch::Compression;
use troupe_proto::log::v1::{RecordBatch, record_batch};
use troupe_proto::v1::ErrorReason::*;
use troupe_proto::v1::{Acks, PublishRequest, PublishResponse};
use troupe_tests::{Sample, Server, batch_of, samples};

/// The node still does its main job.
async fn assert_alive(server: &Server) {
    // A connection of its own: the node listens, and not only to those who are connected.
    let server = Server::at(server.address()).await;
    let topic = server.new_topic(1, &[]).await.name;
    let record = Sample::of("alive", 1);
    let result =
        server.produce(&topic, 0, batch_of(std::slice::from_ref(&record)), Acks::All).await;
    assert_eq!((result.base_offset, result.error), (0, None));
    assert_eq!(server.read_all(&topic, 0).await, [(0, record)]);
}

/// Bytes on the port that are no HTTP/2. The connection ends; what is said before the end does not matter.
fn throw(address: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    // The node may close before everything is written.
    let _ = stream.write_all(bytes);
    let _ = stream.read(&mut [0; 1024]);
}

#[tokio::test]
async fn garbage_on_the_port_ends_its_connection_alone() {
    let server = Server::get().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut noise = vec![0; 100_000];
    for (n, byte) in noise.iter_mut().enumerate() {
        *byte = (n * 7 + n / 256) as u8;
    }
    let huge_frame = [&preface[..], b"\xff\xff\xff\x00\x00\x00\x00\x00\x01"].concat();
    let half_a_frame = [&preface[..], b"\x00\x00\x40\x04\x00"].concat();
    for bytes in [
        b"".as_slice(),
        b"hello\n",
        b"\x00",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        // A TLS client hello begins like this.
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        preface,
        &huge_frame,
        &half_a_frame,
        &noise,
        &[&preface[..], &noise].concat(),
    ] {
        throw(server.address(), bytes);
    }
    assert_alive(&server).await;
}

async fn unary(server: &Server, path: &'static str) -> Code {
    let mut grpc = tonic::client::Grpc::new(server.channel());
    grpc.ready().await.unwrap();
    let codec: ProstCodec<PublishRequest, PublishResponse> = ProstCodec::default();
    let request = Request::new(PublishRequest::default());
    let path = http::uri::PathAndQuery::from_static(path);
    match grpc.unary(request, path, codec).await {
        Ok(_) => panic!("there is nothing to answer"),
        Err(status) => status.code(),
    }
}

/// Every service, those with our own bodies too.
#[tokio::test]
async fn paths_that_nobody_serves_are_unimplemented() {
    let server = Server::get().await;
    for path in [
        "/no.such.Service/Method",
        "/troupe.v1.EventBusService/NoSuchMethod",
        "/troupe.log.v1.LogService/NoSuchMethod",
        "/troupe.log.v1.MetadataService/NoSuchMethod",
        "/",
    ] {
        assert_eq!(unary(&server, path).await, Code::Unimplemented, "{path}");
    }
    assert_alive(&server).await;
}

/// Every field of the numbers that messages use, of a type that none of them has there.
#[derive(Clone, PartialEq, prost::Message)]
struct Strange {
    #[prost(fixed64, repeated, packed = "false", tag = "1")]
    first: Vec<u64>,
    #[prost(bytes, tag = "4095")]
    padding: Vec<u8>,
}

/// Calls a method with one message, whatever it takes: how the call ends.
async fn call(server: &Server, path: &str, message: Strange) -> Option<Status> {
    let mut grpc = tonic::client::Grpc::new(server.channel());
    grpc.ready().await.unwrap();
    let codec: ProstCodec<Strange, Strange> = ProstCodec::default();
    let path = http::uri::PathAndQuery::try_from(path).unwrap();
    let requests = Request::new(tokio_stream::once(message));
    let mut answers = match grpc.streaming(requests, path, codec).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return Some(status),
    };
    loop {
        match answers.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(status) => return Some(status),
        }
    }
}

/// Paths of all methods that clients may call, and whether their requests have a first field at all.
fn methods() -> Vec<(String, bool)> {
    let set: prost_types::FileDescriptorSet =
        prost::Message::decode(troupe_proto::FILE_DESCRIPTOR_SET).unwrap();
    let mut methods = Vec::new();
    let files = set.file.iter().filter(|file| file.package() != "troupe.internal.v1");
    for file in files {
        for service in &file.service {
            for method in &service.method {
                let name = method.input_type().rsplit('.').next().unwrap();
                let input = file.message_type.iter().find(|input| input.name() == name).unwrap();
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                methods.push((path, input.field.iter().any(|field| field.number() == 1)));
            }
        }
    }
    assert!(methods.len() > 40, "{methods:?}");
    methods
}

/// Bytes that are no message of the method: of every method of every service, streams too.
#[tokio::test]
async fn messages_that_cannot_be_decoded_are_refused_with_a_reason() {
    let server = Server::get().await;
    for (path, has_fields) in methods() {
        if !has_fields {
            continue;
        }
        let strange = Strange { first: vec![u64::MAX; 3], ..Default::default() };
        let status = call(&server, &path, strange).await.expect(&path);
        assert_eq!(status.code(), Code::InvalidArgument, "{path}: {status:?}");
        let error = checked(&status);
        assert_eq!(error.code, InvalidRequest, "{path}: {error}");
        assert!(error.surely_not_done(), "{path}");
    }
    assert_alive(&server).await;
}

/// Those whose requests say nothing too; of the others the test above shows it.
#[tokio::test]
async fn every_method_of_the_contract_is_served() {
    let server = Server::get().await;
    for (path, _) in methods().into_iter().filter(|(_, has_fields)| !has_fields) {
        let ended = call(&server, &path, Strange::default()).await.map(|status| status.code());
        let what_to_do =
            "in broker/src/grpc, where the service is, and in broker/src/grpc/routes.rs";
        assert_ne!(ended, Some(Code::Unimplemented), "serve {path} {what_to_do}");
    }
}

/// The limit of the event bus is `socket.request.max.bytes`, that of small calls 4 MiB.
#[tokio::test]
async fn messages_that_are_too_large_are_refused_with_a_reason() {
    let server = Server::get().await;
    for (path, _) in methods() {
        let large = path.contains("EventBus") || path.contains("LogService");
        let padding = vec![0; if large { 65 << 20 } else { 5 << 20 }];
        let message = Strange { padding, ..Default::default() };
        let status = call(&server, &path, message).await.expect(&path);
        assert_eq!(status.code(), Code::ResourceExhausted, "{path}: {status:?}");
        let error = checked(&status);
        assert_eq!(error.code, RequestTooLarge, "{path}: {error}");
        assert!(error.facts.contains_key("limit"), "{path}: {error}");
    }
    assert_alive(&server).await;
}

/// A batch of one record whose value is `len` zeros, packed to almost nothing.
fn bomb(compression: Compression, len: usize) -> RecordBatch {
    let batch = batch_of(&[Sample::of(vec![0; len], 1)]);
    let Some(record_batch::Payload::Records(set)) = &batch.payload else { panic!() };
    let packed = compression.compress(&prost::Message::encode_to_vec(set)).unwrap();
    RecordBatch {
        attributes: compression.id(),
        payload: Some(record_batch::Payload::CompressedRecords(packed)),
        ..batch
    }
}

#[tokio::test]
async fn decompression_bombs_are_refused() {
    const UNPACKED: usize = 100 << 20;
    let server = Server::get().await;
    let topic = server.new_topic(1, &[("max.message.bytes", "32MiB")]).await.name;
    for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
    {
        let result = server.produce(&topic, 0, bomb(compression, UNPACKED), Acks::All).await;
        assert_eq!(reason(&result.error), RecordTooLarge, "{compression}: {:?}", result.error);
    }
    // What unpacks to a lot, but not too much, is no bomb.
    let result = server.produce(&topic, 0, bomb(Compression::Lz4, 4 << 20), Acks::All).await;
    assert_eq!((result.base_offset, result.error), (0, None));
    assert_alive(&server).await;
}

/// Sizes that are claimed and not there.
#[tokio::test]
async fn payloads_that_claim_to_be_huge_are_refused() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    let claim = |compression: Compression, bytes: &'static [u8]| RecordBatch {
        attributes: compression.id(),
        payload: Some(record_batch::Payload::CompressedRecords(bytes.into())),
        ..batch_of(&samples(1, 1, 10))
    };
    for (compression, bytes) in [
        // Snappy says its unpacked length first: 4 GiB less one.
        (Compression::Snappy, b"\xff\xff\xff\xff\x0f\x00a".as_slice()),
        // A zstd frame that declares a content of 2^60 bytes.
        (Compression::Zstd, b"\x28\xb5\x2f\xfd\xe0\x00\x00\x00\x00\x00\x00\x00\x10\x01\x00\x00"),
        // An lz4 frame that declares a content of 2^60 bytes.
        (Compression::Lz4, b"\x04\x22\x4d\x18\x68\x40\x00\x00\x00\x00\x00\x00\x00\x10\x00"),
    ] {
        let result = server.produce(&topic, 0, claim(compression, bytes), Acks::All).await;
        let code = reason(&result.error);
        assert!(matches!(code, RecordTooLarge | CorruptBatch), "{compression}: {code:?}");
    }
    assert_alive(&server).await;
}

/// Every byte of a packed payload changed, one at a time: refused or, if it is still a batch, stored.
#[tokio::test]
async fn damaged_batches_never_stop_the_node() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    let mut appended = 0;
    for compression in Compression::ALL.into_iter().filter(|&one| one != Compression::None) {
        let batch = bomb(compression, 50);
        let Some(record_batch::Payload::CompressedRecords(packed)) = &batch.payload else {
            panic!()
        };
        for n in 0..packed.len() {
            let mut damaged = packed.to_vec();
            damaged[n] ^= 0x41;
            let payload = Some(record_batch::Payload::CompressedRecords(damaged.into()));
            let batch = RecordBatch { payload, ..batch.clone() };
            let result = server.produce(&topic, 0, batch, Acks::Leader).await;
            match result.error {
                Some(_) => drop(reason(&result.error)),
                None => appended += 1,
            }
        }
    }
    // With acks leader a batch is answered before readers may see it; once this one is answered, all may.
    let last = server.produce(&topic, 0, batch_of(&[Sample::of(vec![1], 1)]), Acks::All).await;
    assert_eq!(last.error, None);
    assert_eq!(server.read_all(&topic, 0).await.len(), appended + 1);
    assert_alive(&server).await;
}

/// Over `socket.request.max.bytes`.
#[tokio::test]
async fn messages_over_the_limit_are_refused() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    let batch = batch_of(&[Sample::of(vec![0; 70 << 20], 1)]);
    let partition = troupe_proto::log::v1::TopicPartition { topic, ..Default::default() };
    let request = troupe_proto::log::v1::ProduceRequest {
        partitions: vec![troupe_proto::log::v1::PartitionProduce {
            leader_epoch: None,
            partition: Some(partition),
            batch: Some(batch),
        }],
        ..Default::default()
    };
    let error = crate::refused(server.log().produce(request)).await;
    assert_eq!(error.code, RequestTooLarge);
    assert!(error.facts.contains_key("limit"));
    assert_alive(&server).await;
}
