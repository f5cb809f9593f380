//! What it is to be an actor here: to die and be made again, to be found meanwhile, to be asked no more than it can
//! take, to suffer faults, and to be seen standing still.
//!
//! ```text
//!            begins, judges an end            tells how it ended
//!   Life ◄──────────────────── supervise ◄──────────────────────── Guard, in the actor
//!                                  │ writes
//!   handle ────finds it in────► StateBoard
//! ```
//!
//! - [`Life`] is what an owner says of its actor: how one begins, and what follows an end. [`supervise`] lives it,
//!   life after life. (actix's own supervisor neither re-creates an actor nor notices a panic.)
//! - [`Guard`] is an actor's last field: its drop, which nothing can prevent, tells the [`Exit`]. [`RestartWindow`]
//!   says when an actor has died too often.
//! - [`StateBoard`] is where everybody finds the actor of now, or learns why there is none.
//! - [`Mailbox`], [`Budget`] and [`Turns`] bound what waits for an actor, and what it takes at once;
//!   [`InFlightRequests`] counts what is not answered yet.
//! - [`Fault`] is what an actor can be given and survives, [`Die`] what it does not; a [`PauseGate`] stops all that are on
//!   a node's threads; [`StallDetector`] says whether a
//!   thread or a process runs; [`Address`] is an actor's place in the tree.
//!
//! Promises: a dead actor is replaced by one that its owner built from nothing but what it remembers elsewhere; an
//! actor that was retired stays away; whoever waits for an actor is woken when there is one, or none any more.
//! Never here: what an actor is for. No log, no group, no gRPC, no error that a client sees.

mod address;
mod board;
mod budget;
mod clock;
mod fault;
mod guard;
mod in_flight;
mod mailbox;
mod pause;
mod stall;
mod supervision;
mod turns;
mod window;

pub use address::Address;
pub use board::{ActorState, State, StateBoard};
pub use budget::Budget;
pub use fault::{Die, Fault, FaultKind, Faults, InjectFault, NotInjected, Survived};
pub use guard::{Exit, Guard};
pub use in_flight::{InFlightGuard, InFlightId, InFlightRequests};
pub use mailbox::{Mailbox, Refused};
pub use pause::PauseGate;
pub use stall::StallDetector;
pub use supervision::{Beginning, Life, Next, supervise};
pub use turns::Turns;
pub use window::RestartWindow;
