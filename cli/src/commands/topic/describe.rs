//! `troupe topic describe`: the topic from the controller's image, its offsets from the leaders.

use super::cleaning::{self, CleaningView};
use super::view::{self, ConfigView, LogView, PartitionView, TopicView};
use crate::as_of::{self, AsOf};
use crate::failure::{Context, Failure};
use crate::fan_out::fan_out;
use crate::global::Global;
use crate::output::{Format, Output, Table, Tone, number, text};
use crate::quantity::show_size;
use crate::reassignment::{Kept, removing};
use crate::replica_condition;
use crate::streams::notice;
use std::collections::BTreeSet;
use troupe_client::Client;

pub async fn run(global: &Global, name: &str) -> Result<(), Failure> {
    let client = global.connect().await?;
    let topic = client
        .admin()
        .get_topic(name)
        .await
        .with_context(|| format!("cannot describe topic {name}"))?;
    let mut topic_view = TopicView::new(&topic);
    topic_view.configs = Some(view::configs(&topic));
    let compacted = topic_view.is_compacted();
    ask_nodes(&client, name, &mut topic_view.partitions, compacted).await;
    topic_view.as_of = as_of::ask(&client).await?;
    let output = global.output();
    output.one(&topic_view, || render(&output, &topic_view))?;
    topic_view.as_of.iter().for_each(AsOf::warn);
    for partition in &topic_view.partitions {
        if let Some(log) = &partition.log
            && !log.retention_notice.is_empty()
        {
            notice!("note: partition {}: {}", partition.partition, log.retention_notice);
        }
        let PartitionView { replicas, removing_replicas, .. } = partition;
        if let Some(kept) = Kept::of(replicas, removing_replicas, partition.cancelled_until_in_sync)
        {
            let number = partition.partition;
            notice!("note: partition {number}: its reassignment was cancelled, and {kept}");
        }
    }
    Ok(())
}

/// Asks every leader's node; of a topic that is compacted, every replica's. A partition that does not answer in time, or
/// whose node does not, is shown without offsets: the rest of the picture is worth showing, above all then.
async fn ask_nodes(client: &Client, name: &str, partitions: &mut [PartitionView], compacted: bool) {
    let mut nodes: BTreeSet<i32> = partitions.iter().filter_map(|p| p.leader_id).collect();
    if compacted {
        nodes.extend(partitions.iter().flat_map(|p| &p.replicas));
    }
    let answers =
        fan_out(nodes, async |node| client.admin_of(node).await?.list_replicas(Some(name)).await);
    for (node, answer) in answers.await {
        let answer = answer.unwrap_or_else(|why| {
            let leads = partitions.iter().any(|p| p.leader_id == Some(node));
            let what = if leads { "offsets" } else { "compaction" };
            notice!("note: node {node} does not tell its {what}: {why}");
            no_answer(node, &why, partitions, compacted);
            Vec::new()
        });
        for replica in &answer {
            let found = partitions.iter_mut().find(|p| p.partition == replica.partition);
            let Some(partition) = found else { continue };
            if compacted {
                let unknown = || CleaningView::unknown(node, "its node does not know of it");
                partition.cleaning.push(CleaningView::new(replica).unwrap_or_else(unknown));
            }
            if partition.leader_id == Some(node) {
                partition.condition = replica_condition::show(replica);
                let answered = replica.no_answer_reason.is_empty();
                partition.log = answered.then(|| LogView::new(replica));
            }
        }
    }
}

fn no_answer(node: i32, why: &str, partitions: &mut [PartitionView], compacted: bool) {
    for partition in partitions {
        if partition.leader_id == Some(node) {
            partition.condition = format!("no answer: node {node}: {why}");
        }
        if compacted && partition.replicas.contains(&node) {
            partition.cleaning.push(CleaningView::unknown(node, &format!("no answer: {why}")));
        }
    }
}

fn render(output: &Output, topic: &TopicView) -> String {
    let mut out = String::new();
    if output.terminal {
        out += &format!("{}  {}\n", topic.name, topic.topic_id);
        let changed: Vec<String> = (topic.configs.iter().flatten())
            .filter(|config| config.source != "default")
            .map(|config| format!("{}={}", config.name, config.value))
            .collect();
        if !changed.is_empty() {
            out += &format!("configs: {}\n", changed.join(" "));
        }
        out.push('\n');
    }
    out += &output.table(&partitions(&topic.partitions));
    let wide = output.format == Format::Wide;
    if (output.terminal || wide) && topic.partitions.iter().any(|p| !p.cleaning.is_empty()) {
        if output.terminal {
            out.push('\n');
        }
        let each = topic.partitions.iter().map(|p| (p.partition, p.cleaning.as_slice()));
        out += &output.table(&cleaning::table(each));
    }
    if wide {
        if output.terminal {
            out.push('\n');
        }
        out += &output.table(&configs(topic.configs.as_deref().unwrap_or_default()));
    }
    out
}

fn partitions(partitions: &[PartitionView]) -> Table {
    let mut table = Table::new(&[
        number("PARTITION"),
        text("LEADER"),
        text("REPLICAS"),
        text("IN SYNC"),
        number("START"),
        number("END"),
        text("SIZE"),
        number("EPOCH").wide(),
        number("FLUSHED").wide(),
        number("LOG END").wide(),
        number("SEGMENTS").wide(),
        text("OFFLINE").wide(),
        text("ADDING").wide(),
        text("REMOVING").wide(),
        text("CONDITION"),
    ]);
    let ids = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    for partition in partitions {
        let log =
            |show: fn(&LogView) -> String| partition.log.as_ref().map_or_else(String::new, show);
        let (tone, cell) = match partition.leader_id {
            None => (Tone::Bad, 1),
            Some(_) if partition.in_sync_replicas.len() < partition.replicas.len() => {
                (Tone::Warning, 3)
            }
            Some(_) => (Tone::Plain, 0),
        };
        table.toned_row(
            tone,
            cell,
            vec![
                partition.partition.to_string(),
                partition.leader_id.map_or_else(|| "none".to_owned(), |id| id.to_string()),
                ids(&partition.replicas),
                ids(&partition.in_sync_replicas),
                log(|log| log.log_start_offset.to_string()),
                log(|log| log.high_watermark.to_string()),
                log(|log| show_size(log.size_bytes.unsigned_abs())),
                partition.leader_epoch.to_string(),
                log(|log| log.flushed_end_offset.to_string()),
                log(|log| log.log_end_offset.to_string()),
                log(|log| log.segment_count.to_string()),
                log(|log| log.offline_reason.clone()),
                ids(&partition.adding_replicas),
                removing(&partition.removing_replicas, partition.cancelled_until_in_sync),
                partition.condition.clone(),
            ],
        );
    }
    table
}

fn configs(configs: &[ConfigView]) -> Table {
    let mut table = Table::new(&[text("SETTING"), text("VALUE"), text("SET BY"), text("MEANING")]);
    for config in configs {
        table.row(vec![
            config.name.clone(),
            config.value.clone(),
            config.source.to_owned(),
            config.documentation.clone(),
        ]);
    }
    table
}
