//! The mark of a call that another node sent here: it is answered where it arrives, and goes no further.

use tokio::time::Instant;
use tonic::Request;

/// In a request: another node forwarded it.
pub const FORWARDED: &str = "troupe-forwarded";

/// Whether another node sent this call here.
pub fn is_forwarded<T>(request: &Request<T>) -> bool {
    request.metadata().contains_key(FORWARDED)
}

/// The same call, to be answered where it arrives, by `deadline`.
pub fn forwarding<T>(message: T, deadline: Instant) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(FORWARDED, tonic::metadata::MetadataValue::from_static("1"));
    request.set_timeout(deadline.saturating_duration_since(Instant::now()));
    request
}

#[cfg(test)]
mod tests {
    use super::super::time::deadline_of;
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_forwarded_says_so_and_has_no_more_time_than_the_call() {
        let deadline = Instant::now() + Duration::from_secs(3);
        let request = forwarding((), deadline);
        assert!(is_forwarded(&request));
        assert!(deadline_of(request.metadata()) <= deadline);
        assert!(!is_forwarded(&Request::new(())));
    }
}
