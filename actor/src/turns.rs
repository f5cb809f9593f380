//! A mailbox has no budget of its own: an actor with many messages lets the other tasks of its thread run now and then.

use actix::fut::wrap_future;
use actix::{Actor, AsyncContext, Context};

/// Messages after which the others have a turn.
const MESSAGES: u32 = 64;

/// Counts an actor's messages.
#[derive(Default)]
pub struct Turns(u32);

impl Turns {
    /// One more is handled.
    pub fn take<A: Actor<Context = Context<A>>>(&mut self, ctx: &mut Context<A>) {
        self.0 += 1;
        if self.0 >= MESSAGES {
            self.0 = 0;
            ctx.wait(wrap_future::<_, A>(tokio::task::yield_now()));
        }
    }
}
