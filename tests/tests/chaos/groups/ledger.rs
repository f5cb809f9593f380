//! What the members of a group have processed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use troupe_tests::eventually;

/// What is sent: the lines of a file, dealt to the partitions in turn and once more from its first when it ends, or
/// padding of many lengths.
pub struct Lines {
    partitions: u64,
    file: Vec<String>,
}

impl Lines {
    /// Of the file that `TROUPE_CHAOS_FILE` names, if it names one.
    pub fn from_environment(partitions: u32) -> Lines {
        let read = |path| std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let content = std::env::var_os("TROUPE_CHAOS_FILE").map(read).unwrap_or_default();
        let file = String::from_utf8_lossy(&content)
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect();
        Lines { partitions: partitions.into(), file }
    }

    /// Lines of the file; none if there is none.
    pub fn count(&self) -> u64 {
        self.file.len() as u64
    }

    /// The content of the record at an offset.
    pub fn at(&self, partition: u32, offset: u64) -> String {
        let number = offset * self.partitions + u64::from(partition);
        match number.checked_rem(self.count()) {
            Some(number) => format!("{partition}/{offset}/{}", self.file[number as usize]),
            None => format!("{partition}/{offset}/{}", "x".repeat((offset % 97) as usize)),
        }
    }
}

/// How often each offset was processed, by partition.
pub struct Ledger {
    pub lines: Lines,
    seen: Vec<Mutex<Vec<u32>>>,
    wrong: Mutex<Vec<String>>,
}

impl Ledger {
    pub fn new(partitions: u32) -> Ledger {
        let seen = (0..partitions).map(|_| Mutex::default()).collect();
        Ledger { lines: Lines::from_environment(partitions), seen, wrong: Mutex::default() }
    }

    fn of(&self, partition: u32) -> MutexGuard<'_, Vec<u32>> {
        self.seen[partition as usize].lock().unwrap()
    }

    /// A member has processed a record.
    pub fn saw(&self, partition: u32, offset: u64, value: &[u8]) {
        if value != self.lines.at(partition, offset).as_bytes() {
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

    /// What must not have been, so far.
    pub fn found(&self) -> Vec<String> {
        self.wrong.lock().unwrap().clone()
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
        let mut wrong = self.found();
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
