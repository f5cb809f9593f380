//! Into which directory of its node a new partition goes (S1).

/// A directory that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// How many belong into it.
    pub partitions: usize,
    /// Room on its disk; `None`: it does not say.
    pub usable_bytes: Option<u64>,
}

/// With less room than this a directory is chosen only if no other has more.
const LITTLE_ROOM: u64 = 64 << 20;

/// The one with the fewest partitions, among those with room; of equal ones the first. By its place; `None` if there
/// is none.
pub fn choose(candidates: &[Candidate]) -> Option<usize> {
    let order = |(place, candidate): &(usize, &Candidate)| {
        let is_short = candidate.usable_bytes.is_some_and(|bytes| bytes < LITTLE_ROOM);
        (is_short, candidate.partitions, *place)
    };
    candidates.iter().enumerate().min_by_key(order).map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(partitions: usize, usable_bytes: Option<u64>) -> Candidate {
        Candidate { partitions, usable_bytes }
    }

    #[test]
    fn a_partition_goes_where_the_fewest_are_and_first_among_equals() {
        let all = [candidate(3, None), candidate(1, None), candidate(1, None)];
        assert_eq!(choose(&all), Some(1));
        assert_eq!(choose(&[]), None);
    }

    #[test]
    fn a_disk_that_is_nearly_full_is_the_last_choice_and_a_choice() {
        let full = candidate(0, Some(LITTLE_ROOM - 1));
        assert_eq!(choose(&[full, candidate(9, Some(LITTLE_ROOM))]), Some(1));
        assert_eq!(choose(&[full, candidate(9, None)]), Some(1));
        assert_eq!(choose(&[full]), Some(0));
    }
}
