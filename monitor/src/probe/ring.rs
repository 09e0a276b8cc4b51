//! The reading end of the ring. The kernel side wakes it when it may be asleep, when much is waiting, and for what is
//! urgent; in between it is drained on a timer.

use std::{
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use aya::maps::{Map, MapData, MapError, RingBuf};

/// Yields records in the order in which room for them was taken.
pub struct Ring(RingBuf<MapData>);

impl Ring {
    /// After a wake-up, how long ordinary records go unannounced: whoever was woken must go on draining for at least
    /// this long.
    pub const QUIET: Duration = Duration::from_millis(10);

    pub(super) fn new(map: Map) -> Result<Self, MapError> {
        Ok(Self(RingBuf::try_from(map)?))
    }

    /// Hands up to `most` records to `take`; returns how many there were.
    pub fn drain(&mut self, most: usize, mut take: impl FnMut(&[u8])) -> usize {
        let mut count = 0;
        while count < most {
            let Some(record) = self.0.next() else { break };
            take(&record);
            count += 1;
        }
        count
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
