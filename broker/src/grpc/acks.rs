//! Which acknowledgements a request asks for.

use troupe_machines::replica::Acks;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::v1 as pb;

/// # Errors
/// `INVALID_REQUEST`: a number without a meaning.
pub fn parse_acks(acks: i32) -> Result<Acks, Error> {
    pb::Acks::try_from(acks).map(Acks::from).map_err(|_| {
        let message = format!("acks {acks} is none of ACKS_ALL, ACKS_LEADER, ACKS_NONE");
        Error::new(ErrorCode::InvalidRequest, message)
    })
}
