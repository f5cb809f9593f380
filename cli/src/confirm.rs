//! Asking before something is destroyed.

use crate::exit::Exit;
use crate::failure::{Context, Failure};
use std::io::{BufRead, IsTerminal, Write};

/// Asks the person at the terminal; without one, nothing is destroyed. `instead` is the command that does not
/// ask.
///
/// # Errors
/// Nobody said yes.
pub fn confirm(what: &str, question: &str, instead: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        let failure = Failure::new(Exit::Usage, what, "nobody is there to confirm it");
        return Err(failure.with_hint(instead));
    }
    // Who cannot have seen the question has not answered it.
    let asked = write!(std::io::stderr(), "{question} [y/N] ");
    asked.with_context(|| what.to_owned())?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).with_context(|| what.to_owned())?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::new(Exit::Failed, "", "nothing was done"))
    }
}
