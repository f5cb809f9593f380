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
//!
//! The other clock was also read after the question was sent, which bounds it from above. How far the bounds lie apart
//! goes with the request, and a little of it is allowed for, [`VAGUEST`]: so a request may be taken for that much newer
//! than it is. What failed and may still be under way must not be taken for newer than what its caller sends next. So no
//! caller hears of such a failure sooner than that, [`told_in_order`].

use super::mark::{FORWARDED, forwarding};
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
/// In a forwarded request: by how many microseconds it may have come later than its order says.
const VAGUENESS: &str = "troupe-order-vagueness";
/// In the answer to any forwarded request: which process's clock, and what it shows.
const CLOCK: &str = "troupe-clock";
/// In a forwarded request: the leader epoch of the partition whose leader is meant.
const MEANT_EPOCH: &str = "troupe-leader-epoch";

/// Two clocks drift apart by less than one in so many.
const DRIFT: u32 = 1_000;
/// How long a node that tells no time is not asked again: it runs an earlier version.
const TIMELESS: Duration = Duration::from_secs(10);

/// No more is allowed for, however far away the other node is: what seems older than it is is refused, and surely not
/// done; what seems newer would undo what came after it.
const VAGUEST: Duration = Duration::from_millis(5);
/// No request is taken for so much newer than it is: that, and what is lost where times are kept in milliseconds.
const TELLABLE: Duration = VAGUEST.saturating_add(Duration::from_millis(3));

/// The failure of a change that came then, once its caller may hear of it: what it sends then is newer, also where the
/// change is carried out after all. What surely was not done never will be.
pub async fn told_in_order(came: Instant, error: Error) -> Error {
    if !error.surely_not_done() {
        tokio::time::sleep_until(came + TELLABLE).await;
    }
    error
}

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
    /// It came to the first node then, or earlier by [`VAGUEST`] at most, or later.
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
    let vagueness = metadata.get(VAGUENESS).and_then(|value| value.to_str().ok()?.parse().ok());
    let vagueness = Duration::from_micros(vagueness.unwrap_or(0)).min(VAGUEST);
    let came = now.checked_sub(age).unwrap_or(now) + vagueness;
    Ok(Times { came: came.min(now), until: Some(now + left) })
}

/// The leader epoch in which the caller means this node to lead.
pub fn meant_epoch(headers: &http::HeaderMap) -> Option<u32> {
    headers.get(MEANT_EPOCH)?.to_str().ok()?.parse().ok()
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
    Told(Told),
    /// It was asked then, and told none.
    Nothing(Instant),
}

/// What is known of another process's clock.
#[derive(Clone, Copy, Debug)]
struct Told {
    process: u64,
    /// It showed at least that then.
    at_least: (u64, Instant),
    /// It showed at most that then.
    at_most: (u64, Instant),
}

impl Told {
    /// A lower bound of what the clock shows at a time, which may also lie before the sample.
    fn lower(&self, at: Instant) -> u64 {
        let (theirs, received) = self.at_least;
        match at.checked_duration_since(received) {
            Some(since) => theirs.saturating_add(micros(since - since / DRIFT)),
            None => {
                let before = received - at;
                theirs.saturating_sub(micros(before + before / DRIFT))
            }
        }
    }

    /// An upper bound of the same.
    fn upper(&self, at: Instant) -> u64 {
        let (theirs, sent) = self.at_most;
        match at.checked_duration_since(sent) {
            Some(since) => theirs.saturating_add(micros(since + since / DRIFT)),
            None => {
                let before = sent - at;
                theirs.saturating_sub(micros(before - before / DRIFT))
            }
        }
    }

    fn stamp(&self, metadata: &mut MetadataMap, came: Instant, deadline: Instant) {
        let order = format!("{}.{}.{}", self.process, self.lower(came), self.lower(deadline));
        if let Ok(value) = MetadataValue::try_from(order) {
            metadata.insert(ORDER, value);
            let vagueness = self.upper(came).saturating_sub(self.lower(came));
            metadata.insert(VAGUENESS, vagueness.into());
        }
    }

    /// Of two samples of the same clock, the tighter bounds.
    fn and(self, known: Told, now: Instant) -> Told {
        let at_least = match known.lower(now) >= self.lower(now) {
            true => known.at_least,
            false => self.at_least,
        };
        let at_most = match known.upper(now) <= self.upper(now) {
            true => known.at_most,
            false => self.at_most,
        };
        Told { at_least, at_most, ..self }
    }
}

