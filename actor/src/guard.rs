//! How a supervisor hears that an actor is gone: by the drop of a field, which nothing can prevent.

use tokio::sync::oneshot;

/// How an actor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit<R> {
    pub panicked: bool,
    /// What the actor has said of it. `None`: it was stopped, or killed.
    pub reason: Option<R>,
}

impl<R> Exit<R> {
    pub fn stopped() -> Self {
        Self { panicked: false, reason: None }
    }

    /// Also of what should have become an actor.
    pub fn panicked() -> Self {
        Self { panicked: true, reason: None }
    }
}

/// Tells that the actor that holds it is gone, however it went. As its last field, it tells when all others are
/// dropped.
pub struct Guard<R> {
    gone: Option<oneshot::Sender<Exit<R>>>,
    reason: Option<R>,
}

impl<R> Guard<R> {
    /// For one actor, and where its end is told. An error there: the thread is gone, and the actor with it.
    pub fn new() -> (Self, oneshot::Receiver<Exit<R>>) {
        let (gone, exit) = oneshot::channel();
        (Self { gone: Some(gone), reason: None }, exit)
    }

    /// Why the actor is about to stop.
    pub fn note(&mut self, reason: R) {
        self.reason = Some(reason);
    }
}

impl<R> Drop for Guard<R> {
    fn drop(&mut self) {
        let exit = Exit { panicked: std::thread::panicking(), reason: self.reason.take() };
        if let Some(gone) = self.gone.take() {
            // Nobody listens if the node is gone.
            let _ = gone.send(exit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_with_its_reason_and_a_panic_too() {
        let (guard, mut exit) = Guard::<u8>::new();
        drop(guard);
        assert_eq!(exit.try_recv(), Ok(Exit::stopped()));

        let (mut guard, mut exit) = Guard::new();
        guard.note(7);
        drop(guard);
        assert_eq!(exit.try_recv(), Ok(Exit { panicked: false, reason: Some(7) }));

        let (guard, mut exit) = Guard::<u8>::new();
        let died = std::thread::spawn(move || {
            let _guard = guard;
            panic!("as told");
        });
        assert!(died.join().is_err());
        assert_eq!(exit.try_recv(), Ok(Exit::panicked()));
    }
}
