//! A hash for numbers that the kernel gives out one behind the other. It keeps them so: whoever starts next then stands next in
//! memory, which is on its way before it is asked for, where a hash that scatters waits for a place of its own each time.
//!
//! Nobody can make it slow: there are some four million process ids at most (`PID_MAX_LIMIT` in include/linux/threads.h), and so
//! few of them share a place in a large table.

use std::hash::{BuildHasherDefault, Hasher};

/// Makes [`Number`]s.
pub(super) type ByNumber = BuildHasherDefault<Number>;

/// See the module.
#[derive(Default)]
pub(super) struct Number(u64);

impl Hasher for Number {
    fn write_u32(&mut self, number: u32) {
        // The table takes the place from the low bits, and from the seven highest what it compares first.
        self.0 = u64::from(number) << 57 | u64::from(number);
    }

    fn write(&mut self, bytes: &[u8]) {
        // No key but a number is hashed; any other would still find its place.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher as _;

    use super::*;

    #[test]
    fn neighbours_stand_next_to_each_other_and_differ_in_what_is_compared_first() {
        let hash = |number: u32| ByNumber::default().hash_one(number);
        for number in [0, 1, 127, 4_194_303] {
            assert_eq!(hash(number + 1) as u32, hash(number) as u32 + 1, "{number}");
            assert_ne!(hash(number + 1) >> 57, hash(number) >> 57, "{number}");
        }
    }
}
