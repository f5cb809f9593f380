//! The calls of `EventBusService` that carry deliveries, by hand: their answers are encoded straight from the records,
//! when the client takes them. A plain tower service, mounted in front of tonic's own, which answers the rest.

use super::event_bus::EventBus;
use super::{subscription, tail};
use crate::context::Context;
use crate::grpc::{DemandBody, DemandSender, MessageReader, ReceiptBody, Requests, response};
use http::Response;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Request, Status};
use troupe_proto::v1::event_bus_service_server::EventBusServiceServer;

type Rest = EventBusServiceServer<EventBus>;

#[derive(Clone)]
pub struct ThinService {
    context: Arc<Context>,
    rest: Rest,
}

enum Method {
    Subscribe,
    Pull,
    Tail,
}

impl Method {
    fn of(path: &str) -> Option<Method> {
        match path.strip_prefix('/')?.strip_prefix(Rest::NAME)? {
            "/Subscribe" => Some(Method::Subscribe),
            "/Pull" => Some(Method::Pull),
            "/Tail" => Some(Method::Tail),
            _ => None,
        }
    }
}

impl ThinService {
    pub fn new(context: Arc<Context>, rest: Rest) -> Self {
        Self { context, rest }
    }
}

async fn dispatch(
    context: Arc<Context>,
    method: Method,
    request: http::Request<Body>,
) -> Result<Response<Body>, Status> {
    let max_request = usize::try_from(context.config.max_request_bytes.0).unwrap_or(usize::MAX);
    let request = Request::from_http(request).map(|body| MessageReader::new(body, max_request));
    match method {
        Method::Subscribe => {
            let (sender, body) = DemandBody::new();
            subscription::subscribe(&context, request, sender);
            Ok(response(body))
        }
        Method::Pull => {
            let answer = subscription::pull(&context, request).await?;
            Ok(response(ReceiptBody::new(answer.pieces, answer.unwritten)))
        }
        Method::Tail => tail(context, request).await,
    }
}

async fn tail(
    context: Arc<Context>,
    mut request: Request<Requests>,
) -> Result<Response<Body>, Status> {
    let asked = request.get_mut().only().await?;
    let reading = tail::begin(&context, asked, request.metadata()).await?;
    let (sender, body): (DemandSender, _) = DemandBody::new();
    tokio::spawn(reading.run(context, sender));
    Ok(response(body))
}

impl NamedService for ThinService {
    const NAME: &'static str = Rest::NAME;
}

impl tower::Service<http::Request<Body>> for ThinService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        // So is tonic's.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match Method::of(request.uri().path()) {
            Some(method) => {
                let context = Arc::clone(&self.context);
                let answer = dispatch(context, method, request);
                Box::pin(async move { Ok(answer.await.unwrap_or_else(Status::into_http)) })
            }
            None => self.rest.call(request),
        }
    }
}
