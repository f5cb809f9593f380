//! How a tool ends that has failed: its exit code, and what it says where, as Kafka's says it there.

use crate::failure::Failure;
use std::fmt::Display;
use troupe_client::ClientError;

/// What is left to be said, and the exit code.
#[derive(Debug, Default)]
pub struct Ended {
    pub code: u8,
    /// For standard output: some of the tools tell their errors there.
    pub results: String,
    /// For standard error.
    pub notices: String,
}

impl Ended {
    /// On standard error, with Kafka's exit code of every failure.
    pub fn err(text: impl Display) -> Ended {
        Ended { code: 1, notices: line(text), ..Ended::default() }
    }

    /// On standard output.
    pub fn out(text: impl Display) -> Ended {
        Ended { code: 1, results: line(text), ..Ended::default() }
    }

    /// The same with another exit code.
    #[must_use]
    pub fn with_code(self, code: u8) -> Ended {
        Ended { code, ..self }
    }

    /// More on standard error.
    #[must_use]
    pub fn and_err(mut self, text: impl Display) -> Ended {
        self.notices += &line(text);
        self
    }

    /// What cannot be had here, why, and what to do instead.
    pub fn cannot(what: &str, why: &str) -> Ended {
        Ended::err(format_args!("{what} is not to be had here: {why}"))
    }
}

fn line(text: impl Display) -> String {
    let text = text.to_string();
    if text.is_empty() || text.ends_with('\n') { text } else { text + "\n" }
}

impl From<Failure> for Ended {
    /// Signals and readers that have left keep their codes; everything else is 1, as there.
    fn from(failure: Failure) -> Ended {
        let code = match failure.exit() as u8 {
            code if code > 128 => code,
            _ => 1,
        };
        match failure.is_silent() {
            true => Ended { code, ..Ended::default() },
            false => Ended::err(failure).with_code(code),
        }
    }
}

impl From<ClientError> for Ended {
    fn from(error: ClientError) -> Ended {
        Failure::client("", &error).into()
    }
}
