//! An answer that is owed. Dropping it answers too: nobody waits for an actor that is gone.

use super::chain::Chain;
use std::sync::Arc;
use tokio::sync::oneshot;
use troupe_proto::error::{Error, ErrorCode};

type Callback<T> = Box<dyn FnOnce(Result<T, Error>) + Send>;

/// Answers exactly once: by [`Responder::answer`], or when dropped, with an unknown outcome.
pub struct Responder<T> {
    send: Option<Callback<T>>,
}

impl<T> Responder<T> {
    pub fn new(send: impl FnOnce(Result<T, Error>) + Send + 'static) -> Self {
        Self { send: Some(Box::new(send)) }
    }

    /// An answer through a channel.
    pub fn channel() -> (Self, oneshot::Receiver<Result<T, Error>>)
    where
        T: Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        (Self::new(move |answer| drop(sender.send(answer))), receiver)
    }

    /// The same responder, which severs the chain before it answers a failure.
    #[must_use]
    pub fn of_chain(self, chain: Option<Arc<Chain>>) -> Self
    where
        T: 'static,
    {
        let Some(chain) = chain else { return self };
        Self::new(move |answer| {
            if answer.is_err() {
                chain.sever();
            }
            self.answer(answer);
        })
    }

    /// The same, and `held` is let go when it is answered.
    pub fn holding(self, held: impl Send + 'static) -> Self
    where
        T: 'static,
    {
        Self::new(move |answer| {
            drop(held);
            self.answer(answer);
        })
    }

    pub fn answer(mut self, answer: Result<T, Error>) {
        if let Some(send) = self.send.take() {
            send(answer);
        }
    }
}

impl<T> Drop for Responder<T> {
    fn drop(&mut self) {
        if let Some(send) = self.send.take() {
            let message =
                "no answer came from the partition's actor: what it was asked may be done, or not";
            send(Err(Error::new(ErrorCode::OutcomeUnknown, message)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dropped_request_is_answered() {
        let (responder, answer) = Responder::<u8>::channel();
        drop(responder);
        let error = answer.await.unwrap().unwrap_err();
        assert_eq!(error.code, ErrorCode::OutcomeUnknown);
        assert!(!error.surely_not_done());
    }
}
