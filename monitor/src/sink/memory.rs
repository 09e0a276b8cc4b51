//! Where encoded lines stand: one after the other in blocks, which are used again once all their lines are delivered. To take
//! memory from the kernel for each line, and to give it back, would cost more than to encode it.

use std::collections::VecDeque;

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::event::Kind;

/// The size of a block.
const BLOCK_BYTES: usize = 64 << 10;
/// How many full blocks are waited for to be used again; lines of any others are given back to the kernel.
const FULL_MAX: usize = 64;

/// See the module.
pub(super) struct Memory {
    block: BytesMut,
    full: VecDeque<BytesMut>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { block: BytesMut::with_capacity(BLOCK_BYTES), full: VecDeque::new() }
    }
}

impl Memory {
    /// Keeps a line. Alerts, which may wait long after the lines around them have gone, have memory of their own.
    pub(super) fn store(&mut self, line: &[u8], kind: Kind) -> Bytes {
        if kind == Kind::Alert || line.len() > BLOCK_BYTES / 4 {
            return Bytes::copy_from_slice(line);
        }
        if self.block.capacity() < line.len() {
            self.next_block();
        }
        self.block.put_slice(line);
        self.block.split().freeze()
    }

    fn next_block(&mut self) {
        // Lines are delivered in the order in which they came: if any block is free, it is the one that was full first.
        let free = self.full.pop_front_if(|oldest| oldest.try_reclaim(BLOCK_BYTES));
        let next = free.unwrap_or_else(|| BytesMut::with_capacity(BLOCK_BYTES));
        self.full.push_back(std::mem::replace(&mut self.block, next));
        if self.full.len() > FULL_MAX {
            self.full.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_as_they_are_and_blocks_are_used_again() {
        let mut memory = Memory::default();
        let mut kept = VecDeque::new();
        for number in 0..20_000_u32 {
            let line = number.to_string().repeat(20);
            kept.push_back((memory.store(line.as_bytes(), Kind::Event), line));
            if kept.len() > 1_000 {
                let (bytes, line) = kept.pop_front().expect("some are kept");
                assert_eq!(bytes, line.as_bytes());
            }
        }
        // A thousand lines of a hundred bytes are two blocks; more would be memory that is never used again.
        assert!(memory.full.len() <= 4, "{}", memory.full.len());
    }

    #[test]
    fn lines_that_nobody_takes_are_not_waited_for() {
        let mut memory = Memory::default();
        let line = [b'x'; 10_000];
        let kept: Vec<Bytes> = (0..2_000).map(|_| memory.store(&line, Kind::Event)).collect();
        assert!(memory.full.len() <= FULL_MAX && kept.iter().all(|it| it == &line[..]));
    }
}
