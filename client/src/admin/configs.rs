//! Settings of topics, of brokers and of the cluster, as an administrator sees and changes them while nodes run.

use super::Admin;
use crate::client::MAX_ANSWER;
use crate::error::ClientError;
use tonic::transport::Channel;
use troupe_proto::admin::v1::config_resource::Resource;
use troupe_proto::admin::v1::config_service_client::ConfigServiceClient;
use troupe_proto::admin::v1::{
    AlterConfigsResource, AlterableConfig, AlteredConfigs, ConfigResource, DescribeConfigsRequest,
    DescribeConfigsResource, DescribedConfigs, IncrementalAlterConfigsRequest,
};
use troupe_proto::error::Error;

impl Admin {
    /// Settings of one resource, each with where it comes from; `keys`: only these; empty: all.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC, BROKER_NOT_REGISTERED, INVALID_CONFIG.
    pub async fn describe_configs(
        &self,
        resource: Resource,
        keys: Vec<String>,
    ) -> Result<DescribedConfigs, ClientError> {
        let resource = Some(ConfigResource { resource: Some(resource) });
        let asked = vec![DescribeConfigsResource { resource, keys }];
        let mut described = self.describe_configs_of_all(asked).await?;
        let described = described.pop().ok_or_else(|| self.bad_answer())?;
        match described.error {
            Some(error) => Err(ClientError::Refused(Error::from(error))),
            None => Ok(described),
        }
    }

    /// Settings of several resources, in the order asked.
    ///
    /// # Errors
    /// Those of any control call; those of a resource are in its result.
    pub async fn describe_configs_of_all(
        &self,
        resources: Vec<DescribeConfigsResource>,
    ) -> Result<Vec<DescribedConfigs>, ClientError> {
        let answer = self
            .call(true, |channel| {
                let request = DescribeConfigsRequest { resources: resources.clone() };
                async move { configs(channel).describe_configs(request).await }
            })
            .await?;
        Ok(answer.results)
    }

    /// Changes settings of one resource: all of them or none.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC, BROKER_NOT_REGISTERED, INVALID_CONFIG, INVALID_REQUEST.
    pub async fn incremental_alter_configs(
        &self,
        resource: Resource,
        changes: Vec<AlterableConfig>,
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let resource = Some(ConfigResource { resource: Some(resource) });
        let resources = vec![AlterConfigsResource { resource, configs: changes }];
        let request = IncrementalAlterConfigsRequest { resources, validate_only, internal: false };
        let mut altered = self.incremental_alter_configs_of_all(request).await?;
        let altered = altered.pop().ok_or_else(|| self.bad_answer())?;
        altered.error.map_or(Ok(()), |error| Err(ClientError::Refused(Error::from(error))))
    }

    /// Changes settings of several resources. Each succeeds or fails for itself, in the order asked.
    ///
    /// # Errors
    /// Those of any control call; those of a resource are in its result.
    pub async fn incremental_alter_configs_of_all(
        &self,
        request: IncrementalAlterConfigsRequest,
    ) -> Result<Vec<AlteredConfigs>, ClientError> {
        let answer = self
            .call(false, |channel| {
                let request = request.clone();
                async move { configs(channel).incremental_alter_configs(request).await }
            })
            .await?;
        Ok(answer.results)
    }
}

fn configs(channel: Channel) -> ConfigServiceClient<Channel> {
    ConfigServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER)
}
