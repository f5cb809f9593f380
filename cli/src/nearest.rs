//! Which of several words somebody may have meant.
//!
//! Promises: nothing is offered that only happens to be there: a word is near if a few slips of the finger make the one of
//! the other, or if the one begins with the other.

use strsim::damerau_levenshtein;

/// The nearest of them, if any is near.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.into_iter().filter(|known| is_near(wrong, known));
    near.min_by_key(|known| damerau_levenshtein(&wrong.to_lowercase(), &known.to_lowercase()))
}

/// Whether who typed the one may have meant the other.
fn is_near(wrong: &str, known: &str) -> bool {
    let (wrong, known) = (wrong.to_lowercase(), known.to_lowercase());
    if wrong == known {
        return true;
    }
    let (shorter, longer) = match wrong.len() <= known.len() {
        true => (&wrong, &known),
        false => (&known, &wrong),
    };
    let slips = match shorter.chars().count() {
        0 | 1 => return false,
        2..=4 => 1,
        5..=8 => 2,
        _ => 3,
    };
    damerau_levenshtein(&wrong, &known) <= slips
        || (shorter.chars().count() >= 3 && longer.starts_with(shorter.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_and_beginnings_are_near_and_nothing_else_is() {
        for (wrong, known) in [
            ("ordres", "orders"),
            ("Orders", "orders"),
            ("order", "orders"),
            ("desc", "describe"),
            ("biling", "billing"),
            ("prodcue", "produce"),
        ] {
            assert_eq!(nearest(wrong, [known, "elsewhere"]), Some(known), "{wrong}");
        }
        for (wrong, known) in [
            ("reassign", "version"),
            ("consumer-groups", "consume-x"),
            ("top", "topic-a"),
            ("x", "y"),
            ("", "a"),
            ("audit", "orders"),
        ] {
            let near = nearest(wrong, [known]);
            assert!(near.is_none() || known.starts_with(wrong), "{wrong}: {near:?}");
        }
    }

    #[test]
    fn of_several_the_nearest_is_meant() {
        assert_eq!(nearest("orders-2", ["orders-1", "orders-23", "orders"]), Some("orders-1"));
        assert_eq!(nearest("ordres", ["orders-archive", "orders"]), Some("orders"));
    }
}
