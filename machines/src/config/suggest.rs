//! "Did you mean …": the nearest known name to a misspelt one.

/// The known name nearest to `wrong`, if it is near enough to have been meant.
pub fn nearest(wrong: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let limit = (wrong.chars().count() / 3).max(2);
    known
        .map(|name| (edits(wrong, name), name))
        .filter(|(edits, _)| *edits <= limit)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, name)| name)
}

/// Levenshtein distance: how many single characters to insert, remove or replace.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_edits() {
        for (from, to, expected) in
            [("", "", 0), ("abc", "", 3), ("", "ab", 2), ("kitten", "sitting", 3), ("a", "a", 0)]
        {
            assert_eq!(edits(from, to), expected, "{from} -> {to}");
        }
    }

    #[test]
    fn only_a_near_name_is_suggested() {
        let known = ["retention.ms", "retention.bytes", "segment.bytes"];
        assert_eq!(nearest("retention.sm", known.into_iter()), Some("retention.ms"));
        assert_eq!(nearest("retentionbytes", known.into_iter()), Some("retention.bytes"));
        assert_eq!(nearest("colour", known.into_iter()), None);
    }
}
