//! A stream of batches as events, opened in the background.

use crate::error::ClientError;
use futures::{Stream, stream};
use tonic::Streaming;

/// What a stream tells its owner.
pub(crate) enum Event<T> {
    Message(T),
    /// The last event, and there is always one. Unless it is [`ClientError::CannotConnect`], what was sent
    /// up may have arrived.
    Ended(ClientError),
}

enum State<T, F> {
    Opening(F),
    Reading(Box<Streaming<T>>),
    Over,
}

/// Opens a stream in the background and reads it to its end.
pub(crate) fn events<T, F>(opening: F) -> impl Stream<Item = Event<T>> + Send
where
    T: Send + 'static,
    F: Future<Output = Result<Streaming<T>, ClientError>> + Send,
{
    stream::unfold(State::Opening(opening), |state| async move {
        let mut messages = match state {
            State::Opening(opening) => match opening.await {
                Ok(messages) => Box::new(messages),
                Err(error) => return Some((Event::Ended(error), State::Over)),
            },
            State::Reading(messages) => messages,
            State::Over => return None,
        };
        Some(match messages.message().await {
            Ok(Some(message)) => (Event::Message(message), State::Reading(messages)),
            Ok(None) => {
                let error = ClientError::outcome_unknown("the node ended the stream");
                (Event::Ended(error), State::Over)
            }
            Err(status) => (Event::Ended(status.into()), State::Over),
        })
    })
}
