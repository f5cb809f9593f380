//! What a node costs that does nothing: time to start, memory, and how little partitions add that nobody
//! uses. Figures are printed; only a release build is held to them.
//!
//! `cargo test --release -p troupe-tests --test footprint -- --include-ignored --nocapture --test-threads 1`
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};
use troupe_proto::chaos::v1alpha1::chaos_service_client::ChaosServiceClient;
use troupe_proto::chaos::v1alpha1::{ActorState, ListActorsRequest};
use troupe_proto::v1::Acks;
use troupe_tests::{Process, Sample, Serve, Server, batch_of, eventually};

const MIB: u64 = 1 << 20;

/// The limit is what the README promises for a release build.
#[tokio::test]
async fn an_idle_node_is_small_and_starts_fast() {
    let (_directory, node) = Process::start_new(&Serve::default());
    let server = Server::at(node.server()).await;
    server.new_topic(1, &[]).await;
    let memory = node.memory();
    println!("ready after {:?}, {:.1} MiB", node.start_time(), memory as f64 / MIB as f64);
    if !cfg!(debug_assertions) {
        assert!(memory < 40 * MIB, "{memory} bytes");
    }
}

/// Median time of a produce with acks=all to a partition that was never used before.
async fn produce_to_fresh(
    server: &Server,
    topic: &str,
    partitions: std::ops::Range<i32>,
) -> Duration {
    let mut times = Vec::new();
    for partition in partitions {
        let batch = batch_of(&[Sample::of(vec![b'x'; 100], 1)]);
        let began = Instant::now();
        let result = server.produce(topic, partition, batch, Acks::All).await;
        times.push(began.elapsed());
        assert_eq!((result.base_offset, result.error), (0, None));
    }
    times.sort();
    times[times.len() / 2]
}

/// Creating answers before every actor has been built; what they cost is known when all run.
async fn all_run(server: &Server) {
    eventually("every actor runs", async || {
        let mut chaos = ChaosServiceClient::new(server.channel());
        let mut request = ListActorsRequest { page_size: 10_000, ..Default::default() };
        loop {
            let page = chaos.list_actors(request.clone()).await.unwrap().into_inner();
            if page.actors.iter().any(|actor| actor.state() != ActorState::Running) {
                return None;
            }
            if page.next_page_token.is_empty() {
                return Some(());
            }
            request.page_token = page.next_page_token;
        }
    })
    .await;
}

async fn partitions_cost_little(topics: i32, partitions: i32) {
    let (directory, node) = Process::start_new(&Serve::default());
    let server = Server::at(node.server()).await;
    server.create_topic("few", 20, &[]).await;
    let before = produce_to_fresh(&server, "few", 0..20).await;
    let empty = node.memory();
    let began = Instant::now();
    for n in 0..topics {
        server.create_topic(&format!("idle-{n}"), partitions, &[]).await;
    }
    let created = began.elapsed();
    all_run(&server).await;
    let full = node.memory();
    let after = produce_to_fresh(&server, "idle-0", 0..20).await;
    drop(server);
    assert!(node.terminate().await.success());
    let node = Process::start(directory.path(), &Serve::default()).unwrap();
    let server = Server::at(node.server()).await;
    assert_eq!(server.read_all("idle-0", 7).await.len(), 1);
    let count = (topics * partitions) as u64;
    println!(
        "{count} partitions: created in {created:?}; {:.1} MiB more, {} bytes each; started again \
         in {:?} with {:.1} MiB; produce to a fresh one {before:?} before and {after:?} after",
        (full - empty) as f64 / MIB as f64,
        (full - empty) / count,
        node.start_time(),
        node.memory() as f64 / MIB as f64,
    );
}

#[tokio::test]
async fn a_thousand_idle_partitions_cost_little() {
    partitions_cost_little(2, 500).await;
}

#[tokio::test]
#[ignore = "figures for the README; a tenth of it is run always"]
async fn ten_thousand_idle_partitions_cost_little() {
    partitions_cost_little(10, 1_000).await;
}
