//! The time and the order of what one node has another change.
//!
//! A request that is forwarded may lie in a queue, or in a connection that is cut, for as long as it likes: longer
//! than its caller waits, and longer than a later request takes by another way. So it carries when it came to this
//! node, and until when its caller waits, both in the time of the node that is to carry it out: whoever comes late is
//! refused there, where no queue is left.
//!
//! ```text
//!   this node   --- asks --------------------- takes the answer: `received` ------- came -------> deadline
//!   the other                 reads its clock: `theirs`
//!
//!   the other's clock at a time t >= received is at least  theirs + (t - received), less the drift of both
//! ```
//!
//! Clocks of two nodes cannot be compared, but that bound needs none: the other clock was read before its answer
//! came. Both times that a request carries are such lower bounds, so it seems older than it is, by the way of that
//! answer, and is refused too early rather than too late; then the refusal brings the newer time for another try.
//! Every answer to a forwarded call brings the time.

use super::FORWARDED;
use super::forwarding;
use crate::peers::failure;
use http::{HeaderValue, Response};
use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::health::v1::HealthCheckRequest;
use troupe_proto::health::v1::health_client::HealthClient;

/// In a forwarded request: which process's clock, when it came, until when it may be carried out.
const ORDER: &str = "troupe-order";
/// In the answer to any forwarded request: which process's clock, and what it shows.
const CLOCK: &str = "troupe-clock";
/// In a forwarded request: the leader epoch of the partition whose leader is meant.
const MEANT_EPOCH: &str = "troupe-leader-epoch";

/// Two clocks drift apart by less than one in so many.
const DRIFT: u32 = 1_000;
/// How long a node that tells no time is not asked again: it runs an earlier version.
const TIMELESS: Duration = Duration::from_secs(10);

/// What this process's clock shows, in microseconds, and which process it is.
fn clock_at(at: Instant) -> (u64, u64) {
    static CLOCK: OnceLock<(u64, Instant)> = OnceLock::new();
    // Begun a while ago, so that what came before the first question has a time too.
    let (process, origin) = CLOCK.get_or_init(|| (rand::random(), Instant::now()));
    let since = at.saturating_duration_since(*origin) + LEAD;
    (*process, micros(since))
}

const LEAD: Duration = Duration::from_secs(3_600);

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// What a request says of its time, read where it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// It came to the first node then, or a little later.
    pub came: Instant,
    /// Its caller waits until then, or a little longer.
    pub until: Option<Instant>,
}

/// When a request came, and until when it may be carried out.
///
/// # Errors
/// `REQUEST_TOO_LATE`.
pub fn times_of(metadata: &MetadataMap) -> Result<Times, Error> {
    let now = Instant::now();
    let order = metadata.get(ORDER).and_then(|value| value.to_str().ok());
    let Some([process, came, until]) = order.and_then(numbers) else {
        return Ok(Times { came: now, until: None });
    };
    let (own, clock) = clock_at(now);
    if process != own || until < clock {
        let message = "the time of the request was over before it could be carried out; it was not";
        return Err(Error::new(ErrorCode::RequestTooLate, message));
    }
    let age = Duration::from_micros(clock.saturating_sub(came));
    let left = Duration::from_micros(until - clock);
    Ok(Times { came: now.checked_sub(age).unwrap_or(now), until: Some(now + left) })
}

/// The leader epoch in which the caller means this node to lead.
pub fn meant_epoch(metadata: &MetadataMap) -> Option<u32> {
    metadata.get(MEANT_EPOCH)?.to_str().ok()?.parse().ok()
}

pub fn set_meant_epoch(metadata: &mut MetadataMap, epoch: u32) {
    metadata.insert(MEANT_EPOCH, epoch.into());
}

fn numbers<const N: usize>(text: &str) -> Option<[u64; N]> {
    let numbers: Option<Vec<u64>> = text.split('.').map(|number| number.parse().ok()).collect();
    numbers?.try_into().ok()
}

