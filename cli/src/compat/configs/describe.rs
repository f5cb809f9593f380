//! `--describe`: a line for each setting, with where its value comes from.

use super::entity::Entity;
use crate::compat::ended::Ended;
use crate::compat::link::print;
use troupe_client::{Client, ClientError};
use troupe_proto::admin::v1::{ConfigEntrySource, DescribedConfig};
use troupe_proto::error::ErrorCode;

pub async fn run(client: &Client, entity: &Entity, all: bool) -> Result<(), Ended> {
    let mut text = String::new();
    for one in each(client, entity).await? {
        text += &described(client, &one, all).await?;
    }
    print(&text)
}

/// All that there are, where none is named.
async fn each(client: &Client, entity: &Entity) -> Result<Vec<Entity>, Ended> {
    Ok(match entity {
        Entity::AllTopics => {
            let topics = client.admin().list_topics(true).await?;
            topics.into_iter().map(|topic| Entity::Topic(topic.name)).collect()
        }
        Entity::Brokers => {
            let nodes = client.admin().get_cluster().await?.nodes;
            let brokers = nodes.iter().map(|node| Entity::Broker(node.node_id));
            brokers.chain([Entity::Default]).collect()
        }
        one => vec![one.clone()],
    })
}

async fn described(client: &Client, entity: &Entity, all: bool) -> Result<String, Ended> {
    let asked = client.admin().describe_configs(entity.resource(), Vec::new()).await;
    let configs = match (asked, entity) {
        (Err(error), Entity::Topic(name)) if is_missing(&error) => {
            return Ok(format!(
                "The topic '{name}' doesn't exist and doesn't have dynamic config.\n"
            ));
        }
        (Err(error), Entity::Broker(id)) if is_missing(&error) => {
            return Ok(format!(
                "The broker '{id}' doesn't exist and doesn't have dynamic config.\n"
            ));
        }
        (asked, _) => asked?.configs,
    };
    let kind = if all { "All" } else { "Dynamic" };
    let mut text = match entity {
        Entity::Topic(name) => format!("{kind} configs for topic {name} are:\n"),
        Entity::Broker(id) => format!("{kind} configs for broker {id} are:\n"),
        _ => "Default configs for brokers in the cluster are:\n".to_owned(),
    };
    let source = entity.source();
    let mut configs = configs;
    configs.sort_by(|a, b| a.name.cmp(&b.name));
    for config in configs.iter().filter(|config| all || config.source() == source) {
        text += &line(config);
    }
    Ok(text)
}

fn is_missing(error: &ClientError) -> bool {
    matches!(error.reason(), ErrorCode::UnknownTopic | ErrorCode::BrokerNotRegistered)
}

fn line(config: &DescribedConfig) -> String {
    let value = config.value.as_deref().unwrap_or("null");
    let synonyms: Vec<String> = config
        .synonyms
        .iter()
        .map(|synonym| format!("{}:{}={}", name(synonym.source()), synonym.name, synonym.value))
        .collect();
    format!("  {}={value} sensitive=false synonyms={{{}}}\n", config.name, synonyms.join(", "))
}

/// What Kafka calls where a value comes from.
fn name(source: ConfigEntrySource) -> &'static str {
    match source {
        ConfigEntrySource::DynamicTopic => "DYNAMIC_TOPIC_CONFIG",
        ConfigEntrySource::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
        ConfigEntrySource::DynamicDefaultBroker => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        ConfigEntrySource::StaticBroker => "STATIC_BROKER_CONFIG",
        ConfigEntrySource::Default => "DEFAULT_CONFIG",
        ConfigEntrySource::Unspecified => "UNKNOWN",
    }
}

/// The names of what is set for it; nothing of what is not there.
pub async fn own(client: &Client, entity: &Entity) -> Result<Vec<String>, Ended> {
    let asked = client.admin().describe_configs(entity.resource(), Vec::new()).await;
    let configs = match asked {
        Err(error) if is_missing(&error) => Vec::new(),
        asked => asked?.configs,
    };
    let own = configs.into_iter().filter(|config| config.source() == entity.source());
    Ok(own.map(|config| config.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::admin::v1::ConfigSynonym;

    /// A3.
    #[test]
    fn a_setting_is_a_line_with_where_its_value_comes_from() {
        let synonym = |source: ConfigEntrySource, name: &str, value: &str| ConfigSynonym {
            name: name.to_owned(),
            value: value.to_owned(),
            source: source.into(),
        };
        let config = DescribedConfig {
            name: "cleanup.policy".to_owned(),
            value: Some("compact".to_owned()),
            synonyms: vec![
                synonym(ConfigEntrySource::DynamicTopic, "cleanup.policy", "compact"),
                synonym(ConfigEntrySource::Default, "log.cleanup.policy", "delete"),
            ],
            ..DescribedConfig::default()
        };
        assert_eq!(
            line(&config),
            "  cleanup.policy=compact sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:cleanup.policy=compact, \
             DEFAULT_CONFIG:log.cleanup.policy=delete}\n"
        );
    }
}
