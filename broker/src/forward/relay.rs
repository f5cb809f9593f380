//! The same call once more, to another node. Only a door knows how it is asked.

use std::future::Future;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// Asks another node for an `R`.
pub trait Relay<R>: Send + Sync {
    /// `stamp`: what the request has to say beside its message.
    fn relay(
        &self,
        channel: Channel,
        stamp: Request<()>,
    ) -> impl Future<Output = Result<Response<R>, Status>> + Send;
}

impl<R, Asked, Ask> Relay<R> for Ask
where
    Ask: Fn(Channel, Request<()>) -> Asked + Send + Sync,
    Asked: Future<Output = Result<Response<R>, Status>> + Send,
{
    fn relay(
        &self,
        channel: Channel,
        stamp: Request<()>,
    ) -> impl Future<Output = Result<Response<R>, Status>> + Send {
        self(channel, stamp)
    }
}
