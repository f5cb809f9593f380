//! Whose settings: what of Kafka's types of entities has any here.

use crate::compat::ended::Ended;
use crate::compat::options::Given;
use troupe_proto::admin::v1::ConfigEntrySource;
use troupe_proto::admin::v1::config_resource::Resource;

const TYPES: [&str; 8] =
    ["topics", "clients", "users", "brokers", "ips", "client-metrics", "groups", "broker-loggers"];

/// Options that name a type and a thing of it at once.
const SHORT: [(&str, &str); 8] = [
    ("topic", "topics"),
    ("client", "clients"),
    ("user", "users"),
    ("broker", "brokers"),
    ("ip", "ips"),
    ("group", "groups"),
    ("client-metrics", "client-metrics"),
    ("broker-logger", "broker-loggers"),
];
const DEFAULTS: [(&str, &str); 4] = [
    ("broker-defaults", "brokers"),
    ("client-defaults", "clients"),
    ("user-defaults", "users"),
    ("ip-defaults", "ips"),
];

/// Whose settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entity {
    Topic(String),
    AllTopics,
    Broker(i32),
    Brokers,
    Default,
}

/// # Errors
/// None is named, or one that has no settings here.
pub fn entity(given: &Given, alters: bool) -> Result<Entity, Ended> {
    let mut kind = given.value("entity-type")?.map(str::to_owned);
    let mut name = given.value("entity-name")?.map(str::to_owned);
    let mut is_default = given.has("entity-default");
    for (option, of) in SHORT {
        if let Some(value) = given.value(option)? {
            (kind, name) = (Some(of.to_owned()), Some(value.to_owned()));
        }
    }
    for (option, of) in DEFAULTS {
        if given.has(option) {
            (kind, is_default) = (Some(of.to_owned()), true);
        }
    }
    let Some(kind) = kind else {
        return Err(Ended::err("At least one entity type must be specified"));
    };
    if !TYPES.contains(&kind.as_str()) {
        return Err(Ended::err(format_args!(
            "Invalid entity type {kind}, the entity type must be one of {} with a --bootstrap-server or \
             --bootstrap-controller argument",
            TYPES.join(", ")
        )));
    }
    match kind.as_str() {
        "clients" | "users" | "ips" => {
            return Err(Ended::cannot(
                "A quota",
                "no client has one yet; what a node takes at a time is bounded by its own settings, docs/configuration.md",
            ));
        }
        "groups" => {
            return Err(Ended::cannot(
                "A setting of a group",
                "members bring their own: session.timeout.ms, the assignor and the others are settings of consumers",
            ));
        }
        "client-metrics" => {
            return crate::compat::refused::client_metrics(&[]).map(|()| Entity::Default);
        }
        "broker-loggers" => {
            return Err(Ended::cannot(
                "A level of logging by name",
                "the node's environment has TROUPE_LOG, such as TROUPE_LOG=info,troupe_broker=debug",
            ));
        }
        _ => {}
    }
    if alters && name.is_none() && !is_default {
        return Err(Ended::err(format_args!(
            "An entity name must be specified with --alter of {kind}"
        )));
    }
    if alters && !["add-config", "add-config-file", "delete-config"].iter().any(|it| given.has(it))
    {
        return Err(Ended::err(
            "At least one of --add-config, --add-config-file, or --delete-config must be specified with --alter",
        ));
    }
    match (kind.as_str(), name) {
        ("topics", Some(name)) => Ok(Entity::Topic(name)),
        ("topics", None) => Ok(Entity::AllTopics),
        (_, None) if is_default => Ok(Entity::Default),
        (_, None) => Ok(Entity::Brokers),
        (_, Some(name)) if name.is_empty() => Ok(Entity::Default),
        (_, Some(name)) => name.parse().map(Entity::Broker).map_err(|_| {
            Ended::err(format_args!(
                "The entity name for brokers must be a valid integer broker id, but it is: {name}"
            ))
        }),
    }
}

impl Entity {
    pub fn resource(&self) -> Resource {
        match self {
            Entity::Topic(name) => Resource::Topic(name.clone()),
            Entity::Broker(id) => Resource::BrokerId(*id),
            Entity::AllTopics | Entity::Brokers | Entity::Default => Resource::Cluster(true),
        }
    }

    /// Where what was set for it stands.
    pub fn source(&self) -> ConfigEntrySource {
        match self {
            Entity::Topic(_) | Entity::AllTopics => ConfigEntrySource::DynamicTopic,
            Entity::Broker(_) | Entity::Brokers => ConfigEntrySource::DynamicBroker,
            Entity::Default => ConfigEntrySource::DynamicDefaultBroker,
        }
    }
}
