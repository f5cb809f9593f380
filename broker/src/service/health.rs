//! `grpc.health.v1`: `live` as long as the process answers; `ready`, and with it every public service by its full
//! name and the empty one, while the cluster counts on this broker, and somebody decides for the cluster: a node that
//! has not heard an active controller for the time of a session may lead nothing any more, and would be the last to
//! know.

use crate::context::Context;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use troupe_controller::ControllerHandle;
use troupe_controller::metadata_log::Leadership;
use troupe_proto::FILE_DESCRIPTOR_SET;
use troupe_proto::health::v1 as pb;
use troupe_proto::health::v1::health_check_response::ServingStatus;
use troupe_proto::health::v1::health_server::{Health, HealthServer};

/// How soon it is seen that no controller is heard any more.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The health service.
pub struct NodeHealth {
    /// Whether the node is ready.
    ready: watch::Receiver<bool>,
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
fn public_services() -> Vec<String> {
    let set: prost_types::FileDescriptorSet =
        prost::Message::decode(FILE_DESCRIPTOR_SET).expect("the build made it");
    let files = set.file.into_iter().filter(|file| file.package() != "troupe.internal.v1");
    files
        .flat_map(|file| {
            let package = file.package().to_owned();
            let named = move |service: prost_types::ServiceDescriptorProto| {
                format!("{package}.{}", service.name())
            };
            file.service.into_iter().map(named)
        })
        .collect()
}

/// The health service of a listener. `ready` follows the image: registered, not fenced, not on its way out.
pub fn health(context: &Arc<Context>) -> HealthServer<NodeHealth> {
    let (told, ready) = watch::channel(is_ready(context));
    tokio::spawn(follow(Arc::clone(context), told));
    HealthServer::new(NodeHealth { ready })
}

/// Whether clients should be sent here.
pub fn is_ready(context: &Context) -> bool {
    let counted_on = !context.config.is_broker() || {
        let image = context.metadata.image.borrow();
        image.broker(context.node_id).is_some_and(|broker| broker.is_active())
    };
    counted_on && context.controller.hears_controller() && !context.shutdown.is_cancelled()
}

async fn follow(context: Arc<Context>, told: watch::Sender<bool>) {
    let mut images = context.metadata.image.clone();
    let mut leadership = context.controller.local().map(ControllerHandle::leadership);
    loop {
        images.mark_unchanged();
        leadership.iter_mut().for_each(watch::Receiver::mark_unchanged);
        let ready = is_ready(&context);
        told.send_if_modified(|before| std::mem::replace(before, ready) != ready);
        tokio::select! {
            changed = images.changed() => if changed.is_err() { break },
            changed = news(&mut leadership) => if changed.is_err() { break },
            // Silence is no news.
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = context.shutdown.cancelled() => break,
        }
    }
    told.send_replace(false);
    // Whoever watches is told until the node is gone.
    context.gone.cancelled().await;
}

/// Another controller is active.
async fn news(
    leadership: &mut Option<watch::Receiver<Leadership>>,
) -> Result<(), watch::error::RecvError> {
    match leadership {
        Some(leadership) => leadership.changed().await,
        None => std::future::pending().await,
    }
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
impl Health for NodeHealth {
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
