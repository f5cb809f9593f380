//! Why a stream of requests that a client keeps open does not go on.

use troupe_proto::error::Error;

#[derive(Clone, Debug)]
pub enum Interruption {
    /// The stream broke, or the client gave it up, with whatever it sent behind this.
    Broken(Error),
    /// What came is no request.
    Refused(Error),
}

impl From<Interruption> for Error {
    fn from(interruption: Interruption) -> Self {
        match interruption {
            Interruption::Broken(error) | Interruption::Refused(error) => error,
        }
    }
}
