//! Where encoded lines stand: one after the other in blocks, which are used again once all their lines are delivered. To take
//! memory from the kernel for each line, and to give it back, would cost more than to encode it.

use std::{collections::VecDeque, sync::Arc};

/// A block of lines, or of what they do not share with others.
pub(super) type Block = Arc<Vec<u8>>;

/// When a block is full.
const FULL_BYTES: usize = 128 << 10;
/// What a block is made for: one more line beside.
const BLOCK_BYTES: usize = FULL_BYTES + (16 << 10);
/// How many blocks are waited for to be used again; lines of any others are given back to the kernel.
const WAITING_MAX: usize = 32;
/// How many are kept when little is to do: one is written while others are delivered.
const KEPT: usize = 2;
/// For how many turns of the loop a block must have been of no use before it is given back: to take it from the kernel anew costs
/// more than to write what it holds.
const UNUSED_TURNS: u32 = 32;

/// See the module.
pub(super) struct Memory {
    block: Vec<u8>,
    /// Where lines are that wait to be delivered, the oldest first.
    waiting: VecDeque<Block>,
    /// How many blocks this turn of the loop has sealed, and the most that one of the last turns did.
    sealed: usize,
    most: usize,
    /// How many turns those were.
    turns: u32,
}

impl Default for Memory {
    fn default() -> Self {
        Self { block: Vec::with_capacity(BLOCK_BYTES), waiting: VecDeque::new(), sealed: 0, most: 0, turns: 0 }
    }
}

impl Memory {
    /// Where to write the next lines.
    pub(super) fn block(&mut self) -> &mut Vec<u8> {
        &mut self.block
    }

    /// Whether it is time to seal the block.
    pub(super) fn is_full(&self) -> bool {
        self.block.len() >= FULL_BYTES
    }

    /// What was written since the last call.
    pub(super) fn seal(&mut self) -> Block {
        self.sealed += 1;
        // Lines are delivered in the order in which they came: if any block is free, it is the one that was full first.
        let free = self.waiting.pop_front_if(|oldest| Arc::get_mut(oldest).is_some()).and_then(Arc::into_inner);
        // Where lines wait, a few of them must not hold a whole block.
        let is_late = free.is_none() && !self.waiting.is_empty();
        if is_late && self.block.len() < FULL_BYTES / 2 || self.block.capacity() > 2 * BLOCK_BYTES {
            let exact = Arc::new(self.block.as_slice().to_vec());
            self.block.clear();
            self.block.shrink_to(BLOCK_BYTES);
            return exact;
        }
        let mut next = free.unwrap_or_else(|| Vec::with_capacity(BLOCK_BYTES));
        next.clear();
        let sealed = Arc::new(std::mem::replace(&mut self.block, next));
        self.waiting.push_back(Arc::clone(&sealed));
        if self.waiting.len() > WAITING_MAX {
            self.waiting.pop_front();
        }
        sealed
    }

    /// A turn of the loop is over. Gives back what none of the last [`UNUSED_TURNS`] needed.
    pub(super) fn trim(&mut self) {
        self.most = self.most.max(std::mem::take(&mut self.sealed));
        self.turns += 1;
        if self.turns >= UNUSED_TURNS {
            let kept = std::mem::take(&mut self.most).max(KEPT);
            while self.waiting.len() > kept
                && self.waiting.pop_front_if(|oldest| Arc::get_mut(oldest).is_some()).is_some()
            {}
            self.turns = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn lines_stay_as_they_are_and_blocks_are_used_again() {
        let mut memory = Memory::default();
        let mut kept = VecDeque::new();
        for number in 0..200_u32 {
            while !memory.is_full() {
                memory.block().extend_from_slice(number.to_string().as_bytes());
            }
            let written = memory.block().clone();
            kept.push_back((memory.seal(), written));
            assert!(memory.block().is_empty());
            if kept.len() > 10 {
                let (block, written) = kept.pop_front().expect("some are kept");
                assert_eq!(*block, written);
            }
        }
        // Ten are kept; more would be memory that is never used again.
        assert!(memory.waiting.len() <= 12, "{}", memory.waiting.len());
    }

    #[test]
    fn lines_that_nobody_takes_are_not_waited_for() {
        let mut memory = Memory::default();
        let seal = |number: u8| {
            memory.block().resize(FULL_BYTES, number);
            memory.seal()
        };
        let kept: Vec<Block> = (0..200).map(seal).collect();
        assert!(memory.waiting.len() <= WAITING_MAX);
        assert!(kept.iter().zip(0..).all(|(block, number)| block.iter().all(|&byte| byte == number)));
    }

    #[test]
    fn what_a_burst_took_is_given_back() {
        let mut memory = Memory::default();
        let seal = |memory: &mut Memory| {
            memory.block().resize(FULL_BYTES, b'x');
            memory.seal()
        };
        let turns = |memory: &mut Memory| (0..UNUSED_TURNS).for_each(|_| memory.trim());
        let burst: Vec<Block> = (0..WAITING_MAX).map(|_| seal(&mut memory)).collect();
        turns(&mut memory);
        turns(&mut memory);
        assert_eq!(memory.waiting.len(), WAITING_MAX, "they are not delivered yet");
        drop(burst);
        for turn in 0..UNUSED_TURNS {
            (0..10 * (turn % 2)).for_each(|_| drop(seal(&mut memory)));
            memory.trim();
        }
        assert_eq!(memory.waiting.len(), 10, "what every other turn needs");
        turns(&mut memory);
        assert_eq!(memory.waiting.len(), KEPT);
    }

    #[test]
    fn few_lines_that_are_delivered_at_once_take_no_memory_anew() {
        let mut memory = Memory::default();
        let places: HashSet<_> = (0..10)
            .map(|_| {
                memory.block().resize(10, b'x');
                memory.seal().as_ptr()
            })
            .collect();
        assert_eq!(places.len(), 2, "one is written while the other is delivered");
    }

    #[test]
    fn few_lines_that_wait_and_a_huge_one_hold_no_more_than_they_need() {
        let mut memory = Memory::default();
        memory.block().resize(10, b'x');
        let _waits = memory.seal();
        for length in [10, 1 << 20] {
            memory.block().resize(length, b'x');
            let block = memory.seal();
            assert_eq!((block.len(), block.capacity()), (length, length));
        }
        assert!(memory.block().capacity() < 2 * BLOCK_BYTES);
    }
}
