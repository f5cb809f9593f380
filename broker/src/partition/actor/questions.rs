//! Who waits to hear whether the replica leads now.

use std::collections::HashMap;
use tokio::sync::oneshot;
use troupe_machines::replica::{ConfirmError, Token};
use troupe_proto::error::Error;

type Reply = oneshot::Sender<Result<(), Error>>;

#[derive(Default)]
pub struct Questions {
    replies: HashMap<Token, Reply>,
    next_token: u64,
}

impl Questions {
    /// Answered by that token.
    pub fn park(&mut self, reply: Reply) -> Token {
        self.next_token += 1;
        let token = Token(self.next_token);
        self.replies.insert(token, reply);
        token
    }

    pub fn answer(&mut self, token: Token, result: Result<(), ConfirmError>) {
        if let Some(reply) = self.replies.remove(&token) {
            // Whoever asked may be gone.
            let _ = reply.send(result.map_err(Error::from));
        }
    }
}
