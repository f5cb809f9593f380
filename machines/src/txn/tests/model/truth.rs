//! What has to hold in every history, and what was seen in it.

use super::*;

/// A transaction as its client means it: numbered over the whole history.
pub type Number = usize;

#[derive(Debug, Default)]
struct Meant {
    /// What its client was told that became of it.
    told: Option<Outcome>,
    /// By which markers its records were closed.
    closed: Option<Outcome>,
}

#[derive(Debug, Default)]
pub struct Truth {
    /// The first thing that is wrong.
    pub wrong: Option<String>,
    pub seen: Seen,
    meant: Vec<Meant>,
    /// Which client was told that it is this producer.
    given: BTreeMap<Producer, usize>,
}

/// What is to happen in some history, or the histories are too tame.
pub const SIGHTS: [&str; 11] = [
    "aborted by time",
    "a marker told again",
    "a fenced producer refused",
    "a late request refused",
    "an end asked twice",
    "an init asked twice",
    "a new producer id",
    "a deleted partition",
    "a late marker refused",
    "records lost with a coordinator",
    "a record refused by verification",
];

#[derive(Clone, Debug)]
pub struct Seen(pub BTreeMap<&'static str, usize>);

impl Default for Seen {
    fn default() -> Seen {
        Seen(SIGHTS.into_iter().map(|sight| (sight, 0)).collect())
    }
}

impl Seen {
    pub fn note(&mut self, sight: &'static str) {
        *self.0.entry(sight).or_default() += 1;
    }

    pub fn add(&mut self, other: &Seen) {
        for (sight, times) in &other.0 {
            *self.0.entry(sight).or_default() += times;
        }
    }
}

impl Truth {
    pub fn fail(&mut self, wrong: impl FnOnce() -> String) {
        if self.wrong.is_none() {
            self.wrong = Some(wrong());
        }
    }

    pub fn begin(&mut self) -> Number {
        self.meant.push(Meant::default());
        self.meant.len() - 1
    }

    /// I10: nobody is told that it is who another one is.
    pub fn is_given(&mut self, client: usize, producer: Producer) {
        let holder = *self.given.entry(producer).or_insert(client);
        if holder != client {
            self.fail(|| format!("{producer} was given to two instances: {holder}, {client}"));
        }
    }

    /// X6, X8: told once, told for ever.
    pub fn is_told(&mut self, number: Number, outcome: Outcome) {
        let known = *self.meant[number].told.get_or_insert(outcome);
        if known != outcome {
            self.fail(|| format!("transaction {number} was told {known:?}, then {outcome:?}"));
        }
        self.compare(number);
    }

    /// I9, I11: one marker closes the records of one transaction, and all of them are closed alike.
    pub fn is_closed(&mut self, numbers: &[Number], outcome: Outcome) {
        if numbers.len() > 1 {
            self.fail(|| format!("one marker for transactions {numbers:?}"));
        }
        for number in numbers {
            let known = *self.meant[*number].closed.get_or_insert(outcome);
            if known != outcome {
                self.fail(|| format!("transaction {number} is torn: {known:?} and {outcome:?}"));
            }
            self.compare(*number);
        }
    }

    fn compare(&mut self, number: Number) {
        let Meant { told, closed } = self.meant[number];
        if let (Some(told), Some(closed)) = (told, closed)
            && told != closed
        {
            self.fail(|| format!("transaction {number} was told {told:?} and is {closed:?}"));
        }
    }
}
