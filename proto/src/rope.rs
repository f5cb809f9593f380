//! Bytes as the network made them: a queue of reference-counted pieces that is never joined unless
//! somebody asks for one contiguous slice.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::IoSlice;

/// Pieces of bytes in order. Empty pieces are never kept.
#[derive(Clone, Debug, Default)]
pub struct Rope {
    pieces: VecDeque<Bytes>,
    len: usize,
}

impl Rope {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.len += piece.len();
            self.pieces.push_back(piece);
        }
    }

    pub fn pieces(&self) -> impl ExactSizeIterator<Item = &Bytes> {
        self.pieces.iter()
    }

    /// The first `count` bytes; they are gone from this rope. Copies nothing.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn split_to(&mut self, count: usize) -> Rope {
        assert!(count <= self.len, "split_to({count}) of {} bytes", self.len);
        let mut head = Rope::new();
        while head.len < count {
            let wanted = count - head.len;
            let front = self.pieces.front_mut().expect("len says that there are bytes left");
            let piece = if front.len() <= wanted {
                self.pieces.pop_front().expect("just seen")
            } else {
                front.split_to(wanted)
            };
            self.len -= piece.len();
            head.push(piece);
        }
        head
    }

    /// One contiguous slice: without a copy if there is at most one piece.
    pub fn into_bytes(mut self) -> Bytes {
        match self.pieces.len() {
            0 => Bytes::new(),
            1 => self.pieces.pop_front().expect("one piece"),
            _ => {
                let mut joined = BytesMut::with_capacity(self.len);
                for piece in &self.pieces {
                    joined.put_slice(piece);
                }
                joined.freeze()
            }
        }
    }

    /// For vectored writes.
    pub fn io_slices(&self) -> impl Iterator<Item = IoSlice<'_>> {
        self.pieces.iter().map(|piece| IoSlice::new(piece))
    }
}

impl From<Bytes> for Rope {
    fn from(bytes: Bytes) -> Self {
        let mut rope = Rope::new();
        rope.push(bytes);
        rope
    }
}

impl Buf for Rope {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len, "advance({count}) of {} bytes", self.len);
        self.len -= count;
        while count > 0 {
            let front = self.pieces.front_mut().expect("len says that there are bytes left");
            if front.len() > count {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.pieces.pop_front();
        }
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        self.split_to(count).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_rope_reads_like_its_pieces_joined(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..9),
            cut in any::<prop::sample::Index>(),
        ) {
            let joined = pieces.concat();
            let mut rope = Rope::new();
            for piece in &pieces {
                rope.push(Bytes::copy_from_slice(piece));
            }
            prop_assert_eq!(rope.len(), joined.len());
            let cut = cut.index(joined.len() + 1);
            let mut advanced = rope.clone();
            advanced.advance(cut);
            prop_assert_eq!(&advanced.into_bytes()[..], &joined[cut..]);
            let head = rope.split_to(cut);
            prop_assert_eq!(&head.into_bytes()[..], &joined[..cut]);
            prop_assert_eq!(&rope.into_bytes()[..], &joined[cut..]);
        }
    }
}
