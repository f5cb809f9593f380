//! Patterns of actors' addresses: `*` stands for anything, also nothing and also slashes; `?` for one character.

pub struct AddressPattern(Vec<char>);

impl AddressPattern {
    pub fn new(pattern: &str) -> AddressPattern {
        AddressPattern(pattern.chars().collect())
    }

    pub fn matches(&self, address: &str) -> bool {
        matches(&self.0, &address.chars().collect::<Vec<_>>())
    }
}

fn matches(pattern: &[char], text: &[char]) -> bool {
    // The places after the last star in the pattern and in the text, from where to go on if this fails.
    let mut retry: Option<(usize, usize)> = None;
    let (mut p, mut t) = (0, 0);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(&wanted) if wanted == '?' || wanted == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((after_star, at)) => {
                    retry = Some((after_star, at + 1));
                    (p, t) = (after_star, at + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&rest| rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_match(pattern: &str, text: &str) -> bool {
        AddressPattern::new(pattern).matches(text)
    }

    #[test]
    fn a_star_stands_for_anything() {
        let address = "node/1/shard/0/partition/orders/3";
        assert!(is_match("*", address));
        assert!(is_match("*/partition/orders/*", address));
        assert!(is_match("node/?/*/3", address));
        assert!(is_match(address, address));
        assert!(!is_match("*/partition/payments/*", address));
        assert!(!is_match("node/1", address));
        assert!(!is_match("node/2*", address));
        assert!(is_match("*a*b", "xaxbab"));
        assert!(!is_match("*a*b", "xaxba"));
    }
}
