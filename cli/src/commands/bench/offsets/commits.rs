//! Commits of many groups, several at the same time.

use crate::exit::Exit;
use crate::failure::{Context, Failure};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::time::Duration;
use troupe_client::{Client, ClientError, ConsumerConfig, OffsetAndMetadata, TopicPartition};
use troupe_proto::ids::Offset;

const TIMEOUT: Duration = Duration::from_secs(60);

pub struct Load {
    groups: u64,
    partitions: u32,
    at_once: usize,
    /// How often each group commits all partitions.
    rounds: u64,
}

impl Load {
    pub fn new(groups: u64, commits: u64, partitions: u32, at_once: u32) -> Result<Load, Failure> {
        let each = groups.saturating_mul(partitions.into());
        if each == 0 || commits < each {
            let cause = format!("--commits has to be --groups times --partitions at least: {each}");
            return Err(Failure::usage(cause));
        }
        Ok(Load { groups, partitions, at_once: at_once as usize, rounds: commits / each })
    }

    /// One commit: the topic of offsets is made by it.
    pub async fn first(&self, client: &Client, topic: &str) -> Result<(), Failure> {
        let what = || "cannot commit a first offset".to_owned();
        commit(client, "troupe-bench-first", topic, 1, 1).await.with_context(what)
    }

    pub async fn run(&self, client: &Client, topic: &str) -> Result<(), Failure> {
        let groups = stream::iter(0..self.groups).map(|number| {
            let group = format!("troupe-bench-{number:06}");
            let (client, topic, partitions, rounds) =
                (client.clone(), topic.to_owned(), self.partitions, self.rounds);
            // Each a task of its own: one alone would have a single processor's time.
            tokio::spawn(async move { commit(&client, &group, &topic, partitions, rounds).await })
        });
        let what = || "cannot commit offsets".to_owned();
        let committed = groups.buffer_unordered(self.at_once).map(|ended| match ended {
            Ok(committed) => committed.with_context(what),
            Err(panic) => Err(Failure::new(Exit::Failed, what(), panic)),
        });
        committed.try_collect::<Vec<()>>().await.map(drop)
    }
}

/// Nobody's member: who has the group's name may commit as long as it has no members.
async fn commit(
    client: &Client,
    group: &str,
    topic: &str,
    partitions: u32,
    rounds: u64,
) -> Result<(), ClientError> {
    let config = ConsumerConfig {
        enable_auto_commit: false,
        default_api_timeout: TIMEOUT,
        ..ConsumerConfig::new(group)
    };
    let mut consumer = client.consumer(config)?;
    let all: Vec<_> = (0..partitions).map(|number| TopicPartition::new(topic, number)).collect();
    consumer.assign(all.iter().cloned())?;
    for round in 0..rounds {
        let offsets = all.iter().map(|at| (at.clone(), OffsetAndMetadata::new(Offset(round))));
        consumer.commit_sync_offsets(offsets).await?;
    }
    consumer.close(TIMEOUT).await
}
