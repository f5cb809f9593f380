//! Who waits until records are deleted on every in-sync replica.

use crate::partition::responder::Responder;
use std::collections::HashMap;
use troupe_machines::replica::{DeletionError, Token};
use troupe_proto::error::Error;
use troupe_proto::ids::Offset;

#[derive(Default)]
pub struct Deletions {
    waiting: HashMap<Token, Responder<Offset>>,
    next_token: u64,
}

impl Deletions {
    /// Answered by that token; if the actor stops before, with an unknown outcome.
    pub fn park(&mut self, responder: Responder<Offset>) -> Token {
        self.next_token += 1;
        let token = Token(self.next_token);
        self.waiting.insert(token, responder);
        token
    }

    pub fn answer(&mut self, token: Token, result: Result<Offset, DeletionError>) {
        if let Some(responder) = self.waiting.remove(&token) {
            responder.answer(result.map_err(Error::from));
        }
    }
}
