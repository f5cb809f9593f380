//! Kills the actors of coordinators, wherever they are, every now and then.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use troupe_proto::chaos::v1alpha1::chaos_service_client::ChaosServiceClient;
use troupe_proto::chaos::v1alpha1::{Actor, KillActorRequest, KillMode, ListActorsRequest};

/// One of those that are wanted, for as long as it says; how often each kind died.
pub async fn kill_coordinators(
    wanted: impl Fn(&Actor) -> bool,
    nodes: Vec<Channel>,
    mut chance: StdRng,
    go_on: Arc<AtomicBool>,
) -> BTreeMap<String, usize> {
    let mut killed = BTreeMap::new();
    while go_on.load(Ordering::SeqCst) {
        // Chance decides when.
        sleep(Duration::from_millis(chance.random_range(500..4_000))).await;
        let mut found = Vec::new();
        for node in &nodes {
            let actors = actors(node).await.unwrap_or_default().into_iter();
            found.extend(actors.filter(&wanted).map(|actor| (node, actor)));
        }
        // Of one kind there may be many.
        let kinds: BTreeSet<&String> = found.iter().map(|(_, actor)| &actor.kind).collect();
        let Some(kind) = kinds.into_iter().choose(&mut chance).cloned() else { continue };
        found.retain(|(_, actor)| actor.kind == kind);
        let (node, Actor { address, .. }) = found.swap_remove(chance.random_range(0..found.len()));
        let request = KillActorRequest { address, mode: KillMode::Stop.into() };
        let mut stub = ChaosServiceClient::new(node.clone());
        let answer = timeout(Duration::from_secs(5), stub.kill_actor(request)).await;
        if answer.is_ok_and(|answer| answer.is_ok()) {
            *killed.entry(kind).or_default() += 1;
        }
    }
    killed
}

/// None: the node does not answer.
async fn actors(node: &Channel) -> Option<Vec<Actor>> {
    let mut stub = ChaosServiceClient::new(node.clone());
    let mut request = ListActorsRequest::default();
    let mut actors = Vec::new();
    loop {
        let answer = timeout(Duration::from_secs(1), stub.list_actors(request.clone())).await;
        let page = answer.ok()?.ok()?.into_inner();
        actors.extend(page.actors);
        if page.next_page_token.is_empty() {
            return Some(actors);
        }
        request.page_token = page.next_page_token;
    }
}
