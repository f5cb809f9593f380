//! `troupe.admin.v1.ConfigService` over [`Configs`].

use crate::forward::{Call, deadline_of};
use crate::operations::{
    Change, Configs, Described, DescribedSetting, Source, Synonym, Told, named_once,
};
use std::sync::Arc;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use troupe_machines::cluster::{AlterConfigs, Alteration, Configured};
use troupe_proto::admin::v1 as pb;
use troupe_proto::admin::v1::config_resource::Resource;
use troupe_proto::admin::v1::config_service_client::ConfigServiceClient;
use troupe_proto::admin::v1::config_service_server::ConfigService;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::NodeId;

pub struct ConfigDoor {
    configs: Arc<Configs>,
}

impl ConfigDoor {
    pub fn new(configs: Arc<Configs>) -> Self {
        Self { configs }
    }

    async fn describe(
        &self,
        asked: pb::DescribeConfigsResource,
        deadline: tokio::time::Instant,
    ) -> pb::DescribedConfigs {
        let resource = asked.resource.clone();
        let refused = |error: Error| pb::DescribedConfigs {
            resource: resource.clone(),
            error: Some(error.into()),
            ..Default::default()
        };
        let configured = match configured(asked.resource.as_ref()) {
            Ok(configured) => configured,
            Err(error) => return refused(error),
        };
        let relay = |channel: Channel, stamp: Request<()>| {
            let request =
                stamp.map(|()| pb::DescribeConfigsRequest { resources: vec![asked.clone()] });
            async move { ConfigServiceClient::new(channel).describe_configs(request).await }
        };
        let told = self.configs.describe(&configured, &asked.keys, deadline, &relay).await;
        match told {
            Ok(Told::Here(Described { settings, notice })) => pb::DescribedConfigs {
                resource: resource.clone(),
                configs: settings.into_iter().map(config).collect(),
                error: None,
                notice,
            },
            Ok(Told::There(pb::DescribeConfigsResponse { results, .. })) => {
                let nothing = || {
                    let message = "the broker that was asked has answered nothing";
                    refused(Error::new(ErrorCode::InvalidRequest, message))
                };
                results.into_iter().next().unwrap_or_else(nothing)
            }
            Err(error) => refused(error),
        }
    }
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorCode::InvalidRequest, message)
}

fn configured(resource: Option<&pb::ConfigResource>) -> Result<Configured, Error> {
    match resource.and_then(|resource| resource.resource.as_ref()) {
        Some(Resource::Topic(name)) => Ok(Configured::Topic(name.clone())),
        Some(Resource::BrokerId(id)) => Ok(Configured::Broker(NodeId(*id))),
        Some(Resource::Cluster(true)) => Ok(Configured::Cluster),
        Some(Resource::Cluster(false)) | None => {
            Err(invalid("no resource: name a topic, a broker or the cluster"))
        }
    }
}

fn source(source: Source) -> i32 {
    let source = match source {
        Source::Unknown => pb::ConfigEntrySource::Unspecified,
        Source::Topic => pb::ConfigEntrySource::DynamicTopic,
        Source::Broker => pb::ConfigEntrySource::DynamicBroker,
        Source::Cluster => pb::ConfigEntrySource::DynamicDefaultBroker,
        Source::Started => pb::ConfigEntrySource::StaticBroker,
        Source::Default => pb::ConfigEntrySource::Default,
    };
    source.into()
}

fn update_mode(change: Change) -> i32 {
    let mode = match change {
        Change::Restart => pb::ConfigUpdateMode::ReadOnly,
        Change::PerBroker => pb::ConfigUpdateMode::PerBroker,
        Change::ClusterWide => pb::ConfigUpdateMode::ClusterWide,
        Change::PerTopic => pb::ConfigUpdateMode::PerTopic,
    };
    mode.into()
}

fn config(setting: DescribedSetting) -> pb::DescribedConfig {
    let synonym = |synonym: Synonym| pb::ConfigSynonym {
        name: synonym.name.to_owned(),
        value: synonym.value,
        source: source(synonym.source),
    };
    pb::DescribedConfig {
        name: setting.name.to_owned(),
        source: source(setting.source()),
        value: setting.value,
        synonyms: setting.synonyms.into_iter().map(synonym).collect(),
        default_value: setting.default,
        documentation: setting.documentation.to_owned(),
        update_mode: update_mode(setting.change),
        list: setting.is_list,
    }
}

