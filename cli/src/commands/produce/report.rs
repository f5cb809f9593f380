//! How it goes: a line on standard error while records are sent, a summary at the end.
//!
//! Never: a bar between lines that somebody types, or over the prompt of a shell that has sent it to the background.

use super::deliveries::Deliveries;
use super::input::Blocks;
use super::transactions::Committed;
use crate::failure::Failure;
use crate::global::Global;
use crate::quantity::{grouped, plural_grouped, show_duration, show_rate, show_size};
use crate::streams::{self, notice};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Instant;

pub struct Report {
    topic: String,
    started: Instant,
    bar: Option<ProgressBar>,
    /// A person wants to know how it went.
    tells: bool,
    /// Of the input, what is on its way.
    pub bytes_sent: u64,
    pub value_bytes: u64,
}

impl Report {
    pub fn new(global: &Global, topic: &str, input: &Blocks) -> Report {
        let tells = global.progress();
        let bar = (tells && !input.is_typed()).then(|| {
            let (bar, template) = match input.total() {
                Some(total) => {
                    (ProgressBar::new(total), "{wide_bar} {bytes}/{total_bytes} {msg} eta {eta}")
                }
                None => (ProgressBar::new_spinner(), "{spinner} {bytes} {msg}"),
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        Report {
            topic: topic.to_owned(),
            started: Instant::now(),
            bar,
            tells,
            bytes_sent: 0,
            value_bytes: 0,
        }
    }

    pub fn progress(&self, deliveries: &Deliveries) {
        if let Some(bar) = &self.bar
            && streams::is_foreground()
        {
            bar.set_position(self.bytes_sent);
            let rate = deliveries.delivered as f64 / self.started.elapsed().as_secs_f64();
            bar.set_message(format!(
                "{}, {}/s",
                plural_grouped(deliveries.delivered, "record"),
                show_rate(rate)
            ));
        }
    }

    /// The summary: JSON on standard output if asked for, else a line for a person at standard error.
    pub fn finish(
        &mut self,
        global: &Global,
        deliveries: &Deliveries,
        committed: Option<Committed>,
    ) -> Result<(), Failure> {
        let elapsed = self.started.elapsed();
        let rate = deliveries.delivered as f64 / elapsed.as_secs_f64();
        let bar = self.bar.take();
        if let Some(bar) = bar.as_ref().filter(|_| streams::is_foreground()) {
            bar.finish_and_clear();
        }
        if self.tells {
            // How fast somebody types is no rate.
            let took = match bar {
                Some(_) => format!(" in {} ({} records/s", show_duration(elapsed), show_rate(rate)),
                None => " (".to_owned(),
            };
            let size = show_size(self.value_bytes);
            let comma = if bar.is_some() { ", " } else { "" };
            notice!("{}{took}{comma}{size} of values)", deliveries.show());
            if let Some(Committed { transactions, records }) = committed {
                let (transactions, records) = (grouped(transactions), grouped(records));
                let end = if transactions == "1" { "" } else { "s" };
                notice!("{records} of them committed in {transactions} transaction{end}");
            }
        }
        if !global.format().is_json() {
            return Ok(());
        }
        let mut view = serde_json::json!({
            "topic": self.topic,
            "delivered": deliveries.delivered,
            "notWritten": deliveries.not_written,
            // Interrupted: what is not answered may be written all the same.
            "unknown": deliveries.unknown + deliveries.unanswered(),
            "valueBytes": self.value_bytes,
            "seconds": elapsed.as_secs_f64(),
            "recordsPerSecond": rate.round(),
        });
        if let Some(Committed { transactions, records }) = committed {
            view["committed"] = records.into();
            view["transactions"] = transactions.into();
        }
        global.output().one(&view, String::new)
    }
}
