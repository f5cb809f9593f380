//! The ids that deliveries carry. They say which session of which node gave them out, so that any node can take
//! them, on any connection.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use troupe_proto::ids::{NodeId, Offset};

/// A session in its node. Drawn at random: an id that a node gave out before it started anew must not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// One delivery of one record. As text: five hexadecimal numbers with dots between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckId {
    pub node: NodeId,
    pub session: SessionId,
    /// One assignment of one partition in the session.
    pub slot: u32,
    pub offset: Offset,
    pub attempt: u32,
}

impl SessionId {
    pub fn draw() -> SessionId {
        // Short as text, and still nobody's by accident.
        SessionId(rand::random::<u64>() >> 16)
    }
}

impl fmt::Display for AckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (node, session) = (self.node.0, self.session.0);
        write!(f, "{node:x}.{session:x}.{:x}.{:x}.{:x}", self.slot, self.offset.0, self.attempt)
    }
}

impl AckId {
    /// As text, made with one allocation.
    pub fn to_text(self) -> String {
        let mut text = String::with_capacity(40);
        // A string takes everything.
        let _ = write!(text, "{self}");
        text
    }
}

/// No id is longer as text, and no more than that is echoed of what is none.
pub const MAX_TEXT: usize = 64;

/// A text that a client sent for an id, as a result names it: what is too long for an id is cut.
pub fn echo(text: String) -> String {
    match text.len() {
        0..=MAX_TEXT => text,
        _ => text[..text.floor_char_boundary(MAX_TEXT)].to_owned(),
    }
}

/// It is no id of ours.
#[derive(Debug, PartialEq, Eq)]
pub struct NoAckId;

impl FromStr for AckId {
    type Err = NoAckId;

    fn from_str(text: &str) -> Result<AckId, NoAckId> {
        if text.len() > MAX_TEXT {
            return Err(NoAckId);
        }
        let mut parts = text.split('.');
        let mut number = || {
            let part = parts.next().filter(|part| !part.starts_with('+')).ok_or(NoAckId)?;
            u64::from_str_radix(part, 16).map_err(|_| NoAckId)
        };
        let (node, session, slot, offset, attempt) =
            (number()?, number()?, number()?, number()?, number()?);
        let small = |number: u64| u32::try_from(number).map_err(|_| NoAckId);
        let id = AckId {
            node: NodeId(i32::try_from(node).map_err(|_| NoAckId)?),
            session: SessionId(session),
            slot: small(slot)?,
            offset: Offset(offset),
            attempt: small(attempt)?,
        };
        if parts.next().is_some() { Err(NoAckId) } else { Ok(id) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_is_read_as_it_was_written(
            node in 0..i32::MAX, session: u64, slot: u32, offset: u64, attempt: u32,
        ) {
            let id = AckId {
                node: NodeId(node), session: SessionId(session), slot, offset: Offset(offset), attempt,
            };
            prop_assert_eq!(id.to_text().parse(), Ok(id));
        }

        #[test]
        fn what_is_no_id_is_refused(text in "\\PC{0,60}") {
            if let Ok(id) = text.parse::<AckId>() {
                prop_assert_eq!(id.to_text().len() <= text.len(), true);
            }
        }
    }

    #[test]
    fn the_longest_id_is_echoed_whole_and_nothing_longer_is() {
        let longest = AckId {
            node: NodeId(i32::MAX),
            session: SessionId(u64::MAX),
            slot: u32::MAX,
            offset: Offset(u64::MAX),
            attempt: u32::MAX,
        };
        let text = longest.to_text();
        assert_eq!(echo(text.clone()), text);
        let zeros = format!("{}{text}", "0".repeat(MAX_TEXT));
        assert_eq!(zeros.parse::<AckId>(), Err(NoAckId));
        assert_eq!(echo(zeros), "0".repeat(MAX_TEXT));
        assert_eq!(echo("\u{20ac}".repeat(1_000_000)), "\u{20ac}".repeat(MAX_TEXT / 3));
    }

    #[test]
    fn nearly_an_id_is_none() {
        let wrong = [
            "",
            ".",
            "1.2.3.4",
            "1.2.3.4.5.6",
            "1.2.3.4.",
            "+1.2.3.4.5",
            "1.2.3.4.g",
            "-1.2.3.4.5",
        ];
        for text in wrong.into_iter().chain(["1.2.100000000.4.5", "80000000.2.3.4.5"]) {
            assert_eq!(text.parse::<AckId>(), Err(NoAckId), "{text}");
        }
    }
}
