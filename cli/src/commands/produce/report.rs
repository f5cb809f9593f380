//! How it goes: a line on standard error while records are sent, a summary at the end.

use super::deliveries::Deliveries;
use super::transactions::Committed;
use crate::failure::Failure;
use crate::global::Global;
use crate::quantity::{grouped, show_duration, show_rate, show_size};
use crate::streams::notice;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Instant;

pub struct Report {
    topic: String,
    started: Instant,
    bar: Option<ProgressBar>,
    pub bytes_read: u64,
    pub value_bytes: u64,
}

impl Report {
    /// `total`: bytes of input, if known.
    pub fn new(global: &Global, topic: &str, total: Option<u64>) -> Report {
        let bar = global.progress().then(|| {
            let (bar, template) = match total {
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
            bytes_read: 0,
            value_bytes: 0,
        }
    }

    pub fn progress(&self, deliveries: &Deliveries) {
        if let Some(bar) = &self.bar {
            bar.set_position(self.bytes_read);
            let rate = deliveries.delivered as f64 / self.started.elapsed().as_secs_f64();
            bar.set_message(format!(
                "{} records, {}/s",
                grouped(deliveries.delivered),
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
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            notice!(
                "{} in {} ({} records/s, {} of values)",
                deliveries.show(),
                show_duration(elapsed),
                show_rate(rate),
                show_size(self.value_bytes)
            );
            if let Some(Committed { transactions, records }) = committed {
                let (transactions, records) = (grouped(transactions), grouped(records));
                notice!("{records} of them committed in {transactions} transactions");
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
