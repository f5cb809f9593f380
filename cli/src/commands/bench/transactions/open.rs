//! Many transactions that are open at once, on a node of its own, which is killed: what each takes, and when the node
//! serves again.

use crate::commands::bench::memory;
use crate::commands::bench::server::Server;
use crate::commands::bench::temporary::directory;
use crate::commands::bench::workload::Workload;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::quantity::{grouped, rounded, show_duration, show_size};
use crate::signals::Stop;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::time::sleep;
use troupe_client::{Client, ClientConfig, ClientError};
use troupe_proto::admin::v1::{CreateTopicRequest, TransactionState};
use troupe_proto::batch::{Compression, ProducerStamp, RecordSetBuilder};
use troupe_proto::error::{Error as Refusal, ErrorCode};
use troupe_proto::ids::{ProducerEpoch, ProducerId, Sequence};
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::log_service_client::LogServiceClient;
use troupe_proto::log::v1::transaction_service_client::TransactionServiceClient;

const TOPIC: &str = "open";
/// None may run out before the end.
const TIMEOUT_MS: u32 = 900_000;
/// Calls under way.
const AT_ONCE: usize = 64;
/// Before something is asked again that is not there yet.
const PAUSE: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(120);

/// What was measured.
struct Figures {
    count: u64,
    opening: Duration,
    /// Memory: with nothing, with as many ids, with as many open transactions, and of the node that came next.
    memory: [Option<u64>; 4],
    /// Of a node where nothing is open, and of one where all are.
    starts: [Start; 2],
}

/// After `kill -9`.
#[derive(Clone, Copy)]
struct Start {
    /// It serves.
    serves: Duration,
    /// All coordinators tell what is open, and as much as there is.
    coordinates: Duration,
}

pub async fn run(
    global: &Global,
    workload: &Workload,
    count: u64,
    parent: Option<&Path>,
) -> Result<(), Failure> {
    if !global.server.is_empty() {
        return Err(Failure::usage("--open starts a node of its own: leave out --server"));
    }
    let mut stop = Stop::new()?;
    let made = directory(parent, "transactions")?;
    match stop.or(measure(workload, count, &made.path().join("node"))).await {
        Ok(figures) => print(global, workload, &figures?),
        Err(signal) => Err(Failure::interrupted(signal)),
    }
}

async fn measure(workload: &Workload, count: u64, dir: &Path) -> Result<Figures, Failure> {
    let what = || format!("cannot have {count} transactions open");
    let (server, client, _) = start(dir, 0).await?;
    let topic = CreateTopicRequest {
        name: TOPIC.to_owned(),
        partitions: Some(i32::try_from(workload.partitions).unwrap_or(i32::MAX)),
        ..CreateTopicRequest::default()
    };
    client.admin().create_topic(topic).await.with_context(what)?;
    // The topic of the transactions is made with the first.
    initialise(&client, "first").await.with_context(what)?;
    drop((server, client));
    let (server, client, idle) = start(dir, 0).await?;
    let memory_of = |server: &Server| memory::of_process(server.pid());
    let nothing = memory_of(&server);
    let client = &client;
    let calls = stream::iter(0..count)
        .map(|number| async move {
            let id = format!("open-{number}");
            initialise(client, &id).await.map(|producer| (number, id, producer))
        })
        .buffer_unordered(AT_ONCE);
    let given: Vec<_> = calls.try_collect().await.with_context(what)?;
    let ids = memory_of(&server);
    let began = Instant::now();
    let partitions = u64::from(workload.partitions.max(1));
    let size = usize::try_from(workload.size).map_err(Failure::usage)?;
    let calls = stream::iter(&given).map(|(number, id, producer)| {
        let partition = i32::try_from(number % partitions).unwrap_or(0);
        write(client, id, *producer, partition, size)
    });
    calls.buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await.with_context(what)?;
    let opening = began.elapsed();
    let open = memory_of(&server);
    drop(server);
    let (server, _, busy) = start(dir, count).await?;
    let memory = [nothing, ids, open, memory_of(&server)];
    Ok(Figures { count, opening, memory, starts: [idle, busy] })
}

/// On what another one left that was killed.
async fn start(dir: &Path, open: u64) -> Result<(Server, Client, Start), Failure> {
    let what = || "the node does not start".to_owned();
    let began = Instant::now();
    let server = Server::start(dir).with_context(what)?;
    let serves = began.elapsed();
    let client = Client::connect(ClientConfig::new([server.address.clone()])).await;
    let client = client.with_context(what)?;
    let admin = client.admin();
    loop {
        let states = [TransactionState::Ongoing];
        match admin.list_transactions(&states, None, Duration::ZERO).await {
            Ok(listed) if listed.len() as u64 >= open => break,
            Ok(_) | Err(_) if began.elapsed() < PATIENCE => sleep(PAUSE).await,
            Ok(listed) => {
                let cause = format!("{} of {open} transactions are open", listed.len());
                return Err(Failure::new(Exit::Failed, what(), cause));
            }
            Err(error) => return Err(error).with_context(what),
        }
    }
    Ok((server, client, Start { serves, coordinates: began.elapsed() }))
}

