//! kafka-configs (A3): settings of topics and brokers. Quotas (A4) and settings of groups are not there, which is told.

mod describe;
mod entity;

use super::ended::Ended;
use super::errors::{named, named_client};
use super::link::{self, check_controller, connect, print};
use super::options::{Given, Options, flag, value};
use super::properties::Properties;
use entity::{Entity, entity};
use troupe_client::Client;
use troupe_proto::admin::v1::{
    AlterConfigOperation, AlterConfigsResource, AlterableConfig, ConfigResource,
    IncrementalAlterConfigsRequest,
};
use troupe_proto::error::Error;

static OPTIONS: Options = Options {
    about: "This tool helps to manipulate and describe entity config for a topic, client, user, broker, ip, client-metrics \
            or group",
    options: &[
        value("bootstrap-server", "host:port", "Nodes to ask."),
        value("bootstrap-controller", "host:port", "Controllers have no door for clients."),
        value("command-config", "file", "Settings of the client."),
        flag("alter", "Change settings."),
        flag("describe", "List settings."),
        flag("all", "Also settings that nobody has changed."),
        value("entity-type", "type", "topics or brokers."),
        value("entity-name", "name", "The topic, or the broker's id."),
        flag("entity-default", "The default of all of that type."),
        value("add-config", "k1=v1,k2=[v2,v3]", "Settings to set."),
        value("add-config-file", "file", "The same from a file of properties."),
        value("delete-config", "k1,k2", "Settings to have their defaults again."),
        value("topic", "topic", "The same as --entity-type topics --entity-name."),
        value("broker", "id", "The same as --entity-type brokers --entity-name."),
        flag("broker-defaults", "The same as --entity-type brokers --entity-default."),
        value("client", "client", "There are no quotas."),
        flag("client-defaults", "There are no quotas."),
        value("user", "user", "There are no quotas."),
        flag("user-defaults", "There are no quotas."),
        value("ip", "ip", "There are no quotas."),
        flag("ip-defaults", "There are no quotas."),
        value("group", "group", "Groups have no settings of their own."),
        value("client-metrics", "name", "Clients keep their own metrics."),
        value("broker-logger", "id", "TROUPE_LOG says what a node logs."),
    ],
    lead: "",
};

pub fn run(words: &[String]) -> Result<(), Ended> {
    let given = OPTIONS.read(words)?;
    let action = given.action(
        &["describe", "alter"],
        "Command must include exactly one action: --describe, --alter",
    )?;
    check_controller(&given)?;
    if !given.has("bootstrap-server") {
        let told = "Either --bootstrap-server or --bootstrap-controller must be specified.";
        return Err(Ended::err(told));
    }
    let entity = entity(&given, action == "alter")?;
    let args = words.join(" ");
    link::run(async {
        let client = connect(&given).await?;
        match action {
            "describe" => describe::run(&client, &entity, given.has("all")).await,
            _ => alter(&client, &given, &entity, &args).await,
        }
    })
}

async fn alter(client: &Client, given: &Given, entity: &Entity, args: &str) -> Result<(), Ended> {
    let failed = |told: String| {
        Ended::err(format_args!(
            "Error while executing config command with args '{args}'\njava.util.concurrent.ExecutionException: {told}"
        ))
    };
    let mut changes = Vec::new();
    let file = Properties::read(given.value("add-config-file")?)?;
    let mut set = file.pairs();
    if let Some(text) = given.value("add-config")? {
        set.extend(pairs(text)?);
    }
    for (name, value) in set {
        changes.push(AlterableConfig { name, operation: AlterConfigOperation::Set.into(), value });
    }
    let unset = given.listed("delete-config")?.unwrap_or_default();
    let own = describe::own(client, entity).await?;
    let strange: Vec<&str> = unset
        .iter()
        .map(String::as_str)
        .filter(|key| !own.iter().any(|config| config == key))
        .collect();
    if !strange.is_empty() {
        return Err(Ended::err(format_args!("Invalid config(s): {}", strange.join(","))));
    }
    for name in unset {
        let operation = AlterConfigOperation::Delete.into();
        changes.push(AlterableConfig { name, operation, value: String::new() });
    }
    let resource = Some(ConfigResource { resource: Some(entity.resource()) });
    let resources = vec![AlterConfigsResource { resource, configs: changes }];
    let request =
        IncrementalAlterConfigsRequest { resources, validate_only: false, internal: false };
    let altered = client.admin().incremental_alter_configs_of_all(request).await;
    let altered = altered.map_err(|error| failed(named_client(&error)))?;
    if let Some(error) = altered.into_iter().find_map(|one| one.error) {
        return Err(failed(named(&Error::from(error))));
    }
    print(&match entity {
        Entity::Topic(name) => format!("Completed updating config for topic {name}.\n"),
        Entity::Broker(id) => format!("Completed updating config for broker {id}.\n"),
        _ => "Completed updating default config for brokers in the cluster.\n".to_owned(),
    })
}

/// `k1=v1,k2=[v2,v3]`: square brackets keep a list together.
fn pairs(text: &str) -> Result<Vec<(String, String)>, Ended> {
    let mut found = Vec::new();
    let mut depth = 0_u32;
    let parts = text.split(|c: char| {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    for part in parts {
        let Some((key, value)) = part.split_once('=') else {
            return Err(Ended::err(
                "Invalid entity config: all configs to be added must be in the format \"key=val\".",
            ));
        };
        let value = value.trim();
        let value = value.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(value);
        found.push((key.trim().to_owned(), value.to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_keep_a_list_together() {
        let read = pairs("retention.ms=100,cleanup.policy=[compact,delete],a=").unwrap();
        let expected = [("retention.ms", "100"), ("cleanup.policy", "compact,delete"), ("a", "")];
        let read: Vec<(&str, &str)> =
            read.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(read, expected);
        assert!(pairs("retention.ms").is_err());
    }

    #[test]
    fn whose_settings_is_read_in_both_of_kafka_s_ways() {
        let read = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            entity(&OPTIONS.read(&words).unwrap(), false)
        };
        let first = Entity::Topic("first".to_owned());
        assert_eq!(read("--entity-type topics --entity-name first").unwrap(), first);
        assert_eq!(read("--topic first").unwrap(), first);
        assert_eq!(read("--broker 2").unwrap(), Entity::Broker(2));
        assert_eq!(read("--entity-type brokers --entity-default").unwrap(), Entity::Default);
        assert_eq!(read("--broker-defaults").unwrap(), Entity::Default);
        assert_eq!(read("--entity-type brokers").unwrap(), Entity::Brokers);
        let told = |line| read(line).unwrap_err().notices;
        assert!(told("--entity-type clients").contains("not to be had here"));
        assert!(told("--entity-type x").starts_with("Invalid entity type x, the entity type must"));
        assert!(told("--broker x").contains("valid integer broker id, but it is: x"));
    }
}
