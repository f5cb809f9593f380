//! `grpc.health.v1`: `live` as long as the process answers; `ready`, and with it every public service by its full
//! name and the empty one, as [`Readiness`] says it.

use crate::methods::METHODS;
use crate::operations::Readiness;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use troupe_proto::health::v1 as pb;
use troupe_proto::health::v1::health_check_response::ServingStatus;
use troupe_proto::health::v1::health_server::Health;

/// The health service of one listener.
pub struct HealthDoor {
    /// Whether the node is ready.
    ready: watch::Receiver<bool>,
}

impl HealthDoor {
    pub fn new(readiness: &Arc<Readiness>) -> Self {
        Self { ready: readiness.follow() }
    }
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Live,
    Ready,
}

/// The names that are known. The empty one is the node as a whole.
static NAMES: LazyLock<HashMap<String, Name>> = LazyLock::new(|| {
    let services = public_services().into_iter().map(|name| (name, Name::Ready));
    let short = [("", Name::Ready), ("ready", Name::Ready), ("live", Name::Live)];
    services.chain(short.map(|(name, what)| (name.to_owned(), what))).collect()
});

/// Full names of the services that clients may call.
fn public_services() -> HashSet<String> {
    let services = METHODS.values().map(|method| &method.service);
    services.filter(|service| !service.starts_with("troupe.internal.")).cloned().collect()
}

fn response(name: Option<Name>, ready: bool) -> pb::HealthCheckResponse {
    let status = match (name, ready) {
        (Some(Name::Live), _) | (Some(Name::Ready), true) => ServingStatus::Serving,
        (Some(Name::Ready), false) => ServingStatus::NotServing,
        (None, _) => ServingStatus::ServiceUnknown,
    };
    pb::HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for HealthDoor {
    async fn check(
        &self,
        request: Request<pb::HealthCheckRequest>,
    ) -> Result<Response<pb::HealthCheckResponse>, Status> {
        match NAMES.get(&request.get_ref().service) {
            Some(name) => Ok(Response::new(response(Some(*name), *self.ready.borrow()))),
            // As the protocol wants it: a code of gRPC's own.
            None => Err(Status::not_found("no service of that name is known here; List shows all")),
        }
    }

    async fn list(
        &self,
        _: Request<pb::HealthListRequest>,
    ) -> Result<Response<pb::HealthListResponse>, Status> {
        let ready = *self.ready.borrow();
        let statuses =
            NAMES.iter().map(|(name, what)| (name.clone(), response(Some(*what), ready)));
        Ok(Response::new(pb::HealthListResponse { statuses: statuses.collect() }))
    }

    type WatchStream = BoxStream<'static, Result<pb::HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<pb::HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let name = NAMES.get(&request.get_ref().service).copied();
        let told: Option<pb::HealthCheckResponse> = None;
        let changes =
            stream::unfold((self.ready.clone(), told), move |(mut ready, told)| async move {
                loop {
                    let now = response(name, *ready.borrow_and_update());
                    if told.as_ref() != Some(&now) {
                        return Some((Ok(now), (ready, Some(now))));
                    }
                    // The node is gone.
                    ready.changed().await.ok()?;
                }
            });
        Ok(Response::new(changes.boxed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_public_service_is_known_by_its_full_name() {
        for name in ["troupe.v1.EventBusService", "troupe.log.v1.LogService", "", "ready"] {
            assert_eq!(NAMES.get(name), Some(&Name::Ready), "{name}");
        }
        assert_eq!(NAMES.get("live"), Some(&Name::Live));
        assert!(NAMES.keys().all(|name| !name.contains("internal")), "{:?}", NAMES.keys());
    }
}
