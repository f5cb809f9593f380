//! From which topic to which: both clusters, and the target topic, which is made if it is not there.

use super::arguments::Copy;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::streams::notice;
use crate::waiting::Waiting;
use std::collections::BTreeMap;
use troupe_client::Client;
use troupe_proto::admin::v1::{ConfigSource, CreateTopicRequest, Topic};
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::TopicId;

/// See the module.
pub struct Route {
    pub source: Client,
    pub target: Client,
    pub from: String,
    pub to: String,
    pub from_id: TopicId,
    pub partitions: u32,
    /// Of the source; records may be as large.
    pub max_message_bytes: usize,
    /// False: the target's leaders write times of their own.
    pub keeps_timestamps: bool,
    /// Tells why the target takes long.
    pub waiting: Waiting,
}

impl Route {
    /// # Errors
    /// There is no such topic; source and target are the same; the target has other partitions.
    pub async fn find(global: &Global, copy: &Copy) -> Result<Route, Failure> {
        let from = copy.from.clone();
        let to = copy.to.clone().unwrap_or_else(|| from.clone());
        let what = || format!("cannot copy {from} to {to}");
        let source = global.connect().await?;
        let target = match copy.to_server.is_empty() {
            true => source.clone(),
            false => global.connect_to(copy.to_server.clone()).await?,
        };
        let cluster_of = async |client: &Client| {
            client.describe_cluster().await.map(|described| described.cluster_id)
        };
        let same = cluster_of(&source).await.with_context(what)?
            == cluster_of(&target).await.with_context(what)?;
        if same && from == to {
            let cause = "that is the same topic of the same cluster";
            return Err(Failure::new(Exit::Usage, what(), cause)
                .with_hint("name another topic behind it, or another cluster with --to-server"));
        }
        let described = source.admin().get_topic(&from).await.with_context(what)?;
        let id = TopicId::from_wire(&described.topic_id);
        let from_id = id.ok_or_else(|| Failure::new(Exit::Failed, what(), "it has no id"))?;
        let made = find_or_make(&target, &to, &described, copy.replicas).await;
        let made = made.with_context(|| format!("{}: the target", what()))?;
        check_partitions(&described, &made, &what())?;
        let keeps_timestamps = config(&made, "message.timestamp.type") != Some("LogAppendTime");
        if !keeps_timestamps {
            notice!(
                "note: {to} has message.timestamp.type=LogAppendTime: its timestamps are its own"
            );
        }
        let max_message_bytes = config(&described, "max.message.bytes");
        Ok(Route {
            partitions: described.partitions.len() as u32,
            max_message_bytes: max_message_bytes.and_then(|size| size.parse().ok()).unwrap_or(0),
            keeps_timestamps,
            waiting: match copy.to_server.is_empty() {
                true => global.waiting(),
                false => Waiting::new(copy.to_server.clone()),
            },
            source,
            target,
            from,
            to,
            from_id,
        })
    }

    pub fn what(&self) -> String {
        format!("cannot copy {} to {}", self.from, self.to)
    }
}

fn config<'a>(topic: &'a Topic, name: &str) -> Option<&'a str> {
    topic.configs.iter().find(|config| config.name == name).map(|config| config.value.as_str())
}

/// With the source's partitions and what is set for it; replicas as the target cluster has them, if nothing is said.
async fn find_or_make(
    target: &Client,
    to: &str,
    source: &Topic,
    replicas: Option<i32>,
) -> Result<Topic, troupe_client::ClientError> {
    match target.admin().get_topic(to).await {
        Err(error) if error.reason() == ErrorCode::UnknownTopic => {}
        found => return found,
    }
    let set = source.configs.iter().filter(|config| config.source() == ConfigSource::Topic);
    let configs: BTreeMap<String, String> =
        set.map(|config| (config.name.clone(), config.value.clone())).collect();
    let request = CreateTopicRequest {
        name: to.to_owned(),
        partitions: Some(source.partitions.len() as i32),
        replication_factor: replicas,
        assignments: Vec::new(),
        configs: configs.into_iter().collect(),
        internal: false,
        validate_only: false,
    };
    match target.admin().create_topic(request).await {
        // somebody else was faster
        Err(error) if error.reason() == ErrorCode::TopicExists => {
            target.admin().get_topic(to).await
        }
        made => made,
    }
}

/// A record goes to the partition of the same number, where its key's others are.
fn check_partitions(source: &Topic, target: &Topic, what: &str) -> Result<(), Failure> {
    let (from, to) = (source.partitions.len(), target.partitions.len());
    if from == to {
        return Ok(());
    }
    let cause = format!("{} has {from} partitions, and {} has {to}", source.name, target.name);
    let hint = match to < from {
        true => format!(
            "`troupe topic add-partitions {} --to {from}` on the target, or another name",
            target.name
        ),
        false => format!(
            "another name, or `troupe topic add-partitions {} --to {to}` on the source",
            source.name
        ),
    };
    Err(Failure::new(Exit::Refused, what, cause).with_hint(hint))
}
