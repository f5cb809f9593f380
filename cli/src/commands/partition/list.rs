//! `troupe partition list`, once or as it changes.

use super::view::{PartitionView, UnhealthyReplica, summary, table};
use crate::as_of;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::output::{Format, Output};
use crate::quantity::parse_duration;
use crate::replica_condition::unhealthy_replicas;
use crate::signals::Stop;
use crate::streams::notice;
use crate::timestamp;
use crate::watch::CLEAR;
use clap::Args;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use troupe_client::{Client, ClientError};
use troupe_proto::admin::v1::PartitionFilter;

#[derive(Debug, Args)]
pub struct List {
    /// Only of this topic
    topic: Option<String>,
    /// Only those with a replica that is not in sync
    #[arg(long, group = "filter")]
    under_replicated: bool,
    /// Only those that nobody leads
    #[arg(long, group = "filter")]
    offline: bool,
    /// Only those with fewer replicas in sync than min.insync.replicas: acks=all is refused there
    #[arg(long, group = "filter")]
    under_min_isr: bool,
    /// Only those that somebody else leads than their first replica
    #[arg(long, group = "filter")]
    not_preferred: bool,
    /// Go on: on a terminal the list anew, in a pipe and as JSON a line for each partition that changed
    #[arg(short, long)]
    watch: bool,
    /// How often --watch looks
    #[arg(long, default_value = "1s", value_parser = parse_duration, value_name = "DURATION")]
    #[arg(requires = "watch")]
    interval: Duration,
}

impl List {
    fn filter(&self) -> PartitionFilter {
        if self.under_replicated {
            PartitionFilter::UnderReplicated
        } else if self.offline {
            PartitionFilter::Offline
        } else if self.under_min_isr {
            PartitionFilter::UnderMinIsr
        } else if self.not_preferred {
            PartitionFilter::NotPreferred
        } else {
            PartitionFilter::Unspecified
        }
    }

    async fn ask(&self, client: &Client) -> Result<Vec<PartitionView>, ClientError> {
        let topic = self.topic.as_deref();
        let listed = client.admin().list_partitions(topic, self.filter()).await?;
        let mut views: Vec<_> = listed.into_iter().map(PartitionView::from).collect();
        // Fenced nodes are not asked: that they are not well is known, and shows in who is in sync.
        let fenced: BTreeSet<i32> = client
            .describe_cluster()
            .await?
            .nodes
            .into_iter()
            .filter_map(|node| node.fenced.then_some(node.node_id))
            .collect();
        let nodes = views.iter().flat_map(PartitionView::nodes).copied().collect::<BTreeSet<_>>();
        let found = unhealthy_replicas(client, topic, &nodes - &fenced).await;
        for view in &mut views {
            let key = (view.topic.clone(), view.partition);
            let known = found.replicas.get(&key).into_iter().flatten().copied();
            let silent = view.nodes().iter().filter(|node| found.silent.contains_key(node));
            let all = known.chain(silent.map(|node| (*node, "silent")));
            let distress = all.map(|(node_id, condition)| UnhealthyReplica { node_id, condition });
            view.distress = distress.collect();
        }
        Ok(views)
    }
}

pub async fn run(global: &Global, list: List) -> Result<(), Failure> {
    let client = global.connect().await?;
    let what = || "cannot list the partitions".to_owned();
    let first = list.ask(&client).await.with_context(what)?;
    let output = global.output();
    if !list.watch {
        let as_of = as_of::ask(&client).await?;
        return as_of::many(&output, "partitions", &first, as_of.as_ref(), || table(&first));
    }
    // So that other nodes are known when this one goes.
    client.describe_cluster().await.with_context(what)?;
    let mut watch = Watch { output, known: BTreeMap::new(), unanswered: false };
    let mut stop = Stop::new()?;
    watch.show(first)?;
    loop {
        tokio::select! {
            _ = stop.wait() => return Ok(()),
            () = tokio::time::sleep(list.interval) => {}
        }
        let Ok(answer) = stop.or(list.ask(&client)).await else { return Ok(()) };
        match answer {
            Ok(partitions) => watch.show(partitions)?,
            Err(error) => watch.note(&error),
        }
    }
}

/// A partition and when it was seen so.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Change<'a> {
    time: String,
    #[serde(flatten)]
    partition: &'a PartitionView,
    /// It is not in the list any more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    gone: bool,
}

struct Watch {
    output: Output,
    known: BTreeMap<(String, i32), PartitionView>,
    /// The note about it has been printed.
    unanswered: bool,
}

impl Watch {
    fn show(&mut self, partitions: Vec<PartitionView>) -> Result<(), Failure> {
        self.unanswered = false;
        let time = timestamp::show(timestamp::now_ms());
        if self.output.terminal && !self.output.format.is_json() {
            let list = self.output.table(&table(&partitions));
            let summary = summary(&partitions);
            return self.output.print(&format!("{CLEAR}{time}  {summary}\n\n{list}"));
        }
        let key = |view: &PartitionView| (view.topic.clone(), view.partition);
        let mut before = std::mem::take(&mut self.known);
        for view in partitions {
            if before.remove(&key(&view)).as_ref() != Some(&view) {
                self.print(&Change { time: time.clone(), partition: &view, gone: false })?;
            }
            self.known.insert(key(&view), view);
        }
        for view in before.values() {
            self.print(&Change { time: time.clone(), partition: view, gone: true })?;
        }
        Ok(())
    }

    fn print(&self, change: &Change<'_>) -> Result<(), Failure> {
        let line = Output { format: Format::Jsonl, ..self.output };
        if self.output.format.is_json() {
            return line.one(change, String::new);
        }
        let row = self.output.table(&table(std::slice::from_ref(change.partition)));
        let gone = if change.gone { "gone\t" } else { "" };
        self.output.print(&format!("{}\t{gone}{row}", change.time))
    }

    /// Nobody answers at the moment, which may be what is being watched.
    fn note(&mut self, error: &ClientError) {
        if !self.unanswered {
            notice!("note: no answer: {error}");
        }
        self.unanswered = true;
    }
}