/// The times of other nodes, by whatever name they are called here.
#[derive(Default)]
pub struct Clocks(Mutex<HashMap<String, Sample>>);

#[derive(Clone, Copy, Debug)]
enum Sample {
    Told {
        process: u64,
        theirs: u64,
        received: Instant,
    },
    /// It was asked then, and told none.
    Nothing(Instant),
}

impl Sample {
    /// A lower bound of what the clock shows at a time, which may also lie before the sample.
    fn at(process_theirs: u64, received: Instant, at: Instant) -> u64 {
        match at.checked_duration_since(received) {
            Some(since) => process_theirs.saturating_add(micros(since - since / DRIFT)),
            None => {
                let before = received - at;
                process_theirs.saturating_sub(micros(before + before / DRIFT))
            }
        }
    }
}

impl Clocks {
    fn get(&self, node: &str) -> Option<Sample> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(node).copied()
    }

    /// What an answer says of the time of the node that gave it. Of two samples the tighter one stays.
    pub fn note(&self, node: &str, answer: &MetadataMap) {
        let now = Instant::now();
        let told = answer.get(CLOCK).and_then(|value| value.to_str().ok()).and_then(numbers);
        let mut clocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = clocks.get(node).copied();
        let sample = match (told, known) {
            (None, Some(Sample::Told { .. })) => return,
            (None, _) => Sample::Nothing(now),
            (
                Some([process, theirs]),
                Some(Sample::Told { process: known, theirs: t, received }),
            ) if process == known && Sample::at(t, received, now) >= theirs => {
                return;
            }
            (Some([process, theirs]), _) => Sample::Told { process, theirs, received: now },
        };
        clocks.insert(node.to_owned(), sample);
    }

    /// A request that changes something on another node: forwarded, with its order and its time. Asks for the time
    /// there, if it is not known yet.
    ///
    /// # Errors
    /// Why the node could not be asked; `unreachable` if no connection could be made. Nothing was sent then.
    pub async fn stamp<T>(
        &self,
        (node, channel): (&str, &Channel),
        message: T,
        (came, deadline): (Instant, Instant),
        unreachable: ErrorCode,
    ) -> Result<Request<T>, Error> {
        let is_known = self.get(node).is_some_and(|sample| match sample {
            Sample::Told { .. } => true,
            Sample::Nothing(asked) => asked.elapsed() < TIMELESS,
        });
        if !is_known {
            self.ask(node, channel, deadline, unreachable).await?;
        }
        let mut request = forwarding(message, deadline);
        if let Some(Sample::Told { process, theirs, received }) = self.get(node) {
            let at = |time| Sample::at(theirs, received, time);
            let order = format!("{process}.{}.{}", at(came), at(deadline));
            if let Ok(value) = MetadataValue::try_from(order) {
                request.metadata_mut().insert(ORDER, value);
            }
        }
        Ok(request)
    }

    async fn ask(
        &self,
        node: &str,
        channel: &Channel,
        deadline: Instant,
        unreachable: ErrorCode,
    ) -> Result<(), Error> {
        let mut client = HealthClient::new(channel.clone());
        let asked = client.check(forwarding(HealthCheckRequest::default(), deadline));
        let not_done = |message: String| Error::new(unreachable, message);
        match timeout_at(deadline, asked).await {
            Ok(Ok(answer)) => self.note(node, answer.metadata()),
            // Whatever it says, it says it: its time comes with it.
            Ok(Err(status)) if status.metadata().contains_key(CLOCK) => {
                self.note(node, status.metadata());
            }
            Ok(Err(status)) => {
                let error = failure(status, unreachable);
                return Err(not_done(format!("the node was not asked: {}", error.message)));
            }
            Err(_) => return Err(not_done("the node did not answer in time".to_owned())),
        }
        Ok(())
    }
}

