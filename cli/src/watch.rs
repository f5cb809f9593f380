//! `--watch`: a view again and again, until a signal.

use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::quantity::parse_duration;
use crate::signals::Stop;
use crate::streams::notice;
use crate::timestamp;
use clap::Args;
use serde::Serialize;
use std::time::Duration;

/// Home, and clear to the end of the screen.
pub const CLEAR: &str = "\x1b[H\x1b[J";

#[derive(Clone, Debug, Args)]
pub struct Watch {
    /// Go on: on a terminal anew each time, in a pipe one block after the other, as JSON one line each
    #[arg(short, long)]
    watch: bool,
    /// How often --watch looks
    #[arg(long, default_value = "2s", value_parser = parse_duration, value_name = "DURATION")]
    #[arg(requires = "watch")]
    interval: Duration,
}

/// A view and when it was so.
#[derive(Serialize)]
struct Snapshot<'a, V> {
    time: &'a str,
    #[serde(flatten)]
    view: &'a V,
}

impl Watch {
    /// Shows what `ask` finds: `once`, or if watched again and again as `text`, or as a JSON object of its own
    /// with the time beside what is in it. Who does not answer while being watched is told of, and asked again.
    ///
    /// # Errors
    /// The first answer's, and those of printing.
    pub async fn show<V: Serialize>(
        &self,
        output: &Output,
        mut ask: impl AsyncFnMut() -> Result<V, Failure>,
        once: impl FnOnce(&V) -> Result<(), Failure>,
        text: impl Fn(&V) -> String,
    ) -> Result<(), Failure> {
        let mut seen = ask().await;
        if !self.watch {
            return once(&seen?);
        }
        let mut stop = Stop::new()?;
        // The first has to work: what is wrong with it is wrong with the command.
        let mut told = false;
        print(output, &seen?, &text)?;
        loop {
            tokio::select! {
                _ = stop.wait() => return Ok(()),
                () = tokio::time::sleep(self.interval) => {}
            }
            seen = tokio::select! {
                _ = stop.wait() => return Ok(()),
                seen = ask() => seen,
            };
            match seen {
                Ok(view) => {
                    told = false;
                    print(output, &view, &text)?;
                }
                Err(failure) => {
                    if !told {
                        notice!("note: no answer: {failure}");
                    }
                    told = true;
                }
            }
        }
    }
}

fn print<V: Serialize>(
    output: &Output,
    view: &V,
    text: impl Fn(&V) -> String,
) -> Result<(), Failure> {
    let time = timestamp::show(timestamp::now_ms());
    if output.format.is_json() {
        let line = Output { format: Format::Jsonl, ..*output };
        return line.one(&Snapshot { time: &time, view }, String::new);
    }
    let clear = if output.terminal { CLEAR } else { "" };
    output.print(&format!("{clear}{time}\n{}\n", text(view)))
}