fn alteration(config: &pb::AlterableConfig) -> Result<(String, Alteration), Error> {
    let value = || config.value.clone();
    let alteration = match config.operation() {
        pb::AlterConfigOperation::Set => Alteration::Set(value()),
        pb::AlterConfigOperation::Delete => Alteration::Delete,
        pb::AlterConfigOperation::Append => Alteration::Append(value()),
        pb::AlterConfigOperation::Subtract => Alteration::Subtract(value()),
        pb::AlterConfigOperation::Unspecified => {
            return Err(invalid("no operation: use SET, DELETE, APPEND or SUBTRACT"));
        }
    };
    Ok((config.name.clone(), alteration))
}

fn change(
    asked: &pb::AlterConfigsResource,
    request: &pb::IncrementalAlterConfigsRequest,
) -> Result<AlterConfigs, Error> {
    Ok(AlterConfigs {
        resource: configured(asked.resource.as_ref())?,
        alterations: asked.configs.iter().map(alteration).collect::<Result<_, _>>()?,
        internal: request.internal,
        validate_only: request.validate_only,
    })
}

/// What can be decided, with its place in the request; and an answer in each other's place.
struct Sorted {
    changes: Vec<AlterConfigs>,
    places: Vec<usize>,
    results: Vec<pb::AlteredConfigs>,
}

impl Sorted {
    fn of(request: &pb::IncrementalAlterConfigsRequest) -> Sorted {
        let asked: Vec<_> = request.resources.iter().map(|asked| change(asked, request)).collect();
        let named = named_once(asked.iter().flatten().map(|change| &change.resource));
        let mut named = named.into_iter();
        let mut sorted = Sorted { changes: Vec::new(), places: Vec::new(), results: Vec::new() };
        for (place, (change, of)) in asked.into_iter().zip(&request.resources).enumerate() {
            let once = change.is_err() || named.next() == Some(true);
            let error = match change {
                Ok(change) if once => {
                    sorted.changes.push(change);
                    sorted.places.push(place);
                    None
                }
                Ok(_) => Some(invalid("the resource is named before in this request")),
                Err(error) => Some(error),
            };
            let (resource, error) = (of.resource.clone(), error.map(Into::into));
            sorted.results.push(pb::AlteredConfigs { resource, error });
        }
        sorted
    }

    /// The same without what is refused already.
    fn rest(
        &self,
        request: &pb::IncrementalAlterConfigsRequest,
    ) -> pb::IncrementalAlterConfigsRequest {
        let resources = self.places.iter().map(|place| request.resources[*place].clone());
        pb::IncrementalAlterConfigsRequest { resources: resources.collect(), ..*request }
    }
}

#[tonic::async_trait]
impl ConfigService for ConfigDoor {
    async fn describe_configs(
        &self,
        request: Request<pb::DescribeConfigsRequest>,
    ) -> Result<Response<pb::DescribeConfigsResponse>, Status> {
        let deadline = deadline_of(request.metadata());
        let resources = request.into_inner().resources;
        let as_of = Some(self.configs.as_of().into());
        let each = resources.into_iter().map(|asked| self.describe(asked, deadline));
        let results = futures::future::join_all(each).await;
        Ok(Response::new(pb::DescribeConfigsResponse { results, as_of }))
    }

    async fn incremental_alter_configs(
        &self,
        request: Request<pb::IncrementalAlterConfigsRequest>,
    ) -> Result<Response<pb::IncrementalAlterConfigsResponse>, Status> {
        let call = Call::of(&request);
        let request = request.into_inner();
        let mut sorted = Sorted::of(&request);
        if sorted.changes.is_empty() {
            let results = sorted.results;
            return Ok(Response::new(pb::IncrementalAlterConfigsResponse { results }));
        }
        let call = call?;
        let rest = sorted.rest(&request);
        let relay = |channel: Channel, stamp: Request<()>| {
            let request = stamp.map(|()| rest.clone());
            async move {
                let mut client = ConfigServiceClient::new(channel);
                client.incremental_alter_configs(request).await.map_err(earlier_version)
            }
        };
        let decided = self.configs.alter(&call, &sorted.changes, &relay).await?;
        let resources: Vec<_> = rest.resources.iter().map(|it| it.resource.clone()).collect();
        let encode = |results: Vec<Result<(), Error>>| {
            let results = results.into_iter().zip(resources).map(|(result, resource)| {
                pb::AlteredConfigs { resource, error: result.err().map(Into::into) }
            });
            pb::IncrementalAlterConfigsResponse { results: results.collect() }
        };
        let mut answer = decided.respond(&call, encode);
        let decided = std::mem::take(&mut answer.get_mut().results);
        for (place, result) in sorted.places.iter().zip(decided) {
            sorted.results[*place] = result;
        }
        answer.get_mut().results = sorted.results;
        Ok(answer)
    }
}

/// The controller has no such call.
fn earlier_version(status: Status) -> Status {
    if status.code() != Code::Unimplemented {
        return status;
    }
    invalid("the active controller is of an earlier version; update every node first").into()
}