/// Whether a refusal says only that the request seemed to be of the past: it brings the time for another try.
pub fn is_stale_stamp(error: &Error) -> bool {
    matches!(error.code, ErrorCode::RequestTooLate | ErrorCode::Overtaken)
}

/// The layer in front of all services: what is forwarded and comes too late is refused, and every answer to what is
/// forwarded tells the time.
#[derive(Clone, Debug)]
pub struct Punctual<S>(S);

impl<S> Punctual<S> {
    pub fn new(inner: S) -> Self {
        Self(inner)
    }
}

impl<S, B, R> tower::Service<http::Request<B>> for Punctual<S>
where
    S: tower::Service<http::Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: Default + Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = futures::future::Either<
        S::Future,
        futures::future::BoxFuture<'static, Result<Response<R>, S::Error>>,
    >;

    fn poll_ready(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        use futures::future::Either;
        if !request.headers().contains_key(FORWARDED) {
            return Either::Left(self.0.call(request));
        }
        let metadata = MetadataMap::from_headers(request.headers().clone());
        if let Err(error) = times_of(&metadata) {
            let refused = told(Status::from(error).into_http());
            return Either::Right(Box::pin(async move { Ok(refused) }));
        }
        let answered = self.0.call(request);
        Either::Right(Box::pin(async move { answered.await.map(told) }))
    }
}

fn told<R>(mut answer: Response<R>) -> Response<R> {
    let (process, clock) = clock_at(Instant::now());
    if let Ok(value) = HeaderValue::try_from(format!("{process}.{clock}")) {
        answer.headers_mut().insert(CLOCK, value);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> MetadataMap {
        MetadataMap::from_headers(told(Response::new(())).headers().clone())
    }

    fn stamped(clocks: &Clocks, came: Instant, deadline: Instant) -> MetadataMap {
        let Some(Sample::Told { process, theirs, received }) = clocks.get("n") else {
            panic!("no time was told")
        };
        let at = |time| Sample::at(theirs, received, time);
        let order = format!("{process}.{}.{}", at(came), at(deadline));
        let mut metadata = MetadataMap::new();
        metadata.insert(ORDER, order.parse().unwrap());
        metadata
    }

    #[test]
    fn a_request_that_was_held_up_beyond_its_time_is_refused_where_it_arrives() {
        let clocks = Clocks::default();
        clocks.note("n", &answer());
        let now = Instant::now();
        let late = stamped(&clocks, now, now - Duration::from_millis(1));
        assert_eq!(times_of(&late).unwrap_err().code, ErrorCode::RequestTooLate);
        let timely = times_of(&stamped(&clocks, now, now + Duration::from_secs(9))).unwrap();
        assert!(timely.came <= Instant::now());
        assert!(timely.until.unwrap() <= now + Duration::from_secs(9));
    }

    #[test]
    fn what_was_stamped_for_another_process_is_refused() {
        let mut metadata = MetadataMap::new();
        metadata.insert(ORDER, format!("1.5.{}", u64::MAX).parse().unwrap());
        assert_eq!(times_of(&metadata).unwrap_err().code, ErrorCode::RequestTooLate);
    }

    #[test]
    fn a_request_never_seems_newer_than_it_is() {
        let clocks = Clocks::default();
        let before = Instant::now();
        clocks.note("n", &answer());
        let times = times_of(&stamped(&clocks, before, before + Duration::from_secs(1))).unwrap();
        assert!(times.came <= before + Duration::from_micros(2), "but for rounding");
    }

    #[test]
    fn a_slow_answer_does_not_make_a_known_clock_vaguer() {
        let clocks = Clocks::default();
        let slow = answer();
        std::thread::sleep(Duration::from_millis(20));
        clocks.note("n", &answer());
        let at = Instant::now() + Duration::from_secs(1);
        let tight = stamped(&clocks, at, at);
        clocks.note("n", &slow);
        assert_eq!(tight.get(ORDER), stamped(&clocks, at, at).get(ORDER));
    }
}