impl Clocks {
    fn get(&self, node: &str) -> Option<Sample> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(node).copied()
    }

    /// What an answer says of the time of the node that gave it, to what was `sent` then.
    pub fn note(&self, node: &str, sent: Instant, answer: &MetadataMap) {
        let now = Instant::now();
        let told = answer.get(CLOCK).and_then(|value| value.to_str().ok()).and_then(numbers);
        let told = told.map(|[process, theirs]| {
            let (at_least, at_most) = ((theirs, now), (theirs, sent));
            Told { process, at_least, at_most }
        });
        let mut clocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sample = match (told, clocks.get(node).copied()) {
            (None, Some(Sample::Told(_))) => return,
            (None, _) => Sample::Nothing(now),
            (Some(told), Some(Sample::Told(known))) if told.process == known.process => {
                Sample::Told(told.and(known, now))
            }
            (Some(told), _) => Sample::Told(told),
        };
        clocks.insert(node.to_owned(), sample);
    }

    /// When something came, as a request to that node would say: larger, as soon as it can be told better. None:
    /// its time is not known.
    pub fn came(&self, node: &str, came: Instant) -> Option<(u64, u64)> {
        match self.get(node)? {
            Sample::Told(told) => Some((told.process, told.lower(came))),
            Sample::Nothing(_) => None,
        }
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
            Sample::Told(_) => true,
            Sample::Nothing(asked) => asked.elapsed() < TIMELESS,
        });
        if !is_known {
            self.ask(node, channel, deadline, unreachable).await?;
        }
        let mut request = forwarding(message, deadline);
        if let Some(Sample::Told(told)) = self.get(node) {
            told.stamp(request.metadata_mut(), came, deadline);
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
        let sent = Instant::now();
        let asked = client.check(forwarding(HealthCheckRequest::default(), deadline));
        let not_done = |message: String| Error::new(unreachable, message);
        match timeout_at(deadline, asked).await {
            Ok(Ok(answer)) => self.note(node, sent, answer.metadata()),
            // Whatever it says, it says it: its time comes with it.
            Ok(Err(status)) if status.metadata().contains_key(CLOCK) => {
                self.note(node, sent, status.metadata());
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

/// Whether a refusal says only that the request's time seemed to be over: it brings the time for another try.
pub fn is_stale_stamp(error: &Error) -> bool {
    error.code == ErrorCode::RequestTooLate
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
        let Some(Sample::Told(told)) = clocks.get("n") else { panic!("no time was told") };
        let mut metadata = MetadataMap::new();
        told.stamp(&mut metadata, came, deadline);
        metadata
    }

    #[test]
    fn a_request_that_was_held_up_beyond_its_time_is_refused_where_it_arrives() {
        let clocks = Clocks::default();
        clocks.note("n", Instant::now(), &answer());
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
    fn a_request_never_seems_much_newer_than_it_is() {
        let clocks = Clocks::default();
        let before = Instant::now();
        clocks.note("n", Instant::now(), &answer());
        let times = times_of(&stamped(&clocks, before, before + Duration::from_secs(1))).unwrap();
        assert!(times.came <= before + VAGUEST);
    }

    /// Where the other node is far away, a request may have come much later than its order says. That is not believed.
    #[test]
    fn of_what_a_round_trip_leaves_open_little_is_allowed_for() {
        let clocks = Clocks::default();
        let came = Instant::now();
        let answer = answer();
        std::thread::sleep(Duration::from_millis(30));
        clocks.note("n", came, &answer);
        let times = times_of(&stamped(&clocks, came, came + Duration::from_secs(9))).unwrap();
        assert!(times.came + Duration::from_millis(20) < came, "it seems older than it is");
        let known = clocks.came("n", came).unwrap();
        clocks.note("n", Instant::now(), &super::tests::answer());
        assert!(clocks.came("n", came).unwrap() > known, "a quick answer tells it better");
        let mut vague = stamped(&clocks, came, came + Duration::from_secs(9));
        assert!(times_of(&vague).unwrap().came <= came + VAGUEST);
        vague.insert(VAGUENESS, u64::MAX.into());
        assert!(times_of(&vague).unwrap().came <= came + VAGUEST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_when_what_follows_is_newer_for_certain() {
        let came = Instant::now();
        let unknown = || Error::new(ErrorCode::OutcomeUnknown, "");
        let not_done = Error::new(ErrorCode::NotCoordinator, "");
        assert_eq!(told_in_order(came, not_done).await.code, ErrorCode::NotCoordinator);
        assert_eq!(came.elapsed(), Duration::ZERO, "it never will be");
        assert_eq!(told_in_order(came, unknown()).await.code, ErrorCode::OutcomeUnknown);
        // Of the first request, its time and that of the decision are cut to milliseconds.
        let lost = 2 * Duration::from_millis(1);
        assert!(came.elapsed() > VAGUEST + lost);
        let late = Instant::now();
        told_in_order(came, unknown()).await;
        assert_eq!(late.elapsed(), Duration::ZERO);
    }

    #[test]
    fn a_slow_answer_does_not_make_a_known_clock_vaguer() {
        let clocks = Clocks::default();
        let slow = answer();
        std::thread::sleep(Duration::from_millis(20));
        clocks.note("n", Instant::now(), &answer());
        let at = Instant::now() + Duration::from_secs(1);
        let tight = stamped(&clocks, at, at);
        clocks.note("n", Instant::now(), &slow);
        assert_eq!(tight.get(ORDER), stamped(&clocks, at, at).get(ORDER));
    }
}
