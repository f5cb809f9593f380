//! The calls of `EventBusService` that carry deliveries, by hand, over [`Tail`] and [`Subscriptions`]: their answers are
//! encoded straight from the records, when the client takes them. A plain tower service, mounted in front of tonic's own,
//! which answers the rest.

use super::answer_writer::AnswerWriter;
use super::answers::Rest as _;
use super::body::response;
use super::demand::{DemandBody, DemandSender};
use super::event_bus_messages::{pull_request, subscribe_request, tail_request};
use super::event_bus_service::EventBusDoor;
use super::message::{MessageReader, Requests, decode};
use super::receipt::ReceiptBody;
use crate::connections::Connection;
use crate::forward::{deadline_of, timeout_of};
use crate::operations::{Interruption, PullCaller, SubscribeRequest, Subscriptions, Tail};
use crate::shutdown::shutting_down;
use futures::stream::{Stream, StreamExt};
use http::Response;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Request, Status};
use troupe_proto::error::Error;
use troupe_proto::v1 as pb;
use troupe_proto::v1::event_bus_service_server::EventBusServiceServer;

/// How long a client may take to read why its stream ends.
const LAST_WORD: Duration = Duration::from_millis(500);

type Rest = EventBusServiceServer<EventBusDoor>;

#[derive(Clone)]
pub struct DeliveryDoor {
    tail: Arc<Tail>,
    subscriptions: Arc<Subscriptions<AnswerWriter>>,
    /// Bytes of one request.
    max_request: usize,
    /// Cancelled when the node begins to stop.
    shutdown: CancellationToken,
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

impl DeliveryDoor {
    pub fn new(
        tail: Arc<Tail>,
        subscriptions: Arc<Subscriptions<AnswerWriter>>,
        max_request: usize,
        shutdown: CancellationToken,
        rest: Rest,
    ) -> Self {
        Self { tail, subscriptions, max_request, shutdown, rest }
    }

    async fn dispatch(
        self,
        method: Method,
        request: http::Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let request =
            Request::from_http(request).map(|body| MessageReader::new(body, self.max_request));
        match method {
            Method::Subscribe => {
                let (out, body) = DemandBody::new();
                tokio::spawn(self.subscribe(host_of(&request), request.into_inner(), out));
                Ok(response(body))
            }
            Method::Pull => self.pull(request).await,
            Method::Tail => self.tail(request).await,
        }
    }

    /// Opens a session on the stream. What is wrong with it, the stream says.
    async fn subscribe(self, host: String, requests: Requests, out: DemandSender) {
        let mut requests = messages(requests);
        let first = tokio::select! {
            first = requests.next() => first,
            () = self.shutdown.cancelled() => Some(Err(shutting_down().into())),
            () = out.closed() => None,
        };
        let Some(first) = first else { return };
        let begun = async {
            let first = subscribe_request(first?)?;
            Ok::<_, Status>(self.subscriptions.subscribe(host, first).await?)
        };
        let subscription = match begun.await {
            Ok(subscription) => subscription,
            Err(status) => return out.end(status).await,
        };
        if let Err(error) = subscription.run(requests.map(asked), &out).await {
            // The client may be gone, or not read.
            let _ = timeout(LAST_WORD, out.end(error.into())).await;
        }
    }

    async fn pull(&self, mut request: Request<Requests>) -> Result<Response<Body>, Status> {
        let connection = Connection::of(request.extensions());
        let broken = connection.map(|connection| connection.broken().clone());
        let timeout = timeout_of(request.metadata().as_ref());
        let caller = PullCaller::new(host_of(&request), broken, timeout, Instant::now());
        let asked = pull_request(request.get_mut().only().await?)?;
        let answer = self.subscriptions.pull(caller, asked).await?;
        let pieces = answer.deliveries.finish(&answer.rest.answer());
        Ok(response(ReceiptBody::new(pieces, answer.unwritten)))
    }

    async fn tail(&self, mut request: Request<Requests>) -> Result<Response<Body>, Status> {
        let asked = tail_request(request.get_mut().only().await?);
        let tailing = self.tail.begin(asked, deadline_of(request.metadata())).await?;
        let (out, body) = DemandBody::new();
        tokio::spawn(async move {
            if let Err(error) = tailing.run(&out).await {
                out.end(error.into()).await;
            }
        });
        Ok(response(body))
    }
}

/// The address that a call came from.
fn host_of<T>(request: &Request<T>) -> String {
    let connection = Connection::of(request.extensions());
    connection.and_then(Connection::remote_ip).map(|ip| ip.to_string()).unwrap_or_default()
}

type Message = Result<pb::SubscribeRequest, Status>;

/// The client's half, as messages.
fn messages(requests: Requests) -> impl Stream<Item = Message> + Send + Unpin {
    requests.map(|message| message.and_then(decode))
}

/// A message behind the first.
fn asked(message: Message) -> Result<SubscribeRequest, Interruption> {
    let message = message.map_err(|status| match Error::from(status) {
        // What cannot be read was refused before it came here.
        error if error.surely_not_done() => Interruption::Refused(error),
        error => Interruption::Broken(error),
    })?;
    subscribe_request(message).map_err(Interruption::Refused)
}

impl NamedService for DeliveryDoor {
    const NAME: &'static str = Rest::NAME;
}

impl tower::Service<http::Request<Body>> for DeliveryDoor {
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
                let answer = self.clone().dispatch(method, request);
                Box::pin(async move { Ok(answer.await.unwrap_or_else(Status::into_http)) })
            }
            None => self.rest.call(request),
        }
    }
}
