//! What the members of a group have processed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use troupe_tests::eventually;

/// The content of the record at an offset.
pub fn line(partition: u32, offset: u64) -> String {
    let padding = "x".repeat((offset % 97) as usize);
    format!("{partition}/{offset}/{padding}")
}

/// How often each offset was processed, by partition.
pub struct Ledger {
    seen: Vec<Mutex<Vec<u32>>>,
    wrong: Mutex<Vec<String>>,
}

impl Ledger {
    pub fn new(partitions: u32) -> Ledger {
        let seen = (0..partitions).map(|_| Mutex::default()).collect();
        Ledger { seen, wrong: Mutex::default() }
    }

    fn of(&self, partition: u32) -> MutexGuard<'_, Vec<u32>> {
        self.seen[partition as usize].lock().unwrap()
    }

    /// A member has processed a record.
    pub fn saw(&self, partition: u32, offset: u64, value: &[u8]) {
        if value != line(partition, offset).as_bytes() {
            self.wrong(format!("partition {partition}: another record at {offset}"));
        }
        let mut seen = self.of(partition);
        let place = offset as usize;
        if seen.len() <= place {
            seen.resize(place + 1, 0);
        }
        seen[place] += 1;
    }

    /// The same, by what a process has printed.
    pub fn printed(&self, line: &str) {
        let mut parts = line.split('/');
        let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok());
        match (number(), number()) {
            (Some(partition), Some(offset)) if partition < self.seen.len() as u64 => {
                self.saw(partition as u32, offset, line.as_bytes());
            }
            _ => self.wrong(format!("a member printed {line:?}")),
        }
    }

    pub fn wrong(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }

    /// Waits until `more` records more than now were processed.
    pub async fn progress(&self, more: u64) {
        let count = || self.seen.iter().map(|of| of.lock().unwrap().len() as u64).sum::<u64>();
        let until = count() + more;
        eventually("a group reads", async || (count() >= until).then_some(())).await;
    }

    /// Records that were processed more than once, and everything that must not be: records that nobody saw (I14),
    /// or that were never written.
    pub fn judge(&self, ends: &BTreeMap<u32, u64>) -> (usize, Vec<String>) {
        let mut wrong = self.wrong.lock().unwrap().clone();
        let mut repeated = 0;
        for (partition, end) in ends {
            let seen = self.of(*partition);
            let missed: Vec<u64> = (0..*end)
                .filter(|offset| seen.get(*offset as usize).is_none_or(|count| *count == 0))
                .collect();
            if let Some(first) = missed.first() {
                let count = missed.len();
                wrong.push(format!("partition {partition}: {count} missed, from {first} on"));
            }
            if seen.len() as u64 > *end {
                wrong.push(format!("partition {partition}: {} of {end} seen", seen.len()));
            }
            repeated += seen.iter().filter(|count| **count > 1).count();
        }
        (repeated, wrong)
    }
}
