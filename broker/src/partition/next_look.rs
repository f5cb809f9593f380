//! When the cleaner has to look at a log even if it is not its time: when so many bytes have come.

use troupe_machines::cleaning::READ_WHOLE_BYTES;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct NextLook {
    /// Bytes that may come until then; 0: it was due, and nobody has looked yet.
    left: u64,
}

impl NextLook {
    /// It was looked at just now.
    pub fn after(bytes: u64) -> Self {
        Self { left: bytes }
    }

    /// So many have come. True once, until somebody has looked.
    pub fn is_due_with(&mut self, bytes: u64) -> bool {
        let before = self.left;
        self.left = before.saturating_sub(bytes);
        before > 0 && self.left == 0
    }
}

impl Default for NextLook {
    /// As for a log that nobody has looked at.
    fn default() -> Self {
        Self::after(READ_WHOLE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_due_once_until_somebody_has_looked() {
        let mut next = NextLook::after(10);
        let due: Vec<bool> = [4, 5, 1, 7].map(|bytes| next.is_due_with(bytes)).into();
        assert_eq!(due, [false, false, true, false]);
        next = NextLook::after(3);
        assert!(next.is_due_with(100));
    }
}