/// The same again, while the node is not ready for it.
async fn settled<T>(ask: impl AsyncFn() -> Result<T, ClientError>) -> Result<T, ClientError> {
    let began = Instant::now();
    loop {
        match ask().await {
            Err(error) if error.is_retriable() && began.elapsed() < PATIENCE => sleep(PAUSE).await,
            answer => return answer,
        }
    }
}

async fn initialise(client: &Client, id: &str) -> Result<(u64, u32), ClientError> {
    settled(async || {
        let request = pb::InitProducerIdRequest {
            transactional_id: id.to_owned(),
            transaction_timeout_ms: TIMEOUT_MS,
            ..pb::InitProducerIdRequest::default()
        };
        let mut stub = TransactionServiceClient::new(client.channel().await?);
        let answer = stub.init_producer_id(request).await?.into_inner();
        Ok((answer.producer_id, answer.producer_epoch))
    })
    .await
}

/// One record, which opens a transaction that nobody ends.
async fn write(
    client: &Client,
    id: &str,
    (producer_id, producer_epoch): (u64, u32),
    partition: i32,
    size: usize,
) -> Result<(), ClientError> {
    let mut records = RecordSetBuilder::new();
    records.push(crate::timestamp::now_ms(), None, Some(&vec![b'x'; size]), &[]);
    let stamp = ProducerStamp {
        id: ProducerId(producer_id),
        epoch: ProducerEpoch(producer_epoch),
        base_sequence: Sequence(0),
    };
    let mut built = records.finish(Compression::None, Some(stamp)).map_err(ClientError::Batch)?;
    built.header.attributes = built.header.attributes.with_transactional(true);
    let malformed = |error| Refusal::new(ErrorCode::InvalidRecord, format!("{error}"));
    let batch: pb::RecordBatch = prost::Message::decode(built.into_wire()).map_err(malformed)?;
    settled(async || {
        let named = pb::TopicPartition {
            topic: TOPIC.to_owned(),
            partition,
            ..pb::TopicPartition::default()
        };
        let request = pb::ProduceRequest {
            partitions: vec![pb::PartitionProduce {
                partition: Some(named),
                batch: Some(batch.clone()),
                leader_epoch: None,
            }],
            transactional_id: id.to_owned(),
            ..pb::ProduceRequest::default()
        };
        let mut stub = LogServiceClient::new(client.channel().await?);
        let answer = stub.produce(request).await?.into_inner();
        match answer.results.into_iter().next().and_then(|result| result.error) {
            Some(error) => Err(ClientError::from(Refusal::from(error))),
            None => Ok(()),
        }
    })
    .await
}

fn print(global: &Global, workload: &Workload, figures: &Figures) -> Result<(), Failure> {
    let [nothing, ids, open, next] = figures.memory;
    let each = |more: Option<u64>, less: Option<u64>| {
        Some(more?.saturating_sub(less?) / figures.count.max(1))
    };
    let (id, transaction) = (each(ids, nothing), each(open, ids));
    let ms = |span: Duration| rounded(span.as_secs_f64() * 1e3);
    let [idle, busy] = figures.starts;
    let start =
        |it: Start| json!({ "servesMs": ms(it.serves), "coordinatesMs": ms(it.coordinates) });
    let view = json!({
        "benchmark": "open transactions",
        "settings": {
            "open": figures.count,
            "partitions": workload.partitions,
            "recordSize": workload.size,
        },
        "result": {
            "openingMs": ms(figures.opening),
            "bytesPerTransactionalId": id,
            "bytesPerOpenTransaction": transaction,
            "residentBytes": {
                "nothing": nothing, "ids": ids, "open": open, "afterRestart": next,
            },
            "startAfterKill": { "nothingOpen": start(idle), "allOpen": start(busy) },
        },
    });
    global.output().one(&view, || {
        let bytes = |bytes: Option<u64>| bytes.map_or("unknown".to_owned(), show_size);
        let start = |it: Start| {
            let (serves, coordinates) = (show_duration(it.serves), show_duration(it.coordinates));
            format!("serves after {serves}, all coordinators after {coordinates}")
        };
        format!(
            "open         {} transactions, in {}\n\
             memory       {} for each transactional id, {} more for each open transaction\n\
             resident     {} with none, {} with all open, {} after the restart\n\
             kill -9      nothing open: {}\n\
             \x20            all open: {}\n",
            grouped(figures.count),
            show_duration(figures.opening),
            bytes(id),
            bytes(transaction),
            bytes(nothing),
            bytes(open),
            bytes(next),
            start(idle),
            start(busy),
        )
    })
}
