//! `troupe topic describe`: the topic from the controller's image, its offsets from the leaders.

use super::view::{self, ConfigView, LogView, PartitionView, TopicView};
use crate::as_of::{self, AsOf};
use crate::failure::{Context, Failure};
use crate::fan_out::fan_out;
use crate::global::Global;
use crate::output::{Format, Output, Table, number, text};
use crate::quantity::show_size;
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
    add_offsets(&client, name, &mut topic_view.partitions).await;
    topic_view.as_of = as_of::ask(&client).await?;
    let output = global.output();
    output.one(&topic_view, || render(&output, &topic_view))?;
    topic_view.as_of.iter().for_each(AsOf::warn);
    Ok(())
}

/// Asks every leader's node. A partition that does not answer in time, or whose node does not, is shown without
/// offsets: the rest of the picture is worth showing, above all then.
async fn add_offsets(client: &Client, name: &str, partitions: &mut [PartitionView]) {
    let leaders: BTreeSet<i32> = partitions.iter().filter_map(|p| p.leader_id).collect();
    let answers = fan_out(leaders, async |leader| {
        client.admin_of(leader).await?.list_replicas(Some(name)).await
    });
    for (leader, answer) in answers.await {
        let mut led: Vec<_> =
            partitions.iter_mut().filter(|p| p.leader_id == Some(leader)).collect();
        match answer {
            Err(why) => {
                notice!("note: node {leader} does not tell its offsets: {why}");
                for partition in led {
                    partition.condition = format!("no answer: node {leader}: {why}");
                }
            }
            Ok(replicas) => {
                for replica in replicas {
                    let found = led.iter_mut().find(|p| p.partition == replica.partition);
                    let Some(partition) = found else { continue };
                    partition.condition = replica_condition::show(&replica);
                    if replica.no_answer_reason.is_empty() {
                        partition.log = Some(LogView::new(&replica));
                    }
                }
            }
        }
    }
}

fn render(output: &Output, topic: &TopicView) -> String {
    let mut out = String::new();
    if output.terminal {
        out += &format!("{}  {}\n", topic.name, topic.topic_id);
        let changed: Vec<String> = (topic.configs.iter().flatten())
            .filter(|config| config.source == "topic")
            .map(|config| format!("{}={}", config.name, config.value))
            .collect();
        if !changed.is_empty() {
            out += &format!("configs: {}\n", changed.join(" "));
        }
        out.push('\n');
    }
    out += &output.table(&partitions(&topic.partitions));
    if output.format == Format::Wide {
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
        text("CONDITION"),
    ]);
    let ids = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    for partition in partitions {
        let log =
            |show: fn(&LogView) -> String| partition.log.as_ref().map_or_else(String::new, show);
        table.row(vec![
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
            partition.condition.clone(),
        ]);
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
